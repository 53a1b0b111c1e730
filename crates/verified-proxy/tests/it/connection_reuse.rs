//! Connections that are kept, and verdicts that are made anew: threats.md B4 to B6.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use attest::UnixTime;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use proxy::config::Clock;

use crate::harness::*;

fn ok(_: &http::Request<bytes::Bytes>) -> Response<Script> {
    Response::new(Script::whole(b"{}".to_vec()))
}

/// A connection is put back when its answer was read, by another task.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// The system's clock, and what is added to it.
fn stepped() -> (Clock, Arc<AtomicU64>) {
    let ahead = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&ahead);
    let system = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let clock =
        Clock::from_fn(move || UnixTime(system().unwrap().as_secs() + seen.load(Ordering::SeqCst)));
    (clock, ahead)
}

#[tokio::test]
async fn one_connection_serves_one_request_after_another() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    for _ in 0..5 {
        assert_eq!(proxy.chat().await.status, StatusCode::OK);
        settle().await;
    }
    let received = fake.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].request_lines.len(), 6);
}

#[tokio::test]
async fn a_connection_has_limits() {
    for limit in ["requests", "idle", "age"] {
        let fake = fake().await;
        let mut config = config(&fake);
        match limit {
            "requests" => config.pool.requests = 1,
            "idle" => config.pool.idle = Duration::from_millis(1),
            _ => config.pool.age = Duration::from_millis(1),
        }
        let proxy = Proxy::start(config).await;
        for _ in 0..2 {
            assert_eq!(proxy.chat().await.status, StatusCode::OK);
            settle().await;
        }
        assert_eq!(fake.received().len(), 2, "{limit}");
        assert_eq!(probes(&fake.received()), 1, "{limit}");
    }
}

#[tokio::test]
async fn what_lies_idle_is_closed_without_being_asked() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, ok).await;
    let mut config = backend.config(&fake);
    config.pool.idle = Duration::from_millis(100);
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    until("the connection is still open", || backend.open() == 0).await;
}

#[tokio::test]
async fn there_are_never_more_connections_than_places() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.pool.per_backend = 3;
    let proxy = Arc::new(Proxy::start(config).await);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let proxy = Arc::clone(&proxy);
        requests.spawn(async move { proxy.chat().await.status });
    }
    assert_eq!(requests.join_all().await, [StatusCode::OK; 30]);
    assert!(fake.received().len() <= 3, "{}", fake.received().len());
}

#[tokio::test]
async fn who_finds_no_place_in_time_is_told_to_come_again() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, |_| {
        Response::new(Script::new(&["data: 1\n\n"], End::Never))
    })
    .await;
    let mut config = backend.config(&fake);
    config.pool.per_backend = 1;
    config.attest_timeout = Duration::from_secs(2);
    let proxy = Proxy::start(config).await;
    let mut first = proxy.send(chat_request(true)).await;
    assert!(first.frame().await.unwrap().is_ok());
    let answer = proxy.chat().await;
    assert_eq!(answer.code(), "busy");
    assert!(!answer.header("retry-after").is_empty());
    drop(first);
    // The place is free again.
    let mut next = proxy.send(chat_request(true)).await;
    assert!(next.frame().await.unwrap().is_ok());
}

#[tokio::test]
async fn an_answer_that_was_not_read_to_its_end_ends_the_connection() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, |_| {
        Response::new(Script::new(&["data: 1\n\n"], End::Never))
    })
    .await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let mut response = proxy.send(chat_request(true)).await;
    assert!(response.frame().await.unwrap().is_ok());
    assert_eq!(backend.open(), 1);
    drop(response);
    until("the connection is still open", || backend.open() == 0).await;
}

