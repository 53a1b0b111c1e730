//! The ordered checks: the one place that turns evidence into a proof.
//!
//! Each step takes what the step before proved and refuses by its own
//! [`Rejected`]. The [`Report`] is written along the way and decides nothing.

mod appraisal;
pub(crate) mod attested;
mod boot;
mod deployment;
mod gpus;
mod hardware;
mod machine;
mod software;
mod sources;

use std::sync::Arc;

pub use self::appraisal::{Appraisal, Fetch};
use self::appraisal::{Workload, new_report};
use crate::appraise::attested::{Attested, Claims, Expected, Subject};
use crate::base::exception::Exception;
use crate::base::finding::{ACCEPTED_BY_YOU, Finding, Severity};
use crate::base::identifiers::{Nonce, Spki, UnixTime};
use crate::base::levels::{HardwareLevel, Levels};
use crate::base::text::{quoted, shown, shown_hex};
use crate::dstack::app_compose::app_compose_findings;
use crate::history::{DomainSeen, HistoryCheck, Sighting, State};
use crate::intel::collateral::{Collateral, Editions, FloorSeen, Floors};
use crate::intel::quote::{MeasuredTd, VerifiedQuote};
use crate::near::binding;
use crate::near::deployment::{FilesCheck, TagsCheck};
use crate::near::evidence::Evidence;
use crate::near::keys::NotBound;
use crate::nvidia::gpu::IssuerCache;
use crate::nvidia::nras::KeySet;
use crate::policy::{Policy, Rules, ValueRule, finding_value};
use crate::refusals::Rejected;
use crate::refusals::checks::CheckId;
use crate::report::{Named, Report, Status};
use crate::trust::TrustAnchors;

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
    /// What is accepted.
    pub policy: &'a Policy,
    /// Whose word counts.
    pub trust_anchors: &'a TrustAnchors,
    /// What the caller keeps and fetched besides.
    pub context: Context<'a>,
    /// The time.
    pub now: UnixTime,
}

/// What a verdict also depends on: each is given, or the reason why it is not, which the
/// report says.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// How old collateral may be.
    pub floor: FloorCheck<'a>,
    /// What was seen before of the domain, and of the instance's deployment log.
    pub history: HistoryCheck<'a>,
    /// The files that deployment logs name.
    pub files: FilesCheck<'a>,
    /// The tags of the repository that these files are from.
    pub tags: TagsCheck<'a>,
    /// A second opinion on the GPUs.
    pub nras: NrasCheck<'a>,
    /// Issuers of GPU certificates that were verified before; it spares work and
    /// decides nothing.
    pub issuers: Option<&'a IssuerCache>,
}

impl Context<'_> {
    /// Nothing is given, for this reason.
    #[must_use]
    pub const fn none(reason: &'static str) -> Self {
        Self {
            floor: FloorCheck::NotKept(reason),
            history: HistoryCheck::NotKept(reason),
            files: FilesCheck::NotFetched(reason),
            tags: TagsCheck::NotFetched(reason),
            nras: NrasCheck::NotAsked(reason),
            issuers: None,
        }
    }
}

/// The memory against which rollback of collateral is noticed.
#[derive(Debug, Clone, Copy)]
pub enum FloorCheck<'a> {
    /// What was seen before.
    Kept {
        /// The memory.
        floors: &'a Floors,
        /// Intel's list, which tells the standard edition from early ones. `None` if no
        /// source served it, which refuses nothing.
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

/// Judges evidence.
///
/// A refusal is the first failing check in the order of [`CheckId::ALL`]. What the
/// policy requires and was not given refuses after everything that speaks against
/// the machine: files and tags of its log first, then NVIDIA's opinion.
///
/// # What the caller must do
///
/// - Make a new random nonce for each request, send it with the request for the report,
///   and give the same one here: it is what proves that the evidence is no recording.
/// - Take `live_spki` from the TLS session that the request went through, and send
///   nothing secret over another one: the proof is about this key only.
/// - Give the right time as `now`: certificates and revocation lists end by it.
/// - Keep [`Appraisal::floor_seen`] in [`Floors`], also of a refusal, and give these
///   floors the next time; else old collateral can hide a revocation. Keep
///   [`Appraisal::sighting`] in a [`History`](crate::History) likewise.
/// - Fetch what [`Appraisal::next`] says, and appraise the same evidence again.
/// - Judge anew at [`Attested::valid_until`].
#[must_use]
pub fn appraise(request: &Appraise<'_>) -> Appraisal {
    let rules = request.policy.rules().at(request.now);
    let mut run = Run {
        request: *request,
        rules: &rules,
        report: new_report(request.policy, request.trust_anchors, request.now),
        current: CheckId::Evidence,
        floor_seen: None,
        editions: None,
        sighting: Sighting::default(),
        quote: None,
        workload: Workload::default(),
        reached: Levels {
            hardware: HardwareLevel::Current,
            ..Levels::LEAST
        },
        exceptions_end: UnixTime(u64::MAX),
    };
    let outcome = run.checks();
    if let Err(rejected) = &outcome {
        let check = rejected.check(run.current);
        run.report.set(check, Status::Fail, rejected.to_string());
        run.report.differences = rules.differences(rejected);
        run.report.rejected = Some(rejected.clone());
    }
    let can_ask = request.policy.asks_nras() && request.evidence.gpu_payload.is_some();
    run.workload.opinion_wanted = can_ask && matches!(request.context.nras, NrasCheck::NotAsked(_));
    Appraisal {
        sighting: outcome.is_ok().then_some(run.sighting),
        outcome,
        floor_seen: run.floor_seen,
        report: run.report,
        quote: run.quote,
        workload: run.workload,
    }
}

struct Run<'a> {
    request: Appraise<'a>,
    /// The policy's, with what it accepts beside them now.
    rules: &'a Rules,
    report: Report,
    /// The check that a refusal belongs to.
    current: CheckId,
    floor_seen: Option<FloorSeen>,
    /// Intel's list, once the revocation list that it is held against is genuine.
    editions: Option<&'a Editions>,
    sighting: Sighting,
    quote: Option<Arc<VerifiedQuote>>,
    workload: Workload,
    /// What has been shown so far.
    reached: Levels,
    /// When the first of the exceptions ends that the verdict rests on.
    exceptions_end: UnixTime,
}

