//! Whether a log goes on from the one that was seen before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Deployment;
use super::remarks::SLACK_SECONDS;
use crate::json::{self, Limits};
use crate::{LogDigest, UnixTime};

/// Twenty times the instances of today's backends. Beyond, some
/// log is forgotten for each new one.
const MAX_LOGS: usize = 10_000;

/// One object, and five values for each log.
const LIMITS: Limits = Limits {
    depth: 2,
    values: 5 * MAX_LOGS + 1,
    members: MAX_LOGS,
};

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

/// The memory against which a changed log is noticed.
#[derive(Debug, Clone, Copy)]
pub enum HistoryCheck<'a> {
    /// The logs seen before.
    Kept(&'a History),
    /// There is no memory, for this reason; the report says so.
    NotKept(&'static str),
}

/// What was seen of one instance's log; [`History::remember`] keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
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
    pub(crate) now: Sighting,
}

/// Compares a log with what is remembered of its instance.
pub(crate) fn compare_with(
    logs: &History,
    instance_id: &[u8],
    log: &Deployment,
    booted: Option<UnixTime>,
) -> Compared {
    let instance = hex::encode(instance_id);
    let last = logs.by_instance.get(&instance);
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
        now: Sighting {
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

/// The log of each instance as it was last seen, to be kept on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    by_instance: BTreeMap<String, Remembered>,
}

impl History {
    /// Keeps what a verified log was. Returns true if anything changed, that is,
    /// if it has to be saved.
    pub fn remember(&mut self, log: &Sighting) -> bool {
        if !self.by_instance.contains_key(&log.instance) && self.by_instance.len() >= MAX_LOGS {
            self.by_instance.pop_first();
        }
        self.by_instance.insert(log.instance.clone(), log.seen) != Some(log.seen)
    }

    /// Reads what [`History::to_json`] wrote.
    ///
    /// # Errors
    /// A sentence that says what is wrong; the file was damaged or edited.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let by_instance: BTreeMap<String, Remembered> =
            json::parse(bytes, &LIMITS).map_err(|error| error.to_string())?;
        Ok(Self { by_instance })
    }

    /// One line an instance, for a file.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&self.by_instance).unwrap_or_default()
    }
}
