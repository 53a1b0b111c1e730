//! What a client sent, closed until a connection is proved.
//!
//! [`ClientRequest`] has private content and one exit, [`ClientRequest::open`],
//! which only `upstream` can name and only who holds a [`ProvedLink`] can call:
//! `Verified::forward` does. Until then routing sees a [`View`]: method, path, `X-Backend-Domain` and the model.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Uri, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::headers;
use super::link::ProvedLink;
use crate::idle::IdleTimer;

/// Names a backend, in place of the model.
pub(crate) const BACKEND_DOMAIN: &str = "x-backend-domain";
/// The longest names served have 40 bytes.
pub(crate) const MAX_MODEL_BYTES: usize = 200;

/// Why a body was not taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("too many request bodies are held in memory")]
    NoMemory,
}

/// Memory for bodies that are held until their model is found and a connection
/// is verified, over all requests.
#[derive(Debug)]
pub(crate) struct BodyBudget(Arc<Semaphore>);

impl BodyBudget {
    /// Of that many bytes, in whole KiB.
    pub(crate) fn new(bytes: u64) -> Self {
        let kibibytes = usize::try_from(bytes >> 10).unwrap_or(usize::MAX);
        Self(Arc::new(Semaphore::new(
            kibibytes.min(Semaphore::MAX_PERMITS),
        )))
    }

    /// Raises what is held to `bytes`, in steps of a KiB.
    fn raise(
        &self,
        held: &mut Option<OwnedSemaphorePermit>,
        bytes: usize,
    ) -> Result<(), SealError> {
        let have = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = bytes.div_ceil(1 << 10).saturating_sub(have);
        let missing = u32::try_from(missing).map_err(|_| SealError::NoMemory)?;
        let more = Arc::clone(&self.0).try_acquire_many_owned(missing);
        let more = more.map_err(|_| SealError::NoMemory)?;
        match held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        Ok(())
    }
}

/// A client's request, sealed.
pub(crate) struct ClientRequest {
    head: Parts,
    body: RequestBody,
    model: FoundModel,
}

/// A header that may be given once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named<'a> {
    Absent,
    Once(&'a str),
    Ambiguous,
}

/// The model that a body names, or why none is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Model<'a> {
    Named(&'a str),
    Absent(&'static str),
    Malformed(&'static str),
}

#[derive(Clone)]
enum FoundModel {
    Named(String),
    Absent(&'static str),
    Malformed(&'static str),
}

/// As much of a request as routing and framing rules need.
pub(crate) struct View<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) backend_domain: Named<'a>,
    pub(crate) model: Model<'a>,
    pub(crate) framing: Framing,
}

/// What a request's head asks of the connection itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A plain request.
    Usual,
    /// CONNECT or TRACE (RFC 9110 §9.3.6, §9.3.8).
    Method,
    /// An upgrade to something else than HTTP/2, which may be ignored (RFC 9110 §7.8).
    Upgrade,
    /// A transfer-coding besides one `chunked` (RFC 9112 §6.1).
    TransferCoding,
    /// Authority form, which only CONNECT has (RFC 9112 §3.2.3).
    Target,
}

impl ClientRequest {
    /// Closes over a request: ingress's first act. Its body may have `max_body`
    /// bytes, and `body_idle` pass between two pieces of it.
    pub(crate) fn seal(request: Request<Incoming>, max_body: u64, body_idle: Duration) -> Self {
        let (mut head, body) = request.into_parts();
        if let Some(target) = origin_form(&head.uri) {
            head.uri = target;
        }
        Self {
            head,
            body: RequestBody::Streaming {
                body,
                left: max_body,
                max: max_body,
                idle: IdleTimer::new(body_idle),
            },
            model: FoundModel::Absent("the body was not looked at"),
        }
    }

    /// What routing may know.
    pub(crate) fn view(&self) -> View<'_> {
        let mut domains = self.head.headers.get_all(BACKEND_DOMAIN).iter();
        let backend_domain = match (domains.next(), domains.next()) {
            (None, _) => Named::Absent,
            (Some(value), None) => value
                .to_str()
                .map_or(Named::Ambiguous, |text| Named::Once(text.trim())),
            (Some(_), Some(_)) => Named::Ambiguous,
        };
        View {
            method: &self.head.method,
            path: self.head.uri.path(),
            backend_domain,
            model: match &self.model {
                FoundModel::Named(model) => Model::Named(model),
                FoundModel::Absent(why) => Model::Absent(why),
                FoundModel::Malformed(why) => Model::Malformed(why),
            },
            framing: framing(&self.head),
        }
    }

    /// Takes the body in, as far as the model has to be found in it.
    pub(crate) async fn find_model(&mut self, budget: &BodyBudget) -> Result<(), SealError> {
        let RequestBody::Streaming { body, max, .. } = &mut self.body else {
            return Ok(());
        };
        let max = *max;
        if content_length(&self.head.headers).is_some_and(|length| length > max) {
            return Err(BodyError::TooLarge { max }.into());
        }
        if self.head.headers.contains_key(BACKEND_DOMAIN) {
            return Ok(());
        }
        if body.is_end_stream() {
            self.model = FoundModel::Absent("it has no body");
            return Ok(());
        }
        if !may_be_json(&self.head.headers) {
            self.model =
                FoundModel::Absent("its body is not JSON (Content-Type: application/json)");
            return Ok(());
        }
        if is_encoded(&self.head.headers) {
            self.model = FoundModel::Absent(
                "its body is compressed (Content-Encoding), so no model is read from it",
            );
            return Ok(());
        }
        let mut bytes = BytesMut::new();
        let mut held = None;
        while let Some(frame) = self.body.frame().await {
            // Trailers of a body that was read whole have no meaning to JSON APIs.
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            let needed = bytes.len() + data.len();
            if needed > bytes.capacity() {
                // What is allocated counts, not what is filled.
                let room = needed.max(2 * bytes.capacity());
                budget.raise(&mut held, room)?;
                bytes.reserve(room - bytes.len());
            }
            bytes.extend_from_slice(&data);
        }
        self.model = model_in(&bytes);
        self.body = RequestBody::Whole(Some(held_bytes(bytes.freeze(), held)));
        Ok(())
    }

    /// Opens it, for whoever holds a connection and the proof about it.
    pub(super) fn open(self, _: &ProvedLink) -> (Request<RequestBody>, Resealer) {
        let resealer = Resealer { model: self.model };
        (Request::from_parts(self.head, self.body), resealer)
    }
}

