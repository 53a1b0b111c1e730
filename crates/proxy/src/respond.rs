//! Answers of the proxy's own. Every error becomes one response, in OpenAI's shape, so
//! that SDKs show it, with what to do about it (`table.rs`).

mod table;

use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use sources::endpoints::EndpointsError;
use upstream::admission::Full;
use upstream::guard::NotAdmitted;
use upstream::metrics::Metrics;
use upstream::{ForwardError, Framing, PathError, SealError, VERDICT};

pub use self::table::{Line, attempt_line, line, remedy, tunnel_remedy};
use crate::body::{Body, json, whole};
use crate::codes::Retry;
use crate::route::RouteError;

/// OpenAI's and Anthropic's SDKs obey this header. Without it they send a request again after each
/// status from 500 on, and the work may be paid for three times.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// Seconds; long enough for a request to end, short enough to wait for.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// Everything that can go wrong with a request.
#[derive(Debug)]
pub enum Failure {
    NotAdmitted(NotAdmitted),
    Head(BadHead),
    Framing(Framing),
    Seal(SealError),
    Route(RouteError),
    Endpoints(EndpointsError),
    Path(PathError),
    Forward(ForwardError),
    /// All other clients' connections are in use.
    Reserve,
    TooManyListeners(Full),
    ShuttingDown,
    NoSuchPage,
    NotAPage,
}

/// What hyper finds wrong with a request's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadHead {
    Malformed,
    TargetTooLong,
    TooLarge,
}

macro_rules! from {
    ($($of:ident as $variant:ident),*) => {
        $(impl From<$of> for Failure {
            fn from(error: $of) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

from!(
    NotAdmitted as NotAdmitted,
    SealError as Seal,
    RouteError as Route,
    EndpointsError as Endpoints,
    PathError as Path,
    ForwardError as Forward
);

/// The response for a failure.
pub(crate) fn failure(failure: &Failure, metrics: &Metrics) -> Response<Body> {
    response(&line(failure), metrics)
}

/// The same as the bytes of an answer, for a connection that ends with it.
pub(crate) fn written(failure: &Failure, metrics: &Metrics) -> Vec<u8> {
    let line = line(failure);
    let (head, _) = response(&line, metrics).into_parts();
    let body = document(&line);
    let mut written = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
    for (name, value) in &head.headers {
        written.extend_from_slice(name.as_str().as_bytes());
        written.extend_from_slice(b": ");
        written.extend_from_slice(value.as_bytes());
        written.extend_from_slice(b"\r\n");
    }
    let length = body.len();
    let rest = format!("content-length: {length}\r\nconnection: close\r\n\r\n{body}");
    written.extend_from_slice(rest.as_bytes());
    written
}

/// In OpenAI's shape.
fn document(line: &Line) -> String {
    let mut message = line.message.clone();
    if let Some(hint) = &line.hint {
        // Writing to a String cannot fail.
        let _ = write!(message, "\nhint: {hint}");
    }
    let error = serde_json::json!({
        "error": { "message": message, "type": line.kind, "param": null, "code": line.code }
    });
    error.to_string()
}

fn response(line: &Line, metrics: &Metrics) -> Response<Body> {
    metrics.refused(line.code);
    tracing::debug!(
        code = line.code,
        status = line.status.as_u16(),
        "request failed"
    );
    let mut response = json(line.status, document(line));
    let headers = response.headers_mut();
    if let Ok(verdict) = HeaderValue::try_from(format!("none; {}", line.code)) {
        headers.insert(VERDICT, verdict);
    }
    // What the status has to be said with (RFC 9110 §11.6.1, §15.5.16, §15.5.22).
    let mut say = |name: HeaderName, value| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    match line.status {
        StatusCode::UNAUTHORIZED => say(header::WWW_AUTHENTICATE, "Bearer"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => say(header::ACCEPT_ENCODING, "identity"),
        StatusCode::UPGRADE_REQUIRED => {
            say(header::UPGRADE, "HTTP/1.1");
            say(header::CONNECTION, "upgrade");
        }
        _ => {}
    }
    match line.retry {
        Retry::Useless | Retry::Unsafe => {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        Retry::HelpsLater => {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        Retry::Helps => {}
    }
    response
}

/// The answer to a browser that asks whether a page may use the proxy: it may (Fetch §4.8).
pub(crate) fn preflight() -> Response<Body> {
    let mut response = whole(StatusCode::NO_CONTENT, Bytes::new());
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "GET, HEAD, POST, PUT, PATCH, DELETE",
        ),
        // "*" does not include Authorization.
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "*, authorization"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
        // The page is not of this machine (Private Network Access §3.2).
        (
            HeaderName::from_static("access-control-allow-private-network"),
            "true",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// For a backend's answer that a browser shows: it has the proxy's origin, and its
/// scripts must not read verdicts, or spend a key that the proxy adds.
pub(crate) fn confine(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    // Browsers apply these to the host name with every port, so to other programs too.
    headers.remove(header::SET_COOKIE);
    headers.remove("clear-site-data");
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("sandbox; default-src 'none'"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
}

/// Lets a page of `origin` read an answer and its headers (Fetch §3.3).
pub(crate) fn readable_by(origin: HeaderValue, response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("*"),
    );
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

/// Redirects a person who opened the proxy's address in a browser to the page. Not
/// cached: another program may have the port tomorrow.
pub(crate) fn to_page() -> Response<Body> {
    let mut response = whole(StatusCode::FOUND, Bytes::new());
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_static("/_proxy/"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
