//! Signed answers, as an instance remembers them. protocol.md, "Chat signatures".

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use hyper::StatusCode;
use serde_json::json;

use super::backend::Link;
use super::body::{Reply, error_reply, json_reply};
use super::http::parameter;
use super::lock;
use crate::Signing;

/// As real ones do.
const MAX_KEPT: usize = 10_000;

#[derive(Debug, Default)]
struct Kept {
    /// The texts by the ids of the answers.
    texts: HashMap<String, String>,
    /// The ids, oldest first.
    ids: VecDeque<String>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Signatures(Arc<Mutex<Kept>>);

impl Signatures {
    pub(super) fn keep(&self, id: &str, text: String) {
        let mut kept = lock(&self.0);
        if kept.ids.len() >= MAX_KEPT
            && let Some(oldest) = kept.ids.pop_front()
        {
            kept.texts.remove(&oldest);
        }
        kept.ids.push_back(id.to_owned());
        kept.texts.insert(id.to_owned(), text);
    }

    pub(super) fn text(&self, id: &str) -> Option<String> {
        lock(&self.0).texts.get(id).cloned()
    }
}

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
