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
//!    state: every field of the TD report but the report data.
//!
//! Copies of these values, and the times, prove nothing: where they are odd, that is a
//! [`Finding`]. What of the log counts for the machine's level is divided at its boot
//! (`boot.rs`).
//!
//! It proves no more than that: whoever holds the guest agent's socket inside
//! the machine can write another log. It shows honest drift; it is no defence
//! against an operator.

mod access;
mod actions;
mod block;
mod boot;
mod canonical;
mod continuity;
mod files;
mod fold;
mod machine;
mod remarks;
mod tags;

use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) use self::access::reaches_secrets;
pub use self::actions::ComposeFile;
pub(crate) use self::actions::{Action, Kind, second};
pub(crate) use self::boot::SinceBoot;
pub use self::canonical::CanonicalForm;
pub use self::continuity::{Continuity, LogSeen};
pub(crate) use self::continuity::{InstanceLog, Logs, MAX_LOGS, compare_with};
pub use self::files::{FilesAtHand, FilesCheck};
pub(crate) use self::files::{FilesJudged, defined, findings_of_up, judge};
pub use self::fold::{ComposeFiles, Service, Up};
pub(crate) use self::remarks::{MAX_TOLD, and_more};
pub use self::tags::{MAX_TAGS_BYTES, TagsCheck, TagsError, UpstreamTags};

use self::block::Block;
use crate::base::finding::Finding;
use crate::base::identifiers::{LogDigest, Nonce, UnixTime};
use crate::base::text::{quoted, shown};
use crate::intel::collateral::Collateral;
use crate::intel::quote::{ParsedQuote, VerifiedQuote};
use crate::near::evidence::Evidence;
use crate::refusals::Rejected;
use crate::refusals::deployment::DeploymentRejected;
use crate::trust::TrustAnchors;

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
    findings: Vec<Finding>,
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
    let (form, chain) = block.hashed()?;
    let quote = genuine(&block, request)?;
    binds(&quote, &block.actions_hash, request.nonce)?;
    machine::same(&quote, request.quote)?;
    let mut findings = remarks::copies(&block, &quote.td().report_data, request.evidence);
    findings.extend(remarks::times(&block.actions, request.now));
    Ok(Deployment {
        actions: block.actions,
        chain,
        form,
        findings,
    })
}

/// Without a nonce of the client, the manager takes one of its own and the
/// answer can be of any age.
fn is_fresh(block: &Block<'_>, sent: Nonce) -> Result<(), DeploymentRejected> {
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
    block: &Block<'_>,
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

impl Deployment {
    /// What is up now, as far as the log alone says.
    #[must_use]
    pub fn up(&self) -> Vec<Up> {
        self.up_given(&ComposeFiles::default())
    }

    /// What is up now, service by service where the files were given.
    #[must_use]
    pub fn up_given(&self, files: &ComposeFiles) -> Vec<Up> {
        fold::fold(&self.actions, files)
    }

    /// What is odd about the log: copies, and times.
    pub(crate) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Statements of the log of which one is false.
    pub(crate) fn contradictions(&self) -> Vec<String> {
        remarks::contradictions(&self.actions)
    }

    /// What counts since this boot.
    pub(crate) fn since_boot(&self, booted: Option<UnixTime>, files: &ComposeFiles) -> SinceBoot {
        boot::divide(&self.actions, booted, files)
    }

    /// Every action, in the order in which the manager wrote them.
    pub(crate) fn log(&self) -> &[Action] {
        &self.actions
    }

    /// Every file that was ever started, each once, in the order of the log. Keys
    /// and volumes outlive containers, and a start that failed leaves what ran
    /// before it: a policy about images looks at all of these.
    #[must_use]
    pub fn started(&self) -> Vec<&ComposeFile> {
        started(&self.actions).map(|(source, _)| source).collect()
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

/// Each file that some actions start, once, with the time of its first start.
pub(crate) fn started(actions: &[Action]) -> impl Iterator<Item = (&ComposeFile, UnixTime)> {
    let mut seen = std::collections::HashSet::new();
    actions.iter().filter_map(move |action| match &action.kind {
        Kind::Up { source, .. } if seen.insert(Arc::as_ref(source)) => {
            Some((Arc::as_ref(source), second(action.at)))
        }
        _ => None,
    })
}
