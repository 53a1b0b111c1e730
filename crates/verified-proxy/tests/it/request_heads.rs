//! What requests ask for before their body, and what is answered without it.

#![expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]

use std::time::Duration;

use http::{Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::*;

async fn head_of(proxy: &Proxy, path: &str) -> Answer {
    let request = Request::head(path).header("host", "localhost");
    proxy
        .request(request.body(Default::default()).unwrap())
        .await
}

#[tokio::test]
async fn models_are_listed_to_head_as_well() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    for path in [
        "/v1/models",
        "/v1/models/fake/llama",
        "/v1/models/fake%2fllama",
        "/v1/models?x",
        "/v1/models/",
        "/v1/models/fake/llama/",
    ] {
        let (get, head) = (proxy.get(path).await, head_of(&proxy, path).await);
        assert_eq!(head.status, StatusCode::OK, "{path}");
        assert_eq!(head.header("content-length"), get.body.len().to_string());
        assert!(head.body.is_empty());
    }
    let head = head_of(&proxy, "/v1/models/other").await;
    assert_eq!(head.status, StatusCode::NOT_FOUND);
    let model = proxy.get("/v1/models/fake/llama").await.json();
    assert_eq!(model["object"], "model");
    assert!(fake.received().is_empty());
}

#[tokio::test]
async fn a_signature_of_an_unknown_answer_needs_a_name() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, |_| {
        Response::new(Script::whole(b"ok".to_vec()))
    })
    .await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let answer = proxy.get(&format!("/v1/signature/{CANARY}")).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.code(), "not_found");
    assert_eq!(answer.header("x-should-retry"), "false");
    let message = answer.message();
    for part in ["20 minutes", "X-Backend-Domain", "?model="] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains(CANARY), "{message}");
    assert!(backend.lines().is_empty());
    let target = "/v1/signature/x-1?model=fake/llama&signing_algo=ecdsa";
    assert_eq!(proxy.get(target).await.body, "ok");
    let lines = backend.lines();
    assert!(lines.last().unwrap().starts_with(&format!("GET {target} ")));
    assert!(!Log::captured().text().contains(CANARY));
}

#[tokio::test]
async fn a_host_is_named_once() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let request = |version: &str, hosts: &str| {
        format!("GET /v1/models HTTP/{version}\r\n{hosts}Connection: close\r\n\r\n")
    };
    for (version, hosts, status) in [
        ("1.1", "Host: localhost\r\n", "200"),
        ("1.1", "", "400"),
        ("1.1", "Host: localhost\r\nHost: localhost\r\n", "400"),
        ("1.0", "", "200"),
        ("1.0", "Host: localhost\r\nHost: localhost\r\n", "400"),
    ] {
        let answer = proxy.raw(request(version, hosts).as_bytes()).await;
        let answered = answer.split(' ').nth(1);
        assert_eq!(answered, Some(status), "{version} {hosts}: {answer}");
    }
}

/// RFC 9112 §3.2.4.
#[tokio::test]
async fn options_of_the_server_pass() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, |_| {
        Response::builder()
            .status(204)
            .body(Script::whole(Vec::new()))
            .unwrap()
    })
    .await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let options = |target: &str, named: &str| {
        format!("OPTIONS {target} HTTP/1.1\r\nHost: localhost\r\n{named}Connection: close\r\n\r\n")
    };
    let named = format!("X-Backend-Domain: {DOMAIN}\r\n");
    for (target, asked) in [
        ("*", "OPTIONS * "),
        ("http://localhost", "OPTIONS * "),
        ("http://localhost:8080", "OPTIONS * "),
        ("http://localhost/", "OPTIONS * "),
        ("http://localhost/x", "OPTIONS /x "),
        ("http://localhost?x", "OPTIONS /?x "),
    ] {
        let answer = proxy.raw(options(target, &named).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 204 "), "{target}: {answer}");
        let lines = backend.lines();
        let line = lines.last().unwrap();
        assert!(line.starts_with(asked), "{target}: {line}");
        assert!(line.contains(&format!("host: \"{DOMAIN}\"")), "{line}");
    }
    // The proxy has no options of its own.
    let before = backend.lines().len();
    for target in ["*", "http://localhost"] {
        let answer = proxy.raw(options(target, "").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
        assert!(answer.contains("\"no_backend\""), "{target}: {answer}");
    }
    assert_eq!(backend.lines().len(), before);
}

#[tokio::test]
async fn continue_is_said_when_the_body_is_wanted() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, |_| {
        Response::new(Script::whole(b"served".to_vec()))
    })
    .await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let body = format!(r#"{{"model":"{MODEL}"}}"#);
    let expecting = |target: &str, headers: &str, length: usize| {
        format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        )
    };
    for headers in [
        "Content-Type: application/json\r\n",
        &format!("X-Backend-Domain: {DOMAIN}\r\n"),
    ] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        let head = expecting("/v1/x", headers, body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut interim = [0; 25];
        let read = stream.read_exact(&mut interim);
        tokio::time::timeout(Duration::from_secs(20), read)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let lines = backend.lines();
    assert!(!lines.iter().any(|line| line.contains("expect")));
    for (target, headers, length, status) in [
        ("/v1/x", "Content-Type: text/plain\r\n", 10, "400"),
        (
            "/v1/x",
            "Content-Type: application/json\r\n",
            2 << 20,
            "413",
        ),
        ("/v1/x", "X-Backend-Domain: evil.example\r\n", 10, "403"),
        (
            "/v1/x",
            "Connection: upgrade\r\nUpgrade: websocket\r\n",
            10,
            "426",
        ),
        ("/_proxy/live", "", 10, "405"),
    ] {
        let answer = proxy
            .raw(expecting(target, headers, length).as_bytes())
            .await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_refused_upgrade_can_be_read_by_who_writes_first() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let megabytes = vec![b'x'; 24 << 20];
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = format!(
        "POST /x HTTP/1.1\r\nHost: localhost\r\nX-Backend-Domain: {DOMAIN}\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: {}\r\n\r\n",
        megabytes.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&megabytes).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
}
