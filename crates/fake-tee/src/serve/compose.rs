//! The repository of compose files, on the plain-HTTP ports: `GET
//! /compose/COMMIT/FILE`, and its tags as git asks for them.

use std::sync::Mutex;

use hyper::StatusCode;

use super::behaviour::{Behaviour, Gone};
use super::body::{Reply, error_reply, reply};
use super::{State, lock};
use crate::spec::Spec;
use crate::tags::{PublishedTag, advertisement};

/// What comes before the commit.
pub(super) const BASE: &str = "/compose";
/// The repository as git names it.
pub(super) const GIT: &str = "/compose.git";

/// How it behaves, and what it was asked for.
#[derive(Debug, Default)]
pub(super) struct Repository {
    pub(super) behaviour: Mutex<Behaviour>,
    /// `COMMIT/FILE`, or the query for tags, in the order in which requests came.
    pub(super) asked: Mutex<Vec<String>>,
}

/// `None`: not one of its paths.
pub(super) async fn answer(state: &State, path: &str, query: &str) -> Result<Option<Reply>, Gone> {
    if path.strip_prefix(GIT) == Some("/info/refs") {
        return tags(state, query).await.map(Some);
    }
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

async fn tags(state: &State, query: &str) -> Result<Reply, Gone> {
    lock(&state.compose_tags.asked).push(query.to_owned());
    let behaviour = lock(&state.compose_tags.behaviour).clone();
    if let Some(reply) = behaviour.instead().await? {
        return Ok(reply);
    }
    if query != "service=git-upload-pack" {
        // What is left of git's older protocol.
        return Ok(error_reply(
            StatusCode::FORBIDDEN,
            "forbidden",
            "no such service",
        ));
    }
    let mut tags: Vec<PublishedTag> = Vec::new();
    let machines = state.instances.iter().map(|instance| &instance.machine);
    for machine in std::iter::once(&state.machine).chain(machines) {
        let spec = &lock(machine).spec;
        let manager = spec.compose_manager.iter();
        for tag in manager.flat_map(|manager| manager.published_tags()) {
            if !tags.iter().any(|known| known.name == tag.name) {
                tags.push(tag);
            }
        }
    }
    let mut reply = reply(
        StatusCode::OK,
        "application/x-git-upload-pack-advertisement",
        advertisement(&tags),
    );
    behaviour.date(&mut reply);
    Ok(reply)
}

/// A file that the machine's manager may have started.
fn text(spec: &Spec, wanted: &str) -> Option<String> {
    let (commit, path) = wanted.split_once('/')?;
    let mut files = spec.compose_manager.as_ref()?.files.iter();
    let file = files.find(|file| file.commit == commit && file.file == path)?;
    Some(file.text.clone())
}
