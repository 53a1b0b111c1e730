//! Logs that are not there, or cannot be understood.

use fake_tee::deployment::action;
use serde_json::{Value, json};

use super::{Case, edit, field, remove, set, without};
use crate::support::{NOW, manager};

pub(super) const MISSING: &[Case] = &[
    ("no log", "deployment_missing", |s| {
        s.compose_manager = None;
    }),
    ("a null log", "deployment_missing", |s| {
        edit(s, |block| *block = Value::Null);
    }),
    ("no actions", "evidence_deployment_missing_field", |s| {
        remove(s, "actions")
    }),
    ("no hash", "evidence_deployment_missing_field", |s| {
        remove(s, "actions_hash");
    }),
    ("no nonce", "evidence_deployment_missing_field", |s| {
        remove(s, "nonce");
    }),
    (
        "no nonce source",
        "evidence_deployment_missing_field",
        |s| {
            remove(s, "nonce_source");
        },
    ),
    ("no quote", "evidence_deployment_missing_field", |s| {
        remove(s, "quote");
    }),
    ("a null quote", "evidence_deployment_missing_field", |s| {
        set(s, "quote", Value::Null);
    }),
];

pub(super) const UNREADABLE: &[Case] = &[
    ("a list for a log", "evidence_deployment_bad_field", |s| {
        edit(s, |block| *block = json!([[], "", "", "client"]));
    }),
    ("a text for a log", "evidence_deployment_bad_field", |s| {
        edit(s, |block| *block = block.to_string().into());
    }),
    (
        "an object for actions",
        "evidence_deployment_bad_field",
        |s| {
            set(s, "actions", json!({}));
        },
    ),
    (
        "a text for an action",
        "evidence_deployment_bad_field",
        |s| {
            edit(s, |block| block["actions"][1] = "compose_up".into());
        },
    ),
    ("half a hash", "evidence_deployment_bad_field", |s| {
        set(s, "actions_hash", "ab".repeat(16).into());
    }),
    (
        "a number for a nonce",
        "evidence_deployment_bad_field",
        |s| {
            set(s, "nonce", 1.into());
        },
    ),
    ("a quote in base64", "evidence_deployment_bad_field", |s| {
        set(s, "quote", "BAACAIEAAAA=".into());
    }),
    (
        "an action with five levels inside, signed",
        "evidence_deployment_bad_field",
        |s| field(s, "new", json!([[[[[1]]]]])),
    ),
    (
        "4097 actions, signed",
        "evidence_deployment_too_many_actions",
        |s| {
            let one = action(NOW - 9, "docker_clean", &[]);
            manager(s).actions = vec![one; 4097];
        },
    ),
    (
        "an action without a time, signed",
        "evidence_deployment_action",
        |s| {
            without(s, 2, "timestamp");
        },
    ),
    (
        "an action without a name, signed",
        "evidence_deployment_action",
        |s| {
            without(s, 2, "action");
        },
    ),
    (
        "a time that is none, signed",
        "evidence_deployment_action",
        |s| {
            field(s, "timestamp", "yesterday".into());
        },
    ),
    (
        "a time before 1970, signed",
        "evidence_deployment_action",
        |s| {
            field(s, "timestamp", "1969-12-31T23:59:59Z".into());
        },
    ),
    (
        "a start without a file, signed",
        "evidence_deployment_action",
        |s| {
            without(s, 1, "file");
        },
    ),
    (
        "a start without a commit, signed",
        "evidence_deployment_action",
        |s| {
            without(s, 1, "commit");
        },
    ),
    (
        "a start without a digest, signed",
        "evidence_deployment_action",
        |s| {
            without(s, 1, "file_sha256");
        },
    ),
    (
        "a start without a tag, signed",
        "evidence_deployment_action",
        |s| {
            without(s, 1, "tag");
        },
    ),
    (
        "a null for a digest, signed",
        "evidence_deployment_action",
        |s| {
            field(s, "file_sha256", Value::Null);
        },
    ),
    (
        "a branch for a commit, signed",
        "evidence_deployment_action",
        |s| {
            field(s, "commit", "main".into());
        },
    ),
    (
        "a file outside the repository, signed",
        "evidence_deployment_action",
        |s| {
            field(s, "file", "prod/../../x/fake.yaml".into());
        },
    ),
    (
        "a file with two paths, signed",
        "evidence_deployment_action",
        |s| {
            field(s, "file", "prod/./fake.yaml".into());
        },
    ),
    (
        "an absolute file, signed",
        "evidence_deployment_action",
        |s| {
            field(s, "file", "/fake.yaml".into());
        },
    ),
    (
        "a query for a file, signed",
        "evidence_deployment_action",
        |s| {
            field(s, "file", "fake.yaml?token=1".into());
        },
    ),
    (
        "an escape in a tag, signed",
        "evidence_deployment_action",
        |s| {
            field(s, "tag", "v0.0.1\u{1b}[2J".into());
        },
    ),
    (
        "a text for services, signed",
        "evidence_deployment_action",
        |s| {
            field(s, "services", "proxy".into());
        },
    ),
    (
        "a path for a service, signed",
        "evidence_deployment_action",
        |s| {
            field(s, "services", json!(["../proxy"]));
        },
    ),
    (
        "an option for a service, signed",
        "evidence_deployment_action",
        |s| {
            field(s, "services", json!(["--"]));
        },
    ),
    (
        "a service of 257 bytes, signed",
        "evidence_deployment_action",
        |s| {
            field(s, "services", json!(["s".repeat(257)]));
        },
    ),
    ("257 services, signed", "evidence_deployment_action", |s| {
        field(s, "services", json!(vec!["proxy"; 257]));
    }),
    (
        "a name of 257 bytes, signed",
        "evidence_deployment_action",
        |s| {
            field(s, "file", "f".repeat(257).into());
        },
    ),
    (
        "a stop without a commit, signed",
        "evidence_deployment_action",
        |s| {
            let stop = action(NOW - 9, "compose_down", &[("file", "fake.yaml".into())]);
            manager(s).actions.push(stop);
        },
    ),
    (
        "a manager without an image, signed",
        "evidence_deployment_action",
        |s| {
            without(s, 0, "image");
        },
    ),
];
