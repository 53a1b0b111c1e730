//! Fetches of Intel's collateral and of the endpoint list, which outlive the
//! clients that asked for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use attest::UnixTime;
use fake_tee::serve::{Options, unix_now};
use http::StatusCode;
use proxy::Config;
use proxy::config::Clock;

use crate::harness::*;

#[tokio::test]
async fn a_client_that_leaves_does_not_stop_a_fetch() {
    let fake = fake().await;
    let front = front(&fake).await;
    front.silent.store(true, Ordering::SeqCst);
    let mut config = config(&fake);
    config.collateral_sources = vec![front.url(), fake.http_url().parse().unwrap()];
    let proxy = Proxy::start(config).await;
    // Each is gone long before the silent source has had its head start.
    for _ in 0..12 {
        let patience = Duration::from_millis(300);
        if let Ok(answer) = tokio::time::timeout(patience, proxy.chat()).await {
            assert_eq!(answer.status, StatusCode::OK);
            return;
        }
    }
    panic!("the second source was never reached");
}

#[tokio::test]
async fn a_silent_source_costs_its_head_start_once() {
    let (fake, silent) = (fake().await, fake().await);
    let silent = front(&silent).await;
    silent.silent.store(true, Ordering::SeqCst);
    let time = Arc::new(AtomicU64::new(unix_now()));
    let read = Arc::clone(&time);
    let mut config = config(&fake);
    config.clock = Clock::from_fn(move || UnixTime(read.load(Ordering::SeqCst)));
    config.collateral_sources = vec![silent.url(), fake.http_url().parse().unwrap()];
    config.verdict_ttl = Duration::from_secs(1);
    let proxy = Proxy::start(config).await;
    let timed = async || {
        let began = std::time::Instant::now();
        assert_eq!(proxy.chat().await.status, StatusCode::OK);
        began.elapsed()
    };
    assert!(timed().await >= Duration::from_secs(2));
    // Nearly a day later the documents are fetched anew; the silent source is
    // remembered to be silent, but not for so long.
    time.fetch_add(60 + 24 * 3600, Ordering::SeqCst);
    assert!(timed().await < Duration::from_secs(4));
}

#[tokio::test]
async fn documents_that_ended_are_not_fetched_without_pause() {
    let fake = fake().await;
    let front = front(&fake).await;
    fake.change(|spec| {
        spec.tcb_info.next_update = UnixTime(unix_now() - 60).to_string();
    })
    .unwrap();
    let time = Arc::new(AtomicU64::new(unix_now()));
    let read = Arc::clone(&time);
    let mut config = config(&fake);
    config.clock = Clock::from_fn(move || UnixTime(read.load(Ordering::SeqCst)));
    config.collateral_sources = vec![front.url()];
    let proxy = Proxy::start(config).await;
    // Fewer than make the proxy leave the backend alone for a while.
    for _ in 0..2 {
        assert_eq!(proxy.chat().await.code(), "rejected_collateral_expired");
    }
    let once = front.asked();
    assert_eq!(once, 5, "four documents and the list of editions");
    time.fetch_add(61, Ordering::SeqCst);
    fake.change(|_| {}).unwrap();
    assert_eq!(proxy.chat().await.status, StatusCode::OK, "mended");
    assert_eq!(front.asked(), once + 4, "the list has not ended");
}

#[tokio::test]
async fn an_old_list_is_answered_with_at_once() {
    let fake = fake().await;
    let front = front(&fake).await;
    let time = Arc::new(AtomicU64::new(unix_now()));
    let read = Arc::clone(&time);
    let mut config = config(&fake);
    config.clock = Clock::from_fn(move || UnixTime(read.load(Ordering::SeqCst)));
    config.endpoints_url = front.list();
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.get("/v1/models").await.status, StatusCode::OK);
    assert_eq!(front.asked(), 1);
    // As after a sleep.
    time.fetch_add(301, Ordering::SeqCst);
    front.silent.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        let answer = tokio::time::timeout(Duration::from_secs(1), proxy.get("/v1/models")).await;
        assert_eq!(answer.unwrap().status, StatusCode::OK);
    }
    until("one fetch in the background", || front.asked() == 2).await;
}

#[tokio::test]
async fn collateral_is_renewed_in_the_background_before_it_runs_out() {
    let (fake, state) = (
        fake_with(Options {
            pccs: true,
            ..Options::default()
        })
        .await,
        place(),
    );
    let front = front(&fake).await;
    let time = Arc::new(AtomicU64::new(unix_now()));
    let read = Arc::clone(&time);
    let config = Config {
        clock: Clock::from_fn(move || UnixTime(read.load(Ordering::SeqCst))),
        collateral_sources: vec![front.url()],
        ..with_state(&fake, &state)
    };
    let proxy = Proxy::start(config.clone()).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    assert_eq!(front.asked(), 5);
    until("written", || file(&state, "collateral-").is_some()).await;
    // Nineteen hours of twenty-four; the verdict has ended as well.
    time.fetch_add(19 * 3600, Ordering::SeqCst);
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    until("four documents and the list anew", || front.asked() == 10).await;
    stop(proxy).await;
    // Two days later: fetched at start, before anybody asks.
    time.fetch_add(2 * 24 * 3600, Ordering::SeqCst);
    let _proxy = Proxy::start(config).await;
    until("prewarmed", || front.asked() == 14).await;
}
