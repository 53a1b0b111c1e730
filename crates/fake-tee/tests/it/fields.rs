//! What a report says about itself is what was measured and bound.

use std::sync::{Arc, Mutex};

use fake_tee::event_log::{DigestForm, replay};
use fake_tee::hash::{sha256, sha384};
use fake_tee::{Signing, Spec};
use serde_json::Value;

use crate::dcap::{challenge, spec};

/// The report data of a v4 quote in a report.
fn quoted_report_data(report: &Value) -> String {
    let quote = report["intel_quote"].as_str().unwrap();
    quote[2 * (48 + 520)..2 * (48 + 584)].to_owned()
}

#[test]
fn report_data_binds_address_fingerprint_and_nonce() {
    for signing in [Signing::ed25519(), Signing::ecdsa()] {
        let mut spec = spec();
        let length = signing.address.len();
        spec.signing = signing;
        let built = spec.forge(&challenge()).unwrap();
        let address = hex::decode(
            built.report["signing_address"]
                .as_str()
                .unwrap()
                .trim_start_matches("0x"),
        )
        .unwrap();
        assert_eq!(address.len(), length);
        let bound = sha256(&[&address[..], &[0xc3; 32]].concat());
        assert_eq!(
            quoted_report_data(&built.report),
            hex::encode(bound) + &"5a".repeat(32)
        );
    }
}

#[test]
fn without_a_fingerprint_the_address_is_padded() {
    let mut spec = spec();
    spec.signing = Signing::ecdsa();
    spec.include_tls_fingerprint = false;
    let built = spec.forge(&challenge()).unwrap();
    assert!(built.report.get("tls_cert_fingerprint").is_none());
    let expected = hex::encode(&spec.signing.address) + &"00".repeat(12) + &"5a".repeat(32);
    assert_eq!(quoted_report_data(&built.report), expected);
}

#[test]
fn thirty_events_replay_to_the_reported_registers() {
    for form in [DigestForm::V1, DigestForm::V2] {
        let mut spec = spec();
        spec.digest_form = form;
        let built = spec.forge(&challenge()).unwrap();
        assert_eq!(built.events.len(), 30);
        let counts = [0, 1, 2, 3].map(|imr| built.events.iter().filter(|e| e.imr == imr).count());
        assert_eq!(counts, [13, 5, 2, 10]);
        for (i, register) in replay(&built.events).iter().enumerate() {
            assert_eq!(
                built.report["info"]["tcb_info"][format!("rtmr{i}")],
                hex::encode(register)
            );
        }
    }
}

#[test]
fn version_2_digests_are_of_canonical_json() {
    let digest = |form| fake_tee::event_log::Event::runtime("app-id", &[0xab, 0xcd], form).digest;
    assert_eq!(
        digest(DigestForm::V2),
        sha384(br#"{"name":"app-id","payload":"abcd","type":134217729}"#)
    );
}

#[test]
fn hooks_before_and_after_the_registers_differ() {
    let swap = |spec: &mut Spec, after: bool| {
        let hook = if after {
            &mut spec.hooks.events_after
        } else {
            &mut spec.hooks.events
        };
        hook.push(|events| {
            let event = events.iter_mut().find(|e| e.event == "storage-fs").unwrap();
            event.event_payload = b"ext4".to_vec();
            event.rehash(DigestForm::V1);
        });
    };
    for (after, matches) in [(false, true), (true, false)] {
        let mut spec = spec();
        swap(&mut spec, after);
        let built = spec.forge(&challenge()).unwrap();
        let replayed = hex::encode(replay(&built.events)[3]);
        assert_eq!(
            built.report["info"]["tcb_info"]["rtmr3"] == replayed,
            matches
        );
    }
}

#[test]
fn the_certificate_speaks_of_the_state_at_system_ready() {
    for (at_ready, alike) in [(true, false), (false, true)] {
        let mut spec = spec();
        spec.app.certified_at_ready = at_ready;
        spec.app.app_events.push(("started".to_owned(), vec![1]));
        let embedded = Arc::new(Mutex::new(Vec::new()));
        let seen = embedded.clone();
        spec.hooks
            .app_leaf
            .push(move |leaf| *seen.lock().unwrap() = leaf.quote.clone().unwrap());
        let built = spec.forge(&challenge()).unwrap();
        assert_eq!(built.events.len(), 31);
        // RTMR3 is the last register before the report data.
        let rtmr3 = 48 + 472..48 + 520;
        let embedded = embedded.lock().unwrap();
        assert_eq!(embedded[rtmr3.clone()] == built.quote[rtmr3], alike);
    }
}

#[test]
fn the_policy_names_this_machine() {
    let spec = spec();
    let policy = spec.policy_toml();
    assert!(policy.contains(&hex::encode(spec.td.mr_td)));
    assert!(policy.contains(&spec.kms.root_spki_hex()));
    assert!(policy.contains(&hex::encode(&spec.app.app_id)));
}

#[test]
fn two_hundred_reports_take_seconds() {
    let start = std::time::Instant::now();
    for i in 0..200u64 {
        let mut spec = spec();
        spec.vm_config.memory_size = (1 << 33) + (i << 30);
        spec.forge(&challenge()).unwrap();
    }
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
}
