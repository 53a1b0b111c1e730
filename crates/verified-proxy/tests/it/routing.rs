//! Requests that go nowhere, and say why.

use http::{Request, StatusCode};
use http_body_util::Full;

use crate::harness::*;

async fn post(proxy: &Proxy, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = Request::post("/v1/chat/completions").header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    proxy
        .request(request.body(Full::from(body.to_owned())).unwrap())
        .await
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_request_without_a_backend_says_how_to_name_one() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let form = ("content-type", "application/x-www-form-urlencoded");
    for (headers, body) in [
        (&[JSON][..], "{}"),
        (&[JSON], r#"{"messages":[{"model":"nested"}]}"#),
        (&[form], "model=x"),
        (&[], ""),
    ] {
        let answer = post(&proxy, headers, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer.code(), "no_backend", "{body}");
        assert_eq!(answer.header("x-should-retry"), "false");
        assert!(answer.message().contains("X-Backend-Domain"));
    }
    assert!(fake.received().is_empty());
}

#[tokio::test]
async fn ambiguous_and_malformed_bodies_are_refused() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    for body in [
        r#"{"model":"fake/llama","model":"other"}"#,
        r#"{"model":7}"#,
        r#"{"model":"fake/llama""#,
        "[]",
        "model",
    ] {
        let answer = post(&proxy, &[JSON], body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer.code(), "bad_request", "{body}");
    }
    assert!(fake.received().is_empty());
}

#[tokio::test]
async fn an_unknown_model_is_answered_with_close_ones() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let answer = post(&proxy, &[JSON], r#"{"model":"fake/lama"}"#).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.code(), "model_not_found");
    assert!(
        answer.message().contains("close matches: fake/llama"),
        "{}",
        answer.message()
    );
    assert!(fake.received().is_empty());
}

#[tokio::test]
async fn backends_are_names_under_the_allowed_suffix() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    for domain in [
        "evil.example",
        "127.0.0.1",
        "[::1]",
        "fake-llama.completions.near.ai:443",
        "user@fake-llama.completions.near.ai",
        "completions.near.ai",
        "a.b.completions.near.ai",
        "fake-llama.completions.near.ai.evil.example",
        "",
    ] {
        let answer = post(
            &proxy,
            &[JSON, ("x-backend-domain", domain)],
            r#"{"model":"fake/llama"}"#,
        )
        .await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{domain}");
        assert_eq!(answer.code(), "backend_not_allowed", "{domain}");
    }
    let twice = [
        JSON,
        ("x-backend-domain", DOMAIN),
        ("x-backend-domain", "evil.example"),
    ];
    assert_eq!(post(&proxy, &twice, "{}").await.code(), "bad_request");
    assert!(fake.received().is_empty());
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let large = format!(r#"{{"model":"fake/llama","x":"{}"}}"#, "x".repeat(1 << 20));
    let answer = post(&proxy, &[JSON], &large).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.code(), "body_too_large");
    // Also without a length, and where the proxy need not look for a model.
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 19, "x".repeat(1 << 19));
    for domain in ["", &format!("X-Backend-Domain: {DOMAIN}\r\n")] {
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n{domain}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let answer = proxy
            .raw(format!("{head}{chunk}{chunk}{chunk}0\r\n\r\n").as_bytes())
            .await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("body_too_large"), "{answer}");
    }
}
