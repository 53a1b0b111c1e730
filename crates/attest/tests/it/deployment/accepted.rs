//! What an honest manager may do.

use attest::{CanonicalForm, Service};
use fake_tee::deployment::{ActionsForm, action, compose_up};
use fake_tee::{ComposeManager, QuoteFormat, Signing, Spec};
use serde_json::json;

use super::{judge, machine};
use crate::support::{NOW, manager, spec_with};

#[test]
fn both_forms_are_recognised_whatever_the_order_on_the_wire() {
    for (form, expected) in [
        (ActionsForm::Sorted, CanonicalForm::SortedKeys),
        (ActionsForm::Declared, CanonicalForm::DeclaredOrder),
    ] {
        for escaped in [false, true] {
            let mut spec = machine();
            manager(&mut spec).form = form;
            manager(&mut spec).actions.push(action(
                NOW,
                "docker_evict",
                &[("container", "fäke/llama \"β\"".into())],
            ));
            if escaped {
                spec.hooks.report_bytes.push(|bytes| {
                    let text = String::from_utf8(bytes.clone()).unwrap();
                    *bytes = text.replace("fäke", "f\\u00e4ke").into_bytes();
                });
            }
            let deployment = judge(&spec).unwrap();
            assert_eq!(deployment.form(), expected);
            let words = match form {
                ActionsForm::Sorted => "sorted keys",
                ActionsForm::Declared => "declared order",
            };
            assert_eq!(deployment.form().as_str(), words);
            assert_eq!(deployment.actions(), 5);
        }
    }
}

