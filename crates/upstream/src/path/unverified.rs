//! A connection that is not proved, or no longer.
//!
//! No method takes a `ClientRequest`, and its [`Link`] can write a [`Probe`] only.
//! [`Unverified::attest`] and [`Unverified::recall`] consume it, so a refused connection is
//! closed.

use std::sync::Arc;
use std::time::Duration;

use attest::{
    Appraisal, Attested, DeploymentRejected, Evidence, MAX_REPORT_BYTES, Nonce, PolicyDigest,
    Record, Rejected, Report, Spki, UnixTime,
};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;
use sources::backend::Backend;
use sources::collateral::CollateralError;
use sources::skew::Skew;

use crate::judge::Judge;
use crate::path::link::{Probe, SendError};
use crate::path::pool::PoolPermit;
use crate::path::request::Link;
use crate::path::verified::Verified;
use crate::settings::UpstreamSettings;
use crate::verdicts::{KeyLock, Refusal, Stage, VerdictId, VerdictReport};

/// How long a probe waits for another probe of its domain. Reports usually take less; an
/// instance that hangs must not keep other instances from being attested.
const PROBE_WAIT: Duration = Duration::from_secs(10);

/// Why a connection was not proved.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    #[error("the attestation request was answered with status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("no complete attestation report within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("the connection broke off during the attestation request: {0}")]
    BrokenOff(#[from] SendError),
    #[error("this machine's random number generator failed")]
    NoRandomness,
    #[error("{}", .0.rejected)]
    Rejected(Arc<Refusal>),
    #[error("{} (refused a moment ago; asked again in {} s)", .refusal.rejected, .pause.as_secs().max(1))]
    RefusedBefore {
        refusal: Arc<Refusal>,
        pause: Duration,
    },
    #[error("the proof is about another TLS key than this connection's")]
    OtherKey,
    #[error(transparent)]
    Collateral(#[from] CollateralError),
}

impl AttestError {
    /// The refusal behind the error, if there is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Rejected(refusal) | Self::RefusedBefore { refusal, .. } => Some(refusal),
            _ => None,
        }
    }
}

/// Evidence and its appraisal.
#[derive(Debug)]
pub struct Examined {
    /// Absent if it could not be parsed.
    pub evidence: Option<Evidence>,
    pub appraisal: Appraisal,
    pub report: VerdictReport,
    /// How far this machine's clock is off, if that may be the cause of a refusal.
    pub skew: Option<Skew>,
    /// The key and the nonce that the evidence was judged for.
    pub(in crate::path) spki: Spki,
    pub(in crate::path) nonce: Nonce,
}

/// A TLS connection to a backend, and its permit.
#[derive(Debug)]
pub(in crate::path) struct Unverified {
    link: Link,
    backend: Backend,
    permit: PoolPermit,
    settings: Arc<UpstreamSettings>,
}

impl Unverified {
    pub(in crate::path) fn new(
        link: Link,
        backend: Backend,
        permit: PoolPermit,
        settings: Arc<UpstreamSettings>,
    ) -> Self {
        Self {
            link,
            backend,
            permit,
            settings,
        }
    }

    pub(in crate::path) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// The key at the other end of the TLS session.
    pub(in crate::path) fn spki(&self) -> Spki {
        self.link.spki()
    }

    /// Verified by a stored verdict on the same domain, key and policy; otherwise handed back.
    pub(in crate::path) fn recall(
        self,
        record: &Record,
        policy: PolicyDigest,
        now: UnixTime,
    ) -> Result<Verified, Self> {
        // The endpoint list may have changed since the verdict.
        if !self.backend.may_serve(record.model_name()) {
            return Err(self);
        }
        match record.recall(self.backend.domain(), self.link.spki(), policy, now) {
            Ok(proof) => self.admit(proof),
            Err(reason) => {
                tracing::debug!(domain = %self.backend.domain(), %reason, "verdict not recalled");
                Err(self)
            }
        }
    }

    /// Requests evidence about this connection and has it appraised.
    pub(in crate::path) async fn attest(
        mut self,
        judge: &Judge,
        key_lock: &KeyLock,
    ) -> Result<(Verified, VerdictReport), AttestError> {
        let Examined {
            appraisal,
            report,
            skew,
            ..
        } = self.examine(judge, key_lock).await?;
        self.report_changes(&appraisal.report);
        match appraisal.outcome {
            Ok(proof) => match self.admit(proof) {
                Ok(verified) => Ok((verified, report)),
                Err(_) => Err(AttestError::OtherKey),
            },
            Err(rejected) => Err(AttestError::Rejected(Arc::new(Refusal {
                rejected,
                report,
                skew,
            }))),
        }
    }

