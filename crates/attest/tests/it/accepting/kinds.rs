//! Each kind of honest change, and how long and how visibly it is accepted.

use super::*;

struct Kind {
    code: &'static str,
    /// Lines that the policy has besides.
    policy: String,
    change: fn(&mut Spec),
    /// The same with a byte changed.
    neighbours: &'static [fn(&mut Spec)],
}

fn kinds() -> Vec<Kind> {
    let kind = |code, policy: String, change, neighbours| Kind {
        code,
        policy,
        change,
        neighbours,
    };
    let zeros = |count: usize| "00".repeat(count);
    vec![
        kind(
            "rejected_os_image",
            policy_text(""),
            |s| s.td.mr_td = [7; 48],
            &[
                |s| s.td.mr_td[47] ^= 1,
                |s| s.boot.kernel[0] ^= 1,
                |s| s.boot.command_line[0] ^= 1,
                |s| s.app.os_image_hash[31] ^= 1,
            ],
        ),
        kind(
            "rejected_acpi",
            rows_only(),
            |s| s.vm_config.cpu_count = 128,
            &[
                |s| s.vm_config.cpu_count = 129,
                |s| s.boot.acpi_tables = flipped(s.boot.acpi(&s.vm_config).tables),
                |s| s.boot.acpi_loader = flipped(s.boot.acpi(&s.vm_config).loader),
                |s| s.boot.acpi_rsdp = flipped(s.boot.acpi(&s.vm_config).rsdp),
            ],
        ),
        kind(
            "rejected_tcb_platform",
            policy_text(""),
            |s| {
                s.tcb_info
                    .set_platform_status("OutOfDate", &["INTEL-SA-01036", "INTEL-SA-01079"]);
            },
            &[
                |s| {
                    s.tcb_info.set_platform_status(
                        "OutOfDate",
                        &["INTEL-SA-01036", "INTEL-SA-01079", "INTEL-SA-00001"],
                    );
                },
                |s| {
                    s.tcb_info.set_platform_status(
                        "OutOfDateConfigurationNeeded",
                        &["INTEL-SA-01036", "INTEL-SA-01079"],
                    );
                },
                |s| s.tcb_info.set_platform_status("OutOfDate", &[]),
                |s| {
                    s.tcb_info
                        .set_platform_status("Revoked", &["INTEL-SA-01036", "INTEL-SA-01079"]);
                },
                |s| s.qe_identity.set_status("OutOfDate", &["INTEL-SA-01036"]),
            ],
        ),
        kind(
            "rejected_tcb_module",
            policy_text(""),
            |s| {
                s.tcb_info
                    .set_module_status("OutOfDate", &["INTEL-SA-01036"])
            },
            &[|s| {
                s.tcb_info
                    .set_module_status("OutOfDate", &["INTEL-SA-01037"])
            }],
        ),
        kind(
            "rejected_tcb_qe",
            policy_text(""),
            |s| s.qe_identity.set_status("OutOfDate", &["INTEL-SA-01036"]),
            &[|s| s.qe_identity.set_status("OutOfDate", &["INTEL-SA-01037"])],
        ),
        kind(
            "rejected_pin",
            pinned(&format!("pins.mrseam = [\"{}\"]", zeros(48))),
            |_| (),
            &[],
        ),
        kind(
            "rejected_pin",
            pinned(&format!("pins.rtmr0 = [\"{}\"]", zeros(48))),
            |_| (),
            &[],
        ),
        kind(
            "rejected_pin",
            pinned(&format!("pins.compose_hashes = [\"{}\"]", zeros(32))),
            |_| (),
            &[|s| s.app.compose.push(' ')],
        ),
        kind(
            "rejected_pin",
            pinned("pins.instance_ids = [\"00\"]"),
            |_| (),
            &[|s| s.app.instance_id[0] ^= 1],
        ),
        kind(
            "rejected_pin",
            pinned(&format!("pins.ppids = [\"{}\"]", zeros(16))),
            |_| (),
            &[],
        ),
        kind(
            "rejected_pin",
            pinned(&format!("pins.piids = [\"{}\"]", zeros(16))),
            |_| (),
            &[],
        ),
        kind(
            "rejected_pin",
            pinned(&format!("pins.fmspcs = [\"{}\"]", zeros(6))),
            |_| (),
            &[],
        ),
        kind(
            "rejected_pin",
            pinned(&format!("pins.signing_keys = [\"ecdsa:{}\"]", zeros(20))),
            |_| (),
            &[],
        ),
        kind(
            "rejected_gpu_device",
            pinned(&format!("gpu.devices = [\"{}\"]", zeros(8))),
            |_| (),
            &[],
        ),
        kind("rejected_gpu_no_table", pinned(&tables()), |_| (), &[]),
        kind(
            "rejected_deployment_commit",
            pinned(&format!("deployment.commits = [\"{}\"]", zeros(20))),
            |_| (),
            &[],
        ),
        kind(
            "rejected_compose_digest",
            pinned(&format!(
                "deployment.sources = \"required\"\ndeployment.images = [\"sha256:{}\"]",
                zeros(32)
            )),
            |_| (),
            &[],
        ),
        kind(
            "rejected_finding",
            pinned(
                "findings.refuse = [\"image_advisory=danger\"]\nimage_advisory = [\
                 { id = \"A\", severity = \"danger\", images = [\"fake image\"], fixed = \"2\", what = \"one\" },\
                 { id = \"B\", severity = \"danger\", images = [\"fake image\"], fixed = \"2\", what = \"two\" }]",
            ),
            |_| (),
            &[],
        ),
    ]
}

