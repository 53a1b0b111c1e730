//! The limits of what clients hold: one slow backend, or one idle or slow program, denies
//! nobody else (threats.md C7).
#![cfg(target_os = "linux")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]

use std::time::Duration;

use bytes::Bytes;
use fake_tee::serve::{Options, Running};
use http::{Request, StatusCode};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::departed::held;
use crate::harness::*;

const OTHER: &str = "fake-other.completions.near.ai";

async fn two_names() -> Running {
    fake_with(Options {
        also: vec![(OTHER.to_owned(), vec![MODEL.to_owned()])],
        ..Options::default()
    })
    .await
}

fn chat(headers: &str, body: &str, length: usize) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{headers}\r\n{body}"
    )
}

fn hangs() -> String {
    let body = format!(r#"{{"model":"{MODEL}"}}"#);
    let headers = format!("x-backend-domain: {DOMAIN}\r\nx-fake: hang\r\n");
    chat(&headers, &body, body.len())
}

async fn says(proxy: &Proxy, text: &str) -> TcpStream {
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client.write_all(text.as_bytes()).await.unwrap();
    client
}

async fn rest_of(mut client: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, client.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn ask(domain: &str) -> Request<Full<Bytes>> {
    let request = Request::get("/v1/models")
        .header("host", "localhost")
        .header("x-backend-domain", domain);
    request.body(Full::default()).unwrap()
}

async fn ask_other(proxy: &Proxy) -> StatusCode {
    let answer = proxy.request(ask(OTHER));
    let answer = tokio::time::timeout(Duration::from_secs(5), answer).await;
    answer.unwrap().status
}

fn chats(fake: &Running) -> usize {
    posts(&fake.received()).count()
}

#[tokio::test]
async fn a_backend_that_hangs_denies_no_other() {
    let fake = two_names().await;
    let mut config = config(&fake);
    let port = fake.backend.port();
    config.connect_to = vec![format!("::127.0.0.1:{port}").parse().unwrap()];
    config.endpoints_url = fake.endpoints_url().parse().unwrap();
    (config.pool.per_backend, config.pool.waiting) = (4, 8);
    let proxy = Proxy::start(config).await;
    assert_eq!(ask_other(&proxy).await, StatusCode::OK);
    let mut waiting = Vec::new();
    for _ in 0..12 {
        waiting.push(says(&proxy, &hangs()).await);
    }
    until("they are at the backend", || chats(&fake) == 4).await;
    while held(&proxy, "backend").await < 12 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Four connections, eight requests that wait for one: the next is told at once.
    let told = proxy.request(ask(DOMAIN)).await;
    assert_eq!(told.code(), "busy");
    assert!(
        told.message().contains("the limit is 12"),
        "{}",
        told.message()
    );
    assert!(!told.header("retry-after").is_empty());
    for _ in 0..20 {
        assert_eq!(ask_other(&proxy).await, StatusCode::OK);
    }
    let metrics = proxy.get("/_proxy/metrics").await.body;
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    for line in [
        r#"verified_proxy_held_limit{what="backend"} 12"#,
        r#"verified_proxy_limit_refusals_total{what="backend",reason="limit"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

/// The program, with room for 34 clients.
fn crowded(fake: &Running) -> Program {
    Program::start_in("ulimit -n 100", fake, &[])
}

#[tokio::test]
async fn idle_connections_make_room() {
    let fake = fake().await;
    let program = crowded(&fake);
    assert_eq!(program.proxy.chat().await.status, StatusCode::OK);
    let mut idle = Vec::new();
    for number in 0..200 {
        let said = [
            "",
            "GET /_pro",
            "POST / HTTP/1.1\r\nhost: localhost\r\nx-a: ",
        ][number % 3];
        idle.push(says(&program.proxy, said).await);
        if number % 10 == 0 {
            let answer = tokio::time::timeout(Duration::from_secs(5), program.proxy.chat()).await;
            assert_eq!(answer.unwrap().status, StatusCode::OK, "{number}");
        }
    }
    let live = program.proxy.get("/_proxy/live");
    let live = tokio::time::timeout(Duration::from_secs(5), live).await;
    assert_eq!(live.unwrap().status, StatusCode::OK);
    assert!(held(&program.proxy, "connections").await <= 34);
}

#[tokio::test]
async fn a_proxy_whose_clients_all_wait_still_says_that_it_lives() {
    let fake = fake().await;
    let program = crowded(&fake);
    let proxy = &program.proxy;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    let mut waiting = Vec::new();
    for _ in 0..34 {
        waiting.push(says(proxy, &hangs()).await);
    }
    until("all are at the backend", || chats(&fake) >= 30).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    for path in ["/_proxy/live", "/_proxy/ready"] {
        assert_eq!(proxy.get(path).await.status, StatusCode::OK, "{path}");
    }
    for answer in [proxy.chat().await, proxy.get("/v1/models").await] {
        assert_eq!(answer.code(), "busy");
        assert_eq!(answer.header("connection"), "close");
    }
    assert!(chats(&fake) <= 35);
    // Those that wait are not closed for others.
    drop(waiting.pop());
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(proxy.get("/_proxy/metrics").await.status, StatusCode::OK);
}

#[tokio::test]
async fn slow_uploads_and_slow_readers_make_room_at_a_backend() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.pool.per_backend = 2;
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    let begun = format!(r#"{{"model":"{MODEL}","messages":["#);
    let upload = says(&proxy, &chat("", &begun, 900_000)).await;
    let body = format!(r#"{{"model":"{MODEL}","stream":true}}"#);
    let endless = "x-fake-chunks: 1000000\r\nx-fake-size: 65536\r\nx-fake-delay-ms: 0\r\n";
    let mut reader = says(&proxy, &chat(endless, &body, body.len())).await;
    reader.read_exact(&mut [0; 12]).await.unwrap();
    until("both are at the backend", || chats(&fake) == 3).await;
    // Two clients that wait longer than the slow ones may be slow.
    let (one, two) = tokio::join!(proxy.chat(), proxy.chat());
    assert_eq!((one.status, two.status), (StatusCode::OK, StatusCode::OK));
    drop((upload, reader));
}

#[tokio::test]
async fn a_small_request_needs_no_shared_memory() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.body_memory = 1 << 20;
    let proxy = Proxy::start(config).await;
    // All of the memory, held by bodies whose model has not come.
    let begun = format!("{{\"x\":\"{}", "x".repeat(480 << 10));
    let mut uploads = Vec::new();
    for _ in 0..2 {
        uploads.push(says(&proxy, &chat("", &begun, 900_000)).await);
    }
    while held(&proxy, "body_memory").await < 800 << 10 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    // One that needs more than there is gets it from the slowest, or is told to come again.
    let large = format!(
        r#"{{"x":"{}","model":"{MODEL}","messages":[{{"role":"user","content":"x"}}]}}"#,
        "x".repeat(300 << 10)
    );
    let text = chat("connection: close\r\n", &large, large.len());
    let told = rest_of(says(&proxy, &text).await).await;
    assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let served = rest_of(says(&proxy, &text).await).await;
    assert!(served.starts_with("HTTP/1.1 200 "), "{served}");
}
