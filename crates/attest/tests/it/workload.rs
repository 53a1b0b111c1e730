//! What a policy says of GPUs and deployments, and what the report says of them.

use attest::{
    Appraisal, Blame, CheckId, GpuLevel, History, HistoryCheck, Policy, Severity, Status,
};
use fake_tee::Spec;
use fake_tee::deployment::{action, compose_up};
use fake_tee::gpu::field;
use serde_json::{Value, json};

use crate::support::{
    Beside, NONCE, NOW, challenge, code, detail, each_gpu, judge, judge_beside, manager,
    policy_with, spec, spec_with, status, whole_policy_text,
};

fn judge_by(spec: &Spec, policy: &Policy, history: HistoryCheck<'_>) -> Appraisal {
    let built = spec.forge(&challenge()).unwrap();
    let beside = Beside {
        history,
        ..Beside::default()
    };
    judge_beside(&built, policy, beside)
}

/// The verdict under the machine's policy and some lines more.
fn judged(change: impl FnOnce(&mut Spec), more: &str) -> Appraisal {
    judge_by(
        &spec_with(change),
        &policy_with(more),
        HistoryCheck::NotKept("a test"),
    )
}

fn payload(spec: &Spec) -> Value {
    let text = spec.gpus.as_ref().unwrap().forge(&NONCE).unwrap();
    serde_json::from_str(&text).unwrap()
}

const GPU_CHECKS: [CheckId; 4] = [
    CheckId::Nras,
    CheckId::Gpus,
    CheckId::GpuShape,
    CheckId::GpuMeasurements,
];

const DEPLOYMENT_CHECKS: [CheckId; 5] = [
    CheckId::DeploymentTags,
    CheckId::DeploymentFiles,
    CheckId::Deployment,
    CheckId::DeploymentRules,
    CheckId::DeploymentContinuity,
];

#[test]
fn a_valid_machine_shows_what_runs_on_which_gpus() {
    let appraisal = judge(&spec());
    assert_eq!(code(&appraisal), "verified");
    for check in [
        CheckId::Gpus,
        CheckId::GpuShape,
        CheckId::Deployment,
        CheckId::DeploymentRules,
    ] {
        assert_eq!(status(&appraisal, check), Status::Pass, "{check:?}");
    }
    assert_eq!(
        detail(&appraisal, CheckId::Gpus),
        "8 of 8 signed our nonce, under a DANGEROUS root"
    );
    let report = &appraisal.report;
    let gpu = &report.gpus[0];
    assert_eq!(appraisal.gpu_level(), GpuLevel::Genuine);
    for (name, value) in [("gpus_signed", "8"), ("gpu_switches", "2")] {
        let fact = report.facts.iter().find(|fact| fact.name == name).unwrap();
        assert_eq!(fact.value, value);
    }
    let shape = format!(
        "GH100 with driver {} and VBIOS {}, Protected PCIe {}, on one baseboard (2 switches)",
        gpu.driver, gpu.vbios, gpu.protected_pcie
    );
    assert_eq!(detail(&appraisal, CheckId::GpuShape), shape);
    assert_eq!(report.gpus.len(), 8);
    let deployment = report.deployment.as_ref().unwrap();
    assert_eq!(deployment.actions, 4);
    assert_eq!(deployment.up.len(), 2);
    assert_eq!(appraisal.deployment().unwrap().actions(), 4);
    // Two unlike statements: of the log and of GPUs.
    assert!(report.limits.len() >= 4, "{:?}", report.limits);
    let json = serde_json::to_value(report).unwrap();
    assert_eq!(json["gpu_root"], "DANGER: not NVIDIA's");
    assert_eq!(json["gpus"][0]["chip"], "GH100");
    assert_eq!(json["deployment"]["up"][0]["file"], "fake.yaml");
}

/// Where no file is at hand: what was started whole, and what was not since then.
#[test]
fn the_rest_of_a_file_is_one_line() {
    let up = |change: fn(&mut Spec)| -> Vec<String> {
        let up = judged(change, "").report.deployment.unwrap().up;
        up.into_iter().map(|up| up.service).collect()
    };
    assert_eq!(up(|_| ()), ["proxy", "all of the file but proxy"]);
    let again = |spec: &mut Spec| {
        manager(spec)
            .actions
            .push(compose_up(NOW - 60, "v0.0.3", &[]));
    };
    assert_eq!(up(again), ["all of the file"]);
}