#[test]
fn honest_changes_are_accepted() {
    type Change = (&'static str, fn(&mut Spec));
    let changes: [Change; 31] = [
        ("no report data", |s| drop_field(s, "report_data")),
        ("half of report data", |s| {
            copy(s, "report_data", "ab".repeat(32).into())
        }),
        ("other report data", |s| {
            copy(s, "report_data", "0".repeat(128).into())
        }),
        ("an event log of words", |s| {
            copy(s, "event_log", "[\"x\"]".into())
        }),
        ("another event log", |s| copy(s, "event_log", "[]".into())),
        ("a number for vm_config", |s| copy(s, "vm_config", 1.into())),
        ("times that go back", |s| {
            manager(s)
                .actions
                .push(compose_up(NOW - 90 * 3600, "v0.0.3", &[]));
        }),
        ("a time to come", |s| {
            manager(s)
                .actions
                .push(compose_up(NOW + 301, "v0.0.3", &[]));
        }),
        ("no event log", |s| drop_field(s, "event_log")),
        ("no vm_config", |s| drop_field(s, "vm_config")),
        ("an unknown field", |s| {
            s.hooks
                .report
                .push(|report| report["compose_manager_attestation"]["new"] = json!([1]));
        }),
        ("an unknown action", |s| {
            let new = action(NOW, "volume_prune", &[("volume", "x".into())]);
            manager(s).actions.push(new);
        }),
        ("a file that was only staged", |s| {
            let staged = action(NOW, "compose_stage", &[("tag", "v0.0.3".into())]);
            manager(s).actions.push(staged);
        }),
        ("an unknown key, sorted", |s| {
            manager(s).actions[1].push(("aaa_new".to_owned(), json!({"b": [true], "c": 1})));
        }),
        ("an unknown key, declared", |s| {
            manager(s).form = ActionsForm::Declared;
            manager(s).actions[1].push(("aaa_new".to_owned(), "x".into()));
        }),
        ("an unknown key, four levels deep", |s| {
            manager(s).actions[1].push(("new".to_owned(), json!([[{"a": []}]])));
        }),
        ("4096 actions", |s| {
            let one = action(NOW - 9, "docker_clean", &[]);
            manager(s).actions = vec![one; 4096];
        }),
        ("an empty log", |s| manager(s).actions.clear()),
        ("an action five minutes ahead", |s| {
            manager(s)
                .actions
                .push(compose_up(NOW + 300, "v0.0.3", &[]));
        }),
        ("two actions of one moment", |s| {
            let again = manager(s).actions[3].clone();
            manager(s).actions.push(again);
        }),
        ("times of another zone", |s| {
            manager(s).actions[0][0].1 = "2020-01-01T02:00:00.123456789+02:00".into();
        }),
        ("the first second of 1970", |s| {
            manager(s).actions[0][0].1 = "1970-01-01T00:00:00Z".into();
        }),
        ("256 services of 256 bytes", |s| {
            let services = json!(vec!["s".repeat(256); 256]);
            manager(s).actions[1].push(("services".to_owned(), services));
        }),
        ("names of 256 bytes", |s| {
            for name in ["file", "tag"] {
                let field = manager(s).actions[1].iter_mut();
                field.filter(|(key, _)| key == name).for_each(|(_, value)| {
                    *value = "n".repeat(256).into();
                });
            }
        }),
        ("every sign that a name may have", |s| {
            let ComposeManager { actions, .. } = manager(s);
            for (index, name, value) in [
                (0, "image", json!("h.example:1/a_b/c+d-e:v1@sha256:00")),
                (1, "file", json!("a-b/c_d+e.yaml")),
                (1, "tag", json!("a-b/c_d+e.f")),
                (1, "services", json!(["a-b_c.d"])),
            ] {
                actions[index].retain(|(key, _)| key != name);
                actions[index].push((name.to_owned(), value));
            }
        }),
        ("a v5 quote of a TD 1.0", |s| {
            s.quote.format = QuoteFormat::TdxV5Td10
        }),
        ("a v5 quote of a TD 1.5", |s| {
            s.quote.format = QuoteFormat::TdxV5Td15
        }),
        ("32 KiB of padding after the quote", |s| {
            s.hooks
                .manager_signed_quote
                .push(|quote| quote.trailing = vec![0; 32 << 10]);
        }),
        ("a quote of 64 KiB with its padding", |s| {
            s.hooks.manager_signed_quote.push(|quote| {
                quote.trailing.clear();
                let len = quote.encode().len();
                quote.trailing = vec![0; (64 << 10) - len];
            });
        }),
        ("an ECDSA signing key", |s| s.signing = Signing::ecdsa()),
        ("the event log as a string", |s| {
            s.event_log_as_string = true
        }),
    ];
    for (what, change) in changes {
        if let Err(rejected) = judge(&spec_with(change)) {
            panic!("{what}: {rejected}");
        }
    }
}

fn drop_field(spec: &mut Spec, field: &'static str) {
    spec.hooks.report.push(move |report| {
        let block = report["compose_manager_attestation"].as_object_mut();
        block.unwrap().remove(field).unwrap();
    });
}

/// Says something else of what stands better elsewhere.
fn copy(spec: &mut Spec, field: &'static str, value: serde_json::Value) {
    spec.hooks.report.push(move |report| {
        report["compose_manager_attestation"][field] = value.clone();
    });
}

#[test]
fn an_empty_log_says_nothing_is_up() {
    let mut spec = machine();
    manager(&mut spec).actions.clear();
    let deployment = judge(&spec).unwrap();
    assert_eq!(deployment.up(), []);
    assert_eq!((deployment.first(), deployment.last()), (None, None));
    assert_eq!(deployment.manager(), None);
    assert!(deployment.started().is_empty());
}

#[test]
fn restarts_and_stages_change_nothing_that_is_up() {
    let before = judge(&machine()).unwrap().up();
    assert_eq!(before.len(), 2);
    assert_eq!(before[0].service, Service::Named("proxy".to_owned()));
    let mut spec = machine();
    for name in ["docker_restart", "docker_clean", "compose_stage", "other"] {
        let idle = action(
            NOW,
            name,
            &[
                ("container", "proxy".into()),
                ("services", json!(["proxy"])),
            ],
        );
        manager(&mut spec).actions.push(idle);
    }
    assert_eq!(judge(&spec).unwrap().up(), before);
}
