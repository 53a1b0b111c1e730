//! The plain-HTTP port: PCS, endpoint list, controls.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::body::{Reply, error_reply, json_reply};
use super::{ACCEPT_PAUSE, HEADER_TIMEOUT, MAX_CONNECTIONS, State, pcs};

pub(super) async fn serve(listener: TcpListener, state: Arc<State>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    while let Ok(slot) = slots.clone().acquire_owned().await {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: not a reason to spin.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let state = state.clone();
        connections.spawn(async move {
            let service = service_fn(|request| {
                let state = state.clone();
                async move { Ok::<_, Infallible>(answer(&state, request).await) }
            });
            // A client that goes away is none of our concern.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(slot);
        });
    }
}

async fn answer(state: &State, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let get = request.method() == Method::GET;
    match (request.method(), path.as_str()) {
        (&Method::GET, "/endpoints") => json_reply(
            StatusCode::OK,
            &json!({"endpoints": [{
                "domain": state.options.domain,
                "models": [state.options.model],
            }]}),
        ),
        (&Method::GET, "/_fake/received") => json_reply(StatusCode::OK, &received(state)),
        (&Method::POST, "/_fake/clear") => {
            state.received.clear();
            json_reply(StatusCode::OK, &json!({}))
        }
        (&Method::POST, "/_fake/tamper") => tamper(state, request).await,
        _ => {
            let found = get
                .then(|| pcs::answer(&state.machine(), state.options.pccs, &path, &query))
                .flatten();
            found
                .unwrap_or_else(|| error_reply(StatusCode::NOT_FOUND, "not_found", "no such route"))
        }
    }
}

fn received(state: &State) -> Value {
    state
        .received
        .all()
        .into_iter()
        .map(|connection| {
            json!({
                "connection": connection.id,
                "bytes": String::from_utf8_lossy(&connection.bytes),
                "truncated": connection.truncated,
                "request_lines": connection.request_lines,
            })
        })
        .collect()
}

async fn tamper(state: &State, request: Request<Incoming>) -> Reply {
    let bad = |message: &str| error_reply(StatusCode::BAD_REQUEST, "bad_request", message);
    let Ok(body) = Limited::new(request.into_body(), 4096).collect().await else {
        return bad("body too large or broken");
    };
    let name = serde_json::from_slice::<Value>(&body.to_bytes())
        .ok()
        .and_then(|value| value.get("name")?.as_str().map(str::to_owned));
    let Some(name) = name else {
        return bad("expected {\"name\": \"...\"}");
    };
    match state.tamper(&name) {
        Ok(()) => json_reply(StatusCode::OK, &json!({"tamper": name})),
        Err(error) => bad(&error.to_string()),
    }
}

/// A query parameter, percent-decoded; the first of its name.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| percent_decoded(value))
}

fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if let (b'%', [high, low, after @ ..]) = (first, tail)
            && let (Some(high), Some(low)) = (
                char::from(*high).to_digit(16),
                char::from(*low).to_digit(16),
            )
        {
            out.push((high * 16 + low) as u8);
            rest = after;
            continue;
        }
        out.push(if *first == b'+' { b' ' } else { *first });
        rest = tail;
    }
    String::from_utf8_lossy(&out).into_owned()
}
