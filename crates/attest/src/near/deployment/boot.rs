//! Which part of a log is of this boot.
//!
//! Keys, sockets and volumes survive the container that had them, so what was
//! started since the machine booted counts until it boots again, stopped or not.
//! A restart takes from a program the memory, the sockets and the rights that it had.
//!
//! What ran before is shown only, with two exceptions, since the disk outlives a
//! restart where the log does:
//!
//! - Docker starts again what was up. dstack mounts Docker's folder from the
//!   instance's disk and removes at boot only what its own project does not define,
//!   which files of a manager are not of; no log has this start. So what the log
//!   says was up counts as if it had been started at boot.
//! - An action that this version does not know may have left something that is.
//!
//! What an earlier program left in a named volume (model weights, a TLS key that it
//! read) is not told by any log: the level speaks of programs, not of data. Keys of the
//! application are no reason to count the past for ever: they are the same on each of
//! its machines, whose logs are not this one's.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::actions::{Action, ComposeFile, Kind, second};
use super::fold::{self, ComposeFiles};
use super::remarks::SLACK_SECONDS;
use crate::base::identifiers::UnixTime;

/// How long after its boot a machine's first action may be. It waits for its operator
/// to call the manager: 10 and 12 minutes in recorded logs. A manager that lost its log
/// begins another one, so a later beginning says nothing of what was before it.
const MAX_IDLE_SECONDS: u64 = 3600;

/// A log, divided.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SinceBoot {
    /// Starts that count: of this boot, and before them those of what was up at boot.
    pub(crate) actions: Vec<Action>,
    /// How many actions of the log are older.
    pub(crate) before: usize,
    /// Why this may not be all that was started since the boot.
    pub(crate) gap: Option<String>,
}

/// Without a known time of the boot, all of the log counts.
pub(crate) fn divide(
    actions: &[Action],
    booted: Option<UnixTime>,
    files: &ComposeFiles,
) -> SinceBoot {
    let whole = |gap: String| SinceBoot {
        actions: actions.to_vec(),
        before: 0,
        gap: Some(gap),
    };
    let Some(booted) = booted else {
        return whole("the time of the machine's boot is not known".to_owned());
    };
    // The guest agent asks for the certificate that tells the time of the boot when it
    // starts; a manager can start it anew (`dstack_agent_restart`).
    let is_agents = |action: &&Action| {
        let at = second(action.at);
        action.kind == Kind::AgentStarted
            && at.plus(MAX_IDLE_SECONDS) >= booted
            && at <= booted.plus(SLACK_SECONDS)
    };
    if let Some(action) = actions.iter().find(is_agents) {
        return whole(format!(
            "the guest agent was started anew on {}, so the time of the machine's boot is not known",
            second(action.at)
        ));
    }
    let before = older(actions, booted);
    let (older, since) = actions.split_at_checked(before).unwrap_or((actions, &[]));
    let manager = older
        .iter()
        .rfind(|action| matches!(action.kind, Kind::ManagerStarted { .. }));
    let first = actions.first().map(|action| second(action.at));
    SinceBoot {
        gap: first
            .filter(|first| *first > booted.plus(MAX_IDLE_SECONDS))
            .map(|first| {
                format!(
                    "the machine booted on {booted}, but the log begins on {first}: the log does not show what started in between"
                )
            }),
        actions: may_be_up(older, files)
            .into_iter()
            .chain(manager.cloned())
            .chain(since.iter().cloned())
            .collect(),
        before,
    }
}

/// How many actions stand before the first of this boot. Behind a clock that was set
/// back far, times do not tell what is older: all from there on counts.
fn older(actions: &[Action], booted: UnixTime) -> usize {
    let mut last = UnixTime(0);
    let is_older = |action: &&Action| {
        let at = second(action.at);
        let in_order = at.plus(SLACK_SECONDS) >= last;
        last = at;
        in_order && at.plus(SLACK_SECONDS) < booted
    };
    actions.iter().take_while(is_older).count()
}

/// A start of each file of which something may be up, with what that is. Nothing is up
/// by the file's own name for it alone: a start whose file was not given may have failed,
/// and left what was there; and managers take a project's name, which no log has, so that
/// what a later file does not define may have been spared.
fn may_be_up(actions: &[Action], files: &ComposeFiles) -> Vec<Action> {
    let mut named: BTreeMap<&str, Vec<&ComposeFile>> = BTreeMap::new();
    let mut whole: Vec<&ComposeFile> = Vec::new();
    for action in actions {
        match &action.kind {
            Kind::Up { source, services } => match files.defined(&source.file, source.commit) {
                Some(defined) => {
                    for service in fold::start(services, defined) {
                        named.insert(service, vec![source]);
                    }
                }
                None if services.is_empty() => whole.push(source),
                None => {
                    for service in services {
                        named.entry(service).or_default().push(source);
                    }
                }
            },
            Kind::Down {
                file,
                commit,
                services,
            } => {
                for service in services {
                    named.remove(service.as_str());
                }
                if !services.is_empty() {
                    continue;
                }
                for service in files.defined(file, *commit).into_iter().flatten() {
                    named.remove(service.0.as_str());
                }
                let elsewhere = |source: &&ComposeFile| source.file != *file;
                named.values_mut().for_each(|of| of.retain(elsewhere));
                whole.retain(elsewhere);
            }
            _ => {}
        }
    }
    let mut up: HashMap<&ComposeFile, Vec<String>> = HashMap::new();
    for (service, of) in named {
        for source in of {
            up.entry(source).or_default().push(service.to_owned());
        }
    }
    for source in whole {
        up.insert(source, Vec::new());
    }
    // In the order of the log, each by its first start.
    let starts = actions.iter().filter_map(|action| match &action.kind {
        Kind::Up { source, .. } => Some(Action {
            at: action.at,
            kind: Kind::Up {
                source: Arc::clone(source),
                services: up.remove(source.as_ref())?,
            },
        }),
        _ => None,
    });
    starts.collect()
}
