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
    /// For a request to find a verified connection.
    pub attest_timeout: Duration,
    /// How long a verdict is remembered.
    pub verdict_ttl: Duration,
    /// Which hosts may be backends.
    pub allow: AllowList,
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
