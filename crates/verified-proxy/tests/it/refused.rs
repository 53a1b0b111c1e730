//! Each tampering has its own code, and the backend saw nothing but probes.

use std::time::Duration;

use http::StatusCode;

use crate::harness::*;

/// As fake-tee names them, and what the client hears.
const TAMPERINGS: &[(&str, &str)] = &[
    ("quote-signature", "rejected_quote_untrusted"),
    ("report-data", "rejected_report_data"),
    ("other-nonce", "rejected_nonce"),
    ("no-tls-fingerprint", "evidence_no_tls_fingerprint"),
    ("other-spki", "rejected_spki_mismatch"),
    ("debug-td", "rejected_td_debug"),
    ("other-os-image", "rejected_os_image"),
    ("other-kernel", "rejected_os_image"),
    ("other-app-id", "rejected_app_id"),
    ("other-kms-root", "rejected_kms_root"),
    ("no-app-cert", "rejected_app_cert_missing"),
    ("rtmr3-event-payload", "rejected_event_digest"),
    ("event-added", "rejected_rtmr_replay"),
    ("compose-text", "rejected_compose_hash"),
    ("tcb-out-of-date", "rejected_tcb_platform"),
    ("tcb-revoked", "rejected_tcb_platform"),
    ("collateral-expired", "rejected_collateral_expired"),
    ("pck-revoked", "rejected_certificate_revoked"),
    ("sgx-quote", "rejected_quote_not_tdx"),
    ("wrong-model", "rejected_model"),
    ("acpi", "rejected_acpi"),
    ("memory-size", "rejected_td_hob"),
    ("tag-unknown", "rejected_deployment_tag_unknown"),
    ("tag-moved", "rejected_deployment_tag_moved"),
    ("no-evidence", "evidence_missing_field"),
    ("garbage", "evidence_not_json"),
];

