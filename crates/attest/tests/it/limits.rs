//! The edges: the last value that is taken, and the first that is not.

use attest::{Evidence, UnixTime};
use fake_tee::Spec;
use serde_json::json;

use crate::support::{
    NOW, QUOTES, QUOTES_FOR_THE_MOST, challenge, code, cost, cost_of_a_quote, cpu_time, judge,
    spec, spec_with,
};
use crate::tampering::set;

/// What is refused is said; what is not gets past the limit and fails later or not at all.
fn verdict(change: impl FnOnce(&mut Spec)) -> &'static str {
    code(&judge(&spec_with(change)))
}

fn pad_report(len: usize) -> impl FnOnce(&mut Spec) {
    move |spec| {
        spec.hooks
            .report_bytes
            .push(move |bytes| bytes.resize(len, b' '))
    }
}

#[test]
fn a_report_of_2_mib_is_read_and_one_byte_more_is_not() {
    assert_eq!(verdict(pad_report(2 << 20)), "verified");
    assert_eq!(verdict(pad_report((2 << 20) + 1)), "evidence_too_large");
}

#[test]
fn a_certificate_is_valid_from_its_first_to_its_last_second() {
    for (from, until, expected) in [
        (NOW, NOW, "verified"),
        // A clock may be five minutes slow.
        (NOW + 300, NOW + 900, "verified"),
        (NOW + 301, NOW + 900, "rejected_app_cert"),
        (NOW - 9, NOW - 1, "rejected_app_cert"),
    ] {
        let got = verdict(|s| {
            s.hooks
                .app_leaf
                .push(move |leaf| (leaf.not_before, leaf.not_after) = (from, until));
        });
        assert_eq!(got, expected, "{from} to {until}");
    }
}

/// A clock that is five minutes slow refuses nobody.
#[test]
fn what_intel_issued_may_begin_five_minutes_from_now() {
    type Change = fn(&mut Spec, u64);
    let not_yet = "rejected_collateral_not_yet_valid";
    let begins: [(&str, &str, Change); 7] = [
        ("TCB info", not_yet, |s, at| {
            s.tcb_info.set_validity(at, NOW + 900);
        }),
        ("QE identity", not_yet, |s, at| {
            s.qe_identity.set_validity(at, NOW + 900);
        }),
        ("PCK CRL", not_yet, |s, at| s.crls.pck.this_update = at),
        ("root CRL", not_yet, |s, at| s.crls.root.this_update = at),
        ("TCB signer", not_yet, |s, at| {
            s.certs.tcb_signer.not_before = at;
        }),
        ("platform CA", "rejected_platform_certificate", |s, at| {
            s.certs.platform_ca.not_before = at;
        }),
        ("PCK", "rejected_platform_certificate", |s, at| {
            s.certs.pck.not_before = at;
        }),
    ];
    for (what, code, begin) in begins {
        assert_eq!(verdict(|s| begin(s, NOW + 300)), "verified", "{what}");
        assert_eq!(verdict(|s| begin(s, NOW + 301)), code, "{what}");
        // An end is no later for it.
        let ended = verdict(|s| {
            begin(s, NOW + 300);
            s.qe_identity.next_update = UnixTime(NOW + 299).to_string();
        });
        let expired = ["rejected_collateral_expired", "verified"];
        assert!(expired.contains(&ended), "{what}: {ended}");
    }
}

#[test]
fn collateral_is_valid_from_the_second_of_its_issue() {
    assert_eq!(
        verdict(|s| s.tcb_info.set_validity(NOW, NOW + 9)),
        "verified"
    );
    assert_eq!(
        verdict(|s| s.tcb_info.set_validity(NOW - 9, NOW + 1)),
        "verified"
    );
    assert_eq!(
        verdict(|s| s.tcb_info.set_validity(NOW - 9, NOW)),
        "rejected_collateral_expired"
    );
}

#[test]
fn a_chain_of_256_kib_is_read_and_one_byte_more_is_not() {
    // Past the limit the length is named, below it the contents are.
    for (len, word) in [
        (256 << 10, "PEM chain"),
        ((256 << 10) + 1, "262145 bytes of PEM"),
    ] {
        let mut spec = spec();
        set(&mut spec, "/info/app_cert", json!("-".repeat(len)));
        let rejected = judge(&spec).outcome.unwrap_err();
        assert_eq!(rejected.code(), "rejected_app_cert");
        assert!(rejected.to_string().contains(word), "{rejected}");
    }
}

