//! TCP: the first address that accepts, and how a peer that is gone is noticed.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Delay before the next address is tried in parallel (recommended by RFC 8305 §5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Addresses of one name. A hostile resolver may return thousands.
const MAX_ADDRESSES: usize = 16;

/// When the kernel gives a connection up. A peer that vanished, or a middlebox that dropped the
/// connection, sends nothing, and an answer may take an hour to begin.
struct Patience {
    /// Silence before the first question, and between questions that get no answer.
    silence: Duration,
    interval: Duration,
    questions: u32,
    /// How long sent data may stay unacknowledged, and a question unanswered.
    #[cfg_attr(
        not(any(target_os = "android", target_os = "linux")),
        expect(dead_code, reason = "socket2 has no such option there")
    )]
    unacknowledged: Duration,
}

/// A request on a path that vanished ends within two minutes, whether it waits for an answer or
/// is being sent. Keepalive covers silence alone: Linux sends none while data is
/// unacknowledged, and repeats the data for a quarter of an hour (tcp_retries2). RFC 5482's
/// user timeout covers that. Linux applies it also to a peer that takes nothing (a window of
/// zero), so it has to leave a busy backend some time. socket2 has no such option for other
/// systems; there the kernel's own limit counts.
const PATIENCE: Patience = Patience {
    silence: Duration::from_secs(60),
    interval: Duration::from_secs(10),
    questions: 4,
    unacknowledged: Duration::from_secs(90),
};

/// A connection to the first of the addresses that accepts. An address that does not answer, as
/// with IPv6 in many networks, does not delay the others (RFC 8305).
pub(super) async fn connect(
    addresses: impl IntoIterator<Item = SocketAddr>,
) -> io::Result<TcpStream> {
    let stream = first_that_answers(in_turn(addresses.into_iter())).await?;
    set_options(&stream, &PATIENCE);
    Ok(stream)
}

/// Each as far as the system has it: a connection without one of them still serves.
fn set_options(stream: &TcpStream, patience: &Patience) {
    let keepalive = TcpKeepalive::new()
        .with_time(patience.silence)
        .with_interval(patience.interval)
        .with_retries(patience.questions);
    let socket = SockRef::from(stream);
    let outcomes = [
        ("TCP_NODELAY", stream.set_nodelay(true)),
        ("SO_KEEPALIVE", socket.set_tcp_keepalive(&keepalive)),
        #[cfg(any(target_os = "android", target_os = "linux"))]
        (
            "TCP_USER_TIMEOUT",
            socket.set_tcp_user_timeout(Some(patience.unacknowledged)),
        ),
    ];
    for (option, outcome) in outcomes {
        if let Err(error) = outcome {
            tracing::debug!(option, %error, "the system did not set this option of TCP");
        }
    }
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
                reason = "for the callers of Network::connect, which are banned in its place"
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

    /// Its kernel drops whatever arrives from now on, and acknowledges nothing.
    #[cfg(target_os = "linux")]
    fn vanish(stream: &TcpStream) {
        const RETURN: u16 = 0x06;
        let drop_all = socket2::SockFilter::new(RETURN, 0, 0, 0);
        SockRef::from(stream).attach_filter(&[drop_all]).unwrap();
    }

    #[cfg(target_os = "linux")]
    async fn pair(patience: &Patience) -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind(address("127.0.0.1:0")).await;
        let listener = listener.unwrap();
        let here = first_that_answers([listener.local_addr().unwrap()].into()).await;
        let here = here.unwrap();
        set_options(&here, patience);
        (here, listener.accept().await.unwrap().0)
    }

    #[cfg(target_os = "linux")]
    const SHORT: Patience = Patience {
        silence: Duration::from_secs(1),
        interval: Duration::from_secs(1),
        questions: 4,
        unacknowledged: Duration::from_secs(2),
    };

    /// Without the user timeout the kernel would repeat the data for a quarter of an hour.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_nobody_acknowledges_ends_the_connection() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let limit = Duration::from_secs(20);
        // A request, an upload that fills the buffers, and a wait in silence.
        let mut ends = FuturesUnordered::new();
        for bytes in [100, 64 << 20, 0] {
            let (mut here, peer) = pair(&SHORT).await;
            vanish(&peer);
            ends.push(async move {
                let written = here.write_all(&vec![0; bytes]).await;
                let outcome = match written {
                    Ok(()) => here.read_u8().await.map(drop),
                    Err(error) => Err(error),
                };
                drop(peer);
                (bytes, outcome.unwrap_err().kind())
            });
        }
        for _ in 0..3 {
            let end = tokio::time::timeout(limit, ends.next()).await.unwrap();
            let (bytes, kind) = end.unwrap();
            assert_eq!(kind, io::ErrorKind::TimedOut, "{bytes}");
        }
    }

    /// The neighbour: a peer that answers questions may be silent for longer than the limit.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_silent_peer_that_lives_keeps_the_connection() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut here, mut peer) = pair(&SHORT).await;
        here.write_all(b"request").await.unwrap();
        tokio::time::sleep(2 * SHORT.unacknowledged).await;
        peer.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        here.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
    }

    /// Two minutes at most: `scripts/blackhole` waits for them.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn each_connection_has_the_limits() {
        let listener = tokio::net::TcpListener::bind(address("127.0.0.1:0")).await;
        let listener = listener.unwrap();
        let stream = connect([listener.local_addr().unwrap()]).await.unwrap();
        let socket = SockRef::from(&stream);
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(PATIENCE.unacknowledged)
        );
        assert_eq!(socket.tcp_keepalive_time().unwrap(), PATIENCE.silence);
        assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
        let silence = PATIENCE.silence + PATIENCE.interval * PATIENCE.questions;
        let limit = Duration::from_secs(120);
        assert!(silence < limit && PATIENCE.unacknowledged < limit);
    }
}
