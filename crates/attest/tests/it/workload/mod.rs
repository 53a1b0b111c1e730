//! What a policy says of GPUs and deployments, and what the report says of them.

mod deployment;
mod gpus;
mod policies;

use attest::{Appraisal, CheckId, GpuLevel, HistoryCheck, Policy, Status};
use fake_tee::Spec;

use crate::support::{
    Beside, challenge, code, detail, judge, judge_beside, manager, policy_with, spec, spec_with,
    status, whole_policy_text,
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
    for (name, value) in [("gpus_signed", "8"), ("gpu_switches", "4")] {
        let fact = report.facts.iter().find(|fact| fact.name == name).unwrap();
        assert_eq!(fact.value, value);
    }
    let shape = format!(
        "GH100 with driver {} and VBIOS {}, Protected PCIe {}, on one baseboard (4 switches)",
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
