//! A verdict with its report, and what may change it.

use std::sync::Arc;

use crate::appraise::attested::Attested;
use crate::base::hex::Hex;
use crate::base::identifiers::UnixTime;
use crate::base::levels::{DeploymentLevel, GpuLevel};
use crate::dstack::event_log::{self, BootEvents};
use crate::dstack::mr_config;
use crate::dstack::rtmr0::Rtmr0;
use crate::history::Sighting;
use crate::intel::collateral::FloorSeen;
use crate::intel::quote::VerifiedQuote;
use crate::near::deployment::{ComposeFile, Deployment};
use crate::near::evidence::Evidence;
use crate::policy::{Policy, Seen, SeenImage};
use crate::refusals::Rejected;
use crate::refusals::checks::CheckId;
use crate::refusals::deployment::DeploymentRejected;
use crate::refusals::nras::NrasRejected;
use crate::refusals::table::Blame;
use crate::report::{PolicyName, Report, Status};
use crate::trust::TrustAnchors;

/// The verdict, and the report for people.
#[derive(Debug)]
#[non_exhaustive]
pub struct Appraisal {
    /// The proof.
    pub outcome: Result<Attested, Rejected>,
    /// What a memory of floors has to remember, whatever the verdict: a newer
    /// edition that refuses a platform must not be forgotten for an older one
    /// that accepts it.
    pub floor_seen: Option<FloorSeen>,
    /// What a memory of backends has to remember, if the verdict is a proof.
    pub sighting: Option<Sighting>,
    /// Every check.
    pub report: Report,
    pub(super) quote: Option<Arc<VerifiedQuote>>,
    pub(super) workload: Workload,
}

/// What may change a verdict, in the order in which it is fetched: each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fetch {
    /// A newer list of tags: the one given refuses the log.
    Tags,
    /// [`files_wanted`](Appraisal::files_wanted), and a newer list of tags if
    /// [`tags_wanted`](Appraisal::tags_wanted): both can be fetched at once.
    Log,
    /// NVIDIA's opinion on [`Evidence::gpu_payload`].
    Opinion,
    /// NVIDIA's newest keys: its opinion is signed with one that was not given.
    Keys,
}

/// What was found out about what runs there.
#[derive(Debug, Default)]
pub(super) struct Workload {
    pub(super) deployment: Option<Deployment>,
    /// What the log is worth, and the first reasons why it is not more.
    pub(super) deployment_level: DeploymentLevel,
    pub(super) not_tagged: Vec<String>,
    /// The deployment level may be higher: a file or a tag was missing.
    pub(super) deployment_is_open: bool,
    /// The key management service that signed its identity.
    pub(super) kms_root: Option<String>,
    /// The name of the OS image in the policy.
    pub(super) image: Option<String>,
    /// When the machine booted, by the certificate of its identity.
    pub(super) booted: Option<UnixTime>,
    pub(super) files_wanted: Vec<ComposeFile>,
    pub(super) tags_wanted: bool,
    /// What the policy requires and was not given, and the check that lacks it.
    pub(super) lacking: Option<(CheckId, DeploymentRejected)>,
    /// NVIDIA may be asked: it was not yet.
    pub(super) opinion_wanted: bool,
    /// Its answer was signed with a key that is not in the key set.
    pub(super) nras_unknown_key: bool,
    /// What the GPUs' evidence reached.
    pub(super) gpu_level: GpuLevel,
    /// PCI Express root ports in the machine's tables, where these explain themselves.
    pub(super) root_ports: Option<u32>,
}

impl Appraisal {
    /// The verdict on a report, or on collateral, that could not be read.
    #[must_use]
    pub fn unreadable(
        rejected: Rejected,
        policy: &Policy,
        trust_anchors: &TrustAnchors,
        now: UnixTime,
    ) -> Self {
        let mut report = new_report(policy, trust_anchors, now);
        let check = rejected.check(CheckId::Evidence);
        report.set(check, Status::Fail, rejected.to_string());
        report.rejected = Some(rejected.clone());
        Self {
            outcome: Err(rejected),
            floor_seen: None,
            sighting: None,
            report,
            quote: None,
            workload: Workload::default(),
        }
    }

    /// The report's quote, if it verified.
    #[must_use]
    pub fn verified_quote(&self) -> Option<&VerifiedQuote> {
        self.quote.as_deref()
    }

    /// The deployment, if its log holds.
    #[must_use]
    pub fn deployment(&self) -> Option<&Deployment> {
        self.workload.deployment.as_ref()
    }

    /// The same, where nothing speaks against the machine but a source that is missing, or
    /// a level: files and tags may change both.
    #[must_use]
    pub fn sound_log(&self) -> Option<&Deployment> {
        let is_sound = match &self.outcome {
            Ok(_) => true,
            Err(rejected) => rejected.blame() == Blame::Sources || blames_level(rejected),
        };
        self.deployment().filter(|_| is_sound)
    }

