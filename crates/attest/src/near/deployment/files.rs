//! The compose files that a log names, as far as they were given.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::actions::{Action, ComposeFile, Kind};
use super::fold::ComposeFiles;
use crate::base::finding::{Finding, Findings};
use crate::base::hash;
use crate::base::identifiers::FileDigest;
use crate::compose::{ComposeDocument, FileRules, Helpers, judge_started, warnings_of_started};
use crate::refusals::compose::ComposeRejected;

/// Files, each read once, by the digest of its bytes: whoever fetched them need
/// not be trusted.
#[derive(Debug, Clone, Default)]
pub struct FilesAtHand {
    by_digest: BTreeMap<FileDigest, Arc<Result<ComposeDocument, ComposeRejected>>>,
}

impl FilesAtHand {
    /// Takes a file in; `file` is its name in messages. Returns its digest.
    pub fn insert(&mut self, file: &str, bytes: &[u8]) -> FileDigest {
        let digest = FileDigest::from_bytes(hash::sha256(&[bytes]));
        self.by_digest
            .entry(digest)
            .or_insert_with(|| Arc::new(ComposeDocument::read(file, bytes)));
        digest
    }

    /// Whether a file was given.
    #[must_use]
    pub fn contains(&self, digest: &FileDigest) -> bool {
        self.by_digest.contains_key(digest)
    }

    /// Lets go of all files but those that `keep` names.
    pub fn retain(&mut self, keep: impl Fn(&FileDigest) -> bool) {
        self.by_digest.retain(|digest, _| keep(digest));
    }

    /// How many files.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_digest.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_digest.is_empty()
    }

    pub(super) fn get(
        &self,
        source: &ComposeFile,
    ) -> Option<&Result<ComposeDocument, ComposeRejected>> {
        self.by_digest.get(&source.sha256).map(Arc::as_ref)
    }

    /// The image that a service of a file runs.
    pub(crate) fn image(&self, source: &ComposeFile, service: &str) -> Option<String> {
        let document = self.get(source)?.as_ref().ok()?;
        let images = document.images();
        let mut of_service = images.filter(|image| image.service == service);
        of_service.find_map(|image| match (image.image, image.built) {
            (Some(name), false) if image.by_default => {
                Some(format!("{name}, unless a variable names another"))
            }
            (Some(image), false) => Some(image.to_string()),
            (Some(image), true) => Some(format!("{image}, built in the machine")),
            (None, true) => Some("built in the machine".to_owned()),
            (None, false) => None,
        })
    }
}

/// What compose files are held against the policy's rules.
#[derive(Debug, Clone, Copy)]
pub enum FilesCheck<'a> {
    /// These were given.
    AtHand(&'a FilesAtHand),
    /// None, for this reason; the report says so.
    NotFetched(&'static str),
}

/// What files say of a log.
#[derive(Debug, Default)]
pub(crate) struct FilesJudged {
    /// Those that cannot be judged, or break a rule, in the order of the log.
    pub(crate) broken: Vec<(ComposeFile, ComposeRejected)>,
    /// Files that the log names, that were given, and of which it started something.
    pub(crate) judged: usize,
    /// Those of which no start can have started anything: each asks for what the
    /// file does not define. The log records attempts.
    pub(crate) in_vain: usize,
    /// Those that were not.
    pub(crate) wanted: Vec<ComposeFile>,
}

/// What the files of a log define, as far as they were given and can be read.
pub(crate) fn defined(actions: &[Action], files: &FilesAtHand) -> ComposeFiles {
    let mut all = ComposeFiles::default();
    for (source, _) in super::started(actions) {
        if let Some(Ok(document)) = files.get(source) {
            all.insert(&source.file, source.commit, document.services());
        }
    }
    all
}

/// What a log starts of one file.
struct Started<'a> {
    source: &'a ComposeFile,
    document: &'a ComposeDocument,
    defined: BTreeSet<&'a str>,
    /// By any start, without what these depend on.
    named: BTreeSet<&'a str>,
}

/// Judges each file by what any of the actions started of it: the services that
/// starts name, and what these depend on. Once a file, since a log may start some
/// of it thousands of times.
pub(crate) fn judge(actions: &[Action], files: &FilesAtHand, rules: &FileRules) -> FilesJudged {
    let mut result = FilesJudged::default();
    let mut wanted = HashSet::new();
    let mut unreadable = HashSet::new();
    let mut places = HashMap::new();
    let mut starts: Vec<Started<'_>> = Vec::new();
    for action in actions {
        let Kind::Up { source, services } = &action.kind else {
            continue;
        };
        let Some(document) = files.get(source) else {
            if wanted.insert(source) {
                result.wanted.push(source.as_ref().clone());
            }
            continue;
        };
        let document = match document {
            Ok(document) => document,
            Err(rejected) => {
                if unreadable.insert(source) {
                    let broken = (source.as_ref().clone(), rejected.clone());
                    result.broken.push(broken);
                }
                continue;
            }
        };
        let place = *places.entry(source).or_insert_with(|| {
            starts.push(Started {
                source,
                document,
                defined: document.names(),
                named: BTreeSet::new(),
            });
            starts.len().saturating_sub(1)
        });
        let Some(start) = starts.get_mut(place) else {
            continue;
        };
        if services.is_empty() {
            start.named.clone_from(&start.defined);
        }
        let names = || services.iter().map(String::as_str);
        // Else "no such service": the command failed before it did anything.
        if names().all(|name| start.defined.contains(name)) {
            start.named.extend(names());
        }
    }
    let started: Vec<_> = starts
        .iter()
        .map(|start| start.document.with_dependencies(&start.named))
        .collect();
    let mut helpers = Helpers::new();
    for (start, names) in starts.iter().zip(&started) {
        let services = start.document.services.iter();
        let services = services.filter(|service| names.contains(service.name.as_str()));
        helpers.extend(rules.helpers_of(services));
    }
    for (start, names) in starts.iter().zip(&started) {
        if let Err(rejected) = judge_started(start.document, names, &helpers, rules) {
            result.broken.push((start.source.clone(), rejected));
        }
    }
    let in_vain = started.iter().filter(|names| names.is_empty());
    result.in_vain = in_vain.count();
    result.judged = starts.len().saturating_sub(result.in_vain);
    result
}

/// What the files of everything that is up say, each once.
pub(crate) fn findings_of_up(
    up: &[super::Up],
    files: &FilesAtHand,
    rules: &FileRules,
) -> Vec<Finding> {
    let mut services: BTreeMap<FileDigest, (&ComposeFile, BTreeSet<&str>)> = BTreeMap::new();
    for one in up {
        if let super::Service::Named(name) = &one.service {
            let of = services
                .entry(one.source.sha256)
                .or_insert_with(|| (one.source.as_ref(), BTreeSet::new()));
            of.1.insert(name);
        }
    }
    let up: Vec<_> = services
        .into_values()
        .filter_map(|(source, names)| Some((files.get(source)?.as_ref().ok()?, names)))
        .collect();
    let mut helpers = Helpers::new();
    for (document, names) in &up {
        let services = document.services.iter();
        let services = services.filter(|service| names.contains(service.name.as_str()));
        helpers.extend(rules.helpers_of(services));
    }
    let mut seen = HashSet::new();
    let mut findings = Findings::default();
    for (document, names) in &up {
        for Finding {
            severity,
            topic,
            detail,
        } in warnings_of_started(document, names, &helpers, rules)
        {
            if findings.is_full() || seen.insert((topic, detail.clone())) {
                findings.add(severity, topic, detail);
            }
        }
    }
    findings.into_vec()
}
