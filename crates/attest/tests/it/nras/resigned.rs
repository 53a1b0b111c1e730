//! Claims that NVIDIA could sign and that are not good: changed before the token
//! is signed, so that no signature or digest catches them.

use serde_json::json;

use super::{Row, assert_refused, judge, machine, spec};
use crate::support::NOW;

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
        "issued in ten minutes",
        "rejected_nras_time",
        "iat",
        NOW + 600
    ),
    overall!(
        "issued an hour ago",
        "rejected_nras_time",
        "iat",
        NOW - 3601
    ),
    overall!(
        "valid in ten minutes",
        "rejected_nras_time",
        "nbf",
        NOW + 600
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
        "GPU: issued in ten minutes",
        "rejected_nras_time",
        "iat",
        NOW + 600
    ),
    gpu!(
        "GPU: issued an hour ago",
        "rejected_nras_time",
        "iat",
        NOW - 3601
    ),
    gpu!(
        "GPU: valid in ten minutes",
        "rejected_nras_time",
        "nbf",
        NOW + 600
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
            claims["ueid"] = hex::encode(ueid).into();
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
