//! OHTTP keys that were changed, where it can be signed again, signed again.

use fake_tee::{Ohttp, Signer, Spec};
use serde_json::{Value, json};

use super::{ecdsa, judge_ohttp, report, word};
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
    ("a stranger's signature", "contradicted", |o| {
        o.signer = Signer::Stranger
    }),
    ("no signature", "not proved", |o| o.attested = false),
    ("another KEM", "not proved", |o| o.key_config[2] = 0x10),
    ("an empty configuration", "not proved", |o| {
        o.key_config.clear()
    }),
    ("cut in the public key", "not proved", |o| {
        o.key_config.truncate(34)
    }),
    ("no list", "not proved", |o| o.key_config.truncate(35)),
    ("an empty list", "not proved", |o| {
        o.key_config.truncate(37);
        o.key_config[36] = 0;
    }),
    ("half a suite", "not proved", |o| {
        o.key_config.truncate(43);
        o.key_config[36] = 6;
    }),
    ("a list longer than stated", "not proved", |o| {
        o.key_config.extend([0, 1, 0, 2])
    }),
    ("a list shorter than stated", "not proved", |o| {
        o.key_config.truncate(41)
    }),
    // As in application/ohttp-keys, RFC 9458 §3.2.
    ("a length in front", "bound", |o| list(o, &[45])),
    ("two with their lengths", "bound", |o| list(o, &[45, 41])),
    ("a length of nothing", "not proved", |o| list(o, &[45, 0])),
    ("a short length", "not proved", |o| {
        list(o, &[45]);
        o.key_config[1] -= 1;
    }),
    ("a long length", "not proved", |o| {
        list(o, &[45]);
        o.key_config[1] += 1;
    }),
    ("bytes behind a list", "not proved", |o| {
        list(o, &[45]);
        o.key_config.push(0);
    }),
    ("a list with another KEM", "not proved", |o| {
        list(o, &[45, 41]);
        o.key_config[47 + 2 + 2] = 0x10;
    }),
    ("two without lengths", "not proved", |o| {
        o.key_config.extend(o.key_config.clone())
    }),
    ("as much as is read", "bound", |o| grow(o, 502)),
    ("more than is read", "not proved", |o| grow(o, 503)),
    // Its second element is none, but so read it is one configuration.
    ("one that is a list too", "bound", |o| {
        grow(o, 100);
        // A length of 256, and then 177.
        o.key_config[0] = 1;
        o.key_config[258..260].copy_from_slice(&[0, 177]);
    }),
];

/// A list of the configuration's beginnings of these lengths.
fn list(ohttp: &mut Ohttp, lengths: &[u8]) {
    let config = std::mem::take(&mut ohttp.key_config);
    for len in lengths {
        let mut config = config[..usize::from(*len)].to_vec();
        if let Some(suites) = config.get_mut(36) {
            *suites = len - 37;
        }
        ohttp.key_config.extend([0, *len]);
        ohttp.key_config.extend(config);
    }
}

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
        assert_eq!(word(&outcome), *expected, "{name}: {outcome:?}");
    }
}