#[test]
fn each_kind_of_honest_change_is_accepted_and_nothing_beside_it() {
    for Kind {
        code,
        policy,
        change,
        neighbours,
    } in kinds()
    {
        let spec = spec_with(change);
        assert_eq!(verdict(&spec, &policy, NOW), code, "{policy}");
        let accepted = accepted(&spec, &policy);
        assert_eq!(accepted.code, code);
        // The file is the same but for what was put in.
        let kept: Vec<_> = policy.lines().collect();
        let lines: Vec<_> = accepted.text.lines().collect();
        assert!(lines.len() > kept.len(), "{}", accepted.text);
        assert_eq!(verdict(&spec, &accepted.text, NOW), "verified");
        // Its last day is the ninetieth.
        let last = (NOW / DAY + 90) * DAY + DAY - 1;
        let at_end = verdict(&spec, &accepted.text, last);
        assert!(
            at_end == "verified" || at_end.contains("expired") || at_end.contains("certificate"),
            "{at_end}"
        );
        assert!(accepted.text.contains("until = \"2027-02-20\""));
        let said = accepted.to_string();
        for words in [
            "expected  ",
            "seen      ",
            "2027-02-20",
            "a tester",
            "What stays protected",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        for change_more in neighbours {
            let spec = spec_with(|spec| {
                change(spec);
                change_more(spec);
            });
            let verdict = verdict(&spec, &accepted.text, NOW);
            assert_ne!(verdict, "verified", "{code}");
        }
    }
}

/// By a date that is close, so that no certificate ends first.
#[test]
fn the_line_ends_with_its_last_day() {
    for Kind {
        code,
        policy,
        change,
        ..
    } in kinds()
    {
        let spec = spec_with(change);
        let terms = Terms {
            until: Some("2026-11-23".parse_day()),
            ..terms()
        };
        let accepted = accept_with(&spec, &policy, &terms, &known(&spec)).unwrap();
        let midnight = (NOW / DAY + 2) * DAY;
        assert_eq!(
            verdict(&spec, &accepted.text, midnight - 1),
            "verified",
            "{code}"
        );
        assert_eq!(verdict(&spec, &accepted.text, midnight), code);
        // A verdict does not outlive it.
        let appraisal = judged(&spec, &Policy::from_toml(&accepted.text).unwrap(), NOW);
        let until = appraisal.outcome.unwrap().valid_until();
        assert_eq!(until, UnixTime(midnight), "{code}");
    }
}

#[test]
fn an_accepted_value_is_for_ever_visible() {
    for Kind {
        code,
        policy,
        change,
        ..
    } in kinds()
    {
        let spec = spec_with(change);
        let accepted = accepted(&spec, &policy);
        let policy = Policy::from_toml(&accepted.text).unwrap();
        assert!(
            policy.exceptions().next().is_some(),
            "doctor counts its days"
        );
        let report = judged(&spec, &policy, NOW).report;
        let levels = report.levels.unwrap();
        match code {
            "rejected_os_image" | "rejected_acpi" => {
                assert_eq!(levels.boot, attest::BootLevel::AcceptedByYou);
                assert!(
                    accepted
                        .sentence
                        .contains("what you accepted until 2027-02-20")
                );
            }
            code if code.starts_with("rejected_tcb") => {
                assert_eq!(levels.hardware, attest::HardwareLevel::Outdated);
                assert!(
                    accepted
                        .sentence
                        .contains("which you accepted until 2027-02-20")
                );
            }
            _ => {
                let findings = report.remarks();
                let mine = findings.iter().filter(|own| own.topic == "accepted_by_you");
                let mine: Vec<_> = mine.map(|own| own.detail.clone()).collect();
                assert!(!mine.is_empty(), "{code}");
                for words in ["2027-02-20", "a tester", "announced"] {
                    assert!(mine[0].contains(words), "{mine:?}");
                }
            }
        }
    }
}
/// An image of the program's own table, on a machine whose log leaves out the events that
/// no test can make: the table has digests only.
#[test]
fn an_image_of_the_programs_own_table() {
    let known = attest::image::known();
    let own = known.iter().find(|own| own.name == "dstack-0.5.4").unwrap();
    let registers = own.registers.unwrap();
    let machine = |mrtd: [u8; 48], version: &str| {
        spec_with(|s| {
            s.strip_boot_events = true;
            s.vm_config.qemu_version = version.to_owned();
            s.td.mr_td = mrtd;
            s.overrides.rt_mr[1] = Some(registers.rtmr1);
            s.overrides.rt_mr[2] = Some(registers.rtmr2);
            s.app.os_image_hash = own.os_image_hash.unwrap();
        })
    };
    let policy = policy_text("");
    let accept = |spec: &Spec| accept_with(spec, &policy, &terms(), &Known::of_this_program());
    for (mrtd, version) in [
        (registers.mrtd, "9.2.1"),
        (registers.mrtd_two_pass.unwrap(), "8.2.2"),
    ] {
        let spec = machine(mrtd, version);
        assert_eq!(verdict(&spec, &policy, NOW), "rejected_os_image");
        let text = accept(&spec).unwrap().text;
        assert_eq!(verdict(&spec, &text, NOW), "verified");
        let mut other = spec.clone();
        other.overrides.rt_mr[2].as_mut().unwrap()[0] ^= 1;
        assert_eq!(verdict(&other, &text, NOW), "rejected_os_image");
        let why = accept(&other).unwrap_err().to_string();
        assert!(why.contains("in no table of this program"), "{why}");
    }
    let refused = known.iter().filter(|own| own.dev || own.refuse.is_some());
    assert!(refused.count() > 3);
}
