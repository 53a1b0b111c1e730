//! The key set and those who vouch for it.

use std::sync::Arc;

use attest::{KeySet, NrasAnchors, Spki};
use fake_tee::Signer;
use fake_tee::nras::{NrasPki, NrasSpec, SigningKey};
use fake_tee::rcgen::{
    BasicConstraints, CustomExtension, DnType, IsCa, KeyUsagePurpose, date_time_ymd,
};
use serde_json::{Value, json};

use super::{Row, anchors, assert_refused, code, judge, judge_under, machine, spec};
use crate::support::{DAY, NOW};

/// Changes a byte, counted from the last of the identifier, in the field that the
/// leaf's signature does not cover.
fn edit_signature_algorithm(spec: &mut NrasSpec, at: usize, byte: u8) {
    // 1.2.840.113549.1.1.11, and the parameters: NULL.
    const ALGORITHM: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0b, 5, 0];
    spec.x5c.push(move |chain| {
        let leaf = &mut chain[0];
        let mut places = leaf.windows(ALGORITHM.len());
        let place = places.rposition(|window| window == ALGORITHM).unwrap();
        leaf[place + 8 + at] = byte;
    });
}

pub(super) const REFUSED: &[Row] = &[
    ("x, y of another key", "rejected_nras_key_mismatch", |s| {
        s.key_set.push(|set| {
            for member in ["x", "y"] {
                set["keys"][0][member] = set["keys"][1][member].clone();
            }
        })
    }),
    ("x of another key", "rejected_nras_key_mismatch", |s| {
        s.key_set
            .push(|set| set["keys"][0]["x"] = set["keys"][1]["x"].clone())
    }),
    (
        "y of a key that is not used",
        "rejected_nras_key_mismatch",
        |s| {
            s.key_set
                .push(|set| set["keys"][1]["y"] = set["keys"][0]["y"].clone())
        },
    ),
    (
        "certificates of another key",
        "rejected_nras_key_mismatch",
        |s| {
            s.key_set
                .push(|set| set["keys"][0]["x5c"] = set["keys"][1]["x5c"].clone())
        },
    ),
    (
        "another PKI with the same names",
        "rejected_nras_authority",
        |s| s.pki = NrasPki::other().unwrap(),
    ),
    // The pinned key stands beside the stranger's leaf.
    (
        "leaf of another PKI under the pinned certificate",
        "rejected_nras_certificate",
        |s| {
            let mut genuine = spec();
            genuine.key = s.key.clone();
            let set = genuine.key_set().unwrap();
            s.pki = NrasPki::other().unwrap();
            s.key_set
                .push(move |own| own["keys"][0]["x5c"][1] = set["keys"][0]["x5c"][1].clone());
        },
    ),
    (
        "leaf signed by a stranger",
        "rejected_nras_certificate",
        |s| s.leaf_signer = Signer::Stranger,
    ),
    ("signature of the leaf", "rejected_nras_certificate", |s| {
        s.x5c.push(|chain| *chain[0].last_mut().unwrap() ^= 1)
    }),
    // RFC 5280 §4.1.1.2: beside the signature stands what is signed.
    (
        "parameters of the signature",
        "rejected_nras_certificate",
        |s| edit_signature_algorithm(s, 1, 0x04),
    ),
    (
        "algorithm of the signature",
        "rejected_nras_certificate",
        |s| edit_signature_algorithm(s, 0, 0x0c),
    ),
    ("key signed by itself", "rejected_nras_authority", |s| {
        s.x5c.push(|chain| chain[1] = chain[0].clone())
    }),
    ("leaf is a CA", "rejected_nras_certificate", |s| {
        s.leaf
            .push(|leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))
    }),
    (
        "leaf may sign certificates",
        "rejected_nras_certificate",
        |s| {
            s.leaf
                .push(|leaf| leaf.key_usages.push(KeyUsagePurpose::KeyCertSign))
        },
    ),
    ("leaf may not sign data", "rejected_nras_certificate", |s| {
        s.leaf
            .push(|leaf| leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement])
    }),
    ("leaf without a usage", "rejected_nras_certificate", |s| {
        s.leaf.push(|leaf| leaf.key_usages.clear())
    }),
    (
        "leaf for something else",
        "rejected_nras_certificate",
        |s| {
            s.leaf.push(|leaf| {
                leaf.distinguished_name.push(
                    DnType::CommonName,
                    "NVIDIA Attestation Service NVSwitch LS10",
                )
            })
        },
    ),
    (
        "leaf with a critical extension",
        "rejected_nras_certificate",
        |s| {
            s.leaf.push(|leaf| {
                let mut extension =
                    CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 5703, 1], vec![5, 0]);
                extension.set_criticality(true);
                leaf.custom_extensions.push(extension);
            })
        },
    ),
    ("expired leaf", "rejected_nras_certificate_time", |s| {
        s.leaf
            .push(|leaf| leaf.not_after = date_time_ymd(2026, 11, 22))
    }),
    ("leaf of tomorrow", "rejected_nras_certificate_time", |s| {
        s.leaf
            .push(|leaf| leaf.not_before = date_time_ymd(2026, 11, 23))
    }),
    (
        "expired intermediate",
        "rejected_nras_certificate_time",
        |s| {
            s.intermediate
                .push(|ca| ca.not_after = date_time_ymd(2026, 11, 1))
        },
    ),
    (
        "one name for two keys",
        "evidence_nras_duplicate_key",
        |s| {
            s.key_set
                .push(|set| set["keys"][1]["kid"] = set["keys"][0]["kid"].clone())
        },
    ),
    ("one key twice", "evidence_nras_duplicate_key", |s| {
        s.key_set
            .push(|set| set["keys"][1] = set["keys"][0].clone())
    }),
    ("renamed", "rejected_nras_unknown_key", |s| {
        s.key_set
            .push(|set| set["keys"][0]["kid"] = json!("nv-eat-kid-prod-other"))
    }),
    ("no key", "rejected_nras_unknown_key", |s| {
        s.key_set.push(|set| set["keys"] = json!([]))
    }),
    ("two names exchanged", "rejected_nras_signature", |s| {
        s.key_set.push(|set| {
            let first = set["keys"][0]["kid"].clone();
            set["keys"][0]["kid"] = set["keys"][1]["kid"].clone();
            set["keys"][1]["kid"] = first;
        })
    }),
    ("symmetric key", "evidence_nras_key_set", |s| {
        s.key_set.push(|set| set["keys"][1]["kty"] = json!("oct"))
    }),
    ("P-256", "evidence_nras_key_set", |s| {
        s.key_set.push(|set| set["keys"][0]["crv"] = json!("P-256"))
    }),
    ("no certificates", "evidence_nras_key_set", |s| {
        s.key_set.push(|set| set["keys"][0]["x5c"] = json!([]))
    }),
    ("one certificate", "evidence_nras_key_set", |s| {
        s.x5c.push(|chain| chain.truncate(1))
    }),
    ("five certificates", "evidence_nras_key_set", |s| {
        s.x5c.push(|chain| {
            let more = chain[1].clone();
            chain.resize(5, more);
        })
    }),
    ("leaf of the intermediate", "evidence_nras_key_set", |s| {
        // Its key is RSA.
        s.x5c.push(|chain| chain[0] = chain[1].clone())
    }),
    ("a leaf that is none", "evidence_nras_key_set", |s| {
        s.x5c.push(|chain| chain[0].truncate(100))
    }),
    (
        "an intermediate that is none",
        "rejected_nras_certificate",
        |s| s.x5c.push(|chain| chain[1].truncate(100)),
    ),
    ("certificate in base64url", "evidence_nras_key_set", |s| {
        s.key_set.push(|set| {
            let text = set["keys"][0]["x5c"][0].as_str().unwrap();
            set["keys"][0]["x5c"][0] = text.replace('+', "-").replace('/', "_").into();
            set["keys"][0]["x5c"][1] = json!("-_-_");
        })
    }),
    ("padded coordinate", "evidence_nras_key_set", |s| {
        s.key_set.push(|set| {
            let x = set["keys"][0]["x"].as_str().unwrap();
            set["keys"][0]["x"] = format!("{x}=").into();
        })
    }),
    ("short coordinate", "evidence_nras_key_set", |s| {
        s.key_set.push(|set| {
            let x = set["keys"][0]["x"].as_str().unwrap();
            set["keys"][0]["x"] = x[4..].into();
        })
    }),
    ("long name", "evidence_nras_key_set", |s| {
        s.key_set
            .push(|set| set["keys"][1]["kid"] = "k".repeat(129).into())
    }),
    ("no name", "evidence_nras_key_set", |s| {
        s.key_set.push(|set| set["keys"][1]["kid"] = json!(""))
    }),
    ("a key that is a list", "evidence_nras_key_set", |s| {
        s.key_set.push(|set| {
            let key = set["keys"][1].clone();
            let members = ["kty", "crv", "kid", "x5c", "x", "y"];
            set["keys"][1] = members.map(|member| key[member].clone()).to_vec().into();
        })
    }),
    ("201 keys", "evidence_nras_key_set", |s| {
        s.key_set
            .push(|set| set["keys"] = vec![json!({}); 201].into())
    }),
    ("deep", "evidence_nras_key_set", |s| {
        s.key_set.push(|set| set["more"] = json!([[[[[[1]]]]]]))
    }),
];