#[tokio::test]
async fn every_tampering_is_refused_before_a_client_byte() {
    let fake = fake().await;
    let mut wrong = Vec::new();
    for (name, expected) in TAMPERINGS {
        fake.clear();
        fake.tamper(name).unwrap();
        // A new proxy each: collateral is remembered for a day.
        let proxy = Proxy::in_front_of(&fake).await;
        let answer = proxy.chat().await;
        let code = answer.code();
        if answer.status != StatusCode::BAD_GATEWAY || code != *expected {
            wrong.push(format!(
                "{name}: {} {code}, expected {expected}: {}",
                answer.status,
                answer.message()
            ));
        }
        let received = fake.received();
        assert_only_probes(&received);
        // A refused instance is left for two further connections; documents that
        // are at fault are the same for every instance.
        let attempts = if expected.starts_with("rejected_collateral") {
            1
        } else {
            3
        };
        assert_eq!(probes(&received), attempts, "{name}");
        assert!(
            answer.message().contains("\nhint: "),
            "{}",
            answer.message()
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_has_every_tampering_of_the_fake() {
    let named: Vec<_> = TAMPERINGS.iter().map(|(name, _)| *name).collect();
    let all = fake_tee::tamper::TAMPERINGS
        .iter()
        .map(|tampering| tampering.name);
    for name in all.filter(|name| *name != "none") {
        assert!(named.contains(&name), "{name}");
    }
}

#[tokio::test]
async fn a_refusal_lists_every_attempt_and_names_its_report() {
    let fake = fake().await;
    fake.tamper("debug-td").unwrap();
    let proxy = Proxy::in_front_of(&fake).await;
    let answer = proxy.chat().await;
    assert_eq!(answer.header("x-should-retry"), "false");
    let message = answer.message();
    assert!(message.contains("32 connections were tried"), "{message}");
    assert_eq!(
        message.matches("(rejected_td_debug)").count()
            + message.matches(": rejected_td_debug (").count(),
        3,
        "{message}"
    );
    let id: String = message
        .split("/_proxy/verdicts/")
        .nth(1)
        .unwrap()
        .chars()
        .take(16)
        .collect();
    let report = proxy.get(&format!("/_proxy/verdicts/{id}")).await.json();
    assert_eq!(report["verdict"], "rejected");
    assert_eq!(report["code"], "rejected_td_debug");
}

#[tokio::test]
async fn the_built_in_policy_refuses_the_fake() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.policy = attest::Policy::near();
    let answer = Proxy::start(config).await.chat().await;
    assert_eq!(answer.code(), "rejected_os_image");
    assert_only_probes(&fake.received());
}

#[tokio::test]
async fn intels_root_refuses_the_fake() {
    // With a root CRL of its own, so that nobody asks Intel for one.
    let fake = fake_with(fake_tee::serve::Options {
        pccs: true,
        ..Default::default()
    })
    .await;
    let mut config = config(&fake);
    config.trust_anchors = attest::TrustAnchors::intel();
    let answer = Proxy::start(config).await.chat().await;
    assert!(answer.code().starts_with("rejected_"), "{}", answer.code());
    assert_only_probes(&fake.received());
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_in_the_handshake() {
    let fake = fake().await;
    let other = fake_with(fake_tee::serve::Options::default()).await;
    let mut config = config(&fake);
    config.extra_ca = vec![ca(&other.tls_ca_pem)];
    let answer = Proxy::start(config).await.chat().await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(answer.code(), "backend_certificate");
    assert!(
        fake.received()
            .iter()
            .all(|connection| connection.bytes.is_empty())
    );
}

#[tokio::test]
async fn a_backend_that_recovers_is_attested_anew() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    fake.tamper("report-data").unwrap();
    assert_eq!(proxy.chat().await.code(), "rejected_report_data");
    fake.tamper("none").unwrap();
    // Refused three times in a row, it is left alone for a second.
    let answer = proxy.chat().await;
    assert_eq!(answer.code(), "rejected_report_data");
    assert!(
        answer.message().contains("refused a moment ago"),
        "{}",
        answer.message()
    );
    assert_eq!(probes(&fake.received()), 3);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    assert_eq!(probes(&fake.received()), 4);
}

#[tokio::test]
async fn a_backend_without_a_report_says_with_which_status() {
    let fake = fake().await;
    for (status, retry) in [
        (StatusCode::NOT_FOUND, "false"),
        (StatusCode::BAD_GATEWAY, ""),
    ] {
        let oddities = Oddities {
            report_status: status,
            ..NO_ODDITIES
        };
        let backend = Scripted::start(&fake, oddities, |_| {
            http::Response::new(Script::whole(Vec::new()))
        })
        .await;
        let answer = Proxy::start(backend.config(&fake)).await.chat().await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert_eq!(answer.code(), "evidence_unavailable");
        assert_eq!(answer.header("x-should-retry"), retry);
        assert!(
            answer.message().contains(status.as_str()),
            "{}",
            answer.message()
        );
        assert!(
            backend
                .lines()
                .iter()
                .all(|line| line.starts_with("GET /v1/attestation/report?"))
        );
    }
}

#[tokio::test]
async fn a_report_without_end_is_not_read_to_its_end() {
    let fake = fake().await;
    fake.change(|spec| {
        spec.hooks
            .report_bytes
            .push(|bytes| *bytes = vec![b' '; 64 << 20])
    })
    .unwrap();
    let answer = Proxy::in_front_of(&fake).await.chat().await;
    assert_eq!(answer.code(), "evidence_too_large");
    assert_only_probes(&fake.received());
}

#[tokio::test]
async fn nothing_of_a_client_is_logged() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    fake.tamper("debug-td").unwrap();
    let proxy = Proxy::in_front_of(&fake).await;
    assert_eq!(proxy.chat().await.code(), "rejected_td_debug");
    let log = Log::captured().text();
    assert!(
        log.contains("attested") && log.contains("not verified"),
        "{log}"
    );
    for secret in [CANARY, API_KEY, "/v1/chat", "authorization"] {
        assert!(
            !log.to_ascii_lowercase()
                .contains(&secret.to_ascii_lowercase()),
            "{secret}"
        );
    }
}
