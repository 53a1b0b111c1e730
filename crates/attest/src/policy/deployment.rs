//! Rules about what was deployed into the machine.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::hex::Hex;
use super::rules::Mode;
use crate::compose_file::{FileRules, ImageDigest, Repository};
use crate::deployment::{ComposeFile, DeploymentRejected};
use crate::text::quoted;

/// What is expected of the deployment log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeploymentRules {
    pub(crate) mode: Mode,
    pub(crate) tags: Tags,
    pub(crate) sources: Sources,
    /// The commits that compose files may come from; any if empty.
    pub(crate) commits: BTreeSet<Hex<20>>,
    /// What the files may say, where they are at hand.
    pub(crate) files: FileRules,
}

/// The tags under which compose files may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tags {
    /// Releases: `v1.2.3`.
    Releases,
    /// Any.
    Any,
}

/// Whether the files that a log names, and the tags of their repository, have to be
/// at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Sources {
    /// What is at hand has to hold; of the rest the verdict says "not proved". Who
    /// withholds a source keeps the rules about it from being applied.
    IfAtHand,
    /// All of it.
    Required,
}

impl DeploymentRules {
    /// Every file that was ever started: keys and volumes outlive containers.
    pub(crate) fn admit(&self, started: &[&ComposeFile]) -> Result<(), DeploymentRejected> {
        for source in started {
            if self.tags == Tags::Releases && !is_release(&source.tag) {
                return Err(DeploymentRejected::Tag {
                    file: quoted(&source.file),
                    got: quoted(&source.tag),
                });
            }
            let commit = Hex(*source.commit.as_bytes());
            if !self.commits.is_empty() && !self.commits.contains(&commit) {
                return Err(DeploymentRejected::Commit {
                    file: quoted(&source.file),
                    got: commit.to_string(),
                    allowed: self.commits.len(),
                    accept: format!("deployment.commits = [\"{commit}\"]"),
                });
            }
        }
        Ok(())
    }
}

/// `v`, and three numbers.
fn is_release(tag: &str) -> bool {
    let is_number = |part: &str| {
        (1..=9).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    tag.strip_prefix('v').is_some_and(|version| {
        let mut parts = version.split('.');
        parts
            .by_ref()
            .take(3)
            .filter(|part| is_number(part))
            .count()
            == 3
            && parts.next().is_none()
    })
}

/// What a file says of the deployment.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileDeployment {
    pub(super) mode: Option<Mode>,
    tags: Option<Tags>,
    sources: Option<Sources>,
    commits: BTreeSet<Hex<20>>,
    repositories: FileRepositories,
    /// The exact images that may be on the prompt's way.
    images: BTreeSet<ImageDigest>,
    read_only_paths: BTreeSet<String>,
}

/// Repositories by what their programs may do.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct FileRepositories {
    fronts: BTreeSet<Repository>,
    proxies: BTreeSet<Repository>,
    engines: BTreeSet<Repository>,
    helpers: BTreeSet<Repository>,
    gpu_helpers: BTreeSet<Repository>,
}

/// As [`FileDeployment`] reads it. The volume of the TLS key is not a file's to say.
impl Serialize for DeploymentRules {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written<'a> {
            mode: Mode,
            tags: Tags,
            sources: Sources,
            commits: &'a BTreeSet<Hex<20>>,
            images: Option<&'a BTreeSet<ImageDigest>>,
            read_only_paths: &'a BTreeSet<String>,
            repositories: WrittenRepositories<'a>,
        }
        #[derive(Serialize)]
        struct WrittenRepositories<'a> {
            fronts: &'a BTreeSet<Repository>,
            proxies: &'a BTreeSet<Repository>,
            engines: &'a BTreeSet<Repository>,
            helpers: &'a BTreeSet<Repository>,
            gpu_helpers: &'a BTreeSet<Repository>,
        }
        let files = &self.files;
        Written {
            mode: self.mode,
            tags: self.tags,
            sources: self.sources,
            commits: &self.commits,
            images: files.digests.as_ref(),
            read_only_paths: &files.read_only_paths,
            repositories: WrittenRepositories {
                fronts: &files.fronts,
                proxies: &files.proxies,
                engines: &files.engines,
                helpers: &files.helpers,
                gpu_helpers: &files.gpu_helpers,
            },
        }
        .serialize(serializer)
    }
}

impl FileDeployment {
    pub(super) fn onto(self, rules: &mut DeploymentRules) {
        let files = &mut rules.files;
        files.fronts.extend(self.repositories.fronts);
        files.proxies.extend(self.repositories.proxies);
        files.engines.extend(self.repositories.engines);
        files.helpers.extend(self.repositories.helpers);
        files.gpu_helpers.extend(self.repositories.gpu_helpers);
        files.read_only_paths.extend(self.read_only_paths);
        if !self.images.is_empty() {
            files.digests.get_or_insert_default().extend(self.images);
        }
        rules.mode = self.mode.unwrap_or(rules.mode);
        rules.tags = self.tags.unwrap_or(rules.tags);
        rules.sources = self.sources.unwrap_or(rules.sources);
        rules.commits.extend(self.commits);
    }
}

impl DeploymentRules {
    /// Everything is looked at, and nothing is known: what a file does not say.
    pub(super) fn empty() -> Self {
        Self {
            mode: Mode::Required,
            tags: Tags::Releases,
            sources: Sources::IfAtHand,
            commits: BTreeSet::new(),
            files: FileRules::nothing(),
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let named = !self.commits.is_empty()
            || self.files.digests.is_some()
            || self.sources == Sources::Required;
        if self.mode == Mode::Off && named {
            return Err(
                "deployment.mode = \"off\" looks at no log, but the policy names commits or images, or requires sources"
                    .to_owned(),
            );
        }
        if self.mode == Mode::IfPresent && self.sources == Sources::Required {
            return Err(
                "deployment.sources = \"required\" is in vain where the log itself may be missing: expected deployment.mode = \"required\""
                    .to_owned(),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::is_release;

    #[test]
    fn a_release_is_three_numbers() {
        for tag in ["v0.0.1", "v1.2.3", "v10.20.30", "v123456789.0.0"] {
            assert!(is_release(tag), "{tag}");
        }
        for tag in [
            "",
            "v",
            "main",
            "1.2.3",
            "vv1.2.3",
            "v1.2",
            "v1.2.3.4",
            "v1.2.3.",
            "v1..3",
            "v1.2.x",
            "v1.2.3-rc1",
            "v1.2.+3",
            "v1234567890.0.0",
            "v1.2.\u{663}",
        ] {
            assert!(!is_release(tag), "{tag}");
        }
    }
}
