//! A client's request, sealed until a connection is proved.
//!
//! [`ClientRequest`] has private content and one exit, [`ClientRequest::open`]: only this crate
//! can name it, and it needs a [`ProvedLink`]. `Verified::forward` calls it. Before that,
//! routing sees a [`View`]: method, path, `X-Backend-Domain` and the model.
//!
//! The body is read up to its model and held in memory. The rest stays with the client until
//! there is a connection to stream it to.

mod body;
mod budget;
mod form;
mod framing;
mod model;
mod parameters;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use http::request::Parts;
use http::{Method, Request, header};
use hyper::body::Incoming;

use self::body::{MAX_PAUSES, Sent};
use self::budget::{Held, NoMemory};
use self::framing::{content_length, framing, is_encoded, origin_form};
use self::model::{BodyScan, ModelField, in_query};
use crate::admission::{Client, Full};
use crate::guard::{Admitted, Guard, NotAdmitted};
use crate::path::headers::BACKEND_DOMAIN;
use crate::path::link;

pub use self::body::BodyError;
pub(in crate::path) use self::body::{RequestBody, Upload};
pub use self::budget::{BODY_SLACK, BodyBudget};
pub use self::form::Content;
pub use self::framing::Framing;

/// Connections for clients' requests.
pub(in crate::path) type Link = link::Link<RequestBody>;
pub(in crate::path) type ProvedLink = link::ProvedLink<RequestBody>;

/// Why a body was refused before it was sent.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("too many request bodies are held in memory: {0} KiB beyond the first 64 of each")]
    NoMemory(Full),
}

impl From<NoMemory> for SealError {
    fn from(NoMemory(full): NoMemory) -> Self {
        Self::NoMemory(full)
    }
}

/// A client's request, sealed.
pub struct ClientRequest {
    head: Parts,
    body: RequestBody,
    model: ModelField,
    client: Client,
}

/// A header that may be given once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SingleHeader<'a> {
    Absent,
    Once(&'a str),
    Ambiguous,
}

/// The model that a request names, or why none is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model<'a> {
    Named(&'a str),
    Absent(&'static str),
    /// Absent elsewhere, and the body has a content-coding.
    Encoded,
    Malformed(&'static str),
}

impl<'a> Model<'a> {
    pub fn name(self) -> Option<&'a str> {
        match self {
            Self::Named(name) => Some(name),
            Self::Absent(_) | Self::Encoded | Self::Malformed(_) => None,
        }
    }
}

/// The part of a request that routing and framing rules see.
#[expect(
    missing_debug_implementations,
    reason = "the model and the path are a client's"
)]
pub struct View<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    /// The name and port by which the client addresses the proxy.
    pub host: Option<&'a str>,
    pub backend_domain: SingleHeader<'a>,
    pub model: Model<'a>,
    pub framing: Framing,
}

impl ClientRequest {
    /// Seals a request of `client` that may use the proxy: the first thing that ingress does.
    /// The request came to the address `local`; its body may have `max_body` bytes, and pause for
    /// `body_idle` between two pieces.
    pub fn seal(
        request: Request<Incoming>,
        client: &Client,
        guard: &Guard,
        local: Option<IpAddr>,
        max_body: u64,
        body_idle: Duration,
    ) -> Result<(Self, Admitted), NotAdmitted> {
        let (mut head, body) = request.into_parts();
        let admitted = guard.admit(&mut head, local)?;
        if let Some(target) = origin_form(&head.method, &head.uri) {
            head.uri = target;
        }
        if !is_encoded(&head.headers) {
            // Empty, or "identity": a reader of its own opinion must not find a coding in it.
            head.headers.remove(header::CONTENT_ENCODING);
        }
        let client = client.with_token(admitted.token);
        let request = Self {
            model: in_query(&head.uri),
            head,
            body: RequestBody::Sent(Sent::new(body, max_body, body_idle, client.clone())),
            client,
        };
        Ok((request, admitted))
    }

