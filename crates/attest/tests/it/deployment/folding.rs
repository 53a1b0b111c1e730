//! From the log to what is up, and from one log to the next.

use std::collections::BTreeSet;

use attest::{CommitId, ComposeFiles, Continuity, Deployment, LogDigest, LogSeen, Service};
use fake_tee::deployment::{ActionsForm, action, compose_up};
use fake_tee::hash::label;
use serde_json::{Value, json};

use super::{judge, machine};
use crate::support::{NOW, manager};

type Fields = Vec<(String, Value)>;

fn up(tag: &str, services: &[&str]) -> Fields {
    compose_up(NOW - 9, tag, services)
}

fn of_file(mut action: Fields, file: &str) -> Fields {
    action.iter_mut().find(|(key, _)| key == "file").unwrap().1 = file.into();
    action
}

fn down(tag: &str, services: &[&str]) -> Fields {
    let commit = commit(tag).to_string();
    let mut fields = vec![
        ("tag", Value::from(tag)),
        ("commit", commit.into()),
        ("file", "fake.yaml".into()),
    ];
    if !services.is_empty() {
        fields.push(("services", json!(services)));
    }
    action(NOW - 9, "compose_down", &fields)
}

fn commit(tag: &str) -> CommitId {
    CommitId::from_bytes(label(tag))
}

fn deployment(actions: &[Fields]) -> Deployment {
    let mut spec = machine();
    manager(&mut spec).actions = actions.to_vec();
    judge(&spec).unwrap()
}

/// "service tag" of each that is up; "* -except tag" for the rest of a file.
fn folded(actions: &[Fields], files: &ComposeFiles) -> Vec<String> {
    deployment(actions)
        .up_given(files)
        .into_iter()
        .map(|up| match up.service {
            Service::Named(name) => format!("{name} {}", up.source.tag),
            Service::Rest { except } => format!("*-{} {}", except.join("-"), up.source.tag),
        })
        .collect()
}

/// Each tag's file defines these services; `proxy` depends on `engine`.
fn files(defined: &[(&str, &[&str])]) -> ComposeFiles {
    let mut files = ComposeFiles::default();
    for (tag, services) in defined {
        let services = services.iter().map(|name| {
            let needs = match *name {
                "proxy" => BTreeSet::from(["engine".to_owned()]),
                _ => BTreeSet::new(),
            };
            ((*name).to_owned(), needs)
        });
        files.insert("fake.yaml", commit(tag), services);
    }
    files
}

#[test]
fn without_the_files_a_whole_file_is_one_entry() {
    let none = ComposeFiles::default();
    for (actions, expected) in [
        (vec![up("v1", &[])], vec!["*- v1"]),
        (vec![up("v1", &[]), up("v2", &[])], vec!["*- v2"]),
        (
            vec![up("v1", &[]), up("v2", &["a"])],
            vec!["a v2", "*-a v1"],
        ),
        (
            vec![up("v1", &["a", "b"]), up("v2", &["a"])],
            vec!["a v2", "b v1"],
        ),
        (vec![up("v1", &["a", "b"]), up("v2", &[])], vec!["*- v2"]),
        (vec![up("v1", &[]), down("v1", &["a"])], vec!["*-a v1"]),
        (
            vec![up("v1", &[]), down("v1", &["a"]), up("v1", &["a"])],
            vec!["a v1", "*-a v1"],
        ),
        (vec![up("v1", &["a"]), down("v2", &[])], vec![]),
        (vec![up("v1", &[]), down("v2", &[])], vec![]),
        (
            vec![of_file(up("v1", &["a"]), "other.yaml"), down("v1", &[])],
            vec!["a v1"],
        ),
        (
            vec![of_file(up("v1", &[]), "other.yaml"), down("v1", &[])],
            vec!["*- v1"],
        ),
        (vec![down("v1", &["a"])], vec![]),
    ] {
        assert_eq!(folded(&actions, &none), expected, "{actions:?}");
    }
}