#[test]
fn a_changed_key_set_is_refused() {
    assert_refused(REFUSED);
}

/// Each member of a key that is needed.
#[test]
fn a_key_that_lacks_a_member_is_refused() {
    for member in ["kty", "crv", "kid", "x5c", "x", "y"] {
        for value in [None, Some(json!(7)), Some(Value::Null)] {
            let mut spec = spec();
            spec.key_set.push(move |set| match &value {
                Some(value) => set["keys"][0][member] = value.clone(),
                None => drop(set["keys"][0].as_object_mut().unwrap().remove(member)),
            });
            assert_eq!(code(&judge(&spec)), "evidence_nras_key_set", "{member}");
        }
    }
}

/// Below a bound the next check speaks; above it the number is named.
#[test]
fn the_bounds_of_a_key_set_are_exact() {
    for (count, word) in [(200, "keys[0]: "), (201, "201 keys"), (300, "300 keys")] {
        let set = json!({ "keys": vec![json!({}); count] }).to_string();
        let rejected = KeySet::parse(set.as_bytes()).unwrap_err();
        assert_eq!(rejected.code(), "evidence_nras_key_set");
        assert!(rejected.to_string().contains(word), "{rejected}");
    }
    for (len, expected) in [
        (128, "verified"),
        (129, "evidence_nras_key_set"),
        (200, "evidence_nras_key_set"),
    ] {
        let mut spec = spec();
        spec.key_set
            .push(move |set| set["keys"][1]["kid"] = "k".repeat(len).into());
        assert_eq!(code(&judge(&spec)), expected, "{len}");
    }
    for (count, expected) in [
        (4, "verified"),
        (5, "evidence_nras_key_set"),
        (6, "evidence_nras_key_set"),
    ] {
        let mut spec = spec();
        spec.x5c.push(move |chain| {
            let more = chain[1].clone();
            chain.resize(count, more);
        });
        assert_eq!(code(&judge(&spec)), expected, "{count}");
    }
}

