//! Who may use the port. It listens on this machine, where web pages and other
//! users are as close as the user is.
//!
//! - A page that rebinds its name to 127.0.0.1 shows its name in `Host`
//!   (threats.md C1).
//! - A page that posts across origins shows `Origin` or `Sec-Fetch-Site`
//!   (threats.md C2).
//! - Another user of the machine, or of the network, has no token (threats.md C3).
//!
//! Pure: headers in, a verdict out.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use attest::LeastLevels;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::least;
use crate::secrets::ClientTokens;

/// A client's token, for clients that have a key of their own in `Authorization`.
const TOKEN: HeaderName = HeaderName::from_static("x-verified-proxy-token");
/// Where Anthropic's clients put what others put in `Authorization`.
pub(crate) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// An origin that may use the proxy: scheme, host and port (RFC 6454 §6.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!(
                "expected an origin, which is a scheme, a host and perhaps a port, such as https://chat.example; got {text:?}"
            )
        };
        let lower = text.to_ascii_lowercase();
        let (scheme, authority) = lower.split_once("://").ok_or_else(wrong)?;
        let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let parsed: Authority = authority.parse().map_err(|_| wrong())?;
        if !scheme_fits || authority.contains(['@', '*']) || parsed.host().is_empty() {
            return Err(wrong());
        }
        // Browsers leave the usual port out.
        let usual = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => "",
        };
        let authority = match usual {
            "" => authority,
            usual => authority.strip_suffix(usual).unwrap_or(authority),
        };
        Ok(Self(format!("{scheme}://{authority}")))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name under which the proxy may be asked, without a port.
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

/// Who may use the port.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// Names in `Host` beside those of this machine's loopback.
    pub hosts: Vec<HostName>,
    /// Origins of pages that may use the proxy.
    pub origins: Vec<Origin>,
    /// If given, each request has to bring one.
    pub tokens: Option<ClientTokens>,
}

/// Why a request is not looked at any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAdmitted {
    Host,
    Origin,
    Token,
    /// It asks for levels that nobody knows.
    Require,
}

/// A request that may go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admitted {
    /// The page's origin, which may read the answer.
    pub origin: Option<HeaderValue>,
    /// A browser asks whether it may ask (Fetch §4.8).
    pub preflight: bool,
    /// A browser will show the answer, or run it.
    pub shown: bool,
    /// What the request and its token ask of the verdict, beyond the policy.
    pub least: LeastLevels,
}

impl Guard {
    /// Judges a request that came to the address `local`; takes the token out of
    /// it, which is nobody's business behind the proxy.
    pub(crate) fn admit(
        &self,
        head: &mut Parts,
        local: Option<IpAddr>,
    ) -> Result<Admitted, NotAdmitted> {
        // RFC 9112 §3.2.2 prefers the target's authority over Host. If a request has
        // both, both must be allowed.
        let hosts = head.headers.get_all(header::HOST).iter();
        let mut hosts = hosts.map(HeaderValue::to_str).map(Result::ok);
        let target = head.uri.authority().map(|target| Some(target.as_str()));
        let allowed = |host: Option<&str>| host.is_some_and(|host| self.is_own(host, local));
        let own = hosts.all(allowed) && target.is_none_or(allowed);
        // CONNECT, whose target is another host by its nature, is never forwarded and
        // has an answer of its own that helps.
        if !own && head.method != Method::CONNECT {
            return Err(NotAdmitted::Host);
        }
        let origin = self.page(&head.headers)?;
        // Only a page that was let in can ask whether it may ask; it has no token
        // yet (Fetch §4.8 sends none).
        let preflight = origin.is_some()
            && head.method == Method::OPTIONS
            && head
                .headers
                .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        // The document of the proxy's own page holds nothing, and asks for a token:
        // a browser sends none by itself.
        let document = is_document(&head.method, head.uri.path());
        let of_token = if preflight || document {
            LeastLevels::default()
        } else {
            self.take_token(&mut head.headers)?
        };
        let asked = least::of_headers(&head.headers).map_err(|()| NotAdmitted::Require)?;
        Ok(Admitted {
            origin,
            preflight,
            shown: is_shown(&head.method, &head.headers),
            least: of_token.and(asked),
        })
    }

