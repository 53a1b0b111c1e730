//! Rules about what was deployed into the machine.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Mode;
use crate::base::hex::Hex;
use crate::base::levels::DeploymentLevel;
use crate::base::text::quoted;
use crate::compose::{FileRules, ImageDigest, ImageReference, Repository};
use crate::near::deployment::ComposeFile;
use crate::refusals::deployment::DeploymentRejected;

/// What is expected of the deployment log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeploymentRules {
    pub(crate) mode: Mode,
    pub(crate) tags: Tags,
    pub(crate) sources: Sources,
    pub(crate) broken_files: BrokenFiles,
    /// The repositories that the manager itself may be of; no machine is `tagged` if
    /// empty.
    managers: BTreeSet<Repository>,
    /// The commits that compose files may come from; any if empty.
    pub(crate) commits: BTreeSet<Hex<20>>,
    /// What the files may say, where they were given.
    pub(crate) files: FileRules,
}

/// The tags under which compose files may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tags {
    /// Releases: `v1.2.3`. Any other that was ever started refuses.
    Releases,
    /// Compared as releases are. One that is none is reported, and lowers the level
    /// until the machine boots anew.
    Report,
    /// Any; not compared.
    Any,
}

/// What becomes of files that cannot be judged, or break a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BrokenFiles {
    /// One that was ever started refuses.
    Refuse,
    /// One is reported, and lowers the level until the machine boots anew.
    Report,
}

/// Whether the files that a log names, and the tags of their repository, have to be
/// at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Sources {
    /// What was given has to hold; of the rest the verdict says "not proved". Who
    /// withholds a source keeps the rules about it from being applied.
    IfAtHand,
    /// All of it.
    Required,
}

impl DeploymentRules {
    /// Every file that was ever started: keys and volumes outlive containers.
    pub(crate) fn admit(&self, started: &[&ComposeFile]) -> Result<(), DeploymentRejected> {
        for source in started {
            if self.tags == Tags::Releases {
                admit_release(source)?;
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

    pub(crate) fn pins_commits(&self) -> bool {
        !self.commits.is_empty()
    }

    /// What speaks against the image of a manager, if the policy names any. A manager
    /// has every right in the machine and writes the log, so another one decides what
    /// the log says.
    pub(crate) fn manager(&self, image: &str) -> Result<(), String> {
        match ImageReference::read(image) {
            Some(known) if !self.managers.contains(&known.repository) => Err(format!(
                "the manager {} is of no repository that the policy names",
                quoted(image)
            )),
            Some(known) if known.digest.is_some() => Ok(()),
            _ => Err(format!("the manager {} has no digest", quoted(image))),
        }
    }

    /// For people.
    pub(crate) fn manager_names(&self) -> impl Iterator<Item = String> {
        self.managers.iter().map(ToString::to_string)
    }

    /// True if the policy names repositories of the manager.
    pub(crate) fn names_managers(&self) -> bool {
        !self.managers.is_empty()
    }
}

/// By its tag's form alone.
pub(crate) fn admit_release(source: &ComposeFile) -> Result<(), DeploymentRejected> {
    if is_release(&source.tag) {
        return Ok(());
    }
    Err(DeploymentRejected::Tag {
        file: quoted(&source.file),
        got: quoted(&source.tag),
    })
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
pub(crate) struct FileDeployment {
    pub(crate) mode: Option<Mode>,
    tags: Option<Tags>,
    sources: Option<Sources>,
    files: Option<BrokenFiles>,
    managers: BTreeSet<Repository>,
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
            files: BrokenFiles,
            managers: &'a BTreeSet<Repository>,
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
            files: self.broken_files,
            managers: &self.managers,
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
    pub(crate) fn onto(self, rules: &mut DeploymentRules) {
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
        rules.broken_files = self.files.unwrap_or(rules.broken_files);
        rules.managers.extend(self.managers);
        rules.commits.extend(self.commits);
    }
}

impl DeploymentRules {
    /// Everything is looked at, and nothing is known: what a file does not say.
    pub(crate) fn empty() -> Self {
        Self {
            mode: Mode::Required,
            tags: Tags::Releases,
            sources: Sources::IfAtHand,
            broken_files: BrokenFiles::Refuse,
            managers: BTreeSet::new(),
            commits: BTreeSet::new(),
            files: FileRules::nothing(),
        }
    }

    /// Refuses a rule on evidence that a machine may leave out, because a machine that
    /// breaks the rule would leave the evidence out.
    pub(crate) fn check(&self, least: DeploymentLevel) -> Result<(), String> {
        let tagged = least == DeploymentLevel::Tagged;
        let pinned = [
            ("commits", !self.commits.is_empty()),
            ("images", self.files.digests.is_some()),
            ("sources = \"required\"", self.sources == Sources::Required),
        ];
        let mut pinned = pinned.into_iter().filter(|(_, is_said)| *is_said);
        if let Some((line, _)) = pinned.next()
            && self.mode != Mode::Required
        {
            let looks = match self.mode {
                Mode::Off => "looks at no log",
                _ => "accepts a machine without a log",
            };
            return Err(format!(
                "deployment.{line} has no effect, because the policy {looks}: expected deployment.mode = \"required\""
            ));
        }
        let unseen = [
            ("deployment.images", self.files.digests.is_some()),
            ("least.deployment = \"tagged\"", tagged),
        ];
        let mut unseen = unseen.into_iter().filter(|(_, is_said)| *is_said);
        if let Some((line, _)) = unseen.next()
            && self.sources != Sources::Required
        {
            return Err(format!(
                "{line} has no effect, because the policy accepts a log whose files are missing: expected deployment.sources = \"required\""
            ));
        }
        if self.files.digests.is_some() && self.broken_files == BrokenFiles::Report && !tagged {
            return Err(
                "deployment.images has no effect, because the policy only reports a file that breaks a rule: expected deployment.files = \"refuse\" or least.deployment = \"tagged\""
                    .to_owned(),
            );
        }
        if tagged {
            let mend = match (self.tags, self.managers.is_empty()) {
                (Tags::Any, _) => "deployment.tags = \"releases\" or \"report\"",
                (_, true) => "deployment.managers",
                _ => return Ok(()),
            };
            return Err(format!(
                "no machine can reach least.deployment = \"tagged\" under this policy: expected {mend}"
            ));
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
