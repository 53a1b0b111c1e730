//! The report for people: every check, as pass, fail or not proved.
//!
//! A check starts as "not proved" and stays so unless it ran; nothing here
//! decides anything. The proof is [`Attested`](crate::Attested).

mod sentence;
mod workload;

pub use self::sentence::Named;
pub use self::workload::{DeploymentShown, FileShown, GpuShown, UpShown};
use std::collections::BTreeSet;

use crate::base::finding::Finding;
use crate::base::identifiers::{PolicyDigest, UnixTime};
use crate::base::levels::Levels;
use crate::history::Change;
use crate::policy::Difference;
use crate::refusals::Rejected;
use crate::refusals::checks::CheckId;
use crate::trust::TrustAnchors;

/// What became of a check. The default is the worst of those that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// It ran and holds.
    Pass,
    /// It ran and does not hold: the refusal.
    Fail,
    /// It did not run; the detail says why.
    NotProved,
}

impl Status {
    /// The stable name, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::NotProved => "not_proved",
        }
    }
}

/// The reason of a check that an earlier refusal kept from running.
pub const NOT_REACHED: &str = "not reached: an earlier check failed";

/// One line of a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Which check.
    pub id: CheckId,
    /// What became of it.
    pub status: Status,
    /// What was compared with what, or why nothing was. Printable ASCII, bounded.
    pub detail: String,
}

/// The policy a report was judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyName {
    /// The policy's own name.
    pub name: String,
    /// Over every rule.
    pub digest: PolicyDigest,
    /// True if software and identity are not looked at: such a verdict says
    /// "some TDX machine", not "the expected one".
    pub hardware_only: bool,
}

/// Something seen that no check compares, for a person or a later pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The stable name, in snake case.
    pub name: &'static str,
    /// Printable ASCII, bounded.
    pub value: String,
}

/// Everything a person may want to know about one appraisal.
///
/// It is a description: whoever acts on it trusts whoever wrote it. The proof
/// is [`Attested`](crate::Attested).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// `None` means verified; the proof itself is [`Attested`](crate::Attested).
    pub rejected: Option<Rejected>,
    /// What the policy expected beside what was seen, where a refusal compares.
    pub differences: Vec<Difference>,
    /// The policy.
    pub policy: PolicyName,
    /// The time it was judged at.
    pub at: UnixTime,
    /// True if the trust root is Intel's. Under any other root a verdict says
    /// nothing about real hardware.
    pub intel_root: bool,
    /// True if the root of GPUs is NVIDIA's.
    pub nvidia_root: bool,
    /// True if NVIDIA's own authorities certify the keys of its attestation service.
    pub nvidia_service: bool,
    /// What the evidence shows, axis by axis; `None` if it was refused.
    pub levels: Option<Levels>,
    /// What the sentence about it names.
    pub named: Named,
    /// One line for each of [`CheckId::ALL`], in that order.
    pub checks: Vec<Check>,
    /// What was seen besides.
    pub facts: Vec<Fact>,
    /// What was deployed, if the log holds.
    pub deployment: Option<DeploymentShown>,
    /// The GPUs, if their evidence holds.
    pub gpus: Vec<GpuShown>,
    /// What a reader should know and no rule refuses, the gravest first.
    pub findings: Vec<Finding>,
    /// What differs from what was seen before, of the domain and of the instance.
    pub changes: Vec<Change>,
    /// How many of the remarks are new for this domain; `None` without a memory.
    pub new_remarks: Option<usize>,
    /// The topics of findings that the policy does not want to hear of now.
    pub quiet: BTreeSet<String>,
    /// What is not proved even where every check passed.
    pub limits: Vec<&'static str>,
}

impl Report {
    pub(crate) fn new(policy: PolicyName, at: UnixTime, anchors: &TrustAnchors) -> Self {
        let not_reached = |&id| Check {
            id,
            status: Status::NotProved,
            detail: NOT_REACHED.to_owned(),
        };
        Self {
            rejected: None,
            differences: Vec::new(),
            policy,
            at,
            intel_root: anchors.is_intel(),
            nvidia_root: anchors.gpus().is_nvidia(),
            nvidia_service: anchors.nras().is_nvidia(),
            levels: None,
            named: Named::default(),
            checks: CheckId::ALL.iter().map(not_reached).collect(),
            facts: Vec::new(),
            deployment: None,
            gpus: Vec::new(),
            findings: Vec::new(),
            changes: Vec::new(),
            new_remarks: None,
            quiet: BTreeSet::new(),
            limits: Vec::new(),
        }
    }

