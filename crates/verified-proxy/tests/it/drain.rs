//! After the signal to stop: who is answered, who is told, and for how long.

#![expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use proxy::Config;
use tokio::net::TcpStream;

use crate::harness::*;

/// A client that keeps its connection, and has used it.
pub(crate) async fn kept(proxy: &Proxy) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(get("/_proxy/live")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.into_body().collect().await.unwrap();
    sender
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path)
        .header("host", "localhost")
        .body(Full::default())
        .unwrap()
}

/// A proxy, and an answer that began and never ends.
async fn answering(config: impl FnOnce(Config) -> Config) -> (Scene, Proxy, Response<Incoming>) {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, |_| {
        Response::new(Script::new(&["begun"], End::Never))
    })
    .await;
    let proxy = Proxy::start(config(backend.config(&fake))).await;
    let mut answer = proxy.send(chat_request(true)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let begun = answer.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(begun, "begun");
    let scene = Scene {
        _fake: fake,
        backend,
    };
    (scene, proxy, answer)
}

struct Scene {
    _fake: fake_tee::serve::Running,
    backend: Scripted,
}

async fn ends_within(proxy: &mut Proxy, limit: Duration) {
    tokio::time::timeout(limit, &mut proxy.task)
        .await
        .unwrap_or_else(|_| panic!("the proxy did not end"))
        .unwrap();
}

#[tokio::test]
async fn a_kept_connection_is_told_while_an_answer_runs() {
    let (scene, mut proxy, answer) = answering(|config| config).await;
    let mut told = kept(&proxy).await;
    let mut model = kept(&proxy).await;
    let asked = scene.backend.lines().len();
    let mut prompt = kept(&proxy).await;
    proxy.stop.take().unwrap().send(()).unwrap();
    // A client that was about to ask is answered, and told.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let response = prompt.send_request(get("/_proxy/ready")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["connection"], "close");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    for (client, request) in [
        (&mut told, get("/_proxy/ready")),
        (&mut model, chat_request(false)),
    ] {
        let response = client.send_request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let answer = Answer {
            status: head.status,
            headers: head.headers,
            body,
        };
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.code(), "shutting_down");
        assert_eq!(answer.header("retry-after"), "2");
        assert_eq!(answer.header("connection"), "close");
    }
    assert_eq!(
        scene.backend.lines().len(),
        asked,
        "nothing more reached the backend"
    );
    assert!(
        TcpStream::connect(proxy.address).await.is_err(),
        "listens still"
    );
    // The answer runs on; when its client leaves, nothing keeps the proxy.
    assert!(!proxy.task.is_finished());
    drop(answer);
    ends_within(&mut proxy, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let fake = fake().await;
    let mut proxy = Proxy::in_front_of(&fake).await;
    let mut idle = kept(&proxy).await;
    let silent = TcpStream::connect(proxy.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.stop.take().unwrap().send(()).unwrap();
    ends_within(&mut proxy, Duration::from_secs(5)).await;
    let asked = idle.send_request(get("/_proxy/live")).await;
    assert!(asked.is_err(), "the connection is open");
    drop(silent);
}

#[tokio::test]
async fn the_deadline_cuts_off_and_says_so_by_breaking_off() {
    let drain = Duration::from_millis(700);
    let (_scene, mut proxy, answer) = answering(|config| Config { drain, ..config }).await;
    let began = Instant::now();
    proxy.stop.take().unwrap().send(()).unwrap();
    ends_within(&mut proxy, Duration::from_secs(5)).await;
    assert!(began.elapsed() >= drain, "{:?}", began.elapsed());
    assert!(answer.into_body().collect().await.is_err(), "a clean end");
}

#[tokio::test]
async fn a_request_under_way_is_answered_in_full() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let fake = fake().await;
    let mut proxy = Proxy::in_front_of(&fake).await;
    let body = format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"hello"}}]}}"#);
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    let (first, rest) = body.as_bytes().split_at(10);
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(first).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    proxy.stop.take().unwrap().send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    client.write_all(rest).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("chat.completion"), "{answer}");
    ends_within(&mut proxy, Duration::from_secs(5)).await;
}