    /// Requests and appraises evidence; the connection stays unverified.
    pub(in crate::path) async fn examine(
        &mut self,
        judge: &Judge,
        key_lock: &KeyLock,
    ) -> Result<Examined, AttestError> {
        let examined = self.examine_once(judge, key_lock).await?;
        // The backend omits the log if its manager does not answer in time. Only then the
        // evidence is requested again, with a new nonce.
        let Err(Rejected::Deployment(DeploymentRejected::Missing {})) = &examined.appraisal.outcome
        else {
            return Ok(examined);
        };
        let domain = self.backend.domain().clone();
        tracing::info!(%domain, "no deployment log in the report: asking again");
        key_lock.set_stage(Stage::Report);
        match self.examine_once(judge, key_lock).await {
            Ok(again) => Ok(again),
            // If the second attempt fails, the first refusal stands.
            Err(error) => {
                tracing::info!(%domain, %error, "the second request for a report failed");
                Ok(examined)
            }
        }
    }

    async fn examine_once(
        &mut self,
        judge: &Judge,
        key_lock: &KeyLock,
    ) -> Result<Examined, AttestError> {
        let mut nonce = [0_u8; 32];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| AttestError::NoRandomness)?;
        let nonce = Nonce::from_bytes(nonce);
        let probe = Probe::new(&self.backend, nonce, judge.signing_algo());
        // Fetch collateral and key lists while the backend collects its evidence.
        judge.prewarm();
        let body = {
            let _only_one = tokio::time::timeout(PROBE_WAIT, key_lock.probing()).await;
            let limit = self.settings.timeouts.report;
            match tokio::time::timeout(limit, self.ask(probe)).await {
                Ok(body) => body?,
                Err(_) => return Err(AttestError::Timeout(limit)),
            }
        };
        let spki = self.link.spki();
        let (evidence, appraisal) = match Evidence::parse(&body) {
            Ok(evidence) => {
                let appraisal = judge.appraise(&evidence, &self.backend, spki, nonce, key_lock);
                let appraisal = appraisal.await?;
                (Some(evidence), appraisal)
            }
            Err(rejected) => (None, judge.unreadable(rejected)),
        };
        let domain = self.backend.domain();
        let id = VerdictId::of(domain, spki, judge.policy_digest(), nonce);
        let (webpki, now) = (judge.webpki(), judge.now());
        let mut report = VerdictReport::new(id, domain, spki, webpki, now, &appraisal);
        report.may_rise = judge.may_rise(&appraisal);
        let refused = appraisal.outcome.as_ref().err();
        let skew = refused.and_then(|rejected| judge.skew_behind(rejected));
        Ok(Examined {
            evidence,
            appraisal,
            report,
            skew,
            spki,
            nonce,
        })
    }

    /// Logs and counts what changed at this backend.
    fn report_changes(&self, report: &Report) {
        self.settings.metrics.reported(report);
        let (domain, spki) = (self.backend.domain(), self.spki());
        for change in &report.changes {
            let kind = change.kind.as_str();
            let subject = format_args!("{domain} {spki} {}", change.detail);
            let Some(more) = self.settings.seldom.may_say(subject, kind) else {
                continue;
            };
            if change.down {
                tracing::warn!(%domain, %spki, kind, "went down since it was last seen: {}{more}", change.detail);
            } else {
                tracing::info!(%domain, %spki, kind, "changed since it was last seen: {}{more}", change.detail);
            }
        }
    }

    /// Returns the connection to the pool.
    pub(in crate::path) fn release(self) {
        self.permit.release(self.link);
    }

    fn admit(self, proof: Attested) -> Result<Verified, Self> {
        let Self {
            link,
            backend,
            permit,
            settings,
        } = self;
        match link.prove(proof) {
            Ok(link) => Ok(Verified::new(link, backend, permit, settings)),
            Err(link) => Err(Self::new(link, backend, permit, settings)),
        }
    }

    async fn ask(&mut self, probe: Probe) -> Result<Bytes, AttestError> {
        let response = self.link.probe(probe).await?;
        if response.status() != StatusCode::OK {
            return Err(AttestError::Status(response.status()));
        }
        let mut body = response.into_body();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(SendError::from)?.into_data() {
                bytes.extend_from_slice(&data);
            }
            if bytes.len() > MAX_REPORT_BYTES {
                // The parser refuses it for its length.
                break;
            }
        }
        Ok(bytes.freeze())
    }
}
