//! The local side: web pages, other users, keys (threats.md C1 to C5).

#![expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]

use std::time::Duration;

use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use proxy::config::{ApiKey, ClientTokens};

use crate::harness::*;

const INJECTED: &str = "sk-injected-77aa01";
const TOKEN: &str = "token-of-ann-0123456789";

fn chat(headers: &[(&str, &str)]) -> Request<Full<bytes::Bytes>> {
    let (mut head, body) = chat_request(false).into_parts();
    head.headers.remove("authorization");
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().unwrap();
        head.headers.insert(name, value.parse().unwrap());
    }
    Request::from_parts(head, body)
}

fn cors(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers
        .keys()
        .map(http::HeaderName::as_str)
        .filter(|name| name.starts_with("access-control-"))
        .collect();
    names.sort_unstable();
    names
}

fn everything(fake: &fake_tee::serve::Running) -> String {
    let received = fake.received();
    let all = received
        .iter()
        .map(|one| String::from_utf8_lossy(&one.bytes).into_owned());
    all.collect()
}

#[tokio::test]
async fn foreign_hosts_and_pages_get_nothing() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let own = format!("127.0.0.1:{}", proxy.address.port());
    for (headers, code) in [
        (&[("host", "evil.example:8080")][..], "host_not_allowed"),
        (&[("origin", "https://evil.example")], "origin_not_allowed"),
        (&[("origin", "null")], "origin_not_allowed"),
        (&[("sec-fetch-site", "cross-site")], "origin_not_allowed"),
        (&[("sec-fetch-site", "same-site")], "origin_not_allowed"),
    ] {
        let answer = proxy.request(chat(headers)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{headers:?}");
        assert_eq!(answer.code(), code, "{headers:?}");
        assert_eq!(answer.header("x-should-retry"), "false");
        assert!(cors(&answer.headers).is_empty(), "{:?}", answer.headers);
        // The proxy's own pages are no exception.
        let mut pages = Request::get("/_proxy/verdicts").header("host", &own);
        for (name, value) in headers {
            pages.headers_mut().unwrap().insert(
                name.parse::<http::HeaderName>().unwrap(),
                value.parse().unwrap(),
            );
        }
        let answer = proxy.request(pages.body(Full::default()).unwrap()).await;
        assert_eq!(answer.code(), code, "{headers:?}");
    }
    assert!(fake.received().is_empty());
    // Neither is one that shows two names.
    let raw = format!(
        "GET http://evil.example/v1/models HTTP/1.1\r\nhost: {own}\r\nconnection: close\r\n\r\n"
    );
    assert!(proxy.raw(raw.as_bytes()).await.contains("host_not_allowed"));
    // A page of the proxy's own is.
    let page = [("host", own.as_str()), ("origin", &format!("http://{own}"))];
    assert_eq!(proxy.request(chat(&page)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_page_that_is_allowed_may_ask_and_read() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.guard.origins = vec!["https://chat.example".parse().unwrap()];
    config.guard.hosts = vec!["proxy.example".parse().unwrap()];
    let proxy = Proxy::start(config).await;
    let preflight = Request::options("/v1/chat/completions")
        .header("host", "proxy.example")
        .header("origin", "https://chat.example")
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type",
        )
        .header("access-control-request-private-network", "true");
    let answer = proxy
        .request(preflight.body(Full::default()).unwrap())
        .await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert!(fake.received().is_empty());
    for (name, value) in [
        ("access-control-allow-origin", "https://chat.example"),
        ("access-control-allow-headers", "*, authorization"),
        ("access-control-allow-private-network", "true"),
        ("access-control-max-age", "600"),
        ("vary", "Origin"),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    assert!(
        answer
            .header("access-control-allow-methods")
            .contains("POST")
    );

    // Streams, refusals and the proxy's own pages can be read; a backend has no
    // say in it.
    let origin = ("origin", "https://chat.example");
    let (mut head, body) = chat_request(true).into_parts();
    head.headers.insert("origin", origin.1.parse().unwrap());
    let star = "header=access-control-allow-origin: *";
    head.headers.insert("x-fake", star.parse().unwrap());
    let streamed = proxy.request(Request::from_parts(head, body)).await;
    assert!(streamed.body.ends_with(b"data: [DONE]\n\n"));
    let refused = proxy
        .request(chat(&[origin, ("x-backend-domain", "evil.example")]))
        .await;
    assert_eq!(refused.code(), "backend_not_allowed");
    for answer in [streamed, refused] {
        assert_eq!(answer.header("access-control-allow-origin"), origin.1);
        assert_eq!(answer.header("access-control-expose-headers"), "*");
        assert_eq!(
            answer
                .headers
                .get_all("access-control-allow-origin")
                .iter()
                .count(),
            1
        );
    }
    // Who is no page gets none of it, whatever the backend says.
    let answer = proxy.request(chat(&[("x-fake", star)])).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(cors(&answer.headers).is_empty(), "{:?}", answer.headers);
}

#[tokio::test]
async fn an_answer_that_a_browser_shows_cannot_act_as_the_proxys_page() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let html = ("x-fake", "html=200");
    for (headers, policy) in [
        (
            &[
                html,
                ("sec-fetch-dest", "document"),
                ("sec-fetch-site", "none"),
            ][..],
            "sandbox; default-src 'none'",
        ),
        (
            &[
                html,
                ("sec-fetch-dest", "empty"),
                ("sec-fetch-site", "same-origin"),
            ],
            "",
        ),
        (&[html], ""),
    ] {
        let answer = proxy.request(chat(headers)).await;
        assert_eq!(answer.header("content-type"), "text/html");
        assert_eq!(
            answer.header("content-security-policy"),
            policy,
            "{headers:?}"
        );
        let nosniff = if policy.is_empty() { "" } else { "nosniff" };
        assert_eq!(answer.header("x-content-type-options"), nosniff);
    }
}

#[tokio::test]
async fn a_key_is_added_on_verified_connections_only() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.api_key = Some(ApiKey::new(INJECTED).unwrap());
    let proxy = Proxy::start(config.clone()).await;
    for (own, expected) in [
        (None, INJECTED),
        (Some("Bearer not-needed"), INJECTED),
        (Some("Bearer sk-own"), "sk-own"),
    ] {
        fake.clear();
        let headers: Vec<_> = own.iter().map(|own| ("authorization", *own)).collect();
        assert_eq!(proxy.request(chat(&headers)).await.status, StatusCode::OK);
        let line = format!("authorization: Bearer {expected}\r\n");
        let all = everything(&fake);
        assert_eq!(all.matches("authorization: ").count(), 1, "{all}");
        assert!(all.contains(&line), "{all}");
    }
    // A backend that is refused gets probes, which have none.
    fake.clear();
    fake.tamper("debug-td").unwrap();
    let answer = Proxy::start(config).await.request(chat(&[])).await;
    assert_eq!(answer.code(), "rejected_td_debug");
    assert_only_probes(&fake.received());
    assert!(!everything(&fake).contains(INJECTED));
    assert!(!Log::captured().text().contains(INJECTED));
}

