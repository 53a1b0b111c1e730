//! OHTTP keys that were changed, where it can be signed again, signed again.

use std::collections::BTreeSet;

use attest::{Explanation, KeyStatus, KeysRejected, OhttpSuite, Rejected};
use fake_tee::{Ohttp, Signer, Spec};
use serde_json::{Value, json};

use super::{code, ecdsa, judge_ohttp, report};
use crate::support::spec;

type Forge = fn(&mut Ohttp);

/// Changes to what is signed.
const SIGNED: &[(&str, &str, Forge)] = &[
    ("nothing", "bound", |_| {}),
    ("another id", "bound", |o| o.key_config[0] = 7),
    ("one suite", "bound", |o| {
        o.key_config.truncate(41);
        o.key_config[36] = 4;
    }),
    ("a stranger's signature", "rejected_ohttp_signer", |o| {
        o.signer = Signer::Stranger
    }),
    ("no signature", "not bound", |o| o.attested = false),
    ("another KEM", "evidence_ohttp_key_config", |o| {
        o.key_config[2] = 0x10
    }),
    ("an empty configuration", "evidence_ohttp_key_config", |o| {
        o.key_config.clear()
    }),
    ("cut in the public key", "evidence_ohttp_key_config", |o| {
        o.key_config.truncate(34)
    }),
    ("no list", "evidence_ohttp_key_config", |o| {
        o.key_config.truncate(35)
    }),
    ("an empty list", "evidence_ohttp_key_config", |o| {
        o.key_config.truncate(37);
        o.key_config[36] = 0;
    }),
    ("half a suite", "evidence_ohttp_key_config", |o| {
        o.key_config.truncate(43);
        o.key_config[36] = 6;
    }),
    (
        "a list longer than stated",
        "evidence_ohttp_key_config",
        |o| o.key_config.extend([0, 1, 0, 2]),
    ),
    (
        "a list shorter than stated",
        "evidence_ohttp_key_config",
        |o| o.key_config.truncate(41),
    ),
    // As in application/ohttp-keys, RFC 9458 §3.2.
    ("a length in front", "evidence_ohttp_key_config", |o| {
        o.key_config.splice(0..0, [0, 45]);
    }),
    ("two configurations", "evidence_ohttp_key_config", |o| {
        o.key_config.extend(o.key_config.clone())
    }),
    ("as much as is read", "bound", |o| grow(o, 54)),
    ("more than is read", "evidence_ohttp_bad_field", |o| {
        grow(o, 55)
    }),
];

/// This many suites.
fn grow(ohttp: &mut Ohttp, suites: u16) {
    ohttp.key_config.truncate(35);
    ohttp.key_config.extend((suites * 4).to_be_bytes());
    for suite in 0..suites {
        ohttp.key_config.extend([0, 1]);
        ohttp.key_config.extend(suite.to_be_bytes());
    }
}

#[test]
fn each_signed_change_has_its_own_outcome() {
    for (name, expected, change) in SIGNED {
        let mut spec = spec();
        change(spec.ohttp.as_mut().unwrap());
        let outcome = judge_ohttp(&report(&spec));
        assert_eq!(code(&outcome), *expected, "{name}: {outcome:?}");
    }
}

#[test]
fn a_bound_key_is_the_one_that_was_signed() {
    let mut spec = spec();
    spec.ohttp.as_mut().unwrap().key_config[0] = 7;
    let signed = &spec.ohttp.as_ref().unwrap().key_config;
    let Ok(KeyStatus::Bound(key)) = judge_ohttp(&report(&spec)) else {
        panic!("not bound");
    };
    assert_eq!(key.encoded(), signed);
    assert_eq!(key.id(), 7);
    assert_eq!(key.public_key()[..], signed[3..35]);
    let suites = [1, 3].map(|aead| OhttpSuite { kdf: 1, aead });
    assert_eq!(key.suites(), suites);
}

type Edit = fn(&mut Value);

const ATTESTATION: &str = "/ohttp_attestation";

