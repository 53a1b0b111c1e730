//! Intel's documents may become newer, never older; and what `standard` is, Intel
//! says in a signed list.

use attest::{
    Appraisal, CheckId, Editions, EditionsParts, FloorCheck, FloorKey, Floors, Status,
    TrustAnchors, UnixTime,
};
use fake_tee::{Signer, Spec};

use super::Change;
use crate::support::{
    DAY, NOW, anchors, challenge, code, editions, editions_parts, judge_with, policy, spec,
    spec_with,
};

/// When the fake's list of editions is issued.
const LISTED: u64 = NOW - DAY;

/// Whether the list is had.
#[derive(Clone, Copy)]
enum List {
    Had,
    Missing,
}

fn kept(floors: &Floors, spec: &Spec, list: List) -> Appraisal {
    let built = spec.forge(&challenge()).unwrap();
    let list = match list {
        List::Had => Some(editions(&built)),
        List::Missing => None,
    };
    let editions = list.as_ref();
    judge_with(&built, policy(), FloorCheck::Kept { floors, editions })
}

/// What is remembered of one machine's documents, whatever the verdict.
fn after(spec: &Spec, list: List) -> Floors {
    let mut floors = Floors::default();
    floors.raise(&kept(&Floors::default(), spec, list).floor_seen.unwrap());
    floors
}

fn of_edition(number: u32) -> Spec {
    let mut spec = spec();
    spec.tcb_info.tcb_evaluation_data_number = number;
    spec.qe_identity.tcb_evaluation_data_number = number;
    spec
}

fn floor_status(appraisal: &Appraisal) -> (Status, &str) {
    let check = appraisal.report.check(CheckId::CollateralFloor).unwrap();
    (check.status, &check.detail)
}

fn edition_said(appraisal: &Appraisal) -> &str {
    let mut facts = appraisal.report.facts.iter();
    let fact = facts.find(|fact| fact.name == "tcb_evaluation_number");
    &fact.unwrap().value
}

#[test]
fn collateral_never_goes_back() {
    let base = spec();
    let mut floors = Floors::default();
    let first = kept(&floors, &base, List::Had);
    assert_eq!(code(&first), "verified");
    let seen = first.floor_seen.unwrap();
    assert!(floors.raise(&seen), "the first sight raises the floor");
    assert!(!floors.raise(&seen), "the second sight does not");
    // The list was seen once; whether it is had again makes no difference.
    for list in [List::Had, List::Missing] {
        let again = kept(&floors, &base, list);
        assert_eq!(code(&again), "verified");
        assert_eq!(floor_status(&again).0, Status::Pass);
    }

    let issued = |days: u64, seconds: u64| UnixTime(NOW - DAY - days * DAY - seconds).to_string();
    let lower: [Change; 6] = [
        ("an older TCB info", |s| {
            s.tcb_info.tcb_evaluation_data_number -= 1;
        }),
        ("an older QE identity", |s| {
            s.qe_identity.tcb_evaluation_data_number -= 1;
        }),
        ("last month's TCB info", |s| {
            s.tcb_info.set_validity(NOW - 9 * DAY, NOW + 21 * DAY);
        }),
        ("last month's QE identity", |s| {
            s.qe_identity.set_validity(NOW - 9 * DAY, NOW + 21 * DAY);
        }),
        ("PCK CRL", |s| s.crls.pck.this_update -= 7 * DAY + 1),
        ("root CRL", |s| s.crls.root.this_update -= 7 * DAY + 1),
    ];
    for (what, change) in lower {
        let spec = spec_with(change);
        for list in [List::Had, List::Missing] {
            let refused = kept(&floors, &spec, list);
            assert_eq!(code(&refused), "rejected_collateral_rollback", "{what}");
        }
        // Nothing was seen before: what refuses then is Intel's list alone.
        let first = kept(&Floors::default(), &spec, List::Missing);
        assert_eq!(code(&first), "verified", "{what}");
    }
    // Mirrors may lag behind by a week.
    let mut spec = spec();
    spec.crls.pck.this_update -= 7 * DAY;
    spec.crls.root.this_update -= 7 * DAY;
    spec.tcb_info.issue_date = issued(7, 0);
    spec.qe_identity.issue_date = issued(7, 0);
    assert_eq!(code(&kept(&floors, &spec, List::Had)), "verified");
    spec.tcb_info.issue_date = issued(7, 1);
    let refused = kept(&floors, &spec, List::Had);
    assert_eq!(code(&refused), "rejected_collateral_rollback");

    let again = Floors::from_json(floors.to_json().as_bytes()).unwrap();
    assert_eq!(again, floors);
    let fmspc = attest::Fmspc::from_bytes(base.platform.fmspc);
    let intel = FloorKey::new(&TrustAnchors::intel(), fmspc);
    assert_eq!(floors.get(&intel), None);
    assert!(floors.get(&FloorKey::new(&anchors(), fmspc)).is_some());
}

