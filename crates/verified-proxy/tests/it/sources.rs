//! Intel's collateral: where it comes from, and what happens when it does not.

use fake_tee::serve::Options;
use http::StatusCode;

use crate::harness::*;

async fn nowhere() -> String {
    format!("http://127.0.0.1:{}", dead_port().await)
}

#[tokio::test]
async fn a_pccs_serves_as_well_as_intel() {
    let fake = fake_with(Options {
        pccs: true,
        ..Options::default()
    })
    .await;
    let proxy = Proxy::in_front_of(&fake).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_second_source_stands_in_for_the_first() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.collateral_sources = vec![
        nowhere().await.parse().unwrap(),
        fake.http_url().parse().unwrap(),
    ];
    assert_eq!(
        Proxy::start(config).await.chat().await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn collateral_that_is_at_fault_is_fetched_from_the_next_source() {
    let fake = fake().await;
    // Genuine in form, of another root.
    let other = fake_with(Options::default()).await;
    let mut config = config(&fake);
    config.collateral_sources = vec![
        other.http_url().parse().unwrap(),
        fake.http_url().parse().unwrap(),
    ];
    let answer = Proxy::start(config).await.chat().await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    // On the same connection, with the same evidence.
    assert_eq!(probes(&fake.received()), 1);
}

#[tokio::test]
async fn no_collateral_is_an_error_that_names_every_source() {
    let fake = fake().await;
    let mut config = config(&fake);
    let dead = nowhere().await;
    config.collateral_sources = vec![
        dead.parse().unwrap(),
        format!("{}/nothing-here", fake.http_url()).parse().unwrap(),
    ];
    let answer = Proxy::start(config).await.chat().await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.code(), "collateral_unavailable");
    let message = answer.message();
    assert!(
        message.contains(&dead) && message.contains("/nothing-here: TCB info: status 404"),
        "{message}"
    );
    // No other connection would have helped.
    assert_eq!(probes(&fake.received()), 1);
    assert_only_probes(&fake.received());
}
