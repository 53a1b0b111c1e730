//! Host names, ports and where connections go: `--connect-to`, DNS and TCP.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// The `User-Agent` of probes and fetches.
pub const USER_AGENT: &str = concat!("verified-proxy/", env!("CARGO_PKG_VERSION"));

/// hyper's buffer for a message's head, or for a body that comes faster than it is sent on, in
/// each direction of a connection; the buffer may grow to twice that. hyper's default is 400
/// KiB: a thousand clients that do not read, or send half a head, would occupy half a gigabyte.
/// nginx accepts heads of 32 KiB (large_client_header_buffers 4 8k). What is read at a time
/// should also stay in the processor's cache until it is encrypted: 400 KiB cost a fifth more
/// CPU for an upload (bench/run).
pub const MAX_HTTP_BUFFER: usize = 64 << 10;

/// Delay before the next address is tried in parallel (recommended by RFC 8305 §5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Addresses of one name. A hostile resolver may return thousands.
const MAX_ADDRESSES: usize = 16;

/// TCP keepalive. A peer that vanished, or a middlebox that dropped the connection, sends
/// nothing. After a minute of silence the kernel probes, and after another minute it gives the
/// connection up: an answer may take an hour to begin, and a dead peer should not cost that
/// long.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

/// A TCP connection to the first of a name's addresses that accepts. An address that does not
/// answer, as with IPv6 in many networks, does not delay the others (RFC 8305).
///
/// It opens the network: clippy.toml bans it outside `fetch.rs` and upstream's `dial.rs`.
pub async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = tokio::net::lookup_host((host, port)).await?;
    let stream = first_that_answers(in_turn(addresses)).await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE)?;
    Ok(stream)
}

/// Alternates the address families, beginning with that of the resolver's first address (RFC
/// 8305 §4).
fn in_turn(addresses: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let all: Vec<_> = addresses.take(MAX_ADDRESSES).collect();
    let first_is_v6 = all.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut turns = VecDeque::new();
    loop {
        let before = turns.len();
        turns.extend(one.next());
        turns.extend(other.next());
        if turns.len() == before {
            return turns;
        }
    }
}

async fn first_that_answers(mut addresses: VecDeque<SocketAddr>) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut attempts = FuturesUnordered::new();
    loop {
        if let Some(address) = addresses.pop_front() {
            #[expect(
                clippy::disallowed_methods,
                reason = "for the callers of tcp, which are banned in its place"
            )]
            attempts.push(TcpStream::connect(address));
        }
        tokio::select! {
            attempt = attempts.next() => match attempt {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => failure = error,
                None => return Err(failure),
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if !addresses.is_empty() => {}
        }
    }
}

/// One `--connect-to HOST:PORT:HOST2:PORT2`, as in curl: connections for HOST:PORT go to
/// HOST2:PORT2. An empty HOST or PORT matches any, an empty HOST2 or PORT2 changes nothing. The
/// names in TLS and HTTP stay the same, so nothing less is proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectTo {
    from: (Option<String>, Option<u16>),
    to: (Option<String>, Option<u16>),
}

impl FromStr for ConnectTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (from_host, rest) = split_host(text)?;
            let (from_port, rest) = rest.split_once(':')?;
            let (to_host, to_port) = split_host(rest)?;
            Some(Self {
                from: (from_host, parse_port(from_port)?),
                to: (to_host, parse_port(to_port)?),
            })
        };
        parse().ok_or_else(|| format!("expected HOST:PORT:HOST2:PORT2, got {text:?}"))
    }
}

/// A host (IPv6 in brackets, `None` if empty) and the text after its colon.
fn split_host(text: &str) -> Option<(Option<String>, &str)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']')?;
            (host, rest.strip_prefix(':')?)
        }
        None => text.split_once(':')?,
    };
    Some(((!host.is_empty()).then(|| host.to_ascii_lowercase()), rest))
}

fn parse_port(text: &str) -> Option<Option<u16>> {
    if text.is_empty() {
        return Some(None);
    }
    text.parse().ok().map(Some)
}