#[test]
fn evidence_that_is_there_has_to_hold_unless_the_policy_does_not_look() {
    let no_gpus = |spec: &mut Spec| spec.gpus = None;
    let bad_gpus = |spec: &mut Spec| {
        spec.hooks
            .report
            .push(|report| report["nvidia_payload"] = "x".into());
    };
    let no_log = |spec: &mut Spec| spec.compose_manager = None;
    let bad_log = |spec: &mut Spec| manager(spec).nonce = Some([1; 32]);
    type Change = fn(&mut Spec);
    let rows: [(Change, &str, &str, &[CheckId]); 10] = [
        (no_gpus, "", "rejected_gpu_missing", &[]),
        (no_gpus, "gpu.mode = \"off\"", "verified", &GPU_CHECKS),
        (bad_gpus, "", "evidence_gpu_payload", &[]),
        (bad_gpus, "gpu.mode = \"off\"", "verified", &GPU_CHECKS),
        (no_log, "", "deployment_missing", &[]),
        (
            no_log,
            "deployment.mode = \"if-present\"",
            "verified",
            &DEPLOYMENT_CHECKS,
        ),
        (
            no_log,
            "deployment.mode = \"off\"",
            "verified",
            &DEPLOYMENT_CHECKS,
        ),
        (bad_log, "", "rejected_deployment_nonce", &[]),
        (
            bad_log,
            "deployment.mode = \"if-present\"",
            "rejected_deployment_nonce",
            &[],
        ),
        (
            bad_log,
            "deployment.mode = \"off\"",
            "verified",
            &DEPLOYMENT_CHECKS,
        ),
    ];
    for (change, more, expected, not_proved) in rows {
        let appraisal = judged(change, more);
        assert_eq!(code(&appraisal), expected, "{more}");
        for check in not_proved {
            assert_eq!(status(&appraisal, *check), Status::NotProved, "{more}");
            assert_ne!(detail(&appraisal, *check), attest::NOT_REACHED);
        }
    }
    let if_present = gpus_if_present();
    let by = |change: Change| {
        judge_by(
            &spec_with(change),
            &if_present,
            HistoryCheck::NotKept("a test"),
        )
    };
    assert_eq!(code(&by(bad_gpus)), "evidence_gpu_payload");
    let appraisal = by(no_gpus);
    assert_eq!(code(&appraisal), "verified");
    assert_eq!(appraisal.gpu_level(), GpuLevel::None);
    for check in GPU_CHECKS {
        assert_eq!(status(&appraisal, check), Status::NotProved);
    }
}

/// The valid machine's policy with nothing of `near`, by which GPUs may be left out.
fn gpus_if_present() -> Policy {
    let gpu = "[gpu]\nmode = \"if-present\"\nprotected_pcie = \"report\"\n";
    Policy::from_toml(&(whole_policy_text() + gpu)).unwrap()
}

/// What a GPU signs of its mode and its switches is judged where the policy demands
/// it (the default), and passes nowhere else.
#[test]
fn gpus_in_no_protected_mode_are_no_pass() {
    let no_mode = |spec: &mut Spec| {
        each_gpu(spec, |m| {
            *m.field(field::PROTECTED_PCIE) = vec![0x55];
            m.fields.retain(|(kind, _)| *kind != field::SWITCHES);
        });
    };
    let rejected = judged(no_mode, "").outcome.unwrap_err();
    assert_eq!(rejected.code(), "rejected_gpu_mode");
    let said = "Protected PCIe of GPU 0: off; the policy demands on";
    assert_eq!(rejected.to_string(), said);
    let report = "gpu.protected_pcie = \"report\"";
    let appraisal = judged(no_mode, report);
    assert_eq!(code(&appraisal), "verified");
    assert_eq!(status(&appraisal, CheckId::GpuShape), Status::NotProved);
    let said = detail(&appraisal, CheckId::GpuShape);
    let words = "Protected PCIe off, whether in one machine: this driver does not report it";
    assert!(said.ends_with(words), "{said}");
    assert_eq!(
        status(&judged(|_| (), report), CheckId::GpuShape),
        Status::Pass
    );
    // A driver that states its mode, as newer ones do.
    let states = |spec: &mut Spec| {
        each_gpu(spec, |m| m.fields.push((field::FEATURE, vec![2, 0])));
    };
    assert_eq!(status(&judged(states, ""), CheckId::GpuShape), Status::Pass);
    // One GPU has no neighbour that could name other switches.
    let one = |spec: &mut Spec| spec.gpus.as_mut().unwrap().gpus.truncate(1);
    let appraisal = judged(one, "gpu.count = 1");
    assert_eq!(status(&appraisal, CheckId::GpuShape), Status::Pass);
    assert_eq!(
        detail(&appraisal, CheckId::Gpus),
        "1 of 1 signed our nonce, under a DANGEROUS root"
    );
}

