//! Logs that are of another time, or not what was signed.

use serde_json::{Value, json};

use super::{Case, edit, set, transplant_log};
use crate::support::{NOW, manager};

pub(super) const CASES: &[Case] = &[
    (
        "a nonce of the server, signed",
        "rejected_deployment_nonce_source",
        |s| {
            manager(s).nonce_source = "server".to_owned();
        },
    ),
    (
        "a source that nobody knows",
        "rejected_deployment_nonce_source",
        |s| {
            set(s, "nonce_source", "Client".into());
        },
    ),
    (
        "another nonce beside the log",
        "rejected_deployment_nonce",
        |s| {
            set(s, "nonce", "00".repeat(32).into());
        },
    ),
    ("the nonce in capitals", "rejected_deployment_nonce", |s| {
        set(s, "nonce", "5A".repeat(32).into());
    }),
    ("an old answer, signed", "rejected_deployment_nonce", |s| {
        manager(s).nonce = Some([1; 32]);
    }),
    (
        "an old answer under our nonce",
        "rejected_deployment_report_data",
        |s| {
            manager(s).nonce = Some([1; 32]);
            set(s, "nonce", "5a".repeat(32).into());
        },
    ),
    (
        "an action taken out",
        "rejected_deployment_actions_hash",
        |s| {
            edit(s, |block| {
                block["actions"].as_array_mut().unwrap().remove(1);
            });
        },
    ),
    (
        "the last action taken off",
        "rejected_deployment_actions_hash",
        |s| {
            edit(s, |block| {
                block["actions"].as_array_mut().unwrap().pop();
            });
        },
    ),
    (
        "an action put in",
        "rejected_deployment_actions_hash",
        |s| {
            edit(s, |block| {
                let actions = block["actions"].as_array_mut().unwrap();
                actions.push(actions[3].clone());
            });
        },
    ),
    (
        "two actions swapped",
        "rejected_deployment_actions_hash",
        |s| {
            edit(s, |block| {
                block["actions"].as_array_mut().unwrap().swap(1, 3)
            });
        },
    ),
    ("another tag", "rejected_deployment_actions_hash", |s| {
        edit(s, |block| block["actions"][1]["tag"] = "v0.0.9".into());
    }),
    ("another commit", "rejected_deployment_actions_hash", |s| {
        edit(s, |block| {
            block["actions"][1]["commit"] = "0".repeat(40).into()
        });
    }),
    (
        "another file digest",
        "rejected_deployment_actions_hash",
        |s| {
            edit(s, |block| {
                block["actions"][1]["file_sha256"] = "0".repeat(64).into();
            });
        },
    ),
    (
        "another image of the manager",
        "rejected_deployment_actions_hash",
        |s| {
            edit(s, |block| {
                block["actions"][0]["image"] = "fake/other@sha256:0".into()
            });
        },
    ),
    ("a service more", "rejected_deployment_actions_hash", |s| {
        edit(s, |block| {
            block["actions"][3]["services"] = json!(["proxy", "nginx"])
        });
    }),
    ("a later time", "rejected_deployment_actions_hash", |s| {
        edit(s, |block| {
            let later = fake_tee::encode::rfc3339(NOW - 1).into();
            block["actions"][3]["timestamp"] = later;
        });
    }),
    ("a key more", "rejected_deployment_actions_hash", |s| {
        edit(s, |block| block["actions"][1]["note"] = "x".into());
    }),
    ("a null more", "rejected_deployment_actions_hash", |s| {
        edit(s, |block| block["actions"][1]["services"] = Value::Null);
    }),
    ("another hash", "rejected_deployment_actions_hash", |s| {
        set(s, "actions_hash", "0".repeat(64).into());
    }),
    (
        "another log with its hash",
        "rejected_deployment_report_data",
        |s| {
            transplant_log(s, |other| {
                manager(other).actions.pop();
            });
        },
    ),
];