#[test]
fn the_smallest_memory_is_what_the_firmware_has_accepted() {
    const MIN: u64 = 0x82_0000;
    let with = |size: u64| {
        verdict(move |s| {
            s.vm_config.memory_size = 1 << 40;
            s.hooks.report.push(move |report| {
                report["info"]["vm_config"] = json!({ "memory_size": size }).to_string().into();
            });
        })
    };
    // Not this machine's size, so refused either way; what is expected differs.
    assert_eq!(with(MIN), "rejected_td_hob");
    assert_eq!(with(MIN - 1), "rejected_td_hob");
    let said = |size: u64| {
        let mut spec = spec();
        set(
            &mut spec,
            "/info/vm_config",
            json!(format!("{{\"memory_size\":{size}}}")),
        );
        judge(&spec).outcome.unwrap_err().to_string()
    };
    assert!(
        said(MIN - 1).contains("gives no machine"),
        "{}",
        said(MIN - 1)
    );
    assert!(!said(MIN).contains("gives no machine"), "{}", said(MIN));
    // And the map of such a size can be that of a machine, of which no tables are computed.
    assert_eq!(
        verdict(|s| s.vm_config.memory_size = MIN + 4096),
        "rejected_acpi"
    );
    assert_eq!(verdict(|s| s.vm_config.memory_size = 16 << 20), "verified");
}

#[test]
fn a_quote_of_64_kib_is_read_and_one_byte_more_is_not() {
    let padded = |len: usize| {
        move |spec: &mut Spec| {
            spec.hooks
                .quote_bytes
                .push(move |bytes| bytes.resize(len, 0))
        }
    };
    assert_eq!(verdict(padded(64 << 10)), "verified");
    assert_eq!(verdict(padded((64 << 10) + 1)), "rejected_quote_format");
}

/// A log of this many events; its copies are left out, or the report would be too large.
fn events(count: usize) -> impl FnOnce(&mut Spec) {
    move |spec| {
        spec.app.app_events = vec![("x".to_owned(), Vec::new()); count - 30];
        crate::tampering::remove(spec, "/info/tcb_info/event_log");
        crate::tampering::remove(spec, "/all_attestations");
    }
}

#[test]
fn a_log_of_4096_events_is_read_and_one_more_is_not() {
    assert_eq!(verdict(events(4096)), "verified");
    assert_eq!(verdict(events(4097)), "evidence_too_complex");
}

fn application_event(name: usize, payload: usize) -> impl FnOnce(&mut Spec) {
    move |spec| spec.app.app_events = vec![("n".repeat(name), vec![7; payload])]
}

#[test]
fn names_of_512_bytes_and_payloads_of_64_kib_are_read() {
    assert_eq!(verdict(application_event(512, 64 << 10)), "verified");
    assert_eq!(verdict(application_event(513, 0)), "evidence_bad_field");
    assert_eq!(
        verdict(application_event(1, (64 << 10) + 1)),
        "evidence_bad_field"
    );
    assert_eq!(
        verdict(|s| s.model_name = "m".repeat(512)),
        "rejected_model"
    );
    assert_eq!(
        verdict(|s| s.model_name = "m".repeat(513)),
        "evidence_bad_field"
    );
}

#[test]
fn an_instance_id_of_64_bytes_is_read_and_one_more_is_not() {
    assert_eq!(verdict(|s| s.app.instance_id = vec![7; 64]), "verified");
    assert_eq!(
        verdict(|s| s.app.instance_id = vec![7; 65]),
        "rejected_boot_events"
    );
}

