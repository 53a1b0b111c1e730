//! Answers that come before the request's end, and the time that uploads may take: threats.md
//! B7, C7.

#![expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]

use std::time::{Duration, Instant};

use fake_tee::serve::{Act, Fault, Point};
use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::*;

fn ok(_: &http::Request<bytes::Bytes>) -> Response<Script> {
    Response::new(Script::whole(b"ok".to_vec()))
}

fn head(framing: &str) -> String {
    format!(
        "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nX-Backend-Domain: {DOMAIN}\r\n{framing}\r\n\r\n"
    )
}

/// Writes everything, then reads to the connection's end.
async fn written_first(proxy: &Proxy, bytes: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    for bytes in bytes {
        stream.write_all(bytes).await.unwrap();
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// The backend closes with most of the body unread, so its TCP resets what still comes.
#[tokio::test]
async fn an_answer_before_the_end_of_an_upload_arrives_ten_times_of_ten() {
    const MEGABYTES: usize = 8 << 20;
    let fake = fake().await;
    let body = vec![b'x'; MEGABYTES];
    let long: &'static str = Box::leak("y".repeat(12_000).into_boxed_str());
    let of_12_000: &'static str = Box::leak(
        format!("HTTP/1.1 429 Slow Down\r\nContent-Length: 12000\r\n\r\n{long}").into_boxed_str(),
    );
    for (raw, status, end) in [
        (
            "HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge",
            "413",
            "large",
        ),
        (
            "HTTP/1.1 401 No\r\nContent-Length: 3\r\n\r\nkey",
            "401",
            "key",
        ),
        (
            "HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbad\r\n0\r\n\r\n",
            "400",
            "bad",
        ),
        (
            "HTTP/1.1 403 No\r\nConnection: close\r\n\r\nuntil",
            "403",
            "until",
        ),
        (of_12_000, "429", long),
    ] {
        let oddities = Oddities {
            raw_answer: Some(raw),
            ..NO_ODDITIES
        };
        let backend = Scripted::start(&fake, oddities, ok).await;
        let mut config = backend.config(&fake);
        config.max_body = 2 * MEGABYTES as u64;
        let proxy = Proxy::start(config).await;
        for number in 0..10 {
            let chunked = number % 2 == 1;
            let size = format!("{MEGABYTES:x}\r\n");
            let answer = if chunked {
                let parts = [size.as_bytes(), &body, b"\r\n0\r\n\r\n"];
                let head = head("Transfer-Encoding: chunked");
                written_first(&proxy, &[head.as_bytes(), &parts.concat()]).await
            } else {
                let head = head(&format!("Content-Length: {MEGABYTES}"));
                written_first(&proxy, &[head.as_bytes(), &body]).await
            };
            let context = &answer[..answer.len().min(500)];
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{number}: {context}"
            );
            assert!(answer.contains("\r\nconnection: close\r\n"), "{context}");
            assert!(
                answer.contains("\r\nx-verified-proxy-verdict: "),
                "{context}"
            );
            let tail = answer.trim_end_matches("\r\n0\r\n\r\n");
            assert!(tail.ends_with(end), "{number}: {context}");
        }
    }
}

/// The honest neighbour: the connection goes on where the whole request was read.
#[tokio::test]
async fn an_answer_to_a_whole_request_announces_no_end() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, ok).await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let body = vec![b'x'; 500_000];
    for _ in 0..3 {
        let head = head(&format!("Content-Length: {}", body.len()));
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n0\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(!answer.contains("\r\nconnection:"), "{answer}");
    }
}

/// Pieces of a body, and a pause after each.
async fn in_pieces(proxy: &Proxy, pieces: usize, piece: &[u8], pause: Duration) -> String {
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let head = head(&format!(
        "Connection: close\r\nContent-Length: {}",
        pieces * piece.len()
    ));
    write.write_all(head.as_bytes()).await.unwrap();
    let piece = piece.to_vec();
    let writing = tokio::spawn(async move {
        for _ in 0..pieces {
            if write.write_all(&piece).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
        // Until the answer is there.
        std::future::pending::<()>().await;
    });
    let mut answer = Vec::new();
    let _ = read.read_to_end(&mut answer).await;
    writing.abort();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn the_time_for_the_first_byte_begins_at_the_end_of_the_body() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, ok).await;
    let mut config = backend.config(&fake);
    config.backend_timeouts.first_byte = Duration::from_secs(1);
    // Nor is it the backend that does not take it.
    config.backend_timeouts.unread = Duration::from_millis(300);
    let proxy = Proxy::start(config.clone()).await;
    let pause = Duration::from_millis(500);
    let answer = in_pieces(&proxy, 5, &[b'x'; 10_000], pause).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // From then on it counts.
    config.backend_timeouts.unread = Duration::from_secs(60);
    let proxy = Proxy::start(config).await;
    let request = head("Content-Length: 6").replace("/v1/x", "/hang") + "whole!";
    let began = Instant::now();
    let answer = proxy.raw(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert!(answer.contains("\r\nx-should-retry: false\r\n"), "{answer}");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
}

/// Wherever in the body it stops to read.
#[tokio::test]
async fn a_backend_that_does_not_take_the_body_is_given_up() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.max_body = 64 << 20;
    config.backend_timeouts.unread = Duration::from_secs(1);
    let body = vec![b'x'; 32 << 20];
    for taken in [4_000, 100_000, 2_000_000] {
        fake.every_connection(move |_| Fault::Plain(Point::Received(taken), Act::Stall));
        let proxy = Proxy::start(config.clone()).await;
        let began = Instant::now();
        let head = head(&format!("Content-Length: {}", body.len()));
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let body = body.clone();
        let writing = tokio::spawn(async move { write.write_all(&body).await });
        let mut answer = vec![0; 4_096];
        let read = tokio::time::timeout(PATIENCE, read.read(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer[..read.unwrap().unwrap()]).into_owned();
        writing.abort();
        assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
        assert!(answer.contains("backend_timeout"), "{answer}");
        assert!(
            answer.contains("took nothing of the request's body for 1 s"),
            "{answer}"
        );
        // It has no whole request.
        assert!(!answer.contains("x-should-retry"), "{answer}");
        assert!(began.elapsed() >= Duration::from_secs(1));
    }
}

#[tokio::test]
async fn an_upload_below_the_least_rate_ends() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, ok).await;
    let mut config = backend.config(&fake);
    // Two seconds of waiting in all.
    config.client_timeouts.body_idle = Duration::from_millis(200);
    let proxy = Proxy::start(config).await;
    let pause = Duration::from_millis(50);
    let began = Instant::now();
    for piece in [&b"x"[..], b"xx", b"xxxx"] {
        let answer = in_pieces(&proxy, 1_000, piece, pause).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(
            answer.contains("less than 240 bytes of its body a second, for 2 s"),
            "{answer}"
        );
        assert!(!answer.contains("x-should-retry"), "{answer}");
    }
    assert!(began.elapsed() > Duration::from_secs(6));
    // None of them arrived whole, and their connections are gone.
    assert!(!backend.lines().iter().any(|line| line.starts_with("POST ")));
    until("connections are held", || backend.open() == 0).await;
    // A thousand bytes a second are slow, and go on for as long as they like.
    let answer = in_pieces(&proxy, 70, &[b'x'; 50], pause).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
