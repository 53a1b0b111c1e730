//! The ordered checks: the one place that turns evidence into a proof.
//!
//! Each step takes what the step before proved and refuses by its own
//! [`Rejected`]. The [`Report`] is written along the way and decides nothing.

mod hardware;
mod software;
mod sources;
mod workload;

use std::sync::Arc;

use crate::app_compose::app_compose_findings;
use crate::attested::{Attested, Claims, Expected, Subject};
use crate::collateral::{Collateral, Editions, FloorSeen, Floors};
use crate::deployment::{
    ComposeFile, Deployment, DeploymentRejected, FilesCheck, InstanceLog, LogCheck, TagsCheck,
};
use crate::event_log::{self, BootEvents};
use crate::evidence::Evidence;
use crate::gpu::IssuerCache;
use crate::keys::{self, KeyStatus, OhttpWire};
use crate::nras::KeySet;
use crate::policy::{Hex, OsImage, Policy, Rules, Seen};
use crate::quote::{Td, VerifiedQuote};
use crate::report::{CheckId, PolicyName, Report, Status};
use crate::rtmr0::Rtmr0;
use crate::text::{quoted, shown, shown_hex};
use crate::{Nonce, Rejected, Spki, TrustAnchors, UnixTime, VmConfig, binding};

/// Everything a verdict depends on.
#[derive(Debug, Clone, Copy)]
pub struct Appraise<'a> {
    /// The report.
    pub evidence: &'a Evidence,
    /// What it should be about.
    pub subject: &'a Subject,
    /// The TLS key of the live connection, from its session.
    pub live_spki: Spki,
    /// The nonce that was sent with the request for this report.
    pub nonce: Nonce,
    /// Intel's documents about the platform.
    pub collateral: &'a Collateral,
    /// How old those documents may be.
    pub floor: FloorCheck<'a>,
    /// What is accepted.
    pub policy: &'a Policy,
    /// Whose word counts.
    pub trust_anchors: &'a TrustAnchors,
    /// Issuers of GPU certificates that were verified before; it spares work and
    /// decides nothing.
    pub issuers: &'a IssuerCache,
    /// Deployment logs seen before.
    pub logs: LogCheck<'a>,
    /// The files that deployment logs name.
    pub files: FilesCheck<'a>,
    /// The tags of the repository that these files are from.
    pub tags: TagsCheck<'a>,
    /// A second opinion on the GPUs.
    pub nras: NrasCheck<'a>,
    /// The time.
    pub now: UnixTime,
}

/// The memory against which rollback of collateral is noticed.
#[derive(Debug, Clone, Copy)]
pub enum FloorCheck<'a> {
    /// What was seen before.
    Kept {
        /// The memory.
        floors: &'a Floors,
        /// Intel's list, which tells the standard edition from early ones; `None`:
        /// it was not had, which refuses nothing.
        editions: Option<&'a Editions>,
    },
    /// There is no memory, for this reason; the report says so.
    NotKept(&'static str),
}

/// The opinion of NVIDIA's attestation service.
#[derive(Debug, Clone, Copy)]
pub enum NrasCheck<'a> {
    /// The body of its answer to [`Evidence::gpu_payload`], and its keys.
    Answer {
        /// The body.
        answer: &'a [u8],
        /// The keys.
        keys: &'a KeySet,
    },
    /// It was asked and gave none, for this reason.
    Unavailable(&'a str),
    /// It was not asked, for this reason.
    NotAsked(&'static str),
}

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
    /// What a memory of logs has to remember, if the verdict is a proof.
    pub log_seen: Option<InstanceLog>,
    /// Every check.
    pub report: Report,
    quote: Option<Arc<VerifiedQuote>>,
    workload: Workload,
}

/// What was found out about what runs there.
#[derive(Debug, Default)]
struct Workload {
    deployment: Option<Deployment>,
    files_wanted: Vec<ComposeFile>,
    tags_wanted: bool,
    /// What the policy requires and was not at hand, and the check that lacks it.
    lacking: Option<(CheckId, DeploymentRejected)>,
    nras_unknown_key: bool,
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
            log_seen: None,
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

    /// The files that a log which holds names, and that were not at hand.
    #[must_use]
    pub fn files_wanted(&self) -> &[ComposeFile] {
        &self.workload.files_wanted
    }

    /// True if tags of a log that holds were not compared, since none were at hand;
    /// or if they are not those at hand, which newer ones may change.
    #[must_use]
    pub fn tags_wanted(&self) -> bool {
        self.workload.tags_wanted
    }

