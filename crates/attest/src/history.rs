//! What was seen of backends before: their deployment logs, instance by instance, and
//! what their verdicts rested on, domain by domain.
//!
//! It proves nothing. It shows what changed, and refuses what went down where the
//! policy says so (`hold = true`).

mod domains;

use serde::{Deserialize, Serialize};

use crate::base::json::{self, Limits};
use crate::near::deployment::{InstanceLog, Logs, MAX_LOGS};

pub(crate) use self::domains::{DomainSeen, State};
use self::domains::{Domains, MAX_DOMAINS, MAX_REMARKS, MAX_STATES};

/// A log has five values; a state fourteen, a remark three.
const LIMITS: Limits = Limits {
    depth: 7,
    values: 5 * MAX_LOGS + MAX_DOMAINS * (14 * MAX_STATES + 3 * MAX_REMARKS + 3) + 3,
    members: MAX_LOGS,
};

/// The memory against which changes are noticed.
#[derive(Debug, Clone, Copy)]
pub enum HistoryCheck<'a> {
    /// What was seen before.
    Kept(&'a History),
    /// The same; the user accepts what went down at this domain, whatever the policy
    /// holds.
    Accepting(&'a History),
    /// There is no memory, for this reason; the report says so.
    NotKept(&'static str),
}

impl<'a> HistoryCheck<'a> {
    pub(crate) const fn history(self) -> Result<&'a History, &'static str> {
        match self {
            Self::Kept(history) | Self::Accepting(history) => Ok(history),
            Self::NotKept(reason) => Err(reason),
        }
    }
}

/// What was seen before, to be kept on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    pub(crate) logs: Logs,
    pub(crate) domains: Domains,
}

/// What one verdict adds to it; [`History::remember`] keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sighting {
    pub(crate) log: Option<InstanceLog>,
    pub(crate) domain: Option<DomainSeen>,
}

impl History {
    /// Keeps what a verdict showed. Returns true if anything changed, that is, if it has
    /// to be saved.
    pub fn remember(&mut self, sighting: &Sighting) -> bool {
        let log = sighting.log.as_ref();
        let log = log.is_some_and(|log| self.logs.remember(log));
        let domain = sighting.domain.as_ref();
        domain.is_some_and(|seen| self.domains.remember(seen)) || log
    }

    /// Reads what [`History::to_json`] wrote.
    ///
    /// # Errors
    /// A sentence that says what is wrong; the file was damaged or edited.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        json::parse(bytes, &LIMITS).map_err(|error| error.to_string())
    }

    /// Reads the file of version 0.1, which held deployment logs alone.
    ///
    /// # Errors
    /// As [`History::from_json`].
    pub fn from_json_of_logs(bytes: &[u8]) -> Result<Self, String> {
        let logs = json::parse(bytes, &LIMITS).map_err(|error| error.to_string())?;
        Ok(Self {
            logs,
            domains: Domains::default(),
        })
    }

    /// For a file.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What differs from what was seen before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// Of which kind.
    pub kind: ChangeKind,
    /// It went down: a policy with `hold = true` refuses it.
    pub down: bool,
    /// For a person: printable ASCII, bounded.
    pub detail: String,
}

impl Change {
    pub(crate) const fn new(kind: ChangeKind, detail: String) -> Self {
        Self {
            kind,
            down: false,
            detail,
        }
    }

    const fn down(kind: ChangeKind, detail: String) -> Self {
        Self {
            kind,
            down: true,
            detail,
        }
    }
}

/// A kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChangeKind {
    /// A level is lower than in every state that is remembered.
    Level,
    /// The OS image.
    Image,
    /// The key management service.
    Kms,
    /// The key that signs answers.
    SigningKey,
    /// Findings of severity warning or danger.
    Remarks,
    /// The deployment log.
    DeploymentLog,
}

impl ChangeKind {
    /// The stable name, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Level => "level",
            Self::Image => "image",
            Self::Kms => "kms",
            Self::SigningKey => "signing_key",
            Self::Remarks => "remarks",
            Self::DeploymentLog => "deployment_log",
        }
    }
}
