//! Why a connection did not become a verified one.

use std::fmt;
use std::time::Duration;

use crate::least::Shortfall;
use crate::path::dial::DialError;
use crate::path::pool::QueueFull;
use crate::path::unverified::AttestError;
use crate::verdicts::{blames_collateral, blames_sources};

/// Why a connection did not become a verified one.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    QueueFull(#[from] QueueFull),
    #[error(transparent)]
    Attest(#[from] AttestError),
    #[error("the backend closed the connection after its report: {0}")]
    ClosedAfterProbe(#[source] hyper::Error),
    #[error("the connection reached a different instance of the backend than the one requested")]
    OtherInstance,
    /// The connection is verified. A request that asks for less may use it.
    #[error(transparent)]
    BelowLevel(Shortfall),
    #[error("no verified connection within {} s (--attest-timeout); still waiting for {waited_for}", .limit.as_secs())]
    Deadline {
        limit: Duration,
        waited_for: WaitedFor,
    },
}

impl AttemptError {
    /// False if no connection failed: none was made in time, or it reached a good instance that
    /// was not asked for.
    pub(in crate::path) fn is_about_connection(&self) -> bool {
        !matches!(
            self,
            Self::OtherInstance
                | Self::Deadline {
                    waited_for: WaitedFor::Permit,
                    ..
                }
        )
    }

    /// What errors of one kind have in common: where the proxy answers with such an error, the
    /// answer's code.
    pub(in crate::path) fn code(&self) -> &'static str {
        match self {
            Self::Dial(DialError::Timeout(..)) | Self::Attest(AttestError::Timeout(_)) => {
                "backend_timeout"
            }
            Self::QueueFull(_) => "busy",
            Self::Dial(DialError::Certificate(_) | DialError::KeyNotHeld) => "backend_certificate",
            Self::Dial(DialError::Proxy { .. }) => "outgoing_proxy_unreachable",
            Self::Dial(DialError::Connect(_) | DialError::Tls(_) | DialError::Http(_))
            | Self::Attest(AttestError::BrokenOff(_))
            | Self::ClosedAfterProbe(_)
            | Self::OtherInstance => "backend_unreachable",
            Self::Attest(
                AttestError::Rejected(refusal) | AttestError::RefusedBefore { refusal, .. },
            ) => refusal.rejected.code(),
            Self::Attest(AttestError::OtherKey) => "rejected_spki_mismatch",
            Self::Attest(AttestError::Status(_)) => "evidence_unavailable",
            Self::Attest(AttestError::NoRandomness) => "no_randomness",
            Self::Attest(AttestError::Collateral(_)) => "collateral_unavailable",
            Self::BelowLevel(_) => "level_not_reached",
            Self::Deadline { waited_for, .. } => match waited_for {
                WaitedFor::Permit => "busy",
                WaitedFor::Connection | WaitedFor::Report => "backend_timeout",
                WaitedFor::Collateral(_) => "collateral_unavailable",
                WaitedFor::ComposeFiles(_) | WaitedFor::Opinion(_) => "source_timeout",
            },
        }
    }
}

/// What an attempt waited for at its deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitedFor {
    Permit,
    Connection,
    Report,
    /// Names the sources.
    Collateral(String),
    /// Names the repository.
    ComposeFiles(String),
    /// Names the service.
    Opinion(String),
}

impl fmt::Display for WaitedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permit => f.write_str("one of the connections to the backend to be free"),
            Self::Connection => f.write_str("the connection"),
            Self::Report => f.write_str("the attestation report"),
            Self::Collateral(sources) => write!(f, "Intel's collateral from {sources}"),
            Self::ComposeFiles(source) => {
                write!(f, "compose files of the deployment log from {source}")
            }
            Self::Opinion(service) => {
                write!(
                    f,
                    "the opinion of NVIDIA's attestation service at {service}"
                )
            }
        }
    }
}

/// False if another connection would fail alike: collateral is about a family of machines,
/// NVIDIA's service and the repository serve all backends, and random numbers come from this
/// machine. But the instance alone states its family, so a family that no source knows may be
/// the instance's invention.
pub(in crate::path) fn another_may_succeed(error: &AttemptError) -> bool {
    match error {
        AttemptError::Attest(AttestError::Collateral(error)) if error.is_unknown_family() => true,
        AttemptError::Attest(AttestError::Collateral(_) | AttestError::NoRandomness) => false,
        AttemptError::Attest(error)
            if error
                .refusal()
                .map(|refusal| &refusal.rejected)
                .is_some_and(|rejected| {
                    blames_collateral(rejected) || blames_sources(rejected)
                }) =>
        {
            false
        }
        AttemptError::Deadline { .. } => false,
        // Proxies lock accounts after some failures.
        AttemptError::Dial(DialError::Proxy { error, .. }) => !error.is_about_credentials(),
        AttemptError::Dial(_)
        | AttemptError::QueueFull(_)
        | AttemptError::Attest(_)
        | AttemptError::OtherInstance
        | AttemptError::BelowLevel(_)
        | AttemptError::ClosedAfterProbe(_) => true,
    }
}
