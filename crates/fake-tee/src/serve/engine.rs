//! Routes of the backend: report, signatures, an OpenAI engine, echo; all else is 404.

mod chat;
mod embeddings;
mod form;
mod images;
mod messages;
pub(super) mod misbehave;
mod question;
mod report;
mod responses;
mod signatures;
mod tools;
mod transcription;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use hyper::{HeaderMap, Method, Request, StatusCode};
use serde_json::json;

use super::body::{Frames, Receipt, Reply, error_reply, framed, json_reply};
use super::link::Link;
use super::query::parameter;
use super::upload::{Incomplete, Upload};

/// Real backends take 10 MiB of JSON.
pub(super) const MAX_JSON: usize = 10 << 20;

/// Of padding that is sent again and again.
const PADDING: usize = 64 << 10;

pub(super) async fn answer(link: &Link, request: Request<Upload>) -> Reply {
    match misbehave::ordered(link, &request) {
        None => usual(link, request).await,
        Some(Ok(order)) => misbehave::answer(link, request, order).await,
        Some(Err(error)) => bad_request(&error.to_string()),
    }
}

/// The answer without any misbehaviour.
pub(super) async fn usual(link: &Link, request: Request<Upload>) -> Reply {
    let path = request.uri().path();
    if let Some(id) = path.strip_prefix("/v1/signature/") {
        let query = request.uri().query().unwrap_or_default();
        return signatures::answer(link, id, query);
    }
    match (request.method(), path) {
        (&Method::GET, "/v1/attestation/report") => {
            report::answer(link, request.uri().query().unwrap_or_default())
        }
        (&Method::GET, "/v1/models") => models(link),
        (&Method::POST, "/v1/chat/completions") => chat::answer(link, request, true).await,
        (&Method::POST, "/v1/completions") => chat::answer(link, request, false).await,
        (&Method::POST, "/v1/embeddings") => embeddings::answer(link, request).await,
        (&Method::POST, "/v1/audio/transcriptions") => transcription::answer(link, request).await,
        (&Method::POST, "/v1/images/generations") => images::generate(link, request).await,
        (&Method::POST, "/v1/images/edits") => images::edit(link, request).await,
        (&Method::POST, "/v1/messages") => messages::answer(link, request).await,
        (&Method::POST, "/v1/responses") => responses::answer(link, request).await,
        (_, "/v1/fake/echo") => echo(link, request).await,
        (_, "/v1/fake/sink") => sink(request).await,
        (_, "/v1/fake/json") => sized(request).await,
        _ => {
            let _ = request.into_body().drain().await;
            error_reply(StatusCode::NOT_FOUND, "not_found", "Not found")
        }
    }
}

fn models(link: &Link) -> Reply {
    let models: Vec<_> = link
        .state
        .models
        .iter()
        .map(|id| {
            json!({
                "id": id,
                "object": "model",
                "created": link.state.base.now,
                "owned_by": "fake-tee",
            })
        })
        .collect();
    json_reply(StatusCode::OK, &json!({"object": "list", "data": models}))
}

pub(super) fn bad_request(message: &str) -> Reply {
    error_reply(StatusCode::BAD_REQUEST, "invalid_request_error", message)
}

pub(super) fn incomplete(why: &Incomplete) -> Reply {
    match why {
        Incomplete::TooLarge => error_reply(
            StatusCode::PAYLOAD_TOO_LARGE,
            "invalid_request_error",
            "Request body too large",
        ),
        Incomplete::BrokeOff => bad_request("the body broke off"),
    }
}

pub(super) fn no_such_model() -> Reply {
    error_reply(
        StatusCode::NOT_FOUND,
        "NotFoundError",
        "The model does not exist",
    )
}

/// What the header `x-fake-{name}` asks for.
pub(super) fn asked(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// An answer's id: that of the header `x-fake-id`, for answers that are compared byte
/// for byte, or a new one.
pub(super) fn id_for(headers: &HeaderMap, link: &Link, prefix: &str) -> String {
    let given = headers.get("x-fake-id").and_then(|id| id.to_str().ok());
    given.map_or_else(|| new_id(link, prefix), str::to_owned)
}

/// `chatcmpl-` and 24 digits, never twice.
fn new_id(link: &Link, prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    format!(
        "{prefix}-{:02x}{:06x}{:016x}",
        link.instance.index & 0xff,
        std::process::id() & 0xff_ffff,
        COUNT.fetch_add(1, Relaxed)
    )
}

pub(super) fn receipt(link: &Link, id: &str, model: &str, request_sha256: [u8; 32]) -> Receipt {
    Receipt {
        signatures: link.instance.signatures.clone(),
        id: id.to_owned(),
        prefix: format!("{model}:{}", hex::encode(request_sha256)),
    }
}

/// `first`, padding and `last`, `size` bytes together; without padding if that is less.
pub(super) fn padded(first: String, last: String, size: u64) -> Frames {
    let padding = size.saturating_sub((first.len() + last.len()) as u64);
    let whole = Bytes::from(vec![b'x'; PADDING.min(padding as usize)]);
    let times = padding / PADDING as u64;
    let rest = (padding % PADDING as u64) as usize;
    let last = "x".repeat(rest) + &last;
    Frames::sized(first.into(), whole, times, last.into())
}

/// Signs where the instance does and sends.
pub(super) fn signed_json(
    link: &Link,
    mut frames: Frames,
    id: &str,
    model: &str,
    request_sha256: [u8; 32],
) -> Reply {
    if link.signs() {
        frames.sign(receipt(link, id, model, request_sha256));
    }
    framed(StatusCode::OK, "application/json", frames)
}

/// The request as it came: head as JSON, length and SHA-256 of the body.
async fn echo(link: &Link, request: Request<Upload>) -> Reply {
    let (head, mut body) = request.into_parts();
    body.hashed();
    let complete = body.drain().await.is_ok();
    // In the order in which they came; a name as often as it came.
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    json_reply(
        StatusCode::OK,
        &json!({
            "instance": link.instance.index,
            "method": head.method.as_str(),
            "uri": head.uri.to_string(),
            "version": format!("{:?}", head.version),
            "headers": headers,
            "body_len": body.len(),
            "body_sha256": hex::encode(body.sha256()),
            "complete": complete,
        }),
    )
}

/// Reads a body as fast as it can.
async fn sink(request: Request<Upload>) -> Reply {
    let mut body = request.into_body();
    match body.drain().await {
        Ok(()) => json_reply(StatusCode::OK, &json!({"bytes": body.len()})),
        Err(why) => incomplete(&why),
    }
}

/// `?size=N`: JSON of N bytes (at least 14), `&delay_ms=N`: after so long.
async fn sized(request: Request<Upload>) -> Reply {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let number = |name| parameter(&query, name).and_then(|text| text.parse().ok());
    let _ = request.into_body().drain().await;
    if let Some(delay) = number("delay_ms") {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let frames = padded(
        r#"{"padding":""#.to_owned(),
        "\"}".to_owned(),
        number("size").unwrap_or_default(),
    );
    framed(StatusCode::OK, "application/json", frames)
}
