//! Keys of a real backend on two days.

use attest::{KeyStatus, OhttpSuite};
use serde_json::Value;

use super::{code, judge_e2ee, judge_ohttp};
use crate::recordings::recordings;

fn reports() -> Option<[Value; 2]> {
    let reports = recordings().into_iter();
    let reports: Vec<_> = reports
        .map(|recording| serde_json::from_slice(&recording.report).unwrap())
        .collect();
    reports.try_into().ok()
}

/// In April nobody signed the OHTTP key, which was the same then.
#[test]
fn the_ohttp_key_is_bound_since_june() {
    let Some([april, june]) = reports() else {
        return;
    };
    let outcome = judge_ohttp(&april);
    assert!(
        matches!(
            outcome,
            Ok(KeyStatus::NotBound("nobody signed the OHTTP key"))
        ),
        "{outcome:?}"
    );
    let Ok(KeyStatus::Bound(key)) = judge_ohttp(&june) else {
        panic!("not bound");
    };
    assert_eq!(
        april["ohttp_key_config"],
        hex::encode(key.encoded()),
        "the key of April"
    );
    assert_eq!(key.encoded().len(), 45);
    assert_eq!(key.id(), 1);
    let suites = [1, 3].map(|aead| OhttpSuite { kdf: 1, aead });
    assert_eq!(key.suites(), suites);
}

#[test]
fn the_e2ee_key_is_bound_on_both_days() {
    for report in reports().into_iter().flatten() {
        let outcome = judge_e2ee(&report, report["signing_public_key"].as_str());
        assert_eq!(code(&outcome), "bound", "{outcome:?}");
    }
}

/// Each bit of the signature and of what it is over.
#[test]
fn a_recorded_attestation_with_one_other_bit_is_refused() {
    let Some([_, june]) = reports() else { return };
    let june = without_bulk(june);
    for (field, expected) in [
        ("signature", "rejected_ohttp_signature"),
        ("signing_key", "rejected_ohttp_signer"),
        ("key_config", "rejected_ohttp_other"),
    ] {
        let text = june["ohttp_attestation"][field].as_str().unwrap();
        let bytes = hex::decode(text).unwrap();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            let mut report = june.clone();
            report["ohttp_attestation"][field] = hex::encode(bytes).into();
            let outcome = judge_ohttp(&report);
            assert_eq!(
                code(&outcome),
                expected,
                "byte {at} of {field}: {outcome:?}"
            );
        }
    }
}

/// The copy of the report inside it, which nobody reads, makes each round slow.
fn without_bulk(mut report: Value) -> Value {
    report.as_object_mut().unwrap().remove("all_attestations");
    report
}
