//! What runs in the machine, as a person or a script reads it.

use std::collections::HashSet;

use serde::Serialize;

use crate::base::levels::DeploymentLevel;
use crate::base::text::shown;
use crate::near::deployment::{
    ComposeFile, Deployment, FilesAtHand, Service, SinceBoot, Up, started,
};
use crate::nvidia::gpu::GpuFinding;

/// Lines of a list that are shown; real logs have some ten.
const MAX_SHOWN: usize = 200;

/// A deployment log that holds. Times are RFC 3339, by the machine's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeploymentShown {
    /// How many actions the log has.
    pub actions: usize,
    /// The time of the first.
    pub first: Option<String>,
    /// The time of the last.
    pub last: Option<String>,
    /// The image of the manager that was started last.
    pub manager: Option<String>,
    /// What this log is worth.
    pub level: DeploymentLevel,
    /// The first reasons why it is not `tagged`.
    pub not_tagged: Vec<String>,
    /// How many actions are from before this boot.
    pub before_boot: usize,
    /// Every file that was ever started, the first two hundred.
    pub files: Vec<FileShown>,
    /// How many more there are.
    pub files_left_out: usize,
    /// What is up, by the log: the first two hundred.
    pub up: Vec<UpShown>,
    /// How many more are up.
    pub left_out: usize,
}

/// A file that the log names, whether or not its starts succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileShown {
    /// Its path in the operator's repository.
    pub file: String,
    /// The tag that was asked for.
    pub tag: String,
    /// The commit.
    pub commit: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// When it was first started.
    pub first: String,
    /// "release", "no release", or what the list of tags says of it.
    pub release: &'static str,
    /// It was started since this boot, or was up when the machine booted. Where the
    /// time of the boot is not known, all count.
    pub since_boot: bool,
}

/// Something that is up, and where its image and settings stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpShown {
    /// The service, or "all of the file".
    pub service: String,
    /// Its image; none where the file was not given.
    pub image: Option<String>,
    /// The compose file in the operator's repository.
    pub file: String,
    /// The tag that was asked for.
    pub tag: String,
    /// The commit.
    pub commit: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// When it was started.
    pub since: String,
}

impl DeploymentShown {
    pub(crate) fn of(
        deployment: &Deployment,
        since: &SinceBoot,
        up: &[Up],
        files: Option<&FilesAtHand>,
        release: impl Fn(&ComposeFile) -> &'static str,
    ) -> Self {
        let counted: HashSet<_> = started(&since.actions).map(|(source, _)| source).collect();
        let all: Vec<_> = started(deployment.log()).collect();
        let listed = all.iter().take(MAX_SHOWN).map(|(source, at)| FileShown {
            file: shown(&source.file),
            tag: shown(&source.tag),
            commit: source.commit.to_string(),
            sha256: source.sha256.to_string(),
            first: at.to_string(),
            release: release(source),
            since_boot: counted.contains(source),
        });
        Self {
            level: DeploymentLevel::Declared,
            not_tagged: Vec::new(),
            before_boot: since.before,
            files: listed.collect(),
            files_left_out: all.len().saturating_sub(MAX_SHOWN),
            actions: deployment.actions(),
            first: deployment.first().map(|at| at.to_string()),
            last: deployment.last().map(|at| at.to_string()),
            manager: deployment.manager().map(|manager| shown(&manager.image)),
            up: up
                .iter()
                .take(MAX_SHOWN)
                .map(|up| UpShown::of(up, files))
                .collect(),
            left_out: up.len().saturating_sub(MAX_SHOWN),
        }
    }
}

impl UpShown {
    fn of(up: &Up, files: Option<&FilesAtHand>) -> Self {
        let image = match &up.service {
            Service::Named(name) => files.and_then(|files| files.image(&up.source, name)),
            Service::Rest { .. } => None,
        };
        let service = match &up.service {
            Service::Named(name) => name.clone(),
            Service::Rest { except } if except.is_empty() => "all of the file".to_owned(),
            Service::Rest { except } => format!("all of the file but {}", except.join(", ")),
        };
        Self {
            service: shown(&service),
            image: image.as_deref().map(shown),
            file: shown(&up.source.file),
            tag: shown(&up.source.tag),
            commit: up.source.commit.to_string(),
            sha256: up.source.sha256.to_string(),
            since: up.since.to_string(),
        }
    }
}

/// A GPU whose evidence holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GpuShown {
    /// The device, in hex.
    pub pdi: String,
    /// Its firmware's key, in decimal, as NVIDIA's services write it.
    pub ueid: String,
    /// The chip, such as GH100.
    pub chip: &'static str,
    /// The driver.
    pub driver: String,
    /// The VBIOS.
    pub vbios: String,
    /// Protected PCIe mode: "on", "off", or why it is not known.
    pub protected_pcie: &'static str,
    /// SHA-384 of its 64 measurements, in hex.
    pub measurements_sha384: String,
}

impl GpuShown {
    pub(crate) fn of(gpu: &GpuFinding) -> Self {
        Self {
            pdi: gpu.pdi.to_string(),
            ueid: gpu.ueid.to_string(),
            chip: gpu.architecture.chip(),
            driver: shown(&gpu.driver),
            vbios: shown(&gpu.vbios),
            protected_pcie: gpu.protected_pcie.as_str(),
            measurements_sha384: hex::encode(gpu.record_sha384),
        }
    }
}
