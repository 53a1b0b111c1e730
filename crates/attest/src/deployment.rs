//! Which containers were deployed into the machine, by the log of its
//! compose-manager (`compose_manager_attestation`).
//!
//! The measured application is a manager that starts whatever files it is told
//! to, and logs it. [`appraise_deployment`] proves that this log is a statement
//! of the very machine that serves us, made for this request:
//!
//! 1. it answers our nonce, and its actions hash to what it is about;
//! 2. a genuine platform quoted that hash and that nonce, under the same roots,
//!    documents and time as the report's own quote;
//! 3. it is the same platform at the same levels, and the same TD in the same
//!    state: every field of the TD report but the report data;
//! 4. what stands twice agrees, and times neither go back nor lie ahead.
//!
//! It proves no more than that: whoever holds the guest agent's socket inside
//! the machine can write another log. It shows honest drift; it is no defence
//! against an operator.

mod actions;
mod block;
mod canonical;
mod continuity;
mod files;
mod fold;
mod machine;
mod rejected;
mod tags;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

pub use self::actions::ComposeFile;
pub use self::canonical::CanonicalForm;
pub use self::continuity::{Continuity, InstanceLog, LogCheck, LogSeen, Logs};
pub use self::files::{FilesAtHand, FilesCheck};
pub(crate) use self::files::{FilesJudged, findings_of_up};
pub use self::fold::{ComposeFiles, Service, Up};
pub use self::rejected::DeploymentRejected;
pub use self::tags::{MAX_TAGS_BYTES, TagsCheck, TagsError, UpstreamTags};

use self::actions::{Action, Kind, second};
use self::block::Block;
use crate::compose_file::{ComposeRejected, FileRules};
use crate::quote::{ParsedQuote, VerifiedQuote};
use crate::text::{quoted, shown};
use crate::{
    Collateral, CommitId, Evidence, FileDigest, LogDigest, Nonce, Rejected, TrustAnchors, UnixTime,
};

/// How far a machine's clock may be ahead of ours: a log may be of this moment,
/// and no ordinary clock is five minutes wrong.
const MAX_AHEAD_SECONDS: u64 = 300;

/// Everything that the judgement of a deployment depends on.
#[derive(Debug, Clone, Copy)]
pub struct AppraiseDeployment<'a> {
    /// The report.
    pub evidence: &'a Evidence,
    /// Its own quote, verified.
    pub quote: &'a VerifiedQuote,
    /// The nonce that was sent with the request for this report.
    pub nonce: Nonce,
    /// Intel's documents about the platform: those that the report's quote was
    /// verified with.
    pub collateral: &'a Collateral,
    /// Whose word counts.
    pub trust_anchors: &'a TrustAnchors,
    /// The time.
    pub now: UnixTime,
}

/// A deployment log that the machine itself vouches for. Made by
/// [`appraise_deployment`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    actions: Vec<Action>,
    chain: Vec<LogDigest>,
    form: CanonicalForm,
}

/// The manager that was started last, by its own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manager {
    /// The reference of its image.
    pub image: String,
    /// When it was started.
    pub since: UnixTime,
}

/// Judges a report's deployment log.
///
/// # Errors
/// The first failing check, in the order of [`DeploymentRejected::EXPLANATIONS`].
pub fn appraise_deployment(
    request: &AppraiseDeployment<'_>,
) -> Result<Deployment, DeploymentRejected> {
    let text = request
        .evidence
        .compose_manager
        .as_deref()
        .ok_or(DeploymentRejected::Missing {})?;
    let block = Block::read(text)?;
    is_fresh(&block, request.nonce)?;
    let hashes = &block.hashes;
    let form = hashes
        .form(&block.actions_hash)
        .ok_or_else(|| DeploymentRejected::ActionsHash {
            stated: hex::encode(block.actions_hash),
            sorted: hex::encode(hashes.sorted),
            declared: hex::encode(hashes.declared),
        })?;
    let quote = genuine(&block, request)?;
    binds(&quote, &block.actions_hash, request.nonce)?;
    machine::same(&quote, request.quote)?;
    repeated_values_agree(&block, &quote, request.evidence)?;
    in_time(&block.actions, request.now)?;
    Ok(Deployment {
        actions: block.actions,
        chain: block.hashes.chain,
        form,
    })
}

/// Without a nonce of the client, the manager takes one of its own and the
/// answer can be of any age.
fn is_fresh(block: &Block, sent: Nonce) -> Result<(), DeploymentRejected> {
    if block.nonce_source != "client" {
        return Err(DeploymentRejected::NonceSource {
            got: quoted(&block.nonce_source),
        });
    }
    if block.nonce != sent.to_string() {
        return Err(DeploymentRejected::Nonce {
            sent: sent.to_string(),
            got: shown(&block.nonce),
        });
    }
    Ok(())
}

/// Verified as the report's own quote is.
fn genuine(
    block: &Block,
    request: &AppraiseDeployment<'_>,
) -> Result<VerifiedQuote, DeploymentRejected> {
    let format = |rejected: Rejected| DeploymentRejected::QuoteFormat {
        detail: rejected.to_string(),
    };
    let parsed = ParsedQuote::parse(block.quote.clone()).map_err(format)?;
    request
        .quote
        .verify_another(
            &parsed,
            request.collateral,
            request.trust_anchors,
            request.now,
        )
        .map_err(|refusal| DeploymentRejected::Quote {
            cause: Box::new(refusal.rejected),
        })
}

/// `report_data = actions_hash || nonce`
fn binds(
    quote: &VerifiedQuote,
    actions_hash: &[u8; 32],
    nonce: Nonce,
) -> Result<(), DeploymentRejected> {
    let expected = [&actions_hash[..], nonce.as_bytes()].concat();
    let got = quote.td().report_data;
    if got[..] != expected {
        return Err(DeploymentRejected::ReportData {
            expected: hex::encode(expected),
            got: hex::encode(got),
        });
    }
    Ok(())
}

