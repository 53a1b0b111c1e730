//! Accepts clients, seals each request before anything else, and finds a verified
//! connection for it.

mod bad_heads;
mod client_io;
mod connection;

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use attest::{Expected, LeastLevels};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Version, header};
use http_body_util::Either;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use sources::backend::Backend;
use sources::endpoints::Endpoints;
use sources::net::MAX_HTTP_BUFFER;
use sources::seldom::Seldom;
use tokio::sync::watch;
use tokio::task::JoinSet;
use upstream::admission::{Client, Full, Hold, Pot, What};
use upstream::answer_ids::{AnswerIds, Instance};
use upstream::guard::{Admitted, Guard};
use upstream::least::Demand;
use upstream::metrics::{Metrics, Now};
use upstream::verdicts::Verdicts;
use upstream::{BodyBudget, ClientRequest, ForwardError, Framing, Model, Upstream};

use self::bad_heads::{BadHeads, Turns};
use self::client_io::{ClientIo, Ending};
use self::connection::{Connection, End};
use crate::api::{self, Subjects};
use crate::body::Body;
use crate::config::ClientTimeouts;
use crate::descriptors;
use crate::listener::Listener;
use crate::page::Page;
use crate::respond::{self, Failure};
use crate::route::{self, RouteError, Target, Wanted};
use crate::shutdown::{Running, UnderWay};

/// Connections beyond the limit that answer `/_proxy/live` and `/_proxy/ready` only: a
/// supervisor must not take a busy proxy for a dead one, and cut all answers off.
const RESERVE: usize = 16;
/// For a request's head, and for the next request on a kept connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a request that a connection gave back unsent is sent on another one.
const MAX_RESENDS: usize = 2;
/// After a failed accept, mostly because file descriptors ran out; doubled with each
/// further failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const MAX_ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// After the signal to stop, the time in which clients that have a connection are still
/// answered, and told that it ends. A client that is about to send its next request, or its
/// first, would otherwise find the connection closed: it can repeat no POST.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// The limits of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientLimits {
    pub(crate) max_body: u64,
    pub(crate) body_memory: u64,
    pub(crate) timeouts: ClientTimeouts,
    /// How long answers may go on after the signal to stop.
    pub(crate) drain: Duration,
}

/// What every request is served with.
#[derive(Debug)]
pub(crate) struct Ingress {
    endpoints: Endpoints,
    upstream: Upstream,
    verdicts: Arc<Verdicts>,
    metrics: Arc<Metrics>,
    page: Page,
    guard: Guard,
    limits: ClientLimits,
    held: Arc<BodyBudget>,
    answer_ids: AnswerIds,
    clients: Arc<Pot>,
    reserve: Arc<Pot>,
    running: Running,
    /// What took its place at a reload.
    successor: OnceLock<Arc<Ingress>>,
}

impl Ingress {
    pub(crate) fn new(
        endpoints: Endpoints,
        upstream: Upstream,
        verdicts: Arc<Verdicts>,
        metrics: Arc<Metrics>,
        page: Page,
        guard: Guard,
        limits: ClientLimits,
    ) -> Self {
        let counts = metrics.counts();
        let most = descriptors::clients();
        Self {
            endpoints,
            upstream,
            verdicts,
            page,
            guard,
            held: Arc::new(BodyBudget::new(
                limits.body_memory,
                limits.max_body,
                counts.clone(),
            )),
            clients: Pot::new(What::Connections, most, most / 2, counts.clone()),
            reserve: Pot::new(What::Reserve, RESERVE, RESERVE, counts),
            metrics,
            limits,
            answer_ids: AnswerIds::default(),
            running: Running::default(),
            successor: OnceLock::new(),
        }
    }

    /// The same rules, with what `before` has counted and remembered of clients.
    pub(crate) fn after(self, before: &Self) -> Self {
        let bounds = |limits: &ClientLimits| (limits.body_memory, limits.max_body);
        let held = if bounds(&self.limits) == bounds(&before.limits) {
            Arc::clone(&before.held)
        } else {
            self.held
        };
        Self {
            held,
            answer_ids: before.answer_ids.clone(),
            clients: Arc::clone(&before.clients),
            reserve: Arc::clone(&before.reserve),
            running: before.running.next(),
            ..self
        }
    }

    /// Gets ready for the requests of `before`: the endpoint list is there, and each backend
    /// that has a verdict is verified by the new rules.
    pub(crate) async fn prepare(&self, before: &Self) {
        self.endpoints.begin_with(&before.endpoints);
        // Without a list, requests say why.
        let _ = self.endpoints.list().await;
        let mut backends = before.verdicts.backends();
        backends.retain(|backend| {
            let name = Expected::NotChecked("only the name is checked");
            let allow = self.endpoints.allow();
            allow.backend(backend.domain().as_str(), name).is_ok()
        });
        self.upstream.prepare(&backends).await;
    }