    /// A name of this machine's loopback, the address that was connected to, or
    /// one that the user allows.
    fn is_own(&self, host: &str, local: Option<IpAddr>) -> bool {
        let Some((host, _)) = host_of(host) else {
            return false;
        };
        // Not the names below it, which not every resolver keeps on the machine.
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

    /// The page behind a request: none, or one that may use the proxy.
    fn page(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, NotAdmitted> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => {
                let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
                // "none": the user typed the address; "same-origin": the proxy's own
                // page. A page on another port of this machine is "same-site".
                let own = |site: &HeaderValue| matches!(site.as_bytes(), b"none" | b"same-origin");
                sites.all(own).then_some(None).ok_or(NotAdmitted::Origin)
            }
            (Some(origin), None) => {
                let text = origin.to_str().map_err(|_| NotAdmitted::Origin)?;
                let parsed: Origin = text.parse().map_err(|_| NotAdmitted::Origin)?;
                if self.origins.contains(&parsed) {
                    return Ok(Some(origin.clone()));
                }
                // The proxy's own page: its host was found to be the proxy's.
                let host = headers
                    .get(header::HOST)
                    .and_then(|host| host.to_str().ok());
                let own = host.and_then(|host| format!("http://{host}").parse().ok());
                if own == Some(parsed) {
                    return Ok(None);
                }
                Err(NotAdmitted::Origin)
            }
            (Some(_), Some(_)) => Err(NotAdmitted::Origin),
        }
    }

    /// What the tokens of a request ask of its verdict, taken together.
    fn take_token(&self, headers: &mut HeaderMap) -> Result<LeastLevels, NotAdmitted> {
        let own = headers.remove(TOKEN);
        let Some(tokens) = &self.tokens else {
            return Ok(LeastLevels::default());
        };
        let known = |value: &HeaderValue, token: fn(&str) -> Option<&str>| {
            tokens.know(value.to_str().ok().and_then(token)?)
        };
        let mut admitted = own.and_then(|value| known(&value, |text| Some(text.trim())));
        // A token never goes on to a backend, also where another one let it in.
        for (name, token) in [
            (header::AUTHORIZATION, bearer as fn(&str) -> Option<&str>),
            (X_API_KEY, |text| Some(text.trim())),
        ] {
            let values = headers.get_all(&name).iter();
            let lets_in = values
                .filter_map(|value| known(value, token))
                .reduce(LeastLevels::and);
            // A known token in another form (without `Bearer`, for example) does not
            // authorise, but is removed too: it must not reach a backend.
            let last_word: fn(&str) -> Option<&str> = |text| text.split_whitespace().next_back();
            let mut values = headers.get_all(&name).iter();
            if lets_in.is_some() || values.any(|value| known(value, last_word).is_some()) {
                headers.remove(&name);
            }
            admitted = admitted.into_iter().chain(lets_in).reduce(LeastLevels::and);
        }
        admitted.ok_or(NotAdmitted::Token)
    }
}

/// True for the document of the proxy's own page. It holds nothing, so it is shown
/// to a browser that has no token yet, and asks for one.
fn is_document(method: &Method, path: &str) -> bool {
    matches!(*method, Method::GET | Method::HEAD) && path == "/_proxy/"
}

/// Whether the answer becomes a document, a frame, a picture, a script: what a page
/// fetches has the destination "empty" (Fetch §2.2.7), and programs send none.
///
/// Nor do browsers to an address that they do not trust, such as 192.168.1.5, and
/// Safari before 16.4: where one asks for something and says nothing, it is shown.
/// All of them say who a page is that posts.
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

/// Host and port of `Host` (RFC 9110 §7.2): lower case, an IPv6 address without
/// brackets, a name without its final dot.
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
