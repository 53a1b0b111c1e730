//! The shown part of a report, in the shape of its JSON.

use std::collections::BTreeMap;

use attest::{CheckId, Levels, NOT_REACHED, Status};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(super) struct Shown {
    pub(super) verdict: String,
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
    pub(super) hint: Option<String>,
    #[serde(default)]
    pub(super) levels: Option<Levels>,
    #[serde(default)]
    pub(super) sentence: Option<String>,
    #[serde(default)]
    pub(super) changes: Vec<Change>,
    pub(super) policy: Policy,
    pub(super) at: String,
    pub(super) trust_root: String,
    pub(super) gpu_root: String,
    pub(super) nras_root: String,
    pub(super) checks: Vec<Check>,
    pub(super) facts: BTreeMap<String, String>,
    pub(super) deployment: Option<Deployment>,
    pub(super) gpus: Vec<Gpu>,
    pub(super) findings: Vec<Finding>,
    pub(super) limits: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) hardware_only: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Check {
    pub(super) id: String,
    pub(super) group: String,
    pub(super) title: String,
    pub(super) status: String,
    pub(super) detail: String,
}

impl Check {
    pub(super) fn ran(&self) -> bool {
        self.status != Status::NotProved.as_str()
    }

    pub(super) fn passed(&self) -> bool {
        self.status == Status::Pass.as_str()
    }

    pub(super) fn was_reached(&self) -> bool {
        self.ran() || self.detail != NOT_REACHED
    }

    /// What is compared with what, if this program knows the check.
    pub(super) fn compared(&self) -> Option<&'static str> {
        let known = CheckId::ALL.iter().find(|id| id.id() == self.id);
        known.map(|id| id.compared())
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Deployment {
    pub(super) actions: usize,
    pub(super) first: Option<String>,
    pub(super) last: Option<String>,
    pub(super) manager: Option<String>,
    pub(super) up: Vec<Up>,
    pub(super) left_out: usize,
}

#[derive(Debug, Deserialize)]
pub(super) struct Up {
    pub(super) service: String,
    pub(super) image: Option<String>,
    pub(super) file: String,
    pub(super) tag: String,
    pub(super) commit: String,
    pub(super) since: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Gpu {
    pub(super) pdi: String,
    #[serde(flatten)]
    pub(super) kind: GpuKind,
}

/// What GPUs that share a line have in common.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct GpuKind {
    pub(super) chip: String,
    pub(super) driver: String,
    pub(super) vbios: String,
    pub(super) protected_pcie: String,
    pub(super) measurements_sha384: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Finding {
    pub(super) severity: String,
    pub(super) topic: String,
    pub(super) detail: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Change {
    pub(super) down: bool,
    pub(super) detail: String,
}

/// "1 finding", "2 findings".
pub(super) fn counted(count: usize, one: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {one}{plural}")
}