fn field<'a>(report: &'a mut Value, name: &str) -> &'a mut Value {
    report
        .pointer_mut(ATTESTATION)
        .unwrap()
        .get_mut(name)
        .unwrap()
}

/// Another last hex digit.
fn flip(text: &mut Value) {
    let old = text.as_str().unwrap();
    let (rest, last) = old.split_at(old.len() - 1);
    let last = if last == "0" { "1" } else { "0" };
    *text = format!("{rest}{last}").into();
}

/// An attestation of this many bytes.
fn pad(report: &mut Value, len: usize) {
    let attestation = &mut report["ohttp_attestation"];
    attestation["more"] = "".into();
    let more = len - attestation.to_string().len();
    attestation["more"] = "x".repeat(more).into();
}

/// Changes after the signature.
const UNSIGNED: &[(&str, &str, Edit)] = &[
    ("no OHTTP", "absent", |r| {
        remove(r, "ohttp_key_config");
        remove(r, "ohttp_attestation");
    }),
    ("no attestation", "not bound", |r| {
        remove(r, "ohttp_attestation")
    }),
    ("no offer", "evidence_ohttp_missing_field", |r| {
        remove(r, "ohttp_key_config")
    }),
    ("another offer", "rejected_ohttp_other", |r| {
        flip(&mut r["ohttp_key_config"])
    }),
    ("an offer of another key", "rejected_ohttp_other", |r| {
        let offer = r["ohttp_key_config"].as_str().unwrap();
        let other = format!("{}00{}", &offer[..20], &offer[22..]);
        r["ohttp_key_config"] = other.into();
    }),
    ("another signed one", "rejected_ohttp_other", |r| {
        flip(field(r, "key_config"))
    }),
    ("both changed", "rejected_ohttp_signature", |r| {
        flip(&mut r["ohttp_key_config"]);
        flip(field(r, "key_config"));
    }),
    ("another signer", "rejected_ohttp_signer", |r| {
        flip(field(r, "signing_key"))
    }),
    ("another signature", "rejected_ohttp_signature", |r| {
        flip(field(r, "signature"))
    }),
    ("signature of zeros", "rejected_ohttp_signature", |r| {
        *field(r, "signature") = "00".repeat(64).into()
    }),
    ("ECDSA", "evidence_ohttp_bad_field", |r| {
        *field(r, "signing_algo") = "ecdsa".into()
    }),
    ("Ed25519 in capitals", "evidence_ohttp_bad_field", |r| {
        *field(r, "signing_algo") = "Ed25519".into()
    }),
    (
        "an algorithm that is a number",
        "evidence_ohttp_bad_field",
        |r| *field(r, "signing_algo") = 1.into(),
    ),
    ("a short signature", "evidence_ohttp_bad_field", |r| {
        *field(r, "signature") = "00".repeat(63).into()
    }),
    ("a long signature", "evidence_ohttp_bad_field", |r| {
        *field(r, "signature") = "00".repeat(65).into()
    }),
    ("a signature in base64", "evidence_ohttp_bad_field", |r| {
        *field(r, "signature") = "+/==".repeat(32).into()
    }),
    ("a short signer", "evidence_ohttp_bad_field", |r| {
        *field(r, "signing_key") = "00".repeat(31).into()
    }),
    ("an ECDSA signer", "evidence_ohttp_bad_field", |r| {
        *field(r, "signing_key") = "00".repeat(64).into()
    }),
    ("an offer that is no hex", "evidence_ohttp_bad_field", |r| {
        r["ohttp_key_config"] = "AQAg".into()
    }),
    ("a list", "evidence_ohttp_bad_field", |r| {
        r["ohttp_attestation"] = json!(["ed25519"])
    }),
    ("a text", "evidence_ohttp_bad_field", |r| {
        r["ohttp_attestation"] = "ed25519".into()
    }),
    ("a null", "evidence_ohttp_bad_field", |r| {
        r["ohttp_attestation"] = Value::Null
    }),
    ("deep", "evidence_ohttp_bad_field", |r| {
        r["ohttp_attestation"]["more"] = json!([[[[[1]]]]])
    }),
    ("as large as is read", "bound", |r| pad(r, 8 << 10)),
    ("a byte larger", "evidence_ohttp_bad_field", |r| {
        pad(r, (8 << 10) + 1)
    }),
    ("large", "evidence_ohttp_bad_field", |r| pad(r, 9000)),
    ("one field more", "bound", |r| {
        r["ohttp_attestation"]["created_at"] = 1.into()
    }),
    ("no algorithm", "evidence_ohttp_missing_field", |r| {
        remove(&mut r["ohttp_attestation"], "signing_algo")
    }),
    ("no signer", "evidence_ohttp_missing_field", |r| {
        remove(&mut r["ohttp_attestation"], "signing_key")
    }),
    ("no configuration", "evidence_ohttp_missing_field", |r| {
        remove(&mut r["ohttp_attestation"], "key_config")
    }),
    ("no signature", "evidence_ohttp_missing_field", |r| {
        remove(&mut r["ohttp_attestation"], "signature")
    }),
    ("a signature of null", "evidence_ohttp_missing_field", |r| {
        *field(r, "signature") = Value::Null
    }),
];