/// Closes over a request again that was never written.
pub(super) struct Resealer {
    model: FoundModel,
}

impl Resealer {
    pub(super) fn seal(self, request: Request<RequestBody>) -> ClientRequest {
        let (head, body) = request.into_parts();
        ClientRequest {
            head,
            body,
            model: self.model,
        }
    }
}

/// Says nothing about the content.
impl fmt::Debug for ClientRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientRequest(sealed)")
    }
}

fn framing(head: &Parts) -> Framing {
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Framing::Method;
    }
    // A Content-Length beside a transfer-coding was dropped by hyper: the message
    // is taken as chunked, and goes on so (RFC 9112 §6.3, item 3).
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    let one_chunked =
        |coding: &header::HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if !codings.next().is_none_or(one_chunked) || codings.next().is_some() {
        return Framing::TransferCoding;
    }
    if head.uri.authority().is_some() {
        return Framing::Target;
    }
    // curl --http2 and Java's client offer h2c with every request and go on
    // without it.
    let other_upgrade =
        |value: &header::HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"h2c");
    if head
        .headers
        .get_all(header::UPGRADE)
        .iter()
        .any(other_upgrade)
    {
        return Framing::Upgrade;
    }
    Framing::Usual
}

/// The target as origin servers are asked for it (RFC 9112 §3.2.1), also where
/// the client used absolute form; nothing for authority form.
fn origin_form(target: &Uri) -> Option<Uri> {
    let path = target.path_and_query()?;
    if path.as_str().starts_with('?') {
        return format!("/{}", path.as_str()).parse().ok();
    }
    Some(path.clone().into())
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn may_be_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return true;
    };
    let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    let media_type = text.split(';').next().unwrap_or_default().trim();
    media_type == "application/json" || media_type.ends_with("+json")
}

/// The top-level `model`. Two of them are refused, since two readers could see
/// different ones.
fn model_in(body: &[u8]) -> FoundModel {
    #[derive(Deserialize)]
    struct Peek<'a> {
        #[serde(borrow)]
        model: Option<Cow<'a, str>>,
    }
    match serde_json::from_slice::<Peek<'_>>(body) {
        Ok(Peek { model: Some(model) }) if model.len() > MAX_MODEL_BYTES => {
            FoundModel::Malformed("the name in \"model\" has more than 200 bytes")
        }
        Ok(Peek { model: Some(model) }) => FoundModel::Named(model.into_owned()),
        Ok(Peek { model: None }) => FoundModel::Absent("its JSON body has no top-level \"model\""),
        // serde_json's own words could repeat parts of the body.
        Err(error) if error.is_data() => FoundModel::Malformed(
            "the body's top-level \"model\" is given twice or is not a string, or the body is not an object",
        ),
        Err(_) => FoundModel::Malformed("the body is not valid JSON"),
    }
}

/// A request's body on its way: never printed.
pub(super) enum RequestBody {
    /// The probe's.
    Empty,
    Whole(Option<Bytes>),
    Streaming {
        body: Incoming,
        left: u64,
        max: u64,
        idle: IdleTimer,
    },
}

