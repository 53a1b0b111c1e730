//! Clients that stall, stop reading, write before they read, or speak HTTP/1.0.

#![expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::*;

fn ok(_: &http::Request<bytes::Bytes>) -> Response<Script> {
    Response::new(Script::whole(b"ok".to_vec()))
}

#[tokio::test]
async fn a_stalled_upload_is_given_up() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, ok).await;
    let mut config = backend.config(&fake);
    config.client_timeouts.body_idle = Duration::from_millis(300);
    let proxy = Proxy::start(config).await;
    let began = Instant::now();
    for content_type in ["application/json", "audio/wav"] {
        let answer = proxy
            .raw(
                format!(
                    "POST /v1/audio HTTP/1.1\r\nHost: localhost\r\nX-Backend-Domain: {DOMAIN}\r\nContent-Type: {content_type}\r\nContent-Length: 100\r\n\r\nbegun"
                )
                .as_bytes(),
            )
            .await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("sent nothing of its body"), "{answer}");
    }
    assert!(began.elapsed() < Duration::from_secs(3));
    // No request of them is whole.
    assert!(!backend.lines().iter().any(|line| line.starts_with("POST ")));
}

#[tokio::test]
async fn a_slow_upload_is_not() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, ok).await;
    let mut config = backend.config(&fake);
    config.client_timeouts.body_idle = Duration::from_millis(400);
    let proxy = Proxy::start(config).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = format!(
        "POST /v1/audio HTTP/1.1\r\nHost: localhost\r\nX-Backend-Domain: {DOMAIN}\r\nConnection: close\r\nContent-Length: 6\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.write_all(b"x").await.unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn an_early_refusal_reaches_a_client_that_writes_first() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let megabytes = vec![b'x'; 24 << 20];
    for (target, headers, status) in [
        (
            "/v1/chat/completions",
            "Content-Type: application/json\r\n",
            "413",
        ),
        ("/_proxy/live", "", "405"),
    ] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {}\r\n\r\n",
            megabytes.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&megabytes).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped() {
    let fake = fake().await;
    let (gone, left) = tokio::sync::oneshot::channel();
    let gone = std::sync::Mutex::new(Some(gone));
    let backend = Scripted::start(&fake, NO_ODDITIES, move |_| {
        let mut script = Script::whole(vec![b'x'; 64 << 20]);
        script.dropped = gone.lock().unwrap().take();
        Response::new(script)
    })
    .await;
    let mut config = backend.config(&fake);
    config.client_timeouts.unread = Duration::from_millis(500);
    let proxy = Proxy::start(config).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let request =
        format!("GET /x HTTP/1.1\r\nHost: localhost\r\nX-Backend-Domain: {DOMAIN}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    // The backend's work is dropped with the client's connection.
    let outcome = tokio::time::timeout(Duration::from_secs(5), left).await;
    assert!(outcome.is_ok_and(|dropped| dropped.is_err()));
    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read).await;
    assert!(read.len() < 64 << 20);
}

#[tokio::test]
async fn http_1_0_sees_that_an_answer_was_cut_off() {
    let fake = fake().await;
    let request = format!("GET /x HTTP/1.0\r\nX-Backend-Domain: {DOMAIN}\r\n\r\n");
    for (end, whole) in [(End::Clean, true), (End::BreaksOff, false)] {
        let backend = Scripted::start(&fake, NO_ODDITIES, move |_| {
            Response::new(Script::new(&["one ", "two"], end))
        })
        .await;
        let proxy = Proxy::start(backend.config(&fake)).await;
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        let outcome = stream.read_to_end(&mut read).await;
        let text = String::from_utf8_lossy(&read);
        match outcome {
            Ok(_) => assert!(whole && text.ends_with("one two"), "{text}"),
            Err(error) => {
                assert!(!whole, "{error}: {text}");
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            }
        }
    }
}
