//! Decides which requests may use the port. It listens on this machine, where web pages and
//! other users can reach it as the user can.
//!
//! - A page that rebinds its name to 127.0.0.1 sends its name in `Host` (threats.md C1).
//! - A page that posts across origins sends `Origin` or `Sec-Fetch-Site` (threats.md C2).
//! - Another user of the machine, or of the network, has no token (threats.md C3).
//!
//! Pure: headers in, a decision out.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use attest::LeastLevels;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::least;
use crate::secrets::{ClientTokens, may_be_token};

/// A client's token, for clients whose `Authorization` has an API key of their own.
const TOKEN: HeaderName = HeaderName::from_static("x-verified-proxy-token");
/// Where Anthropic's clients send the API key.
pub(crate) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Pages that may use the proxy: those of an origin (RFC 6454 §6.2), or all of a scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

/// Of `SCHEME://*`: each window of an editor, and each installation of an extension, has a host
/// of its own.
const EVERY_HOST: &str = "*";

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.eq_ignore_ascii_case(OPAQUE) {
            return Err(
                "null is the origin of every sandboxed frame, of any site, so it cannot be allowed; serve the page at an address such as http://localhost:3000 and allow that"
                    .to_owned(),
            );
        }
        // Copied from an address bar.
        let origin = text.strip_suffix('/').unwrap_or(text);
        if let Some((scheme, EVERY_HOST)) = origin.split_once("://") {
            let scheme = scheme.to_ascii_lowercase();
            return match scheme.as_str() {
                "http" | "https" => Err(format!(
                    "{text:?} would allow every page of the web; name one origin, such as https://chat.example"
                )),
                scheme if is_scheme(scheme) => Ok(Self(format!("{scheme}://{EVERY_HOST}"))),
                _ => Err(not_an_origin(text)),
            };
        }
        // All files have one origin, which only programs give them: browsers say "null".
        let origin = match origin {
            "file:/" => "file://",
            origin => origin,
        };
        normal(origin).map(Self).ok_or_else(|| not_an_origin(text))
    }
}

fn not_an_origin(text: &str) -> String {
    format!(
        "expected an origin, which is a scheme, a host and perhaps a port, without a path, such as https://chat.example, file:// or vscode-webview://*; got {text:?}"
    )
}

/// What browsers send for a page whose origin is of no use to compare (RFC 6454 §7.3).
const OPAQUE: &str = "null";

/// An origin as browsers write it; none if the text is something else.
fn normal(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let (scheme, authority) = lower.split_once("://")?;
    if lower == "file://" {
        return Some(lower);
    }
    let parsed: Authority = authority.parse().ok()?;
    if !is_scheme(scheme) || authority.contains(['@', '*']) || parsed.host().is_empty() {
        return None;
    }
    // Browsers omit the default port.
    let usual = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let authority = match usual {
        "" => authority,
        usual => authority.strip_suffix(usual).unwrap_or(authority),
    };
    Some(format!("{scheme}://{authority}"))
}

/// RFC 3986 §3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

impl Origin {
    /// True if this is the origin of the page, which is normal, or its scheme.
    fn allows(&self, page: &str) -> bool {
        match self.0.strip_suffix(EVERY_HOST) {
            Some(scheme) => page.starts_with(scheme),
            None => self.0 == page,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name by which the proxy may be addressed, without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(String);

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match host_of(text) {
            Some((host, None)) if !host.contains('*') => Ok(Self(host)),
            _ => Err(format!(
                "expected a host name or an IP address without a port, got {text:?}"
            )),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The names, pages and tokens that may use the port.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// Names in `Host` beside those of loopback.
    pub hosts: Vec<HostName>,
    /// Origins of pages that may use the proxy.
    pub origins: Vec<Origin>,
    /// If given, each request needs one of these.
    pub tokens: Option<ClientTokens>,
}

/// Why a request is refused before it is routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAdmitted {
    Host,
    Origin,
    /// The page's origin is `null`.
    OpaqueOrigin,
    Token,
    /// It demands unknown levels.
    Require,
}

/// An admitted request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admitted {
    /// The page's origin, which may read the answer.
    pub origin: Option<HeaderValue>,
    /// It is a preflight (Fetch §4.8).
    pub preflight: bool,
    /// A browser will display the answer, or run it.
    pub shown: bool,
    /// The levels that the request and its token demand of the verdict, beyond the policy.
    pub least: LeastLevels,
    /// The place of its token in the file of tokens.
    pub token: Option<usize>,
}

impl Guard {
    /// Judges a request that came to the address `local`. Removes the token, which backends
    /// must not see.
    pub(crate) fn admit(
        &self,
        head: &mut Parts,
        local: Option<IpAddr>,
    ) -> Result<Admitted, NotAdmitted> {
        let probe = is_probe(&head.method, head.uri.path());
        // The target of CONNECT is always another host. It is never forwarded, and its error is
        // more helpful.
        if !self.is_addressed(head, local, probe) && head.method != Method::CONNECT {
            return Err(NotAdmitted::Host);
        }
        let origin = self.page(&head.headers)?;
        // Only a page of an allowed origin can send a preflight, which has no token (Fetch
        // §4.8).
        let preflight = origin.is_some()
            && head.method == Method::OPTIONS
            && head
                .headers
                .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        // The document of the proxy's own page contains no data and asks for a token: a browser
        // cannot send one by itself.
        let document = is_document(&head.method, head.uri.path());
        let (token, of_token) = if preflight || document || probe {
            (None, LeastLevels::default())
        } else {
            self.take_token(&mut head.headers)?
        };
        let asked = least::of_headers(&head.headers).map_err(|()| NotAdmitted::Require)?;
        Ok(Admitted {
            origin,
            preflight,
            shown: is_shown(&head.method, &head.headers),
            least: of_token.and(asked),
            token,
        })
    }

