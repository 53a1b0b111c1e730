//! Changes that are never accepted.

use super::*;

#[test]
fn what_no_table_explains_is_refused() {
    let policy = policy_text("");
    let image = spec_with(|spec| spec.td.mr_td = [7; 48]);
    let nothing = Known::danger_with(Vec::new());
    let why = accept_with(&image, &policy, &terms(), &nothing).unwrap_err();
    assert!(why.why.contains("in no table of this program"), "{why}");
    assert!(
        why.instead.contains("verified-proxy image measure"),
        "{why}"
    );
    // One register of a known image is not the image.
    let changes: [fn(&mut AcceptableImage); 4] = [
        |own| own.mrtd[0] ^= 1,
        |own| own.rtmr1[0] ^= 1,
        |own| own.rtmr2[0] ^= 1,
        |own| own.os_image_hash[0] ^= 1,
    ];
    for change in changes {
        let mut other = image_of(&image);
        change(&mut other);
        let known = Known::danger_with(vec![other]);
        let why = accept_with(&image, &policy, &terms(), &known).unwrap_err();
        assert!(why.why.contains("in no table of this program"), "{why}");
    }
    let tables = spec_with(|spec| spec.boot.acpi_tables = Some([8; 48]));
    let why = refused(&tables, &policy);
    assert!(why.why.contains("vm_config"), "{why}");
    let why = accept_with(&image, &policy, &terms(), &Known::of_this_program()).unwrap_err();
    assert!(why.why.contains("in no table of this program"), "{why}");
}

/// QEMU's version contradicts the form of a register: no row of tables mends that.
#[test]
fn a_contradiction_of_forms_is_never_accepted() {
    let spec = spec_with(|s| s.td.mr_td = [8; 48]);
    let policy = policy_text("").replacen(
        "rtmr1 = ",
        &format!("mrtd_two_pass = \"{}\", rtmr1 = ", "08".repeat(48)),
        1,
    );
    assert_eq!(verdict(&spec, &policy, NOW), "rejected_qemu_version");
    let why = refused(&spec, &policy).to_string();
    assert!(why.contains("an attack has the same bytes"), "{why}");
}

/// A list that ends in "1 more" could name anything there.
#[test]
fn a_finding_that_leaves_names_out_is_never_accepted() {
    let with = |count: usize| {
        spec_with(|s| {
            s.hooks.events.push(move |events| {
                let at = events.iter().position(|event| event.event == "instance-id");
                for number in 0..count {
                    let name = format!("event-{number}");
                    let event = Event::runtime(&name, b"", DigestForm::V1);
                    events.insert(at.unwrap(), event);
                }
            });
        })
    };
    let policy = pinned("findings.refuse = [\"boot_event_unknown\"]");
    for (count, is_accepted) in [(1, true), (12, true), (13, false), (40, false)] {
        let spec = with(count);
        assert_eq!(verdict(&spec, &policy, NOW), "rejected_finding");
        let outcome = accept_with(&spec, &policy, &terms(), &known(&spec));
        assert_eq!(outcome.is_ok(), is_accepted, "{count}");
    }
}

/// A verdict that fails in two rules has no line, whichever they are.
#[test]
fn one_rule_at_a_time() {
    let changes: [fn(&mut Spec); 7] = [
        |s| s.td.mr_td = [7; 48],
        |s| s.boot.acpi_tables = Some([7; 48]),
        |s| {
            s.tcb_info
                .set_platform_status("OutOfDate", &["INTEL-SA-01036"])
        },
        |s| s.qe_identity.set_status("OutOfDate", &["INTEL-SA-01036"]),
        |s| s.boot.cfv = [7; 48],
        |s| manager(s).nonce_source = "server".to_owned(),
        |s| s.gpus = None,
    ];
    for (index, first) in changes.iter().enumerate() {
        for second in changes.iter().skip(index + 1) {
            let spec = spec_with(|spec| {
                first(spec);
                second(spec);
            });
            let why = refused(&spec, &policy_text(""));
            let said = why.to_string();
            assert!(
                said.contains("more than one rule")
                    || said.contains("never accepted")
                    || said.contains("does not give these ACPI tables"),
                "{said}"
            );
        }
    }
    let pins = format!(
        "pins.mrseam = [\"{}\"]\npins.ppids = [\"{}\"]\n",
        "00".repeat(48),
        "00".repeat(16)
    );
    let why = refused(&spec_with(|_| ()), &policy_text(&pins));
    assert!(why.why.contains("more than one rule"), "{why}");
}

