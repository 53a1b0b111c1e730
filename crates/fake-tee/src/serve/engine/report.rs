//! `GET /v1/attestation/report`: query rules and errors as backends have them.

use hyper::StatusCode;

use crate::challenge::Challenge;
use crate::serve::body::{Reply, error_reply, reply};
use crate::serve::link::Link;
use crate::serve::lock;
use crate::serve::query::parameter;
use crate::{Signing, SigningAlgo};

pub(super) fn answer(link: &Link, query: &str) -> Reply {
    let bad = |message: &str| error_reply(StatusCode::BAD_REQUEST, "bad_request", message);
    let algo = match parameter(query, "signing_algo").as_deref() {
        None | Some("ecdsa") => SigningAlgo::Ecdsa,
        Some("ed25519") => SigningAlgo::Ed25519,
        Some(_) => return bad("Invalid signing algorithm. Must be 'ed25519' or 'ecdsa'"),
    };
    let nonce = match parameter(query, "nonce") {
        Some(text) => match hex::decode(text) {
            Ok(bytes) => match <[u8; 32]>::try_from(bytes) {
                Ok(nonce) => nonce,
                Err(_) => return bad("Nonce must be 32 bytes"),
            },
            Err(_) => return bad("Nonce must be hex-encoded"),
        },
        None => {
            let mut nonce = [0; 32];
            if aws_lc_rs::rand::fill(&mut nonce).is_err() {
                return internal();
            }
            nonce
        }
    };
    let with_fingerprint = match parameter(query, "include_tls_fingerprint").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        // The framework's own refusal, not the server's.
        Some(_) => {
            return reply(
                StatusCode::BAD_REQUEST,
                "text/plain; charset=utf-8",
                "Failed to deserialize query string: provided string was not `true` or `false`",
            );
        }
    };

    let mut spec = lock(&link.instance.machine).spec.clone();
    spec.signing = match algo {
        SigningAlgo::Ecdsa => Signing::ecdsa(),
        SigningAlgo::Ed25519 => Signing::ed25519(),
    };
    if let Some(address) = parameter(query, "signing_address")
        && !address.eq_ignore_ascii_case(&spec.signing.address_text())
    {
        return error_reply(
            StatusCode::NOT_FOUND,
            "not_found",
            "Signing address not found on this server",
        );
    }
    spec.include_tls_fingerprint &= with_fingerprint;
    match spec.forge(&Challenge {
        nonce,
        // After a rotation, on older connections too: what a graceful nginx reload shows.
        spki_sha256: link.instance.identity().spki_sha256,
    }) {
        Ok(built) => reply(StatusCode::OK, "application/json", built.report_bytes),
        Err(_) => internal(),
    }
}

fn internal() -> Reply {
    error_reply(
        StatusCode::INTERNAL_SERVER_ERROR,
        "server_error",
        "Internal server error",
    )
}
