//! Proxies for outgoing connections, honest and hostile: what they see, what they are
//! answered with, and what becomes of the request. Handshakes byte by byte are tested in
//! `sources`, and real proxies by `scripts/outgoing-proxies`.

#![expect(
    clippy::disallowed_methods,
    reason = "the proxy that a test plays dials the backend"
)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fake_tee::serve::Running;
use http::StatusCode;
use http_body_util::BodyExt;
use proxy::Config;
use proxy::config::{Proxies, WebPki};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::*;

const PASSWORD: &str = "pass-77b1";
/// `me:pass-77b1`.
const BASIC: &str = "bWU6cGFzcy03N2Ix";

/// What a proxy does once it was asked for a connection.
#[derive(Clone, Copy)]
enum Act {
    /// Connects to this address, whatever was asked for.
    LeadTo(SocketAddr),
    /// Says this and closes.
    Say(&'static [u8]),
    /// Says this and waits.
    SayAndWait(&'static [u8]),
}

/// A proxy on loopback that plays HTTP's CONNECT or SOCKS 5, by the first byte that it gets.
struct Outgoing {
    address: SocketAddr,
    /// What it was asked for, and with which words.
    asked: Arc<Mutex<Vec<String>>>,
    /// Everything that went through it, both ways.
    passed: Arc<Mutex<Vec<u8>>>,
}

impl Outgoing {
    async fn start(act: Act) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let outgoing = Self {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            passed: Arc::default(),
        };
        let (asked, passed) = (Arc::clone(&outgoing.asked), Arc::clone(&outgoing.passed));
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (asked, passed) = (Arc::clone(&asked), Arc::clone(&passed));
                // It ends with the client's connection.
                tokio::spawn(async move { drop(serve(client, act, asked, passed).await) });
            }
        });
        outgoing
    }

    fn url(&self, scheme: &str, user: &str) -> String {
        format!("{scheme}://{user}{}", self.address)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// What passed was TLS.
    fn assert_saw_nothing(&self) {
        let passed = self.passed.lock().unwrap();
        let text = String::from_utf8_lossy(&passed);
        for secret in [CANARY, API_KEY, "POST /", "authorization"] {
            assert!(!text.contains(secret), "{secret}");
        }
    }
}

async fn serve(
    mut client: TcpStream,
    act: Act,
    asked: Arc<Mutex<Vec<String>>>,
    passed: Arc<Mutex<Vec<u8>>>,
) -> std::io::Result<()> {
    let first = client.read_u8().await?;
    let (words, open): (String, &[u8]) = if first == 5 {
        (socks(&mut client).await?, &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    } else {
        let mut head = vec![first];
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        (head, b"HTTP/1.1 200 OK\r\n\r\n")
    };
    asked.lock().unwrap().push(words);
    let to = match act {
        Act::Say(bytes) => return client.write_all(bytes).await,
        Act::SayAndWait(bytes) => {
            client.write_all(bytes).await?;
            client.read_to_end(&mut Vec::new()).await?;
            return Ok(());
        }
        Act::LeadTo(to) => to,
    };
    let mut server = TcpStream::connect(to).await?;
    client.write_all(open).await?;
    let (mut up, mut down) = (vec![0; 16 << 10], vec![0; 16 << 10]);
    loop {
        let (count, is_up) = tokio::select! {
            count = client.read(&mut up) => (count?, true),
            count = server.read(&mut down) => (count?, false),
        };
        let bytes = if is_up { &up[..count] } else { &down[..count] };
        if bytes.is_empty() {
            return Ok(());
        }
        passed.lock().unwrap().extend_from_slice(bytes);
        let to = if is_up { &mut server } else { &mut client };
        to.write_all(bytes).await?;
    }
}

/// The handshake up to the question; the user name and password are demanded if they are
/// offered.
async fn socks(client: &mut TcpStream) -> std::io::Result<String> {
    let mut words = String::from("SOCKS");
    let mut methods = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut methods).await?;
    if methods.contains(&2) {
        client.write_all(&[5, 2]).await?;
        assert_eq!(client.read_u8().await?, 1);
        for _ in 0..2 {
            let mut word = vec![0; usize::from(client.read_u8().await?)];
            client.read_exact(&mut word).await?;
            words.push_str(&format!(" {}", String::from_utf8_lossy(&word)));
        }
        client.write_all(&[1, 0]).await?;
    } else {
        client.write_all(&[5, 0]).await?;
    }
    let mut head = [0; 5];
    client.read_exact(&mut head).await?;
    assert_eq!(head[..4], [5, 1, 0, 3], "a name, which the proxy looks up");
    let mut name = vec![0; usize::from(head[4])];
    client.read_exact(&mut name).await?;
    let port = client.read_u16().await?;
    words.push_str(&format!(" {}:{port}", String::from_utf8_lossy(&name)));
    Ok(words)
}