#[tokio::test]
async fn a_verdict_in_use_is_renewed_on_the_connection_that_is_there() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.verdict_ttl = Duration::from_secs(4);
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    settle().await;
    // In use.
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    until("not renewed", || probes(&fake.received()) == 2).await;
    // It is judged after it was asked for.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(fake.received().len(), 1);
    let verdicts = proxy.get("/_proxy/verdicts").await.json();
    let stands: Vec<_> = verdicts["verdicts"].as_array().unwrap().iter().collect();
    assert_eq!(stands.len(), 2, "{verdicts}");
    assert_eq!(stands[0]["stands"], true);
    assert_eq!(stands[1]["stands"], false);
    // Not used since: it is let go.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(probes(&fake.received()), 2);
}

#[tokio::test]
async fn a_renewal_that_is_refused_ends_the_verdict_at_once() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.verdict_ttl = Duration::from_secs(4);
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    settle().await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    fake.tamper("debug-td").unwrap();
    until("not renewed", || probes(&fake.received()) == 2).await;
    settle().await;
    // Its second is not over: three quarters of four seconds have passed.
    fake.clear();
    assert_eq!(proxy.chat().await.code(), "rejected_td_debug");
    assert_only_probes(&fake.received());
    let verdicts = proxy.get("/_proxy/verdicts").await.json();
    let entries = verdicts["verdicts"].as_array().unwrap();
    assert!(
        entries.iter().all(|entry| entry["stands"] == false),
        "{verdicts}"
    );
}

#[tokio::test]
async fn a_machine_that_slept_attests_again() {
    let fake = fake().await;
    let (clock, ahead) = stepped();
    let mut config = config(&fake);
    config.clock = clock;
    let proxy = Proxy::start(config).await;
    for _ in 0..2 {
        assert_eq!(proxy.chat().await.status, StatusCode::OK);
        settle().await;
    }
    assert_eq!(probes(&fake.received()), 1);
    // The monotonic clock stood still; an hour and a bit passed.
    ahead.store(3_700, Ordering::SeqCst);
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    settle().await;
    // Not on the connection that was there: the backend has long closed it.
    assert_eq!((probes(&fake.received()), fake.received().len()), (2, 2));
    // Back behind the making of the verdict: it says nothing then.
    ahead.store(0, Ordering::SeqCst);
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    assert_eq!(probes(&fake.received()), 3);
}

#[tokio::test]
async fn a_storm_of_interim_answers_ends() {
    const STORM: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    static ENDLESS: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| STORM.repeat(100_000));
    static FEW: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        STORM.repeat(16) + "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    });
    let fake = fake().await;
    for (raw, status) in [(&FEW, StatusCode::OK), (&ENDLESS, StatusCode::BAD_GATEWAY)] {
        let oddities = Oddities {
            raw_answer: Some(raw.as_str()),
            ..NO_ODDITIES
        };
        let backend = Scripted::start(&fake, oddities, ok).await;
        let proxy = Proxy::start(backend.config(&fake)).await;
        let began = std::time::Instant::now();
        let answer = proxy.chat().await;
        assert_eq!(answer.status, status);
        if status == StatusCode::BAD_GATEWAY {
            assert_eq!(answer.code(), "backend_broke_off");
        }
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_renewal_that_waits_for_a_place_holds_nobody_up() {
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
    config.verdict_ttl = Duration::from_secs(2);
    let proxy = Arc::new(Proxy::start(config).await);
    for _ in 0..2 {
        assert_eq!(proxy.chat().await.status, StatusCode::OK);
        settle().await;
    }
    // The one place is taken; somebody waits for it, and then the renewal does.
    let mut long = proxy.send(chat_request(true)).await;
    assert!(long.frame().await.unwrap().is_ok());
    let waiting = Arc::clone(&proxy);
    let waiting = tokio::spawn(async move { waiting.chat().await.status });
    tokio::time::sleep(Duration::from_secs(3)).await;
    // The verdict is over, so who gets the place has to attest.
    drop(long);
    let status = tokio::time::timeout(Duration::from_secs(5), waiting).await;
    assert_eq!(status.unwrap().unwrap(), StatusCode::OK);
}