/// "8 of 8" is said only where the policy says 8.
#[test]
fn a_number_that_nobody_expects_is_no_pass() {
    let appraisal = judge_by(&spec(), &gpus_if_present(), HistoryCheck::NotKept("a test"));
    assert_eq!(code(&appraisal), "verified");
    assert_eq!(status(&appraisal, CheckId::Gpus), Status::Pass);
    assert_eq!(
        detail(&appraisal, CheckId::Gpus),
        "8 GPUs signed our nonce, under a DANGEROUS root"
    );
    assert_eq!(status(&appraisal, CheckId::GpuShape), Status::NotProved);
    let said = detail(&appraisal, CheckId::GpuShape);
    let words = "the policy sets no gpu.count; 8 GPUs answered: GH100 with ";
    assert!(said.starts_with(words), "{said}");
    let hardware = judge_by(
        &spec(),
        &Policy::hardware(),
        HistoryCheck::NotKept("a test"),
    );
    assert_eq!(status(&hardware, CheckId::GpuShape), Status::NotProved);
    let eight = judge_by(&spec(), &policy_with(""), HistoryCheck::NotKept("a test"));
    assert_eq!(status(&eight, CheckId::GpuShape), Status::Pass);
}

/// A newer kind of GPU refuses only where GPUs are demanded; whoever leaves it out
/// comes off no better.
#[test]
fn gpus_of_an_unknown_architecture_are_not_counted() {
    type Change = fn(&mut Spec);
    let all = |spec: &mut Spec| {
        for gpu in &mut spec.gpus.as_mut().unwrap().gpus {
            gpu.chip = "GB100".to_owned();
        }
    };
    let one = |spec: &mut Spec| spec.gpus.as_mut().unwrap().gpus[3].chip = "GB100".to_owned();
    let rows: [(Change, usize, usize, &str); 2] = [(all, 0, 0, "0 GPUs"), (one, 3, 7, "7 GPUs")];
    for (change, unknown, shown, signed) in rows {
        let rejected = judged(change, "").outcome.unwrap_err();
        assert_eq!(rejected.code(), "evidence_gpu_not_understood");
        assert_eq!(rejected.blame(), Blame::Age);
        let said = format!(
            "the certificates of GPU {unknown} name the architecture \"GB100\", which this version does not understand"
        );
        assert_eq!(rejected.to_string(), said);
        assert!(rejected.hint().contains("Update verified-proxy"));
        let spec = spec_with(change);
        for policy in [&gpus_if_present(), &Policy::hardware()] {
            let appraisal = judge_by(&spec, policy, HistoryCheck::NotKept("a test"));
            assert_eq!(code(&appraisal), "verified");
            assert_eq!(appraisal.gpu_level(), GpuLevel::None);
            assert_eq!(appraisal.report.gpus.len(), shown);
            for check in GPU_CHECKS {
                assert_eq!(status(&appraisal, check), Status::NotProved);
                let said = detail(&appraisal, check);
                assert!(said.starts_with(signed), "{said}");
                assert!(said.contains("\"GB100\""), "{said}");
            }
        }
    }
}

/// The number in `vm_config` is the host's; what signed is counted.
#[test]
fn a_repaired_gpu_and_the_hosts_copy_are_findings() {
    let topics = |change: fn(&mut Spec)| {
        let appraisal = judged(change, "");
        assert_eq!(code(&appraisal), "verified");
        assert_eq!(status(&appraisal, CheckId::GpuShape), Status::Pass);
        let findings = appraisal.report.findings.into_iter();
        findings
            .filter(|finding| finding.topic.starts_with("gpu_"))
            .map(|finding| (finding.severity, finding.topic, finding.detail))
            .collect::<Vec<_>>()
    };
    assert_eq!(topics(|_| ()), []);
    let repaired = topics(|spec| {
        spec.gpus.as_mut().unwrap().gpus[3]
            .message
            .push(|m| *m.field(field::VBIOS) = vec![0, 0xcf, 0, 0x96, 3, 0, 0, 0]);
    });
    let detail = "the GPUs have not one VBIOS: 96.00.CF.00.02 (7), 96.00.CF.00.03 (1)";
    assert_eq!(
        repaired,
        [(Severity::Notice, "gpu_versions_differ", detail.to_owned())]
    );
    let detail = "info.vm_config.num_gpus is 4, the report has evidence of 8 GPUs";
    assert_eq!(
        topics(|spec| spec.vm_config.num_gpus = 4),
        [(Severity::Notice, "gpu_copies_differ", detail.to_owned())]
    );
    let detail = "arch of nvidia_payload is \"BLACKWELL\", the certificate says HOPPER";
    assert_eq!(
        topics(|spec| {
            let payload = &mut spec.gpus.as_mut().unwrap().payload;
            payload.push(|payload| payload["arch"] = json!("BLACKWELL"));
        }),
        [(Severity::Notice, "gpu_copies_differ", detail.to_owned())]
    );
}

