//! `policy accept`: which change can be accepted, that it was the only one, that the
//! written line accepts exactly that, and when it ends.

use attest::{
    AcceptableImage, Acceptance, AcceptedChange, Base, Evidence, Explanation, FilesCheck, Known,
    NotAcceptable, Policy, TagsCheck, Terms, UnixTime, accept,
};
use fake_tee::event_log::{DigestForm, Event, replay};
use fake_tee::{ComposeManager, Kms, Spec};

use crate::support::{
    Beside, DAY, NOW, challenge, code, files_of, judge_beside, manager, policy_text, spec_with,
    upstream,
};

pub(crate) fn terms() -> Terms {
    Terms {
        until: None,
        reason: "announced by the operator".to_owned(),
        by: "a tester".to_owned(),
        expect_root: None,
        expect_app_id: None,
    }
}

/// The image of a machine, as a table of images would have it.
fn image_of(spec: &Spec) -> AcceptableImage {
    let registers = replay(&spec.events());
    AcceptableImage {
        name: "dstack-nvidia-0.5.13".to_owned(),
        source: "recomputed from the files of its release".to_owned(),
        mrtd: spec.td.mr_td,
        rtmr1: registers[1],
        rtmr2: registers[2],
        os_image_hash: spec.app.os_image_hash,
        weaknesses: vec!["a known weakness".to_owned()],
    }
}

/// A policy that compares tables with the default machine's row only.
fn rows_only() -> String {
    let own = fake_tee::acpi::digests(&crate::support::spec().vm_config);
    let [loader, rsdp, tables] = [own.loader, own.rsdp, own.tables].map(hex::encode);
    policy_text(&format!(
        "acpi = \"require\"\nmachine = [{{ name = \"mine\", acpi_loader = \"{loader}\", acpi_rsdp = \"{rsdp}\", acpi_tables = \"{tables}\" }}]\n"
    ))
}

/// With one bit of a file changed.
fn flipped(digest: [u8; 48]) -> Option<[u8; 48]> {
    let mut digest = digest;
    digest[0] ^= 1;
    Some(digest)
}

fn known(spec: &Spec) -> Known {
    Known::danger_with(vec![image_of(spec)])
}

type Change = (&'static str, fn(&mut Spec));

type Outcome = Result<AcceptedChange, NotAcceptable>;

fn accept_with(spec: &Spec, policy: &str, terms: &Terms, known: &Known) -> Outcome {
    let built = spec.forge(&challenge()).unwrap();
    let evidence = Evidence::parse(&built.report_bytes).unwrap();
    accept(Base::File(policy), terms, known, &evidence, |policy| {
        judged(spec, policy, NOW)
    })
}

fn judged(spec: &Spec, policy: &Policy, now: u64) -> attest::Appraisal {
    let built = spec.forge(&challenge()).unwrap();
    let (tags, files) = (upstream(spec), files_of(spec));
    let beside = Beside {
        tags: TagsCheck::AtHand(&tags),
        files: FilesCheck::AtHand(&files),
        now: UnixTime(now),
        ..Beside::default()
    };
    judge_beside(&built, policy, beside)
}

fn accepted(spec: &Spec, policy: &str) -> AcceptedChange {
    let outcome = accept_with(spec, policy, &terms(), &known(spec));
    outcome.unwrap_or_else(|why| panic!("{why}\n{policy}"))
}

fn refused(spec: &Spec, policy: &str) -> NotAcceptable {
    match accept_with(spec, policy, &terms(), &known(spec)) {
        Ok(accepted) => panic!("{accepted}"),
        Err(why) => why,
    }
}

fn verdict(spec: &Spec, policy: &str, now: u64) -> &'static str {
    code(&judged(spec, &Policy::from_toml(policy).unwrap(), now))
}

struct Kind {
    code: &'static str,
    /// Lines that the policy has besides.
    policy: String,
    change: fn(&mut Spec),
    /// The same with a byte changed.
    neighbours: &'static [fn(&mut Spec)],
}

fn pinned(line: &str) -> String {
    policy_text(&format!("{line}\n"))
}