#[test]
fn with_the_files_every_service_is_named() {
    let files = files(&[
        ("v1", &["engine", "proxy", "nginx"]),
        ("v2", &["engine", "proxy"]),
        ("v3", &["nginx"]),
    ]);
    for (actions, expected) in [
        (
            vec![up("v1", &[])],
            vec!["engine v1", "nginx v1", "proxy v1"],
        ),
        // Orphans go.
        (
            vec![up("v1", &[]), up("v2", &[])],
            vec!["engine v2", "proxy v2"],
        ),
        // Also where only some services are started.
        (
            vec![up("v1", &[]), up("v2", &["engine"])],
            vec!["engine v2", "proxy v1"],
        ),
        // What is needed is started too.
        (
            vec![up("v1", &[]), up("v2", &["proxy"])],
            vec!["engine v2", "proxy v2"],
        ),
        // A command that names what its file lacks failed.
        (
            vec![up("v1", &[]), up("v3", &["nginx", "proxy"])],
            vec!["engine v1", "nginx v1", "proxy v1"],
        ),
        (
            vec![up("v1", &[]), down("v3", &[])],
            vec!["engine v1", "proxy v1"],
        ),
        (
            vec![up("v1", &[]), down("v1", &["engine"])],
            vec!["nginx v1", "proxy v1"],
        ),
        // A file at hand after one that is not.
        (
            vec![up("unknown", &[]), down("v3", &[])],
            vec!["*-nginx unknown"],
        ),
        (vec![up("unknown", &[]), up("v3", &[])], vec!["nginx v3"]),
        (
            vec![up("unknown", &[]), up("v3", &["nginx"])],
            vec!["nginx v3", "*-nginx unknown"],
        ),
    ] {
        assert_eq!(folded(&actions, &files), expected, "{actions:?}");
    }
}

#[test]
fn what_depends_on_itself_ends() {
    let mut files = ComposeFiles::default();
    let needs = |name: &str, other: &str| (name.to_owned(), BTreeSet::from([other.to_owned()]));
    files.insert(
        "fake.yaml",
        commit("v1"),
        [needs("a", "b"), needs("b", "a"), needs("c", "not there")],
    );
    assert_eq!(folded(&[up("v1", &["a"])], &files), ["a v1", "b v1"]);
    assert_eq!(folded(&[up("v1", &["c"])], &files), ["c v1"]);
}

#[test]
fn every_file_that_was_started_is_listed_once() {
    let deployment = deployment(&[
        up("v1", &[]),
        up("v2", &["a"]),
        up("v1", &["b"]),
        down("v3", &[]),
    ]);
    let tags: Vec<_> = deployment.started().iter().map(|file| &file.tag).collect();
    assert_eq!(tags, ["v1", "v2"]);
}

#[test]
fn since_is_the_time_of_the_last_start() {
    let deployment = deployment(&[
        compose_up(NOW - 100, "v1", &["a", "b"]),
        compose_up(NOW - 50, "v1", &["a"]),
    ]);
    let since: Vec<_> = deployment.up().iter().map(|up| up.since.0).collect();
    assert_eq!(since, [NOW - 50, NOW - 100]);
    assert_eq!(deployment.first().unwrap().0, NOW - 100);
    assert_eq!(deployment.last().unwrap().0, NOW - 50);
}

#[test]
fn a_log_goes_on_or_was_reset() {
    let [one, two, three] = [up("v1", &[]), up("v2", &[]), up("v3", &[])];
    let seen = deployment(&[one.clone(), two.clone()]).seen();
    for (actions, expected) in [
        (vec![&one, &two], Continuity::Unchanged),
        (vec![&one, &two, &three], Continuity::Extended { by: 1 }),
        (vec![&one, &two, &two, &one], Continuity::Extended { by: 2 }),
        (vec![&one], Continuity::Reset),
        (vec![], Continuity::Reset),
        (vec![&two, &one], Continuity::Reset),
        (vec![&one, &three, &three], Continuity::Reset),
        (vec![&three, &two], Continuity::Reset),
        (vec![&three, &two, &three], Continuity::Reset),
        (vec![&three, &one, &two], Continuity::Reset),
    ] {
        let actions: Vec<_> = actions.into_iter().cloned().collect();
        assert_eq!(
            deployment(&actions).continuity(&seen),
            expected,
            "{actions:?}"
        );
    }
    let empty = deployment(&[]).seen();
    assert_eq!(
        deployment(&[one]).continuity(&empty),
        Continuity::Extended { by: 1 }
    );
    let longer = LogSeen {
        actions: usize::MAX,
        head: LogDigest::from_bytes([0; 32]),
    };
    assert_eq!(deployment(&[two]).continuity(&longer), Continuity::Reset);
}

#[test]
fn a_manager_that_changes_its_form_goes_on_with_its_log() {
    let mut spec = machine();
    manager(&mut spec).form = ActionsForm::Declared;
    let before = judge(&spec).unwrap();
    let after = judge(&machine()).unwrap();
    assert_ne!(before.form(), after.form());
    assert_eq!(after.continuity(&before.seen()), Continuity::Unchanged);
}
