//! The deployment log: what is up, its history, and actions that nobody knows.

use attest::{CheckId, History, HistoryCheck, Severity, Status};
use fake_tee::Spec;
use fake_tee::deployment::{action, compose_up};
use serde_json::json;

use super::{judge_by, judged};
use crate::support::{NOW, code, judge, manager, policy_with, spec, status};

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
