//! Whether a log goes on from the one that was seen before.

use crate::LogDigest;

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
