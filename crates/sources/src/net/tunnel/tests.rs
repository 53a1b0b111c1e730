//! Proxies that keep to the protocol and others, byte by byte.

use std::time::Duration;

use tokio::io::DuplexStream;

use super::*;

const TARGET: &str = "a.example";

/// What a proxy does in turn.
#[derive(Debug, Clone)]
enum Step {
    /// Expects these bytes next.
    Hears(Vec<u8>),
    /// Reads a head, and expects a line of it.
    HearsHead(&'static str),
    Says(Vec<u8>),
    /// Says the same for ever.
    Repeats(&'static str),
}
use Step::{Hears, HearsHead, Repeats, Says};

fn says(text: &str) -> Step {
    Says(text.as_bytes().to_vec())
}

async fn play(mut stream: DuplexStream, steps: Vec<Step>) -> DuplexStream {
    for step in steps {
        match step {
            Hears(expected) => {
                let mut bytes = vec![0; expected.len()];
                stream.read_exact(&mut bytes).await.unwrap();
                assert_eq!(bytes, expected);
            }
            HearsHead(line) => {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                assert!(head.lines().any(|one| one == line), "{head}");
            }
            // The other side may have left.
            Says(bytes) => drop(stream.write_all(&bytes).await),
            Repeats(text) => while stream.write_all(text.as_bytes()).await.is_ok() {},
        }
    }
    stream
}

/// The outcome with a proxy that does these steps and then waits.
async fn outcome(
    proxy: &str,
    target: &str,
    steps: Vec<Step>,
) -> (Result<Stream, TunnelError>, DuplexStream) {
    let (here, there) = tokio::io::duplex(4 << 10);
    let proxy: Proxy = proxy.parse().unwrap();
    let opening = async { open(Box::new(here), &proxy, target, 443).await };
    let limit = Duration::from_secs(10);
    let shown = format!("it hangs: {steps:?}");
    let both = futures_util::future::join(opening, play(there, steps));
    tokio::time::timeout(limit, both).await.expect(&shown)
}

const OPEN: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

/// After the handshake each byte of the one side is the next of the other.
async fn is_open(proxy: &str, target: &str, steps: Vec<Step>) {
    let shown = format!("{proxy} {steps:?}");
    let (stream, mut there) = outcome(proxy, target, steps).await;
    let mut here = stream.unwrap_or_else(|error| panic!("{shown}: {error}"));
    for (from, to) in [("hello", "there"), ("x", "y")] {
        let (mut heard, mut answer) = (vec![0; from.len()], vec![0; to.len()]);
        here.write_all(from.as_bytes()).await.unwrap();
        there.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, from.as_bytes(), "{shown}");
        there.write_all(to.as_bytes()).await.unwrap();
        here.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, to.as_bytes(), "{shown}");
    }
    drop(here);
    assert_eq!(there.read(&mut [0]).await.unwrap(), 0, "{shown}");
}

fn connected(target: &str) -> Vec<u8> {
    let mut message = vec![5, 1, 0, 3, u8::try_from(target.len()).unwrap()];
    message.extend(target.as_bytes());
    message.extend(443_u16.to_be_bytes());
    message
}

#[tokio::test]
async fn http_proxies_open_tunnels() {
    let line = HearsHead("CONNECT a.example:443 HTTP/1.1");
    for answer in [
        OPEN,
        "HTTP/1.0 200 Connection established\r\nProxy-agent: tinyproxy/1.11.1\r\n\r\n",
        "HTTP/1.1 200\r\n\r\n",
        // A length is to be ignored here (RFC 9110 §9.3.6).
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        is_open("http://p:1", TARGET, vec![line.clone(), says(answer)]).await;
    }
    let host = vec![HearsHead("host: a.example:443"), says(OPEN)];
    is_open("http://p:1", TARGET, host).await;
    let agent = concat!("user-agent: verified-proxy/", env!("CARGO_PKG_VERSION"));
    is_open("http://p:1", TARGET, vec![HearsHead(agent), says(OPEN)]).await;
    let basic = "proxy-authorization: Basic bWU6cGFzczp3b3Jk";
    let steps = vec![HearsHead(basic), says(OPEN)];
    is_open("http://me:pass%3Aword@p:1", TARGET, steps).await;
    let v6 = HearsHead("CONNECT [2001:db8::1]:443 HTTP/1.1");
    is_open("http://p:1", "2001:db8::1", vec![v6, says(OPEN)]).await;
}

