//! Where clients connect: TCP ports, or a Unix socket that only its owner can open
//! (threats.md C3).

#[cfg(unix)]
mod handed;
#[cfg(unix)]
mod unix;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::net::{TcpListener, TcpStream};

use crate::client_stream::ClientStream;

#[cfg(unix)]
pub use self::handed::{HandedOver, NotUsable};
#[cfg(unix)]
pub use self::unix::UnixSocket;

/// Connections that the kernel completes before they are accepted, as far as it allows
/// (net.core.somaxconn, 4,096 since Linux 5.4). At a queue of 128 a client among 500 that come
/// at once waits a second for its next SYN.
const QUEUE: i32 = 1_024;
/// Between choosing a free port on one address and taking it on the next, another program may
/// take it there.
const MAX_ATTEMPTS: usize = 16;

/// A client that vanished (a laptop that left the network, a NAT's lost entry) sends nothing:
/// after a minute of silence the kernel probes, and after another minute it ends the
/// connection. `TCP_USER_TIMEOUT` is not set. It would replace the count of probes, and end
/// the connection of a living client that pauses its reading (tcp(7)). While data is
/// unacknowledged, `--client-unread-timeout` or the kernel's retransmissions (a quarter of an
/// hour) end it.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

/// Where clients connect: one socket or several.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<ListeningSocket>,
    /// The socket that is asked first.
    turn: AtomicUsize,
}

#[derive(Debug)]
enum ListeningSocket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixSocket),
    /// The program that opened it made its file, and removes it.
    #[cfg(unix)]
    HandedUnix(UnixListener),
}

/// An address of this machine to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// 127.0.0.1 and ::1, where the machine has them. Clients resolve the name to either: if
    /// another user's program had one of them, it would get some of the requests
    /// (threats.md C9).
    Localhost,
    /// One address, or every one (0.0.0.0, ::).
    Address(IpAddr),
}