fn tables() -> String {
    "gpu.measurements = [{ id = \"NV_GPU_DRIVER_GH100_1.2.3\", source = \"a test\", allowed = { \"1\" = [\"".to_owned()
        + &"00".repeat(48)
        + "\"] } }]"
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

trait ParseDay {
    fn parse_day(&self) -> attest::Day;
}

impl ParseDay for str {
    fn parse_day(&self) -> attest::Day {
        attest::Day::parse(self).unwrap()
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

#[test]
fn what_has_other_keys_is_accepted_only_by_a_value_from_elsewhere() {
    let root = spec_with(|spec| spec.kms = Kms::other().unwrap());
    let app = spec_with(|spec| spec.app.app_id = vec![7; 20]);
    for (spec, code, option) in [
        (&root, "rejected_kms_root", "--expect-root"),
        (&app, "rejected_app_id", "--expect-app-id"),
    ] {
        let policy = policy_text("");
        assert_eq!(verdict(spec, &policy, NOW), code);
        let why = refused(spec, &policy);
        assert_eq!(why.code, Some(code));
        assert!(why.why.contains("not accepted from evidence"), "{why}");
        assert!(why.instead.contains(option), "{why}");
    }
    let typed = |root: Option<String>, app: Option<String>| Terms {
        expect_root: root,
        expect_app_id: app,
        ..terms()
    };
    let key = root.kms.root_spki_hex();
    let id = "07".repeat(20);
    let mut other_key = key.clone();
    other_key.replace_range(181..182, if key.ends_with('0') { "1" } else { "0" });
    let run = |spec: &Spec, terms: Terms| accept_with(spec, &policy_text(""), &terms, &known(spec));
    let why = run(&root, typed(Some(other_key), None)).unwrap_err();
    assert!(
        why.why.contains("not what you were told to expect"),
        "{why}"
    );
    let why = run(&app, typed(None, Some("08".repeat(20)))).unwrap_err();
    assert!(
        why.why.contains("not what you were told to expect"),
        "{why}"
    );
    let why = run(&root, typed(Some(key.clone()), Some(id.clone()))).unwrap_err();
    assert!(
        why.why.contains("--expect-app-id is for rejected_app_id"),
        "{why}"
    );

    for (spec, terms, code) in [
        (
            &root,
            typed(Some(format!("0x{}", key.to_uppercase())), None),
            "rejected_kms_root",
        ),
        (&app, typed(None, Some(id.clone())), "rejected_app_id"),
    ] {
        let accepted = run(spec, terms).unwrap();
        assert_eq!(accepted.code, code);
        assert_eq!(verdict(spec, &accepted.text, NOW), "verified");
        let end = (NOW / DAY + 91) * DAY;
        let policy = Policy::from_toml(&accepted.text).unwrap();
        let outcome = judged(spec, &policy, NOW);
        let sentence = outcome.report.sentence().unwrap();
        let said = " key service (an identity that you accepted until 2027-02-20) accepted.";
        assert!(sentence.contains(said), "{sentence}");
        assert!(
            outcome
                .report
                .findings
                .iter()
                .any(|own| own.topic == "accepted_by_you")
        );
        assert!(outcome.outcome.unwrap().valid_until() <= UnixTime(end));
        // The row is of one root and one application together.
        let both = spec_with(|both| {
            both.kms = Kms::other().unwrap();
            both.app.app_id = vec![7; 20];
        });
        assert_ne!(verdict(&both, &accepted.text, NOW), "verified");
    }
    let both = spec_with(|both| {
        both.kms = root.kms.clone();
        both.app.app_id = vec![7; 20];
    });
    let why = run(&both, typed(Some(key), None)).unwrap_err();
    assert!(why.why.contains("more than one rule"), "{why}");
}

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

/// The new row ends with the root key that it rests on.
#[test]
fn an_accepted_application_revives_no_root() {
    let app = spec_with(|s| s.app.app_id = vec![7; 20]);
    let key = app.kms.root_spki_hex();
    let policy = policy_text("").replace(
        &format!("kms_root = \"{key}\""),
        &format!("kms_roots = [{{ key = \"{key}\", until = \"2026-11-30\" }}]"),
    );
    let typed = Terms {
        expect_app_id: Some("07".repeat(20)),
        ..terms()
    };
    let accepted = accept_with(&app, &policy, &typed, &known(&app)).unwrap();
    assert_eq!(verdict(&app, &accepted.text, NOW), "verified");
    let after = NOW + 9 * DAY;
    assert_eq!(verdict(&app, &accepted.text, after), "rejected_kms_root");
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

/// A list of tables can be written in several ways, and people mix them.
#[test]
fn the_line_fits_however_the_file_is_written() {
    let spec = spec_with(|s| {
        s.tcb_info
            .set_platform_status("OutOfDate", &["INTEL-SA-01036"]);
    });
    let other = "status = \"OutOfDate\", advisories = [\"INTEL-SA-00001\"], exception = { until = \"2027-01-01\", reason = \"x\", by = \"y\" }";
    let block = other
        .replace(", advisories", "\nadvisories")
        .replace(", exception", "\nexception");
    let base = policy_text("");
    for more in [
        "# no end of line".to_owned(),
        "tcb.min_evaluation_number = 3\n".to_owned(),
        "[tcb]\nmin_evaluation_number = 3\n[gpu]\ncount = 8\n".to_owned(),
        "tcb = { min_evaluation_number = 3 }\n".to_owned(),
        format!("tcb.accept_advisories = [{{ {other} }}] # why\n"),
        format!(
            "tcb.accept_advisories = [ # why\n  {{ {other} }},\n  # and\n]\n[gpu]\ncount = 8\n"
        ),
        format!("tcb = {{ accept_advisories = [{{ {other} }}] }}\n"),
        "tcb.accept_advisories = []\n".to_owned(),
        format!("[tcb]\naccept_advisories = [{{ {other} }}]\n"),
        format!("[[tcb.accept_advisories]]\n{block}\n[gpu]\ncount = 8\n"),
    ] {
        let policy = format!("{base}{more}");
        match accept_with(&spec, &policy, &terms(), &known(&spec)) {
            Ok(accepted) => {
                assert_eq!(verdict(&spec, &accepted.text, NOW), "verified");
                // Nothing is gone, and nothing stands elsewhere.
                let mut rest = accepted.text.lines();
                for line in policy.lines() {
                    let line = line.trim().trim_start_matches("tcb.accept_advisories = [");
                    let line = line.trim_start_matches("accept_advisories = [");
                    let line = line.split("accept_advisories = [").last().unwrap().trim();
                    assert!(
                        rest.any(|own| own.contains(line)),
                        "{line}\n{}",
                        accepted.text
                    );
                }
            }
            // An inline table is closed: a person has to open it.
            Err(why) => {
                assert!(more.starts_with("tcb = { min"), "{more}: {why}");
                assert!(
                    why.instead
                        .contains("The line is: tcb.accept_advisories = [{"),
                    "{why}"
                );
            }
        }
    }
    // A level that the file itself asks for is not lowered behind its author's back.
    let strict = format!("{base}least.hardware = \"current\"\n");
    let why = refused(&spec, &strict);
    assert!(
        why.why
            .contains("least.hardware = \"current\" refuses what"),
        "{why}"
    );
}

/// What a row accepts has to be refused without it, and to be of its rule.
#[test]
fn a_row_without_effect_is_refused_when_loaded() {
    let pin = format!("pins.mrseam = [\"{}\"]\n", "ab".repeat(48));
    let row = |rule: &str, value: &str| {
        format!(
            "accepted = [{{ rule = \"{rule}\", value = \"{value}\", exception = {{ until = \"2027-01-01\", reason = \"x\", by = \"y\" }} }}]\n"
        )
    };
    for (more, why) in [
        (row("pins.mrseam", &"ab".repeat(48)), "has no such rule"),
        (
            pin.clone() + &row("pins.mrseam", &"ab".repeat(48)),
            "admits this value already",
        ),
        (
            pin.clone() + &row("pins.mrseam", &"AC".repeat(48)),
            "lower case",
        ),
        (
            pin.clone() + &row("pins.mrseam", "ab"),
            "expected 48 bytes in hex",
        ),
        (pin.clone() + &row("pins.mrseem", "ab"), "unknown variant"),
        (
            pin + &row("pins.mr_kms", &"ab".repeat(32)),
            "unknown variant",
        ),
        (
            row("findings.refuse", "app_script: x"),
            "does not refuse this finding",
        ),
        (
            row("gpu.measurements", "NV_GPU_DRIVER_X"),
            "no table of this kind",
        ),
        (
            format!("{}\n{}", tables(), row("gpu.measurements", "X")),
            "expected an id that begins",
        ),
        (
            format!(
                "{}\n{}",
                tables(),
                row("gpu.measurements", "NV_GPU_DRIVER_GH100_1.2.3")
            ),
            "has a table for this version",
        ),
        (
            row("deployment.images", &format!("sha256:{}", "0".repeat(64))),
            "has no such rule",
        ),
    ] {
        let error = Policy::from_toml(&policy_text(&more))
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
}