/// The way to `fake` leads through a proxy alone.
fn through(fake: &Running, url: &str) -> Config {
    Config {
        connect_to: Vec::new(),
        proxies: Proxies::new(url.parse().unwrap(), ""),
        ..config(fake)
    }
}

#[tokio::test]
async fn requests_go_through_and_the_proxy_sees_names_and_tls() {
    let fake = fake().await;
    let user = format!("me:{PASSWORD}@");
    for (scheme, user, expected) in [
        (
            "http",
            "",
            vec![format!("CONNECT {DOMAIN}:443 HTTP/1.1\r\n")],
        ),
        (
            "http",
            &*user,
            vec![
                format!("CONNECT {DOMAIN}:443 HTTP/1.1\r\n"),
                format!("proxy-authorization: Basic {BASIC}\r\n"),
            ],
        ),
        ("socks5h", "", vec![format!("SOCKS {DOMAIN}:443")]),
        ("socks5", "", vec![format!("SOCKS {DOMAIN}:443")]),
        (
            "socks5h",
            &*user,
            vec![format!("SOCKS me {PASSWORD} {DOMAIN}:443")],
        ),
    ] {
        let outgoing = Outgoing::start(Act::LeadTo(fake.backend)).await;
        let proxy = Proxy::start(through(&fake, &outgoing.url(scheme, user))).await;
        for _ in 0..3 {
            assert_eq!(proxy.chat().await.status, StatusCode::OK, "{scheme} {user}");
        }
        let response = proxy.send(chat_request(true)).await;
        assert_eq!(response.status(), StatusCode::OK);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body.ends_with(b"data: [DONE]\n\n"), "{body:?}");
        // One connection, which is kept; documents on loopback are fetched directly.
        let asked = outgoing.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        for words in expected {
            assert!(asked[0].contains(&words), "{asked:?}");
        }
        assert_eq!(
            asked[0].to_ascii_lowercase().contains("authorization"),
            scheme == "http" && !user.is_empty()
        );
        outgoing.assert_saw_nothing();
        assert!(!outgoing.passed.lock().unwrap().is_empty());
        let about = proxy.get("/_proxy/about").await;
        let log = Log::captured().text();
        for secret in [PASSWORD, BASIC] {
            assert!(!String::from_utf8_lossy(&about.body).contains(secret));
            assert!(!log.contains(secret), "{secret} is in the log");
        }
    }
}

/// Where connections go without a proxy, though one is named.
#[tokio::test]
async fn this_machine_and_no_proxy_are_reached_directly() {
    let fake = fake().await;
    let outgoing = Outgoing::start(Act::Say(b"HTTP/1.1 403 Forbidden\r\n\r\n")).await;
    let url = outgoing.url("http", "");
    for (connect_to, no_proxy) in [
        // --connect-to comes first, and this machine is not reached through a proxy.
        (fake.connect_to(), ""),
        (
            format!("{DOMAIN}:443:localhost:{}", fake.backend.port()),
            "",
        ),
        (fake.connect_to(), "*"),
    ] {
        let config = Config {
            connect_to: vec![connect_to.parse().unwrap()],
            proxies: Proxies::new(url.parse().unwrap(), no_proxy),
            ..config(&fake)
        };
        assert_eq!(
            Proxy::start(config).await.chat().await.status,
            StatusCode::OK
        );
    }
    assert!(outgoing.asked().is_empty());
    // The neighbour: what --connect-to names elsewhere is what the proxy is asked for.
    let config = Config {
        connect_to: vec![format!("{DOMAIN}:443:b.example:8443").parse().unwrap()],
        ..through(&fake, &url)
    };
    let answer = Proxy::start(config).await.chat().await;
    assert_eq!(answer.code(), "outgoing_proxy_refused");
    assert!(outgoing.asked()[0].starts_with("CONNECT b.example:8443 HTTP/1.1\r\n"));
    assert!(fake.received().len() <= 3);
}

/// What a proxy says; then code, x-should-retry and a part of the message.
const REFUSALS: &[(&str, &[u8], &str, &str, &str)] = &[
    (
        "http",
        b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        "outgoing_proxy_refused",
        "false",
        "asks for a user name and password (407)\nhint: give the outgoing proxy's user name and password in --proxy",
    ),
    (
        "http",
        b"HTTP/1.1 403 Forbidden\r\n\r\n",
        "outgoing_proxy_refused",
        "false",
        "with the status 403 Forbidden",
    ),
    (
        "http",
        b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
        "outgoing_proxy_refused",
        "",
        "with the status 503 Service Unavailable",
    ),
    (
        "http",
        b"220 mail.example ESMTP\r\n",
        "outgoing_proxy_refused",
        "false",
        "does not answer as an HTTP proxy does",
    ),
    (
        "http",
        b"",
        "outgoing_proxy_unreachable",
        "",
        "it broke off",
    ),
    (
        "socks5h",
        &[5, 2, 0, 1, 0, 0, 0, 0, 0, 0],
        "outgoing_proxy_refused",
        "false",
        "its rules do not allow it (SOCKS reply 2)",
    ),
    (
        "socks5h",
        &[5, 4, 0, 1, 0, 0, 0, 0, 0, 0],
        "outgoing_proxy_refused",
        "",
        "the host is unreachable or its name is not known (SOCKS reply 4)",
    ),
    (
        "socks5h",
        &[5],
        "outgoing_proxy_unreachable",
        "",
        "it broke off",
    ),
];

