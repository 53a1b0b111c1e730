//! A connection that is proved to end in the TEE, and the only way to send a client's request.

use std::sync::Arc;
use std::time::Duration;

use attest::{LeastLevels, NoDomain, Record, UnixTime};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use sources::backend::Backend;

use crate::answer_ids::{AnswerIds, IdScan, Instance};
use crate::guard;
use crate::least::{Demand, Shortfall};
use crate::path::answer::AnswerBody;
use crate::path::headers;
use crate::path::link::SendError;
use crate::path::pool::PoolPermit;
use crate::path::request::{BodyError, ClientRequest, ProvedLink, RequestBody, Upload};
use crate::settings::{BackendTimeouts, UpstreamSettings};
use crate::unauthorized::KeyOf;
use crate::verdicts::{Key, VerdictId, VerdictUse};

/// Names the verdict under which the answer was requested.
pub const VERDICT: HeaderName = HeaderName::from_static("x-verified-proxy-verdict");
/// The verdict's levels, axis by axis, and its age in seconds.
const LEVELS: HeaderName = HeaderName::from_static("x-verified-proxy-levels");
/// The model that the evidence attests, whichever was requested.
const MODEL: HeaderName = HeaderName::from_static("x-verified-proxy-model");

/// Why a request on a verified connection has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// Another connection may take it: no byte of it was written, or it may be repeated.
    #[error("the request was not sent: {why}")]
    Unsent {
        request: Box<ClientRequest>,
        why: Unsent,
    },
    #[error("the backend broke off before it answered: {error}")]
    BrokenOff {
        #[source]
        error: SendError,
        /// Whether its method is safe (RFC 9110 §9.2.1), so that sending it again costs nothing.
        is_safe: bool,
    },
    #[error("the backend took nothing of the request's body for {} s", .0.as_secs())]
    NotTaken(Duration),
    #[error("the backend did not begin to answer within {} s", .0.as_secs())]
    FirstByte(Duration),
    #[error("the backend switched protocols without being asked")]
    Switched,
    #[error("the backend redirects to another place")]
    Redirect,
    #[error("the backend's answer has {0}")]
    Framing(&'static str),
    /// No byte of it was written.
    #[error(transparent)]
    BelowLevel(Shortfall),
    #[error(transparent)]
    Body(BodyError),
}

impl ForwardError {
    pub(in crate::path) fn unsent(request: ClientRequest, why: Unsent) -> Self {
        Self::Unsent {
            request: Box::new(request),
            why,
        }
    }
}

/// Why a request may be sent on another connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsent {
    #[error("the connection's verdict expired")]
    Expired,
    #[error("the backend closed the connection")]
    Closed,
    /// It may have been written, and is safe (RFC 9110 §9.2.1).
    #[error("the backend closed a kept connection before it answered")]
    Died,
}

/// A connection that was kept for less was not idle: its backend ends kept connections.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A proved connection: the proof, and the socket that it is about.
#[derive(Debug)]
pub struct Verified {
    link: ProvedLink,
    backend: Backend,
    permit: PoolPermit,
    settings: Arc<UpstreamSettings>,
    id: VerdictId,
}

impl Verified {
    pub(in crate::path) fn new(
        link: ProvedLink,
        backend: Backend,
        permit: PoolPermit,
        settings: Arc<UpstreamSettings>,
    ) -> Self {
        let proof = link.proof();
        let id = VerdictId::of(
            backend.domain(),
            proof.spki(),
            proof.policy(),
            proof.nonce(),
        );
        Self {
            link,
            backend,
            permit,
            settings,
            id,
        }
    }

    /// The demanded level that this connection's verdict does not reach, if any.
    pub(in crate::path) fn shortfall(&self, demand: Demand<'_>) -> Option<Shortfall> {
        Shortfall::of(&self.link.proof().levels(), &self.least(demand))
    }

    /// The least levels that a request demands of this connection.
    pub(in crate::path) fn least(&self, demand: Demand<'_>) -> LeastLevels {
        demand.least(&self.settings.model_levels, self.link.proof().model_name())
    }

    /// The header with the verdict's levels and its age.
    fn levels(&self) -> HeaderValue {
        let proof = self.link.proof();
        let age = self
            .settings
            .clock
            .now()
            .0
            .saturating_sub(proof.judged_at().0);
        headers::printable(&format!("{}, age={age}", proof.levels()))
    }

    /// The part of the verdict that may be stored.
    pub(in crate::path) fn record(&self, now: UnixTime, ttl: Duration) -> Result<Record, NoDomain> {
        self.link.proof().record(now, ttl.as_secs())
    }

    /// Fails if the backend closed the connection after the probe.
    pub(in crate::path) async fn still_open(mut self) -> Result<Self, hyper::Error> {
        self.link.ready().await?;
        Ok(self)
    }

    /// The key of its verdict.
    pub(in crate::path) fn key(&self) -> Key {
        let proof = self.link.proof();
        Key {
            domain: self.backend.domain().clone(),
            spki: proof.spki(),
            policy: proof.policy(),
        }
    }

    /// Returns the connection to the pool, without its proof.
    pub(in crate::path) fn release(self) {
        self.permit.release(self.link.forget_proof());
    }

