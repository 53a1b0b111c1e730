//! What a policy says of GPUs and deployments, and what the report says of them.

use attest::{Appraisal, CheckId, LogCheck, Logs, Policy, Severity, Status};
use fake_tee::Spec;
use fake_tee::deployment::{action, compose_up};
use serde_json::{Value, json};

use crate::support::{Beside, NONCE, NOW, challenge, code, judge, judge_beside, policy_with, spec};

/// The policy of the valid machine, and some lines more.
fn policy(more: &str) -> Policy {
    policy_with(more)
}

fn judge_by(spec: &Spec, policy: &Policy, logs: LogCheck<'_>) -> Appraisal {
    let built = spec.forge(&challenge()).unwrap();
    let beside = Beside {
        logs,
        ..Beside::default()
    };
    judge_beside(&built, policy, beside)
}

/// The verdict under the machine's policy and some lines more.
fn judged(change: impl FnOnce(&mut Spec), more: &str) -> Appraisal {
    let mut spec = spec();
    change(&mut spec);
    judge_by(&spec, &policy(more), LogCheck::NotKept("a test"))
}

fn status(appraisal: &Appraisal, check: CheckId) -> Status {
    appraisal.report.check(check).unwrap().status
}

fn detail(appraisal: &Appraisal, check: CheckId) -> &str {
    &appraisal.report.check(check).unwrap().detail
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
        let actions = &mut spec.compose_manager.as_mut().unwrap().actions;
        actions.push(compose_up(NOW - 60, "v0.0.3", &[]));
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
    let bad_log = |spec: &mut Spec| spec.compose_manager.as_mut().unwrap().nonce = Some([1; 32]);
    type Change = fn(&mut Spec);
    let rows: [(Change, &str, &str, &[CheckId]); 12] = [
        (no_gpus, "", "rejected_gpu_missing", &[]),
        (
            no_gpus,
            "gpu.mode = \"if-present\"",
            "verified",
            &GPU_CHECKS,
        ),
        (no_gpus, "gpu.mode = \"off\"", "verified", &GPU_CHECKS),
        (bad_gpus, "", "evidence_gpu_payload", &[]),
        (
            bad_gpus,
            "gpu.mode = \"if-present\"",
            "evidence_gpu_payload",
            &[],
        ),
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
    // One id without a table: not compared, so not passed.
    let one = table(&driver, &indices, None);
    let appraisal = judged(|_| (), &one);
    assert_eq!(code(&appraisal), "verified");
    assert_eq!(
        status(&appraisal, CheckId::GpuMeasurements),
        Status::NotProved
    );
    let said = detail(&appraisal, CheckId::GpuMeasurements);
    assert!(said.contains(&vbios) && !said.contains(&driver), "{said}");
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
    assert_eq!(code(&judged(|_| (), &(one + &other))), "verified");
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
        let actions = &mut spec.compose_manager.as_mut().unwrap().actions;
        actions.push(compose_up(NOW - 60, "main", &[]));
    };
    assert_eq!(
        code(&judged(branch, "deployment.tags = \"any\"")),
        "verified"
    );
}

#[test]
fn a_log_is_held_against_the_one_last_seen() {
    let by_log = |spec: &Spec, logs: &Logs| {
        let appraisal = judge_by(spec, &policy(""), LogCheck::Kept(logs));
        assert_eq!(code(&appraisal), "verified");
        let check = appraisal
            .report
            .check(CheckId::DeploymentContinuity)
            .unwrap();
        (
            check.status,
            check.detail.clone(),
            appraisal.log_seen.unwrap(),
        )
    };
    let before = spec();
    let mut after = spec();
    let actions = &mut after.compose_manager.as_mut().unwrap().actions;
    actions.push(compose_up(NOW - 60, "v0.0.3", &[]));

    let mut logs = Logs::default();
    let (status, detail, seen) = by_log(&before, &logs);
    assert_eq!(status, Status::NotProved);
    assert!(detail.contains("not seen before"), "{detail}");
    assert!(logs.remember(&seen));
    assert!(!logs.remember(&seen), "nothing changed");
    let mut logs = Logs::from_json(logs.to_json().as_bytes()).unwrap();

    assert_eq!(by_log(&before, &logs).0, Status::Pass);
    let (status, detail, seen) = by_log(&after, &logs);
    assert_eq!(status, Status::Pass);
    assert!(detail.contains("1 actions since"), "{detail}");
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
    let empty = |spec: &mut Spec| spec.compose_manager.as_mut().unwrap().actions.clear();
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
    let logs = Logs::from_json(text.as_bytes()).unwrap();
    assert_eq!(Logs::from_json(logs.to_json().as_bytes()), Ok(logs));
}