#[tokio::test]
async fn refusals_are_told_with_what_to_do() {
    let fake = fake().await;
    for (scheme, says, code, should_retry, words) in REFUSALS {
        let outgoing = Outgoing::start(Act::Say(says)).await;
        let answer = Proxy::start(through(&fake, &outgoing.url(scheme, "")))
            .await
            .chat()
            .await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert_eq!(answer.code(), *code, "{}", answer.message());
        assert_eq!(answer.header("x-should-retry"), *should_retry, "{words}");
        let message = answer.message();
        assert!(message.contains(words), "{message}");
        assert!(message.contains(&outgoing.url(scheme, "")), "{message}");
        assert!(message.contains("\nhint: "), "{message}");
        assert!(!outgoing.asked().is_empty());
    }
    // With a wrong password: it is tried once, since proxies lock accounts.
    let (_, wants, ..) = REFUSALS[0];
    let outgoing = Outgoing::start(Act::Say(wants)).await;
    let url = outgoing.url("http", &format!("me:{PASSWORD}@"));
    let answer = Proxy::start(through(&fake, &url)).await.chat().await;
    assert_eq!(answer.code(), "outgoing_proxy_refused");
    let message = answer.message();
    assert!(
        message.contains("does not accept the user name and password (407)"),
        "{message}"
    );
    assert!(
        !message.contains(PASSWORD) && !message.contains(BASIC),
        "{message}"
    );
    assert_eq!(outgoing.asked().len(), 1);
    // Nobody listens.
    let url = format!("http://127.0.0.1:{}", dead_port().await);
    let answer = Proxy::start(through(&fake, &url)).await.chat().await;
    assert_eq!(answer.code(), "outgoing_proxy_unreachable");
    assert!(
        answer.message().contains("cannot be reached"),
        "{}",
        answer.message()
    );
    assert!(fake.received().is_empty());
}

#[tokio::test]
async fn a_proxy_that_hangs_costs_the_connect_timeout() {
    let fake = fake().await;
    for (scheme, says) in [
        ("http", &b""[..]),
        ("http", b"HTTP/1.1 200 OK\r\n"),
        ("socks5h", b""),
        ("socks5h", &[5, 0, 0]),
        // The tunnel is open and leads nowhere: TLS counts too.
        ("http", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("socks5h", &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
    ] {
        let outgoing = Outgoing::start(Act::SayAndWait(says)).await;
        let url = outgoing.url(scheme, "");
        let mut config = through(&fake, &url);
        config.backend_timeouts.connect = Duration::from_millis(200);
        let began = Instant::now();
        let answer = Proxy::start(config).await.chat().await;
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(answer.code(), "backend_timeout");
        let words = format!("could not connect within 0 s, through the outgoing proxy {url}");
        assert!(answer.message().contains(&words), "{}", answer.message());
        // Three tries.
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    assert!(fake.received().is_empty());
}

/// It can deny, and no more: TLS and the proof are with the other end.
#[tokio::test]
async fn a_proxy_that_leads_elsewhere_gets_no_byte_of_a_request() {
    let honest = fake().await;
    // Another machine under authorities of its own; one that is not genuine; one that shows
    // the backend's certificate without its key.
    let other = fake().await;
    let tampered = fake().await;
    tampered.tamper("report-data").unwrap();
    let oddities = Oddities {
        stolen_certificate: true,
        ..NO_ODDITIES
    };
    let thief = Scripted::start(&honest, oddities, |_| unreachable!("it gets no request")).await;
    for (to, webpki, codes) in [
        (other.backend, WebPki::Require, &["backend_certificate"][..]),
        (tampered.backend, WebPki::Require, &["backend_certificate"]),
        // The evidence alone decides: it is of another root, or of another key.
        (other.backend, WebPki::Off, &["rejected_"]),
        (tampered.backend, WebPki::Off, &["rejected_"]),
        (thief.address, WebPki::Require, &["backend_certificate"]),
        (thief.address, WebPki::Off, &["backend_certificate"]),
    ] {
        let outgoing = Outgoing::start(Act::LeadTo(to)).await;
        let mut config = through(&honest, &outgoing.url("http", ""));
        config.webpki = webpki;
        let answer = Proxy::start(config).await.chat().await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        let code = answer.code();
        assert!(codes.iter().any(|one| code.starts_with(one)), "{code}");
        outgoing.assert_saw_nothing();
    }
    for fake in [&other, &tampered, &honest] {
        assert_only_probes(&fake.received());
    }
    assert!(thief.lines().is_empty());
}
