//! How a request's head frames its message, and what it demands of the connection (RFC 9112).

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};

/// What a request's head demands of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A plain request.
    Usual,
    /// CONNECT or TRACE (RFC 9110 §9.3.6, §9.3.8).
    Method,
    /// An upgrade to WebSocket: its client can use no other answer. Every other offer is ignored
    /// (RFC 9110 §7.8).
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
    if asks_for_websocket(head) {
        return Framing::Upgrade;
    }
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let missing = hosts.next().is_none() && head.version == Version::HTTP_11;
    if missing || hosts.next().is_some() {
        return Framing::Host;
    }
    Framing::Usual
}

/// True if the client waits for a WebSocket. `Upgrade` means nothing in HTTP/1.0, and nothing
/// unless `Connection` names it (RFC 9110 §7.8).
///
/// What else a client offers (`h2c`, `TLS/1.2`) it can do without. Neither field is forwarded:
/// a backend that accepted the offer would read what follows as another protocol.
fn asks_for_websocket(head: &Parts) -> bool {
    let names = |field: &HeaderName, token: &[u8]| {
        items(&head.headers, field).any(|item| item.eq_ignore_ascii_case(token))
    };
    head.version == Version::HTTP_11
        && names(&header::CONNECTION, b"upgrade")
        && names(&header::UPGRADE, b"websocket")
}

/// The items of a list, in all lines of the field; empty ones mean nothing (RFC 9110 §5.6.1.2).
fn items<'a>(headers: &'a HeaderMap, field: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(field).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
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

/// True if the body has a content-coding (RFC 9110 §8.4.1).
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    let mut codings = items(headers, &header::CONTENT_ENCODING);
    codings.any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: Version, lines: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::post("/x").version(version);
        for (name, value) in [("host", "localhost")].iter().chain(lines) {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_a_websocket_is_waited_for() {
        let framed = |version, connection: &str, upgrade: &str| {
            framing(&head(
                version,
                &[("connection", connection), ("upgrade", upgrade)],
            ))
        };
        for (connection, upgrade) in [
            ("upgrade", "websocket"),
            ("Upgrade", "WebSocket"),
            ("keep-alive, Upgrade", "websocket"),
            (" ,upgrade,close", "h2c , websocket"),
        ] {
            let asked = framed(Version::HTTP_11, connection, upgrade);
            assert_eq!(asked, Framing::Upgrade, "{connection} {upgrade}");
            let asked = framed(Version::HTTP_10, connection, upgrade);
            assert_eq!(asked, Framing::Usual, "{connection} {upgrade}");
        }
        for (connection, upgrade) in [
            ("", "websocket"),
            ("close", "websocket"),
            ("upgrades", "websocket"),
            ("upgrade", ""),
            ("upgrade", ", ,"),
            ("upgrade", "h2c"),
            ("upgrade", "h2,h2c"),
            ("Upgrade, HTTP2-Settings", "h2c"),
            ("upgrade", "TLS/1.2"),
            ("upgrade", "websockets"),
            ("upgrade", "websocket/13"),
        ] {
            let ignored = framed(Version::HTTP_11, connection, upgrade);
            assert_eq!(ignored, Framing::Usual, "{connection} {upgrade}");
        }
        // In several lines, and beside bytes that are no text.
        let several = [
            ("connection", "close"),
            ("connection", "upgrade"),
            ("upgrade", "h2c"),
            ("upgrade", "websocket"),
        ];
        let mut several = head(Version::HTTP_11, &several);
        assert_eq!(framing(&several), Framing::Upgrade);
        let odd = HeaderValue::from_bytes(b"\xff, upgrade").unwrap();
        several.headers.insert(header::CONNECTION, odd);
        assert_eq!(framing(&several), Framing::Upgrade);
    }

    #[test]
    fn a_coding_is_one_that_changes_the_content() {
        let encoded = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|one| ("content-encoding", *one)).collect();
            is_encoded(&head(Version::HTTP_11, &lines).headers)
        };
        for none in [&[][..], &[""], &[" , "], &["identity"], &["Identity,", ""]] {
            assert!(!encoded(none), "{none:?}");
        }
        for some in [
            &["gzip"][..],
            &["identity, zstd"],
            &["", "br"],
            &["utf-8"],
            &["identity;q=1"],
        ] {
            assert!(encoded(some), "{some:?}");
        }
    }

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
