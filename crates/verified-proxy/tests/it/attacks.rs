//! Attacks on the way to backends: threats.md B5 to B8.

#![expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use attest::UnixTime;
use fake_tee::serve::{Options, Running, unix_now};
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use proxy::config::{BackendTimeouts, Clock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::*;

async fn fleet(instances: usize) -> Running {
    fake_with(Options {
        instances,
        ..Options::default()
    })
    .await
}

/// A connection is put back when its answer was read, by another task.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

/// Whether any backend got `needle`.
fn got(fake: &Running, needle: &str) -> bool {
    let received = fake.received();
    let mut bytes = received.iter().map(|connection| &connection.bytes);
    bytes.any(|bytes| String::from_utf8_lossy(bytes).contains(needle))
}

fn open(fake: &Running) -> usize {
    let received = fake.received();
    let open = received.iter().filter(|one| one.closed.is_none());
    open.count()
}

/// A request of its own kind for the named backend.
fn to(domain: &str, path: &str) -> Request<Full<bytes::Bytes>> {
    Request::get(path)
        .header("host", "localhost")
        .header("x-backend-domain", domain)
        .body(Full::default())
        .unwrap()
}

/// Who asks for signatures of an instance that is gone must not fill the pool
/// with connections to others, beyond all places.
#[tokio::test]
async fn connections_to_the_wrong_instance_do_not_pile_up() {
    let fake = fleet(1).await;
    let mut config = config(&fake);
    config.pool.per_backend = 2;
    let proxy = Proxy::start(config).await;
    let answer = proxy.chat().await;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let id = text.split("\"id\":\"").nth(1).unwrap();
    let id = id.split('"').next().unwrap().to_owned();
    fake.rotate(0).unwrap();
    fake.restart(0).unwrap();
    settle().await;
    for _ in 0..5 {
        let signature = proxy.get(&format!("/v1/signature/{id}")).await;
        assert_eq!(signature.code(), "backend_unreachable");
    }
    settle().await;
    assert!(open(&fake) <= 2, "{} connections are open", open(&fake));
}

/// One machine, one TLS key, two names: what it showed under one name counts
/// under the other as well.
#[tokio::test]
async fn a_key_that_was_refused_under_one_name_gets_nothing_under_another() {
    const OTHER: &str = "fake-other.completions.near.ai";
    let fake = fake_with(Options {
        also: vec![(OTHER.to_owned(), vec![MODEL.to_owned()])],
        ..Options::default()
    })
    .await;
    let mut config = config(&fake);
    let port = fake.backend.port();
    config.connect_to = vec![format!("::127.0.0.1:{port}").parse().unwrap()];
    config.endpoints_url = fake.endpoints_url().parse().unwrap();
    let proxy = Proxy::start(config).await;
    assert_eq!(
        proxy.request(to(OTHER, "/v1/models")).await.status,
        StatusCode::OK
    );
    fake.tamper("debug-td").unwrap();
    let refused = proxy.request(to(DOMAIN, "/v1/models")).await;
    assert_eq!(refused.code(), "rejected_td_debug");
    fake.clear();
    settle().await;
    let other = proxy.request(to(OTHER, "/v1/models?again")).await;
    assert!(!got(&fake, "again"), "sent: {}", other.status);
    assert_eq!(other.code(), "rejected_td_debug");
}

/// A body that is still on its way when its machine is refused stops.
#[tokio::test]
async fn no_more_of_a_body_goes_to_a_machine_that_was_refused() {
    let fake = fleet(1).await;
    let mut config = config(&fake);
    config.verdict_ttl = Duration::from_secs(6);
    let proxy = Proxy::start(config).await;
    for _ in 0..2 {
        assert_eq!(proxy.chat().await.status, StatusCode::OK);
        settle().await;
    }
    let mut upload = TcpStream::connect(proxy.address).await.unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let first = format!(r#"{{"model":"{MODEL}","messages":["first-half"#);
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    upload.write_all(head.as_bytes()).await.unwrap();
    upload.write_all(chunk(&first).as_bytes()).await.unwrap();
    until("the first half did not come", || got(&fake, "first-half")).await;
    fake.tamper("debug-td").unwrap();
    until("not renewed", || probes(&fake.received()) == 2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let verdicts = proxy.get("/_proxy/verdicts").await.json();
    let entries = verdicts["verdicts"].as_array().unwrap();
    assert!(
        entries.iter().all(|entry| entry["stands"] == false),
        "{verdicts}"
    );
    // It was refused; the client goes on.
    let _ = upload.write_all(chunk("second-half").as_bytes()).await;
    let mut answer = Vec::new();
    let read = upload.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(5), read).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        !got(&fake, "second-half"),
        "sent after the refusal: {answer}"
    );
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(
        answer.contains("\"code\":\"backend_broke_off\""),
        "{answer}"
    );
}

/// One instance that never reports must not keep its neighbours from being
/// attested.
#[tokio::test]
async fn an_instance_that_hangs_holds_up_nobody_else() {
    let fake = Arc::new(fleet(2).await);
    fake.order("/v1/attestation/report", "hang", 1).unwrap();
    let mut config = config(&fake);
    config.attest_timeout = Duration::from_secs(20);
    let proxy = Arc::new(Proxy::start(config).await);
    fake.pin(Some(0));
    let hung = Arc::clone(&proxy);
    let hung = tokio::spawn(async move { hung.chat().await.code() });
    until("not asked", || probes(&fake.received()) == 1).await;
    fake.pin(Some(1));
    let began = Instant::now();
    let answer = proxy.chat().await;
    let took = began.elapsed();
    assert_eq!(answer.status, StatusCode::OK);
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_eq!(hung.await.unwrap(), "backend_timeout");
}

/// A burst on an instance that hangs: who queued behind the first does not ask
/// the same machine again, each for the whole time, with a place each.
#[tokio::test]
async fn a_burst_on_an_instance_that_hangs_is_over_with_its_first() {
    let fake = fleet(1).await;
    fake.order("/v1/attestation/report", "hang", u64::MAX)
        .unwrap();
    let mut config = config(&fake);
    config.backend_timeouts.report = Duration::from_secs(1);
    config.attest_timeout = Duration::from_secs(60);
    let proxy = Arc::new(Proxy::start(config).await);
    let began = Instant::now();
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let proxy = Arc::clone(&proxy);
        requests.spawn(async move { proxy.chat().await.code() });
    }
    let codes = requests.join_all().await;
    assert!(
        codes.iter().all(|code| code == "backend_timeout"),
        "{codes:?}"
    );
    // Three connections each, a second each, some after others; not thirty.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(
        probes(&fake.received()) < 15,
        "{}",
        probes(&fake.received())
    );
}

