//! `/_proxy/metrics`: what they count, and what they never say (threats.md C6).

use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};

use crate::harness::*;

async fn metrics(proxy: &Proxy) -> String {
    let answer = proxy.get("/_proxy/metrics").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        answer.header("content-type"),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    text
}

/// The value of a sample, 0 if there is none.
fn value(text: &str, sample: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

/// Waits for a sample to have a value.
async fn reaches(proxy: &Proxy, sample: &str, expected: u64) {
    for _ in 0..500 {
        if value(&metrics(proxy).await, sample) == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!(
        "{sample} does not reach {expected}:\n{}",
        metrics(proxy).await
    );
}

#[tokio::test]
async fn answers_refusals_and_attestations_are_counted() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    for _ in 0..3 {
        assert_eq!(proxy.chat().await.status, StatusCode::OK);
    }
    assert_eq!(proxy.get("/v1/files").await.code(), "not_found");
    reaches(&proxy, "verified_proxy_backend_connections_idle", 1).await;
    let text = metrics(&proxy).await;
    for (sample, expected) in [
        ("verified_proxy_answers_total", 3),
        ("verified_proxy_refusals_total{code=\"not_found\"}", 1),
        ("verified_proxy_attestations_total{outcome=\"verified\"}", 1),
        ("verified_proxy_attestation_seconds_count", 1),
        ("verified_proxy_backend_connections_total", 1),
        ("verified_proxy_verdicts_now", 1),
        ("verified_proxy_verdicts_withdrawn_total", 0),
        ("verified_proxy_answers_now", 0),
        ("verified_proxy_body_memory_bytes", 0),
    ] {
        assert_eq!(value(&text, sample), expected, "{sample}\n{text}");
    }
    let proxy = Proxy::in_front_of(&fake).await;
    fake.tamper("debug-td").unwrap();
    assert_eq!(proxy.chat().await.code(), "rejected_td_debug");
    let text = metrics(&proxy).await;
    let outcome = "verified_proxy_attestations_total{outcome=\"rejected_td_debug\"}";
    assert_eq!(value(&text, outcome), 3, "{text}");
    let refusals = "verified_proxy_refusals_total{code=\"rejected_td_debug\"}";
    assert_eq!(value(&text, refusals), 1, "{text}");
}

#[tokio::test]
async fn an_answer_whose_verdict_is_withdrawn_is_marked_until_it_ends() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.verdict_ttl = Duration::from_secs(4);
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    let (mut head, body) = chat_request(true).into_parts();
    // A byte each tenth of a second, for longer than this test takes.
    head.headers
        .insert("x-fake", "drip=1,100,10000".parse().unwrap());
    let mut answer = proxy.send(Request::from_parts(head, body)).await;
    assert!(answer.frame().await.unwrap().is_ok());
    reaches(&proxy, "verified_proxy_answers_now", 1).await;
    fake.tamper("debug-td").unwrap();
    reaches(&proxy, "verified_proxy_verdicts_withdrawn_total", 1).await;
    let text = metrics(&proxy).await;
    for (sample, expected) in [
        ("verified_proxy_answers_withdrawn_total", 1),
        ("verified_proxy_answers_withdrawn_now", 1),
        ("verified_proxy_answers_now", 0),
        ("verified_proxy_verdicts_now", 0),
    ] {
        assert_eq!(value(&text, sample), expected, "{sample}\n{text}");
    }
    // It was sent while the verdict stood, and goes on.
    assert!(answer.frame().await.unwrap().is_ok());
    drop(answer);
    reaches(&proxy, "verified_proxy_answers_withdrawn_now", 0).await;
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_counted() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let (mut head, body) = chat_request(false).into_parts();
    head.headers.insert("x-fake", "cut-body".parse().unwrap());
    let answer = proxy.send(Request::from_parts(head, body)).await;
    let error = format!("{:?}", answer.collect().await.unwrap_err());
    assert!(error.contains("IncompleteBody"), "{error}");
    let cut = "verified_proxy_answers_cut_total{reason=\"broken_off\"}";
    assert_eq!(value(&metrics(&proxy).await, cut), 1);
}

#[tokio::test]
async fn what_weakens_the_proof_is_said() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.policy = attest::Policy::built_in("hardware").unwrap();
    config.webpki = proxy::config::WebPki::Off;
    let text = metrics(&Proxy::start(config.clone()).await).await;
    let info = text
        .lines()
        .find(|line| line.starts_with("verified_proxy_proof_info{"))
        .unwrap();
    for said in [
        "software=\"ANY\"",
        "tdx_root=\"DANGER\"",
        "ca_chain=\"not required\"",
        &format!("policy_digest=\"{}\"", config.policy.digest()),
    ] {
        assert!(info.contains(said), "{said}: {info}");
    }
}

#[tokio::test]
async fn nothing_of_a_client_or_a_backend_becomes_a_label() {
    // Names of backends are on the log, which another test looks at for CANARY.
    const LABEL: &str = "label-77fe02";
    let fake = fake().await;
    let mut config = config(&fake);
    let nowhere = format!(
        "{LABEL}.completions.near.ai:443:127.0.0.1:{}",
        dead_port().await
    );
    config.connect_to.push(nowhere.parse().unwrap());
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    let odd = |path: &str, backend: &str, model: &str| {
        Request::post(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("x-backend-domain", backend)
            .header("authorization", format!("Bearer {API_KEY}"))
            .body(Full::from(format!("{{\"model\":\"{model}\"}}")))
            .unwrap()
    };
    let path = format!("/v1/{CANARY}?{CANARY}=1");
    for backend in [
        DOMAIN.to_owned(),
        format!("{LABEL}.completions.near.ai"),
        format!("{LABEL}.example"),
    ] {
        proxy.request(odd(&path, &backend, CANARY)).await;
    }
    proxy.get(&format!("/v1/models/{CANARY}")).await;
    let text = metrics(&proxy).await;
    assert!(text.contains("code=\"backend_not_allowed\""), "{text}");
    for secret in [CANARY, LABEL, API_KEY, MODEL, DOMAIN, "/v1/"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}
