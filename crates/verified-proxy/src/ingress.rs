//! Accepts clients, seals each request as its first act, and finds it a
//! verified connection.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::admin;
use crate::endpoints::Endpoints;
use crate::respond::{self, Body, Failure};
use crate::route::{self, RouteError, Target};
use crate::upstream::{BodyBudget, ClientRequest, ForwardError, Framing, Upstream};
use crate::verdicts::Verdicts;

/// Sockets open at a time; further clients wait in the kernel's queue.
const MAX_CLIENTS: usize = 4_096;
/// Requests that wait for an answer's first byte at a time.
const MAX_WAITING: usize = 1_024;
/// For request bodies: ten of the largest at a time, or thousands of usual ones.
const HELD_MEBIBYTES: usize = 1_024;
/// For a request's head, and for the next request on a kept connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// A connection handed a request back unsent: how often another one is made.
const MAX_RESENDS: usize = 2;
/// How long answers may go on after the signal to stop.
const DRAIN: Duration = Duration::from_secs(30);
/// After a failed accept, which is mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What every request needs.
#[derive(Debug)]
pub(crate) struct Ingress {
    endpoints: Endpoints,
    upstream: Upstream,
    verdicts: Arc<Verdicts>,
    max_body: u64,
    held: BodyBudget,
    waiting: Semaphore,
}

impl Ingress {
    pub(crate) fn new(
        endpoints: Endpoints,
        upstream: Upstream,
        verdicts: Arc<Verdicts>,
        max_body: u64,
    ) -> Self {
        Self {
            endpoints,
            upstream,
            verdicts,
            max_body,
            held: BodyBudget::of_mebibytes(HELD_MEBIBYTES),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }

    /// Serves until `shutdown`, then lets answers end for a while.
    pub(crate) async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let ingress = Arc::new(self);
        let graceful = GracefulShutdown::new();
        let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
        // Dropped at the end, which aborts whatever is left.
        let mut tasks = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            while tasks.try_join_next().is_some() {}
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = accept(&listener, &clients) => accepted,
            };
            let (stream, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "no client accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let ingress = Arc::clone(&ingress);
            let service = service_fn(move |request| {
                let ingress = Arc::clone(&ingress);
                async move { Ok::<_, Infallible>(ingress.handle(request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            let connection = graceful.watch(connection);
            tasks.spawn(async move {
                let _permit = permit;
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "client connection ended");
                }
            });
        }
        drop(listener);
        tracing::info!(open = graceful.count(), "stopping");
        if tokio::time::timeout(DRAIN, graceful.shutdown())
            .await
            .is_err()
        {
            tracing::warn!("answers were cut off after {} s", DRAIN.as_secs());
        }
    }

    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let request = ClientRequest::seal(request, self.max_body);
        match self.answer(request).await {
            Ok(response) => response,
            Err(failure) => respond::failure(&failure),
        }
    }

    async fn answer(&self, mut request: ClientRequest) -> Result<Response<Body>, Failure> {
        let view = request.view();
        if view.framing != Framing::Usual {
            return Err(Failure::Framing(view.framing));
        }
        match route::target(&view) {
            Target::Own(page) => {
                return admin::page(view.method, page, &self.endpoints, &self.verdicts).await;
            }
            Target::Models => return Ok(admin::models(&*self.endpoints.list().await?)),
            Target::Model(id) => {
                let list = self.endpoints.list().await?;
                let not_found = || RouteError::ModelNotFound {
                    model: id.chars().take(200).collect(),
                    close: list.close_to(id),
                };
                return Ok(admin::model(&list, id).ok_or_else(not_found)?);
            }
            Target::Backend => {}
        }
        request.find_model(&self.held).await?;
        let _waiting = self.waiting.try_acquire().map_err(|_| Failure::Busy)?;
        let allow = self.endpoints.allow();
        let candidates = {
            let view = request.view();
            let wanted = route::wanted(&view, allow)?;
            let list = self.endpoints.list().await?;
            route::candidates(&wanted, &list, allow)?
        };
        let mut resends = 0;
        loop {
            let verified = self.upstream.verified(&candidates).await?;
            match verified.forward(request).await {
                Ok(response) => return Ok(response.map(Either::Left)),
                Err(ForwardError::Unsent { request: back, why }) if resends < MAX_RESENDS => {
                    tracing::debug!(%why, "the request goes to another connection");
                    resends += 1;
                    request = *back;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// One client, and its place among those that may be served.
async fn accept(
    listener: &TcpListener,
    clients: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(clients)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}