    /// Judges a request on a listener that answers supervisors and Prometheus only. They have
    /// no token, and often know the proxy by an address that it does not know itself.
    ///
    /// # Errors
    /// If a web page sent it, or its `Host` is a name that is not the proxy's.
    pub fn admit_probe(&self, head: &Parts, local: Option<IpAddr>) -> Result<(), NotAdmitted> {
        if !self.is_addressed(head, local, true) {
            return Err(NotAdmitted::Host);
        }
        self.page(&head.headers).map(drop)
    }

    /// Whether each host that the request names is the proxy's; or `any_address`.
    fn is_addressed(&self, head: &Parts, local: Option<IpAddr>, any_address: bool) -> bool {
        // RFC 9112 §3.2.2 prefers the target's authority over Host. If a request has
        // both, both must be allowed.
        let hosts = head.headers.get_all(header::HOST).iter();
        let mut hosts = hosts.map(HeaderValue::to_str).map(Result::ok);
        let target = head.uri.authority().map(|target| Some(target.as_str()));
        let allowed = |host: Option<&str>| {
            host.is_some_and(|host| self.is_own(host, local) || any_address && is_address(host))
        };
        hosts.all(allowed) && target.is_none_or(allowed)
    }

    /// A name of loopback, the address that was connected to, or a name that the user allows.
    fn is_own(&self, host: &str, local: Option<IpAddr>) -> bool {
        let Some((host, _)) = host_of(host) else {
            return false;
        };
        // But not its subdomains, which some resolvers look up outside the machine.
        if host == "localhost" {
            return true;
        }
        if let Ok(ip) = host.parse::<IpAddr>()
            && (ip.is_loopback() || local.is_some_and(|local| local.to_canonical() == ip))
        {
            return true;
        }
        self.hosts.iter().any(|own| own.0 == host)
    }

    /// The page behind a request: `None`, or an origin that may use the proxy.
    fn page(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, NotAdmitted> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => {
                let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
                // "none": the user typed the address; "same-origin": the proxy's own page. A
                // page on another port of this machine is "same-site".
                let own = |site: &HeaderValue| matches!(site.as_bytes(), b"none" | b"same-origin");
                sites.all(own).then_some(None).ok_or(NotAdmitted::Origin)
            }
            (Some(origin), None) => {
                let text = origin.to_str().map_err(|_| NotAdmitted::Origin)?;
                if text == OPAQUE {
                    return Err(NotAdmitted::OpaqueOrigin);
                }
                let page = normal(text).ok_or(NotAdmitted::Origin)?;
                if self.origins.iter().any(|allowed| allowed.allows(&page)) {
                    return Ok(Some(origin.clone()));
                }
                // The proxy's own page: its `Host` has been found to be the proxy's.
                let host = headers
                    .get(header::HOST)
                    .and_then(|host| host.to_str().ok());
                let own = host.and_then(|host| normal(&format!("http://{host}")));
                if own == Some(page) {
                    return Ok(None);
                }
                Err(NotAdmitted::Origin)
            }
            (Some(_), Some(_)) => Err(NotAdmitted::Origin),
        }
    }