/// A backend that spoke HTTP/1.0 once and keeps its connection: a body without a
/// length has no way to be sent there, and is not dropped without a word.
#[tokio::test]
async fn a_body_is_not_lost_on_a_connection_that_spoke_http_1_0() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, |request| {
        let body = format!("got {} bytes", request.body().len());
        let mut response = Response::new(Script::whole(body.clone().into_bytes()));
        let headers = response.headers_mut();
        headers.insert("content-length", body.len().into());
        headers.insert("connection", "keep-alive".parse().unwrap());
        *response.version_mut() = Version::HTTP_10;
        response
    })
    .await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    assert_eq!(
        proxy.request(to(DOMAIN, "/first")).await.status,
        StatusCode::OK
    );
    settle().await;
    let answer = proxy
        .raw(
            format!(
                "POST /second HTTP/1.1\r\nhost: localhost\r\nx-backend-domain: {DOMAIN}\r\n\
                 transfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            )
            .as_bytes(),
        )
        .await;
    assert!(
        answer.contains("got 5 bytes") || answer.starts_with("HTTP/1.1 502 "),
        "{answer} {:?}",
        backend.lines()
    );
}

/// The family that evidence names is a claim of the instance: one that makes it
/// up is left for its neighbours, as any other bad one.
#[tokio::test]
async fn an_instance_that_names_an_unknown_platform_family_is_left_for_another() {
    let fake = fleet(2).await;
    fake.change_instance(0, |spec| spec.platform.fmspc = [0, 1, 2, 3, 4, 5])
        .unwrap();
    fake.order_instances([0, 1, 1]);
    let proxy = Proxy::in_front_of(&fake).await;
    let answer = proxy.chat().await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.code());
}

