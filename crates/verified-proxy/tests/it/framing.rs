//! Messages that could be read in two ways, or that ask for more than a message.

use http::Response;

use crate::harness::*;

#[tokio::test]
async fn methods_websockets_and_codings_that_are_not_forwarded() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let domain = format!("Host: localhost\r\nX-Backend-Domain: {DOMAIN}\r\nConnection: close\r\n");
    for (start, headers, status) in [
        ("CONNECT evil.example:443", String::new(), "501"),
        ("TRACE /", domain.clone(), "501"),
        (
            "GET /",
            format!("{domain}Connection: upgrade\r\nUpgrade: websocket\r\n"),
            "426",
        ),
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

/// Heads that hyper refuses before any request exists.
#[tokio::test]
async fn a_head_that_is_none_is_answered_as_all_is() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let live = "GET /_proxy/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let lines: String = (0..101).map(|line| format!("X-{line}: 1\r\n")).collect();
    for (bad, status, hint) in [
        ("GET\r\n\r\n".to_owned(), "400 Bad Request", "use http://"),
        (
            "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}".to_owned(),
            "400 Bad Request",
            "not https://",
        ),
        (
            "GET / HTTP/3.0\r\n\r\n".to_owned(),
            "400 Bad Request",
            "speaks HTTP/1.1",
        ),
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n".to_owned(),
            "400 Bad Request",
            "use http://",
        ),
        (
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n".to_owned(),
            "400 Bad Request",
            "use http://",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"),
            "431 Request Header Fields Too Large",
            "fewer or shorter headers",
        ),
    ] {
        // On a new connection, and behind a request that was answered.
        for before in ["", live] {
            let mut answer = proxy.raw(format!("{before}{bad}").as_bytes()).await;
            if !before.is_empty() {
                let rest = answer.strip_prefix("HTTP/1.1 200 OK\r\n").unwrap();
                let at = rest.find("HTTP/1.1 ").expect(rest);
                answer = rest[at..].to_owned();
            }
            let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
            assert!(
                head.starts_with(&format!("HTTP/1.1 {status}\r\n")),
                "{bad}: {head}"
            );
            for line in [
                "content-type: application/json",
                "connection: close",
                "x-verified-proxy-verdict: none; bad_request",
                "x-should-retry: false",
                &format!("content-length: {}", body.len()),
            ] {
                assert!(head.contains(&format!("\r\n{line}")), "{line}: {head}");
            }
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["error"]["code"], "bad_request");
            let message = body["error"]["message"].as_str().unwrap();
            assert!(message.contains(hint), "{message}");
        }
    }
    assert!(fake.received().is_empty());
    let refusals = "verified_proxy_refusals_total{code=\"bad_request\"} 12";
    let metrics = proxy.get("/_proxy/metrics").await.body;
    let metrics = String::from_utf8_lossy(&metrics);
    assert!(metrics.contains(refusals), "{metrics}");
}

#[tokio::test]
async fn a_head_has_a_size() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let live = async |bytes: usize| {
        let head = "GET /_proxy/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        let request = format!("{head}X: {}\r\n\r\n", "x".repeat(bytes));
        proxy.raw(request.as_bytes()).await
    };
    let answer = live(60 << 10).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // The proxy reads the rest, so that no reset overtakes the answer.
    let answer = live(200 << 10).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(answer.contains("more than 65536 bytes"), "{answer}");
}

/// RFC 9110 §7.8. What is not refused is not forwarded: a backend that accepted the offer
/// would read the next request as another protocol.
#[tokio::test]
async fn an_upgrade_that_may_be_ignored_is() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, |request| {
        Response::new(Script::whole(request.body().to_vec()))
    })
    .await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    for lines in [
        "Upgrade: websocket\r\n",
        "Connection: keep-alive\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: h2,h2c\r\n",
        "Connection: Upgrade\r\nUpgrade:\r\n",
        "Connection: upgrade\r\nUpgrade: TLS/1.2\r\n",
        "Connection: upgrade\r\n",
        "Connection: ,\r\nUpgrade: , ,\r\n",
        "Connection:\r\n",
        "Connection: upgrade, Sec-WebSocket-Key\r\nUpgrade: spdy/3.1\r\nSec-WebSocket-Key: x\r\n",
        "Content-Encoding:\r\n",
        "Content-Encoding: ,identity\r\n",
    ] {
        let body = format!(r#"{{"model":"{MODEL}"}}"#);
        let request = format!(
            "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = proxy.raw(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{lines}: {answer}");
        assert!(answer.contains(&body), "{lines}: {answer}");
        let seen = backend.lines();
        let seen = seen.last().unwrap().to_ascii_lowercase();
        for field in ["upgrade", "connection:", "websocket", "content-encoding"] {
            assert!(!seen.contains(field), "{lines}: {seen}");
        }
    }
}