    /// Opens the request, sends it, and returns the answer as it arrives.
    pub(in crate::path) async fn forward(
        mut self,
        request: ClientRequest,
        verdict_use: VerdictUse,
        answer_ids: &AnswerIds,
    ) -> Result<Response<AnswerBody>, ForwardError> {
        if self.link.ready().await.is_err() {
            return Err(ForwardError::unsent(request, Unsent::Closed));
        }
        let kept = self.link.kept();
        let (mut request, resealer) = request.open(&self.link);
        request.body_mut().stop_on(verdict_use.revocation());
        let mut upload = request.body_mut().upload();
        let request = self.outgoing(request);
        let asked = (request.method().clone(), request.uri().clone());
        let key = KeyOf::request(request.headers());
        let sent = tokio::select! {
            biased;
            sent = self.link.send(request) => sent,
            error = too_late(&mut upload, self.settings.timeouts) => return Err(error),
        };
        let response = match sent {
            Ok(response) => response,
            Err((_, Some(request))) => {
                return Err(ForwardError::unsent(resealer.seal(request), Unsent::Closed));
            }
            Err((error, None)) => {
                let is_backends =
                    matches!(error, SendError::Broken(_)) && of_body(&error).is_none();
                if is_backends && kept.is_some_and(|kept| kept < AT_ONCE) {
                    self.permit.ended_at_once();
                }
                let repeat = matches!(error, SendError::Broken(_)).then(|| resealer.repeat());
                return Err(match repeat.flatten() {
                    Some(request) => ForwardError::unsent(request, Unsent::Died),
                    None => broken_off(error, asked.0.is_safe()),
                });
            }
        };
        let is_early = upload.is_some_and(|mut upload| !upload.is_whole());
        if response.status() == StatusCode::UNAUTHORIZED {
            key.warn(self.backend.domain(), &self.settings.seldom);
        }
        let instance = Instance {
            domain: self.backend.domain().clone(),
            spki: self.link.proof().spki(),
        };
        let id_scan = answer_ids.id_scan(
            &asked.0,
            asked.1.path(),
            response.status(),
            response.headers(),
            instance,
        );
        let mut response = self.incoming(response, verdict_use, id_scan)?;
        if is_early {
            // RFC 9112 §9.6: the rest of the request's body may be in the client's connection.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        Ok(response)
    }

    /// Adapts the request to this backend. It is idempotent, since a request may come back
    /// unsent.
    fn outgoing(&self, request: Request<RequestBody>) -> Request<RequestBody> {
        let (mut head, body) = request.into_parts();
        head.version = Version::HTTP_11;
        headers::strip_request(&mut head.headers);
        if let Ok(host) = HeaderValue::from_str(self.backend.domain().as_str()) {
            head.headers.insert(header::HOST, host);
        }
        // A web page or a link in a mail can trigger a request whose answer the browser
        // displays, even if the page cannot read it. The proxy's API key is not added to
        // such a request (threats.md C2, C3).
        let shown = guard::is_shown(&head.method, &head.headers);
        if let Some(key) = self.settings.api_key.as_ref().filter(|_| !shown) {
            headers::add_key(&mut head.headers, key);
        }
        // hyper drops the body of a GET whose head announces none.
        if !body.is_end_stream() && !head.headers.contains_key(header::CONTENT_LENGTH) {
            let chunked = HeaderValue::from_static("chunked");
            head.headers.insert(header::TRANSFER_ENCODING, chunked);
        }
        Request::from_parts(head, body)
    }

    fn incoming(
        self,
        response: Response<Incoming>,
        verdict_use: VerdictUse,
        id_scan: Option<IdScan>,
    ) -> Result<Response<AnswerBody>, ForwardError> {
        let (mut head, body) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(ForwardError::Switched);
        }
        let stated = headers::settle_length(&mut head.headers).map_err(ForwardError::Framing)?;
        headers::strip_response(&mut head.headers);
        self.confine_location(head.status, &mut head.headers)?;
        head.headers.insert(VERDICT, self.id.header_value());
        head.headers.insert(LEVELS, self.levels());
        head.headers
            .insert(MODEL, headers::printable(self.link.proof().model_name()));
        head.version = Version::HTTP_11;
        let answer = AnswerBody::new(
            body,
            self.settings,
            self.link.forget_proof(),
            self.permit,
            verdict_use,
            stated,
            id_scan,
        );
        Ok(Response::from_parts(head, answer))
    }

    /// A client must not follow a redirect away from the proxy: SDKs post the
    /// whole prompt again to the target of a 307 (threats.md B11).
    fn confine_location(
        &self,
        status: StatusCode,
        headers: &mut HeaderMap,
    ) -> Result<(), ForwardError> {
        let mut locations = headers.get_all(header::LOCATION).iter();
        let Some(location) = locations.next() else {
            return Ok(());
        };
        let several = locations.next().is_some();
        let path = headers::path_on(self.backend.domain(), location).filter(|_| !several);
        match path {
            Some(path) => {
                headers.insert(header::LOCATION, path);
            }
            None if status.is_redirection() => return Err(ForwardError::Redirect),
            None => {
                headers.remove(header::LOCATION);
            }
        }
        Ok(())
    }
}

/// Waits until the backend takes nothing of the body, or does not answer once it has ended. The
/// client's time is limited by the body itself.
async fn too_late(upload: &mut Option<Upload>, timeouts: BackendTimeouts) -> ForwardError {
    if let Some(upload) = upload
        && !upload.is_taken(timeouts.unread).await
    {
        return ForwardError::NotTaken(timeouts.unread);
    }
    tokio::time::sleep(timeouts.first_byte).await;
    ForwardError::FirstByte(timeouts.first_byte)
}

fn broken_off(error: SendError, is_safe: bool) -> ForwardError {
    match of_body(&error) {
        Some(body) => ForwardError::Body(body),
        None => ForwardError::BrokenOff { error, is_safe },
    }
}

/// The error of the request's own body, which hyper wraps.
fn of_body(error: &SendError) -> Option<BodyError> {
    let sources = std::iter::successors(std::error::Error::source(error), |error| error.source());
    let mut bodies = sources.map(|source| source.downcast_ref::<BodyError>().copied());
    bodies.find_map(|body| body)
}
