//! The deployment log.

use fake_tee::deployment::{action, compose_up, manager_of};

use super::{Member, alike, block};
use crate::support::{NOW, WITH_SOCKET, manager};

pub(super) const PAIRS: &[(Member, Member)] = &[
    (
        (
            "a newer release",
            |s| {
                manager(s).publish("v0.0.3", &fake_tee::compose_file::compose_text("v0.0.3"));
                manager(s).actions.push(compose_up(NOW - 60, "v0.0.3", &[]));
            },
            "tagged",
        ),
        (
            "a log from which a start was taken out",
            |s| {
                block(s, |block| {
                    block["actions"].as_array_mut().unwrap().pop();
                });
            },
            "rejected_deployment_actions_hash machine",
        ),
    ),
    alike(
        "an experiment that rotates tokens",
        "a spy that is started like one",
        |s| manager(s).experiment(NOW - 60, WITH_SOCKET),
        "declared",
    ),
    (
        (
            "a clock that was set back by an hour",
            |s| {
                manager(s)
                    .actions
                    .push(compose_up(NOW - 49 * 3600, "v0.0.2", &[]));
            },
            "tagged",
        ),
        (
            "a log made for another request",
            |s| {
                block(s, |block| block["nonce"] = "00".repeat(32).into());
            },
            "rejected_deployment_nonce machine",
        ),
    ),
    (
        (
            "an action of a newer manager",
            |s| {
                manager(s)
                    .actions
                    .push(action(NOW - 60, "docker_prune_all", &[]));
            },
            "declared",
        ),
        (
            "an action that starts a program past the files",
            |s| {
                let image = [("image", "evil/backdoor:latest".into())];
                manager(s)
                    .actions
                    .push(action(NOW - 60, "docker_run", &image));
            },
            "declared",
        ),
    ),
    (
        (
            "a newer manager of the same origin",
            |s| {
                let image = format!("fake/compose-manager@sha256:{}", "ab".repeat(32));
                manager(s).actions.push(manager_of(NOW - 60, &image));
            },
            "tagged",
        ),
        (
            "a manager of another origin",
            |s| {
                let image = format!("evil/compose-manager@sha256:{}", "ab".repeat(32));
                manager(s).actions.push(manager_of(NOW - 60, &image));
            },
            "declared",
        ),
    ),
    (
        (
            "no copies beside the log's quote",
            |s| {
                block(s, |block| {
                    for copy in ["report_data", "event_log", "vm_config"] {
                        block.as_object_mut().unwrap().remove(copy).unwrap();
                    }
                });
            },
            "tagged",
        ),
        (
            "no log",
            |s| s.compose_manager = None,
            "deployment_missing machine",
        ),
    ),
];
