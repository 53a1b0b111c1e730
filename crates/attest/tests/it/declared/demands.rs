//! What a policy may demand of a log and of its files.

use fake_tee::deployment::compose_up;

use super::{REPORT, finding, judged};
use crate::support::{NOW, code, manager, policy_text, spec_with};

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
