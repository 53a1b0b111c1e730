//! What the proxy needs to know, parsed.

use std::time::Duration;

use attest::{Policy, SigningAlgo, TrustAnchors};
use rustls::pki_types::CertificateDer;

pub use crate::backend::{AllowList, AllowPattern};
pub use crate::fetch::FetchUrl;
pub use crate::net::ConnectTo;
pub use crate::upstream::WebPki;

/// Everything but the listening socket.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the endpoint list is.
    pub endpoints_url: FetchUrl,
    /// Sources of Intel's collateral, in order.
    pub collateral_sources: Vec<FetchUrl>,
    /// Certificate authorities beside the system's.
    pub extra_ca: Vec<CertificateDer<'static>>,
    /// Where connections really go.
    pub connect_to: Vec<ConnectTo>,
    /// Whom platforms are trusted under.
    pub trust_anchors: TrustAnchors,
    /// What evidence has to show.
    pub policy: Policy,
    /// Which of its keys a backend is asked to attest.
    pub signing_algo: SigningAlgo,
    /// Whether an authority has to vouch for the domain as well.
    pub webpki: WebPki,
    /// The largest request body, in bytes.
    pub max_body: u64,
    /// How long clients may keep the proxy waiting.
    pub client_timeouts: ClientTimeouts,
    /// For a request to find a verified connection.
    pub attest_timeout: Duration,
    /// How long a verdict is remembered.
    pub verdict_ttl: Duration,
    /// Which hosts may be backends.
    pub allow: AllowList,
}

/// How long clients may keep the proxy waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// Between two pieces of a request's body.
    pub body_idle: Duration,
    /// For a client to read something of its answer.
    pub unread: Duration,
}

impl Default for ClientTimeouts {
    /// A minute, as for a request's head; ten, as between two pieces of a
    /// backend's answer.
    fn default() -> Self {
        Self {
            body_idle: Duration::from_secs(60),
            unread: Duration::from_secs(10 * 60),
        }
    }
}

impl Config {
    /// Where the fleet's endpoint list is.
    pub const ENDPOINTS_URL: &str = "https://completions.near.ai/endpoints";
    /// Intel's own service, then the public cache that the fleet's operator uses.
    pub const COLLATERAL_SOURCES: [&str; 2] = [
        "https://api.trustedservices.intel.com",
        "https://pccs.phala.network",
    ];
    /// The fleet's names.
    pub const ALLOW_DOMAIN: &str = "*.completions.near.ai";
}