/// Evidence that may be left out satisfies no demand.
#[test]
fn demands_on_gpus_need_a_mode_that_demands_evidence() {
    let table = table("NV_GPU_DRIVER_GH100_570.172.08", &[7], None);
    let demands = [
        ("gpu.count", "gpu.count = 8\n"),
        ("gpu.devices", "gpu.devices = [\"0123456789abcdef\"]\n"),
        ("gpu.measurements", &table),
        ("gpu.nras = \"require\"", "gpu.nras = \"require\"\n"),
        (
            "gpu.protected_pcie = \"required\"",
            "gpu.protected_pcie = \"required\"\n",
        ),
    ];
    let hardware =
        |more: &str| format!("name = \"x\"\nextends = \"hardware\"\ndate = \"2026-11-22\"\n{more}");
    let mend = "needs GPU evidence, which gpu.mode = \"if-present\" lets a machine leave out: expected gpu.mode = \"required\"";
    for (line, more) in demands {
        let refused = Policy::from_toml(&hardware(more)).unwrap_err().to_string();
        assert!(
            refused.contains(line) && refused.contains(mend),
            "{refused}"
        );
        let required = format!("gpu.mode = \"required\"\n{more}");
        let refused = Policy::from_toml(&hardware(&required)).unwrap_err();
        let rests = "least.gpu = \"genuine\" is above its cap";
        assert!(refused.to_string().contains(rests), "{line}: {refused}");
        let near = required.replace("gpu.mode = \"required\"\n", "");
        let near = format!("name = \"x\"\nextends = \"near\"\ndate = \"2026-11-22\"\n{near}");
        assert!(Policy::from_toml(&near).is_ok(), "{line}");
        let off = format!("gpu.mode = \"off\"\n{more}");
        let refused = Policy::from_toml(&hardware(&off)).unwrap_err().to_string();
        assert!(refused.contains("looks at no GPU"), "{refused}");
    }
    assert!(Policy::from_toml(&hardware("gpu.mode = \"off\"\n")).is_ok());
    assert!(Policy::from_toml(&hardware("gpu.nras = \"report\"\n")).is_ok());
    // What "near" demands is demanded by what extends it.
    let near = spec().policy_toml() + "gpu.mode = \"if-present\"\n";
    let refused = Policy::from_toml(&near).unwrap_err().to_string();
    assert!(
        refused.contains("gpu.count") && refused.contains(mend),
        "{refused}"
    );
    assert!(Policy::from_toml(&near.replace("if-present", "off")).is_ok());
}

#[test]
fn a_machine_of_another_shape_is_accepted_by_the_line_that_the_refusal_names() {
    let seven = |spec: &mut Spec| {
        spec.gpus.as_mut().unwrap().gpus.truncate(7);
        spec.vm_config.num_gpus = 7;
    };
    let rejected = judged(seven, "").outcome.unwrap_err();
    assert_eq!(rejected.code(), "rejected_gpu_count");
    assert!(
        rejected.hint().contains("gpu.count = 7"),
        "{}",
        rejected.hint()
    );
    assert_eq!(code(&judged(seven, "gpu.count = 7")), "verified");
    // The count is exact: more is another shape too.
    assert_eq!(code(&judged(|_| (), "gpu.count = 7")), "rejected_gpu_count");
}

/// gpu.md row 49: a whole foreign machine that answers our nonce is accepted
/// unless its devices are pinned.
#[test]
fn pinned_devices_admit_no_other() {
    let known: Vec<_> = judge(&spec())
        .report
        .gpus
        .iter()
        .map(|gpu| gpu.pdi.clone())
        .collect();
    let pins = |devices: &[String]| format!("gpu.devices = {}", json!(devices));
    assert_eq!(code(&judged(|_| (), &pins(&known))), "verified");
    let foreign = |spec: &mut Spec| {
        for gpu in &mut spec.gpus.as_mut().unwrap().gpus {
            gpu.pdi[0] ^= 1;
        }
    };
    assert_eq!(code(&judged(foreign, "")), "verified");
    let rejected = judged(foreign, &pins(&known)).outcome.unwrap_err();
    assert_eq!(rejected.code(), "rejected_gpu_device");
    assert!(rejected.hint().contains("gpu.devices = [\""));
    let rejected = judged(|_| (), &pins(&known[..7])).outcome.unwrap_err();
    assert_eq!(rejected.code(), "rejected_gpu_device");
    assert!(rejected.to_string().starts_with("GPU 7 "), "{rejected}");
}

