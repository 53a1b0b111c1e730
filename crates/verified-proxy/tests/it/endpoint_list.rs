//! The endpoint list is a hint of somebody unknown: whatever it says or fails to
//! say, it costs no more than itself (threats.md B10).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use attest::UnixTime;
use fake_tee::serve::{Behaviour, Running, unix_now};
use http::StatusCode;
use proxy::config::Clock;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::harness::*;

fn list(entries: &Value) -> Behaviour {
    Behaviour::Body(json!({ "endpoints": entries }).to_string())
}

/// So many entries of a few bytes.
fn many(entries: usize) -> Behaviour {
    let entries = "0,".repeat(entries);
    Behaviour::Body(format!(
        r#"{{"endpoints":[{entries}{{"domain":"{DOMAIN}","models":["{MODEL}"]}}]}}"#
    ))
}

/// None of them is a list, and what is said of it.
fn bad() -> Vec<(Behaviour, &'static str)> {
    vec![
        (Behaviour::Html, "something other than an endpoint list"),
        (Behaviour::Status(500), "status 500"),
        (Behaviour::Status(204), "status 204"),
        (Behaviour::Status(302), "status 302"),
        (Behaviour::Gone, "broke off"),
        (Behaviour::Huge(64 << 20), "more than 1048576 bytes"),
        (Behaviour::Body(String::new()), "something other"),
        (Behaviour::Body("[]".to_owned()), "something other"),
        // In a MiB, and in more than that.
        (many(500_000), "at most 10000"),
        (many(1_000_000), "more than 1048576 bytes"),
        (list(&json!([])), "no backend"),
        (
            list(&json!([{"domain": "evil.example", "models": [MODEL]}])),
            "no backend",
        ),
    ]
}

#[tokio::test]
async fn without_a_list_nobody_is_asked() {
    let fake = fake().await;
    for (behaviour, why) in bad() {
        fake.endpoints(behaviour);
        let answer = Proxy::in_front_of(&fake).await.chat().await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{why}");
        assert_eq!(answer.code(), "endpoints_unavailable", "{why}");
        let message = answer.message();
        assert!(message.contains(why), "{why}: {message}");
        assert!(message.contains("--endpoints-url"), "{message}");
        assert!(message.len() < 1_000, "{message}");
    }
    assert_eq!(fake.instances()[0].accepted, 0);
}

#[tokio::test]
async fn a_slow_list_is_waited_for_and_a_silent_one_is_not() {
    let fake = fake().await;
    fake.endpoints(Behaviour::Slow(Duration::from_millis(500)));
    let answer = Proxy::in_front_of(&fake).await.chat().await;
    assert_eq!(answer.status, StatusCode::OK);
    fake.endpoints(Behaviour::Hang);
    let before = fake.instances()[0].accepted;
    let patience = Duration::from_secs(60);
    let proxy = Proxy::in_front_of(&fake).await;
    let answer = tokio::time::timeout(patience, proxy.chat()).await.unwrap();
    assert_eq!(answer.code(), "endpoints_unavailable");
    let message = answer.message();
    assert!(
        message.contains("the server did not send a complete answer within 10 s"),
        "{message}"
    );
    assert_eq!(fake.instances()[0].accepted, before);
}

/// Until `fake` was asked for the list once more.
async fn fetched_since(fake: &Running, before: u64) {
    for _ in 0..1_000 {
        if fake.endpoints_fetches() > before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the list was not asked for");
}

#[tokio::test]
async fn the_last_good_list_is_kept_until_there_is_a_better() {
    let fake = fake().await;
    let time = Arc::new(AtomicU64::new(unix_now()));
    let read = Arc::clone(&time);
    let mut config = config(&fake);
    config.clock = Clock::from_fn(move || UnixTime(read.load(Ordering::SeqCst)));
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    let mut bad = bad();
    bad.push((Behaviour::Hang, "silence"));
    bad.push((Behaviour::Slow(Duration::from_secs(3)), "slowness"));
    for (behaviour, what) in bad {
        fake.endpoints(behaviour);
        // Older than five minutes: the next one who asks has it fetched again.
        time.fetch_add(301, Ordering::SeqCst);
        let before = fake.endpoints_fetches();
        let answer = proxy.chat().await;
        assert_eq!(answer.status, StatusCode::OK, "{what}");
        // One fetch is under way at a time, so after a silent one there is none.
        if what != "slowness" {
            fetched_since(&fake, before).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let answer = proxy.chat().await;
        assert_eq!(answer.status, StatusCode::OK, "{what}");
        let models = proxy.get("/v1/models").await.json();
        assert_eq!(models["data"][0]["id"], MODEL, "{what}");
    }
}

#[tokio::test]
async fn a_better_list_takes_the_place_of_one_that_was_kept() {
    let fake = fake().await;
    let time = Arc::new(AtomicU64::new(unix_now()));
    let read = Arc::clone(&time);
    let mut config = config(&fake);
    config.clock = Clock::from_fn(move || UnixTime(read.load(Ordering::SeqCst)));
    let proxy = Proxy::start(config).await;
    let ids = async || proxy.get("/v1/models").await.json()["data"].clone();
    assert_eq!(ids().await.as_array().unwrap().len(), 1);
    let entry = json!({"domain": DOMAIN, "models": [MODEL, "fake/alias"]});
    for (behaviour, models) in [(Behaviour::Html, 1), (list(&json!([entry])), 2)] {
        fake.endpoints(behaviour);
        time.fetch_add(301, Ordering::SeqCst);
        let before = fake.endpoints_fetches();
        ids().await;
        fetched_since(&fake, before).await;
        for _ in 0..500 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if ids().await.as_array().unwrap().len() == models {
                break;
            }
        }
        assert_eq!(ids().await.as_array().unwrap().len(), models);
    }
}

#[tokio::test]
async fn domains_of_others_are_not_dialled_and_names_given_twice_are_one() {
    let fake = fake().await;
    // Whoever is asked there is somebody else.
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let dialled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dialled);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let others = [
        "evil.example",
        "completions.near.ai",
        "a.b.completions.near.ai",
        "fake-llama.completions.near.ai.evil.example",
    ];
    let mut config = config(&fake);
    for other in others {
        let to = format!("{other}:443:127.0.0.1:{port}");
        config.connect_to.push(to.parse().unwrap());
    }
    let mut entries: Vec<_> = others
        .iter()
        .chain(&["127.0.0.1", "fake-llama.completions.near.ai:8443", ""])
        .map(|domain| json!({"domain": domain, "models": [MODEL, "fake/foreign"]}))
        .collect();
    entries.push(json!({"domain": DOMAIN, "models": ["fake/alias"]}));
    entries.push(json!({"domain": DOMAIN.to_uppercase(), "models": [MODEL, MODEL]}));
    fake.endpoints(list(&entries.into()));
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    let models = proxy.get("/v1/models").await.json();
    let models = models["data"].as_array().unwrap();
    let ids: Vec<_> = models.iter().map(|model| &model["id"]).collect();
    assert_eq!(ids, ["fake/alias", MODEL]);
    assert_eq!(probes(&fake.received()), 1);
    assert_eq!(dialled.load(Ordering::SeqCst), 0);
}
