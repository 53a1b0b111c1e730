//! What holds for every GPU payload of a kind.

use std::sync::OnceLock;

use attest::{IssuerCache, Nonce, UnixTime, appraise_gpus};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{anchors, blob, code, judge, set_blob, spec};
use crate::support::{NONCE, NOW, cases};

/// One GPU, forged once.
fn payload() -> &'static Value {
    static PAYLOAD: OnceLock<Value> = OnceLock::new();
    PAYLOAD.get_or_init(|| {
        let mut spec = spec();
        spec.gpus.truncate(1);
        serde_json::from_str(&spec.forge(&NONCE).unwrap()).unwrap()
    })
}

fn with(field: &str, bytes: &[u8], cache: &IssuerCache) -> &'static str {
    let mut payload = payload().clone();
    set_blob(&mut payload, 0, field, bytes);
    code(&appraise_gpus(
        &payload.to_string(),
        Nonce::from_bytes(NONCE),
        &anchors(),
        UnixTime(NOW),
        cache,
    ))
}

#[test]
fn evidence_that_ends_at_any_byte_is_refused() {
    let evidence = blob(payload(), 0, "evidence");
    let cache = IssuerCache::new();
    assert_eq!(with("evidence", &evidence, &cache), "verified");
    for len in 0..evidence.len() {
        let got = with("evidence", &evidence[..len], &cache);
        assert_eq!(got, "evidence_gpu_structure", "{len} bytes");
    }
}

/// Every byte, one of its bits.
#[test]
fn evidence_with_one_other_bit_is_refused() {
    let evidence = blob(payload(), 0, "evidence");
    let cache = IssuerCache::new();
    for at in 0..evidence.len() {
        let mut evidence = evidence.clone();
        evidence[at] ^= 1 << (at % 8);
        let got = with("evidence", &evidence, &cache);
        assert_ne!(got, "verified", "byte {at}");
    }
}

#[test]
fn certificates_that_end_at_any_byte_are_refused() {
    let pem = blob(payload(), 0, "certificate");
    let cache = IssuerCache::new();
    // The last newline may be missing, nothing before it.
    for len in 0..pem.len() - 1 {
        let got = with("certificate", &pem[..len], &cache);
        assert!(
            ["evidence_gpu_certificates", "rejected_gpu_chain_length"].contains(&got),
            "{got} with {len} bytes"
        );
    }
    let got = with("certificate", &pem[..pem.len() - 1], &cache);
    assert_eq!(got, "verified");
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn any_bit_of_evidence_and_certificates_counts(at: usize, bit in 0..8_u8, evidence: bool) {
        let field = if evidence { "evidence" } else { "certificate" };
        let mut bytes = blob(payload(), 0, field);
        // All but the newline at the end.
        let at = at % (bytes.len() - 1);
        bytes[at] ^= 1 << bit;
        prop_assert_ne!(with(field, &bytes, &IssuerCache::new()), "verified");
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..6000)) {
        for field in ["evidence", "certificate"] {
            prop_assert_ne!(with(field, &bytes, &IssuerCache::new()), "verified");
        }
    }

    #[test]
    fn any_bytes_after_a_true_beginning_are_refused(
        keep in 0..5000_usize,
        bytes in prop::collection::vec(any::<u8>(), 1..600),
    ) {
        for field in ["evidence", "certificate"] {
            let mut all = blob(payload(), 0, field);
            all.truncate(keep);
            all.extend(&bytes);
            prop_assert_ne!(with(field, &all, &IssuerCache::new()), "verified");
        }
    }

    #[test]
    fn any_text_is_refused_in_printable_words(text: String) {
        for text in [
            text.clone(),
            json!({ "arch": text, "evidence_list": [], "nonce": text }).to_string(),
            json!({ "arch": "HOPPER", "evidence_list": [text], "nonce": "00" }).to_string(),
            json!({ "arch": "HOPPER", "evidence_list": [{}], "nonce": text }).to_string(),
        ] {
            let outcome = judge(&text);
            prop_assert_ne!(code(&outcome), "verified");
            let message = outcome.unwrap_err().to_string();
            prop_assert!(message.len() < 4096, "{}", message.len());
            prop_assert!(message.chars().all(|c| (' '..='~').contains(&c)), "{message:?}");
        }
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn any_copy_of_the_architecture_is_a_finding_in_printable_words(text in "\\PC{0,400}|.{0,40}") {
        let mut payload = payload().clone();
        payload["evidence_list"][0]["arch"] = json!(text);
        let report = judge(&payload.to_string()).unwrap();
        prop_assert_eq!(report.findings().len(), usize::from(text != "HOPPER"));
        for finding in report.findings() {
            prop_assert!(finding.detail.len() < 4096);
            prop_assert!(finding.detail.chars().all(|c| (' '..='~').contains(&c)));
        }
    }
}

#[test]
fn what_json_could_hide_is_refused() {
    let text = payload().to_string();
    for (text, word) in [
        (
            text.replacen('{', r#"{"arch":"HOPPER","#, 1),
            "stands twice",
        ),
        (
            text.replacen('{', r#"{"x":{"$serde_json::private::RawValue":"[]"},"#, 1),
            "the key",
        ),
        (
            text.replacen(
                '{',
                &format!(r#"{{"x":{}1{},"#, "[".repeat(8), "]".repeat(8)),
                1,
            ),
            "levels deep",
        ),
        (
            text.replacen('{', &format!(r#"{{"x":[{}1],"#, "1,".repeat(2000)), 1),
            "more than 2000 values",
        ),
        (format!("{text}{text}"), "trailing"),
        (format!("[{text}]"), "expected an object"),
        (
            text.replace("\"evidence\":\"", "\"evidence\":\" "),
            "not base64",
        ),
        (
            text.replace("\"evidence\":", "\"proof\":"),
            "evidence is missing",
        ),
        (
            text.replace("\"evidence_list\":[", "\"evidence_list\":[1,"),
            "evidence_list[0]",
        ),
        (
            text.replace("\"evidence_list\":", "\"list\":"),
            "evidence_list is missing",
        ),
        (
            json!({ "evidence_list": "[]" }).to_string(),
            "evidence_list is not a list",
        ),
    ] {
        let rejected = judge(&text).unwrap_err();
        assert_eq!(rejected.code(), "evidence_gpu_payload", "{rejected}");
        assert!(rejected.to_string().contains(word), "{rejected}");
    }
}

#[test]
fn sizes_and_counts_are_bounded() {
    let sized = |len: usize| {
        let mut text = payload().to_string();
        text.push_str(&" ".repeat(len - text.len()));
        code(&judge(&text))
    };
    assert_eq!(sized(512 << 10), "verified");
    assert_eq!(sized((512 << 10) + 1), "evidence_gpu_too_large");

    let listed = |count: usize| {
        let mut payload = payload().clone();
        payload["evidence_list"] = json!(vec![payload["evidence_list"][0].clone(); count]);
        code(&judge(&payload.to_string()))
    };
    assert_eq!(listed(16), "rejected_gpu_duplicate");
    assert_eq!(listed(17), "evidence_gpu_too_many");

    for field in ["evidence", "certificate"] {
        let cache = IssuerCache::new();
        let got = with(field, &vec![0; 16 << 10], &cache);
        assert_ne!(got, "evidence_gpu_too_large");
        let got = with(field, &vec![0; (16 << 10) + 1], &cache);
        assert_eq!(got, "evidence_gpu_too_large", "{field}");
    }
}
