//! Proxies for outgoing connections: which one, if any, a connection goes through.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::uri::Authority;
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::is_loopback;

/// How a proxy is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP's CONNECT (RFC 9110 §9.3.6).
    Http,
    /// The same inside TLS.
    Https,
    /// SOCKS 5 (RFC 1928).
    Socks5,
}

/// A user name and password. They cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    user: Zeroizing<String>,
    password: Zeroizing<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl Credentials {
    /// The value of `Proxy-Authorization` (RFC 7617), marked as sensitive.
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        let pair = Zeroizing::new(format!("{}:{}", *self.user, *self.password));
        let basic = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
        let mut value = HeaderValue::from_str(&basic).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// For SOCKS (RFC 1929 §2). `None` if they are too long for it.
    pub(super) fn socks(&self) -> Option<Zeroizing<Vec<u8>>> {
        let mut message = Zeroizing::new(Vec::with_capacity(3 + 2 * 255));
        message.push(1);
        for word in [&self.user, &self.password] {
            message.push(u8::try_from(word.len()).ok()?);
            message.extend_from_slice(word.as_bytes());
        }
        Some(message)
    }
}

/// A proxy. It is shown without its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    pub(super) protocol: Protocol,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) credentials: Option<Credentials>,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.protocol {
            Protocol::Http => "http",
            Protocol::Https => "https",
            Protocol::Socks5 => "socks5h",
        };
        write!(f, "{scheme}://{}", authority(&self.host, self.port))
    }
}

impl Proxy {
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Why a text names no proxy. It repeats nothing of the text, which may contain a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyUrlError {
    #[error(
        "SOCKS 4 is not supported; name a proxy that speaks SOCKS 5 (socks5h://HOST:PORT) or HTTP (http://HOST:PORT)"
    )]
    Socks4,
    #[error(
        "a proxy begins with http://, https:// or socks5h://, and the password must be percent-encoded"
    )]
    Scheme,
    #[error(
        "not a proxy: expected http://HOST:PORT, https://HOST:PORT or socks5h://HOST:PORT, with USER:PASSWORD@ before HOST if it asks for them"
    )]
    Malformed,
    #[error("a user name or password for SOCKS has at most 255 bytes")]
    TooLong,
}

impl FromStr for Proxy {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        // As in curl, a text without a scheme is an HTTP proxy.
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        // As in Go, `socks5` leaves names to the proxy too: no name is looked up here.
        let (protocol, usual) = match &*scheme.to_ascii_lowercase() {
            "http" => (Protocol::Http, 80),
            "https" => (Protocol::Https, 443),
            "socks5" | "socks5h" => (Protocol::Socks5, 1080),
            "socks4" | "socks4a" => return Err(ProxyUrlError::Socks4),
            _ => return Err(ProxyUrlError::Scheme),
        };
        let (user_info, place) = match rest.rsplit_once('@') {
            Some((user_info, place)) => (Some(user_info), place),
            None => (None, rest),
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        let place: Authority = place.parse().map_err(|_| ProxyUrlError::Malformed)?;
        let host = place.host().trim_matches(['[', ']']).to_ascii_lowercase();
        let port = match place.as_str().strip_prefix(place.host()) {
            Some("") => Some(usual),
            rest => rest.and_then(|rest| rest.strip_prefix(':')?.parse().ok()),
        };
        let port = port.filter(|port| *port != 0);
        let (Some(port), false) = (port, host.is_empty()) else {
            return Err(ProxyUrlError::Malformed);
        };
        let credentials = user_info.map(credentials).transpose()?;
        if protocol == Protocol::Socks5
            && credentials
                .as_ref()
                .is_some_and(|one| one.socks().is_none())
        {
            return Err(ProxyUrlError::TooLong);
        }
        Ok(Self {
            protocol,
            host,
            port,
            credentials,
        })
    }
}

fn credentials(user_info: &str) -> Result<Credentials, ProxyUrlError> {
    let decoded = |text: &str| {
        let bytes = Zeroizing::new(percent_decode_str(text).collect::<Vec<u8>>());
        let text = std::str::from_utf8(&bytes).ok()?;
        // A line's end could not stand in a header, and a zero ends strings elsewhere.
        let is_printable = !text.chars().any(char::is_control);
        is_printable.then(|| Zeroizing::new(text.to_owned()))
    };
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    match (decoded(user), decoded(password)) {
        (Some(user), Some(password)) if !user_info.contains('/') => {
            Ok(Credentials { user, password })
        }
        _ => Err(ProxyUrlError::Malformed),
    }
}

