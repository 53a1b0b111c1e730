//! Bodies of answers.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{Either, Full};
use upstream::AnswerBody;

use crate::events::Events;

/// An answer's body: a backend's, streamed, or the proxy's own, which is whole or a
/// stream of events.
pub(crate) type Body = Either<AnswerBody, Either<Full<Bytes>, Events>>;

/// A JSON answer of the proxy's own.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    own(status, "application/json", body)
}

/// An answer of the proxy's own.
pub(crate) fn own(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = whole(status, body.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(crate) fn whole(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Either::Right(Either::Left(Full::new(body))));
    *response.status_mut() = status;
    response
}
