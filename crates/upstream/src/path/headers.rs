//! Which header fields are forwarded (RFC 9110 §7.6.1).

use attest::Domain;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::guard;
use crate::secrets::{self, ApiKey};

/// Fields of one connection, whether or not `Connection` lists them.
static HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Names a backend, instead of the model.
pub(in crate::path) const BACKEND_DOMAIN: HeaderName = HeaderName::from_static("x-backend-domain");

/// Fields for the proxy itself, or that it writes anew. X-Request-Hash overrides the hash that
/// the backend signs (protocol.md §4).
static NOT_FOR_BACKENDS: [HeaderName; 4] = [
    BACKEND_DOMAIN,
    HeaderName::from_static("x-request-hash"),
    header::EXPECT,
    header::HOST,
];

/// Fields of the content. They do not belong to one connection even if `Connection` lists them:
/// without them a body would change its length, or its meaning after the model was read.
const OF_THE_CONTENT: [HeaderName; 3] = [
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
];

/// Prefix of the fields that only the proxy may write.
const OWN_PREFIX: &str = "x-verified-proxy-";

/// Removes the fields that are for the proxy or for the client's connection.
pub(in crate::path) fn strip_request(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    remove_where(headers, |name| name.as_str().starts_with(OWN_PREFIX));
    for name in &NOT_FOR_BACKENDS {
        headers.remove(name);
    }
}

/// Removes the fields that are for the proxy's connection, that only the proxy may write, or
/// that would lead the client around the proxy.
pub(in crate::path) fn strip_response(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    headers.remove(header::ALT_SVC);
    headers.remove(header::REFRESH);
    remove_where(headers, |name| {
        // The user decides which pages may read an answer (--allow-origin).
        let name = name.as_str();
        name.starts_with(OWN_PREFIX) || name.starts_with("access-control-")
    });
}

/// Adds the proxy's API key where the client sends none, or a placeholder. Anthropic's clients
/// send the key in `X-Api-Key`.
pub(in crate::path) fn add_key(headers: &mut HeaderMap, key: &ApiKey) {
    let stands_for_none = |value: &HeaderValue, token: fn(&str) -> Option<&str>| {
        // An unreadable value may be a key: it is left alone.
        let text = value.to_str().ok();
        text.is_some_and(|text| {
            text.trim().is_empty() || token(text).is_some_and(secrets::is_placeholder)
        })
    };
    let has_none = |name: &HeaderName, token| {
        let mut values = headers.get_all(name).iter();
        values.all(|value| stands_for_none(value, token))
    };
    if has_none(&header::AUTHORIZATION, guard::bearer)
        && has_none(&guard::X_API_KEY, |text| Some(text))
        && let Some(value) = key.header_value()
    {
        headers.remove(guard::X_API_KEY);
        headers.insert(header::AUTHORIZATION, value);
    }
}

/// How an answer states its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::path) enum Stated {
    Once,
    /// By chunks and by Content-Length: the sender contradicts itself about the end, so nothing
    /// that follows on the connection is trusted (RFC 9112 §6.3, item 3).
    TwoWays,
}

/// Leaves one statement of an answer's length, by which its body was read (RFC 9112 §6.3).
/// Fails if there is no unambiguous one.
///
/// hyper reads a body by its transfer-coding and leaves Content-Length beside it; a client that
/// used the latter would truncate the body unnoticed.
pub(in crate::path) fn settle_length(headers: &mut HeaderMap) -> Result<Stated, &'static str> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let one_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !one_chunked || codings.next().is_some() {
            return Err("a transfer-coding besides one \"chunked\"");
        }
        return Ok(match headers.remove(header::CONTENT_LENGTH) {
            Some(_) => Stated::TwoWays,
            None => Stated::Once,
        });
    }
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        for text in value.to_str().unwrap_or_default().split(',') {
            let text = text.trim();
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let Some(number) = text.parse::<u64>().ok().filter(|_| digits) else {
                return Err("a Content-Length that is no number");
            };
            if length.is_some_and(|other| other != number) {
                return Err("two lengths");
            }
            length = Some(number);
        }
    }
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Ok(Stated::Once)
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        if !OF_THE_CONTENT.contains(&name) {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    remove_where(headers, |name| name.as_str().starts_with("proxy-"));
}

fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| unwanted(name))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// Foreign text as a header value. Characters other than printable ASCII become `?`.
pub(in crate::path) fn printable(text: &str) -> HeaderValue {
    let safe: String = text
        .chars()
        .take(256)
        .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
        .collect();
    HeaderValue::from_str(&safe).unwrap_or_else(|_| HeaderValue::from_static("?"))
}

/// A Location as a path on the same backend; `None` if it leads elsewhere, or some client could
/// read it so.
pub(in crate::path) fn path_on(domain: &Domain, location: &HeaderValue) -> Option<HeaderValue> {
    let text = location.to_str().ok()?;
    // Browsers read a backslash as a slash, and drop tabs and newlines (WHATWG URL §4.4).
    if text.bytes().any(|b| !b.is_ascii_graphic() || b == b'\\') {
        return None;
    }
    let (authority, path) = if let Some(rest) = strip_scheme(text)? {
        split_authority(rest)
    } else if let Some(rest) = text.strip_prefix("//") {
        split_authority(rest)
    } else {
        return Some(location.clone());
    };
    let host = authority.strip_suffix(":443").unwrap_or(authority);
    if !host.eq_ignore_ascii_case(domain.as_str()) || path.starts_with("//") {
        return None;
    }
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    HeaderValue::from_str(&path).ok()
}

/// What follows `https://`; `Some(None)` without a scheme, `None` with another scheme.
fn strip_scheme(text: &str) -> Option<Option<&str>> {
    let end = text.find([':', '/', '?', '#']);
    match end.map(|end| text.split_at(end)) {
        Some((scheme, rest)) if rest.starts_with(':') => {
            if !scheme.eq_ignore_ascii_case("https") {
                return None;
            }
            rest.strip_prefix("://").map(Some)
        }
        _ => Some(None),
    }
}

