//! Every claim of a signed token: that it is needed, its words, its times.

use attest::UnixTime;
use serde_json::{Value, json};

use super::{anchors, code, judge, judge_under, machine, spec};
use crate::support::NOW;

/// Every claim that a sound answer has is needed, and of its own kind.
#[test]
fn a_claim_that_is_missing_or_of_another_kind_is_refused() {
    let names =
        |claims: &Value| -> Vec<String> { claims.as_object().unwrap().keys().cloned().collect() };
    let spec = spec();
    let answer = spec.answer(&machine().payload).unwrap();
    let overall = names(&super::unsigned::claims(answer[0][1].as_str().unwrap()));
    let of_gpu = names(&super::unsigned::claims(
        answer[1]["GPU-1"].as_str().unwrap(),
    ));
    assert_eq!((overall.len(), of_gpu.len()), (10, 31));
    for (names, is_gpu) in [(overall, false), (of_gpu, true)] {
        for name in names {
            for value in [None, Some(json!(1.5)), Some(json!({"a": 1}))] {
                // Anything but null is a warning.
                if value.is_some() && name == "x-nvidia-attestation-warning" {
                    continue;
                }
                let mut spec = spec.clone();
                let hooks = if is_gpu {
                    spec.gpu(1)
                } else {
                    &mut spec.overall
                };
                let (of, new) = (name.clone(), value.clone());
                hooks.claims.push(move |claims| match &new {
                    Some(value) => claims[&of] = value.clone(),
                    None => drop(claims.as_object_mut().unwrap().remove(&of)),
                });
                let outcome = judge(&spec);
                assert_eq!(code(&outcome), "evidence_nras_claims", "{name} {value:?}");
                let message = outcome.unwrap_err().to_string();
                assert!(message.contains(&name), "{message}");
            }
        }
    }
}

/// A driver whose NVIDIA-signed error is repeated, bounded and escaped.
#[test]
fn a_failure_has_nvidias_reason() {
    // The real one: evidence of another request.
    let spec = spec();
    let mut payload: Value = serde_json::from_str(&machine().payload).unwrap();
    payload["nonce"] = "5b".repeat(32).into();
    let answer = spec.answer(&payload.to_string()).unwrap().to_string();
    let key_set = spec.key_set().unwrap().to_string();
    let judge_it = |answer: &str| {
        super::judge_bytes(answer.as_bytes(), key_set.as_bytes(), &machine().gpus).unwrap_err()
    };
    let rejected = judge_it(&answer);
    assert_eq!(rejected.code(), "rejected_nras_failed");
    let message = rejected.to_string();
    for word in ["GPU-0", "4010", "NONCE_NOT_MATCHING"] {
        assert!(message.contains(word), "{message}");
    }

    // The reason of a token that NVIDIA did not sign is not repeated.
    let mut forged: Value = serde_json::from_str(&answer).unwrap();
    let token = forged[1]["GPU-0"].as_str().unwrap().to_owned();
    let [header, _, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("{token}");
    };
    let lie = super::unsigned::encoded(br#"{"x-nvidia-error-details":{"message":"BUY"}}"#);
    forged[1]["GPU-0"] = format!("{header}.{lie}.{signature}").into();
    let rejected = judge_it(&forged.to_string());
    assert_eq!(rejected.code(), "rejected_nras_failed");
    assert!(!rejected.to_string().contains("BUY"), "{rejected}");
    forged[1] = json!({});
    assert_eq!(judge_it(&forged.to_string()).code(), "rejected_nras_failed");

    // Words of NVIDIA's that would move a terminal's cursor.
    for details in [
        json!("\u{1b}[2J".repeat(1000)),
        json!({"message": "\u{202e}".repeat(1000)}),
        json!({"code": 4003, "message": "\u{9b}2J", "description": "\n".repeat(1000)}),
        json!(null),
    ] {
        let mut spec = spec.clone();
        spec.gpu(1)
            .claims
            .push(move |claims| claims["x-nvidia-error-details"] = details.clone());
        let rejected = judge(&spec).unwrap_err();
        assert_eq!(rejected.code(), "rejected_nras_failed");
        super::assert_printable(&rejected);
    }
}

#[test]
fn the_bounds_of_time_are_exact() {
    let at = |now: u64, claim: &'static str, value: u64| {
        let mut spec = spec();
        spec.now = NOW;
        for hooks in 0..4 {
            let hooks = match hooks {
                3 => &mut spec.overall,
                gpu => spec.gpu(gpu),
            };
            hooks
                .claims
                .push(move |claims| claims[claim] = value.into());
        }
        judge_under(&spec, &anchors(), now)
    };
    let time = "rejected_nras_time";
    for (now, claim, value, expected) in [
        (NOW, "iat", NOW, "verified"),
        // Our clock is two minutes behind: five at most.
        (NOW - 120, "iat", NOW, "verified"),
        (NOW - 300, "iat", NOW, "verified"),
        (NOW - 301, "iat", NOW, time),
        (NOW - 300, "nbf", NOW, "verified"),
        (NOW, "nbf", NOW + 300, "verified"),
        (NOW, "nbf", NOW + 301, time),
        (NOW + 3599, "iat", NOW, "verified"),
        (NOW + 3600, "iat", NOW, time),
        (NOW + 9, "exp", NOW + 10, "verified"),
        (NOW + 10, "exp", NOW + 10, time),
        // Whatever NVIDIA says of the end: an hour.
        (NOW + 3600, "exp", NOW + 86_400, "verified"),
        (NOW + 3601, "exp", NOW + 86_400, time),
        (NOW, "exp", u64::MAX, "verified"),
        (NOW, "iat", u64::MAX, time),
        (NOW, "iat", 0, time),
        (NOW, "exp", 0, time),
    ] {
        let outcome = at(now, claim, value);
        assert_eq!(code(&outcome), expected, "{now} {claim} {value}");
    }
    let opinion = at(NOW, "exp", u64::MAX).unwrap();
    assert_eq!(opinion.valid_until(), UnixTime(NOW + 3600));
    let opinion = at(NOW, "exp", NOW + 10).unwrap();
    assert_eq!(opinion.valid_until(), UnixTime(NOW + 10));
}

/// The first token or certificate to end.
#[test]
fn an_opinion_ends_with_its_shortest_part() {
    let mut spec = spec();
    spec.gpu(2)
        .claims
        .push(|claims| claims["exp"] = (NOW + 60).into());
    assert_eq!(judge(&spec).unwrap().valid_until(), UnixTime(NOW + 60));
    spec.gpu(0)
        .claims
        .push(|claims| claims["exp"] = (NOW + 30).into());
    assert_eq!(judge(&spec).unwrap().valid_until(), UnixTime(NOW + 30));
}
