//! The repository of compose files, on the plain-HTTP ports: `GET
//! /compose/COMMIT/FILE`.

use std::sync::Mutex;

use hyper::StatusCode;

use super::behaviour::{Behaviour, Gone};
use super::body::{Reply, error_reply, reply};
use super::{State, lock};
use crate::spec::Spec;

/// What comes before the commit.
pub(super) const BASE: &str = "/compose";

/// How it behaves, and what it was asked for.
#[derive(Debug, Default)]
pub(super) struct Repository {
    pub(super) behaviour: Mutex<Behaviour>,
    /// `COMMIT/FILE`, in the order in which requests came.
    pub(super) asked: Mutex<Vec<String>>,
}

/// `None`: not one of its paths.
pub(super) async fn answer(state: &State, path: &str) -> Result<Option<Reply>, Gone> {
    let below = path
        .strip_prefix(BASE)
        .and_then(|rest| rest.strip_prefix('/'));
    let Some(wanted) = below else {
        return Ok(None);
    };
    lock(&state.compose.asked).push(wanted.to_owned());
    let behaviour = lock(&state.compose.behaviour).clone();
    if let Some(reply) = behaviour.instead().await? {
        return Ok(Some(reply));
    }
    let machines = state.instances.iter().map(|instance| &instance.machine);
    let text = std::iter::once(&state.machine)
        .chain(machines)
        .find_map(|machine| text(&lock(machine).spec, wanted));
    Ok(Some(match text {
        Some(text) => reply(StatusCode::OK, "text/plain; charset=utf-8", text),
        None => error_reply(StatusCode::NOT_FOUND, "not_found", "no such file"),
    }))
}

/// A file that the machine's manager may have started.
fn text(spec: &Spec, wanted: &str) -> Option<String> {
    let (commit, path) = wanted.split_once('/')?;
    let mut files = spec.compose_manager.as_ref()?.files.iter();
    let file = files.find(|file| file.commit == commit && file.file == path)?;
    Some(file.text.clone())
}
