//! What all connections to backends share.

use std::sync::Arc;
use std::time::Duration;

use sources::clock::Clock;
use sources::seldom::Seldom;

use crate::least::ModelLeast;
use crate::metrics::Metrics;
use crate::secrets::ApiKey;

/// Time limits for backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendTimeouts {
    /// From DNS to the end of the TLS handshake.
    pub connect: Duration,
    /// For a complete attestation report.
    pub report: Duration,
    /// In which a backend has to take something of a request's body.
    pub unread: Duration,
    /// From the end of a request's body until an answer begins.
    pub first_byte: Duration,
    /// Between two pieces of an answer that has begun.
    pub idle: Duration,
}

impl Default for BackendTimeouts {
    /// 10 s suffice for round trips around the world, and are short beside what clients wait.
    /// NEAR's own gateways allow 10 s for the report; a machine whose eight GPUs sign one after
    /// another can need more. nginx waits a minute for a backend to take something
    /// (proxy_send_timeout). The nginx in front of the engines waits an hour for a first byte
    /// (proxy_read_timeout 3600s).
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            report: Duration::from_secs(60),
            unread: Duration::from_secs(60),
            first_byte: Duration::from_secs(60 * 60),
            idle: Duration::from_secs(10 * 60),
        }
    }
}

/// Settings and counters of all connections to backends.
#[derive(Debug)]
pub struct UpstreamSettings {
    pub timeouts: BackendTimeouts,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    /// Added to requests without a key of their own.
    pub api_key: Option<ApiKey>,
    /// What the log said of backends.
    pub seldom: Seldom,
    /// Least levels for single models.
    pub model_levels: Vec<ModelLeast>,
}