/// Bytes behind an answer are nobody's answer: neither with it in one piece nor
/// while the connection lies idle.
#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_given_to_nobody() {
    let fake = fleet(1).await;
    let proxy = Proxy::in_front_of(&fake).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    fake.order("/v1/models", "long", 100).unwrap();
    for _ in 0..20 {
        let answer = proxy.request(to(DOMAIN, "/v1/models")).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(!text.contains("forged"), "{text}");
        let next = proxy.chat().await;
        assert_eq!(next.status, StatusCode::OK);
        let text = String::from_utf8_lossy(&next.body).into_owned();
        assert!(text.contains("chat.completion"), "{text}");
    }
}

/// An answer that comes before the request's body has gone leaves no rest of it
/// on a connection that another request gets.
#[tokio::test]
async fn an_early_answer_leaves_nothing_behind() {
    let fake = fleet(1).await;
    let proxy = Arc::new(Proxy::in_front_of(&fake).await);
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    settle().await;
    fake.order("/v1/upload", "early", 1).unwrap();
    let mut upload = TcpStream::connect(proxy.address).await.unwrap();
    let head = format!(
        "POST /v1/upload HTTP/1.1\r\nhost: localhost\r\nx-backend-domain: {DOMAIN}\r\ncontent-length: 100000\r\n\r\nfirst-half"
    );
    upload.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    upload.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    for _ in 0..5 {
        let answer = proxy.chat().await;
        assert_eq!(answer.status, StatusCode::OK);
        let _ = upload.write_all(b"more of the upload").await;
        settle().await;
    }
    for one in fake.received() {
        let text = String::from_utf8_lossy(&one.bytes);
        let at = text.find("first-half");
        assert!(at.is_none_or(|at| !text[at..].contains("POST ")), "{text}");
    }
}

/// An answer under way ends without its place being lost.
#[tokio::test]
async fn places_come_back_whatever_ends_a_request() {
    let fake = fleet(1).await;
    let mut config = config(&fake);
    config.pool.per_backend = 2;
    config.attest_timeout = Duration::from_secs(10);
    let proxy = Arc::new(Proxy::start(config).await);
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    for what in [
        "reset",
        "no-answer",
        "cut-body",
        "cut-chunked",
        "garbage",
        "header-flood",
        "switch",
        "1xx",
        "two-lengths",
        "bad-chunk",
        "early-close",
        "http10",
        "long",
        "close",
        "redirect",
    ] {
        for _ in 0..4 {
            fake.order("/v1/models", what, 1).unwrap();
            let response = proxy.send(to(DOMAIN, "/v1/models")).await;
            let _ = response.into_body().collect().await;
        }
        fake.order("/v1/models", what, 0).unwrap();
        let answer = proxy.chat().await;
        assert_eq!(answer.status, StatusCode::OK, "{what}");
    }
    // Clients that go away at once.
    fake.order("/v1/models", "hang", 20).unwrap();
    for _ in 0..20 {
        let gone = Arc::clone(&proxy);
        let gone = tokio::spawn(async move { gone.request(to(DOMAIN, "/v1/models")).await });
        tokio::time::sleep(Duration::from_millis(30)).await;
        gone.abort();
        let _ = gone.await;
    }
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
}