/// Copies prove nothing; where they stand they must agree.
fn repeated_values_agree(
    block: &Block,
    quote: &VerifiedQuote,
    evidence: &Evidence,
) -> Result<(), DeploymentRejected> {
    let report_data = quote.td().report_data;
    if block.report_data != report_data {
        return Err(DeploymentRejected::Inconsistent {
            field: "report_data",
            got: hex::encode(block.report_data),
            with: "the quote's",
            expected: hex::encode(report_data),
        });
    }
    if let (Some(events), Ok(expected)) = (&block.events, &evidence.events)
        && events != expected
    {
        return Err(DeploymentRejected::Inconsistent {
            field: "event_log",
            got: format!("a list of {}", events.len()),
            with: "the report's",
            expected: format!("another list of {}", expected.len()),
        });
    }
    if let (Some(got), Some(expected)) = (&block.vm_config, &evidence.vm_config)
        && got != expected
    {
        return Err(DeploymentRejected::Inconsistent {
            field: "vm_config",
            got: quoted(got),
            with: "the report's",
            expected: quoted(expected),
        });
    }
    // A commit holds one content of a file.
    let mut digests: HashMap<(&str, CommitId), FileDigest> = HashMap::new();
    for action in &block.actions {
        let Kind::Up { source, .. } = &action.kind else {
            continue;
        };
        let known = digests
            .entry((&source.file, source.commit))
            .or_insert(source.sha256);
        if *known != source.sha256 {
            return Err(DeploymentRejected::Inconsistent {
                field: "file_sha256",
                got: source.sha256.to_string(),
                with: "the same file's at the same commit",
                expected: known.to_string(),
            });
        }
    }
    Ok(())
}

fn in_time(actions: &[Action], now: UnixTime) -> Result<(), DeploymentRejected> {
    let later = actions.iter().enumerate().skip(1);
    for ((index, action), before) in later.zip(actions) {
        if action.at < before.at {
            return Err(DeploymentRejected::TimeOrder {
                index,
                at: action.at.to_rfc3339(),
                before: before.at.to_rfc3339(),
            });
        }
    }
    // In order, so the last one is the latest.
    let latest = actions.len().saturating_sub(1);
    match actions.last() {
        Some(action) if second(action.at) > now.plus(MAX_AHEAD_SECONDS) => {
            Err(DeploymentRejected::TimeFuture {
                index: latest,
                at: action.at.to_rfc3339(),
                now: now.to_string(),
            })
        }
        _ => Ok(()),
    }
}

impl Deployment {
    /// What is up now, as far as the log alone says.
    #[must_use]
    pub fn up(&self) -> Vec<Up> {
        self.up_given(&ComposeFiles::default())
    }

    /// What is up now, service by service where the files are at hand.
    #[must_use]
    pub fn up_given(&self, files: &ComposeFiles) -> Vec<Up> {
        fold::fold(&self.actions, files)
    }

    /// Holds every start of the log against the rules, as far as files are at hand.
    pub(crate) fn judge_files(
        &self,
        files: &FilesAtHand,
        rules: &FileRules,
    ) -> Result<FilesJudged, ComposeRejected> {
        files::judge(&self.actions, files, rules)
    }

    /// Every file that was ever started, each once, in the order of the log. Keys
    /// and volumes outlive containers, and a start that failed leaves what ran
    /// before it: a policy about images looks at all of these.
    #[must_use]
    pub fn started(&self) -> Vec<&ComposeFile> {
        let mut seen = std::collections::HashSet::new();
        self.actions
            .iter()
            .filter_map(|action| match &action.kind {
                Kind::Up { source, .. } => Some(Arc::as_ref(source)),
                _ => None,
            })
            .filter(|source| seen.insert(*source))
            .collect()
    }

    /// The manager that was started last; older managers do not log themselves.
    #[must_use]
    pub fn manager(&self) -> Option<Manager> {
        self.actions
            .iter()
            .rev()
            .find_map(|action| match &action.kind {
                Kind::ManagerStarted { image } => Some(Manager {
                    image: image.clone(),
                    since: second(action.at),
                }),
                _ => None,
            })
    }

    /// The names of actions that this version does not know, each once: what they did
    /// is not in [`Deployment::up`].
    pub(crate) fn unknown(&self) -> BTreeSet<&str> {
        let unknown = self.actions.iter().filter_map(|action| match &action.kind {
            Kind::Unknown(name) => Some(name.as_str()),
            _ => None,
        });
        unknown.collect()
    }

    /// How many actions the log has.
    #[must_use]
    pub fn actions(&self) -> usize {
        self.actions.len()
    }

    /// The time of the first action; none in an empty log.
    #[must_use]
    pub fn first(&self) -> Option<UnixTime> {
        self.actions.first().map(|action| second(action.at))
    }

    /// The time of the last action.
    #[must_use]
    pub fn last(&self) -> Option<UnixTime> {
        self.actions.last().map(|action| second(action.at))
    }

    /// How the manager wrote what it hashed.
    #[must_use]
    pub fn form(&self) -> CanonicalForm {
        self.form
    }

    /// What to remember of this log.
    #[must_use]
    pub fn seen(&self) -> LogSeen {
        LogSeen {
            actions: self.actions.len(),
            head: self
                .chain
                .last()
                .copied()
                .unwrap_or(LogDigest::from_bytes([0; 32])),
        }
    }

    /// How this log relates to the last one seen of the same instance.
    #[must_use]
    pub fn continuity(&self, seen: &LogSeen) -> Continuity {
        continuity::compare(&self.chain, seen)
    }
}