#[test]
fn where_nothing_was_seen_before_no_floor_is_proved() {
    for list in [List::Had, List::Missing] {
        let first = kept(&Floors::default(), &spec(), list);
        assert_eq!(code(&first), "verified");
        let (status, detail) = floor_status(&first);
        assert_eq!(status, Status::NotProved, "{detail}");
        assert!(detail.contains("seen before"), "{detail}");
    }
}

#[test]
fn a_source_that_serves_early_for_standard_locks_nobody_out() {
    for list in [List::Had, List::Missing] {
        let early = kept(&Floors::default(), &of_edition(21), list);
        assert_eq!(code(&early), "verified");
        let mut floors = Floors::default();
        floors.raise(&early.floor_seen.unwrap());
        for later in [List::Had, List::Missing] {
            let standard = kept(&floors, &spec(), later);
            assert_eq!(code(&standard), "verified");
        }
        floors.raise(&kept(&floors, &spec(), list).floor_seen.unwrap());
        assert_eq!(code(&kept(&floors, &of_edition(21), list)), "verified");
        assert_eq!(code(&kept(&floors, &spec(), list)), "verified");
    }
    // Nobody ever said which is standard: then nothing is refused, and nothing proved.
    let unlisted = kept(
        &after(&of_edition(21), List::Missing),
        &spec(),
        List::Missing,
    );
    let (status, detail) = floor_status(&unlisted);
    assert_eq!(status, Status::NotProved, "{detail}");
    assert!(detail.contains("edition 21"), "{detail}");
    let listed = kept(&after(&of_edition(21), List::Missing), &spec(), List::Had);
    assert_eq!(floor_status(&listed).0, Status::Pass);
}

/// Intel serves and signs editions of a year ago every day.
#[test]
fn an_edition_before_the_standard_one_is_refused_at_first_sight() {
    let refused = kept(&Floors::default(), &of_edition(19), List::Had);
    assert_eq!(code(&refused), "rejected_collateral_rollback");
    let floors = after(&of_edition(19), List::Had);
    let later = kept(&floors, &of_edition(19), List::Missing);
    assert_eq!(code(&later), "rejected_collateral_rollback");
    assert_eq!(code(&kept(&floors, &spec(), List::Missing)), "verified");
}

