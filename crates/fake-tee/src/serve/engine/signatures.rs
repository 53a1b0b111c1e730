//! The route of signed answers.

use hyper::StatusCode;
use serde_json::json;

use crate::Signing;
use crate::serve::body::{Reply, error_reply, json_reply};
use crate::serve::link::Link;
use crate::serve::query::parameter;

/// `GET /v1/signature/{id}?signing_algo=`.
pub(super) fn answer(link: &Link, id: &str, query: &str) -> Reply {
    let signing = match parameter(query, "signing_algo").as_deref() {
        None | Some("ecdsa") => Signing::ecdsa(),
        Some("ed25519") => Signing::ed25519(),
        Some(_) => {
            return error_reply(
                StatusCode::BAD_REQUEST,
                "bad_request",
                "Invalid signing algorithm. Must be 'ed25519' or 'ecdsa'",
            );
        }
    };
    let Some(text) = link.instance.signatures.text(id) else {
        return error_reply(
            StatusCode::NOT_FOUND,
            "not_found",
            "Chat id not found or expired",
        );
    };
    match signing.sign(&text) {
        Ok(signature) => json_reply(
            StatusCode::OK,
            &json!({
                "text": text,
                "signature": signature,
                "signing_address": signing.address_text(),
                "signing_algo": signing.algo.as_str(),
            }),
        ),
        Err(error) => error_reply(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            &error.to_string(),
        ),
    }
}
