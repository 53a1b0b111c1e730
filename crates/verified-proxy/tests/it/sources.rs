//! Intel's collateral: where it comes from, and what happens when it does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fake_tee::serve::{Behaviour, Options, Running};
use http::StatusCode;
use proxy::config::ComposeSource;

use crate::harness::*;

/// A source that counts connections, and answers each with 503 or not at all.
async fn sulking(answers: bool) -> (String, Arc<AtomicUsize>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            if answers {
                let _ = stream.read(&mut [0; 4096]).await;
                let answer = b"HTTP/1.1 503 Sulking\r\nContent-Length: 0\r\n\r\n";
                let _ = stream.write_all(answer).await;
            } else {
                open.push(stream);
            }
        }
    });
    (url, count)
}

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

#[tokio::test]
async fn those_who_wait_share_a_failure() {
    let fake = fake().await;
    let (url, asked) = sulking(true).await;
    let mut config = config(&fake);
    config.collateral_sources = vec![url.parse().unwrap()];
    let proxy = Arc::new(Proxy::start(config).await);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let proxy = Arc::clone(&proxy);
        requests.spawn(async move { proxy.chat().await.code() });
    }
    assert_eq!(requests.join_all().await, ["collateral_unavailable"; 8]);
    // Four documents and the list of editions, once.
    assert_eq!(asked.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_deadline_names_the_source_that_is_waited_for() {
    let fake = fake().await;
    let (url, _) = sulking(false).await;
    let mut config = config(&fake);
    config.collateral_sources = vec![url.parse().unwrap()];
    config.attest_timeout = Duration::from_secs(3);
    let proxy = Proxy::start(config).await;
    // The one who asks, and one who waits for that.
    let (one, two) = tokio::join!(proxy.chat(), proxy.chat());
    for answer in [one, two] {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.code(), "collateral_unavailable");
        assert!(answer.message().contains(&url), "{}", answer.message());
    }
}

/// What else is asked for a verdict has a word of its own: nobody looks at Intel's
/// documents because somebody else is slow.
#[tokio::test]
async fn a_deadline_names_the_source_that_is_slow() {
    let fake = fake().await;
    type Slow = fn(&Running);
    let cases: [(Slow, String, &str); 2] = [
        (
            |fake| fake.compose_files(Behaviour::Hang),
            format!(
                "compose files of the deployment log from {}",
                fake.compose_files_url()
            ),
            "--compose-files-url",
        ),
        (
            |fake| fake.nras(&[], &Behaviour::Hang),
            format!(
                "the opinion of NVIDIA's attestation service at {}",
                fake.nras_url()
            ),
            "--nras-url",
        ),
    ];
    for (slow, waited_for, option) in cases {
        fake.compose_files(Behaviour::Normal);
        slow(&fake);
        let mut config = crate::nras::asking(&fake, "report");
        config.attest_timeout = Duration::from_secs(3);
        let proxy = Proxy::start(config).await;
        let (one, two) = tokio::join!(proxy.chat(), proxy.chat());
        for answer in [one, two] {
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(answer.code(), "source_timeout", "{}", answer.message());
            let message = answer.message();
            assert!(message.contains(&waited_for), "{message}");
            assert!(message.contains(option), "{message}");
            assert!(!message.contains("Intel"), "{message}");
        }
    }
    assert_only_probes(&fake.received());
}

/// A source that is off is not one that was waited for.
#[tokio::test]
async fn a_deadline_names_no_source_that_is_off() {
    let fake = fake().await;
    fake.compose_tags(Behaviour::Hang);
    let mut config = config(&fake);
    config.compose_source = ComposeSource::Off;
    config.attest_timeout = Duration::from_secs(3);
    let answer = Proxy::start(config).await.chat().await;
    assert_eq!(answer.code(), "source_timeout", "{}", answer.message());
    let message = answer.message();
    let said = format!("from {}", fake.compose_tags_url());
    assert!(message.contains(&said), "{message}");
}

#[tokio::test]
async fn the_root_crl_is_where_the_trust_anchor_says() {
    let fake = fake().await;
    // Another PCS, whose own root names a list of its own, must not be followed.
    let other = fake_with(Options::default()).await;
    let mut config = config(&fake);
    config.collateral_sources = vec![other.http_url().parse().unwrap()];
    config.trust_anchors = attest::TrustAnchors::danger_tdx_root(
        rcgen::generate_simple_self_signed(Vec::new())
            .unwrap()
            .cert
            .der()
            .to_vec(),
    );
    let answer = Proxy::start(config).await.chat().await;
    assert_eq!(answer.code(), "collateral_unavailable");
    assert!(
        answer
            .message()
            .contains("the root certificate names no address for it"),
        "{}",
        answer.message()
    );
}