#[test]
fn an_edition_is_standard_after_a_year_and_alone_after_another_month() {
    const YEAR: u64 = 365 * DAY;
    for (disclosed, word, before) in [
        (LISTED - YEAR + 1, "21 (early)", "verified"),
        (LISTED - YEAR, "21 (standard)", "verified"),
        (LISTED - YEAR - 30 * DAY + 1, "21 (standard)", "verified"),
        (
            LISTED - YEAR - 30 * DAY,
            "21 (standard)",
            "rejected_collateral_rollback",
        ),
    ] {
        let listed = |number| {
            let mut spec = of_edition(number);
            spec.evaluation_numbers.set(21, disclosed);
            spec
        };
        let newer = kept(&Floors::default(), &listed(21), List::Had);
        assert_eq!(code(&newer), "verified");
        assert_eq!(edition_said(&newer), word);
        let older = kept(&Floors::default(), &listed(20), List::Had);
        assert_eq!(code(&older), before, "{word}");
    }
    let unlisted = kept(&Floors::default(), &spec(), List::Missing);
    assert_eq!(edition_said(&unlisted), "20 (not known)");
    let mut fresh = spec();
    fresh.evaluation_numbers.tcb_eval_numbers.clear();
    let unlisted = kept(&Floors::default(), &fresh, List::Had);
    assert_eq!(edition_said(&unlisted), "20 (not known)");
}