#[test]
fn nothing_is_remembered_of_a_refused_machine() {
    let mut spec = spec();
    spec.gpus = None;
    let logs = Logs::default();
    let appraisal = judge_by(&spec, &policy(""), LogCheck::Kept(&logs));
    assert_eq!(code(&appraisal), "rejected_gpu_missing");
    assert_eq!(appraisal.log_seen, None);
}

#[test]
fn a_policy_says_what_it_does_not_look_at() {
    let whole = "name = \"x\"\ndate = \"2026-11-22\"\nsoftware = \"any\"\ntcb.accept = [\"UpToDate\"]\ntd.attributes = [\"0000001000000000\"]\ntd.xfam = [\"e702060000000000\"]\n";
    for (more, error) in [
        ("", "deployment.mode = \"off\""),
        (
            "deployment.mode = \"required\"\n",
            "deployment.mode = \"off\"",
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
    ] {
        match Policy::from_toml(&format!("{whole}{more}")) {
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
        assert!(own.contains(&format!("{role} = []\n")), "{role}: {own}");
    }
    // What a policy of its own leaves out is required.
    let text = Policy::near().to_toml();
    for line in [
        "[gpu]\nmode = \"required\"\ncount = 8",
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
        format!("deployment = {{ images = [\"sha256:{digest}\"], sources = \"required\" }}"),
        "deployment.tags = \"report\"".to_owned(),
        "deployment.files = \"report\"".to_owned(),
        "deployment.managers = [\"a/manager\"]".to_owned(),
        "deployment = { least = \"tagged\", managers = [\"a/manager\"], sources = \"required\" }"
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
        assert_eq!(again, policy, "{written}");
        assert_eq!(line.is_empty(), policy.digest() == Policy::near().digest());
    }
}

/// Each rule changes the digest, so that no verdict is taken for another's.
#[test]
fn every_rule_counts_in_the_digest() {
    let lines = [
        "",
        "gpu.mode = \"if-present\"",
        "gpu.mode = \"off\"",
        "gpu.count = 7",
        "gpu.devices = [\"0101010101010101\"]",
        "deployment.mode = \"if-present\"",
        "deployment.mode = \"off\"",
        "deployment.tags = \"any\"",
        "deployment.tags = \"report\"",
        "deployment.files = \"report\"",
        "deployment.sources = \"required\"",
        "deployment.sources = \"required\"\ndeployment.least = \"tagged\"",
        "deployment.commits = [\"0101010101010101010101010101010101010101\"]",
    ];
    let digests: std::collections::BTreeSet<_> =
        lines.iter().map(|more| policy(more).digest()).collect();
    assert_eq!(digests.len(), lines.len());
}

/// Whatever a later manager learns to do is not taken for nothing.
#[test]
fn unknown_actions_are_told_and_known_ones_are_not() {
    let findings = |names: &[&str]| {
        let mut spec = spec();
        let log = &mut spec.compose_manager.as_mut().unwrap().actions;
        log.extend(names.iter().map(|name| action(NOW, name, &[])));
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
    let detail = "the deployment log has actions that are not known here; what they started is not in the list: a\\u{202e}b\\u{a}, swarm_up";
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
