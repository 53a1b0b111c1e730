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
//! A `ClientRequest` is opened in `Verified::forward` and nowhere else, with a
//! `ProvedLink` in hand. That is made only from a `Link`, which is used up and
//! can write nothing but a probe, and a proof about its TLS key.

mod answer;
mod dial;
mod headers;
mod judge;
mod link;
mod request;
mod unverified;
mod verified;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use attest::Domain;
use rustls::client::WebPkiServerVerifier;
use tokio::time::Instant;

use crate::backend::Backend;
use crate::clock::Clock;
use crate::config::BackendTimeouts;
use crate::net::ConnectMap;
use crate::tls::TlsSetupError;
use crate::verdicts::{Key, Lane, Stage, Verdicts};

use self::dial::Dialer;
use self::unverified::Unverified;

pub(crate) use self::answer::AnswerBody;
pub(crate) use self::dial::DialError;
pub use self::dial::WebPki;
pub(crate) use self::judge::Judge;
pub(crate) use self::request::{
    BodyBudget, BodyError, ClientRequest, Framing, MAX_MODEL_BYTES, Model, Named, SealError, View,
};
pub(crate) use self::unverified::{AttestError, Examined};
pub(crate) use self::verified::{ForwardError, VERDICT, Verified};

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
    #[error("the time for a first request (--attest-timeout, {} s) was over, waiting for {waited_for}", .limit.as_secs())]
    Deadline {
        limit: Duration,
        waited_for: WaitedFor,
    },
}

/// What had not come at the deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WaitedFor {
    Connection,
    Report,
    /// From these sources.
    Collateral(String),
}

impl fmt::Display for WaitedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection => f.write_str("the connection"),
            Self::Report => f.write_str("the attestation report"),
            Self::Collateral(sources) => write!(f, "Intel's collateral from {sources}"),
        }
    }
}

/// The lane that an attempt has got into.
type Position = Mutex<Option<Arc<Lane>>>;

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
    terms: Arc<Terms>,
}

/// What holds on every connection.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) timeouts: BackendTimeouts,
    pub(crate) clock: Clock,
}

impl Upstream {
    pub(crate) fn new(
        webpki: Arc<WebPkiServerVerifier>,
        connect_to: ConnectMap,
        judge: Judge,
        verdicts: Arc<Verdicts>,
        attest_timeout: Duration,
        terms: Terms,
    ) -> Result<Self, TlsSetupError> {
        let terms = Arc::new(terms);
        Ok(Self {
            dialer: Dialer::new(judge.webpki(), webpki, connect_to, Arc::clone(&terms))?,
            terms,
            judge,
            verdicts,
            attest_timeout,
        })
    }

    /// When a request that begins now has to have its connection.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.attest_timeout
    }

    /// A proved connection to one of `candidates`, tried in order.
    pub(crate) async fn verified(
        &self,
        candidates: &[Backend],
        deadline: Instant,
    ) -> Result<Verified, PathError> {
        let mut attempts = Vec::new();
        for backend in candidates.iter().cycle().take(MAX_ATTEMPTS) {
            let position = Position::default();
            let attempt = self.attempt(backend, &position);
            let outcome = tokio::time::timeout_at(deadline, attempt).await;
            let error = match outcome {
                Ok(Ok(verified)) => return Ok(verified),
                Ok(Err(error)) => error,
                Err(_) => AttemptError::Deadline {
                    limit: self.attest_timeout,
                    waited_for: self.waited_for(&position),
                },
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

    /// What one connection to `backend` shows: for `verified-proxy verify`.
    pub(crate) async fn examine(&self, backend: &Backend) -> Result<Examined, AttemptError> {
        let lane = Arc::new(Lane::default());
        let position = Position::new(Some(Arc::clone(&lane)));
        let attempt = async {
            let mut unverified = self.dialer.dial(backend).await?;
            Ok(unverified.examine(&self.judge, &lane).await?)
        };
        match tokio::time::timeout_at(self.deadline(), attempt).await {
            Ok(outcome) => outcome,
            Err(_) => Err(AttemptError::Deadline {
                limit: self.attest_timeout,
                waited_for: self.waited_for(&position),
            }),
        }
    }

    fn waited_for(&self, position: &Position) -> WaitedFor {
        let lane = position.lock().unwrap_or_else(PoisonError::into_inner);
        match lane.as_deref().map(Lane::stage) {
            None => WaitedFor::Connection,
            Some(Stage::Report) => WaitedFor::Report,
            Some(Stage::Collateral) => WaitedFor::Collateral(self.judge.collateral_sources()),
        }
    }

    async fn attempt(
        &self,
        backend: &Backend,
        position: &Position,
    ) -> Result<Verified, AttemptError> {
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
        let lane = self.verdicts.lane(&key);
        *position.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&lane));
        let _leave = lane.leave().await;
        // Somebody may have flown before.
        let unverified = match self.recall(unverified, &key) {
            Ok(verified) => return Ok(verified),
            Err(unverified) => unverified,
        };
        let outcome = self.attest(unverified, key, &lane).await;
        // Not reached by who is cut off: what held it up still holds up the next.
        lane.reach(Stage::Report);
        let verified = outcome?;
        verified
            .still_open()
            .await
            .map_err(AttemptError::ClosedAfterProbe)
    }

    fn recall(&self, unverified: Unverified, key: &Key) -> Result<Verified, Unverified> {
        match self.verdicts.get(key) {
            Some(record) => unverified.recall(&record, key.policy, self.terms.clock.now()),
            None => Err(unverified),
        }
    }

    async fn attest(
        &self,
        unverified: Unverified,
        key: Key,
        lane: &Lane,
    ) -> Result<Verified, AttestError> {
        let outcome = unverified.attest(&self.judge, lane).await;
        if let Err(AttestError::Rejected { report, .. }) = &outcome {
            self.verdicts.refuse(&key, (**report).clone());
        }
        let (verified, report) = outcome?;
        let Key { domain, spki, .. } = &key;
        tracing::info!(%domain, %spki, verdict = %report.id, "attested");
        match verified.record(self.terms.clock.now(), self.verdicts.ttl()) {
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
        AttemptError::Attest(AttestError::Rejected { rejected, .. })
            if judge::blames_collateral(rejected) =>
        {
            false
        }
        AttemptError::Deadline { .. } => false,
        AttemptError::Dial(_) | AttemptError::Attest(_) | AttemptError::ClosedAfterProbe(_) => true,
    }
}
