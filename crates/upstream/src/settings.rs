//! What holds on every connection.

use std::sync::Arc;
use std::time::Duration;

use sources::clock::Clock;

use crate::least::ModelLeast;
use crate::metrics::Metrics;
use crate::secrets::ApiKey;
use crate::unauthorized::Unauthorized;

/// How long backends may keep the proxy waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendTimeouts {
    /// From DNS to the end of the TLS handshake.
    pub connect: Duration,
    /// For an attestation report to be there, whole.
    pub report: Duration,
    /// For an answer to begin.
    pub first_byte: Duration,
    /// Between two pieces of an answer that has begun.
    pub idle: Duration,
}

impl Default for BackendTimeouts {
    /// Ten seconds are generous for a round trip around the world, short beside
    /// what a client waits. NEAR's own gateways allow 10 s for the report; a machine
    /// whose eight GPUs sign one after another can need more. nginx in front of the engines waits an hour for a
    /// first byte (proxy_read_timeout 3600s).
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            report: Duration::from_secs(60),
            first_byte: Duration::from_secs(60 * 60),
            idle: Duration::from_secs(10 * 60),
        }
    }
}

/// What holds on every connection.
#[derive(Debug)]
pub struct UpstreamSettings {
    pub timeouts: BackendTimeouts,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    /// Goes on with requests that bring no key of their own.
    pub api_key: Option<ApiKey>,
    pub unauthorized: Unauthorized,
    /// The least levels for some models.
    pub model_levels: Vec<ModelLeast>,
}