#[tokio::test]
async fn a_websocket_is_refused_at_once() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let ask = |version: &str, connection: &str, upgrade: &str| {
        format!(
            "GET /v1/responses HTTP/{version}\r\nHost: localhost\r\nConnection: {connection}\r\nUpgrade: {upgrade}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nGET /_proxy/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
    };
    for (connection, upgrade) in [
        ("Upgrade", "websocket"),
        ("keep-alive, Upgrade", "WebSocket"),
        ("upgrade", "h2c, websocket"),
    ] {
        let answer = proxy.raw(ask("1.1", connection, upgrade).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 426 "), "{upgrade}: {answer}");
        for line in ["upgrade: HTTP/1.1\r\n", "connection: upgrade\r\n"] {
            assert!(answer.contains(line), "{answer}");
        }
        assert!(answer.contains("\"bad_request\""), "{answer}");
        // The connection goes on as HTTP.
        assert!(answer.contains("HTTP/1.1 200 OK"), "{answer}");
    }
    assert!(fake.received().is_empty());
    // HTTP/1.0 has no upgrades: it is a GET that names nothing.
    let answer = proxy
        .raw(ask("1.0", "upgrade", "websocket").as_bytes())
        .await;
    assert!(answer.starts_with("HTTP/1.0 404 "), "{answer}");
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

/// What a client gets of `answer`.
async fn through_the_proxy(answer: &'static str) -> String {
    let fake = fake().await;
    let oddities = Oddities {
        raw_answer: Some(answer),
        ..NO_ODDITIES
    };
    let backend = Scripted::start(&fake, oddities, |_| unreachable!()).await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let request = format!(
        "GET /x HTTP/1.1\r\nHost: localhost\r\nX-Backend-Domain: {DOMAIN}\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n"
    );
    proxy.raw(request.as_bytes()).await.to_ascii_lowercase()
}

#[tokio::test]
async fn an_answer_of_two_lengths_is_read_and_sent_by_its_chunks() {
    let answer = through_the_proxy(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("http/1.1 200 "), "{answer}");
    assert!(!answer.contains("content-length"), "{answer}");
    assert!(answer.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{answer}");
    for lengths in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
    ] {
        let answer = through_the_proxy(lengths).await;
        let whole = answer.contains("content-length: 5\r\n") && answer.ends_with("\r\nhello");
        assert!(
            whole || answer.starts_with("http/1.1 502 "),
            "{lengths} {answer}"
        );
        assert_eq!(answer.matches("content-length").count(), 1, "{answer}");
    }
}

#[tokio::test]
async fn an_answer_without_a_clear_end_is_refused() {
    for head in [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 6",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        let answer = through_the_proxy(answer.leak()).await;
        assert!(answer.starts_with("http/1.1 502 "), "{head}: {answer}");
        assert!(answer.contains("backend_broke_off"), "{head}: {answer}");
    }
}

#[tokio::test]
async fn trailers_say_no_more_than_headers_may() {
    let answer = through_the_proxy(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-verified-proxy-verdict, alt-svc, proxy-x, x-kept\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Verified-Proxy-Verdict: forged\r\nAlt-Svc: forged\r\nProxy-X: forged\r\nX-Kept: kept\r\n\r\n",
    )
    .await;
    assert!(answer.contains("0\r\nx-kept: kept\r\n"), "{answer}");
    assert!(!answer.contains("forged"), "{answer}");

    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, |_| {
        Response::new(Script::whole(b"ok".to_vec()))
    })
    .await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let answer = proxy
        .raw(
            format!(
                "POST /x HTTP/1.1\r\nHost: localhost\r\nX-Backend-Domain: {DOMAIN}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: x-request-hash, proxy-x, x-kept\r\n\r\n2\r\nhi\r\n0\r\nX-Request-Hash: forged\r\nProxy-X: forged\r\nX-Kept: kept\r\n\r\n"
            )
            .as_bytes(),
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let lines = backend.lines();
    let request = lines.last().unwrap();
    assert!(request.contains("x-kept: \"kept\""), "{request}");
    assert!(!request.contains("forged"), "{request}");
}

#[tokio::test]
async fn a_request_of_two_lengths_goes_on_in_chunks_only() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, |request| {
        Response::new(Script::whole(request.body().to_vec()))
    })
    .await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    for lengths in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
    ] {
        let request = format!(
            "POST /x HTTP/1.1\r\nHost: localhost\r\nX-Backend-Domain: {DOMAIN}\r\nConnection: close\r\n{lengths}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        );
        let answer = proxy.raw(request.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.contains("\r\nhello\r\n"),
            "{answer}"
        );
        let lines = backend.lines();
        let request = lines.last().unwrap();
        assert!(
            request.contains("transfer-encoding: \"chunked\"")
                && !request.contains("content-length"),
            "{request}"
        );
    }
}

#[tokio::test]
async fn targets_in_other_forms() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, |_| {
        Response::new(Script::whole(b"ok".to_vec()))
    })
    .await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let get = async |target: &str| {
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nX-Backend-Domain: {DOMAIN}\r\nConnection: close\r\n\r\n"
        );
        proxy.raw(request.as_bytes()).await
    };
    for (target, expected) in [
        ("http://localhost?y=1", "GET /?y=1 "),
        ("http://localhost/a?y=1", "GET /a?y=1 "),
        ("http://localhost", "GET / "),
    ] {
        let answer = get(target).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{target}: {answer}");
        let lines = backend.lines();
        let request = lines.last().unwrap();
        assert!(request.starts_with(expected), "{target}: {request}");
    }
    let before = backend.lines().len();
    let answer = get("localhost:443").await;
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("bad_request"),
        "{answer}"
    );
    assert_eq!(backend.lines().len(), before);
}

#[tokio::test]
async fn a_malformed_chunk_is_called_so() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    for domain in ["", &format!("X-Backend-Domain: {DOMAIN}\r\n")] {
        let request = format!(
            "POST /x HTTP/1.1\r\nHost: localhost\r\n{domain}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n"
        );
        let answer = proxy.raw(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(
            answer.contains("not in valid chunks") && !answer.contains("broke off"),
            "{answer}"
        );
    }
}
