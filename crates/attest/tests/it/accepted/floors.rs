//! Intel's documents may become newer, never older.

use attest::{Appraisal, Channel, Floor, FloorCheck, FloorKey, Floors, TrustAnchors};
use fake_tee::Spec;

use super::Change;
use crate::support::{challenge, code, judge_with, policy, spec};

fn kept(floors: &Floors, spec: &Spec) -> Appraisal {
    let floor = FloorCheck::Kept {
        floors,
        channel: Channel::Standard,
    };
    judge_with(&spec.forge(&challenge()).unwrap(), policy(), floor)
}

#[test]
fn collateral_never_goes_back() {
    const DAY: u64 = 86_400;
    let base = spec();
    let mut floors = Floors::default();
    let first = kept(&floors, &base);
    assert_eq!(code(&first), "verified");
    let seen = first.floor_seen.unwrap();
    assert!(floors.raise(&seen), "the first sight raises the floor");
    assert!(!floors.raise(&seen), "the second sight does not");
    assert_eq!(code(&kept(&floors, &base)), "verified");

    let lower: [Change; 4] = [
        ("TCB info", |s| s.tcb_info.tcb_evaluation_data_number -= 1),
        ("QE identity", |s| {
            s.qe_identity.tcb_evaluation_data_number -= 1
        }),
        ("PCK CRL", |s| s.crls.pck.this_update -= 7 * DAY + 1),
        ("root CRL", |s| s.crls.root.this_update -= 7 * DAY + 1),
    ];
    for (what, change) in lower {
        let mut spec = spec();
        change(&mut spec);
        assert_eq!(
            code(&kept(&floors, &spec)),
            "rejected_collateral_rollback",
            "{what}"
        );
        // Another channel, another root: other floors.
        let early = FloorCheck::Kept {
            floors: &floors,
            channel: Channel::Early,
        };
        let built = spec.forge(&challenge()).unwrap();
        assert_eq!(
            code(&judge_with(&built, policy(), early)),
            "verified",
            "{what}"
        );
    }
    // Mirrors may lag behind by a week.
    let mut spec = spec();
    spec.crls.pck.this_update -= 7 * DAY;
    spec.crls.root.this_update -= 7 * DAY;
    assert_eq!(code(&kept(&floors, &spec)), "verified");

    let early = FloorCheck::Kept {
        floors: &Floors::default(),
        channel: Channel::Early,
    };
    let built = base.forge(&challenge()).unwrap();
    let seen = judge_with(&built, policy(), early).floor_seen.unwrap();
    assert!(floors.raise(&seen), "another channel, another floor");
    let again = Floors::from_json(floors.to_json().as_bytes()).unwrap();
    assert_eq!(again, floors);
    let intel = FloorKey::new(
        &TrustAnchors::intel(),
        attest::Fmspc::from_bytes(base.platform.fmspc),
        Channel::Standard,
    );
    assert_eq!(floors.get(&intel), Floor::default());
}

/// The edition that refuses a platform is the one that must not be forgotten.
#[test]
fn an_edition_that_refuses_counts_as_seen() {
    const DAY: u64 = 86_400;
    let changes: [Change; 4] = [
        ("rejected_tcb_platform", |s| {
            s.tcb_info.tcb_evaluation_data_number += 1;
            s.tcb_info
                .set_platform_status("OutOfDate", &["INTEL-SA-00001"]);
        }),
        ("rejected_tcb_platform", |s| {
            s.tcb_info.tcb_evaluation_data_number += 1;
            s.tcb_info.set_platform_status("Revoked", &[]);
        }),
        ("rejected_certificate_revoked", |s| {
            s.crls.pck.revoked.push(s.certs.pck.serial.clone());
        }),
        ("rejected_certificate_revoked", |s| {
            s.crls.root.revoked.push(s.certs.platform_ca.serial.clone());
        }),
    ];
    for (expected, change) in changes {
        let mut older = spec();
        older.crls.pck.this_update -= 8 * DAY;
        older.crls.root.this_update -= 8 * DAY;
        let mut newer = spec();
        change(&mut newer);
        let mut floors = Floors::default();
        let before = kept(&floors, &older);
        assert_eq!(code(&before), "verified");
        floors.raise(&before.floor_seen.unwrap());
        let refused = kept(&floors, &newer);
        assert_eq!(code(&refused), expected);
        floors.raise(&refused.floor_seen.unwrap());
        assert_eq!(
            code(&kept(&floors, &older)),
            "rejected_collateral_rollback",
            "{expected}"
        );
    }
}

#[test]
fn what_nobody_signed_raises_no_floor() {
    let changes: [Change; 3] = [
        ("TCB info", |s| {
            s.tcb_info.tcb_evaluation_data_number = 4000;
            s.signers.tcb_info = fake_tee::Signer::Stranger;
        }),
        ("PCK CRL", |s| {
            s.crls.pck.this_update += 60;
            s.signers.pck_crl = fake_tee::Signer::Stranger;
        }),
        ("another root", |s| s.pki = fake_tee::Pki::other().unwrap()),
    ];
    for (what, change) in changes {
        let mut spec = spec();
        change(&mut spec);
        let refused = kept(&Floors::default(), &spec);
        assert_eq!(code(&refused), "rejected_collateral_untrusted", "{what}");
        assert_eq!(refused.floor_seen, None, "{what}");
    }
}