#[tokio::test]
async fn clients_without_a_token_get_nothing() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.api_key = Some(ApiKey::new(INJECTED).unwrap());
    config.guard.tokens = Some(ClientTokens::parse(&format!("ann {TOKEN}")).unwrap());
    let proxy = Proxy::start(config).await;
    let wrong = format!("Bearer {TOKEN}x");
    for headers in [
        &[][..],
        &[("authorization", "Bearer x")],
        &[("authorization", &wrong)],
    ] {
        let answer = proxy.request(chat(headers)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.code(), "client_token_required");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    for page in ["metrics", "verdicts", "about", "events"] {
        let answer = proxy.get(&format!("/_proxy/{page}")).await;
        assert_eq!(answer.code(), "client_token_required", "{page}");
    }
    // What supervisors ask, who have no token.
    for page in ["live", "ready"] {
        let answer = proxy.get(&format!("/_proxy/{page}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{page}");
    }
    assert!(fake.received().is_empty());

    let bearer = format!("Bearer {TOKEN}");
    for (headers, sent) in [
        (&[("authorization", bearer.as_str())][..], INJECTED),
        (&[("x-api-key", TOKEN)], INJECTED),
        (
            &[
                ("x-verified-proxy-token", TOKEN),
                ("authorization", "Bearer sk-own"),
            ],
            "sk-own",
        ),
    ] {
        fake.clear();
        assert_eq!(proxy.request(chat(headers)).await.status, StatusCode::OK);
        let all = everything(&fake);
        assert!(
            all.contains(&format!("authorization: Bearer {sent}\r\n")),
            "{all}"
        );
        assert!(!all.contains(TOKEN), "{all}");
    }
    assert!(!Log::captured().text().contains(TOKEN));
}

#[cfg(unix)]
#[tokio::test]
async fn a_socket_is_its_owners_alone() {
    use proxy::UnixSocket;
    use std::os::unix::fs::PermissionsExt as _;

    let fake = fake().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("proxy.sock");
    let socket = UnixSocket::bind(&path).await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    // Nothing else is left in the folder.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let config = config(&fake);
    let task = tokio::spawn(async move {
        let shutdown = async {
            let _ = stopped.await;
        };
        proxy::run(config, socket, shutdown).await.unwrap();
    });

    let second = UnixSocket::bind(&path).await.unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);

    let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(chat_request(true)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(body.ends_with(b"data: [DONE]\n\n"));
    drop(sender);
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), task)
        .await
        .unwrap()
        .unwrap();
    assert!(!path.exists());

    // What a killed proxy leaves is replaced; what is no socket is not.
    let left = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(left);
    drop(UnixSocket::bind(&path).await.unwrap());
    std::fs::write(&path, "precious").unwrap();
    let file = UnixSocket::bind(&path).await.unwrap_err();
    assert_eq!(file.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

/// What a page cannot read it can still cause: a picture, a frame, a link in a mail.
/// Browsers say where such a request comes from only to names that they trust, so
/// not to 192.168.1.5, and Safari says it since 16.4; a link from outside the browser is
/// "none", also after a redirect (Fetch Metadata §2.3).
#[tokio::test]
async fn what_a_browser_shows_does_not_spend_the_key() {
    const SAFARI: &str = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/15.6 Safari/605.1.15";
    let fake = fake().await;
    let mut config = config(&fake);
    config.api_key = Some(ApiKey::new(INJECTED).unwrap());
    let proxy = Proxy::start(config).await;
    let get = |headers: &[(&str, &str)]| {
        let target = format!("/v1/anything?model={MODEL}&x-fake=html%3D200");
        let mut request = Request::get(target).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Full::default()).unwrap()
    };
    for headers in [
        &[("user-agent", SAFARI)][..],
        &[
            ("user-agent", SAFARI),
            ("sec-fetch-site", "none"),
            ("sec-fetch-dest", "document"),
        ],
    ] {
        fake.clear();
        let answer = proxy.request(get(headers)).await;
        assert!(
            !everything(&fake).contains(INJECTED),
            "{} {headers:?}",
            answer.status
        );
        // Nor can a document among them act as the proxy's own page.
        let policy = answer.header("content-security-policy");
        assert_eq!(policy, "sandbox; default-src 'none'", "{headers:?}");
    }
    // A program's request, and what a page fetches that may.
    for headers in [
        &[][..],
        &[("user-agent", "curl/8.5.0")],
        &[
            ("user-agent", SAFARI),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-dest", "empty"),
        ],
    ] {
        fake.clear();
        proxy.request(get(headers)).await;
        assert!(everything(&fake).contains(INJECTED), "{headers:?}");
    }
    // PowerShell calls itself Mozilla; a page that posts would say so.
    fake.clear();
    proxy
        .request(chat(&[(
            "user-agent",
            "Mozilla/5.0 (Windows NT; de-DE) WindowsPowerShell/5.1",
        )]))
        .await;
    assert!(everything(&fake).contains(INJECTED));
}