    /// True if NVIDIA's answer was signed with a key that is not in the key set:
    /// it may be newer.
    #[must_use]
    pub fn nras_unknown_key(&self) -> bool {
        self.workload.nras_unknown_key
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

/// Judges evidence.
///
/// A refusal is the first failing check in the order of [`CheckId::ALL`]. What the
/// policy requires and is not at hand refuses after everything that speaks against
/// the machine: files and tags of its log first, then NVIDIA's opinion.
#[must_use]
pub fn appraise(request: &Appraise<'_>) -> Appraisal {
    let mut run = Run {
        request: *request,
        report: new_report(request.policy, request.trust_anchors, request.now),
        current: CheckId::Evidence,
        floor_seen: None,
        editions: None,
        log_seen: None,
        quote: None,
        workload: Workload::default(),
    };
    let outcome = run.checks();
    if let Err(rejected) = &outcome {
        let check = rejected.check(run.current);
        run.report.set(check, Status::Fail, rejected.to_string());
        run.report.rejected = Some(rejected.clone());
    }
    Appraisal {
        log_seen: run.log_seen.filter(|_| outcome.is_ok()),
        outcome,
        floor_seen: run.floor_seen,
        report: run.report,
        quote: run.quote,
        workload: run.workload,
    }
}

fn new_report(policy: &Policy, trust_anchors: &TrustAnchors, now: UnixTime) -> Report {
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

struct Run<'a> {
    request: Appraise<'a>,
    report: Report,
    /// The check that a refusal belongs to.
    current: CheckId,
    floor_seen: Option<FloorSeen>,
    /// Intel's list, once the revocation list that it is held against is genuine.
    editions: Option<&'a Editions>,
    log_seen: Option<InstanceLog>,
    quote: Option<Arc<VerifiedQuote>>,
    workload: Workload,
}

impl<'a> Run<'a> {
    fn begin(&mut self, check: CheckId) {
        self.current = check;
    }

    fn pass(&mut self, detail: impl Into<String>) {
        self.report.pass(self.current, detail);
    }

    fn rules(&self) -> &'a Rules {
        self.request.policy.rules()
    }

    fn checks(&mut self) -> Result<Attested, Rejected> {
        let evidence = self.request.evidence;
        self.begin(CheckId::Evidence);
        self.pass(format!(
            "{} events, signing key {}",
            evidence.events.len(),
            evidence.signing_key
        ));
        let quote = Arc::new(self.genuine()?);
        self.quote = Some(Arc::clone(&quote));
        self.patched(&quote)?;
        self.td(quote.td())?;
        self.connection(quote.td())?;
        self.keys()?;
        let (boot, rtmr0) = self.boot(quote.td())?;
        let valid_until = if self.request.policy.hardware_only() {
            self.software_is_not_looked_at();
            quote.valid_until()
        } else {
            self.software(quote.td(), &boot, &rtmr0)?;
            self.identity(quote.td(), &boot)?.min(quote.valid_until())
        };
        self.pins(&quote, &boot)?;
        self.model()?;
        self.report.findings = app_compose_findings(&evidence.app_compose);
        self.deployment(&quote, &boot)?;
        let gpus = self.gpus()?;
        self.nothing_is_lacking()?;
        let gpus_until = gpus.map(|gpus| self.gpus_until(&gpus)).transpose()?;
        let valid_until = gpus_until.map_or(valid_until, |end| end.min(valid_until));
        self.report
            .findings
            .sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        self.report.fact("valid_until", valid_until.to_string());
        Ok(Attested {
            claims: Arc::new(Claims {
                domain: self.request.subject.domain.clone(),
                spki: self.request.live_spki,
                policy: self.request.policy.digest(),
                valid_until,
                model_name: evidence.model_name.clone(),
                signing_key: evidence.signing_key.clone(),
                nonce: self.request.nonce,
            }),
        })
    }

    /// This connection, this request.
    fn connection(&mut self, td: &Td) -> Result<(), Rejected> {
        let Appraise {
            evidence,
            live_spki,
            nonce,
            ..
        } = self.request;
        self.begin(CheckId::TlsKey);
        binding::tls_key(evidence, live_spki)?;
        self.pass(live_spki.to_string());
        self.begin(CheckId::Nonce);
        binding::nonce(evidence, td, nonce)?;
        self.pass(nonce.to_string());
        self.begin(CheckId::ReportData);
        binding::report_data(evidence, td, live_spki)?;
        self.pass(format!("signing key {}", evidence.signing_key));
        Ok(())
    }

    /// Keys that clients may encrypt to, where the report names some.
    fn keys(&mut self) -> Result<(), Rejected> {
        let evidence = self.request.evidence;
        let attested = &evidence.signing_key;
        self.begin(CheckId::EncryptionKey);
        let key = keys::e2ee_key(evidence.signing_public_key.as_deref(), attested)?;
        self.key_status(key.map(|key| shown_hex(key.as_bytes())));
        self.begin(CheckId::OhttpKey);
        let wire = OhttpWire {
            key_config: evidence.ohttp_key_config.as_deref(),
            attestation: evidence.ohttp_attestation.as_deref(),
        };
        let key = keys::ohttp_key(wire, attested)?;
        self.key_status(key.map(|key| shown_hex(key.encoded())));
        Ok(())
    }

    fn key_status(&mut self, status: KeyStatus<String>) {
        match status {
            KeyStatus::Bound(key) => self.pass(key),
            KeyStatus::NotBound(reason) | KeyStatus::Absent(reason) => {
                self.report.not_proved(self.current, reason);
            }
        }
    }

    /// The measured boot, as far as it explains itself.
    fn boot(&mut self, td: &Td) -> Result<(BootEvents, Rtmr0), Rejected> {
        let evidence = self.request.evidence;
        self.begin(CheckId::Rtmrs);
        event_log::replay(&evidence.events, td)?;
        self.pass(format!("{} events", evidence.events.len()));
        self.begin(CheckId::BootEvents);
        let boot = BootEvents::read(&evidence.events)?;
        let rtmr0 = Rtmr0::read(&evidence.events)?;
        event_log::repeated_values_agree(evidence, &boot, td)?;
        self.pass(format!("{} later events ignored", boot.later));
        self.begin(CheckId::Compose);
        let compose_hash = event_log::compose(evidence, &boot, td)?;
        self.pass(hex::encode(compose_hash));

        self.report.fact("mrtd", hex::encode(td.mrtd));
        for (name, value) in ["rtmr0", "rtmr1", "rtmr2", "rtmr3"]
            .into_iter()
            .zip(td.rtmr)
        {
            self.report.fact(name, hex::encode(value));
        }
        self.report
            .fact("os_image_hash", hex::encode(boot.os_image_hash));
        self.report.fact("compose_hash", hex::encode(compose_hash));
        self.report.fact("app_id", hex::encode(boot.app_id));
        self.report
            .fact("instance_id", shown_hex(&boot.instance_id));
        if !boot.mr_kms.is_empty() {
            let all: Vec<_> = boot.mr_kms.iter().map(|mr_kms| shown_hex(mr_kms)).collect();
            self.report.fact("mr_kms", shown(&all.join(" ")));
        }
        let vm_config = evidence.vm_config.as_deref().map(VmConfig::read);
        if let Some(Ok(config)) = vm_config {
            self.report
                .fact("machine_unmeasured", shown(&config.to_string()));
        }
        if let Some(device_id) = &evidence.repeated.device_id {
            self.report.fact("device_id_unmeasured", shown(device_id));
        }
        self.report
            .fact("signing_key", evidence.signing_key.to_string());
        self.report.fact("model_name", shown(&evidence.model_name));
        Ok((boot, rtmr0))
    }

    /// Nothing measured names the model: only who was asked, over the attested
    /// channel, vouches for it.
    fn model(&mut self) -> Result<(), Rejected> {
        self.begin(CheckId::Model);
        let got = &self.request.evidence.model_name;
        match &self.request.subject.models {
            Expected::NotChecked(reason) => {
                self.report.not_proved(
                    CheckId::Model,
                    format!("the report says {}; {reason}", quoted(got)),
                );
            }
            Expected::Known(names) if names.contains(got) => self.pass(quoted(got)),
            Expected::Known(names) => {
                let names: Vec<_> = names.iter().take(8).map(|name| quoted(name)).collect();
                return Err(Rejected::Model {
                    got: quoted(got),
                    expected: names.join(" or "),
                });
            }
        }
        Ok(())
    }
}

/// Measured values of a verified quote whose event log explains itself.
fn seen(evidence: &Evidence, quote: &VerifiedQuote) -> Option<Seen> {
    let td = quote.td();
    event_log::replay(&evidence.events, td).ok()?;
    let boot = BootEvents::read(&evidence.events).ok()?;
    let rtmr0 = Rtmr0::read(&evidence.events).ok()?;
    let compose_hash = event_log::compose(evidence, &boot, td).ok()?;
    let [rtmr0_value, rtmr1, rtmr2, _] = td.rtmr;
    Some(Seen {
        attributes: Hex(td.attributes),
        xfam: Hex(td.xfam),
        os_image: OsImage::seen(td.mrtd, rtmr1, rtmr2, boot.os_image_hash),
        firmware: rtmr0.firmware,
        acpi: rtmr0.acpi,
        app_id: boot.app_id,
        app_cert: evidence.app_cert.clone(),
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
