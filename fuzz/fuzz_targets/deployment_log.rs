//! Any JSON as the deployment log of a valid machine, or as the actions of a log
//! that the machine signs.

#![no_main]

use std::collections::BTreeMap;

use attest::CanonicalForm;
use attest_fuzz::deployment::{Action, Machine, Members, must_fold, write_seeds};
use fake_tee::deployment::ActionsForm;
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::Value;

/// The input is the whole log. @q, @l and @v stand for its quote, its event log
/// and its vm_config.
const BLOCK: u8 = b'B';
/// The input is a list of actions, which is hashed with sorted keys.
const SORTED: u8 = b'S';
/// The same with the keys in the order of the manager's declaration.
const DECLARED: u8 = b'D';

/// The manager's declaration, a second time.
const ORDER: [&str; 9] = [
    "timestamp",
    "action",
    "tag",
    "commit",
    "file",
    "file_sha256",
    "services",
    "container",
    "image",
];

/// The value as a manager has it in its memory: objects in the order of their
/// keys, whether this build of serde_json keeps another one or not. `None` for
/// fractions, which have more than one spelling, and for objects where the
/// manager's order is not that of the keys.
fn plain(value: Value, form: ActionsForm) -> Option<Value> {
    Some(match value {
        Value::Number(number) if number.is_f64() => return None,
        Value::Array(items) => {
            let items = items.into_iter().map(|item| plain(item, form));
            Value::Array(items.collect::<Option<_>>()?)
        }
        Value::Object(_) if form == ActionsForm::Declared => return None,
        Value::Object(members) => {
            let sorted: BTreeMap<_, _> = members.into_iter().collect();
            let members = sorted
                .into_iter()
                .map(|(key, item)| Some((key, plain(item, form)?)));
            Value::Object(members.collect::<Option<_>>()?)
        }
        other => other,
    })
}

/// The actions as the manager has them.
fn actions(text: &str, form: ActionsForm) -> Option<Vec<Action>> {
    let list: Vec<Members> = serde_json::from_str(text).ok()?;
    let actions = list.into_iter().map(|Members(mut action)| {
        let place = |key: &String| ORDER.iter().position(|known| known == key);
        action.sort_by_key(|(key, _)| place(key).unwrap_or(ORDER.len()));
        let members = action
            .into_iter()
            .map(|(key, value)| Some((key, plain(value, form)?)));
        members.collect()
    });
    actions.collect()
}

fuzz_target!(
    init: write_seeds(|machine| {
        let mut block = machine.block.clone();
        let list = block["actions"].to_string();
        for (field, name) in [("quote", "@q"), ("event_log", "@l"), ("vm_config", "@v")] {
            block[field] = name.into();
        }
        let mut seeds = vec![[&[BLOCK], block.to_string().as_bytes()].concat()];
        let services = list.replace("\"compose_manager_started\"", "\"compose_down\"")
            .replace("\"container\":\"compose-manager\"", "\"commit\":\"0000000000000000000000000000000000000000\",\"file\":\"a.yaml\",\"services\":[\"proxy\"]");
        // Else nothing would be learned from logs that are refused.
        for form in [ActionsForm::Sorted, ActionsForm::Declared] {
            let actions = actions(&list, form).expect("actions");
            let judged = machine.judge(&machine.block_of(&actions, form).to_string());
            assert!(matches!(judged, Some(Ok(_))), "{judged:?}");
        }
        for form in [SORTED, DECLARED] {
            seeds.push([&[form], list.as_bytes()].concat());
            seeds.push([&[form], services.as_bytes()].concat());
            seeds.push([&[form], &b"[]"[..]].concat());
            seeds.push([&[form], br#"[{"timestamp":"2026-01-01T00:00:00.5+01:00","action":"x","zz":[{"b":1,"a":[null,-1]}],"a":"\u00e9\/"}]"#.as_slice()].concat());
        }
        seeds
    }),
    |data: &[u8]| -> Corpus {
        let Some((mode, data)) = data.split_first() else {
            return Corpus::Reject;
        };
        let Ok(text) = std::str::from_utf8(data) else {
            return Corpus::Reject;
        };
        let machine = Machine::get();
        let form = match *mode {
            BLOCK => {
                let inner = |field: &str| {
                    // As a string inside a JSON string.
                    let text = machine.block[field].to_string();
                    text[1..text.len() - 1].to_owned()
                };
                let mut text = text.to_owned();
                for (field, name) in [("quote", "@q"), ("event_log", "@l"), ("vm_config", "@v")] {
                    if text.matches(name).count() > 4 {
                        return Corpus::Reject;
                    }
                    text = text.replace(name, &inner(field));
                }
                if let Some(Ok(deployment)) = machine.judge(&text) {
                    // Whatever the spelling, the log is the same.
                    assert_eq!(Some(&deployment), machine.deployment.get());
                    let judged: Value = serde_json::from_str(&text).expect("JSON");
                    for field in ["actions", "nonce", "nonce_source"] {
                        assert_eq!(judged[field], machine.block[field], "{field}");
                    }
                }
                return Corpus::Keep;
            }
            SORTED => ActionsForm::Sorted,
            DECLARED => ActionsForm::Declared,
            _ => return Corpus::Reject,
        };
        let Some(actions) = actions(text, form) else {
            return Corpus::Reject;
        };
        let mut block = machine.block_of(&actions, form);
        block["actions"] = "@a".into();
        let sent = block.to_string().replacen("\"@a\"", text, 1);
        match machine.judge(&sent) {
            Some(Ok(deployment)) => {
                assert_eq!(deployment.actions(), actions.len());
                let expected = match form {
                    ActionsForm::Sorted => CanonicalForm::SortedKeys,
                    ActionsForm::Declared => CanonicalForm::DeclaredOrder,
                };
                // A log may read the same in both.
                assert!(deployment.form() == expected || deployment.form() == CanonicalForm::SortedKeys);
                must_fold(&deployment);
            }
            // Whatever the spelling, its hash is the one that the manager took.
            Some(Err(rejected)) => {
                let code = rejected.code();
                assert!(
                    code.starts_with("evidence_deployment_") || code.starts_with("rejected_deployment_time_"),
                    "{rejected}"
                );
            }
            None => {}
        }
        Corpus::Keep
    }
);