#[cfg(unix)]
#[tokio::test]
async fn a_socket_is_not_taken_from_who_has_it() {
    use proxy::UnixSocket;
    use std::io::ErrorKind;
    use std::os::unix::net::{UnixListener, UnixStream};

    let dir = tempfile::tempdir().unwrap();
    // One whose end comes late leaves the file of its successor alone.
    let path = dir.path().join("restarted.sock");
    let old = UnixSocket::bind(&path).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let new = UnixSocket::bind(&path).await.unwrap();
    drop(old);
    assert!(path.exists());
    drop(new);
    assert!(!path.exists());

    // One that is busy has a full queue, and lives.
    let path = dir.path().join("busy.sock");
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&socket2::SockAddr::unix(&path).unwrap())
        .unwrap();
    socket.listen(0).unwrap();
    let busy = UnixListener::from(socket);
    let _waiting = UnixStream::connect(&path).unwrap();
    let other = UnixSocket::bind(&path).await.map(|_| ());
    assert_eq!(other.unwrap_err().kind(), ErrorKind::AddrInUse);
    drop(busy);

    // A name that is too long for clients is none to listen at.
    let path = dir.path().join("x".repeat(120));
    let long = UnixSocket::bind(&path).await.map(|_| ());
    assert_eq!(long.unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// Of several that start at once, where nothing lies or a killed one's socket, one
/// gets the place.
#[cfg(unix)]
#[test]
fn a_socket_is_not_taken_twice() {
    use proxy::UnixSocket;
    use std::os::unix::net::{UnixListener, UnixStream};

    let dir = tempfile::tempdir().unwrap();
    for round in 0..40 {
        let path = dir.path().join(format!("{round}.sock"));
        if round % 2 == 1 {
            drop(UnixListener::bind(&path).unwrap());
        }
        let start = std::sync::Barrier::new(4);
        let bound = std::thread::scope(|scope| {
            let bind = || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_io()
                    .build();
                let runtime = runtime.unwrap();
                start.wait();
                let bound = runtime.block_on(UnixSocket::bind(&path));
                (bound, runtime)
            };
            let all: Vec<_> = (0..4).map(|_| scope.spawn(bind)).collect();
            let all = all.into_iter().map(|one| one.join().unwrap());
            all.collect::<Vec<_>>()
        });
        let won = bound.iter().filter(|(bound, _)| bound.is_ok()).count();
        assert_eq!(won, 1, "{round} {bound:?}");
        assert!(UnixStream::connect(&path).is_ok(), "{round}");
    }
}