/// The edition that refuses a platform is the one that must not be forgotten.
#[test]
fn an_edition_that_refuses_counts_as_seen() {
    let changes: [Change; 4] = [
        ("rejected_tcb_platform", |s| {
            *s = of_edition(21);
            s.evaluation_numbers.set(21, LISTED - 395 * DAY);
            s.tcb_info
                .set_platform_status("OutOfDate", &["INTEL-SA-00001"]);
        }),
        ("rejected_tcb_platform", |s| {
            *s = of_edition(21);
            s.evaluation_numbers.set(21, LISTED - 395 * DAY);
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
        let mut floors = after(&older, List::Missing);
        assert_eq!(code(&kept(&floors, &older, List::Missing)), "verified");
        let refused = kept(&floors, &newer, List::Had);
        assert_eq!(code(&refused), expected);
        floors.raise(&refused.floor_seen.unwrap());
        assert_eq!(
            code(&kept(&floors, &older, List::Missing)),
            "rejected_collateral_rollback",
            "{expected}"
        );
    }
}

/// A revocation list is no matter of editions.
#[test]
fn another_edition_brings_no_older_revocation_list() {
    let floors = after(&spec(), List::Had);
    let mut early = of_edition(21);
    assert_eq!(code(&kept(&floors, &early, List::Had)), "verified");
    early.crls.pck.this_update -= 7 * DAY + 1;
    let refused = kept(&floors, &early, List::Had);
    assert_eq!(code(&refused), "rejected_collateral_rollback");
}

#[test]
fn what_nobody_signed_raises_no_floor() {
    let changes: [Change; 3] = [
        ("TCB info", |s| {
            s.tcb_info.tcb_evaluation_data_number = 4000;
            s.signers.tcb_info = Signer::Stranger;
        }),
        ("PCK CRL", |s| {
            s.crls.pck.this_update += 60;
            s.signers.pck_crl = Signer::Stranger;
        }),
        ("another root", |s| s.pki = fake_tee::Pki::other().unwrap()),
    ];
    for (what, change) in changes {
        let refused = kept(&Floors::default(), &spec_with(change), List::Missing);
        assert_eq!(code(&refused), "rejected_collateral_untrusted", "{what}");
        assert_eq!(refused.floor_seen, None, "{what}");
    }
}

fn list_of(change: impl FnOnce(&mut Spec)) -> EditionsParts {
    editions_parts(&spec_with(change).forge(&challenge()).unwrap())
}

fn verified(parts: &EditionsParts) -> &'static str {
    match Editions::verify(parts, &anchors(), UnixTime(NOW)) {
        Ok(_) => "verified",
        Err(rejected) => rejected.code(),
    }
}

#[test]
fn a_list_of_editions_is_what_intel_signed_for_this_time() {
    let untrusted: [Change; 3] = [
        ("another key", |s| {
            s.signers.evaluation_numbers = Signer::Stranger;
        }),
        ("another signer", |s| {
            s.signers.tcb_signer_cert = Signer::Stranger;
        }),
        ("another root", |s| s.pki = fake_tee::Pki::other().unwrap()),
    ];
    for (what, change) in untrusted {
        let got = verified(&list_of(change));
        assert_eq!(got, "rejected_collateral_untrusted", "{what}");
    }
    let unreadable: [Change; 6] = [
        ("for SGX", |s| s.evaluation_numbers.id = "SGX".to_owned()),
        ("a later version", |s| s.evaluation_numbers.version = 2),
        ("no date", |s| {
            s.evaluation_numbers.next_update = "soon".to_owned();
        }),
        ("no day of disclosure", |s| {
            s.evaluation_numbers.tcb_eval_numbers[0].tcb_recovery_event_date = String::new();
        }),
        ("a key twice", |s| {
            let hook = &mut s.hooks.evaluation_numbers_json;
            hook.push(|json| json.insert_str(1, "\"version\":1,"));
        }),
        ("another document", |s| {
            let tcb_info = serde_json::to_string(&s.tcb_info).unwrap();
            let hook = &mut s.hooks.evaluation_numbers_json;
            hook.push(move |json| tcb_info.clone_into(json));
        }),
    ];
    for (what, change) in unreadable {
        let got = verified(&list_of(change));
        assert_eq!(got, "rejected_collateral_format", "{what}");
    }
    for (issue, next, expected) in [
        (NOW + 300, NOW + 600, "verified"),
        (NOW + 301, NOW + 600, "rejected_collateral_not_yet_valid"),
        (NOW - DAY, NOW + 1, "verified"),
        (NOW - DAY, NOW, "rejected_collateral_expired"),
    ] {
        let parts = list_of(|s| s.evaluation_numbers.set_validity(issue, next));
        assert_eq!(verified(&parts), expected, "{issue} to {next}");
    }
    let parts = list_of(|_| {});
    assert_eq!(verified(&parts), "verified");
    let kept = EditionsParts::from_json(parts.to_json().as_bytes()).unwrap();
    assert_eq!(kept, parts);
    for broken in [
        EditionsParts {
            list: parts.list.replace("TDX", "SGX"),
            ..parts.clone()
        },
        EditionsParts {
            signature: Vec::new(),
            ..parts.clone()
        },
    ] {
        assert_eq!(verified(&broken), "rejected_collateral_untrusted");
    }
    let unsigned = EditionsParts {
        issuer_chain: String::new(),
        ..parts.clone()
    };
    assert_eq!(verified(&unsigned), "rejected_collateral_untrusted");
    let long = EditionsParts {
        list: " ".repeat((64 << 10) + 1),
        ..parts
    };
    assert_eq!(verified(&long), "rejected_collateral_format");
    let error = EditionsParts::from_json(b"{}").unwrap_err();
    assert!(error.to_string().contains("missing field"), "{error}");
}

/// It is held against time and root once more where it is used.
#[test]
fn a_list_that_does_not_hold_is_not_had() {
    let mut ends = of_edition(19);
    ends.evaluation_numbers.set_validity(NOW - 60, NOW);
    ends.crls.root.revoked.push(vec![9]);
    let built = ends.forge(&challenge()).unwrap();
    let parts = editions_parts(&built);
    let list = Editions::verify(&parts, &anchors(), UnixTime(NOW - 1)).unwrap();
    let other = list_of(|s| s.pki = fake_tee::Pki::other().unwrap());
    let root = fake_tee::Pki::other().unwrap().root_der().to_vec();
    let root = TrustAnchors::danger_tdx_root(root);
    let other = Editions::verify(&other, &root, UnixTime(NOW));
    let revoked = list_of(|s| s.certs.tcb_signer.serial = vec![9]);
    let revoked = Editions::verify(&revoked, &anchors(), UnixTime(NOW));
    for list in [list, other.unwrap(), revoked.unwrap()] {
        let floor = FloorCheck::Kept {
            floors: &Floors::default(),
            editions: Some(&list),
        };
        let judged = judge_with(&built, policy(), floor);
        assert_eq!(code(&judged), "verified");
        assert_eq!(edition_said(&judged), "19 (not known)");
    }
}