#[test]
fn what_contradicts_something_is_never_accepted() {
    let changes: [Change; 8] = [
        ("rejected_td_debug", |s| s.td.td_attributes[0] = 1),
        ("rejected_td_attributes", |s| s.td.td_attributes[3] |= 0x40),
        ("rejected_xfam", |s| s.td.xfam[2] ^= 1),
        ("rejected_firmware", |s| s.boot.cfv = [7; 48]),
        ("rejected_report_data", |s| {
            let mut data = [7; 64];
            data[32..].copy_from_slice(&crate::support::NONCE);
            s.overrides.report_data = Some(data);
        }),
        ("rejected_rtmr_replay", |s| {
            s.overrides.rt_mr[3] = Some([7; 48])
        }),
        ("rejected_gpu_missing", |s| s.gpus = None),
        ("deployment_missing", |s| {
            s.compose_manager = None::<ComposeManager>
        }),
    ];
    for (code, change) in changes {
        let spec = spec_with(change);
        let why = refused(&spec, &policy_text(""));
        assert_eq!(why.code, Some(code), "{why}");
        assert!(
            why.why.starts_with(&format!("{code} is never accepted: ")),
            "{why}"
        );
        assert!(!why.instead.is_empty());
    }
    let revoked = spec_with(|s| {
        s.tcb_info
            .set_platform_status("Revoked", &["INTEL-SA-01036"])
    });
    let why = refused(&revoked, &policy_text(""));
    assert!(why.why.contains("Revoked"), "{why}");
    let why = refused(&spec_with(|_| ()), &policy_text(""));
    assert!(why.why.contains("nothing to accept"), "{why}");
    for (until, reason) in [("2026-11-21", "x"), ("2028-01-01", "x"), ("2026-12-01", "")] {
        let spec = spec_with(|spec| spec.td.mr_td = [7; 48]);
        let terms = Terms {
            until: Some(until.parse_day()),
            reason: reason.to_owned(),
            ..terms()
        };
        let why = accept_with(&spec, &policy_text(""), &terms, &known(&spec)).unwrap_err();
        assert_eq!(why.code, None, "{why}");
    }
}

/// Of every code there is an answer, and only these have a row.
#[test]
fn of_every_refusal_it_is_said_whether_it_can_be_accepted() {
    let mut rows = Vec::new();
    for explanation in Explanation::all() {
        match explanation.acceptance() {
            Acceptance::Row => rows.push(explanation.code),
            Acceptance::Typed(option) => {
                assert!(matches!(
                    (explanation.code, option),
                    ("rejected_kms_root", "--expect-root") | ("rejected_app_id", "--expect-app-id")
                ));
            }
            Acceptance::Never { why, instead } => {
                assert!(why.len() > 30 && instead.len() > 20, "{}", explanation.code);
            }
        }
    }
    rows.sort_unstable();
    assert_eq!(
        rows,
        [
            "rejected_acpi",
            "rejected_compose_digest",
            "rejected_deployment_commit",
            "rejected_finding",
            "rejected_gpu_device",
            "rejected_gpu_no_table",
            "rejected_os_image",
            "rejected_pin",
            "rejected_tcb_module",
            "rejected_tcb_platform",
            "rejected_tcb_qe",
        ]
    );
}