#[test]
fn bound_keys_are_those_that_were_signed() {
    let mut spec = spec();
    let ohttp = spec.ohttp.as_mut().unwrap();
    ohttp.key_config[0] = 7;
    let one = ohttp.key_config.clone();
    assert_eq!(judge_ohttp(&report(&spec)), Ok(vec![one.clone()]));
    list(spec.ohttp.as_mut().unwrap(), &[45, 41]);
    let mut other = one[..41].to_vec();
    other[36] = 4;
    assert_eq!(judge_ohttp(&report(&spec)), Ok(vec![one, other]));
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
    ("no OHTTP", "not proved", |r| {
        remove(r, "ohttp_key_config");
        remove(r, "ohttp_attestation");
    }),
    ("no attestation", "not proved", |r| {
        remove(r, "ohttp_attestation")
    }),
    ("no offer", "not proved", |r| remove(r, "ohttp_key_config")),
    ("another offer", "contradicted", |r| {
        flip(&mut r["ohttp_key_config"])
    }),
    ("an offer of another key", "contradicted", |r| {
        let offer = r["ohttp_key_config"].as_str().unwrap();
        let other = format!("{}00{}", &offer[..20], &offer[22..]);
        r["ohttp_key_config"] = other.into();
    }),
    ("another signed one", "contradicted", |r| {
        flip(field(r, "key_config"))
    }),
    ("both changed", "contradicted", |r| {
        flip(&mut r["ohttp_key_config"]);
        flip(field(r, "key_config"));
    }),
    ("another signer", "contradicted", |r| {
        flip(field(r, "signing_key"))
    }),
    ("another signature", "contradicted", |r| {
        flip(field(r, "signature"))
    }),
    ("signature of zeros", "contradicted", |r| {
        *field(r, "signature") = "00".repeat(64).into()
    }),
    ("ECDSA", "not proved", |r| {
        *field(r, "signing_algo") = "ecdsa".into()
    }),
    ("Ed25519 in capitals", "not proved", |r| {
        *field(r, "signing_algo") = "Ed25519".into()
    }),
    ("an algorithm that is a number", "not proved", |r| {
        *field(r, "signing_algo") = 1.into()
    }),
    ("a short signature", "not proved", |r| {
        *field(r, "signature") = "00".repeat(63).into()
    }),
    ("a long signature", "not proved", |r| {
        *field(r, "signature") = "00".repeat(65).into()
    }),
    ("a signature in base64", "not proved", |r| {
        *field(r, "signature") = "+/==".repeat(32).into()
    }),
    ("a short signer", "not proved", |r| {
        *field(r, "signing_key") = "00".repeat(31).into()
    }),
    ("an ECDSA signer", "not proved", |r| {
        *field(r, "signing_key") = "00".repeat(64).into()
    }),
    ("an offer that is no hex", "not proved", |r| {
        r["ohttp_key_config"] = "AQAg".into()
    }),
    ("an offer of several texts", "not proved", |r| {
        r["ohttp_key_config"] = json!([r["ohttp_key_config"], "00"])
    }),
    ("an offer of null", "not proved", |r| {
        r["ohttp_key_config"] = Value::Null
    }),
    ("a list", "not proved", |r| {
        r["ohttp_attestation"] = json!(["ed25519"])
    }),
    ("a text", "not proved", |r| {
        r["ohttp_attestation"] = "ed25519".into()
    }),
    ("a null", "not proved", |r| {
        r["ohttp_attestation"] = Value::Null
    }),
    ("deep", "not proved", |r| {
        r["ohttp_attestation"]["more"] = json!([[[[[1]]]]])
    }),
    ("as large as is read", "bound", |r| pad(r, 8 << 10)),
    ("a byte larger", "not proved", |r| pad(r, (8 << 10) + 1)),
    ("large", "not proved", |r| pad(r, 9000)),
    ("one field more", "bound", |r| {
        r["ohttp_attestation"]["created_at"] = 1.into()
    }),
    ("no algorithm", "not proved", |r| {
        remove(&mut r["ohttp_attestation"], "signing_algo")
    }),
    ("no signer", "not proved", |r| {
        remove(&mut r["ohttp_attestation"], "signing_key")
    }),
    ("no configuration", "not proved", |r| {
        remove(&mut r["ohttp_attestation"], "key_config")
    }),
    ("no signature", "not proved", |r| {
        remove(&mut r["ohttp_attestation"], "signature")
    }),
    ("a signature of null", "not proved", |r| {
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
        assert_eq!(word(&outcome), *expected, "{name}: {outcome:?}");
    }
}

/// The quote attests the ECDSA key: no signature by another key is a pass, and a wrong
/// one still contradicts.
#[test]
fn with_an_ecdsa_key_attested_nothing_is_bound() {
    let outcome = |change: Forge, edit: Edit| {
        let mut spec: Spec = ecdsa();
        change(spec.ohttp.as_mut().unwrap());
        let mut report = report(&spec);
        edit(&mut report);
        word(&judge_ohttp(&report))
    };
    assert_eq!(outcome(|_| {}, |_| {}), "not proved");
    assert_eq!(
        outcome(|o| o.signer = Signer::Stranger, |_| {}),
        "not proved"
    );
    assert_eq!(outcome(|o| o.attested = false, |_| {}), "not proved");
    assert_eq!(
        outcome(|_| {}, |r| flip(field(r, "signature"))),
        "contradicted"
    );
    assert_eq!(
        outcome(|_| {}, |r| flip(&mut r["ohttp_key_config"])),
        "contradicted"
    );
}
