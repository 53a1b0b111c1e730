//! Keys of end-to-end encryption that are not those of the attested address.

use fake_tee::{Signing, Spec};

use super::{ecdsa, judge_e2ee, report, word};
use crate::support::spec;

/// The base point of secp256k1 (SEC 2 §2.4.1): a valid key, and not ours.
const BASE_POINT: &str = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798\
                          483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";

fn outcome(spec: &Spec, public: &str) -> &'static str {
    let mut report = report(spec);
    report["signing_public_key"] = public.into();
    word(&judge_e2ee(&report))
}

#[test]
fn the_attested_keys_are_bound() {
    for spec in [spec(), ecdsa()] {
        let mut report = report(&spec);
        assert_eq!(judge_e2ee(&report), Ok(spec.signing.public_key));
        report.as_object_mut().unwrap().remove("signing_public_key");
        assert_eq!(word(&judge_e2ee(&report)), "not proved");
    }
}

#[test]
fn an_ed25519_key_is_the_address() {
    let spec = spec();
    let key = hex::encode(&spec.signing.public_key);
    let other = format!("{}{}", &key[2..], &key[..2]);
    assert_eq!(outcome(&spec, &key), "bound");
    assert_eq!(
        outcome(&spec, &format!("0x{}", key.to_uppercase())),
        "bound"
    );
    assert_eq!(outcome(&spec, &other), "contradicted");
    for unreadable in [
        "",
        "00",
        &key[2..],
        &format!("{key}00"),
        &"zz".repeat(32),
        BASE_POINT,
    ] {
        assert_eq!(outcome(&spec, unreadable), "not proved", "{unreadable}");
    }
}

/// With SEC 1's first byte (§2.3.3) it is the same key.
#[test]
fn an_ecdsa_key_hashes_to_the_address() {
    let spec = ecdsa();
    let key = hex::encode(&spec.signing.public_key);
    assert_eq!(outcome(&spec, &key), "bound");
    let mut sec1 = report(&spec);
    sec1["signing_public_key"] = format!("04{key}").into();
    assert_eq!(judge_e2ee(&sec1), Ok(spec.signing.public_key.clone()));
    // The point at infinity has no coordinates; these are none of the curve.
    let no_points = ["00".repeat(64), "ff".repeat(64), format!("04{}", &key[2..])];
    for no_point in no_points {
        assert_eq!(outcome(&spec, &no_point), "contradicted", "{no_point}");
    }
    assert_eq!(outcome(&spec, BASE_POINT), "contradicted");
    let unreadable = [
        String::new(),
        // SEC 1's other forms: compressed, and hybrid.
        format!("02{}", &key[..64]),
        format!("06{key}"),
        format!("0404{key}"),
        key[..64].to_owned(),
        hex::encode(Signing::ed25519().public_key),
        "zz".repeat(64),
    ];
    for unreadable in unreadable {
        assert_eq!(outcome(&spec, &unreadable), "not proved", "{unreadable}");
    }
}

/// An address can be that of 64 bytes that are no point: to encrypt to them could give
/// the sender's secret away.
#[test]
fn a_point_off_the_curve_is_not_bound_though_its_address_fits() {
    let mut spec = ecdsa();
    let mut point = spec.signing.public_key.clone();
    point[63] ^= 1;
    spec.signing = Signing::of_point(&point);
    let outcome = judge_e2ee(&report(&spec));
    assert_eq!(word(&outcome), "contradicted", "{outcome:?}");
}

/// The address of the key whose Y is negated is another one.
#[test]
fn the_other_point_of_the_same_x_is_another_key() {
    const P: &str = "fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f";
    let spec = ecdsa();
    let mut point = spec.signing.public_key.clone();
    let mut borrow = 0;
    for (y, p) in point[32..].iter_mut().zip(hex::decode(P).unwrap()).rev() {
        let difference = i16::from(p) - i16::from(*y) - borrow;
        borrow = i16::from(difference < 0);
        *y = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    assert_eq!(outcome(&spec, &hex::encode(point)), "contradicted");
}