/// A table of what the valid machine's driver measured at some indices.
fn table(id: &str, indices: &[u8], change: Option<u8>) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let payload = payload(&spec());
    let evidence = payload["evidence_list"][0]["evidence"].as_str().unwrap();
    let evidence = BASE64_STANDARD.decode(evidence).unwrap();
    let lines: Vec<_> = indices
        .iter()
        .map(|index| {
            // Request of 37 bytes, head of 8; a block's value is its last 48 of 55.
            let at = 45 + 55 * (usize::from(*index) - 1) + 7;
            let mut value = evidence[at..at + 48].to_vec();
            if change == Some(*index) {
                value[0] ^= 1;
            }
            format!("\"{index}\" = [\"{}\"]", hex::encode(value))
        })
        .collect();
    format!(
        "[[gpu.measurements]]\nid = \"{id}\"\nsource = \"a test\"\nallowed = {{ {} }}\n",
        lines.join(", ")
    )
}

/// gpu.md row 6, signed again: only a table notices.
#[test]
fn measurements_are_compared_where_the_policy_has_a_table() {
    let report = judge(&spec()).report;
    let driver = format!("NV_GPU_DRIVER_GH100_{}", report.gpus[0].driver);
    let unknown = detail(&judge(&spec()), CheckId::GpuMeasurements).to_owned();
    assert!(unknown.contains(&driver), "{unknown}");
    let vbios = unknown
        .split([' ', ','])
        .find(|word| word.starts_with("NV_GPU_VBIOS_"))
        .unwrap()
        .to_owned();
    let changed = |spec: &mut Spec| {
        spec.gpus.as_mut().unwrap().gpus[3]
            .message
            .push(|message| message.blocks[21].value[0] ^= 1);
    };
    assert_eq!(code(&judged(changed, "")), "verified");

    let indices = [1, 22, 64];
    let both = table(&driver, &indices, None) + &table(&vbios, &[2], None);
    let appraisal = judged(|_| (), &both);
    assert_eq!(code(&appraisal), "verified");
    assert_eq!(
        status(&appraisal, CheckId::GpuMeasurements),
        Status::Pass,
        "{}",
        detail(&appraisal, CheckId::GpuMeasurements)
    );
    assert_eq!(appraisal.gpu_level(), GpuLevel::Measured);
    // No table for any VBIOS: not compared, so not passed.
    let one = table(&driver, &indices, None);
    let appraisal = judged(|_| (), &one);
    assert_eq!(code(&appraisal), "verified");
    assert_eq!(
        status(&appraisal, CheckId::GpuMeasurements),
        Status::NotProved
    );
    let said = detail(&appraisal, CheckId::GpuMeasurements);
    assert!(said.contains(&vbios) && !said.contains(&driver), "{said}");
    assert_eq!(appraisal.gpu_level(), GpuLevel::Genuine);
    let rejected = judged(changed, &one).outcome.unwrap_err();
    assert_eq!(rejected.code(), "rejected_gpu_measurement");
    assert!(
        rejected.to_string().starts_with("measurement 22 of GPU 3 "),
        "{rejected}"
    );
    assert!(rejected.to_string().contains(&driver), "{rejected}");
    // The edition that does not fit, and with it the one that does.
    let other = table(&driver, &indices, Some(64));
    assert_eq!(code(&judged(|_| (), &other)), "rejected_gpu_measurement");
    assert_eq!(code(&judged(|_| (), &(other.clone() + &one))), "verified");
    assert_eq!(code(&judged(|_| (), &(one.clone() + &other))), "verified");

    // Another version, or a board that is not named, escapes no table of its kind.
    let driver = |spec: &mut Spec| {
        each_gpu(spec, |m| *m.field(field::DRIVER) = b"535.00\0".to_vec());
    };
    let vbios = |spec: &mut Spec| each_gpu(spec, |m| m.field(field::VBIOS)[4] = 9);
    let board = |spec: &mut Spec| {
        each_gpu(spec, |m| {
            m.fields.retain(|(kind, _)| *kind != field::PROJECT)
        });
    };
    let third = |spec: &mut Spec| {
        spec.gpus.as_mut().unwrap().gpus[2]
            .message
            .push(|m| m.field(field::VBIOS)[4] = 9);
    };
    let other_kind = table("NV_GPU_VBIOS_G520_0280_895_9600CF0002", &[2], None);
    type Change = fn(&mut Spec);
    let rows: [(Change, &str, &str); 6] = [
        (driver, &both, "GPU 0 has \"NV_GPU_DRIVER_GH100_535.00\", "),
        (driver, &one, "GPU 0 has \"NV_GPU_DRIVER_GH100_535.00\", "),
        (
            vbios,
            &both,
            "GPU 0 has \"NV_GPU_VBIOS_G520_0280_895_9600CF0009\", ",
        ),
        (
            third,
            &both,
            "GPU 2 has \"NV_GPU_VBIOS_G520_0280_895_9600CF0009\", ",
        ),
        (
            board,
            &both,
            "GPU 0 has \"VBIOS (the GPU does not name its board)\", ",
        ),
        (
            board,
            &other_kind,
            "GPU 0 has \"VBIOS (the GPU does not name its board)\", ",
        ),
    ];
    for (change, tables, said) in rows {
        assert_eq!(code(&judged(change, "")), "verified");
        let rejected = judged(change, tables).outcome.unwrap_err();
        assert_eq!(rejected.code(), "rejected_gpu_no_table");
        assert_eq!(rejected.blame(), Blame::Unknown);
        assert!(rejected.to_string().starts_with(said), "{rejected}");
    }
    assert_eq!(code(&judged(vbios, &one)), "verified");
    assert_eq!(code(&judged(driver, &other_kind)), "verified");
}

