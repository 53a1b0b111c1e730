//! A plain-HTTP port: PCS, endpoint list, compose files, NVIDIA's service, controls.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::behaviour::Gone;
use super::body::{Reply, error_reply, json_reply};
use super::{ACCEPT_PAUSE, HEADER_TIMEOUT, MAX_CONNECTIONS, State, compose, control, lock, pcs};

/// `source`: which of the PCSs is here.
pub(super) async fn serve(listener: TcpListener, state: Arc<State>, source: usize) {
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
                async move { answer(&state, source, request).await }
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

async fn answer(state: &State, source: usize, request: Request<Incoming>) -> Result<Reply, Gone> {
    let path = request.uri().path().to_owned();
    if let Some(control) = path.strip_prefix("/_fake/") {
        return Ok(control::answer(state, control, request).await);
    }
    if path == "/endpoints" {
        return endpoints(state).await;
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    if let Some(reply) = compose::answer(state, &path, &query).await? {
        return Ok(reply);
    }
    if let Ok(reply) = state.nras.answer(request).await? {
        return Ok(reply);
    }
    if let Some(source) = state.sources.get(source) {
        let machine = lock(&state.machine).clone();
        if let Some(reply) = pcs::answer(&machine, source, &path, &query).await? {
            return Ok(reply);
        }
    }
    Ok(error_reply(
        StatusCode::NOT_FOUND,
        "not_found",
        "no such route",
    ))
}

async fn endpoints(state: &State) -> Result<Reply, Gone> {
    state.endpoints_fetched.fetch_add(1, Relaxed);
    let behaviour = lock(&state.endpoints).clone();
    if let Some(reply) = behaviour.instead().await? {
        return Ok(reply);
    }
    let options = &state.options;
    let mut list = vec![json!({"domain": options.domain, "models": [options.model]})];
    for (domain, models) in &options.also {
        list.push(json!({"domain": domain, "models": models}));
    }
    let mut reply = json_reply(StatusCode::OK, &json!({"endpoints": list}));
    behaviour.date(&mut reply);
    Ok(reply)
}
