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
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 19, " ".repeat(1 << 19));
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

#[tokio::test]
async fn a_long_model_name_is_compared_with_nothing() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.max_body = 64 << 20;
    let proxy = Proxy::start(config).await;
    let long = "fake/llama".repeat(2 << 20);
    let body = format!(r#"{{"model":"{long}"}}"#);
    let began = std::time::Instant::now();
    let answer = post(&proxy, &[JSON], &body).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.code(), "bad_request");
    assert!(
        answer.message().contains("200 bytes"),
        "{}",
        answer.message()
    );
    assert!(answer.message().len() < 1_000);
    assert!(began.elapsed() < std::time::Duration::from_secs(5));
    let path = format!("/v1/models/{}", &long[..30_000]);
    assert_eq!(proxy.get(&path).await.code(), "model_not_found");
}

#[tokio::test]
async fn a_compressed_body_is_not_called_malformed() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let gzip = ("content-encoding", "gzip");
    let answer = post(&proxy, &[JSON, gzip], "\u{1f}\u{8b}").await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(answer.code(), "body_compressed");
    assert_eq!(answer.header("accept-encoding"), "identity");
    assert_eq!(answer.header("x-should-retry"), "false");
    let message = answer.message();
    for part in [
        "Content-Encoding",
        "features.enable_request_compression=false",
        "?model=",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains("not valid JSON"), "{message}");
    for coding in ["zstd", "br", "identity, gzip", "utf-8"] {
        let answer = post(&proxy, &[JSON, ("content-encoding", coding)], "{}").await;
        assert_eq!(answer.code(), "body_compressed", "{coding}");
    }
    let identity = ("content-encoding", "identity");
    let answer = post(&proxy, &[JSON, identity], "{}").await;
    assert!(answer.message().contains("no top-level"));
}

/// What people get who forget `/v1`, or write it twice.
#[tokio::test]
async fn a_wrong_base_url_is_named() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let prompt = format!(r#"{{"model":"{MODEL}","x":"{CANARY}"}}"#);
    for path in [
        "/models",
        "/chat/completions",
        "/v1//models",
        "/v1/v1/models",
        "/v1/v1/messages",
        "/api/v1/models",
        "/openai/v1/chat/completions",
        "/v1/chat/completions/",
        "/models?model=fake/llama",
    ] {
        for method in ["GET", "POST"] {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", "127.0.0.1:8080")
                .header(JSON.0, JSON.1);
            let body = match method {
                "GET" => String::new(),
                _ => prompt.clone(),
            };
            let answer = proxy.request(request.body(Full::from(body)).unwrap()).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}");
            assert_eq!(answer.code(), "not_found", "{method} {path}");
            assert_eq!(answer.header("x-should-retry"), "false");
            let message = answer.message();
            for part in [
                "base URL to http://127.0.0.1:8080/v1 ",
                "(Anthropic's clients: http://127.0.0.1:8080)",
                "http://127.0.0.1:8080/v1/models lists",
            ] {
                assert!(message.contains(part), "{method} {path}: {message}");
            }
            assert!(!message.contains("JSON body"), "{message}");
        }
    }
    assert!(fake.received().is_empty());
}

#[tokio::test]
async fn what_names_nothing_gets_the_list_of_pages() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    for path in [
        "/v1",
        "/v1/",
        "/v1/files",
        "/docs",
        "/v1/chat/completions/models",
    ] {
        let answer = proxy.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.code(), "not_found", "{path}");
        let message = answer.message();
        for part in [
            "http://localhost/v1",
            "/v1/models",
            "/_proxy/verdicts",
            "?model=",
        ] {
            assert!(message.contains(part), "{path}: {message}");
        }
    }
    assert!(fake.received().is_empty());
    // A path of its own is a backend's, for those who name one.
    for path in ["/v1/files", "/models"] {
        let named = Request::get(path)
            .header("host", "localhost")
            .header("x-backend-domain", DOMAIN);
        let answer = proxy.request(named.body(Full::default()).unwrap()).await;
        let verdict = answer.header("x-verified-proxy-verdict");
        assert!(
            !verdict.is_empty() && !verdict.starts_with("none"),
            "{path}: {verdict}"
        );
    }
    let lines: Vec<_> = fake
        .received()
        .into_iter()
        .flat_map(|one| one.request_lines)
        .collect();
    assert!(
        lines.iter().any(|line| line.starts_with("GET /models ")),
        "{lines:?}"
    );
}