#[test]
fn a_key_set_says_how_many_keys_it_has() {
    let set = spec().key_set().unwrap().to_string();
    let set = KeySet::parse(set.as_bytes()).unwrap();
    assert_eq!((set.len(), set.is_empty()), (2, false));
    let none = KeySet::parse(br#"{"keys": []}"#).unwrap();
    assert_eq!((none.len(), none.is_empty()), (0, true));
}

/// What may differ: other members, more certificates, keys that are not used
/// and nobody vouches for.
#[test]
fn what_does_not_matter_is_ignored() {
    let mut spec = spec();
    spec.key_set.push(|set| {
        set["more"] = json!(true);
        set["keys"][0]["use"] = json!("sig");
        let root = set["keys"][0]["x5c"][1].clone();
        set["keys"][0]["x5c"].as_array_mut().unwrap().push(root);
        set["keys"][1]["x5c"][1] = set["keys"][1]["x5c"][0].clone();
    });
    assert_eq!(code(&judge(&spec)), "verified");
    // Only the intermediate's key decides: it may be certified again.
    spec.intermediate.push(|ca| {
        ca.not_after = date_time_ymd(2040, 1, 1);
        ca.distinguished_name
            .push(DnType::CommonName, "Intermediate 005");
    });
    assert_eq!(code(&judge(&spec)), "verified");
}

#[test]
fn only_an_unknown_key_is_worth_asking_again() {
    let before = spec();
    let mut after = spec();
    after.key = Arc::new(SigningKey::generate("third").unwrap());
    let answer = after.answer(&machine().payload).unwrap().to_string();
    let judge = |keys: Value| {
        super::judge_bytes(
            answer.as_bytes(),
            keys.to_string().as_bytes(),
            &machine().gpus,
        )
    };
    let rejected = judge(before.key_set().unwrap()).unwrap_err();
    assert_eq!(rejected.code(), "rejected_nras_unknown_key");
    assert!(rejected.is_unknown_kid());
    assert!(judge(after.key_set().unwrap()).is_ok());
    for (name, code, change) in REFUSED {
        let mut spec = spec();
        change(&mut spec);
        let unknown = super::judge(&spec).unwrap_err().is_unknown_kid();
        assert_eq!(unknown, *code == "rejected_nras_unknown_key", "{name}");
    }
}

/// A second key that is vouched for, too, but did not sign.
#[test]
fn each_token_is_held_against_its_own_key() {
    let mut spec = spec();
    let second = spec.other_keys[0].kid.clone();
    spec.gpu(1)
        .header
        .push(move |header| header["kid"] = second.clone().into());
    assert_eq!(code(&judge(&spec)), "rejected_nras_signature");
}

#[test]
fn the_fake_service_is_not_nvidia() {
    assert!(!anchors().is_nvidia());
    let spec = spec();
    let appraise = |anchors: &NrasAnchors, now: u64| judge_under(&spec, anchors, now);
    let refused = code(&appraise(&NrasAnchors::nvidia(), NOW));
    assert_eq!(refused, "rejected_nras_authority");
    // Several pins: any of them will do, none is none.
    let (real, fake) = (NrasAnchors::nvidia(), anchors());
    let both = real.intermediates().chain(fake.intermediates());
    let both = NrasAnchors::danger_nras_intermediates(both);
    assert_eq!(code(&appraise(&both, NOW)), "verified");
    let none = NrasAnchors::danger_nras_intermediates([]);
    assert_eq!(code(&appraise(&none, NOW)), "rejected_nras_authority");
    let other = NrasAnchors::danger_nras_intermediates([Spki::from_bytes([1; 32])]);
    assert_eq!(code(&appraise(&other, NOW)), "rejected_nras_authority");
    // Keys are certified for two days, of which eight hours have passed.
    let time = "rejected_nras_certificate_time";
    assert_eq!(code(&appraise(&anchors(), NOW + 2 * DAY)), time);
    assert_eq!(code(&appraise(&anchors(), NOW - DAY)), time);
}
