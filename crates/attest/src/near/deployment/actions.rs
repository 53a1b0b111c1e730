//! The manager's actions, each read once into what it did.
//!
//! All of them count and are hashed. Those that change no service, and those that
//! this version does not know, fold to nothing; the latter are told.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::canonical::Members;
use crate::base::identifiers::{CommitId, FileDigest, UnixTime};
use crate::base::text::quoted;
use crate::refusals::deployment::DeploymentRejected;

/// Recorded actions name at most 3 services, recorded files define some 20.
const MAX_SERVICES: usize = 256;

/// Names of files, services, tags and images; the longest seen has 97 characters.
const MAX_NAME_BYTES: usize = 256;

/// Actions that start no other file and no other image (compose-manager's source).
const INERT: [&str; 8] = [
    "compose_stage",
    "docker_restart",
    "docker_evict",
    "docker_clean",
    "dstack_agent_stop",
    "kernel_algif_blacklist_ok",
    "kernel_algif_blacklist_script_failed",
    "kernel_algif_blacklist_invocation_failed",
];

/// A compose file, named so that anybody can fetch and compare it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ComposeFile {
    /// Its path in the repository of compose files.
    pub file: String,
    /// The tag that was asked for. What it pointed to was decided elsewhere: the
    /// commit counts.
    pub tag: String,
    /// The commit.
    pub commit: CommitId,
    /// The digest of the file.
    pub sha256: FileDigest,
}

/// A moment of the log, with the fractions that order it.
pub(crate) type Moment = DateTime<Utc>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) at: Moment,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No services: all of the file.
    Up {
        source: Arc<ComposeFile>,
        services: Vec<String>,
    },
    /// As for `Up`; the log gives no digest here.
    Down {
        file: String,
        commit: CommitId,
        services: Vec<String>,
    },
    ManagerStarted {
        image: String,
    },
    /// The guest agent: it has a new certificate then.
    AgentStarted,
    Inert,
    /// Its name, as it stands there.
    Unknown(String),
}

/// The whole second of a moment.
pub(crate) fn second(moment: Moment) -> UnixTime {
    // Moments before 1970 were refused when they were read.
    UnixTime(u64::try_from(moment.timestamp()).unwrap_or_default())
}

impl Action {
    pub(crate) fn read(index: usize, members: &Members<'_>) -> Result<Self, DeploymentRejected> {
        let fields = Fields { index, members };
        let timestamp = fields.text("timestamp")?;
        let at = DateTime::parse_from_rfc3339(&timestamp)
            .ok()
            .filter(|moment| moment.timestamp() >= 0)
            .ok_or_else(|| fields.bad("timestamp", "a time (RFC 3339)", &timestamp))?
            .to_utc();
        let kind = match fields.text("action")?.as_str() {
            "compose_up" => Kind::Up {
                source: Arc::new(ComposeFile {
                    file: fields.path("file")?,
                    tag: fields.name("tag", "a plain name", b"._/+-")?,
                    commit: fields.commit()?,
                    sha256: fields.digest()?,
                }),
                services: fields.services()?,
            },
            "compose_down" => Kind::Down {
                file: fields.path("file")?,
                commit: fields.commit()?,
                services: fields.services()?,
            },
            "compose_manager_started" => Kind::ManagerStarted {
                image: fields.name("image", "the reference of an image", b"._/+-:@")?,
            },
            "dstack_agent_start" | "dstack_agent_restart" => Kind::AgentStarted,
            name if INERT.contains(&name) => Kind::Inert,
            name => Kind::Unknown(name.to_owned()),
        };
        Ok(Self { at, kind })
    }
}

struct Fields<'a> {
    index: usize,
    members: &'a Members<'a>,
}

impl Fields<'_> {
    fn bad(&self, field: &'static str, expected: &'static str, got: &str) -> DeploymentRejected {
        DeploymentRejected::Action {
            index: self.index,
            field,
            expected,
            got: quoted(got),
        }
    }

    fn required(&self, field: &'static str) -> Result<String, DeploymentRejected> {
        self.members
            .get(field)
            .ok_or_else(|| DeploymentRejected::Action {
                index: self.index,
                field,
                expected: "a value",
                got: "none".to_owned(),
            })
    }

    fn text(&self, field: &'static str) -> Result<String, DeploymentRejected> {
        let raw = self.required(field)?;
        serde_json::from_str(&raw)
            .ok()
            .filter(|text: &String| text.len() <= MAX_NAME_BYTES)
            .ok_or_else(|| self.bad(field, "a string of at most 256 bytes", &raw))
    }

    /// Letters, digits and a few signs: such a name can be shown as it is.
    fn name(
        &self,
        field: &'static str,
        expected: &'static str,
        signs: &[u8],
    ) -> Result<String, DeploymentRejected> {
        let text = self.text(field)?;
        if !is_plain(&text, signs) {
            return Err(self.bad(field, expected, &text));
        }
        Ok(text)
    }

    /// A path that stays inside the repository, whatever it is put into.
    fn path(&self, field: &'static str) -> Result<String, DeploymentRejected> {
        let expected = "a path in the repository of compose files";
        let path = self.name(field, expected, b"._/+-")?;
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(self.bad(field, expected, &path));
        }
        Ok(path)
    }

    fn commit(&self) -> Result<CommitId, DeploymentRejected> {
        let text = self.text("commit")?;
        text.parse()
            .map_err(|_| self.bad("commit", "40 hex digits", &text))
    }

    fn digest(&self) -> Result<FileDigest, DeploymentRejected> {
        let text = self.text("file_sha256")?;
        text.parse()
            .map_err(|_| self.bad("file_sha256", "64 hex digits", &text))
    }

    /// The manager hands these on as arguments of `docker compose`. There, what begins
    /// with a dash is an option: `--`, the end of all options, starts the whole file,
    /// and here it would look like a service that no file defines.
    fn services(&self) -> Result<Vec<String>, DeploymentRejected> {
        let Some(raw) = self.members.get("services") else {
            return Ok(Vec::new());
        };
        let expected = "a list of at most 256 names of services";
        let services: Vec<String> =
            serde_json::from_str(&raw).map_err(|_| self.bad("services", expected, &raw))?;
        let are_names = services.iter().all(|name| {
            name.len() <= MAX_NAME_BYTES && !name.starts_with('-') && is_plain(name, b"._-")
        });
        if services.len() > MAX_SERVICES || !are_names {
            return Err(self.bad("services", expected, &raw));
        }
        Ok(services)
    }
}

fn is_plain(text: &str, signs: &[u8]) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || signs.contains(&byte))
}
