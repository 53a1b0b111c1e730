//! Keys of a real backend on two days.

use attest::NotBound;
use serde_json::Value;

use super::{judge_e2ee, judge_ohttp, word};
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
    let unsigned = NotBound::NotProved("nobody signed the OHTTP key".to_owned());
    assert_eq!(judge_ohttp(&april), Err(unsigned));
    let keys = judge_ohttp(&june).unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!(
        april["ohttp_key_config"],
        hex::encode(&keys[0]),
        "the key of April"
    );
    // Key 1, X25519; HKDF-SHA256 with AES-128-GCM and with ChaCha20-Poly1305.
    assert_eq!(keys[0][..3], [1, 0, 0x20]);
    assert_eq!(keys[0][35..], [0, 8, 0, 1, 0, 1, 0, 1, 0, 3]);
}

#[test]
fn the_e2ee_key_is_bound_on_both_days() {
    for report in reports().into_iter().flatten() {
        let outcome = judge_e2ee(&report);
        assert_eq!(word(&outcome), "bound", "{outcome:?}");
    }
}

/// Each bit of the signature and of what it is over.
#[test]
fn a_recorded_attestation_with_one_other_bit_contradicts() {
    let Some([_, june]) = reports() else { return };
    let june = without_bulk(june);
    for field in ["signature", "signing_key", "key_config"] {
        let text = june["ohttp_attestation"][field].as_str().unwrap();
        let bytes = hex::decode(text).unwrap();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            let mut report = june.clone();
            report["ohttp_attestation"][field] = hex::encode(bytes).into();
            let outcome = judge_ohttp(&report);
            assert_eq!(
                word(&outcome),
                "contradicted",
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
