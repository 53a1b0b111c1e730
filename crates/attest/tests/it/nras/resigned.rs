//! Claims that NVIDIA could sign and that are not good: changed before the token
//! is signed, so that no signature or digest catches them.

use attest::{KeySet, Nonce, UnixTime, appraise_nras};
use serde_json::{Value, json};

use super::{Row, anchors, assert_refused, code, judge, machine, spec};
use crate::support::{NONCE, NOW};

macro_rules! overall {
    ($name:literal, $code:literal, $claim:literal, $value:expr) => {
        ($name, $code, |s| {
            s.overall
                .claims
                .push(|claims| claims[$claim] = json!($value))
        })
    };
}

macro_rules! gpu {
    ($name:literal, $code:literal, $claim:literal, $value:expr) => {
        ($name, $code, |s| {
            s.gpu(1)
                .claims
                .push(|claims| claims[$claim] = json!($value))
        })
    };
}

const STAGING: &str = "https://nras.attestation-stg.nvidia.com";

/// The token about all GPUs.
pub(super) const OVERALL: &[Row] = &[
    overall!("staging", "rejected_nras_issuer", "iss", STAGING),
    overall!(
        "issuer with a slash",
        "rejected_nras_issuer",
        "iss",
        "https://nras.attestation.nvidia.com/"
    ),
    overall!(
        "version 3.0",
        "rejected_nras_newer_claims",
        "x-nvidia-ver",
        "3.0"
    ),
    overall!(
        "unknown claim",
        "rejected_nras_newer_claims",
        "x-nvidia-ppcie-mode",
        "on"
    ),
    overall!(
        "about something else",
        "rejected_nras_claim",
        "sub",
        "NVIDIA-SWITCH-ATTESTATION"
    ),
    overall!(
        "issued in two minutes",
        "rejected_nras_time",
        "iat",
        NOW + 120
    ),
    overall!(
        "issued an hour ago",
        "rejected_nras_time",
        "iat",
        NOW - 3601
    ),
    overall!(
        "valid in two minutes",
        "rejected_nras_time",
        "nbf",
        NOW + 120
    ),
    overall!("expired", "rejected_nras_time", "exp", NOW),
    overall!(
        "failed",
        "rejected_nras_failed",
        "x-nvidia-overall-att-result",
        false
    ),
    overall!(
        "another nonce",
        "rejected_nras_nonce",
        "eat_nonce",
        "5b".repeat(32)
    ),
    overall!(
        "our nonce in capitals",
        "rejected_nras_nonce",
        "eat_nonce",
        "5A".repeat(32)
    ),
    overall!(
        "our nonce and more",
        "rejected_nras_nonce",
        "eat_nonce",
        "5a".repeat(33)
    ),
    overall!("no GPU", "rejected_nras_gpus", "submods", json!({})),
    ("a GPU less", "rejected_nras_gpus", |s| {
        s.overall.claims.push(|claims| {
            claims["submods"].as_object_mut().unwrap().remove("GPU-2");
        })
    }),
    ("a GPU more", "rejected_nras_gpus", |s| {
        s.overall.claims.push(|claims| {
            claims["submods"]["GPU-3"] = claims["submods"]["GPU-2"].clone();
        })
    }),
    ("a switch among the GPUs", "rejected_nras_gpus", |s| {
        s.overall.claims.push(|claims| {
            claims["submods"]["NVSWITCH-0"] = claims["submods"]["GPU-2"].clone();
        })
    }),
    ("a GPU by another spelling", "rejected_nras_gpus", |s| {
        s.overall.claims.push(|claims| {
            let submods = claims["submods"].as_object_mut().unwrap();
            let digest = submods.remove("GPU-2").unwrap();
            submods.insert("GPU-02".to_owned(), digest);
        })
    }),
    ("another digest", "rejected_nras_digest", |s| {
        s.overall.claims.push(|claims| {
            claims["submods"]["GPU-1"] = claims["submods"]["GPU-2"].clone();
        })
    }),
    ("digest in capitals", "rejected_nras_digest", |s| {
        s.overall.claims.push(|claims| {
            let digest = claims["submods"]["GPU-1"][1][1].as_str().unwrap();
            claims["submods"]["GPU-1"][1][1] = digest.to_uppercase().into();
        })
    }),
    ("shorter digest", "rejected_nras_digest", |s| {
        s.overall
            .claims
            .push(|claims| claims["submods"]["GPU-1"][1][1] = json!(""))
    }),
    ("a weaker digest", "evidence_nras_claims", |s| {
        s.overall
            .claims
            .push(|claims| claims["submods"]["GPU-1"][1][0] = json!("SHA-1"))
    }),
    ("no digest but a token", "evidence_nras_claims", |s| {
        s.overall
            .claims
            .push(|claims| claims["submods"]["GPU-1"][0] = json!("JWT"))
    }),
    ("a digest and more", "evidence_nras_claims", |s| {
        s.overall.claims.push(|claims| {
            claims["submods"]["GPU-1"]
                .as_array_mut()
                .unwrap()
                .push(json!(1));
        })
    }),
    ("a list of GPUs", "evidence_nras_claims", |s| {
        s.overall
            .claims
            .push(|claims| claims["submods"] = json!([1]))
    }),
    ("a time with a fraction", "evidence_nras_claims", |s| {
        s.overall
            .claims
            .push(|claims| claims["exp"] = json!(NOW as f64 + 0.5))
    }),
    ("a time before 1970", "evidence_nras_claims", |s| {
        s.overall.claims.push(|claims| claims["nbf"] = json!(-1))
    }),
    ("a time as text", "evidence_nras_claims", |s| {
        s.overall
            .claims
            .push(|claims| claims["iat"] = NOW.to_string().into())
    }),
    ("success as text", "evidence_nras_claims", |s| {
        s.overall
            .claims
            .push(|claims| claims["x-nvidia-overall-att-result"] = json!("true"))
    }),
    ("two nonces", "evidence_nras_claims", |s| {
        s.overall
            .claims
            .push(|claims| claims["eat_nonce"] = json!([claims["eat_nonce"], "00"]))
    }),
    ("claims in a list", "evidence_nras_claims", |s| {
        s.overall.claims.push(|claims| *claims = json!([claims]))
    }),
    ("a claim twice", "evidence_nras_claims", |s| {
        s.overall.payload.push(|bytes| {
            bytes.pop();
            bytes.extend(br#","x-nvidia-overall-att-result":true}"#);
        })
    }),
    ("claims and more", "evidence_nras_claims", |s| {
        s.overall.payload.push(|bytes| bytes.extend(b"{}"))
    }),
    ("no claims", "evidence_nras_claims", |s| {
        s.overall.payload.push(Vec::clear)
    }),
    ("claims that nest", "evidence_nras_claims", |s| {
        s.overall
            .claims
            .push(|claims| claims["submods"] = json!([[[[[[1]]]]]]))
    }),
    ("algorithm none", "rejected_nras_algorithm", |s| {
        s.overall
            .header
            .push(|header| header["alg"] = json!("none"));
        s.overall.signature.push(Vec::clear);
    }),
    ("algorithm HS256", "rejected_nras_algorithm", |s| {
        s.overall
            .header
            .push(|header| header["alg"] = json!("HS256"))
    }),
    ("algorithm ES256", "rejected_nras_algorithm", |s| {
        s.overall
            .header
            .push(|header| header["alg"] = json!("ES256"))
    }),
    (
        "algorithm in small letters",
        "rejected_nras_algorithm",
        |s| {
            s.overall
                .header
                .push(|header| header["alg"] = json!("es384"))
        },
    ),
    ("algorithms", "rejected_nras_algorithm", |s| {
        s.overall
            .header
            .push(|header| header["alg"] = json!(["ES384"]))
    }),
    ("a header that says more", "evidence_nras_token", |s| {
        s.overall.header.push(|header| header["typ"] = json!("JWT"))
    }),
    ("a critical header", "evidence_nras_token", |s| {
        s.overall
            .header
            .push(|header| header["crit"] = json!(["exp"]))
    }),
    ("a header with its own key", "evidence_nras_token", |s| {
        s.overall
            .header
            .push(|header| header["jku"] = json!("https://example.org"))
    }),
    ("a header without a key", "evidence_nras_token", |s| {
        s.overall.header.push(|header| {
            header.as_object_mut().unwrap().remove("kid");
        })
    }),
    ("a header in a list", "evidence_nras_token", |s| {
        s.overall
            .header
            .push(|header| *header = json!([header["kid"], header["alg"]]))
    }),
    ("a key for trials", "rejected_nras_issuer", |s| {
        s.overall.header.push(|header| {
            let kid = header["kid"].as_str().unwrap().replace("-prod-", "-stg-");
            header["kid"] = kid.into();
        })
    }),
    ("an unknown key", "rejected_nras_unknown_key", |s| {
        s.overall
            .header
            .push(|header| header["kid"] = json!("nv-eat-kid-prod-1"))
    }),
    ("another key's name", "rejected_nras_signature", |s| {
        let other = s.other_keys[0].kid.clone();
        s.overall
            .header
            .push(move |header| header["kid"] = other.clone().into());
    }),
];

/// The token of the second of three GPUs.
pub(super) const GPU: &[Row] = &[
    gpu!("GPU: staging", "rejected_nras_issuer", "iss", STAGING),
    gpu!(
        "GPU: unknown claim",
        "rejected_nras_newer_claims",
        "x-nvidia-gpu-fwid-match",
        true
    ),
    gpu!(
        "GPU: of the overall token",
        "rejected_nras_newer_claims",
        "x-nvidia-ver",
        "2.0"
    ),
    gpu!(
        "GPU: issued in two minutes",
        "rejected_nras_time",
        "iat",
        NOW + 120
    ),
    gpu!(
        "GPU: issued an hour ago",
        "rejected_nras_time",
        "iat",
        NOW - 3601
    ),
    gpu!(
        "GPU: valid in two minutes",
        "rejected_nras_time",
        "nbf",
        NOW + 120
    ),
    gpu!("GPU: expired", "rejected_nras_time", "exp", NOW),
    gpu!(
        "GPU: another nonce",
        "rejected_nras_nonce",
        "eat_nonce",
        "5b".repeat(32)
    ),
    gpu!("GPU: another device", "rejected_nras_device", "ueid", "1"),
    ("GPU: hexadecimal device", "rejected_nras_device", |s| {
        s.gpu(1).claims.push(|claims| {
            let ueid: Vec<u8> = machine().gpus.gpus()[1].ueid.as_bytes().to_vec();
            claims["ueid"] = hex(&ueid).into();
        })
    }),
    ("GPU: two devices exchanged", "rejected_nras_device", |s| {
        for (gpu, of) in [(0, 1), (1, 0)] {
            let ueid = machine().gpus.gpus()[of].ueid.to_string();
            s.gpu(gpu)
                .claims
                .push(move |claims| claims["ueid"] = ueid.clone().into());
        }
    }),
    ("GPU: one device twice", "rejected_nras_device", |s| {
        let ueid = machine().gpus.gpus()[0].ueid.to_string();
        s.gpu(1)
            .claims
            .push(move |claims| claims["ueid"] = ueid.clone().into());
    }),
    gpu!(
        "GPU: another chip",
        "rejected_nras_claim",
        "hwmodel",
        "GB100"
    ),
    gpu!("GPU: another maker", "rejected_nras_claim", "oemid", "5704"),
    gpu!(
        "GPU: measurements differ",
        "rejected_nras_measurements",
        "measres",
        "fail"
    ),
    gpu!(
        "GPU: measurements not compared",
        "rejected_nras_measurements",
        "measres",
        "not-run"
    ),
    gpu!(
        "GPU: not started securely",
        "rejected_nras_secure_boot",
        "secboot",
        false
    ),
    gpu!("GPU: debug", "rejected_nras_debug", "dbgstat", "enabled"),
    gpu!(
        "GPU: debug since start",
        "rejected_nras_debug",
        "dbgstat",
        "disabled-since-boot"
    ),
    gpu!(
        "GPU: a warning",
        "rejected_nras_warning",
        "x-nvidia-attestation-warning",
        "old driver"
    ),
    gpu!(
        "GPU: an empty warning",
        "rejected_nras_warning",
        "x-nvidia-attestation-warning",
        ""
    ),
    gpu!(
        "GPU: no warning, as false",
        "rejected_nras_warning",
        "x-nvidia-attestation-warning",
        false
    ),
    gpu!(
        "GPU: another driver",
        "rejected_nras_version",
        "x-nvidia-gpu-driver-version",
        "570.172.09"
    ),
    gpu!(
        "GPU: another VBIOS",
        "rejected_nras_version",
        "x-nvidia-gpu-vbios-version",
        "96.00.CF.00.03"
    ),
    gpu!(
        "GPU: an index in two sets",
        "rejected_nras_check",
        "x-nvidia-gpu-vbios-index-no-conflict",
        false
    ),
    gpu!(
        "GPU: an error",
        "rejected_nras_failed",
        "x-nvidia-error-details",
        json!({"code": 5013})
    ),
    (
        "GPU: a chain for a boolean",
        "rejected_nras_newer_claims",
        |s| {
            s.gpu(1).claims.push(|claims| {
                let claims = claims.as_object_mut().unwrap();
                claims.remove("x-nvidia-gpu-driver-rim-cert-validated");
                let chain =
                    json!({"x-nvidia-cert-status": "valid", "x-nvidia-cert-ocsp-status": "good"});
                claims.insert("x-nvidia-gpu-driver-rim-cert-chain".to_owned(), chain);
            })
        },
    ),
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What NVIDIA looks at, one claim each.
const CHECKS: [&str; 16] = [
    "x-nvidia-gpu-arch-check",
    "x-nvidia-gpu-attestation-report-parsed",
    "x-nvidia-gpu-attestation-report-nonce-match",
    "x-nvidia-gpu-attestation-report-signature-verified",
    "x-nvidia-gpu-attestation-report-cert-chain-validated",
    "x-nvidia-gpu-driver-rim-fetched",
    "x-nvidia-gpu-driver-rim-schema-validated",
    "x-nvidia-gpu-driver-rim-cert-validated",
    "x-nvidia-gpu-driver-rim-signature-verified",
    "x-nvidia-gpu-driver-rim-measurements-available",
    "x-nvidia-gpu-vbios-rim-fetched",
    "x-nvidia-gpu-vbios-rim-schema-validated",
    "x-nvidia-gpu-vbios-rim-cert-validated",
    "x-nvidia-gpu-vbios-rim-signature-verified",
    "x-nvidia-gpu-vbios-rim-measurements-available",
    "x-nvidia-gpu-vbios-index-no-conflict",
];

#[test]
fn an_overall_token_that_is_not_good_is_refused() {
    assert_refused(OVERALL);
}

#[test]
fn a_gpus_token_that_is_not_good_is_refused() {
    assert_refused(GPU);
}

/// Of each GPU, not of the first alone.
#[test]
fn each_check_of_each_gpu_counts() {
    for gpu in 0..3 {
        for claim in CHECKS {
            let mut spec = spec();
            spec.gpu(gpu)
                .claims
                .push(move |claims| claims[claim] = json!(false));
            let rejected = judge(&spec).unwrap_err();
            assert_eq!(rejected.code(), "rejected_nras_check", "{claim}");
            let message = rejected.to_string();
            assert!(message.contains(claim), "{message}");
            assert!(message.contains(&format!("GPU-{gpu}")), "{message}");
        }
    }
}

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
        appraise_nras(
            spec.answer(&machine().payload)
                .unwrap()
                .to_string()
                .as_bytes(),
            &KeySet::parse(spec.key_set().unwrap().to_string().as_bytes()).unwrap(),
            &anchors(),
            Nonce::from_bytes(NONCE),
            &machine().gpus,
            UnixTime(now),
        )
    };
    let time = "rejected_nras_time";
    for (now, claim, value, expected) in [
        (NOW, "iat", NOW, "verified"),
        // Our clock is a minute behind, and not more.
        (NOW - 60, "iat", NOW, "verified"),
        (NOW - 61, "iat", NOW, time),
        (NOW - 60, "nbf", NOW, "verified"),
        (NOW, "nbf", NOW + 60, "verified"),
        (NOW, "nbf", NOW + 61, time),
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