    /// Sends no further request: those that are not sent yet are sent by `successor`, under its
    /// policy.
    pub(crate) fn retire(&self, successor: Arc<Self>) {
        successor.verdicts.follow(&self.verdicts);
        let _ = self.successor.set(successor);
        self.verdicts.retire();
        self.upstream.retire();
        self.running.retire();
    }

    /// Itself, or what has taken its place by now.
    fn latest(&self) -> &Self {
        let mut latest = self;
        while let Some(successor) = latest.successor.get() {
            latest = successor;
        }
        latest
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Serves until `shutdown` resolves, then waits for answers, up to the limit of `drain`.
    /// Each request is served by the ingress that is `current` when its head has come.
    pub(crate) async fn serve(
        current: watch::Receiver<Arc<Self>>,
        listener: Listener,
        shutdown: impl Future<Output = ()>,
    ) {
        let graceful = GracefulShutdown::new();
        let mut trouble = Trouble::default();
        // Dropping the set at the end aborts the tasks that are left.
        let mut tasks = JoinSet::new();
        tasks.spawn(maintain(current.clone()));
        let mut shutdown = pin!(shutdown);
        loop {
            while tasks.try_join_next().is_some() {}
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    let pause = trouble.with(&error);
                    tokio::select! {
                        () = &mut shutdown => break,
                        () = tokio::time::sleep(pause) => continue,
                    }
                }
            };
            trouble.is_over();
            let client = Client::new(stream.peer_ip());
            let (place, scope) = match current.borrow().admit(&client) {
                Ok(admitted) => admitted,
                Err(full) => {
                    tracing::debug!(%full, "a client's connection is closed at once");
                    continue;
                }
            };
            let local = stream.local_ip();
            let ending = Arc::new(Ending::default());
            let (unread, metrics) = {
                let ingress = current.borrow();
                (ingress.limits.timeouts.unread, Arc::clone(&ingress.metrics))
            };
            let io = ClientIo::new(
                stream.clone(),
                place,
                client.clone(),
                Arc::clone(&ending),
                unread,
            );
            let turns = Arc::new(Turns::default());
            let io = BadHeads::new(io, Arc::clone(&turns), Arc::clone(&ending), metrics);
            let (current, of) = (current.clone(), client.clone());
            let service = service_fn(move |request| {
                let turn = turns.begin();
                let ingress = Arc::clone(&current.borrow());
                let (ending, client) = (Arc::clone(&ending), of.clone());
                async move {
                    let from = From {
                        client,
                        local,
                        scope,
                    };
                    let response = ingress.handle(request, from, &ending).await;
                    Ok::<_, Infallible>(response.map(|body| UnderWay::new(body, turn)))
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(MAX_HTTP_BUFFER)
                .serve_connection(TokioIo::new(io), service);
            let connection = Box::pin(graceful.watch(connection));
            let connection = Connection::new(connection, client, stream);
            tasks.spawn(async move {
                match connection.await {
                    End::Inner(Ok(())) => {}
                    End::Inner(Err(error)) => tracing::debug!(%error, "client connection ended"),
                    End::Left => tracing::debug!("the client left before its answer's end"),
                    End::MadeRoom => tracing::debug!("client connection closed for another"),
                }
            });
        }
        drop(listener);
        tracing::info!(open = graceful.count(), "stopping");
        let (running, drain) = {
            let ingress = current.borrow();
            (ingress.running.clone(), ingress.limits.drain)
        };
        // The header `connection: close` ends each kept connection, first with an answer, then
        // with a refusal while answers run; then idle connections are closed.
        running.announce_end();
        let stopped = async {
            let last_requests = async {
                while graceful.count() > 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let _ = tokio::time::timeout(LAST_REQUESTS, last_requests).await;
            running.stop().await;
            graceful.shutdown().await;
        };
        if tokio::time::timeout(drain, stopped).await.is_err() {
            tracing::warn!(
                "answers were cut off: they had not ended {} s after the signal to stop",
                drain.as_secs()
            );
        }
    }

    /// The place of a connection. At the limit, connections that wait for nothing make room.
    fn admit(&self, client: &Client) -> Result<(Hold, Scope), Full> {
        match self.clients.take(client, 1) {
            Ok(place) => Ok((place, Scope::All)),
            Err(_) => Ok((self.reserve.take(client, 1)?, Scope::Probes)),
        }
    }

    async fn handle(
        &self,
        request: Request<Incoming>,
        from: From,
        ending: &Ending,
    ) -> Response<UnderWay<Body>> {
        let under_way = self.running.begin(&from.client);
        let ends_with_connection = request.version() == Version::HTTP_10;
        let has_body = !request.body().is_end_stream();
        let sealed = ClientRequest::seal(
            request,
            &from.client,
            &self.guard,
            from.local,
            self.limits.max_body,
            self.limits.timeouts.body_idle,
        );
        if ends_with_connection {
            ending.reset_if_cut_off();
        }
        let stopping = self.running.is_stopping();
        let (answer, admitted) = match sealed {
            Err(refused) => (Err(refused.into()), Admitted::default()),
            Ok((_, admitted)) if stopping => (Err(Failure::ShuttingDown), admitted),
            Ok((request, admitted)) if !from.scope.has(&request) => {
                (Err(Failure::Reserve), admitted)
            }
            Ok((_, admitted)) if admitted.preflight => (Ok(respond::preflight()), admitted),
            Ok((request, admitted)) => (self.answer(request, admitted.least).await, admitted),
        };
        let mut response = answer.unwrap_or_else(|failure| {
            let mut response = respond::failure(&failure, &self.metrics);
            if has_body || from.scope == Scope::Probes {
                let close = HeaderValue::from_static("close");
                response.headers_mut().append(header::CONNECTION, close);
            }
            response
        });
        if self.running.ends_soon() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        if has_body && response.headers().contains_key(header::CONNECTION) {
            // The client may still be sending the rest.
            ending.linger();
        }
        if admitted.shown && matches!(response.body(), Either::Left(_)) {
            respond::confine(&mut response);
        }
        if let Some(origin) = admitted.origin {
            respond::readable_by(origin, &mut response);
        }
        response.map(|body| under_way.with(body))
    }

    async fn answer(
        &self,
        mut request: ClientRequest,
        asked: LeastLevels,
    ) -> Result<Response<Body>, Failure> {
        let view = request.view();
        if view.framing != Framing::Usual {
            return Err(Failure::Framing(view.framing));
        }
        let instance = match route::target(&view) {
            Target::Own(page) => {
                return self.own_page(view.method, page, request.client()).await;
            }
            Target::Models => return Ok(api::models(&*self.endpoints.list().await?)),
            Target::Model(id) => {
                let list = self.endpoints.list().await?;
                let not_found = || RouteError::ModelNotFound {
                    model: id.chars().take(200).collect(),
                    close: list.close_to(id),
                };
                return Ok(api::model(&list, id).ok_or_else(not_found)?);
            }
            Target::Signature(id) => {
                let instance = self.answer_ids.instance(id);
                if instance.is_none() && matches!(view.model, Model::Absent(_)) {
                    return Err(RouteError::UnknownAnswer.into());
                }
                instance
            }
            Target::Misplaced => {
                let base = route::base_url(&view);
                return Err(RouteError::Misplaced { base }.into());
            }
            Target::Backend => None,
        };
        request.find_model(&self.held).await?;
        let spki = instance.as_ref().map(|instance| instance.spki);
        let deadline = self.upstream.deadline();
        let mut resends = 0;
        loop {
            // A request that was not sent when the rules changed is routed and sent by the new
            // ones.
            let current = self.latest();
            let upstream = &current.upstream;
            let Some(candidates) = current.candidates(&request, instance.as_ref()).await? else {
                return Ok(respond::to_page());
            };
            let demand = Demand::of(request.view().model.name(), asked);
            let (client, fresh) = (request.client(), resends > 0);
            let verified = upstream.verified(&candidates, spki, demand, client, fresh, deadline);
            let verified = verified.await?;
            let forwarded = upstream.forward(verified, request, asked, &self.answer_ids);
            match forwarded.await {
                Ok(response) => {
                    self.metrics.answered();
                    return Ok(response.map(Either::Left));
                }
                Err(ForwardError::Unsent { request: back, why }) if resends < MAX_RESENDS => {
                    tracing::debug!(%why, "the request goes to another connection");
                    resends += 1;
                    request = *back;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The backends that may serve a request, or the one that gave an earlier answer; none for a
    /// browser at the front door.
    async fn candidates(
        &self,
        request: &ClientRequest,
        instance: Option<&Instance>,
    ) -> Result<Option<Vec<Backend>>, Failure> {
        let (view, allow) = (request.view(), self.endpoints.allow());
        let wanted = match instance {
            Some(instance) => Wanted::Instance(instance.clone()),
            None => match route::wanted(&view, allow) {
                Err(RouteError::NoPage { .. }) if route::is_front_door(&view) => return Ok(None),
                wanted => wanted?,
            },
        };
        let list = self.endpoints.list().await?;
        Ok(Some(route::candidates(&wanted, &list, allow)?))
    }

    /// Answers `/_proxy/` + `page`.
    async fn own_page(
        &self,
        method: &Method,
        page: &str,
        client: &Client,
    ) -> Result<Response<Body>, Failure> {
        let numbers = || self.metrics.text(self.now());
        let subjects = Subjects {
            endpoints: &self.endpoints,
            verdicts: &self.verdicts,
            page: &self.page,
            running: &self.running,
            client,
        };
        api::page(method, page, subjects, numbers).await
    }

    /// Answers a supervisor, on a listener that has nothing else.
    pub(crate) async fn probe(
        &self,
        head: &Parts,
        local: Option<IpAddr>,
        client: &Client,
    ) -> Response<Body> {
        let answer = match self.guard.admit_probe(head, local) {
            Err(refused) => Err(refused.into()),
            Ok(()) => match head.uri.path().strip_prefix("/_proxy/") {
                Some(page @ ("live" | "ready" | "metrics")) => {
                    self.own_page(&head.method, page, client).await
                }
                _ => Err(Failure::NoSuchPage),
            },
        };
        answer.unwrap_or_else(|failure| respond::failure(&failure, &self.metrics))
    }

    /// The gauges of `/_proxy/metrics`.
    fn now(&self) -> Now {
        let (idle_connections, of_backends) = self.upstream.use_now();
        let of = |what, (held, limit): (usize, usize)| (what, held as u64, limit as u64);
        let pot = |what, pot: &Pot| of(what, (pot.held(), pot.limit()));
        Now {
            idle_connections,
            body_bytes: self.held.held(),
            held: vec![
                pot(What::Connections, &self.clients),
                pot(What::Reserve, &self.reserve),
                of_backends,
                (What::BodyMemory, self.held.held(), self.held.limit()),
                of(What::Listeners, self.page.listeners()),
            ],
            lookups: self.upstream.lookups(),
            at: self.upstream.now(),
            ..self.verdicts.now()
        }
    }
}

/// Where a request comes from.
#[derive(Debug)]
struct From {
    client: Client,
    /// The address that the client connected to.
    local: Option<IpAddr>,
    scope: Scope,
}

/// What a connection may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    All,
    /// It is beyond the limit of connections.
    Probes,
}

impl Scope {
    fn has(self, request: &ClientRequest) -> bool {
        let is_probe = || {
            matches!(
                route::target(&request.view()),
                Target::Own("live" | "ready")
            )
        };
        self == Self::All || is_probe()
    }
}

/// Runs [`Upstream::maintain`] of the current ingress for ever, and again after a panic:
/// without it no verdict is renewed before it ends.
async fn maintain(mut current: watch::Receiver<Arc<Ingress>>) {
    loop {
        let ingress = Arc::clone(&current.borrow_and_update());
        // Dropping the set ends the task with this future.
        let mut task = JoinSet::new();
        task.spawn(async move { ingress.upstream.maintain().await });
        let replaced = async {
            if current.changed().await.is_err() {
                // No other will come.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            ended = task.join_next() => {
                if let Some(Err(error)) = ended {
                    tracing::error!(%error, "the renewal of verdicts failed; it starts again");
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            () = replaced => {}
        }
    }
}

/// Consecutive failures to accept a client.
#[derive(Debug, Default)]
struct Trouble {
    in_a_row: u32,
    seldom: Seldom,
}

impl Trouble {
    /// Logs a failure, not too often, and returns how long to pause.
    fn with(&mut self, error: &std::io::Error) -> Duration {
        self.in_a_row = self.in_a_row.saturating_add(1);
        if let Some(more) = self.seldom.may_say("", "not_accepted") {
            tracing::warn!(%error, in_a_row = self.in_a_row, "no client accepted{more}");
        }
        let doubled = ACCEPT_PAUSE.saturating_mul(1 << (self.in_a_row - 1).min(8));
        doubled.min(MAX_ACCEPT_PAUSE)
    }

    fn is_over(&mut self) {
        self.in_a_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_accepts_slow_down_and_recover() {
        let error = std::io::Error::other("no descriptors");
        let mut trouble = Trouble::default();
        let pauses: Vec<_> = (0..7).map(|_| trouble.with(&error).as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1_000, 1_000]);
        trouble.is_over();
        assert_eq!(trouble.with(&error), ACCEPT_PAUSE);
    }
}