impl Host {
    /// The addresses that it stands for.
    #[must_use]
    pub fn addresses(self) -> Vec<IpAddr> {
        match self {
            Self::Localhost => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            Self::Address(address) => vec![address],
        }
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("localhost") {
            return Ok(Self::Localhost);
        }
        let address = text.trim_matches(['[', ']']).parse();
        address.map(Self::Address).map_err(|_| {
            "expected an address of this machine, such as 127.0.0.1, ::1 or 0.0.0.0, or \"localhost\""
                .to_owned()
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Localhost => f.write_str("localhost"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {} port {}: {source}", address.ip(), address.port())]
pub struct BindError {
    /// The first that failed.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::of(vec![ListeningSocket::Tcp(listener)])
    }
}

#[cfg(unix)]
impl From<UnixSocket> for Listener {
    fn from(listener: UnixSocket) -> Self {
        Self::of(vec![ListeningSocket::Unix(listener)])
    }
}

impl Listener {
    fn of(sockets: Vec<ListeningSocket>) -> Self {
        Self {
            sockets,
            turn: AtomicUsize::new(0),
        }
    }

    /// Listens on `port` of each of `hosts`; 0 takes one that is free on all of them. Has to be
    /// called in a Tokio runtime.
    ///
    /// # Errors
    /// If one of the addresses cannot be listened on, mostly because another program has it. It
    /// is no error that the machine lacks one of the two addresses of [`Host::Localhost`].
    pub fn tcp(hosts: &[Host], port: u16) -> Result<Self, BindError> {
        let mut attempts = 1;
        loop {
            match bind_all(hosts, port) {
                Err(error)
                    if port == 0
                        && attempts < MAX_ATTEMPTS
                        && error.source.kind() == io::ErrorKind::AddrInUse =>
                {
                    attempts += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// The addresses of its TCP sockets.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let address = |socket: &ListeningSocket| match socket {
            ListeningSocket::Tcp(listener) => listener.local_addr().ok(),
            #[cfg(unix)]
            ListeningSocket::Unix(_) | ListeningSocket::HandedUnix(_) => None,
        };
        self.sockets.iter().filter_map(address).collect()
    }

    /// The next client.
    pub(crate) async fn accept(&self) -> io::Result<ClientStream> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<ClientStream>> {
        // Another socket is first each time, so that a busy or a failing one does not keep the
        // others waiting.
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % self.sockets.len().max(1);
        let in_turn = self.sockets.iter().cycle().skip(first);
        for socket in in_turn.take(self.sockets.len()) {
            if let Poll::Ready(accepted) = socket.poll_accept(cx) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }
}

impl ListeningSocket {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<ClientStream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = ready!(listener.poll_accept(cx))?;
                if let Err(error) = set_up(&stream) {
                    // The client is gone already: no reason to stop accepting.
                    tracing::debug!(%error, "client connection without TCP_NODELAY or keepalive");
                }
                Poll::Ready(Ok(stream.into()))
            }
            #[cfg(unix)]
            Self::Unix(UnixSocket { listener, .. }) | Self::HandedUnix(listener) => {
                let (stream, _) = ready!(listener.poll_accept(cx))?;
                Poll::Ready(Ok(stream.into()))
            }
        }
    }
}

fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE)
}

fn bind_all(hosts: &[Host], mut port: u16) -> Result<Listener, BindError> {
    let mut bound: Vec<(IpAddr, TcpListener)> = Vec::new();
    let mut missing = None;
    let has_v4 = hosts
        .iter()
        .any(|host| matches!(host, Host::Address(IpAddr::V4(_))));
    for host in hosts {
        for ip in host.addresses() {
            if bound.iter().any(|(other, _)| *other == ip) {
                continue;
            }
            let address = SocketAddr::new(ip, port);
            let refused = |source| BindError { address, source };
            match bind(address, has_v4) {
                Ok(listener) => {
                    port = listener.local_addr().map_err(refused)?.port();
                    bound.push((ip, listener));
                }
                Err(error) if *host == Host::Localhost && is_missing(&error) => {
                    tracing::debug!(%ip, %error, "this machine does not have the address");
                    missing = Some(refused(error));
                }
                Err(error) => return Err(refused(error)),
            }
        }
    }
    match missing {
        Some(error) if bound.is_empty() => Err(error),
        _ => {
            let sockets = bound.into_iter().map(|(_, listener)| listener);
            Ok(Listener::of(sockets.map(ListeningSocket::Tcp).collect()))
        }
    }
}

/// `SO_REUSEPORT` is never set: with it a program of the same user could take a part of the
/// clients (threats.md C10).
fn bind(address: SocketAddr, v6_only: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Connections of an earlier process may still be in TIME_WAIT. On Windows the option would
    // let another program take the address.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // It stands for every address, IPv4 included, unless those are named beside it; systems
        // differ in what they do unasked.
        let _ = socket.set_only_v6(v6_only);
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(QUEUE)?;
    TcpListener::from_std(socket.into())
}

/// IPv6 is switched off in the kernel (`EAFNOSUPPORT`), or on the loopback interface.
fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || matches!(error.raw_os_error(), Some(NO_ADDRESS_FAMILY))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const NO_ADDRESS_FAMILY: i32 = 97;
#[cfg(windows)]
const NO_ADDRESS_FAMILY: i32 = 10_047;
/// macOS and the BSDs.
#[cfg(not(any(target_os = "linux", target_os = "android", windows)))]
const NO_ADDRESS_FAMILY: i32 = 47;

#[cfg(test)]
mod tests {
    use super::*;

    fn port(listener: &Listener) -> u16 {
        listener.addresses().first().unwrap().port()
    }

    #[test]
    fn hosts_are_addresses_and_localhost() {
        for (text, host) in [
            ("127.0.0.1", Host::Address([127, 0, 0, 1].into())),
            ("localhost", Host::Localhost),
            ("LocalHost", Host::Localhost),
            ("::1", Host::Address(Ipv6Addr::LOCALHOST.into())),
            ("[::1]", Host::Address(Ipv6Addr::LOCALHOST.into())),
            ("0.0.0.0", Host::Address(Ipv4Addr::UNSPECIFIED.into())),
        ] {
            assert_eq!(text.parse(), Ok(host), "{text}");
        }
        for text in ["", "example.org", "127.0.0.1:80", "localhost:80", "*"] {
            let error = text.parse::<Host>().unwrap_err();
            assert!(error.starts_with("expected an address"), "{text}: {error}");
        }
    }

    /// Those of the two that this machine has; some containers have no IPv6.
    fn loopback() -> Vec<IpAddr> {
        let has = |ip: &IpAddr| std::net::TcpListener::bind((*ip, 0)).is_ok();
        Host::Localhost
            .addresses()
            .into_iter()
            .filter(has)
            .collect()
    }

    async fn client(address: SocketAddr) -> TcpStream {
        #[expect(clippy::disallowed_methods, reason = "the test plays the client")]
        TcpStream::connect(address).await.unwrap()
    }

    #[tokio::test]
    async fn localhost_is_both_addresses_at_one_port() {
        let listener = Listener::tcp(&[Host::Localhost], 0).unwrap();
        let port = port(&listener);
        let expected: Vec<_> = loopback()
            .into_iter()
            .map(|ip| SocketAddr::new(ip, port))
            .collect();
        assert_eq!(listener.addresses(), expected);
        for address in expected {
            let client = client(address).await;
            let accepted = listener.accept().await.unwrap();
            assert_eq!(accepted.local_ip(), Some(address.ip()));
            drop(client);
        }
    }

    /// Queued clients of one socket do not keep those of the other waiting.
    #[tokio::test]
    async fn sockets_take_turns() {
        let hosts = ["127.0.0.1", "127.0.0.2"].map(|host| host.parse().unwrap());
        let listener = Listener::tcp(&hosts, 0).unwrap();
        let mut clients = Vec::new();
        for address in listener.addresses() {
            for _ in 0..3 {
                clients.push(client(address).await);
            }
        }
        let mut accepted = Vec::new();
        for _ in 0..6 {
            accepted.push(listener.accept().await.unwrap().local_ip().unwrap());
        }
        for pair in accepted.chunks(2) {
            assert_ne!(pair.first(), pair.last(), "{accepted:?}");
        }
    }

    #[tokio::test]
    async fn what_another_program_has_is_not_shared() {
        // Another program has one of them, the one or the other.
        for taken in loopback() {
            let other = Listener::tcp(&[Host::Address(taken)], 0).unwrap();
            let port = port(&other);
            let error = Listener::tcp(&[Host::Localhost], port).unwrap_err();
            assert_eq!(error.address, SocketAddr::new(taken, port));
            assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
            // The honest neighbour: the other address alone is free.
            for free in loopback().into_iter().filter(|ip| *ip != taken) {
                Listener::tcp(&[Host::Address(free)], port).unwrap();
            }
        }
        // Or all of them, or this program has them all.
        for everywhere in ["0.0.0.0", "::"] {
            let Ok(other) = Listener::tcp(&[everywhere.parse().unwrap()], 0) else {
                assert_eq!(loopback().len(), 1, "{everywhere}");
                continue;
            };
            let error = Listener::tcp(&[Host::Localhost], port(&other)).unwrap_err();
            assert_eq!(
                error.source.kind(),
                io::ErrorKind::AddrInUse,
                "{everywhere}"
            );
        }
    }

    #[tokio::test]
    async fn several_hosts_are_bound_once_each() {
        let hosts = ["localhost", "127.0.0.1", "127.0.0.2"];
        let hosts = hosts.map(|host| host.parse().unwrap());
        let listener = Listener::tcp(&hosts, 0).unwrap();
        let ips: Vec<_> = listener.addresses().iter().map(SocketAddr::ip).collect();
        let expected = [loopback(), vec![[127, 0, 0, 2].into()]].concat();
        assert_eq!(ips, expected);
        let foreign = Host::Address([192, 0, 2, 1].into());
        let error = Listener::tcp(&[Host::Localhost, foreign], 0).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrNotAvailable);
        assert_eq!(error.address.ip(), IpAddr::from([192, 0, 2, 1]));
        if loopback().len() == 2 {
            // All of IPv6 beside all of IPv4, and alone for both.
            let hosts = ["0.0.0.0", "::"].map(|host| host.parse().unwrap());
            assert_eq!(Listener::tcp(&hosts, 0).unwrap().addresses().len(), 2);
            let all = Listener::tcp(&["::".parse().unwrap()], 0).unwrap();
            for ip in loopback() {
                client(SocketAddr::new(ip, port(&all))).await;
            }
        }
    }

    #[tokio::test]
    async fn the_sockets_are_set_up() {
        let listener = Listener::tcp(&[Host::Localhost], 0).unwrap();
        for socket in &listener.sockets {
            let ListeningSocket::Tcp(tcp) = socket else {
                panic!("{socket:?}");
            };
            #[cfg(unix)]
            assert!(!SockRef::from(tcp).reuse_port().unwrap());
            let _client = client(tcp.local_addr().unwrap()).await;
            let (accepted, _) = tcp.accept().await.unwrap();
            set_up(&accepted).unwrap();
            let accepted = SockRef::from(&accepted);
            assert!(accepted.tcp_nodelay().unwrap());
            assert!(accepted.keepalive().unwrap());
            assert_eq!(accepted.tcp_keepalive_time().unwrap().as_secs(), 60);
        }
    }
}
