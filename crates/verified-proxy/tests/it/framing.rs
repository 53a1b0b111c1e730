//! Messages that could be read in two ways, or that ask for more than a message.

use http::Response;

use crate::harness::*;

#[tokio::test]
async fn methods_upgrades_and_codings_that_are_not_forwarded() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let domain = format!("Host: localhost\r\nX-Backend-Domain: {DOMAIN}\r\nConnection: close\r\n");
    for (start, headers, status) in [
        ("CONNECT evil.example:443", String::new(), "501"),
        ("TRACE /", domain.clone(), "501"),
        ("GET /", format!("{domain}Upgrade: websocket\r\n"), "501"),
        (
            "POST /",
            format!("{domain}Transfer-Encoding: gzip, chunked\r\n"),
            "501",
        ),
        (
            "POST /",
            format!("{domain}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            "501",
        ),
        (
            "POST /",
            format!("{domain}Transfer-Encoding: gzip\r\n"),
            "400",
        ),
        (
            "POST /",
            format!("{domain}Content-Length: 1\r\nContent-Length: 2\r\n"),
            "400",
        ),
    ] {
        let answer = proxy
            .raw(format!("{start} HTTP/1.1\r\n{headers}\r\n0\r\n\r\n").as_bytes())
            .await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{start} {headers}: {answer}"
        );
    }
    assert!(fake.received().is_empty());
}

#[tokio::test]
async fn an_offer_of_http2_is_ignored() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let answer = proxy
        .raw(
            format!("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Backend-Domain: {DOMAIN}\r\nConnection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n")
                .as_bytes(),
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let text = String::from_utf8_lossy(&fake.received()[0].bytes).to_ascii_lowercase();
    assert!(
        !text.contains("h2c") && !text.contains("http2-settings"),
        "{text}"
    );
}

#[tokio::test]
async fn only_end_to_end_headers_pass() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, |_| {
        Response::builder()
            .header("x-verified-proxy-verdict", "forged")
            .header("x-verified-proxy-model", "forged")
            .header("alt-svc", "h3=\":443\"")
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("content-encoding", "gzip")
            .body(Script::whole(b"opaque".to_vec()))
            .unwrap()
    })
    .await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let answer = proxy
        .raw(
            format!(
                "GET http://localhost/a?b HTTP/1.1\r\nHost: localhost\r\nX-Backend-Domain: {DOMAIN}\r\nConnection: close, x-mine\r\nX-Mine: 1\r\nX-Request-Hash: 1\r\nProxy-Authorization: 1\r\nTE: trailers\r\nX-Kept: 1\r\n\r\n"
            )
            .as_bytes(),
        )
        .await;
    let lower = answer.to_ascii_lowercase();
    assert!(lower.starts_with("http/1.1 200 "), "{answer}");
    assert!(
        !lower.contains("forged") && !lower.contains("alt-svc") && !lower.contains("x-hop"),
        "{answer}"
    );
    assert!(
        lower.contains("content-encoding: gzip") && answer.contains("opaque"),
        "{answer}"
    );
    let lines = backend.lines();
    let request = lines.last().unwrap();
    assert!(request.starts_with("GET /a?b "), "{request}");
    let mut names: Vec<_> = request
        .splitn(3, ' ')
        .nth(2)
        .unwrap()
        .split("; ")
        .map(|header| header.split(':').next().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["host", "x-kept"], "{request}");
    assert!(
        request.contains(&format!("host: \"{DOMAIN}\"")),
        "{request}"
    );
}

#[tokio::test]
async fn redirects_stay_on_the_backend_or_are_refused() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, |request| {
        let location = request.headers()["x-to"].clone();
        Response::builder()
            .status(307)
            .header("location", location)
            .body(Script::whole(Vec::new()))
            .unwrap()
    })
    .await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let to = async |location: &str| {
        let request = http::Request::get("/x")
            .header("host", "localhost")
            .header("x-backend-domain", DOMAIN)
            .header("x-to", location);
        proxy
            .request(request.body(Default::default()).unwrap())
            .await
    };
    let inside = to(&format!("https://{DOMAIN}/v1/y?z")).await;
    assert_eq!(inside.status, http::StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(inside.header("location"), "/v1/y?z");
    for outside in [
        "https://evil.example/",
        "//evil.example/",
        "http://fake-llama.completions.near.ai/",
    ] {
        let answer = to(outside).await;
        assert_eq!(answer.code(), "backend_redirect", "{outside}");
        assert_eq!(answer.header("location"), "");
    }
}