fn split_authority(text: &str) -> (&str, &str) {
    text.split_at(text.find(['/', '?', '#']).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_request_keeps_what_is_end_to_end() {
        let mut headers = map(&[
            ("connection", "close, X-Hop"),
            ("connection", "x-hop-two, content-type, Content-Encoding"),
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
            ("x-hop", "1"),
            ("x-hop-two", "1"),
            ("keep-alive", "1"),
            ("proxy-authorization", "secret"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-backend-domain", "a"),
            ("x-request-hash", "a"),
            ("x-verified-proxy-token", "a"),
            ("expect", "100-continue"),
            ("host", "localhost"),
            ("authorization", "Bearer k"),
            ("x-unknown", "kept"),
        ]);
        strip_request(&mut headers);
        assert_eq!(
            names(&headers),
            [
                "authorization",
                "content-encoding",
                "content-type",
                "x-unknown"
            ]
        );
    }

    #[test]
    fn a_key_is_added_where_there_is_none() {
        let key = ApiKey::new("sk-injected").unwrap();
        let added = |own: &[&str]| {
            let pairs: Vec<_> = own.iter().map(|value| ("authorization", *value)).collect();
            let mut headers = map(&pairs);
            add_key(&mut headers, &key);
            let values = headers.get_all("authorization").iter();
            values
                .map(|value| value.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        for none in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &["bearer EMPTY"],
            &["Bearer DUMMY_KEY"],
            &["Bearer not-needed", "Bearer x"],
        ] {
            assert_eq!(added(none), ["Bearer sk-injected"], "{none:?}");
        }
        let mut anthropic = map(&[("x-api-key", "sk-own"), ("authorization", "Bearer x")]);
        add_key(&mut anthropic, &key);
        assert_eq!(anthropic["authorization"], "Bearer x");
        anthropic.insert("x-api-key", "not-needed".parse().unwrap());
        add_key(&mut anthropic, &key);
        assert_eq!(anthropic["authorization"], "Bearer sk-injected");
        assert!(!anthropic.contains_key("x-api-key"));
        for own in [
            &["Bearer sk-own"][..],
            &["Basic dTpw"],
            &["Bearer x", "Bearer sk-own"],
        ] {
            assert_eq!(added(own), own, "{own:?}");
        }
    }

    #[test]
    fn a_response_cannot_speak_for_the_proxy() {
        let mut headers = map(&[
            ("x-verified-proxy-verdict", "forged"),
            ("X-Verified-Proxy-Anything", "forged"),
            ("alt-svc", "h3=\":443\""),
            ("access-control-allow-origin", "*"),
            ("refresh", "0; url=https://elsewhere.example"),
            ("content-encoding", "gzip"),
        ]);
        strip_response(&mut headers);
        assert_eq!(names(&headers), ["content-encoding"]);
    }

    #[test]
    fn an_answer_has_one_length() {
        let settled = |pairs: &[(&str, &str)]| {
            let mut headers = map(pairs);
            settle_length(&mut headers).map(|stated| {
                let lengths = headers.get_all("content-length").iter();
                let lengths = lengths.map(|value| value.to_str().unwrap().to_owned());
                (stated, lengths.collect::<Vec<_>>())
            })
        };
        let (te, cl) = ("transfer-encoding", "content-length");
        let none = Vec::new();
        assert_eq!(settled(&[]), Ok((Stated::Once, none.clone())));
        let chunked = settled(&[(te, "Chunked")]);
        assert_eq!(chunked, Ok((Stated::Once, none.clone())));
        let both = settled(&[(te, "Chunked"), (cl, "5")]);
        assert_eq!(both, Ok((Stated::TwoWays, none)));
        for pairs in [&[(cl, "5")][..], &[(cl, "5, 5")], &[(cl, "5"), (cl, "05")]] {
            assert_eq!(settled(pairs), Ok((Stated::Once, vec!["5".to_owned()])));
        }
        for pairs in [
            &[(te, "gzip, chunked")][..],
            &[(te, "gzip")],
            &[(te, "chunked"), (te, "chunked")],
            &[(cl, "5, 6")],
            &[(cl, "5"), (cl, "6")],
            &[(cl, "+5")],
            &[(cl, "")],
        ] {
            assert!(settled(pairs).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn locations_stay_on_the_backend() {
        let domain: Domain = "a.example.com".parse().unwrap();
        let path = |text: &str| {
            path_on(&domain, &HeaderValue::from_str(text).unwrap())
                .map(|value| value.to_str().unwrap().to_owned())
        };
        for (location, expected) in [
            ("/v1/x?y#z", "/v1/x?y#z"),
            ("x/y", "x/y"),
            ("?a=b", "?a=b"),
            ("https://a.example.com/v1", "/v1"),
            ("HTTPS://A.example.com:443/v1?q", "/v1?q"),
            ("https://a.example.com", "/"),
            ("https://a.example.com?q", "/?q"),
            ("//a.example.com/v1", "/v1"),
        ] {
            assert_eq!(path(location).as_deref(), Some(expected), "{location}");
        }
        for location in [
            "https://evil.example/v1",
            "http://a.example.com/v1",
            "//evil.example/",
            "///evil.example/",
            "https://a.example.com//evil.example/",
            "https://a.example.com@evil.example/",
            "https://a.example.com:8443/",
            "https:evil.example",
            "https:/evil.example",
            "javascript:alert(1)",
            "/\\evil.example",
            "\\\\evil.example",
            "/\tx",
        ] {
            assert_eq!(path(location), None, "{location}");
        }
    }
}