    /// The client that sent it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What routing may know.
    pub fn view(&self) -> View<'_> {
        let mut domains = self.head.headers.get_all(BACKEND_DOMAIN).iter();
        let backend_domain = match (domains.next(), domains.next()) {
            (None, _) => SingleHeader::Absent,
            (Some(value), None) => value.to_str().map_or(SingleHeader::Ambiguous, |text| {
                SingleHeader::Once(text.trim())
            }),
            (Some(_), Some(_)) => SingleHeader::Ambiguous,
        };
        View {
            method: &self.head.method,
            path: self.head.uri.path(),
            host: self
                .head
                .headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok()),
            backend_domain,
            model: match &self.model {
                ModelField::Named(model) => Model::Named(model),
                ModelField::Absent(why) => Model::Absent(why),
                ModelField::Encoded => Model::Encoded,
                ModelField::Malformed(why) => Model::Malformed(why),
            },
            framing: framing(&self.head),
        }
    }

    /// Reads the body up to its model, if it may have one.
    pub async fn find_model(&mut self, budget: &BodyBudget) -> Result<(), SealError> {
        let RequestBody::Sent(sent) = &mut self.body else {
            return Ok(());
        };
        let max = sent.rest().max();
        if content_length(&self.head.headers).is_some_and(|length| length > max) {
            return Err(BodyError::TooLarge { max }.into());
        }
        if self.head.headers.contains_key(BACKEND_DOMAIN) {
            return Ok(());
        }
        let in_body = if sent.rest().is_empty() {
            ModelField::Absent("it has no body")
        } else {
            match BodyScan::new(&self.head.headers) {
                Ok(scan) => {
                    let limit = sent.rest().pause().saturating_mul(MAX_PAUSES);
                    tokio::time::timeout(limit, model_in(sent, scan, budget, &self.client))
                        .await
                        .map_err(|_| BodyError::Slow { limit })??
                }
                Err(found) => {
                    sent.rest().scan(BodyScan::Opaque { begun: false });
                    found
                }
            }
        };
        self.model = in_body.or_query(in_query(&self.head.uri));
        Ok(())
    }

    /// Opens the request, for a connection with its proof.
    pub(in crate::path) fn open(self, link: &ProvedLink) -> (Request<RequestBody>, Resealer) {
        // RFC 9110 §9.2.2, RFC 9112 §9.3.1: the backend may have closed a kept connection while
        // the request was on its way. On a new connection there is nothing to repeat.
        let is_repeatable = link.kept().is_some()
            && self.head.method.is_safe()
            && http_body::Body::is_end_stream(&self.body);
        let resealer = Resealer {
            model: self.model,
            copy: is_repeatable.then(|| self.head.clone()),
            client: self.client,
        };
        (Request::from_parts(self.head, self.body), resealer)
    }
}

/// Reads up to the model, and holds what was read.
async fn model_in(
    sent: &mut Sent,
    scan: BodyScan,
    budget: &BodyBudget,
    client: &Client,
) -> Result<ModelField, SealError> {
    let absent = ModelField::Absent(scan.why_absent());
    let rest = sent.rest();
    rest.scan(scan);
    let mut held = Held::default();
    let mut trailers = None;
    while rest.model().is_none() {
        let Some(frame) = rest.frame().await else {
            break;
        };
        match frame?.into_data() {
            Ok(data) => held.push(budget, client, &data)?,
            Err(frame) => trailers = Some(frame),
        }
    }
    let found = rest
        .model()
        .map_or(absent, |model| ModelField::Named(model.to_owned()));
    let mut frames = held.into_frames();
    frames.extend(trailers);
    sent.hold(frames);
    Ok(found)
}

/// Seals a request again that was not written, or may be repeated.
pub(in crate::path) struct Resealer {
    model: ModelField,
    client: Client,
    /// The head of a request that may be repeated, which has no body.
    copy: Option<Parts>,
}

impl Resealer {
    pub(in crate::path) fn seal(self, request: Request<RequestBody>) -> ClientRequest {
        let (head, body) = request.into_parts();
        ClientRequest {
            head,
            body,
            model: self.model,
            client: self.client,
        }
    }

    /// The request once more, if its method is safe, it has no body, and its connection was kept.
    pub(in crate::path) fn repeat(self) -> Option<ClientRequest> {
        Some(ClientRequest {
            head: self.copy?,
            body: RequestBody::Empty,
            model: self.model,
            client: self.client,
        })
    }
}

/// Prints nothing of the content.
impl fmt::Debug for ClientRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientRequest(sealed)")
    }
}