/// Bytes that count against the budget for as long as anybody has them: hyper
/// keeps them until they are written.
fn held_bytes(bytes: Bytes, permit: Option<OwnedSemaphorePermit>) -> Bytes {
    struct Held {
        bytes: Bytes,
        _permit: Option<OwnedSemaphorePermit>,
    }
    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    Bytes::from_owner(Held {
        bytes,
        _permit: permit,
    })
}

/// Why a body stopped in the middle.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body has more than {max} bytes")]
    TooLarge { max: u64 },
    #[error("the client broke off its request")]
    BrokenOff,
    #[error("the body is not in valid chunks")]
    Malformed,
    #[error("the client sent nothing of its body for {} s", .idle.as_secs())]
    Stalled { idle: Duration },
}

impl BodyError {
    /// hyper names what it cannot decode by the kind of an I/O error.
    fn of(error: &hyper::Error) -> Self {
        use std::io::ErrorKind;
        let source = std::error::Error::source(error);
        let kind = source
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .map(std::io::Error::kind);
        match kind {
            Some(ErrorKind::InvalidInput | ErrorKind::InvalidData) => Self::Malformed,
            _ => Self::BrokenOff,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streaming {
                body,
                left,
                max,
                idle,
            } => {
                let frame = match Pin::new(body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => frame,
                    Poll::Ready(Some(Err(error))) => {
                        return Poll::Ready(Some(Err(BodyError::of(&error))));
                    }
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => {
                        ready!(idle.poll(cx));
                        let idle = idle.limit();
                        return Poll::Ready(Some(Err(BodyError::Stalled { idle })));
                    }
                };
                idle.reset();
                let frame = match frame.into_trailers() {
                    Ok(mut trailers) => {
                        headers::strip_request(&mut trailers);
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                    Err(frame) => frame,
                };
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                Poll::Ready(Some(match left.checked_sub(length) {
                    Some(rest) => {
                        *left = rest;
                        Ok(frame)
                    }
                    None => Err(BodyError::TooLarge { max: *max }),
                }))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_none(),
            Self::Streaming { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Streaming { body, .. } => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_shared_and_given_back() {
        let budget = BodyBudget::new(1 << 20);
        let (mut one, mut two) = (None, None);
        assert!(budget.raise(&mut one, 1_000).is_ok());
        assert!(budget.raise(&mut one, 700 << 10).is_ok());
        assert!(matches!(
            budget.raise(&mut two, 400 << 10),
            Err(SealError::NoMemory)
        ));
        assert!(budget.raise(&mut two, 300 << 10).is_ok());
        drop(one);
        assert!(budget.raise(&mut two, 1 << 20).is_ok());
    }

    #[tokio::test]
    async fn bytes_count_until_the_last_holder_is_done() {
        let budget = BodyBudget::new(1 << 20);
        let mut permit = None;
        budget.raise(&mut permit, 1 << 20).unwrap();
        let bytes = held_bytes(Bytes::from_static(b"prompt"), permit);
        let mut body = RequestBody::Whole(Some(bytes));
        let frame = body.frame().await.unwrap().unwrap();
        drop(body);
        let mut other = None;
        assert!(budget.raise(&mut other, 1).is_err());
        drop(frame);
        assert!(budget.raise(&mut other, 1 << 20).is_ok());
    }

    #[test]
    fn targets_become_origin_form() {
        let target = |text: &str| {
            let form = origin_form(&text.parse().unwrap());
            form.map(|uri| uri.to_string())
        };
        for (text, expected) in [
            ("/a?b", "/a?b"),
            ("http://evil.example?y=1", "/?y=1"),
            ("http://evil.example", "/"),
            ("http://evil.example/a?b", "/a?b"),
            ("*", "*"),
        ] {
            assert_eq!(target(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(target("evil.example:443"), None);
    }

    #[test]
    fn the_model_is_at_the_top_level_and_once() {
        let named = |body: &str| match model_in(body.as_bytes()) {
            FoundModel::Named(model) => model,
            FoundModel::Absent(_) => "absent".to_owned(),
            FoundModel::Malformed(_) => "malformed".to_owned(),
        };
        assert_eq!(
            named(r#"{"messages":[{"model":"no"}],"model":"a\u002fb"}"#),
            "a/b"
        );
        assert_eq!(named(r#"{"messages":[]}"#), "absent");
        assert_eq!(named(r#"{"model":null}"#), "absent");
        for body in [
            r#"{"model":"a","model":"a"}"#,
            r#"{"model":["a"]}"#,
            "[]",
            "{",
            "",
            r#"{"model":"a"} x"#,
        ] {
            assert_eq!(named(body), "malformed", "{body}");
        }
    }
}