#[test]
fn commits_and_tags_are_compared_where_the_policy_names_them() {
    let report = judge(&spec()).report;
    let mut commits: Vec<_> = report
        .deployment
        .unwrap()
        .up
        .iter()
        .map(|up| up.commit.clone())
        .collect();
    let line = |commits: &[String]| format!("deployment.commits = {}", json!(commits));
    assert_eq!(code(&judged(|_| (), &line(&commits))), "verified");
    commits.pop();
    let rejected = judged(|_| (), &line(&commits)).outcome.unwrap_err();
    assert_eq!(rejected.code(), "rejected_deployment_commit");
    assert!(rejected.hint().contains("deployment.commits = [\""));

    let branch = |spec: &mut Spec| {
        manager(spec)
            .actions
            .push(compose_up(NOW - 60, "main", &[]));
    };
    assert_eq!(
        code(&judged(branch, "deployment.tags = \"any\"")),
        "verified"
    );
}

#[test]
fn a_log_is_held_against_the_one_last_seen() {
    let by_log = |spec: &Spec, logs: &History| {
        let appraisal = judge_by(spec, &policy_with(""), HistoryCheck::Kept(logs));
        assert_eq!(code(&appraisal), "verified");
        let check = appraisal
            .report
            .check(CheckId::DeploymentContinuity)
            .unwrap();
        (
            check.status,
            check.detail.clone(),
            appraisal.sighting.unwrap(),
        )
    };
    let before = spec();
    let mut after = spec();
    manager(&mut after)
        .actions
        .push(compose_up(NOW - 60, "v0.0.3", &[]));

    let mut logs = History::default();
    let (status, detail, seen) = by_log(&before, &logs);
    assert_eq!(status, Status::NotProved);
    assert!(detail.contains("not seen before"), "{detail}");
    assert!(logs.remember(&seen));
    assert!(!logs.remember(&seen), "nothing changed");
    let mut logs = History::from_json(logs.to_json().as_bytes()).unwrap();

    assert_eq!(by_log(&before, &logs).0, Status::Pass);
    let (status, detail, seen) = by_log(&after, &logs);
    assert_eq!(status, Status::Pass);
    assert!(detail.contains("with 1 new action"), "{detail}");
    assert!(logs.remember(&seen));
    // Set back to an earlier state.
    let (status, detail, _) = by_log(&before, &logs);
    assert_eq!(status, Status::NotProved);
    assert!(detail.starts_with("log reset"), "{detail}");
    // Another instance has a log of its own.
    let mut other = spec();
    other.app.instance_id = vec![9; 20];
    assert!(by_log(&other, &logs).1.contains("not seen before"));
}

/// No file was held against a rule, so none passed.
#[test]
fn an_empty_log_passes_no_rule() {
    let empty = |spec: &mut Spec| manager(spec).actions.clear();
    let refused = judged(empty, "");
    assert_eq!(code(&refused), "rejected_deployment_empty");
    let appraisal = judged(empty, "deployment.mode = \"if-present\"");
    assert_eq!(code(&appraisal), "verified");
    assert_eq!(status(&appraisal, CheckId::Deployment), Status::Pass);
    for check in [
        CheckId::DeploymentRules,
        CheckId::DeploymentTags,
        CheckId::DeploymentFiles,
    ] {
        assert_eq!(status(&appraisal, check), Status::NotProved, "{check:?}");
    }
}

/// What is written is read again, up to the most that is kept.
#[test]
fn as_many_logs_are_read_as_are_kept() {
    let mut text = String::from("{");
    for instance in 0..10_000 {
        let head = "00".repeat(32);
        text += &format!("\"{instance:040x}\":{{\"actions\":1,\"head\":\"{head}\"}},");
    }
    let text = text.trim_end_matches(',').to_owned() + "}";
    let logs = History::from_json_of_logs(text.as_bytes()).unwrap();
    assert_eq!(History::from_json(logs.to_json().as_bytes()), Ok(logs));
}