    /// What the caller fetches before it appraises the same evidence again, since it may
    /// change the verdict. `after` is what it fetched last, whether or not that came.
    #[must_use]
    pub fn next(&self, after: Option<Fetch>) -> Option<Fetch> {
        let all = [Fetch::Tags, Fetch::Log, Fetch::Opinion, Fetch::Keys];
        let mut later = all.into_iter().filter(|fetch| Some(*fetch) > after);
        later.find(|fetch| self.wants(*fetch))
    }

    fn wants(&self, fetch: Fetch) -> bool {
        let workload = &self.workload;
        let rejected = self.outcome.as_ref().err();
        match fetch {
            Fetch::Tags => {
                workload.tags_wanted
                    && rejected.is_some_and(|it| blames_tags(it) || blames_level(it))
            }
            Fetch::Log => {
                let is_wanted = workload.tags_wanted || !workload.files_wanted.is_empty();
                is_wanted && self.sound_log().is_some()
            }
            // NVIDIA is not told of a machine that is refused for another reason.
            Fetch::Opinion => {
                let unavailable =
                    |it| matches!(it, &Rejected::Nras(NrasRejected::Unavailable { .. }));
                workload.opinion_wanted && rejected.is_none_or(unavailable)
            }
            Fetch::Keys => workload.nras_unknown_key,
        }
    }

    /// The files that a log which holds names, and that were not given.
    #[must_use]
    pub fn files_wanted(&self) -> &[ComposeFile] {
        &self.workload.files_wanted
    }

    /// True if tags of a log that holds were not compared, since none were given; or if
    /// they are not those given, which newer ones may change.
    #[must_use]
    pub fn tags_wanted(&self) -> bool {
        self.workload.tags_wanted
    }

    /// True if the deployment level may be higher: nothing lowers it but files or tags
    /// that were missing.
    #[must_use]
    pub fn deployment_is_open(&self) -> bool {
        self.workload.deployment_is_open
    }

    /// What the evidence of the GPUs shows, whatever it is worth beside the rest:
    /// see [`Levels::capped`](crate::Levels::capped).
    #[must_use]
    pub fn gpu_level(&self) -> GpuLevel {
        self.workload.gpu_level
    }

    /// A policy that would accept what this evidence showed, for review; `None`
    /// if its quote did not verify, its event log does not explain itself, or
    /// it is not the evidence that was judged.
    #[must_use]
    pub fn policy_toml(&self, evidence: &Evidence) -> Option<String> {
        let seen = seen(evidence, self.quote.as_ref()?)?;
        Some(seen.to_policy_toml(self.report.at))
    }
}

pub(super) fn new_report(policy: &Policy, trust_anchors: &TrustAnchors, now: UnixTime) -> Report {
    let name = PolicyName {
        name: policy.name().to_owned(),
        digest: policy.digest(),
        hardware_only: policy.hardware_only(),
    };
    let mut report = Report::new(name, now, trust_anchors);
    report.not_proved(
        CheckId::CaChain,
        "not part of the evidence; trust comes from the quote",
    );
    report
}

/// True if newer tags of the log's repository could change the verdict.
fn blames_tags(rejected: &Rejected) -> bool {
    matches!(
        rejected,
        Rejected::Deployment(
            DeploymentRejected::TagUnknown { .. } | DeploymentRejected::TagMoved { .. }
        )
    )
}

/// True if what was started is worth less than the policy asks for, or than before.
fn blames_level(rejected: &Rejected) -> bool {
    matches!(
        rejected,
        Rejected::Deployment(DeploymentRejected::Level { .. }) | Rejected::WentDown { .. }
    )
}

/// Measured values of a verified quote whose event log explains itself.
fn seen(evidence: &Evidence, quote: &VerifiedQuote) -> Option<Seen> {
    let td = quote.td();
    let events = evidence.events.as_ref().ok()?;
    event_log::replay(events, td).ok()?;
    let boot = BootEvents::read(events).ok()?;
    let rtmr0 = Rtmr0::read(events).ok()?;
    let compose_hash = event_log::compose_hash(evidence.app_compose.as_ref().ok()?, &boot).ok()?;
    mr_config::read(&td.mr_config_id, &compose_hash, &boot).ok()?;
    let [rtmr0_value, rtmr1, rtmr2, _] = td.rtmr;
    Some(Seen {
        attributes: Hex(td.attributes),
        xfam: Hex(td.xfam),
        os_image: SeenImage::new(td.mrtd, rtmr1, rtmr2, boot.os_image_hash),
        firmware: rtmr0.firmware,
        acpi: rtmr0.acpi,
        app_id: boot.app_id,
        app_cert: evidence.app_cert.clone().ok().flatten(),
        mr_seam: Hex(td.mr_seam),
        rtmr0: Hex(rtmr0_value),
        compose_hash: Hex(compose_hash),
        instance_id: boot.instance_id,
        ppid: quote.ppid().to_vec(),
        piid: quote.piid(),
        fmspc: quote.fmspc(),
        signing_key: evidence.signing_key.clone(),
    })
}