    /// The place of the request's first token, and the levels that its tokens demand together.
    fn take_token(
        &self,
        headers: &mut HeaderMap,
    ) -> Result<(Option<usize>, LeastLevels), NotAdmitted> {
        let own = headers.remove(TOKEN);
        let Some(tokens) = &self.tokens else {
            return Ok((None, LeastLevels::default()));
        };
        let both = |(place, one): (usize, LeastLevels), (_, other)| (place, one.and(other));
        let known = |value: &HeaderValue, token: fn(&str) -> Option<&str>| {
            tokens.know(value.to_str().ok().and_then(token)?)
        };
        let mut admitted = own.and_then(|value| known(&value, |text| Some(text.trim())));
        for (name, token) in [
            (header::AUTHORIZATION, bearer as fn(&str) -> Option<&str>),
            (X_API_KEY, |text| Some(text.trim())),
        ] {
            let values = headers.get_all(&name).iter();
            let lets_in = values.filter_map(|value| known(value, token));
            admitted = admitted.into_iter().chain(lets_in).reduce(both);
        }
        let (place, least) = admitted.ok_or(NotAdmitted::Token)?;
        // A token in another place or form does not authorise, but must not reach a backend
        // either.
        let with_token: Vec<HeaderName> = headers
            .iter()
            .filter(|(_, value)| words(value).any(|word| tokens.know(word).is_some()))
            .map(|(name, _)| name.clone())
            .collect();
        for name in with_token {
            headers.remove(name);
        }
        Ok((Some(place), least))
    }
}

/// What could be a token in a header: its words, parts of lists, and values of parameters and
/// cookies. Tokens may contain the characters that separate these.
fn words(value: &HeaderValue) -> impl Iterator<Item = &str> {
    let by_blanks = value.as_bytes().split(u8::is_ascii_whitespace);
    let is_mark = |byte: &u8| b" \t,;\"'".contains(byte);
    let by_marks = value.as_bytes().split(is_mark);
    by_blanks
        .chain(by_marks)
        .filter_map(|word| std::str::from_utf8(word).ok())
        .flat_map(|word| {
            let after = |mark| word.split_once(mark).map(|(_, rest)| rest);
            [Some(word), after('='), after(':')]
        })
        .flatten()
        .filter(|word| may_be_token(word))
}

/// True for the document of the proxy's own page. It contains no data, so a browser gets it
/// without a token, and it asks for one.
fn is_document(method: &Method, path: &str) -> bool {
    matches!(*method, Method::GET | Method::HEAD) && path == "/_proxy/"
}

/// True for what supervisors ask. It tells nothing of requests, so it needs no token: those who
/// set probes up have none to give. They ask the address of a container or a balancer, which no
/// page can rebind: a browser sends the page's name (threats.md C1).
fn is_probe(method: &Method, path: &str) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
        && matches!(path, "/_proxy/live" | "/_proxy/ready")
}

/// Whether the host of `Host` is an IP address.
fn is_address(host: &str) -> bool {
    host_of(host).is_some_and(|(host, _)| host.parse::<IpAddr>().is_ok())
}

/// True if a browser displays the answer or runs it: as a document, frame, image or script.
/// What a page fetches has the destination "empty" (Fetch §2.2.7); programs send none.
///
/// Browsers send no destination to addresses that they do not trust, such as 192.168.1.5, and
/// Safari does not before 16.4: there a browser's GET counts as displayed. All of them send the
/// origin of a page that posts.
pub(crate) fn is_shown(method: &Method, headers: &HeaderMap) -> bool {
    let mut destinations = headers.get_all(SEC_FETCH_DEST).iter().peekable();
    if destinations.peek().is_some() {
        return destinations.any(|destination| destination.as_bytes() != b"empty");
    }
    let agent = headers.get(header::USER_AGENT);
    let is_browser = agent.is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/"));
    let asks = matches!(*method, Method::GET | Method::HEAD);
    asks && is_browser && !headers.contains_key(header::ORIGIN)
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750 §2.1).
pub(crate) fn bearer(credentials: &str) -> Option<&str> {
    let credentials = credentials.trim();
    let (scheme, token) = credentials.split_once(' ').unwrap_or((credentials, ""));
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Host and port of `Host` (RFC 9110 §7.2): in lower case, an IPv6 address without brackets, a
/// name without its final dot.
fn host_of(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, rest)
        }
        None if text.parse::<std::net::Ipv6Addr>().is_ok() => (text, ""),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        None => return None,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (!port.is_empty()).then(|| port.parse()).transpose().ok()?
        }
        Some(_) => return None,
    };
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    (!host.is_empty() && host.chars().all(is_host)).then_some((host, port))
}

#[cfg(test)]
mod tests;