#[test]
fn nothing_is_remembered_of_a_refused_machine() {
    let mut spec = spec();
    spec.gpus = None;
    let logs = History::default();
    let appraisal = judge_by(&spec, &policy_with(""), HistoryCheck::Kept(&logs));
    assert_eq!(code(&appraisal), "rejected_gpu_missing");
    assert_eq!(appraisal.sighting, None);
}

#[test]
fn a_policy_says_what_it_does_not_look_at() {
    let whole = "name = \"x\"\ndate = \"2026-11-22\"\nsoftware = \"any\"\ntcb.accept = [\"UpToDate\"]\ntd.attributes = [\"0000001000000000\"]\ntd.xfam = [\"e702060000000000\"]\nleast.gpu = \"none\"\n";
    for (more, error) in [
        ("", "least.deployment = \"declared\" is above its cap"),
        (
            "deployment.mode = \"required\"\n",
            "least.deployment = \"declared\" is above its cap",
        ),
        (
            "deployment.mode = \"if-present\"\n",
            "expected deployment.mode = \"off\"",
        ),
        ("deployment.mode = \"off\"\n", ""),
        ("deployment.mode = \"no\"\n", "unknown variant"),
        (
            "deployment.mode = \"off\"\ngpu.count = 0\n",
            "gpu.count = 0",
        ),
        (
            "deployment.mode = \"off\"\ngpu.count = 17\n",
            "gpu.count = 17",
        ),
        (
            "deployment.mode = \"off\"\ngpu = { mode = \"off\", count = 8 }\n",
            "looks at no GPU",
        ),
        (
            "deployment.mode = \"off\"\ngpu = { mode = \"off\", devices = [\"0101010101010101\"] }\n",
            "looks at no GPU",
        ),
        (
            "deployment.mode = \"off\"\ngpu = { mode = \"off\", nras = \"report\" }\n",
            "looks at no GPU",
        ),
        (
            "deployment.mode = \"off\"\ngpu.mode = \"off\"\n[[gpu.measurements]]\nid = \"x\"\nsource = \"y\"\nallowed = {}\n",
            "looks at no GPU",
        ),
        (
            "deployment = { images = [\"sha256:0101010101010101010101010101010101010101010101010101010101010101\"] }\n",
            "deployment.sources = \"required\"",
        ),
        (
            "deployment = { mode = \"off\", images = [\"sha256:0101010101010101010101010101010101010101010101010101010101010101\"] }\n",
            "looks at no log",
        ),
        (
            "deployment = { mode = \"off\", commits = [\"0101010101010101010101010101010101010101\"] }\n",
            "looks at no log",
        ),
        (
            "deployment = { mode = \"off\", sources = \"required\" }\n",
            "looks at no log",
        ),
        (
            "deployment = { mode = \"if-present\", sources = \"required\" }\n",
            "accepts a machine without a log",
        ),
        ("deployment.sources = \"if-present\"\n", "unknown variant"),
        (
            "deployment = { mode = \"off\", sources = \"if-at-hand\" }\n",
            "",
        ),
        (
            "deployment.mode = \"off\"\ngpu = { mode = \"if-present\", nras = \"require\" }\n",
            "needs GPU evidence",
        ),
        (
            "deployment.mode = \"off\"\n[[gpu.measurements]]\nid = \"x\"\nsource = \"y\"\nallowed = {}\n",
            "compare nothing",
        ),
        (
            "deployment.mode = \"off\"\n[[gpu.measurements]]\nid = \"x\"\nsource = \"y\"\nallowed = { \"0\" = [] }\n",
            "an index of 1 to 64",
        ),
        (
            "deployment.mode = \"off\"\n[[gpu.measurements]]\nid = \"x\"\nsource = \"y\"\nallowed = { \"1\" = [] }\n",
            "index 1 allows nothing",
        ),
        (
            "deployment.mode = \"off\"\n[[gpu.measurements]]\nid = \"nv_gpu_driver_x\"\nsource = \"y\"\nallowed = { \"1\" = [\"000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\"] }\n",
            "begins with NV_GPU_DRIVER_ or NV_GPU_VBIOS_",
        ),
        (
            "deployment.mode = \"off\"\ngpu.protected_pcie = \"off\"\n",
            "unknown variant",
        ),
    ] {
        // Tables are compared where GPUs are demanded.
        let tables = more.contains("gpu.measurements") && !more.contains("gpu.mode");
        let base = if tables {
            spec().policy_toml()
        } else {
            whole.to_owned()
        };
        match Policy::from_toml(&format!("{base}{more}")) {
            Ok(_) => assert_eq!(error, "", "{more}"),
            Err(got) => {
                assert!(!error.is_empty(), "{more}: {got}");
                assert!(got.to_string().contains(error), "{more}: {got}");
            }
        }
    }
    // A policy of its own admits no repository that it does not name.
    let own = Policy::from_toml(&format!("{whole}deployment.mode = \"off\"\n")).unwrap();
    let own = own.to_toml();
    for role in ["fronts", "proxies", "engines", "helpers", "gpu_helpers"] {
        assert!(own.contains(&format!("\n{role} = []  #")), "{role}: {own}");
    }
    // What a policy of its own leaves out is required.
    let text = Policy::near().to_toml().replace("  # near", "");
    for line in [
        "[gpu]\nmode = \"required\"\ncount = 8\nprotected_pcie = \"required\"",
        "[deployment]\nmode = \"required\"",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

/// What a policy says of deployed files is written as it is read.
#[test]
fn rules_of_files_are_read_again() {
    let digest = "01".repeat(32);
    for line in [
        String::new(),
        format!(
            "deployment = {{ images = [\"sha256:{digest}\"], sources = \"required\", files = \"refuse\" }}"
        ),
        "deployment.tags = \"releases\"".to_owned(),
        "deployment.files = \"refuse\"".to_owned(),
        "deployment.managers = [\"a/manager\"]".to_owned(),
        "least.deployment = \"tagged\"\ndeployment = { managers = [\"a/manager\"], sources = \"required\" }"
            .to_owned(),
        "deployment.read_only_paths = [\"/srv\"]".to_owned(),
        "deployment.tags = \"any\"".to_owned(),
        "deployment.sources = \"required\"".to_owned(),
        "deployment.repositories.fronts = [\"caddy\"]".to_owned(),
        "deployment.repositories.proxies = [\"a/proxy\"]".to_owned(),
        "deployment.repositories.engines = [\"a/engine\"]".to_owned(),
        "deployment.repositories.helpers = [\"a/helper\"]".to_owned(),
        "deployment.repositories.gpu_helpers = [\"a/watcher\"]".to_owned(),
    ] {
        let text = format!("name = \"x\"\nextends = \"near\"\ndate = \"2026-11-22\"\n{line}\n");
        let policy = Policy::from_toml(&text).unwrap();
        let written = policy.to_toml();
        let again = Policy::from_toml(&written).unwrap();
        assert_eq!(again.digest(), policy.digest(), "{written}");
        assert_eq!(
            line.is_empty(),
            policy.digest() == Policy::near().digest(),
            "{line}"
        );
    }
}

/// Each rule changes the digest, so that no verdict is taken for another's.
#[test]
fn every_rule_counts_in_the_digest() {
    let lines = [
        "",
        "gpu.protected_pcie = \"report\"",
        "gpu.mode = \"off\"",
        "gpu.count = 7",
        "gpu.devices = [\"0101010101010101\"]",
        "deployment.mode = \"if-present\"",
        "deployment.mode = \"off\"",
        "deployment.tags = \"any\"",
        "deployment.tags = \"report\"",
        "deployment.files = \"report\"",
        "deployment.sources = \"required\"",
        "deployment.sources = \"required\"\nleast.deployment = \"tagged\"",
        "deployment.commits = [\"0101010101010101010101010101010101010101\"]",
    ];
    let digests: std::collections::BTreeSet<_> = lines
        .iter()
        .map(|more| policy_with(more).digest())
        .collect();
    assert_eq!(digests.len(), lines.len());
}

/// Whatever a later manager learns to do is not taken for nothing.
#[test]
fn unknown_actions_are_told_and_known_ones_are_not() {
    let findings = |names: &[&str]| {
        let mut spec = spec();
        manager(&mut spec)
            .actions
            .extend(names.iter().map(|name| action(NOW, name, &[])));
        let appraisal = judge(&spec);
        assert_eq!(code(&appraisal), "verified");
        let all = appraisal.report.findings.into_iter();
        all.filter(|finding| finding.topic == "deployment_unknown_action")
            .map(|finding| (finding.severity, finding.detail))
            .collect::<Vec<_>>()
    };
    for known in [
        "compose_stage",
        "docker_restart",
        "docker_evict",
        "docker_clean",
        "dstack_agent_start",
        "dstack_agent_stop",
        "dstack_agent_restart",
        "kernel_algif_blacklist_ok",
        "kernel_algif_blacklist_script_failed",
        "kernel_algif_blacklist_invocation_failed",
    ] {
        assert_eq!(findings(&[known]), [], "{known}");
    }
    let told = findings(&["swarm_up", "docker_restart", "swarm_up", "a\u{202e}b\n"]);
    let detail = "the deployment log has actions that this version does not know, so what they started is not listed: a\\u{202e}b\\u{a}, swarm_up";
    assert_eq!(told, [(Severity::Warning, detail.to_owned())]);
    // However many there are.
    let names: Vec<_> = (0..1000).map(|number| format!("action-{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let told = findings(&names);
    assert!(
        told[0].1.ends_with(", 988 more") && told.len() == 1,
        "{told:?}"
    );
}