/// However a target is written, the document alone goes out without a token.
#[tokio::test]
async fn no_spelling_of_a_target_goes_past_the_token() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.api_key = Some(ApiKey::new(INJECTED).unwrap());
    config.guard.tokens = Some(ClientTokens::parse(&format!("ann {TOKEN}")).unwrap());
    let proxy = Proxy::start(config).await;
    for target in [
        "/",
        "/_proxy",
        "/_proxy/verdicts",
        "/_proxy/../_proxy/verdicts",
        "/_proxy%2Fverdicts",
        "/_proxy/%2e/verdicts",
        "//_proxy/verdicts",
        "//_proxy/",
        "/_proxy//",
        "/_PROXY/",
        "/_proxy/.",
        "http://localhost/_proxy/verdicts",
        "http://localhost",
        "http://localhost?model=fake/llama",
        "/v1/models",
        "/x?model=fake/llama",
        "*",
    ] {
        for method in ["GET", "HEAD", "POST", "OPTIONS", "PUT", "TRACE"] {
            for version in ["1.1", "1.0"] {
                let raw = format!(
                    "{method} {target} HTTP/{version}\r\nHost: localhost\r\nX-Backend-Domain: {DOMAIN}\r\nAccess-Control-Request-Method: POST\r\nConnection: close\r\n\r\n"
                );
                let answer = proxy.raw(raw.as_bytes()).await;
                let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
                assert_eq!(status, "401", "{method} {target} {version}: {answer}");
            }
        }
    }
    // As the document goes out, so does nothing that comes along with the question.
    for target in [
        "/_proxy/",
        "/_proxy/?model=fake/llama",
        "http://localhost/_proxy/",
    ] {
        let raw = format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nX-Backend-Domain: {DOMAIN}\r\nConnection: close\r\n\r\n"
        );
        let answer = proxy.raw(raw.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{target}: {answer}");
        assert!(answer.contains("<title>verified-proxy</title>"), "{target}");
    }
    assert!(fake.received().is_empty());
}

/// threats.md C4.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_leaves_no_memory_in_a_file() {
    let fake = fake().await;
    let limits = Program::start(&fake, &[]).limits();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core: Vec<_> = core.unwrap().split_whitespace().collect();
    assert_eq!(core, ["Max", "core", "file", "size", "0", "0", "bytes"]);
}

/// threats.md C6: a panic in the middle of a request says nothing of it, and ends
/// no more than its connection.
#[tokio::test]
async fn a_panic_says_nothing_of_a_client() {
    use proxy::config::Clock;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    let fake = fake().await;
    let armed = Arc::new(AtomicBool::new(false));
    let panics = Arc::clone(&armed);
    let mut config = config(&fake);
    config.clock = Clock::from_fn(move || {
        assert!(!panics.load(Ordering::SeqCst), "the clock is broken");
        attest::UnixTime(fake_tee::serve::unix_now())
    });
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    let said = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&said);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        heard.lock().unwrap().push_str(&format!("{panic}\n"));
    }));
    armed.store(true, Ordering::SeqCst);
    let body = format!("{{\"model\":\"{MODEL}\",\"x\":\"{CANARY}\"}}");
    let request = format!(
        "POST /{CANARY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {API_KEY}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = proxy.raw(request.as_bytes()).await;
    armed.store(false, Ordering::SeqCst);
    std::panic::set_hook(usual);
    assert_eq!(answer, "", "nothing was answered");
    let said = said.lock().unwrap().clone() + &Log::captured().text();
    assert!(said.contains("the clock is broken"), "{said}");
    for secret in [CANARY, API_KEY] {
        assert!(!said.contains(secret), "{said}");
    }
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
}
