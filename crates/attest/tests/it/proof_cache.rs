//! What a cache may keep of a proof, and what it stands for afterwards.

use attest::{Attested, Expected, FloorCheck, PolicyDigest, RecallError, Spki, UnixTime};

use crate::support::{DOMAIN, LIVE, MODEL, NONCE, NOW, challenge, judge_with, policy, spec};

fn attested() -> Attested {
    let built = spec().forge(&challenge()).unwrap();
    let appraisal = judge_with(&built, policy(), FloorCheck::NotKept("a test"));
    appraisal.outcome.unwrap()
}

#[test]
fn a_proof_says_what_it_is_about() {
    let proof = attested();
    assert_eq!(proof.spki(), Spki::from_bytes(LIVE));
    assert_eq!(proof.policy(), policy().digest());
    assert_eq!(*proof.domain(), Expected::Known(DOMAIN.parse().unwrap()));
    assert_eq!(proof.model_name(), MODEL);
    assert_eq!(*proof.nonce().as_bytes(), NONCE);
    assert_eq!(proof.signing_key().address(), spec().signing.address);
    // The fake's collateral is good for 29 days.
    assert_eq!(proof.valid_until(), UnixTime(NOW + 29 * 86_400));
}

#[test]
fn a_record_stands_for_its_domain_key_policy_and_time_only() {
    let now = UnixTime(NOW);
    let record = attested().record(now, 3600).unwrap();
    let domain = DOMAIN.parse().unwrap();
    let (spki, digest) = (Spki::from_bytes(LIVE), policy().digest());
    assert_eq!(record.valid_until(), now.plus(3600));
    for at in [now, now.plus(1), now.plus(3599)] {
        let proof = record.recall(&domain, spki, digest, at).unwrap();
        assert_eq!(proof.spki(), spki);
        assert_eq!(
            proof.valid_until(),
            now.plus(3600),
            "a recall prolongs nothing"
        );
        assert_eq!(*proof.domain(), Expected::Known(domain.clone()));
    }
    let other_domain = "other.completions.near.ai".parse().unwrap();
    let other_key = Spki::from_bytes([0; 32]);
    let other_policy = PolicyDigest::from_bytes([0; 32]);
    for (refused, expected) in [
        (
            record.recall(&other_domain, spki, digest, now),
            RecallError::OtherDomain,
        ),
        (
            record.recall(&domain, other_key, digest, now),
            RecallError::OtherKey,
        ),
        (
            record.recall(&domain, spki, other_policy, now),
            RecallError::OtherPolicy,
        ),
        (
            record.recall(&domain, spki, digest, UnixTime(NOW - 1)),
            RecallError::ClockWentBack,
        ),
        (
            record.recall(&domain, spki, digest, now.plus(3600)),
            RecallError::Expired,
        ),
        (
            record.recall(&domain, spki, digest, UnixTime(u64::MAX)),
            RecallError::Expired,
        ),
    ] {
        assert_eq!(refused.unwrap_err(), expected);
    }
}

#[test]
fn a_record_never_outlives_the_evidence() {
    let proof = attested();
    for ttl in [30 * 86_400, u64::MAX] {
        let record = proof.record(UnixTime(NOW), ttl).unwrap();
        assert_eq!(record.valid_until(), proof.valid_until());
    }
}

#[test]
fn the_certificates_of_the_identity_bound_the_proof_too() {
    let mut spec = spec();
    spec.hooks.app_leaf.push(|leaf| leaf.not_after = NOW + 60);
    let built = spec.forge(&challenge()).unwrap();
    let proof = judge_with(&built, policy(), FloorCheck::NotKept("a test"))
        .outcome
        .unwrap();
    assert_eq!(proof.valid_until(), UnixTime(NOW + 60));
}
