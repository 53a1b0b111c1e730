//! The compose-manager: a log of what it started, and a quote over that log.

use serde_json::{Value, json};

use crate::compose_file::{FILE, PublishedFile, commit, compose_text};
use crate::encode::rfc3339;
use crate::hash::{label256, sha256};
use crate::hooks::Hook;
use crate::pki::Signer;
use crate::tags::PublishedTag;

/// How the manager writes what it hashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ActionsForm {
    /// Keys in the order of their bytes, as managers since June 2026 do.
    #[default]
    Sorted,
    /// Keys in the order of the manager's declaration.
    Declared,
}

/// A manager inside the VM.
#[derive(Debug, Clone)]
pub struct ComposeManager {
    /// The log, with the keys in the order of their declaration.
    pub actions: Vec<Vec<(String, Value)>>,
    /// What the repository of compose files has. Where a text changes here alone, the
    /// repository has other bytes than the log says; see [`ComposeManager::publish`].
    pub files: Vec<PublishedFile>,
    /// What is other about that repository's tags than the log says.
    pub tags: Hook<Vec<PublishedTag>>,
    /// How it is hashed.
    pub form: ActionsForm,
    /// Where the nonce came from: `client` or `server`.
    pub nonce_source: String,
    /// Replaces the request's nonce, in the block and in the quote.
    pub nonce: Option<[u8; 32]>,
    /// Who signs the quote over the log.
    pub signer: Signer,
}

impl ComposeManager {
    /// A manager that started itself and one file, and then one service of a newer one.
    pub fn new(now: u64) -> Self {
        let at = |hours: u64| now.saturating_sub(hours * 3600);
        Self {
            actions: vec![
                manager_started(at(72)),
                compose_up(at(71), "v0.0.1", &[]),
                action(
                    at(70),
                    "docker_restart",
                    &[("container", "proxy-nginx".into())],
                ),
                compose_up(at(48), "v0.0.2", &["proxy"]),
            ],
            files: ["v0.0.1", "v0.0.2"].map(published).to_vec(),
            tags: Hook::default(),
            form: ActionsForm::default(),
            nonce_source: "client".to_owned(),
            nonce: None,
            signer: Signer::Proper,
        }
    }

    /// Makes `fake.yaml` say something else at a tag: in the repository, and by its
    /// hash in the log.
    pub fn publish(&mut self, tag: &str, text: &str) {
        let commit = commit(tag);
        self.files.retain(|file| file.commit != commit);
        self.files.push(PublishedFile {
            text: text.to_owned(),
            ..published(tag)
        });
        for action in &mut self.actions {
            let is_of_tag = action
                .iter()
                .any(|(key, value)| key == "commit" && *value == commit);
            for (key, value) in action.iter_mut().filter(|_| is_of_tag) {
                if key == "file_sha256" {
                    *value = hex::encode(sha256(text.as_bytes())).into();
                }
            }
        }
    }

    /// Starts a file that is from no release, as operators do who try something, and
    /// puts it into the repository.
    pub fn experiment(&mut self, at: u64, text: &str) {
        let commit = commit(EXPERIMENT.1);
        let fields = [
            ("tag", EXPERIMENT.1.into()),
            ("commit", commit.as_str().into()),
            ("file", EXPERIMENT.0.into()),
            ("file_sha256", hex::encode(sha256(text.as_bytes())).into()),
        ];
        self.actions.push(action(at, "compose_up", &fields));
        self.files.push(PublishedFile {
            commit,
            file: EXPERIMENT.0.to_owned(),
            text: text.to_owned(),
        });
    }

    /// Stops what [`ComposeManager::experiment`] started.
    pub fn experiment_ends(&mut self, at: u64) {
        let fields = [
            ("tag", EXPERIMENT.1.into()),
            ("commit", commit(EXPERIMENT.1).into()),
            ("file", EXPERIMENT.0.into()),
        ];
        self.actions.push(action(at, "compose_down", &fields));
    }

    /// What `actions_hash` is taken of.
    pub(crate) fn canonical(&self) -> String {
        let actions: Vec<_> = self
            .actions
            .iter()
            .map(|action| self.text(action))
            .collect();
        format!("[{}]", actions.join(","))
    }

    fn text(&self, action: &[(String, Value)]) -> String {
        let mut members: Vec<_> = action.iter().collect();
        if self.form == ActionsForm::Sorted {
            members.sort_by_key(|(key, _)| key);
        }
        // Values inside an action are texts and lists of texts.
        let members: Vec<_> = members
            .into_iter()
            .map(|(key, value)| format!("{}:{value}", Value::from(key.as_str())))
            .collect();
        format!("{{{}}}", members.join(","))
    }
}

/// File and branch of an experiment.
const EXPERIMENT: (&str, &str) = ("experiments/x.yaml", "try-x");

/// `fake.yaml` at a tag.
fn published(tag: &str) -> PublishedFile {
    PublishedFile {
        commit: commit(tag),
        file: FILE.to_owned(),
        text: compose_text(tag),
    }
}

/// An action with its further fields.
pub fn action(at: u64, name: &str, fields: &[(&str, Value)]) -> Vec<(String, Value)> {
    let mut action = vec![
        ("timestamp".to_owned(), rfc3339(at).into()),
        ("action".to_owned(), name.into()),
    ];
    action.extend(
        fields
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone())),
    );
    action
}

/// The start of services, or of all, of `fake.yaml` as it was at a tag.
pub fn compose_up(at: u64, tag: &str, services: &[&str]) -> Vec<(String, Value)> {
    let mut up = action(
        at,
        "compose_up",
        &[
            ("tag", tag.into()),
            ("commit", commit(tag).into()),
            ("file", FILE.into()),
            (
                "file_sha256",
                hex::encode(sha256(compose_text(tag).as_bytes())).into(),
            ),
        ],
    );
    if !services.is_empty() {
        up.push(("services".to_owned(), json!(services)));
    }
    up
}

/// The manager's own start.
pub fn manager_started(at: u64) -> Vec<(String, Value)> {
    let digest = hex::encode(label256("manager"));
    manager_of(at, &format!("fake/compose-manager@sha256:{digest}"))
}

/// The start of a manager of some image.
pub fn manager_of(at: u64, image: &str) -> Vec<(String, Value)> {
    action(
        at,
        "compose_manager_started",
        &[
            ("container", "compose-manager".into()),
            ("image", image.into()),
        ],
    )
}

impl ComposeManager {
    /// The tags of its log, each with the first commit that was started from it, after
    /// the changes of [`ComposeManager::tags`].
    pub fn published_tags(&self) -> Vec<PublishedTag> {
        let mut tags: Vec<PublishedTag> = Vec::new();
        for action in &self.actions {
            let field = |name: &str| {
                let (_, value) = action.iter().find(|(key, _)| key == name)?;
                value.as_str().map(str::to_owned)
            };
            if let (Some(name), Some(commit)) = (field("tag"), field("commit"))
                && !tags.iter().any(|tag| tag.name == name)
            {
                tags.push(PublishedTag {
                    name,
                    commit,
                    object: None,
                });
            }
        }
        self.tags.apply(&mut tags);
        tags
    }
}