fn remove(object: &mut Value, name: &str) {
    let removed = object.as_object_mut().unwrap().remove(name);
    assert!(removed.is_some(), "{name}");
}

#[test]
fn each_unsigned_change_has_its_own_outcome() {
    let genuine = report(&spec());
    for (name, expected, edit) in UNSIGNED {
        let mut report = genuine.clone();
        edit(&mut report);
        let outcome = judge_ohttp(&report);
        assert_eq!(code(&outcome), *expected, "{name}: {outcome:?}");
    }
}

/// A key that stands twice could be read in two ways.
#[test]
fn a_field_twice_is_refused() {
    let genuine = report(&spec());
    let twice = genuine["ohttp_attestation"]
        .to_string()
        .replace("{", r#"{"signature":"00","#);
    let key_config = genuine["ohttp_key_config"].as_str();
    let evidence = attest::Evidence::parse(genuine.to_string().as_bytes()).unwrap();
    let outcome = attest::ohttp_key(
        attest::OhttpWire {
            key_config,
            attestation: Some(&twice),
        },
        evidence.signing_key(),
    );
    assert_eq!(code(&outcome), "evidence_ohttp_bad_field", "{outcome:?}");
}

/// The quote attests the ECDSA key: no signature by another key is a pass, and a wrong
/// one is still refused.
#[test]
fn with_an_ecdsa_key_attested_nothing_is_bound() {
    let outcome = |change: Forge, edit: Edit| {
        let mut spec: Spec = ecdsa();
        change(spec.ohttp.as_mut().unwrap());
        let mut report = report(&spec);
        edit(&mut report);
        code(&judge_ohttp(&report))
    };
    assert_eq!(outcome(|_| {}, |_| {}), "not bound");
    assert_eq!(
        outcome(|o| o.signer = Signer::Stranger, |_| {}),
        "not bound"
    );
    assert_eq!(outcome(|o| o.attested = false, |_| {}), "not bound");
    assert_eq!(
        outcome(|_| {}, |r| flip(field(r, "signature"))),
        "rejected_ohttp_signature"
    );
    assert_eq!(
        outcome(|_| {}, |r| flip(&mut r["ohttp_key_config"])),
        "rejected_ohttp_other"
    );
}

#[test]
fn every_code_of_the_table_is_reached() {
    let mut seen: BTreeSet<_> = SIGNED.iter().map(|(_, code, _)| *code).collect();
    seen.extend(UNSIGNED.iter().map(|(_, code, _)| *code));
    for Explanation { code, .. } in KeysRejected::EXPLANATIONS {
        assert!(
            seen.contains(code) || code.ends_with("_encryption_key"),
            "{code}"
        );
        assert!(Explanation::all().any(|all| all.code == *code), "{code}");
    }
    let wrapped = Rejected::from(KeysRejected::OhttpSignature {});
    assert_eq!(wrapped.code(), "rejected_ohttp_signature");
}
