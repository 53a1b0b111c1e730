//! What is sent again when a connection dies, and what is not (RFC 9110 §9.2.2, RFC 9112
//! §9.3.1): threats.md B7.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fake_tee::serve::{Options, Running};
use http::{Method, Request, StatusCode};
use http_body_util::Full;

use crate::harness::*;

const PATH: &str = "/v1/fake/echo";

fn request(method: &Method, body: &'static str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(PATH)
        .header("host", "localhost")
        .header("x-backend-domain", DOMAIN)
        .body(Full::from(body))
        .unwrap()
}

/// How often it arrived.
fn arrived(fake: &Running, method: &Method) -> usize {
    let received = fake.received();
    let lines = received.iter().flat_map(|one| &one.request_lines);
    let line = format!("{method} {PATH} HTTP/1.1");
    lines.filter(|seen| **seen == line).count()
}

/// A proxy with one kept connection.
async fn with_a_kept_connection(fake: &Running) -> Proxy {
    let proxy = Proxy::in_front_of(fake).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    // Put back by another task.
    tokio::time::sleep(Duration::from_millis(50)).await;
    fake.clear();
    proxy
}

#[tokio::test]
async fn a_safe_request_is_repeated_once_on_a_new_connection() {
    let fake = fake().await;
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        for death in ["reset", "no-answer"] {
            let proxy = with_a_kept_connection(&fake).await;
            fake.order(PATH, death, 1).unwrap();
            let answer = proxy.request(request(&method, "")).await;
            assert_eq!(answer.status, StatusCode::OK, "{method} {death}");
            assert_eq!(answer.header("x-verified-proxy-verdict").len(), 16);
            assert_eq!(arrived(&fake, &method), 2, "{method} {death}");
        }
        // Not twice.
        let proxy = with_a_kept_connection(&fake).await;
        fake.order(PATH, "reset", 2).unwrap();
        let answer = proxy.send(request(&method, "")).await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY, "{method}");
        assert!(answer.headers().get("x-should-retry").is_none());
        assert_eq!(arrived(&fake, &method), 2, "{method}");
    }
}

#[tokio::test]
async fn whatever_may_have_an_effect_is_sent_once() {
    let fake = fake().await;
    for (method, body) in [
        (Method::POST, "{}"),
        (Method::POST, ""),
        (Method::PUT, "{}"),
        (Method::PATCH, "{}"),
        (Method::DELETE, ""),
    ] {
        let proxy = with_a_kept_connection(&fake).await;
        fake.order(PATH, "reset", 1).unwrap();
        let answer = proxy.request(request(&method, body)).await;
        assert_eq!(answer.code(), "backend_broke_off", "{method}");
        // SDKs would order the work again.
        assert_eq!(answer.header("x-should-retry"), "false", "{method}");
        assert_eq!(arrived(&fake, &method), 1, "{method}");
    }
}

/// A body cannot be had twice, and a new connection was not closed for its age.
#[tokio::test]
async fn a_safe_request_with_a_body_or_on_a_new_connection_is_sent_once() {
    let fake = fake().await;
    let proxy = with_a_kept_connection(&fake).await;
    fake.order(PATH, "reset", 1).unwrap();
    let answer = proxy.request(request(&Method::GET, "{}")).await;
    assert_eq!(answer.code(), "backend_broke_off");
    assert_eq!(arrived(&fake, &Method::GET), 1);

    let proxy = Proxy::in_front_of(&fake).await;
    fake.clear();
    fake.order(PATH, "reset", 1).unwrap();
    let answer = proxy.request(request(&Method::GET, "")).await;
    assert_eq!(answer.code(), "backend_broke_off");
    assert_eq!(answer.header("x-should-retry"), "");
    assert_eq!(arrived(&fake, &Method::GET), 1);
}

/// Who waits for a connection would get each in the very moment of its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_end_with_their_answers_are_used_once() {
    const REQUESTS: usize = 60;
    const PLACES: usize = 4;
    let fake = fake_with(Options::default()).await;
    let mut config = config(&fake);
    config.pool.per_backend = PLACES;
    let proxy = Arc::new(Proxy::start(config).await);
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    fake.order("/v1/chat", "abrupt", u64::MAX).unwrap();
    let ledger = Arc::new(Ledger::default());
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..REQUESTS {
        let (proxy, ledger) = (Arc::clone(&proxy), Arc::clone(&ledger));
        requests.spawn(async move {
            let prompt = ledger.prompt(&format!("number-{number}-"), false);
            let answer = proxy.request(prompt).await;
            if answer.status != StatusCode::OK {
                assert_eq!(answer.code(), "backend_broke_off");
                assert_eq!(answer.header("x-should-retry"), "false");
            }
            answer.status
        });
    }
    let answered = requests.join_all().await;
    let answered = answered.iter().filter(|status| status.is_success()).count();
    // The first of each place may find out.
    assert!(answered >= REQUESTS - 2 * PLACES, "{answered}");
    let mut seen = std::collections::HashSet::new();
    for (_, post) in posts(&fake.received()).filter(|(_, post)| post.complete) {
        assert!(seen.insert(post.body_sha256), "sent twice");
    }
    println!("{answered} of {REQUESTS} answered");
}