/// The proxy for outgoing connections, and where connections go without it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    proxy: Option<Proxy>,
    except: Vec<Except>,
}

impl Proxies {
    /// Connections go through `proxy`, except to those that `no_proxy` names, in the words of
    /// the variable NO_PROXY.
    #[must_use]
    pub fn new(proxy: Proxy, no_proxy: &str) -> Self {
        let entries = no_proxy.split([',', ' ', '\t']);
        Self {
            proxy: Some(proxy),
            except: entries.filter_map(Except::parse).collect(),
        }
    }

    /// Every connection is direct.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The proxy, if one is named.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// What a connection to `host:port` goes through. This machine is never reached through a
    /// proxy: there the name would mean the proxy's machine.
    pub(super) fn between(&self, host: &str, port: u16) -> Option<&Proxy> {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if is_loopback(&host) || self.except.iter().any(|one| one.matches(&host, port)) {
            return None;
        }
        self.proxy.as_ref()
    }
}

/// One entry of NO_PROXY.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Except {
    All,
    /// An address, or a network of its first bits.
    Network(IpAddr, u32),
    /// A name and all below it; one port of it, or all.
    Name(String, Option<u16>),
    /// An address and a port.
    Address(IpAddr, u16),
}

impl Except {
    /// What is no address is a name, which perhaps nothing has; an empty one is nothing.
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim().to_ascii_lowercase();
        if entry == "*" {
            return Some(Self::All);
        }
        if let Some((address, bits)) = entry.split_once('/')
            && let (Ok(address), Ok(bits)) = (bare(address).parse::<IpAddr>(), bits.parse())
        {
            return Some(Self::Network(address, bits));
        }
        if let Ok(address) = bare(&entry).parse() {
            return Some(Self::Network(address, u32::MAX));
        }
        let with_port = entry
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host.to_owned(), port.parse::<u16>().ok()?)));
        let (name, port) = match with_port {
            Some((host, port)) => (host, Some(port)),
            None => (entry, None),
        };
        if let (Ok(address), Some(port)) = (bare(&name).parse(), port) {
            return Some(Self::Address(address, port));
        }
        let name = name.strip_prefix('*').unwrap_or(&name);
        let name = name.strip_prefix('.').unwrap_or(name);
        let name = name.strip_suffix('.').unwrap_or(name);
        (!name.is_empty()).then(|| Self::Name(name.to_owned(), port))
    }

    fn matches(&self, host: &str, port: u16) -> bool {
        let address = host.parse::<IpAddr>();
        match (self, address) {
            (Self::All, _) => true,
            (Self::Network(network, bits), Ok(address)) => is_within(address, *network, *bits),
            (Self::Address(one, at), Ok(address)) => *one == address && *at == port,
            (Self::Name(name, at), Err(_)) => {
                let rest = host.strip_suffix(name.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                    && at.is_none_or(|at| at == port)
            }
            _ => false,
        }
    }
}

fn bare(address: &str) -> &str {
    let inner = address.strip_prefix('[');
    inner
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(address)
}

fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    // Those of an IPv4 address are moved to the left.
    let (address, network) = match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(two)) => (
            u128::from(one.to_bits()) << 96,
            u128::from(two.to_bits()) << 96,
        ),
        (IpAddr::V6(one), IpAddr::V6(two)) => (one.to_bits(), two.to_bits()),
        _ => return false,
    };
    (address ^ network).leading_zeros() >= bits.min(128) || address == network
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(text: &str) -> Proxy {
        text.parse().unwrap()
    }

    #[test]
    fn urls_of_proxies() {
        for (text, shown) in [
            ("http://proxy.example:3128", "http://proxy.example:3128"),
            ("http://proxy.example", "http://proxy.example:80"),
            ("HTTP://Proxy.Example:3128/", "http://proxy.example:3128"),
            ("proxy.example:3128", "http://proxy.example:3128"),
            (" 10.0.0.1:8080 ", "http://10.0.0.1:8080"),
            ("https://proxy.example", "https://proxy.example:443"),
            ("socks5h://[fd00::1]:9050", "socks5h://[fd00::1]:9050"),
            ("socks5://proxy.example", "socks5h://proxy.example:1080"),
            ("socks5h://a:b@h:1", "socks5h://h:1"),
        ] {
            assert_eq!(proxy(text).to_string(), shown, "{text}");
        }
    }

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        let basic = |text: &str| {
            let one = proxy(text);
            let shown = format!("{one} {one:?}");
            for secret in ["anna", "pass", "word"] {
                assert!(!shown.contains(secret), "{shown}");
            }
            let value = one.credentials.unwrap().basic().unwrap();
            assert_eq!(format!("{value:?}"), "Sensitive");
            let text = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
            String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
        };
        assert_eq!(basic("http://anna:pass@h:1"), "anna:pass");
        assert_eq!(basic("anna:pass@h:1"), "anna:pass");
        assert_eq!(basic("http://anna@h:1"), "anna:");
        assert_eq!(
            basic("http://anna:pa%73s%3A%40%2Fword@h:1"),
            "anna:pass:@/word"
        );
        // An unencoded @ belongs to the password, as in curl.
        assert_eq!(basic("http://anna:p@ss:word@h:1"), "anna:p@ss:word");
        let socks = proxy("socks5h://me:pass@h").credentials.unwrap();
        assert_eq!(&**socks.socks().unwrap(), b"\x01\x02me\x04pass");
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_repeating_it() {
        let long = format!("socks5h://me:{}@h", "x".repeat(256));
        for (text, error) in [
            ("socks4://h:1", ProxyUrlError::Socks4),
            ("socks4a://me:pass@h:1", ProxyUrlError::Socks4),
            ("ftp://me:pass@h:1", ProxyUrlError::Scheme),
            ("me://pass@h:1", ProxyUrlError::Scheme),
            ("", ProxyUrlError::Malformed),
            ("http://", ProxyUrlError::Malformed),
            ("http://:3128", ProxyUrlError::Malformed),
            ("http://h:0", ProxyUrlError::Malformed),
            ("http://h:99999", ProxyUrlError::Malformed),
            ("http://h:", ProxyUrlError::Malformed),
            ("http://h/path", ProxyUrlError::Malformed),
            ("http://me:pa/ss@h", ProxyUrlError::Malformed),
            ("http://me:pa%0d%0aX:y@h", ProxyUrlError::Malformed),
            ("http://me:%ff@h", ProxyUrlError::Malformed),
            ("http://a b", ProxyUrlError::Malformed),
            (&long, ProxyUrlError::TooLong),
        ] {
            assert_eq!(text.parse::<Proxy>().unwrap_err(), error, "{text}");
            let said = error.to_string();
            assert!(!said.contains("me:") && !said.contains("pass@"), "{said}");
        }
        let fits = format!("http://me:{}@h", "x".repeat(256));
        assert!(fits.parse::<Proxy>().is_ok());
    }

    #[test]
    fn no_proxy_has_curls_meaning() {
        let direct = |list: &str, host: &str, port| {
            let proxies = Proxies::new(proxy("http://p:1"), list);
            proxies.between(host, port).is_none()
        };
        for (list, host) in [
            ("*", "a.example"),
            ("example.com", "example.com"),
            ("example.com", "www.example.com"),
            (".example.com", "www.example.com"),
            (".example.com", "example.com"),
            ("*.example.com", "www.example.com"),
            ("EXAMPLE.com.", "Www.Example.Com."),
            ("x, example.com ,y", "example.com"),
            ("x example.com", "example.com"),
            ("example.com:443", "example.com"),
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:443", "192.0.2.1"),
            ("192.0.2.0/24", "192.0.2.77"),
            ("0.0.0.0/0", "192.0.2.77"),
            ("2001:db8::/32", "2001:db8:1::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
        ] {
            assert!(direct(list, host, 443), "{list} {host}");
        }
        for (list, host) in [
            ("", "a.example"),
            (",, ,", "a.example"),
            ("example.com", "notexample.com"),
            ("example.com", "example.com.evil.example"),
            ("www.example.com", "example.com"),
            ("example.com:8443", "example.com"),
            ("192.0.2.1", "192.0.2.10"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("192.0.2.0/24", "192.0.3.1"),
            ("192.0.2.0/24", "a.example"),
            ("::/0", "192.0.2.1"),
            ("2001:db8::/32", "2001:db9::1"),
        ] {
            assert!(!direct(list, host, 443), "{list} {host}");
        }
        // This machine, whatever the list says.
        for host in ["localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "::1"] {
            assert!(direct("", host, 443), "{host}");
        }
        assert!(!direct("", "localhost.example", 443));
    }
}