#[tokio::test]
async fn socks_proxies_open_tunnels() {
    let v4: &[u8] = &[5, 0, 0, 1, 10, 0, 0, 1, 1, 187];
    let v6 = [&[5, 0, 0, 4][..], &[9; 16], &[1, 187]].concat();
    let name = b"\x05\x00\x00\x03\x07p.local\x01\xbb";
    for reply in [v4, &v6, name] {
        let steps = vec![
            Hears(vec![5, 1, 0]),
            Says(vec![5, 0]),
            Hears(connected(TARGET)),
            Says(reply.to_vec()),
        ];
        is_open("socks5h://p:1", TARGET, steps.clone()).await;
        is_open("socks5://p:1", TARGET, steps).await;
    }
    let with_password = vec![
        Hears(vec![5, 2, 0, 2]),
        Says(vec![5, 2]),
        Hears(b"\x01\x02me\x04pass".to_vec()),
        Says(vec![1, 0]),
        Hears(connected(TARGET)),
        Says(v4.to_vec()),
    ];
    is_open("socks5h://me:pass@p:1", TARGET, with_password).await;
    // It may want none of what is offered; then it gets none.
    let without = vec![
        Hears(vec![5, 2, 0, 2]),
        Says(vec![5, 0]),
        Hears(connected(TARGET)),
        Says(v4.to_vec()),
    ];
    is_open("socks5h://me:pass@p:1", TARGET, without).await;
    for (target, address) in [
        ("192.0.2.1", &[1, 192, 0, 2, 1][..]),
        ("::1", &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
    ] {
        let steps = vec![
            Hears(vec![5, 1, 0]),
            Says(vec![5, 0]),
            Hears([&[5, 1, 0], address, &[1, 187]].concat()),
            Says(v4.to_vec()),
        ];
        is_open("socks5h://p:1", target, steps).await;
    }
    // In single bytes.
    let mut steps = vec![Hears(vec![5, 1, 0])];
    steps.extend([5, 0].map(|byte| Says(vec![byte])));
    steps.push(Hears(connected(TARGET)));
    steps.extend(v4.iter().map(|byte| Says(vec![*byte])));
    is_open("socks5h://p:1", TARGET, steps).await;
}

async fn refusal(proxy: &str, steps: Vec<Step>) -> TunnelError {
    let shown = format!("{proxy} {steps:?}");
    let (here, there) = tokio::io::duplex(4 << 10);
    let proxy: Proxy = proxy.parse().unwrap();
    let proxying = async move {
        // It ends the connection after its steps.
        drop(play(there, steps).await);
    };
    let opening = open(Box::new(here), &proxy, TARGET, 443);
    let both = futures_util::future::join(opening, proxying);
    let limit = Duration::from_secs(10);
    let (outcome, ()) = tokio::time::timeout(limit, both).await.expect("it hangs");
    match outcome {
        Ok(_) => panic!("a tunnel: {shown}"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn http_proxies_refuse() {
    let head = HearsHead("CONNECT a.example:443 HTTP/1.1");
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100 << 10));
    let wants = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 9\r\n\r\n";
    for (proxy, answer, said) in [
        (
            "http://p:1",
            wants,
            "it asks for a user name and password (407)",
        ),
        (
            "http://me:no@p:1",
            wants,
            "it does not accept the user name and password (407)",
        ),
        (
            "http://p:1",
            "HTTP/1.1 403 Forbidden\r\n\r\nno",
            "it refuses the connection with the status 403 Forbidden",
        ),
        (
            "http://p:1",
            "HTTP/1.0 502 x\r\n\r\n",
            "it refuses the connection with the status 502 Bad Gateway",
        ),
        (
            "http://p:1",
            "HTTP/1.1 302 Found\r\nLocation: http://login\r\n\r\n",
            "it refuses the connection with the status 302 Found",
        ),
        (
            "http://p:1",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            "it refuses the connection with the status 101 Switching Protocols",
        ),
        (
            "http://p:1",
            "SSH-2.0-OpenSSH_9.2\r\n",
            "it does not answer as an HTTP proxy does",
        ),
        (
            "http://p:1",
            "\x05\x00",
            "it does not answer as an HTTP proxy does",
        ),
        (
            "http://p:1",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "it refuses the connection with the status 204 No Content",
        ),
        (
            "http://p:1",
            &long,
            "it does not answer as an HTTP proxy does",
        ),
        // A proxy that speaks before the handshake of TLS is no tunnel.
        (
            "http://p:1",
            "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "it does not answer as an HTTP proxy does",
        ),
        (
            "http://p:1",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            "it does not answer as an HTTP proxy does",
        ),
        ("http://p:1", "", "it broke off: "),
        ("http://p:1", "HTTP/1.1 200 OK\r\nX", "it broke off: "),
    ] {
        let error = refusal(proxy, vec![head.clone(), says(answer)]).await;
        assert!(error.to_string().starts_with(said), "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn socks_proxies_refuse() {
    let (greeting, offer) = (Hears(vec![5, 1, 0]), Hears(vec![5, 2, 0, 2]));
    let login = Hears(b"\x01\x02me\x02no".to_vec());
    let (plain, user) = ("socks5h://p:1", "socks5h://me:no@p:1");
    let takes = |message: &[u8]| Says(message.to_vec());
    for (proxy, steps, said) in [
        (
            plain,
            vec![greeting.clone(), takes(&[5, 0xff])],
            "it asks for a user name and password",
        ),
        (
            user,
            vec![offer.clone(), takes(&[5, 0xff])],
            "it does not accept the user name and password",
        ),
        (
            user,
            vec![offer, takes(&[5, 2]), login, takes(&[1, 1])],
            "it does not accept the user name and password",
        ),
        // It takes a method that was not offered.
        (
            plain,
            vec![greeting.clone(), takes(&[5, 2])],
            "it does not answer as a SOCKS 5 proxy does",
        ),
        (
            plain,
            vec![greeting.clone(), takes(&[4, 0])],
            "it does not answer as a SOCKS 5 proxy does",
        ),
        (
            plain,
            vec![greeting.clone(), takes(b"HTTP/1.1 400 Bad Request\r\n\r\n")],
            "it does not answer as a SOCKS 5 proxy does",
        ),
        (plain, vec![greeting.clone(), takes(&[5])], "it broke off: "),
        (plain, vec![greeting.clone()], "it broke off: "),
    ] {
        let shown = format!("{steps:?}");
        let error = refusal(proxy, steps).await;
        assert!(error.to_string().starts_with(said), "{shown}: {error}");
    }
    let asked = [greeting, takes(&[5, 0]), Hears(connected(TARGET))];
    for (reply, said) in [
        (
            &[5, 2, 0, 1, 0, 0, 0, 0, 0, 0][..],
            "it refuses the connection: its rules do not allow it (SOCKS reply 2)",
        ),
        (
            &[5, 4, 0, 1, 0, 0, 0, 0, 0, 0],
            "it refuses the connection: the host is unreachable or its name is not known (SOCKS reply 4)",
        ),
        // Some close without the address.
        (
            &[5, 5, 0, 1],
            "it refuses the connection: the other end refused it (SOCKS reply 5)",
        ),
        (
            &[5, 77, 0, 1],
            "it refuses the connection: for a reason that the standard does not have (SOCKS reply 77)",
        ),
        (
            &[5, 0, 0, 9, 1, 1],
            "it does not answer as a SOCKS 5 proxy does",
        ),
        (
            &[4, 0, 0, 1, 1, 1],
            "it does not answer as a SOCKS 5 proxy does",
        ),
        (&[5, 0, 0, 1, 1, 1], "it broke off: "),
        (&[5, 0, 0, 3, 200, 1], "it broke off: "),
    ] {
        let steps = [&asked[..], &[takes(reply)]].concat();
        let error = refusal(plain, steps).await;
        assert!(error.to_string().starts_with(said), "{reply:?}: {error}");
    }
}

/// The limit is the caller's; meanwhile memory does not grow and the caller can leave.
#[tokio::test]
async fn proxies_that_never_end_are_left() {
    let head = HearsHead("CONNECT a.example:443 HTTP/1.1");
    for (proxy, steps) in [
        ("http://p:1", vec![head.clone()]),
        (
            "http://p:1",
            vec![head.clone(), Repeats("HTTP/1.1 100 Continue\r\n\r\n")],
        ),
        ("http://p:1", vec![head, says("HTTP/1.1 200 OK\r\n")]),
        ("socks5h://p:1", vec![Hears(vec![5, 1, 0])]),
        ("socks5h://p:1", vec![Hears(vec![5, 1, 0]), says("\x05")]),
    ] {
        let (here, there) = tokio::io::duplex(4 << 10);
        let proxying = tokio::spawn(async move {
            let mut there = play(there, steps).await;
            while there.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
        });
        let proxy: Proxy = proxy.parse().unwrap();
        let opening = open(Box::new(here), &proxy, TARGET, 443);
        let limit = Duration::from_millis(100);
        assert!(tokio::time::timeout(limit, opening).await.is_err());
        // Leaving closes the connection.
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, proxying)
            .await
            .unwrap()
            .unwrap();
    }
}
