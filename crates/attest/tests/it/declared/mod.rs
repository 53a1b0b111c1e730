//! What a log is worth: `tagged`, or `declared` and why.

mod boots;
mod changes;
mod demands;
mod limits;

use attest::{Appraisal, CheckId, DeploymentLevel, HistoryCheck, Severity};
use fake_tee::Spec;

use crate::support::{
    Beside, challenge, code, detail, judge_beside, judge_with_sources, policy_with, spec,
};

/// What is no release, and files that break a rule, are reported.
const REPORT: &str = "deployment.tags = \"report\"\ndeployment.files = \"report\"\n";

const HOUR: u64 = 3600;

fn judged(spec: &Spec, more: &str) -> Appraisal {
    judge_with_sources(spec, &policy_with(more), HistoryCheck::NotKept("a test"))
}

fn level(appraisal: &Appraisal) -> DeploymentLevel {
    appraisal.report.deployment.as_ref().unwrap().level
}

fn reasons(appraisal: &Appraisal) -> String {
    let shown = appraisal.report.deployment.as_ref().unwrap();
    shown.not_tagged.join(" | ")
}

fn finding(appraisal: &Appraisal, topic: &str) -> Option<(Severity, String)> {
    let mut findings = appraisal.report.findings.iter();
    let found = findings.find(|finding| finding.topic == topic)?;
    Some((found.severity, found.detail.clone()))
}

/// A helper with nothing.
const HARMLESS: &str = "services:\n  idle:\n    image: busybox\n";

#[test]
fn the_untampered_machine_is_tagged() {
    for more in ["", REPORT] {
        let appraisal = judged(&spec(), more);
        assert_eq!(code(&appraisal), "verified");
        assert_eq!(
            level(&appraisal),
            DeploymentLevel::Tagged,
            "{}",
            reasons(&appraisal)
        );
        let detail = detail(&appraisal, CheckId::Deployment);
        assert!(detail.ends_with("with our nonce; tagged"), "{detail}");
    }
}

/// Nothing speaks against the machine: what is not at hand is asked for, and refuses last.
#[test]
fn without_sources_a_machine_is_declared() {
    let built = spec().forge(&challenge()).unwrap();
    let bare = |more: &str| judge_beside(&built, &policy_with(more), Beside::default());
    let appraisal = bare("");
    assert_eq!(code(&appraisal), "verified");
    assert_eq!(level(&appraisal), DeploymentLevel::Declared);
    assert_eq!(
        reasons(&appraisal),
        "tags were not compared: a test | no file was read: a test"
    );
    let tagged = "least.deployment = \"tagged\"\ndeployment.sources = \"required\"\n";
    assert_eq!(code(&bare(tagged)), "deployment_tags_unavailable");
    assert!(bare(tagged).tags_wanted());

    let any = judged(&spec(), "deployment.tags = \"any\"\n");
    assert_eq!(level(&any), DeploymentLevel::Declared);
    assert!(
        reasons(&any).contains("the policy admits any"),
        "{}",
        reasons(&any)
    );
}
