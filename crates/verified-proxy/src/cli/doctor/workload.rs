//! Sources about the software and the GPUs: compose files, their tags, and NVIDIA.
//! Without them requests are answered, unless the policy requires them.

use attest::Policy;
use proxy::examine::Examiner;
use sources::compose_files::{ComposeSource, FileError};
use sources::compose_tags::ListError;
use sources::nras::NrasError;

use super::check::{Check, Id};
use super::clock::Times;
use super::network::Probed;

/// Fetches a file that the backend's deployment log names; without a log, tests that the
/// repository answers.
pub(super) async fn compose_files(
    examiner: &Examiner,
    policy: &Policy,
    probed: &Probed,
    times: &mut Times,
) -> Check {
    let files = &examiner.sources.compose_files;
    let base = match files.source() {
        ComposeSource::Repository(base) => base,
        ComposeSource::Off => {
            let why = "none are fetched (--compose-files-url off), so their content is not proved";
            return Check::skipped(Id::ComposeFiles, why);
        }
    };
    let log = match probed {
        Probed::Examined(backend, examined) => {
            let log = examined.appraisal.sound_log();
            log.map(|log| (backend, log.started(), examined.appraisal.files_wanted()))
        }
        _ => None,
    };
    let file = log.as_ref().and_then(|(_, named, wanted)| {
        let wanted = wanted.first();
        wanted.or(named.first().copied())
    });
    let check = match (files.check(base, file).await, log) {
        (Ok(()), Some((backend, named, wanted))) if !named.is_empty() => {
            let detail = format!(
                "{} of {} that the log of {} names are available",
                named.len().saturating_sub(wanted.len()),
                named.len(),
                backend.domain()
            );
            if wanted.is_empty() {
                Check::ok(Id::ComposeFiles, detail)
            } else {
                let detail = format!("{detail}; the others came too late");
                let fix = "try again; name a faster repository with --compose-files-url";
                missing(Id::ComposeFiles, policy, detail, fix)
            }
        }
        (Ok(()), _) => Check::skipped(
            Id::ComposeFiles,
            "it answers; no deployment log was available, so no file was requested",
        ),
        (Err(error), _) => {
            let fix = match &error {
                FileError::Fetch(source) => {
                    times.failure(source, "name another repository with --compose-files-url")
                }
                _ => "check --compose-files-url: COMMIT/FILE has to be below it".to_owned(),
            };
            missing(Id::ComposeFiles, policy, error.to_string(), fix)
        }
    };
    check.of(base.to_string())
}

/// The tags of the same repository, if the policy compares them.
pub(super) async fn compose_tags(
    examiner: &Examiner,
    policy: &Policy,
    times: &mut Times,
) -> Option<Check> {
    if !policy.compares_tags() {
        return None;
    }
    let tags = &examiner.sources.compose_tags;
    let base = match tags.source() {
        ComposeSource::Repository(base) => base,
        ComposeSource::Off => {
            let why = "none are fetched (--compose-tags-url off), so they are not compared";
            return Some(Check::skipped(Id::ComposeTags, why));
        }
    };
    let check = match tags.fetch(base).await {
        Ok(list) => Check::ok(Id::ComposeTags, format!("{} can be compared", list.len())),
        Err(error) => {
            let fix = match &error {
                ListError::Fetch(source) => {
                    times.failure(source, "name another repository with --compose-tags-url")
                }
                _ => "check --compose-tags-url: it has to be a git repository over HTTP".to_owned(),
            };
            missing(Id::ComposeTags, policy, error.to_string(), fix)
        }
    };
    Some(check.of(base.to_string()))
}

/// How a missing source counts: a failure if the policy requires it.
fn missing(id: Id, policy: &Policy, detail: String, fix: impl Into<String>) -> Check {
    if policy.requires_sources() {
        let detail = format!("{detail}; the policy requires it (deployment.sources)");
        Check::failed(id, detail, fix)
    } else {
        let detail = format!("{detail}; verdicts report it as not proved");
        Check::warning(id, detail, fix)
    }
}

/// NVIDIA's keys, if the policy asks NVIDIA. The check sends no GPU's evidence.
pub(super) async fn nras(
    examiner: &Examiner,
    opinion: Opinion,
    times: &mut Times,
) -> Option<Check> {
    if opinion == Opinion::Off {
        return None;
    }
    let nras = &examiner.sources.nras;
    let check = match nras.answers().await {
        Ok(()) => Check::ok(Id::Nras, "they can be read"),
        Err(error) => {
            let another =
                "name another address with --nras-url, or use a policy with gpu.nras = \"off\"";
            let mut fix = another.to_owned();
            if let NrasError::Fetch { source, .. } = &error {
                fix = times.failure(source, another);
            }
            if opinion == Opinion::Required {
                Check::failed(Id::Nras, error.to_string(), fix)
            } else {
                let detail = format!("{error}; verdicts report its opinion as not proved");
                Check::warning(Id::Nras, detail, fix)
            }
        }
    };
    Some(check.of(nras.service().to_string()))
}

/// What the policy says about NVIDIA's opinion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opinion {
    Off,
    Reported,
    Required,
}

impl Opinion {
    pub(super) fn of(policy: &Policy) -> Self {
        match (policy.asks_nras(), policy.requires_nras()) {
            (false, _) => Self::Off,
            (true, false) => Self::Reported,
            (true, true) => Self::Required,
        }
    }
}