impl<'a> Run<'a> {
    fn begin(&mut self, check: CheckId) {
        self.current = check;
    }

    fn pass(&mut self, detail: impl Into<String>) {
        self.report.pass(self.current, detail);
    }

    /// What the policy says of what was seen.
    fn findings(&mut self) -> Result<(), Rejected> {
        self.begin(CheckId::Findings);
        let rules = &self.rules().findings;
        self.report.quiet = rules.quiet_at(self.request.now);
        if rules.refuse.is_empty() {
            self.report
                .not_proved(CheckId::Findings, "the policy refuses none");
            return Ok(());
        }
        if let Some(finding) = rules.refused(&self.report.findings) {
            return Err(Rejected::Finding {
                topic: finding.topic,
                severity: finding.severity,
                detail: finding.detail.clone(),
            });
        }
        self.pass(format!("none of {}", rules.refuse.len()));
        let values: Vec<_> = self.report.findings.iter().map(finding_value).collect();
        self.accepted_values(ValueRule::Finding, values.iter().map(String::as_str));
        Ok(())
    }

    /// Notes that the verdict rests on an exception of the policy, and on which day the
    /// first exception of its axis ends; in words.
    fn excepted(
        &mut self,
        exception: &Exception,
        of_axis: fn(&mut Named) -> &mut Option<String>,
    ) -> String {
        self.exceptions_end = self.exceptions_end.min(exception.until.end());
        // Days are written so that the order of their texts is theirs.
        let until = exception.until.to_string();
        let first = of_axis(&mut self.report.named);
        if first.as_ref().is_none_or(|first| until < *first) {
            *first = Some(until);
        }
        format!("accepted until {}", exception.until)
    }