    /// The line of one check.
    #[must_use]
    pub fn check(&self, id: CheckId) -> Option<&Check> {
        self.checks.iter().find(|check| check.id == id)
    }

    pub(crate) fn set(&mut self, id: CheckId, status: Status, detail: impl Into<String>) {
        if let Some(check) = self.checks.iter_mut().find(|check| check.id == id) {
            check.status = status;
            check.detail = detail.into();
        }
    }

    pub(crate) fn pass(&mut self, id: CheckId, detail: impl Into<String>) {
        self.set(id, Status::Pass, detail);
    }

    pub(crate) fn not_proved(&mut self, id: CheckId, reason: impl Into<String>) {
        self.set(id, Status::NotProved, reason);
    }

    pub(crate) fn fact(&mut self, name: &'static str, value: impl Into<String>) {
        self.facts.push(Fact {
            name,
            value: value.into(),
        });
    }

    /// "intel", or a warning.
    #[must_use]
    pub const fn trust_root(&self) -> &'static str {
        root(self.intel_root, "intel", "DANGER: not Intel's")
    }

    /// "nvidia", or a warning.
    #[must_use]
    pub const fn gpu_root(&self) -> &'static str {
        root(self.nvidia_root, "nvidia", "DANGER: not NVIDIA's")
    }

    /// Who certifies the keys of NVIDIA's attestation service: "nvidia", or a warning.
    #[must_use]
    pub const fn nras_root(&self) -> &'static str {
        root(self.nvidia_service, "nvidia", "DANGER: not NVIDIA's")
    }

    /// "verified" or "rejected".
    #[must_use]
    pub const fn verdict(&self) -> &'static str {
        match self.rejected {
            None => "verified",
            Some(_) => "rejected",
        }
    }
}

const fn root(is_genuine: bool, name: &'static str, warning: &'static str) -> &'static str {
    if is_genuine { name } else { warning }
}

/// The shape that scripts read: `{"verdict","code","message","hint","blame","differences":[{"what","expected","seen"}],"levels","sentence",
/// "policy",
/// "at","trust_root","gpu_root","nras_root","checks":[{"id","group","title","status","detail"}],
/// "facts","deployment","gpus","findings":[{"severity","topic","detail"}],
/// "changes":[{"kind","down","detail"}],"new_remarks","quiet","limits"}`.
impl serde::Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let checks: Vec<_> = self
            .checks
            .iter()
            .map(|check| {
                serde_json::json!({
                    "id": check.id.id(),
                    "group": check.id.group().title(),
                    "title": check.id.title(),
                    "status": check.status.as_str(),
                    "detail": check.detail,
                })
            })
            .collect();
        let facts: serde_json::Map<String, serde_json::Value> = self
            .facts
            .iter()
            .map(|fact| (fact.name.to_owned(), fact.value.clone().into()))
            .collect();
        serde_json::json!({
            "verdict": self.verdict(),
            "code": self.rejected.as_ref().map(Rejected::code),
            "message": self.rejected.as_ref().map(ToString::to_string),
            "hint": self.rejected.as_ref().map(Rejected::hint),
            "blame": self.rejected.as_ref().map(|rejected| rejected.blame().as_str()),
            "differences": self.differences,
            "levels": self.levels,
            "sentence": self.sentence(),
            "policy": {
                "name": self.policy.name,
                "digest": self.policy.digest.to_string(),
                "hardware_only": self.policy.hardware_only,
            },
            "at": self.at.to_string(),
            "trust_root": self.trust_root(),
            "gpu_root": self.gpu_root(),
            "nras_root": self.nras_root(),
            "checks": checks,
            "facts": facts,
            "deployment": self.deployment,
            "gpus": self.gpus,
            "findings": self.findings,
            "changes": self.changes,
            "new_remarks": self.new_remarks,
            "quiet": self.quiet,
            "limits": self.limits,
        })
        .serialize(serializer)
    }
}
