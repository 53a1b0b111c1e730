//! A connection about which nothing is known yet.
//!
//! It has no method that takes a `ClientRequest`, and its [`Link`] can write a
//! [`Probe`] only. [`Unverified::attest`] and [`Unverified::recall`] consume it,
//! so a refused connection is closed.

use std::time::Duration;

use attest::{
    Appraisal, Attested, Evidence, MAX_REPORT_BYTES, Nonce, PolicyDigest, Record, Rejected, Spki,
    UnixTime,
};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;

use super::judge::Judge;
use super::link::{Link, Probe};
use super::verified::Verified;
use crate::backend::Backend;
use crate::collateral::CollateralError;
use crate::verdicts::{Lane, Stage, VerdictId, VerdictReport};

/// NEAR's own gateways allow 10 s for the report; a machine whose eight GPUs
/// sign one after another can need more.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a connection was not proved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttestError {
    #[error("the attestation request was answered with status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("no complete attestation report in {} s", PROBE_TIMEOUT.as_secs())]
    Timeout,
    #[error("the connection broke off during the attestation request: {0}")]
    BrokenOff(#[from] hyper::Error),
    #[error("this machine's random number generator failed")]
    NoRandomness,
    #[error("{rejected}")]
    Rejected {
        rejected: Rejected,
        report: Box<VerdictReport>,
    },
    #[error("the proof is about another TLS key than this connection's")]
    OtherKey,
    #[error(transparent)]
    Collateral(#[from] CollateralError),
}

/// A TLS connection to a backend.
#[derive(Debug)]
pub(super) struct Unverified {
    link: Link,
    backend: Backend,
}

impl Unverified {
    pub(super) fn new(link: Link, backend: Backend) -> Self {
        Self { link, backend }
    }

    /// The TLS key of this connection.
    pub(super) fn spki(&self) -> Spki {
        self.link.spki()
    }

    /// Verified by what is remembered of the same domain, key and policy, or
    /// handed back.
    pub(super) fn recall(
        self,
        record: &Record,
        policy: PolicyDigest,
        now: UnixTime,
    ) -> Result<Verified, Self> {
        // The endpoint list may have changed since.
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

    /// Asks for evidence about this very connection and has it judged.
    pub(super) async fn attest(
        mut self,
        judge: &Judge,
        lane: &Lane,
    ) -> Result<(Verified, VerdictReport), AttestError> {
        let mut nonce = [0_u8; 32];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| AttestError::NoRandomness)?;
        let nonce = Nonce::from_bytes(nonce);
        let probe = Probe::new(&self.backend, nonce, judge.signing_algo());
        let body = match tokio::time::timeout(PROBE_TIMEOUT, self.ask(probe)).await {
            Ok(body) => body?,
            Err(_) => return Err(AttestError::Timeout),
        };
        let appraisal = match Evidence::parse(&body) {
            Ok(evidence) => {
                lane.reach(Stage::Collateral);
                judge
                    .appraise(&evidence, &self.backend.subject(), self.link.spki(), nonce)
                    .await?
            }
            Err(rejected) => judge.unreadable(rejected),
        };
        let id = VerdictId::of(
            self.backend.domain(),
            self.link.spki(),
            judge.policy_digest(),
            nonce,
        );
        let Appraisal {
            outcome, report, ..
        } = appraisal;
        let report = VerdictReport::new(
            id,
            self.backend.domain(),
            self.link.spki(),
            judge.webpki(),
            &report,
        );
        match outcome {
            Ok(proof) => match self.admit(proof) {
                Ok(verified) => Ok((verified, report)),
                Err(_) => Err(AttestError::OtherKey),
            },
            Err(rejected) => Err(AttestError::Rejected {
                rejected,
                report: Box::new(report),
            }),
        }
    }

    fn admit(self, proof: Attested) -> Result<Verified, Self> {
        let Self { link, backend } = self;
        match link.prove(proof) {
            Ok(link) => Ok(Verified::new(link, backend)),
            Err(link) => Err(Self { link, backend }),
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
            if let Ok(data) = frame?.into_data() {
                bytes.extend_from_slice(&data);
            }
            if bytes.len() > MAX_REPORT_BYTES {
                // The parser refuses it by its length.
                break;
            }
        }
        Ok(bytes.freeze())
    }
}