    /// Says of each value that was seen whether the policy accepts it for a while only:
    /// for as long as it does, the reader of a verdict is told that too.
    fn accepted_values<'v>(&mut self, rule: ValueRule, seen: impl Iterator<Item = &'v str>) {
        for value in seen {
            let rules = self.rules;
            if let Some(exception) = rules.accepted(rule, value, self.request.now) {
                self.accepted_by_you(&format!("{rule} = {}", quoted(value)), exception);
            }
        }
    }

    fn accepted_by_you(&mut self, what: &str, exception: &Exception) {
        self.exceptions_end = self.exceptions_end.min(exception.until.end());
        let Exception { until, reason, by } = exception;
        let detail = format!(
            "{what} is accepted until {until}, by {}: {}",
            shown(by),
            shown(reason)
        );
        let finding = Finding::new(Severity::Warning, ACCEPTED_BY_YOU, detail);
        if !self.report.findings.contains(&finding) {
            self.report.findings.push(finding);
        }
    }

    /// The levels that the evidence reaches, and whether they are enough.
    fn levels(&mut self) -> Result<Levels, Rejected> {
        self.reached.gpu = self.workload.gpu_level;
        self.reached.deployment = self.workload.deployment_level;
        let levels = self.reached.capped();
        let Some((axis, got, least)) = levels.short_of(&self.rules().least) else {
            return Ok(levels);
        };
        self.begin(match axis {
            "hardware" => CheckId::TcbPlatform,
            "identity" => CheckId::Kms,
            "deployment" => CheckId::Deployment,
            "gpu" => CheckId::Gpus,
            _ => CheckId::OsImage,
        });
        Err(Rejected::BelowLevel { axis, got, least })
    }

    /// What changed since the domain was last seen.
    fn last_seen(&mut self, levels: Levels) -> Result<(), Rejected> {
        self.begin(CheckId::LastSeen);
        let history = match self.request.context.history.history() {
            Ok(history) => history,
            Err(reason) => {
                self.report.not_proved(CheckId::LastSeen, reason);
                return Ok(());
            }
        };
        let domain = match &self.request.subject.domain {
            Expected::Known(domain) => domain,
            Expected::NotChecked(reason) => {
                self.report.not_proved(CheckId::LastSeen, *reason);
                return Ok(());
            }
        };
        let now = self.request.now;
        let state = State {
            levels,
            deployment_is_open: self.workload.deployment_is_open,
            image: self.workload.image.take(),
            kms_root: self.workload.kms_root.take(),
            signing_key: self.request.evidence.signing_key.to_string(),
        };
        let remarks = self.report.remarks();
        let holds = self.rules().hold;
        let known = &history.domains;
        let compared = known.compare(domain, &state, holds, remarks.iter().copied(), now);
        let seen = DomainSeen::new(domain, state, holds, remarks.into_iter(), now);
        self.sighting.domain = Some(seen);
        self.report.new_remarks = Some(compared.new_remarks);
        let down = compared.changes.iter().filter(|change| change.down);
        let down: Vec<_> = down.map(|change| change.detail.as_str()).collect();
        let detail = down.join("; ");
        let is_accepted = matches!(self.request.context.history, HistoryCheck::Accepting(_));
        self.report.changes.extend(compared.changes);
        let reason = match (detail.as_str(), compared.open) {
            ("", _) if compared.is_first => "this domain was not seen before".to_owned(),
            ("", Some(open)) => open.to_owned(),
            ("", None) => {
                self.pass("no level, image, key management service or signing key");
                return Ok(());
            }
            (down, _) if is_accepted => format!("accepted for this run of the program: {down}"),
            (_, _) if holds => return Err(Rejected::WentDown { detail }),
            (down, _) => format!("{down}; the policy does not refuse it (hold = false)"),
        };
        self.report.not_proved(CheckId::LastSeen, reason);
        Ok(())
    }

    fn all_not_proved<const N: usize>(&mut self, checks: [CheckId; N], reason: &str) {
        for check in checks {
            self.report.not_proved(check, reason);
        }
    }

    fn rules(&self) -> &'a Rules {
        self.rules
    }

    fn checks(&mut self) -> Result<Attested, Rejected> {
        let evidence = self.request.evidence;
        self.begin(CheckId::Evidence);
        if !self.request.policy.hardware_only() {
            evidence.is_of_dstack()?;
        }
        self.pass(format!(
            "{} events, signing key {}",
            evidence.events.as_ref().map_or(0, Vec::len),
            evidence.signing_key
        ));
        let quote = Arc::new(self.genuine()?);
        self.quote = Some(Arc::clone(&quote));
        self.patched(&quote)?;
        self.td(quote.td())?;
        self.connection(quote.td())?;
        self.keys();
        let (boot, valid_until) = if self.request.policy.hardware_only() {
            let boot = self.boot_of_any_software(quote.td())?;
            self.software_is_not_looked_at();
            (boot, quote.valid_until())
        } else {
            let (boot, rtmr0) = self.boot(quote.td())?;
            self.software(quote.td(), &boot, rtmr0.as_ref())?;
            let until = self.identity(quote.td(), &boot)?;
            (Some(boot), until.min(quote.valid_until()))
        };
        self.pins(&quote, boot.as_ref())?;
        self.model()?;
        if let Ok(text) = &evidence.app_compose {
            self.report.findings.extend(app_compose_findings(text));
        }
        self.deployment(&quote, boot.as_ref())?;
        let gpus = self.gpus()?;
        self.nothing_is_lacking()?;
        let gpus_until = gpus.map(|gpus| self.gpus_until(&gpus)).transpose()?;
        let valid_until = gpus_until.map_or(valid_until, |end| end.min(valid_until));
        self.findings()?;
        let levels = self.levels()?;
        self.last_seen(levels)?;
        let valid_until = valid_until.min(self.exceptions_end);
        self.report.levels = Some(levels);
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
                levels,
                judged_at: self.request.now,
            }),
        })
    }

    /// This connection, this request.
    fn connection(&mut self, td: &MeasuredTd) -> Result<(), Rejected> {
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

    /// Keys that clients may encrypt to. The proxy does not, so they refuse nothing.
    fn keys(&mut self) {
        let evidence = self.request.evidence;
        let attested = &evidence.signing_key;
        let key = evidence.encryption_key(attested).map(|key| vec![key]);
        self.bound(CheckId::EncryptionKey, key, "encryption_key_contradicts");
        let keys = evidence.ohttp_keys(attested);
        self.bound(CheckId::OhttpKey, keys, "ohttp_key_contradicts");
    }

    fn bound(&mut self, check: CheckId, keys: Result<Vec<Vec<u8>>, NotBound>, topic: &'static str) {
        match keys {
            Ok(keys) => {
                let by = &self.request.evidence.signing_key;
                self.report.pass(check, format!("vouched for by {by}"));
                let keys: Vec<_> = keys.iter().map(|key| shown_hex(key)).collect();
                self.report.fact(check.id(), keys.join(" "));
            }
            Err(reason) => {
                self.report.not_proved(check, reason.to_string());
                if let NotBound::Contradicted(detail) = reason {
                    self.report
                        .findings
                        .push(Finding::new(Severity::Warning, topic, detail));
                }
            }
        }
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
