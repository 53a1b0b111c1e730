//! The listener of `--metrics-listen`: what supervisors and Prometheus ask, and nothing else.
//! They have no token of a client, and no client can come in here.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use upstream::admission::Client;

use crate::ingress::Ingress;
use crate::listener::Listener;

/// Probes and scrapers are few. Those that are beyond wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// For a request's head. Anybody who reaches the address may connect: a silent connection is
/// soon closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Of a connection: one that asks and does not read must not hold a place for ever.
const MAX_AGE: Duration = Duration::from_secs(60);
/// hyper's least buffer: none of these requests has a long head.
const MAX_HEAD: usize = 8 << 10;
/// After a failed accept, mostly because file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Serves for ever.
pub(crate) async fn serve(current: watch::Receiver<Arc<Ingress>>, listener: Listener) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Dropping the set ends its tasks.
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "no probe accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let local = stream.local_ip();
        let client = Client::new(stream.peer_ip());
        let current = current.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let (ingress, client) = (Arc::clone(&current.borrow()), client.clone());
            async move {
                let (head, _) = request.into_parts();
                Ok::<_, Infallible>(ingress.probe(&head, local, &client).await)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        tasks.spawn(async move {
            let _place = place;
            match tokio::time::timeout(MAX_AGE, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "probe connection ended"),
                Err(_) => tracing::debug!("probe connection closed"),
            }
        });
    }
}
