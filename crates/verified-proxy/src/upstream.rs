//! The way to a backend.
//!
//! ```text
//!   dial                       recall(record)
//!    |                     +------------------------+
//!    v                     |                        v
//!  TCP, TLS -> Unverified -+                     Verified -- forward(ClientRequest) -> answer
//!                          |                        ^
//!                          +-- attest: Probe -------+
//!                                |     Evidence, collateral, appraise
//!                                v
//!                             refused: the connection is gone
//! ```
//!
//! A `ClientRequest` is opened in `Verified::forward` and nowhere else;
//! `Unverified` has nothing that takes one; a `Verified` is made only from an
//! `Unverified`, which is used up, and a proof about its TLS key.

mod dial;
mod headers;
mod judge;
mod request;
mod unverified;
mod verified;

use std::sync::Arc;
use std::time::Duration;

use attest::Domain;
use rustls::client::WebPkiServerVerifier;
use tokio::time::Instant;

use crate::backend::Backend;
use crate::clock;
use crate::net::ConnectMap;
use crate::tls::TlsSetupError;
use crate::verdicts::{Key, Verdicts};

use self::dial::Dialer;
use self::unverified::Unverified;

pub(crate) use self::dial::DialError;
pub use self::dial::WebPki;
pub(crate) use self::judge::Judge;
pub(crate) use self::request::{BodyBudget, ClientRequest, Framing, Model, Named, SealError, View};
pub(crate) use self::unverified::AttestError;
pub(crate) use self::verified::{AnswerBody, ForwardError, VERDICT, Verified};

/// Connections tried for one request: a refused instance may have a neighbour
/// that is not, or be in the middle of a certificate rotation.
const MAX_ATTEMPTS: usize = 3;

/// Why one connection did not become a verified one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttemptError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Attest(#[from] AttestError),
    #[error("the backend closed the connection after its report: {0}")]
    ClosedAfterProbe(#[source] hyper::Error),
    #[error("the time for a first request (--attest-timeout, {} s) was over", .0.as_secs())]
    Deadline(Duration),
}

/// Every attempt of a request that found no verified connection.
#[derive(Debug)]
pub(crate) struct PathError {
    pub(crate) attempts: Vec<(Domain, AttemptError)>,
}

/// Makes verified connections.
#[derive(Debug)]
pub(crate) struct Upstream {
    dialer: Dialer,
    judge: Judge,
    verdicts: Arc<Verdicts>,
    attest_timeout: Duration,
}

impl Upstream {
    pub(crate) fn new(
        webpki: Arc<WebPkiServerVerifier>,
        connect_to: ConnectMap,
        judge: Judge,
        verdicts: Arc<Verdicts>,
        attest_timeout: Duration,
    ) -> Result<Self, TlsSetupError> {
        Ok(Self {
            dialer: Dialer::new(judge.webpki(), webpki, connect_to)?,
            judge,
            verdicts,
            attest_timeout,
        })
    }

    /// A proved connection to one of `candidates`, tried in order.
    pub(crate) async fn verified(&self, candidates: &[Backend]) -> Result<Verified, PathError> {
        let deadline = Instant::now() + self.attest_timeout;
        let mut attempts = Vec::new();
        for backend in candidates.iter().cycle().take(MAX_ATTEMPTS) {
            let outcome = tokio::time::timeout_at(deadline, self.attempt(backend)).await;
            let error = match outcome {
                Ok(Ok(verified)) => return Ok(verified),
                Ok(Err(error)) => error,
                Err(_) => AttemptError::Deadline(self.attest_timeout),
            };
            tracing::warn!(domain = %backend.domain(), %error, "backend not verified");
            let elsewhere_helps = helps_elsewhere(&error);
            attempts.push((backend.domain().clone(), error));
            if !elsewhere_helps {
                break;
            }
        }
        Err(PathError { attempts })
    }

    async fn attempt(&self, backend: &Backend) -> Result<Verified, AttemptError> {
        let unverified = self.dialer.dial(backend).await?;
        let key = Key {
            domain: backend.domain().clone(),
            spki: unverified.spki(),
            policy: self.judge.policy_digest(),
        };
        let unverified = match self.recall(unverified, &key) {
            Ok(verified) => return Ok(verified),
            Err(unverified) => unverified,
        };
        let _flight = self.verdicts.flight(&key).await;
        // Somebody may have flown before.
        let unverified = match self.recall(unverified, &key) {
            Ok(verified) => return Ok(verified),
            Err(unverified) => unverified,
        };
        let verified = self.attest(unverified, key).await?;
        verified
            .still_open()
            .await
            .map_err(AttemptError::ClosedAfterProbe)
    }

    fn recall(&self, unverified: Unverified, key: &Key) -> Result<Verified, Unverified> {
        match self.verdicts.get(key) {
            Some(record) => unverified.recall(&record, key.policy, clock::now()),
            None => Err(unverified),
        }
    }

    async fn attest(&self, unverified: Unverified, key: Key) -> Result<Verified, AttestError> {
        let outcome = unverified.attest(&self.judge).await;
        if let Err(AttestError::Rejected { report, .. }) = &outcome {
            self.verdicts.refuse(&key, (**report).clone());
        }
        let (verified, report) = outcome?;
        let Key { domain, spki, .. } = &key;
        tracing::info!(%domain, %spki, verdict = %report.id, "attested");
        match verified.record(clock::now(), self.verdicts.ttl()) {
            Ok(record) => self.verdicts.remember(key, record, report),
            Err(error) => tracing::error!(%error, "a verdict cannot be remembered"),
        }
        Ok(verified)
    }
}

/// Collateral is about a family of machines, and this machine's random numbers
/// are the same everywhere.
fn helps_elsewhere(error: &AttemptError) -> bool {
    match error {
        AttemptError::Attest(AttestError::Collateral(_) | AttestError::NoRandomness) => false,
        AttemptError::Deadline(_) => false,
        AttemptError::Dial(_) | AttemptError::Attest(_) | AttemptError::ClosedAfterProbe(_) => true,
    }
}
