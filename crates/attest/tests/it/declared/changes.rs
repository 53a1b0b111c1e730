//! One change to a log: those that leave it `tagged`, and those that do not.

use attest::{CheckId, DeploymentLevel, Severity, Status};
use fake_tee::Spec;
use fake_tee::compose_file::{commit, compose_text};
use fake_tee::deployment::{action, compose_up, manager_of};
use serde_json::json;

use super::{HARMLESS, HOUR, REPORT, finding, judged, level, reasons};
use crate::support::{NOW, WITH_SOCKET, code, detail, manager, spec_with, status};

/// An action at a time to the microsecond.
fn at(
    time: &str,
    mut action: Vec<(String, serde_json::Value)>,
) -> Vec<(String, serde_json::Value)> {
    action[0].1 = json!(time);
    action
}

/// What an honest machine may do on an ordinary day.
#[test]
fn honest_changes_leave_it_tagged() {
    type Change = fn(&mut Spec);
    type Told = Option<(&'static str, Severity)>;
    let changes: [(&str, Change, Told); 12] = [
        (
            "another release",
            |s| {
                manager(s).publish("v0.0.3", &compose_text("v0.0.3"));
                manager(s).actions.push(compose_up(NOW - 60, "v0.0.3", &[]));
            },
            None,
        ),
        (
            "a newer manager of the same origin",
            |s| {
                let image = format!("fake/compose-manager@sha256:{}", "ab".repeat(32));
                manager(s).actions.push(manager_of(NOW - 60, &image));
            },
            None,
        ),
        (
            "a start that its file lets fail",
            |s| {
                manager(s)
                    .actions
                    .push(compose_up(NOW - 60, "v0.0.2", &["nobody"]));
            },
            None,
        ),
        (
            "a clock set back by a microsecond",
            |s| {
                for (time, service) in [
                    ("2026-11-22T11:00:00.000002Z", "proxy"),
                    ("2026-11-22T11:00:00.000001Z", "engine"),
                ] {
                    manager(s)
                        .actions
                        .push(at(time, compose_up(NOW, "v0.0.2", &[service])));
                }
            },
            Some(("deployment_time", Severity::Notice)),
        ),
        (
            "a clock set back by an hour",
            |s| {
                manager(s)
                    .actions
                    .push(compose_up(NOW - 49 * HOUR, "v0.0.2", &[]));
            },
            Some(("deployment_time", Severity::Warning)),
        ),
        (
            "an action five minutes ahead",
            |s| {
                manager(s)
                    .actions
                    .push(compose_up(NOW + 300, "v0.0.2", &[]));
            },
            None,
        ),
        (
            "an action further ahead",
            |s| {
                manager(s)
                    .actions
                    .push(compose_up(NOW + 301, "v0.0.2", &[]));
            },
            Some(("deployment_time", Severity::Warning)),
        ),
        (
            "another memory size beside the quote",
            |s| {
                s.hooks.report.push(|report| {
                    let block = &mut report["compose_manager_attestation"];
                    let text = block["vm_config"].as_str().unwrap();
                    block["vm_config"] = text.replace("memory_size\":1", "memory_size\":2").into();
                });
            },
            Some(("deployment_copy", Severity::Warning)),
        ),
        (
            "report data that cannot be read",
            |s| {
                s.hooks.report.push(|report| {
                    report["compose_manager_attestation"]["report_data"] = json!([1])
                });
            },
            Some(("deployment_copy", Severity::Warning)),
        ),
        (
            "no copies at all",
            |s| {
                s.hooks.report.push(|report| {
                    let block = report["compose_manager_attestation"]
                        .as_object_mut()
                        .unwrap();
                    for field in ["report_data", "event_log", "vm_config"] {
                        block.remove(field).unwrap();
                    }
                });
            },
            None,
        ),
        (
            "an experiment that ended before this boot",
            |s| {
                manager(s).experiment(NOW - 24 * HOUR, WITH_SOCKET);
                manager(s).experiment_ends(NOW - 20 * HOUR);
                s.app.boot_time = NOW - 10 * HOUR;
            },
            Some(("deployment_before_boot", Severity::Notice)),
        ),
        (
            "an agent that was started anew before this boot",
            |s| {
                manager(s)
                    .actions
                    .push(action(NOW - 20 * HOUR, "dstack_agent_restart", &[]));
                s.app.boot_time = NOW - 10 * HOUR;
            },
            None,
        ),
    ];
    for (what, change, told) in changes {
        let appraisal = judged(&spec_with(change), REPORT);
        assert_eq!(code(&appraisal), "verified", "{what}");
        assert_eq!(
            level(&appraisal),
            DeploymentLevel::Tagged,
            "{what}: {}",
            reasons(&appraisal)
        );
        if let Some((topic, severity)) = told {
            let found = finding(&appraisal, topic);
            assert_eq!(
                found.map(|(severity, _)| severity),
                Some(severity),
                "{what}"
            );
        }
    }
}

/// Each leaves `declared`, tells why, and refuses nothing where the policy reports.
#[test]
fn what_is_not_all_known_or_no_release_is_declared() {
    type Change = fn(&mut Spec);
    type Row = (&'static str, Change, CheckId, &'static str, &'static str);
    let rows: [Row; 20] = [
        (
            "an experiment",
            |s| manager(s).experiment(NOW - 60, HARMLESS),
            CheckId::DeploymentTags,
            "an untagged file ran on 2026-11-22 (experiments/x.yaml)",
            "deployment_untagged",
        ),
        (
            "an experiment with Docker's socket, long over",
            |s| {
                manager(s).experiment(NOW - 40 * HOUR, WITH_SOCKET);
                manager(s).experiment_ends(NOW - 39 * HOUR);
            },
            CheckId::DeploymentTags,
            "an untagged file with access to keys ran on 2026-11-20 (experiments/x.yaml)",
            "deployment_untagged",
        ),
        (
            "an experiment whose file is gone",
            |s| {
                manager(s).experiment(NOW - 60, HARMLESS);
                manager(s).files.pop();
            },
            CheckId::DeploymentTags,
            "an untagged file that was not read ran on",
            "deployment_untagged",
        ),
        (
            "a branch",
            |s| manager(s).actions.push(compose_up(NOW - 60, "main", &[])),
            CheckId::DeploymentTags,
            "ran on 2026-11-22 (fake.yaml)",
            "deployment_untagged",
        ),
        (
            "a release that nobody published",
            |s| {
                manager(s)
                    .tags
                    .push(|tags| tags.retain(|tag| tag.name != "v0.0.1"))
            },
            CheckId::DeploymentTags,
            "an untagged file with access to keys",
            "deployment_untagged",
        ),
        (
            "a release at another commit",
            |s| {
                manager(s)
                    .tags
                    .push(|tags| tags[1].commit = commit("v0.0.3"))
            },
            CheckId::DeploymentTags,
            "an untagged file with access to keys",
            "deployment_untagged",
        ),
        (
            "a release with Docker's socket",
            |s| manager(s).publish("v0.0.1", WITH_SOCKET),
            CheckId::DeploymentFiles,
            "a file that breaks a rule with access to keys ran on 2026-11-19 (fake.yaml): rejected_compose_docker_socket",
            "deployment_file",
        ),
        (
            "a release that cannot be judged",
            |s| {
                manager(s).publish(
                    "v0.0.1",
                    "services: {x: {image: nginx, use_api_socket: true}}",
                )
            },
            CheckId::DeploymentFiles,
            "a file that breaks a rule that was not read ran",
            "deployment_file",
        ),
        (
            "a file that is not at hand",
            |s| {
                manager(s).files.remove(0);
            },
            CheckId::DeploymentFiles,
            "1 of 2 files were not fetched",
            "",
        ),
        (
            "an action that nobody knows",
            |s| {
                let run = action(
                    NOW - 60,
                    "docker_run",
                    &[("image", "evil/backdoor:latest".into())],
                );
                manager(s).actions.push(run);
            },
            CheckId::DeploymentRules,
            "actions that this version does not know: docker_run",
            "deployment_unknown_action",
        ),
        (
            "a manager of another origin",
            |s| {
                manager(s)
                    .actions
                    .push(manager_of(NOW - 60, "evil/compose-manager:latest"))
            },
            CheckId::DeploymentRules,
            "the manager \"evil/compose-manager:latest\" is of no repository that the policy names",
            "deployment_manager",
        ),
        (
            "a manager of that name elsewhere",
            |s| {
                let image = format!("ghcr.io/fake/compose-manager@sha256:{}", "ab".repeat(32));
                manager(s).actions.push(manager_of(NOW - 60, &image));
            },
            CheckId::DeploymentRules,
            "is of no repository",
            "deployment_manager",
        ),
        (
            "a manager by its tag",
            |s| {
                manager(s)
                    .actions
                    .push(manager_of(NOW - 60, "fake/compose-manager:v1"))
            },
            CheckId::DeploymentRules,
            "has no digest",
            "deployment_manager",
        ),
        (
            "a manager that is no image",
            |s| {
                manager(s)
                    .actions
                    .push(manager_of(NOW - 60, "fake/compose-manager@sha256:00"))
            },
            CheckId::DeploymentRules,
            "has no digest",
            "deployment_manager",
        ),
        (
            "two contents of one commit",
            |s| {
                let mut again = compose_up(NOW - 60, "v0.0.2", &[]);
                again[5].1 = "00".repeat(32).into();
                manager(s).actions.push(again);
            },
            CheckId::DeploymentRules,
            "the log contradicts itself: \"fake.yaml\" at the commit",
            "deployment_contradiction",
        ),
        (
            "a log that begins late",
            |s| s.app.boot_time = NOW - 73 * HOUR - 1,
            CheckId::DeploymentRules,
            "the log does not show what started in between",
            "",
        ),
        (
            "a guest agent that was started anew",
            |s| {
                manager(s)
                    .actions
                    .push(action(NOW - 3 * HOUR, "dstack_agent_restart", &[]));
                s.app.boot_time = NOW - 3 * HOUR + 5;
            },
            CheckId::DeploymentRules,
            "the guest agent was started anew on 2026-11-22T09:00:00Z",
            "",
        ),
        (
            "an experiment that Docker started again",
            |s| {
                manager(s).experiment(NOW - 24 * HOUR, HARMLESS);
                s.app.boot_time = NOW - 10 * HOUR;
            },
            CheckId::DeploymentTags,
            "ran on 2026-11-21",
            "deployment_untagged",
        ),
        (
            "a manager from before this boot",
            |s| {
                manager(s)
                    .actions
                    .push(manager_of(NOW - 24 * HOUR, "evil/compose-manager:latest"));
                s.app.boot_time = NOW - 10 * HOUR;
            },
            CheckId::DeploymentRules,
            "is of no repository",
            "deployment_manager",
        ),
        (
            "an experiment behind a clock that was set back",
            |s| {
                manager(s).actions.truncate(2);
                manager(s).experiment(NOW - 100 * HOUR, HARMLESS);
                manager(s).experiment_ends(NOW - 99 * HOUR);
                s.app.boot_time = NOW - 10 * HOUR;
            },
            CheckId::DeploymentTags,
            "ran on 2026-11-18",
            "deployment_untagged",
        ),
    ];
    for (what, change, check, reason, topic) in rows {
        let spec = spec_with(change);
        let appraisal = judged(&spec, REPORT);
        assert_eq!(code(&appraisal), "verified", "{what}");
        assert_eq!(level(&appraisal), DeploymentLevel::Declared, "{what}");
        let why = reasons(&appraisal);
        assert!(why.contains(reason), "{what}: {why}");
        assert_eq!(status(&appraisal, check), Status::NotProved, "{what}");
        assert_eq!(
            status(&appraisal, CheckId::Deployment),
            Status::Pass,
            "{what}"
        );
        let shown = detail(&appraisal, CheckId::Deployment);
        assert!(shown.contains("; declared: "), "{what}: {shown}");
        assert!(
            topic.is_empty() || finding(&appraisal, topic).is_some(),
            "{what}"
        );

        // Who asks for more refuses the same.
        let tagged = "least.deployment = \"tagged\"\ndeployment.sources = \"required\"\n";
        let refused = judged(&spec, &format!("{REPORT}{tagged}"));
        let expected = match reason {
            "1 of 2 files were not fetched" => "deployment_files_unavailable",
            _ => "rejected_deployment_level",
        };
        assert_eq!(code(&refused), expected, "{what}");
        // Its files are fetched: they may raise the level.
        assert!(refused.deployment().is_some(), "{what}");
    }
}