/// A machine that slept for less than its verdicts last: its connections are
/// dead, and a request would be lost on one after a quarter of an hour.
#[tokio::test]
async fn a_connection_that_slept_is_not_used_again() {
    let fake = fake().await;
    let ahead = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&ahead);
    let mut config = config(&fake);
    config.clock = Clock::from_fn(move || UnixTime(unix_now() + seen.load(Ordering::SeqCst)));
    let proxy = Proxy::start(config).await;
    for _ in 0..2 {
        assert_eq!(proxy.chat().await.status, StatusCode::OK);
        settle().await;
    }
    assert_eq!(fake.received().len(), 1);
    // The monotonic clock stood still.
    ahead.store(30 * 60, Ordering::SeqCst);
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    assert_eq!((fake.received().len(), probes(&fake.received())), (2, 1));
}

/// Renewals that waited for a place while the verdict was made anew have nothing
/// left to do.
#[tokio::test]
async fn renewals_that_waited_do_not_probe_one_after_another() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, |request| {
        let body = String::from_utf8_lossy(request.body());
        Response::new(match body.contains("\"stream\":true") {
            true => Script::new(&["data: 1\n\n"], End::Never),
            false => Script::whole(b"{}".to_vec()),
        })
    })
    .await;
    let mut config = backend.config(&fake);
    config.pool.per_backend = 1;
    config.verdict_ttl = Duration::from_secs(8);
    let proxy = Proxy::start(config).await;
    for _ in 0..2 {
        assert_eq!(proxy.chat().await.status, StatusCode::OK);
        settle().await;
    }
    let mut long = proxy.send(chat_request(true)).await;
    assert!(long.frame().await.unwrap().is_ok());
    // Due after 6 s, and every half second from then on.
    tokio::time::sleep(Duration::from_millis(7_800)).await;
    let asked = || {
        let lines = backend.lines();
        lines
            .iter()
            .filter(|line| line.contains("/v1/attestation/report"))
            .count()
    };
    assert_eq!(asked(), 1);
    drop(long);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(asked() <= 2, "{} probes", asked());
}

/// An answer that has no body says nothing of a length to wait for.
#[tokio::test]
async fn an_answer_without_a_body_announces_none() {
    let fake = fake().await;
    for raw in [
        "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let oddities = Oddities {
            raw_answer: Some(raw),
            ..NO_ODDITIES
        };
        let backend = Scripted::start(&fake, oddities, |_| unreachable!()).await;
        let proxy = Proxy::start(backend.config(&fake)).await;
        let request = format!(
            "GET /x HTTP/1.1\r\nhost: localhost\r\nx-backend-domain: {DOMAIN}\r\n\r\n\
             GET /_proxy/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        );
        let answer = proxy.raw(request.as_bytes()).await.to_ascii_lowercase();
        let (first, _) = answer.split_once("\r\n\r\n").unwrap();
        assert!(first.starts_with("http/1.1 204 "), "{answer}");
        assert!(
            !first.contains("content-length") && !first.contains("transfer-encoding"),
            "{answer}"
        );
        assert_eq!(answer.matches("http/1.1 200 ").count(), 1, "{answer}");
        assert!(!answer.contains("hello"), "{answer}");
    }
}

/// Whoever embeds the library may mean "for ever" and say so.
#[tokio::test]
async fn limits_without_a_limit_are_no_panic() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.attest_timeout = Duration::MAX;
    config.verdict_ttl = Duration::MAX;
    config.pool.per_backend = usize::MAX;
    config.pool.idle = Duration::MAX;
    config.pool.age = Duration::MAX;
    config.backend_timeouts = BackendTimeouts {
        connect: Duration::MAX,
        first_byte: Duration::MAX,
        idle: Duration::MAX,
        ..BackendTimeouts::default()
    };
    let proxy = Proxy::start(config).await;
    for _ in 0..2 {
        assert_eq!(proxy.chat().await.status, StatusCode::OK);
        // Housekeeping comes between.
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    assert_eq!(probes(&fake.received()), 1);
}