#[test]
fn collateral_of_1_mib_is_read_and_one_byte_more_is_not() {
    let parts = |len: usize| attest::CollateralParts {
        pck_crl_issuer_chain: String::new(),
        root_ca_crl: Vec::new(),
        pck_crl: vec![0; len],
        tcb_info_issuer_chain: String::new(),
        tcb_info: String::new(),
        tcb_info_signature: Vec::new(),
        qe_identity_issuer_chain: String::new(),
        qe_identity: String::new(),
        qe_identity_signature: Vec::new(),
    };
    let max = attest::MAX_COLLATERAL_BYTES;
    assert!(attest::Collateral::from_parts(parts(max)).is_ok());
    let refused = attest::Collateral::from_parts(parts(max + 1)).unwrap_err();
    assert_eq!(refused.code(), "rejected_collateral_format");
    assert!(refused.to_string().contains("1048577 bytes"), "{refused}");
    let json = |len: usize| {
        let mut json = spec()
            .forge(&challenge())
            .unwrap()
            .collateral_json
            .into_bytes();
        json.resize(len, b' ');
        attest::Collateral::from_json(&json)
    };
    assert!(json(2 * max).is_ok());
    let refused = json(2 * max + 1).unwrap_err();
    assert!(refused.to_string().contains("2097153 bytes"), "{refused}");
}

#[test]
fn a_chain_of_8_certificates_is_read_and_one_more_is_not() {
    for (count, word) in [
        (8, "8 certificates, expected leaf"),
        (9, "9 certificates, at most 8 are read"),
    ] {
        let mut spec = spec();
        spec.hooks
            .app_chain
            .push(move |chain| chain.resize(count, chain[2].clone()));
        let rejected = judge(&spec).outcome.unwrap_err();
        assert!(rejected.to_string().contains(word), "{rejected}");
    }
}

/// Objects of this many members each, nearly as many as a report has room for.
fn of_members(key: &str, members: usize) -> String {
    let members: Vec<_> = (0..members)
        .map(|number| format!("\"{key}{number:05}\":1"))
        .collect();
    let object = format!("{{{}}}", members.join(","));
    let objects = vec![object; 90_000 / (members.len() + 1)];
    format!("{{\"x\":[{}]}}", objects.join(","))
}

#[test]
fn an_object_of_256_members_is_read_and_one_more_is_not() {
    for (members, expected) in [
        (256, "evidence_missing_field"),
        (257, "evidence_too_complex"),
        (89_999, "evidence_too_complex"),
    ] {
        let read = Evidence::parse(of_members("a", members).as_bytes());
        assert_eq!(read.unwrap_err().code(), expected, "{members}");
    }
}

/// Nobody has vouched for a report when it is read. What a list of as many values costs,
/// any JSON costs; keys, which are compared with each other, cost little more.
#[test]
fn keys_cost_little_more_to_read_than_values() {
    let time = |text: &str, expected: &str| {
        let before = cpu_time();
        for _ in 0..5 {
            let read = Evidence::parse(text.as_bytes());
            assert_eq!(read.unwrap_err().code(), expected);
        }
        cpu_time() - before
    };
    let values = vec!["1.25"; 90_000].join(",");
    let values = time(&format!("{{\"x\":[{values}]}}"), "evidence_missing_field");
    for key in ["a", "a\\u0061", "\\u0061\\u0062"] {
        for (members, expected) in [
            (89_999, "evidence_too_complex"),
            (256, "evidence_missing_field"),
            (30, "evidence_missing_field"),
        ] {
            let took = time(&of_members(key, members), expected);
            // The bound is generous, since a busy machine stretches the longer one more.
            assert!(took < values * 16, "{key} {members}: {took:?}, {values:?}");
        }
    }
}

/// One object of as many members as a report has room for, with escapes: refused at the
/// first member too many. In objects that are read, keys cost what any JSON costs.
#[test]
fn the_cost_of_hostile_keys_is_bounded() {
    let quote = cost_of_a_quote();
    for key in ["a", "\\u0061\\u0062"] {
        for (members, quotes, code) in [
            (89_999, QUOTES, "evidence_too_complex"),
            (256, QUOTES_FOR_THE_MOST, "evidence_missing_field"),
            (30, QUOTES_FOR_THE_MOST, "evidence_missing_field"),
        ] {
            let text = of_members(key, members);
            assert!(text.len() < attest::MAX_REPORT_BYTES);
            let took = cost(|| {
                let refused = Evidence::parse(text.as_bytes()).unwrap_err();
                assert_eq!(refused.code(), code);
            });
            let costs = format!("{members} keys {key} an object: {took:?}, quote {quote:?}");
            println!("{costs}");
            assert!(took < quote * quotes, "{costs}");
        }
    }
}
