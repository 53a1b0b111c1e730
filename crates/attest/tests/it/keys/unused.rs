//! Keys that the proxy does not use: the verdict of a machine, whatever it says of them.

use attest::{Appraisal, CheckId, Severity, Status};
use fake_tee::{Signer, Spec};
use serde_json::json;

use super::ecdsa;
use crate::support::{code, judge, spec, spec_with};
use crate::tampering::{flip, remove, set};

/// Status and finding of one check, in a verdict that is "verified".
#[track_caller]
fn said(spec: &Spec, id: CheckId, topic: &str) -> (Status, bool) {
    let Appraisal { report, .. } = &verified(spec);
    let check = report.check(id).unwrap();
    assert!(!check.detail.is_empty());
    let finding = report.findings.iter().find(|found| found.topic == topic);
    if let Some(finding) = finding {
        assert_eq!(finding.severity, Severity::Warning);
        assert_eq!(finding.detail, check.detail);
    }
    (check.status, finding.is_some())
}

#[track_caller]
fn verified(spec: &Spec) -> Appraisal {
    let appraisal = judge(spec);
    assert_eq!(code(&appraisal), "verified", "{:#?}", appraisal.report);
    appraisal
}

#[track_caller]
fn ohttp(change: impl FnOnce(&mut Spec)) -> (Status, bool) {
    said(
        &spec_with(change),
        CheckId::OhttpKey,
        "ohttp_key_contradicts",
    )
}

#[track_caller]
fn encryption(mut spec: Spec, change: impl FnOnce(&mut Spec)) -> (Status, bool) {
    change(&mut spec);
    said(&spec, CheckId::EncryptionKey, "encryption_key_contradicts")
}

fn sec1(spec: &mut Spec) {
    spec.hooks.report.push(|report| {
        let key = report["signing_public_key"].as_str().unwrap();
        report["signing_public_key"] = format!("04{key}").into();
    });
}

const BOUND: (Status, bool) = (Status::Pass, false);
const UNKNOWN: (Status, bool) = (Status::NotProved, false);
const CONTRADICTED: (Status, bool) = (Status::NotProved, true);

#[test]
fn an_ohttp_key_that_is_not_understood_refuses_no_machine() {
    // Of X-Wing's KEM, signed by nobody, and signed.
    let other_kem = format!("01647a{}000400010001", "ab".repeat(32));
    let config = hex::decode(&other_kem).unwrap();
    assert_eq!(
        ohttp(|s| {
            s.ohttp = None;
            let config = other_kem.clone();
            let put =
                move |r: &mut serde_json::Value| r["ohttp_key_config"] = config.as_str().into();
            s.hooks.report.push(put);
        }),
        UNKNOWN
    );
    assert_eq!(
        ohttp(|s| s.ohttp.as_mut().unwrap().key_config = config),
        UNKNOWN
    );
    assert_eq!(ohttp(|s| s.ohttp = None), UNKNOWN);
    assert_eq!(
        ohttp(|s| s.ohttp.as_mut().unwrap().attested = false),
        UNKNOWN
    );
    assert_eq!(ohttp(|s| remove(s, "/ohttp_key_config")), UNKNOWN);
    for (field, value) in [
        ("/ohttp_key_config", json!(["01", "02"])),
        ("/ohttp_key_config", json!({"keys": 2})),
        ("/ohttp_attestation", json!([])),
        ("/ohttp_attestation", json!("signed")),
        ("/ohttp_attestation/signing_algo", json!("ecdsa")),
        ("/ohttp_attestation/signature", json!(7)),
    ] {
        assert_eq!(ohttp(|s| set(s, field, value)), UNKNOWN, "{field}");
    }
}

#[test]
fn two_signed_ohttp_keys_are_both_bound() {
    let mut spec = spec();
    let ohttp = spec.ohttp.as_mut().unwrap();
    let [one, mut other] = [(); 2].map(|()| ohttp.key_config.clone());
    other[0] = 2;
    ohttp.key_config = [&[0, 45][..], &one, &[0, 45], &other].concat();
    let report = verified(&spec).report;
    assert_eq!(
        report.check(CheckId::OhttpKey).unwrap().status,
        Status::Pass
    );
    let fact = report.facts.iter().find(|fact| fact.name == "ohttp_key");
    let both = format!("{} {}", hex::encode(one), hex::encode(other));
    assert_eq!(fact.unwrap().value, both);
}

#[test]
fn an_ohttp_key_that_contradicts_is_a_warning() {
    assert_eq!(ohttp(|_| {}), BOUND);
    assert_eq!(ohttp(|s| flip(s, "/ohttp_key_config")), CONTRADICTED);
    assert_eq!(
        ohttp(|s| flip(s, "/ohttp_attestation/signature")),
        CONTRADICTED
    );
    let stranger = |s: &mut Spec| s.ohttp.as_mut().unwrap().signer = Signer::Stranger;
    assert_eq!(ohttp(stranger), CONTRADICTED);
}

#[test]
fn a_signing_key_in_sec1_form_is_the_same_key() {
    assert_eq!(encryption(ecdsa(), |_| {}), BOUND);
    assert_eq!(encryption(ecdsa(), sec1), BOUND);
    // 33 bytes are no Ed25519 key.
    assert_eq!(encryption(spec(), sec1), UNKNOWN);
}

#[test]
fn an_encryption_key_refuses_no_machine() {
    const FIELD: &str = "/signing_public_key";
    for spec in [spec, ecdsa] {
        assert_eq!(encryption(spec(), |_| {}), BOUND);
        assert_eq!(encryption(spec(), |s| remove(s, FIELD)), UNKNOWN);
        for value in [json!("00"), json!(7), json!(["00"]), json!(null)] {
            assert_eq!(encryption(spec(), |s| set(s, FIELD, value)), UNKNOWN);
        }
        assert_eq!(encryption(spec(), |s| flip(s, FIELD)), CONTRADICTED);
    }
}