/// All `--connect-to` in order. The first that matches counts.
#[derive(Debug, Clone, Default)]
pub struct ConnectMap(Vec<ConnectTo>);

impl ConnectMap {
    pub fn new(entries: Vec<ConnectTo>) -> Self {
        Self(entries)
    }

    /// Where a connection for `host:port` goes.
    pub fn target(&self, host: &str, port: u16) -> (String, u16) {
        let matching = self.0.iter().find(|entry| {
            let (from_host, from_port) = &entry.from;
            from_host
                .as_ref()
                .is_none_or(|from| from.eq_ignore_ascii_case(host))
                && from_port.is_none_or(|from| from == port)
        });
        match matching {
            Some(ConnectTo {
                to: (to_host, to_port),
                ..
            }) => (
                to_host.clone().unwrap_or_else(|| host.to_owned()),
                to_port.unwrap_or(port),
            ),
            None => (host.to_owned(), port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn families_take_turns_and_are_bounded() {
        let all = ["[::1]:1", "[::2]:1", "1.1.1.1:1", "[::3]:1", "2.2.2.2:1"].map(address);
        let expected = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"].map(address);
        assert_eq!(in_turn(all.into_iter()), expected);
        assert!(in_turn(std::iter::empty()).is_empty());
        let many = std::iter::repeat_n(address("1.1.1.1:1"), 10_000);
        assert_eq!(in_turn(many).len(), MAX_ADDRESSES);
    }

    /// A listener whose queue is full: the kernel drops further connection attempts.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_silent_address_delays_no_other() {
        use tokio::net::{TcpListener, TcpSocket};
        let silent = TcpSocket::new_v4().unwrap();
        silent.bind(address("127.0.0.1:0")).unwrap();
        let silent = silent.listen(1).unwrap();
        let black_hole = silent.local_addr().unwrap();
        let mut queue = Vec::new();
        let connect = || {
            let connect = first_that_answers([black_hole].into());
            tokio::time::timeout(Duration::from_millis(300), connect)
        };
        while let Ok(stream) = connect().await {
            queue.push(stream.unwrap());
        }
        let good = TcpListener::bind(address("127.0.0.1:0")).await.unwrap();
        let good = good.local_addr().unwrap();
        let stream = first_that_answers([black_hole, good].into());
        let stream = tokio::time::timeout(Duration::from_secs(10), stream).await;
        assert_eq!(stream.unwrap().unwrap().peer_addr().unwrap(), good);
    }

    #[tokio::test]
    async fn the_last_failure_is_told() {
        let closed = tokio::net::TcpListener::bind(address("127.0.0.1:0")).await;
        let closed = closed.unwrap().local_addr().unwrap();
        let error = first_that_answers([closed, closed].into()).await;
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let none = first_that_answers(VecDeque::new()).await.unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }

    fn target(entries: &[&str], host: &str, port: u16) -> (String, u16) {
        ConnectMap::new(entries.iter().map(|text| text.parse().unwrap()).collect())
            .target(host, port)
    }

    #[test]
    fn connect_to_has_curls_meaning() {
        let to = |host: &str, port| (host.to_owned(), port);
        assert_eq!(
            target(&["a.example:443:127.0.0.1:8443"], "A.example", 443),
            to("127.0.0.1", 8443)
        );
        assert_eq!(
            target(&["a.example:443:127.0.0.1:8443"], "a.example", 80),
            to("a.example", 80)
        );
        assert_eq!(target(&["::[::1]:8443"], "b.example", 443), to("::1", 8443));
        assert_eq!(
            target(&["::127.0.0.1:"], "b.example", 443),
            to("127.0.0.1", 443)
        );
        assert_eq!(
            target(&[":443::1", "::x:2"], "b.example", 443),
            to("b.example", 1)
        );
    }

    #[test]
    fn other_shapes_do_not_parse() {
        for text in [
            "",
            "a",
            "a:1",
            "a:1:b",
            "a:x:b:1",
            "a:1:b:70000",
            "[::1:1:b:2",
            "a:1:b:2:3",
        ] {
            assert!(text.parse::<ConnectTo>().is_err(), "{text}");
        }
    }
}
