//! How a request's head frames its message, and what it demands of the connection (RFC 9112).

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Uri, Version, header};

/// What a request's head demands of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
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
    /// No `Host`, or several (RFC 9112 §3.2).
    Host,
}

pub(super) fn framing(head: &Parts) -> Framing {
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Framing::Method;
    }
    // hyper has dropped a Content-Length beside a transfer-coding: the message is read as
    // chunked, and sent so (RFC 9112 §6.3, item 3).
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    let one_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if !codings.next().is_none_or(one_chunked) || codings.next().is_some() {
        return Framing::TransferCoding;
    }
    if head.uri.authority().is_some() {
        return Framing::Target;
    }
    // curl --http2 and Java's client offer h2c with every request, and continue without it.
    let other_upgrade = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"h2c");
    let mut upgrades = head.headers.get_all(header::UPGRADE).iter();
    if upgrades.any(other_upgrade) {
        return Framing::Upgrade;
    }
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let missing = hosts.next().is_none() && head.version == Version::HTTP_11;
    if missing || hosts.next().is_some() {
        return Framing::Host;
    }
    Framing::Usual
}

/// The target in origin form (RFC 9112 §3.2.1), also if the client used absolute form; `None`
/// for authority form. OPTIONS of an absolute form without a path is about the whole server,
/// `*` (RFC 9112 §3.2.4); `Uri` does not tell whether a lone "/" was written.
pub(super) fn origin_form(method: &Method, target: &Uri) -> Option<Uri> {
    let path = target.path_and_query()?;
    let whole = target.authority().is_some() && path.as_str() == "/";
    if whole && *method == Method::OPTIONS {
        return Some(PathAndQuery::from_static("*").into());
    }
    if path.as_str().starts_with('?') {
        return format!("/{}", path.as_str()).parse().ok();
    }
    Some(path.clone().into())
}

pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    codings.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_become_origin_form() {
        let target = |method: Method, text: &str| {
            let form = origin_form(&method, &text.parse().unwrap());
            form.map(|uri| uri.to_string())
        };
        for (text, expected, options) in [
            ("/a?b", "/a?b", "/a?b"),
            ("/", "/", "/"),
            ("http://evil.example?y=1", "/?y=1", "/?y=1"),
            ("http://evil.example?", "/?", "/?"),
            ("http://evil.example", "/", "*"),
            ("http://evil.example/", "/", "*"),
            ("http://evil.example/a?b", "/a?b", "/a?b"),
            ("*", "*", "*"),
        ] {
            assert_eq!(
                target(Method::GET, text).as_deref(),
                Some(expected),
                "{text}"
            );
            assert_eq!(
                target(Method::OPTIONS, text).as_deref(),
                Some(options),
                "{text}"
            );
        }
        assert_eq!(target(Method::OPTIONS, "evil.example:443"), None);
    }
}
