//! The TLS backend: attestation report, models, chat; all else is 404.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::body::{Reply, error_reply, json_reply};
use super::received::{Recorded, Shared};
use super::{
    ACCEPT_PAUSE, HEADER_TIMEOUT, MAX_CONNECTIONS, State, TLS_TIMEOUT, chat, lock, report,
};

/// Real backends take 10 MiB of JSON.
pub(super) const MAX_BODY: usize = 10 << 20;

pub(super) async fn serve(listener: TcpListener, tls: Arc<ServerConfig>, state: Arc<State>) {
    let acceptor = TlsAcceptor::from(tls);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    while let Ok(slot) = slots.clone().acquire_owned().await {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: not a reason to spin.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let acceptor = acceptor.clone();
        let state = state.clone();
        connections.spawn(async move {
            connection(stream, acceptor, state).await;
            drop(slot);
        });
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, state: Arc<State>) {
    let Ok(Ok(stream)) = timeout(TLS_TIMEOUT, acceptor.accept(stream)).await else {
        return;
    };
    let record = state.received.open();
    let recorded = Recorded {
        stream,
        record: record.clone(),
    };
    let service = service_fn(move |request| {
        let state = state.clone();
        note(&record, &request);
        async move { Ok::<_, Infallible>(answer(&state, request).await) }
    });
    // A client that goes away is none of our concern.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(recorded), service)
        .await;
}

fn note(record: &Shared, request: &Request<Incoming>) {
    lock(record).request_lines.push(format!(
        "{} {} {:?}",
        request.method(),
        request.uri(),
        request.version()
    ));
}

async fn answer(state: &State, request: Request<Incoming>) -> Reply {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/v1/attestation/report") => {
            report::answer(state, request.uri().query().unwrap_or_default())
        }
        (&Method::GET, "/v1/models") => json_reply(
            StatusCode::OK,
            &json!({"object": "list", "data": [{
                "id": state.options.model,
                "object": "model",
                "created": state.base.now,
                "owned_by": "fake-tee",
            }]}),
        ),
        (&Method::POST, "/v1/chat/completions") => chat::answer(state, request).await,
        _ => error_reply(StatusCode::NOT_FOUND, "not_found", "Not found"),
    }
}
