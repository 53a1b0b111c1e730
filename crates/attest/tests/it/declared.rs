//! What a log is worth: `tagged`, or `declared` and why.

use attest::{
    Appraisal, ChangeKind, CheckId, DeploymentLevel, History, HistoryCheck, Severity, Status,
};
use fake_tee::Spec;
use fake_tee::compose_file::{commit, compose_text};
use fake_tee::deployment::{action, compose_up, manager_of, manager_started};
use serde_json::json;

use crate::support::{
    Beside, NOW, WITH_SOCKET, challenge, code, cpu_time, detail, judge_beside, judge_with,
    judge_with_sources, manager, policy_of_the_machine_alone, policy_text, policy_with, spec,
    spec_with, status,
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

/// An action at a time to the microsecond.
fn at(
    time: &str,
    mut action: Vec<(String, serde_json::Value)>,
) -> Vec<(String, serde_json::Value)> {
    action[0].1 = json!(time);
    action
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
        // For it, nothing is fetched.
        assert_eq!(
            refused.deployment().is_some(),
            expected != "rejected_deployment_level"
        );
    }
}

/// A restart takes rights away, but nothing that was up: where it was stopped before, the
/// machine is `tagged` again.
#[test]
fn what_ran_counts_until_the_machine_boots_anew() {
    let log = |ended: Option<u64>, booted: u64| {
        judged(
            &spec_with(|s| {
                manager(s).experiment(NOW - 40 * HOUR, WITH_SOCKET);
                if let Some(ended) = ended {
                    manager(s).experiment_ends(ended);
                }
                manager(s)
                    .actions
                    .push(compose_up(NOW - 2 * HOUR, "v0.0.2", &[]));
                s.app.boot_time = booted;
            }),
            REPORT,
        )
    };
    let boot = spec().app.boot_time;
    let ended = Some(NOW - 39 * HOUR);
    assert_eq!(level(&log(None, boot)), DeploymentLevel::Declared);
    assert_eq!(level(&log(ended, boot)), DeploymentLevel::Declared);
    let after = log(ended, NOW - 10 * HOUR);
    assert_eq!(
        level(&after),
        DeploymentLevel::Tagged,
        "{}",
        reasons(&after)
    );
    assert_eq!(
        level(&log(None, NOW - 10 * HOUR)),
        DeploymentLevel::Declared
    );
    // Within the slack of the clocks it may have been this boot.
    let end = NOW - 39 * HOUR;
    assert_eq!(level(&log(ended, end + 301)), DeploymentLevel::Tagged);
    assert_eq!(
        level(&log(ended, NOW - 40 * HOUR + 300)),
        DeploymentLevel::Declared
    );

    let shown = after.report.deployment.unwrap();
    assert_eq!(shown.before_boot, 6);
    let files: Vec<_> = shown
        .files
        .iter()
        .map(|file| (file.tag.as_str(), file.release, file.since_boot))
        .collect();
    assert_eq!(
        files,
        [
            ("v0.0.1", "release", true),
            ("v0.0.2", "release", true),
            ("try-x", "no release", false)
        ]
    );
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

/// A policy that says nothing of it refuses as before, also for what is long over.
#[test]
fn a_refusing_policy_refuses_at_any_time_of_the_log() {
    type Change = fn(&mut Spec);
    let rows: [(Change, &str); 3] = [
        (
            |s| manager(s).experiment(NOW - 24 * HOUR, HARMLESS),
            "rejected_deployment_tag",
        ),
        (
            |s| manager(s).tags.push(|tags| tags[0].commit = commit("x")),
            "rejected_deployment_tag_moved",
        ),
        (
            |s| manager(s).publish("v0.0.1", WITH_SOCKET),
            "rejected_compose_docker_socket",
        ),
    ];
    for (change, expected) in rows {
        let spec = spec_with(|s| {
            change(s);
            manager(s).experiment_ends(NOW - 20 * HOUR);
            manager(s)
                .actions
                .push(compose_up(NOW - 2 * HOUR, "v0.0.2", &[]));
            s.app.boot_time = NOW - 10 * HOUR;
        });
        assert_eq!(code(&judged(&spec, "")), expected);
        assert_eq!(code(&judged(&spec, REPORT)), "verified");
    }
}

/// What a log that is gone had started since this boot, nobody knows any more.
#[test]
fn a_log_that_does_not_go_on_is_declared_until_the_machine_boots_anew() {
    let long = spec_with(|s| manager(s).actions.push(compose_up(NOW - 60, "v0.0.2", &[])));
    let mut logs = History::default();
    let mut step = |spec: &Spec| {
        let appraisal = judge_with_sources(spec, &policy_with(REPORT), HistoryCheck::Kept(&logs));
        assert_eq!(code(&appraisal), "verified");
        logs.remember(appraisal.sighting.as_ref().unwrap());
        logs = History::from_json(logs.to_json().as_bytes()).unwrap();
        // The domain itself falls to "declared" with its log; that is another change.
        let changes = appraisal.report.changes.iter();
        let of_log = changes.filter(|change| change.kind == ChangeKind::DeploymentLog);
        let of_log: Vec<_> = of_log.map(|change| change.detail.clone()).collect();
        (level(&appraisal), of_log)
    };
    let (tagged, declared) = (DeploymentLevel::Tagged, DeploymentLevel::Declared);
    assert_eq!(step(&spec()), (tagged, vec![]));
    let (got, changes) = step(&long);
    assert_eq!(got, tagged);
    assert_eq!(
        changes,
        [
            "1 more action in the deployment log",
            "started fake.yaml from the tag v0.0.2"
        ]
    );
    assert_eq!(step(&long), (tagged, vec![]));
    // An earlier state of the same log, and then nothing new.
    let (got, changes) = step(&spec());
    assert_eq!(got, declared);
    assert!(changes[0].starts_with("log reset"), "{changes:?}");
    assert_eq!(step(&spec()), (declared, vec![]));
    // A disk that was lost with a restart.
    let anew = spec_with(|s| {
        s.app.boot_time = NOW - 10 * HOUR;
        manager(s).actions = vec![
            manager_started(NOW - 9 * HOUR),
            compose_up(NOW - 8 * HOUR, "v0.0.2", &[]),
        ];
    });
    let (got, changes) = step(&anew);
    assert_eq!(got, tagged);
    assert!(changes[0].starts_with("log reset"), "{changes:?}");
    assert_eq!(step(&anew), (tagged, vec![]));
    let other = spec_with(|s| {
        s.app.boot_time = NOW - 10 * HOUR;
        let image = format!("fake/compose-manager@sha256:{}", "ab".repeat(32));
        manager(s).actions = vec![
            manager_started(NOW - 9 * HOUR),
            compose_up(NOW - 8 * HOUR, "v0.0.2", &[]),
            manager_of(NOW - 60, &image),
        ];
    });
    let (got, changes) = step(&other);
    assert_eq!(got, tagged);
    assert!(
        changes[1].starts_with("the manager is now fake/compose-manager@sha256:abab"),
        "{changes:?}"
    );
}

#[test]
fn a_demand_whose_evidence_may_be_left_out_is_no_policy() {
    let images = format!("deployment.images = [\"sha256:{}\"]\n", "ab".repeat(32));
    let commits = format!("deployment.commits = [\"{}\"]\n", "01".repeat(20));
    let optional = "deployment.mode = \"if-present\"\n";
    let required = "deployment.sources = \"required\"\n";
    let tagged = "least.deployment = \"tagged\"\n";
    for (text, error) in [
        (images.clone(), "expected deployment.sources = \"required\""),
        (images.clone() + required, ""),
        (
            format!("{images}{required}{REPORT}"),
            "expected deployment.files = \"refuse\"",
        ),
        (format!("{images}{required}{REPORT}{tagged}"), ""),
        (images + optional, "expected deployment.mode = \"required\""),
        (commits.clone(), ""),
        (
            commits + optional,
            "expected deployment.mode = \"required\"",
        ),
        (
            format!("{required}{optional}"),
            "expected deployment.mode = \"required\"",
        ),
        (
            tagged.to_owned(),
            "expected deployment.sources = \"required\"",
        ),
        (format!("{tagged}{required}"), ""),
        (format!("{tagged}{required}{REPORT}"), ""),
        (
            format!("{tagged}{required}{optional}"),
            "expected deployment.mode = \"required\"",
        ),
        (
            format!("{tagged}{required}deployment.tags = \"any\"\n"),
            "no machine can reach least.deployment",
        ),
        (
            format!("least.deployment = \"declared\"\n{optional}"),
            "contradict each other",
        ),
        ("least.deployment = \"none\"\n".to_owned(), ""),
        (
            "least.deployment = \"best\"\n".to_owned(),
            "unknown variant",
        ),
        ("deployment.files = \"any\"\n".to_owned(), "unknown variant"),
        (
            "deployment.managers = [\"x:latest\"]\n".to_owned(),
            "duplicate key",
        ),
    ] {
        let read = attest::Policy::from_toml(&policy_text(&text));
        match read {
            Ok(_) => assert_eq!(error, "", "{text}"),
            Err(got) => assert!(
                !error.is_empty() && got.to_string().contains(error),
                "{text}: {got}"
            ),
        }
    }
}

/// A file that breaks a rule has the same findings as one that keeps it.
#[test]
fn what_a_file_says_is_found_whether_or_not_it_breaks_a_rule() {
    let file = |image: &str, more: &str| {
        format!(
            "services:\n  rotate:\n    image: {image}\n    logging: {{ driver: syslog }}\n{more}"
        )
    };
    let socket = "    volumes: [\"/var/run/docker.sock:/var/run/docker.sock\"]\n";
    let refuse = "deployment.sources = \"required\"\nfindings.refuse = [\"compose_log_driver\"]\n";
    for (file, topics, refused) in [
        (
            file("busybox", ""),
            &["compose_log_driver"][..],
            "rejected_finding",
        ),
        (
            file("busybox", socket),
            &["compose_log_driver", "deployment_file"],
            "rejected_compose_docker_socket",
        ),
        (
            file("${X:-busybox}", ""),
            &[
                "compose_image_variable",
                "compose_log_driver",
                "deployment_file",
            ],
            "rejected_compose_not_pinned",
        ),
    ] {
        let up = spec_with(|s| {
            manager(s).actions.push(compose_up(NOW - 60, "v0.0.3", &[]));
            manager(s).publish("v0.0.3", &file);
        });
        let appraisal = judged(&up, REPORT);
        assert_eq!(code(&appraisal), "verified", "{file}");
        for topic in topics {
            assert!(finding(&appraisal, topic).is_some(), "{topic}: {file}");
        }
        assert_eq!(code(&judged(&up, refuse)), refused, "{file}");
    }
}

/// As many as a person reads, and how many more there are.
#[test]
fn many_experiments_are_told_in_few_lines() {
    let spec = spec_with(|s| {
        for number in 0..300 {
            let tag = format!("try-{number}");
            manager(s).actions.push(compose_up(NOW - 60, &tag, &[]));
        }
    });
    let appraisal = judged(&spec, REPORT);
    let findings = &appraisal.report.findings;
    let untagged = findings
        .iter()
        .filter(|finding| finding.topic == "deployment_untagged");
    let details: Vec<_> = untagged.map(|finding| finding.detail.as_str()).collect();
    assert_eq!(details.len(), 21);
    assert_eq!(details[20], "and 280 more of this kind");
    let shown = appraisal.report.deployment.as_ref().unwrap();
    assert_eq!(
        (
            shown.not_tagged.len(),
            shown.files.len(),
            shown.files_left_out
        ),
        (20, 200, 102)
    );
}

/// The costliest texts that a report has room for: nested as deep as they may be, and
/// full of escapes.
#[test]
fn hostile_actions_cost_less_than_three_quotes() {
    let time = |built: &fake_tee::Built, policy: &attest::Policy, expected: &str| {
        let before = cpu_time();
        let judged = judge_with(built, policy, attest::FloorCheck::NotKept("a test"));
        let took = cpu_time() - before;
        assert_eq!(code(&judged), expected);
        took
    };
    let alone = policy_of_the_machine_alone();
    let both = policy_with("gpu.mode = \"off\"\n");
    let plain = spec().forge(&challenge()).unwrap();
    // Cryptography is fast in every build; serde's walk over escapes is not.
    let most = if cfg!(debug_assertions) { 8 } else { 3 };
    for (escape, count, expected) in [
        ("\\u0041", 280_000, "evidence_deployment_bad_field"),
        ("\\\"", 850_000, "evidence_deployment_bad_field"),
        // The most that is read, and one text more.
        ("\\u0041", 10_922, "verified"),
        ("\\u0041", 10_923, "evidence_deployment_bad_field"),
    ] {
        let text = escape.repeat(count);
        let hostile = spec_with(|s| {
            let escaped = format!("\"{text}\"");
            let plain: String = serde_json::from_str(&escaped).unwrap();
            let nested = json!([[[[plain]]]]);
            manager(s).actions[0].push(("x".to_owned(), nested));
            let spelled = json!(plain).to_string();
            s.hooks.report_bytes.push(move |bytes| {
                let report = String::from_utf8(bytes.clone()).unwrap();
                let report = report.replacen(&spelled, &escaped, 1);
                assert!(report.contains(&escaped));
                *bytes = report.into_bytes();
            });
        });
        let hostile = hostile.forge(&challenge()).unwrap();
        // The quietest of some rounds. What reading such a report costs is not the log's.
        let rounds = (0..7).map(|_| {
            let quote = time(&plain, alone, "verified");
            let reading = time(&hostile, alone, "verified");
            let log = time(&hostile, &both, expected).saturating_sub(reading);
            (log.as_nanos() / quote.as_nanos().max(1), log, quote)
        });
        let (times, log, quote) = rounds.min().unwrap();
        println!("{count} times {escape}: {log:?} for the log, {quote:?} for a quote");
        assert!(times < most, "{log:?} for the log, {quote:?} for a quote");
    }
}
