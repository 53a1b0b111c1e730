//! Whether a log goes on from the one that was seen before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{LogDigest, json};

/// Twenty times the instances of today's backends. Beyond, some
/// log is forgotten for each new one.
const MAX_LOGS: usize = 10_000;

/// Of [`Logs::to_json`]: three values an instance.
const LIMITS: json::Limits = json::Limits {
    depth: 4,
    values: 4 * MAX_LOGS,
};

/// What to remember of a log, for one instance, until it is seen again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
pub enum LogCheck<'a> {
    /// The logs seen before.
    Kept(&'a Logs),
    /// There is no memory, for this reason; the report says so.
    NotKept(&'static str),
}

/// What was seen of one instance's log; [`Logs::remember`] keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceLog {
    /// Hex.
    instance: String,
    seen: LogSeen,
}

impl InstanceLog {
    pub(crate) fn new(instance_id: &[u8], seen: LogSeen) -> Self {
        Self {
            instance: hex::encode(instance_id),
            seen,
        }
    }
}

/// The log of each instance as it was last seen, to be kept on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logs {
    by_instance: BTreeMap<String, LogSeen>,
}

impl Logs {
    /// What was last seen of the same instance.
    pub(crate) fn get(&self, log: &InstanceLog) -> Option<LogSeen> {
        self.by_instance.get(&log.instance).copied()
    }

    /// Keeps what a verified log was. Returns true if anything changed, that is,
    /// if it has to be saved.
    pub fn remember(&mut self, log: &InstanceLog) -> bool {
        if !self.by_instance.contains_key(&log.instance) && self.by_instance.len() >= MAX_LOGS {
            self.by_instance.pop_first();
        }
        self.by_instance.insert(log.instance.clone(), log.seen) != Some(log.seen)
    }

    /// Reads what [`Logs::to_json`] wrote.
    ///
    /// # Errors
    /// A sentence that says what is wrong; the file was damaged or edited.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let by_instance: BTreeMap<String, LogSeen> =
            json::parse(bytes, &LIMITS).map_err(|error| error.to_string())?;
        Ok(Self { by_instance })
    }

    /// One line an instance, for a file.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&self.by_instance).unwrap_or_default()
    }
}
