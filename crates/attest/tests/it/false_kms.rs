//! What a host can do that runs a key management service of its own.
//!
//! Images below 0.5.13 accept, as their KMS, whoever shows a certificate under the
//! KMS's root that was issued for something else, or replays one. Such a KMS knows
//! every key that it hands to the guest. It cannot sign under the genuine root; it can
//! pass on certificates that the genuine KMS signed before.

use attest::{CheckId, Policy, Status};
use fake_tee::{Kms, Spec};

use crate::support::{DAY, NOW, challenge, code, judge, judge_with_tags, policy_text, spec};
use crate::tampering::set;

/// A guest, and the certificate that the genuine KMS signed for another boot.
fn with_certificate_of(guest: &mut Spec, genuine: &Spec) {
    let built = genuine.forge(&challenge()).unwrap();
    let certificate = built.report["info"]["app_cert"].clone();
    set(guest, "/info/app_cert", certificate);
}

/// The guest got its keys from a KMS whose root it noted.
fn of_false_root() -> Spec {
    let mut guest = spec();
    guest.kms = Kms::other().unwrap();
    guest
}

#[test]
fn a_certificate_under_the_hosts_own_root_is_refused() {
    assert_eq!(code(&judge(&of_false_root())), "rejected_kms_root");
}

#[test]
fn the_genuine_roots_name_in_rtmr3_does_not_help() {
    let mut guest = of_false_root();
    guest.app.key_provider = Some(spec().key_provider());
    assert_eq!(code(&judge(&guest)), "rejected_kms_root");
}

#[test]
fn a_genuine_certificate_is_not_for_a_guest_that_noted_another_root() {
    let mut guest = of_false_root();
    with_certificate_of(&mut guest, &spec());
    assert_eq!(code(&judge(&guest)), "rejected_app_cert_quote");
}

/// The guest notes the KMS's measurement if the KMS shows a quote; images of dstack
/// 0.5 do.
#[test]
fn a_genuine_certificate_is_not_for_a_guest_that_met_another_kms() {
    for met in [vec![], vec![vec![9; 32]]] {
        let mut guest = spec();
        guest.app.mr_kms = met;
        with_certificate_of(&mut guest, &spec());
        assert_eq!(code(&judge(&guest)), "rejected_app_cert_quote");
    }
}

#[test]
fn a_genuine_certificate_of_another_state_is_refused() {
    type State = (&'static str, fn(&mut Spec));
    let states: [State; 6] = [
        ("another instance", |s| s.app.instance_id = vec![9; 20]),
        ("another description", |s| s.app.compose.push(' ')),
        ("another image", |s| s.boot.kernel = [9; 48]),
        ("another shape", |s| s.boot.acpi_tables = Some([9; 48])),
        ("other memory", |s| s.vm_config.memory_size = 2 << 40),
        ("an application's event before the certificate", |s| {
            s.app.app_events = vec![("x".to_owned(), vec![1])];
            s.app.certified_at_ready = false;
        }),
    ];
    for (what, change) in states {
        let mut genuine = spec();
        change(&mut genuine);
        let mut guest = spec();
        with_certificate_of(&mut guest, &genuine);
        assert_eq!(code(&judge(&guest)), "rejected_app_cert_quote", "{what}");
    }
}

#[test]
fn a_genuine_certificate_past_its_end_is_refused() {
    let mut genuine = spec();
    genuine.app.boot_time = NOW - 3651 * DAY;
    let mut guest = spec();
    with_certificate_of(&mut guest, &genuine);
    assert_eq!(code(&judge(&guest)), "rejected_app_cert");
}

/// The open limit: the same instance in the same measured state booted before, under
/// the genuine KMS. Its certificate says nothing false, but whose keys the guest has
/// now, nobody asked: the leaf's private key signs nothing that a verifier sees.
#[test]
fn a_genuine_certificate_of_the_same_state_is_accepted_with_whatever_keys() {
    let mut before = spec();
    before.app.boot_time = NOW - 90 * DAY;
    let mut guest = spec();
    with_certificate_of(&mut guest, &before);
    guest.signing = fake_tee::Signing::ecdsa();
    let appraisal = judge(&guest);
    assert_eq!(code(&appraisal), "verified");
    // All that shows it is a boot longer ago than the machine's own.
    let booted = appraisal
        .report
        .facts
        .iter()
        .find(|fact| fact.name == "booted");
    assert!(
        booted.unwrap().value.starts_with("2026-08-24"),
        "{booted:?}"
    );
    let kms = appraisal.report.check(CheckId::Kms).unwrap();
    assert_eq!(kms.status, Status::Pass);
}

/// Keys of the key service that follow one another. A verdict ends with the key that it
/// rests on, and one whose time is over is none.
#[test]
fn a_verdict_ends_with_the_kms_key_that_it_rests_on() {
    let text = policy_text("");
    let root = spec().kms.root_spki_hex();
    let single = format!("kms_root = \"{root}\"");
    assert!(text.contains(&single));
    for (epochs, expected) in [
        ("until = \"2026-11-21\"", Err("rejected_kms_root")),
        ("until = \"2026-11-22\"", Ok("2026-11-23T00:00:00Z")),
        (
            "from = \"2026-11-22\", until = \"2026-11-22\"",
            Ok("2026-11-23T00:00:00Z"),
        ),
        ("from = \"2026-11-23\"", Err("rejected_kms_root")),
    ] {
        let roots = format!("kms_roots = [{{ key = \"{root}\", {epochs} }}]");
        let policy = Policy::from_toml(&text.replace(&single, &roots)).unwrap();
        let appraisal = judge_with_tags(&spec(), &policy);
        match expected {
            Err(refusal) => assert_eq!(code(&appraisal), refusal, "{epochs}"),
            Ok(end) => {
                let facts = appraisal.report.facts.iter();
                let mut until = facts.filter(|fact| fact.name == "valid_until");
                assert_eq!(until.next().unwrap().value, end, "{epochs}");
            }
        }
    }
}
