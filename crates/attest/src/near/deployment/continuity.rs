//! Whether a log goes on from the one that was seen before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Deployment;
use super::remarks::SLACK_SECONDS;
use crate::base::identifiers::{LogDigest, UnixTime};

/// Twenty times the instances of today's backends. Beyond, some
/// log is forgotten for each new one.
pub(crate) const MAX_LOGS: usize = 10_000;

/// What to remember of a log, for one instance, until it is seen again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogSeen {
    /// How many actions it had.
    pub actions: usize,
    /// All of them, in one digest.
    pub head: LogDigest,
}

/// How a log relates to the one that was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Continuity {
    /// The same log.
    Unchanged,
    /// The same log with so many actions more.
    Extended {
        /// How many.
        by: usize,
    },
    /// Another log: it was lost with the instance's disk, or set back to an
    /// earlier state, or written anew.
    Reset,
}

/// `chain` holds the digest after no action, after the first, and so on.
pub(crate) fn compare(chain: &[LogDigest], seen: &LogSeen) -> Continuity {
    if chain.get(seen.actions) != Some(&seen.head) {
        return Continuity::Reset;
    }
    let actions = chain.len().saturating_sub(1);
    match actions.saturating_sub(seen.actions) {
        0 => Continuity::Unchanged,
        by => Continuity::Extended { by },
    }
}

/// What was seen of one instance's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InstanceLog {
    /// Hex.
    instance: String,
    seen: Remembered,
}

/// What is kept of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    actions: usize,
    head: LogDigest,
    /// The boot in which it was seen, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    booted: Option<u64>,
    /// In that boot, a log did not go on from the one before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    lost: bool,
}

/// A log beside what is remembered of its instance.
#[derive(Debug)]
pub(crate) struct Compared {
    /// None if the instance was not seen before.
    pub(crate) continuity: Option<Continuity>,
    /// How many actions the one last seen had.
    pub(crate) seen_before: usize,
    /// Part of what was started since this boot was in a log that is gone. A log that
    /// was lost with a restart took only what was before it.
    pub(crate) lost_since_boot: bool,
    /// What to remember.
    pub(crate) now: InstanceLog,
}

/// Compares a log with what is remembered of its instance.
pub(crate) fn compare_with(
    logs: &Logs,
    instance_id: &[u8],
    log: &Deployment,
    booted: Option<UnixTime>,
) -> Compared {
    let instance = hex::encode(instance_id);
    let last = logs.0.get(&instance);
    let LogSeen { actions, head } = log.seen();
    let continuity = last.map(|last| {
        log.continuity(&LogSeen {
            actions: last.actions,
            head: last.head,
        })
    });
    // Where either is not known it may be the same.
    let is_other_boot =
        |last: u64| booted.is_some_and(|booted| booted.0.abs_diff(last) > SLACK_SECONDS);
    let same_boot = |last: &Remembered| !last.booted.is_some_and(is_other_boot);
    let lost = last.is_some_and(|last| {
        same_boot(last) && (last.lost || continuity == Some(Continuity::Reset))
    });
    Compared {
        continuity,
        seen_before: last.map_or(0, |last| last.actions),
        lost_since_boot: lost,
        now: InstanceLog {
            instance,
            seen: Remembered {
                actions,
                head,
                booted: booted.map(|booted| booted.0),
                lost,
            },
        },
    }
}

/// The log of each instance as it was last seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Logs(BTreeMap<String, Remembered>);

impl Logs {
    pub(crate) fn remember(&mut self, log: &InstanceLog) -> bool {
        if !self.0.contains_key(&log.instance) && self.0.len() >= MAX_LOGS {
            self.0.pop_first();
        }
        self.0.insert(log.instance.clone(), log.seen) != Some(log.seen)
    }
}
