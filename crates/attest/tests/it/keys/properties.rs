//! What holds for every statement about keys.

use std::sync::OnceLock;

use attest::{Evidence, NotBound};
use proptest::prelude::*;
use serde_json::Value;

use super::{ecdsa, evidence, judge_e2ee, judge_ohttp, report, word};
use crate::support::{cases, spec};

/// The reports of the valid machine with either key attested, forged once, without
/// what makes each round slow.
fn reports() -> &'static [Value; 2] {
    static REPORTS: OnceLock<[Value; 2]> = OnceLock::new();
    REPORTS.get_or_init(|| {
        [spec(), ecdsa()].map(|mut spec| {
            spec.gpus = None;
            spec.compose_manager = None;
            let mut report = report(&spec);
            report.as_object_mut().unwrap().remove("all_attestations");
            report
        })
    })
}

fn is_bounded_and_printable(reason: &NotBound) -> bool {
    let reason = reason.to_string();
    reason.len() < 4096 && reason.chars().all(|c| (' '..='~').contains(&c))
}

/// Text that is nearly right, and text that terminals would like to misunderstand.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "(0x)?(04)?[0-9a-fA-F]{60,132}",
        "(002d)?0100200[0-9a-f]{40,100}",
        "(\u{1b}\\[2J|\u{202e}|\r\n|\u{1f4a9}){1,400}",
    ]
}

/// Any JSON, most of it texts.
fn json() -> impl Strategy<Value = Value> {
    let member = prop_oneof![
        Just(Value::Null),
        any::<i32>().prop_map(Value::from),
        text().prop_map(Value::from),
        prop::collection::vec(text(), 0..3).prop_map(Value::from),
    ];
    let names = "signature|signing_key|key_config|signing_algo|x";
    let object = prop::collection::hash_map(names, member.clone(), 0..6)
        .prop_map(|members| members.into_iter().collect());
    prop_oneof![3 => member, 1 => object]
}

proptest! {
    #![proptest_config(cases(1000))]

    /// Whatever a backend says of its keys, its report can be read. Nothing but the
    /// signed bytes is bound, and reasons stay bounded.
    #[test]
    fn foreign_json_refuses_nothing_and_is_never_bound(
        which in 0..2_usize,
        public in json(),
        offered in json(),
        attestation in prop::option::of(json()),
    ) {
        let mut report = reports()[which].clone();
        report["signing_public_key"] = public;
        report["ohttp_key_config"] = offered;
        if let Some(attestation) = attestation {
            report["ohttp_attestation"] = attestation;
        }
        let reason = judge_ohttp(&report).unwrap_err();
        prop_assert!(is_bounded_and_printable(&reason), "{reason}");
        let reason = judge_e2ee(&report).unwrap_err();
        prop_assert!(is_bounded_and_printable(&reason), "{reason}");
    }

    /// One change of one byte: what is still bound is the same key.
    #[test]
    fn a_changed_attestation_binds_no_other_key(at in any::<usize>(), byte in any::<u8>()) {
        let report = &reports()[0];
        let attestation = report["ohttp_attestation"].to_string();
        let mut bytes = attestation.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        let report_text = report.to_string();
        prop_assert!(report_text.contains(&attestation));
        let changed = report_text.replace(&attestation, &String::from_utf8_lossy(&bytes));
        // It may be no JSON any more.
        if let Ok(read) = Evidence::parse(changed.as_bytes())
            && let Ok(keys) = read.ohttp_keys(evidence(report).signing_key())
        {
            prop_assert_eq!(keys.len(), 1);
            prop_assert_eq!(hex::encode(&keys[0]), report["ohttp_key_config"].as_str().unwrap());
        }
    }

    /// One other bit of a public key of either kind.
    #[test]
    fn a_changed_public_key_contradicts(which in 0..2_usize, at in any::<usize>(), bit in 0..8_u32) {
        let mut report = reports()[which].clone();
        let mut bytes = hex::decode(report["signing_public_key"].as_str().unwrap()).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1_u8 << bit;
        report["signing_public_key"] = hex::encode(bytes).into();
        prop_assert_eq!(word(&judge_e2ee(&report)), "contradicted");
    }
}
