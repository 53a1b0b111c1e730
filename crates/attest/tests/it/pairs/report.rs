//! The report's keys, and how it writes values.

use fake_tee::Signing;
use serde_json::json;

use super::Member;
use crate::tampering::{flip, set};

pub(super) const PAIRS: &[(Member, Member)] = &[
    (
        (
            "an ECDSA signing key",
            |s| s.signing = Signing::ecdsa(),
            "tagged",
        ),
        (
            "the signing key of another machine",
            |s| flip(s, "/signing_address"),
            "rejected_report_data machine",
        ),
    ),
    (
        (
            "the ECDSA key in the form of SEC 1",
            |s| {
                s.signing = Signing::ecdsa();
                s.hooks.report.push(|report| {
                    let key = format!("04{}", report["signing_public_key"].as_str().unwrap());
                    report["signing_public_key"] = key.into();
                });
            },
            "tagged",
        ),
        (
            "an address of another length",
            |s| set(s, "/signing_address", json!("00")),
            "evidence_address_length machine",
        ),
    ),
    (
        (
            "an OHTTP key of another kind",
            |s| {
                s.ohttp = None;
                s.hooks.report.push(|report| {
                    report["ohttp_key_config"] =
                        format!("01647a{}000400010001", "ab".repeat(32)).into();
                });
            },
            "tagged",
        ),
        (
            "the TLS key of another connection",
            |s| flip(s, "/tls_cert_fingerprint"),
            "rejected_spki_mismatch unknown",
        ),
    ),
    (
        (
            "hex in capitals",
            |s| {
                s.hooks.report.push(|report| {
                    let text = report["intel_quote"].as_str().unwrap().to_uppercase();
                    report["intel_quote"] = text.into();
                });
            },
            "tagged",
        ),
        (
            "a second spelling of the nonce",
            |s| set(s, "/request_nonce", json!("5A".repeat(32))),
            "rejected_nonce machine",
        ),
    ),
    (
        (
            "no padding behind the quote",
            |s| s.quote.trailing.clear(),
            "tagged",
        ),
        (
            "a quote cut short",
            |s| set(s, "/intel_quote", json!("0400")),
            "rejected_quote_format unknown",
        ),
    ),
];
