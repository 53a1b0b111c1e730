//! What the proxy needs to know, parsed.

use std::path::PathBuf;
use std::time::Duration;

use attest::{Domain, Policy, SigningAlgo, TrustAnchors};
use rustls::pki_types::CertificateDer;
pub use sources::backend::{AllowList, AllowPattern};
pub use sources::clock::Clock;
pub use sources::compose_files::ComposeSource;
pub use sources::fetch::FetchUrl;
pub use sources::net::ConnectTo;
pub use sources::webpki::WebPki;
pub use upstream::guard::{Guard, HostName, Origin};
pub use upstream::least::ModelLeast;
pub use upstream::secrets::{ApiKey, ClientTokens};
pub use upstream::{BackendTimeouts, PoolLimits};

/// Everything but the listening socket.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the endpoint list is.
    pub endpoints_url: FetchUrl,
    /// Sources of Intel's collateral, in order.
    pub collateral_sources: Vec<FetchUrl>,
    /// NVIDIA's attestation service, asked where the policy says so.
    pub nras_url: FetchUrl,
    /// Where the compose files are that deployment logs name.
    pub compose_source: ComposeSource,
    /// Their git repository, which is asked for its tags.
    pub compose_tags_source: ComposeSource,
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
    /// The least levels for some models, beyond the policy.
    pub model_levels: Vec<ModelLeast>,
    /// Domains at which what went down since they were last seen is accepted, though
    /// the policy holds it.
    pub accept_change: Vec<Domain>,
    /// Who may use the port.
    pub guard: Guard,
    /// Goes on with requests that bring no key of their own.
    pub api_key: Option<ApiKey>,
    /// The largest request body, in bytes.
    pub max_body: u64,
    /// For request bodies held in memory, over all requests, in bytes.
    pub body_memory: u64,
    /// How long clients may keep the proxy waiting.
    pub client_timeouts: ClientTimeouts,
    /// How long backends may.
    pub backend_timeouts: BackendTimeouts,
    /// Connections to backends that are kept.
    pub pool: PoolLimits,
    /// How long answers may go on after the signal to stop.
    pub drain: Duration,
    /// For a request to find a verified connection.
    pub attest_timeout: Duration,
    /// How long a verdict is remembered.
    pub verdict_ttl: Duration,
    /// Which hosts may be backends.
    pub allow: AllowList,
    /// Where collateral, its floors, compose files and the endpoint list outlive
    /// the process; nothing of it if absent.
    pub state_dir: Option<PathBuf>,
    /// What the time is.
    pub clock: Clock,
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
    /// The product's defaults, with Intel's root, for these places. Nothing is
    /// kept on disk.
    #[must_use]
    pub fn new(
        policy: Policy,
        endpoints_url: FetchUrl,
        collateral_sources: Vec<FetchUrl>,
        compose_source: ComposeSource,
        compose_tags_source: ComposeSource,
        allow: AllowList,
    ) -> Self {
        Self {
            endpoints_url,
            collateral_sources,
            nras_url: FetchUrl::of_host(Self::NRAS_HOST),
            compose_source,
            compose_tags_source,
            extra_ca: Vec::new(),
            connect_to: Vec::new(),
            trust_anchors: TrustAnchors::intel(),
            policy,
            signing_algo: SigningAlgo::Ecdsa,
            webpki: WebPki::Require,
            model_levels: Vec::new(),
            accept_change: Vec::new(),
            guard: Guard::default(),
            api_key: None,
            max_body: Self::MAX_BODY,
            body_memory: Self::BODY_MEMORY,
            client_timeouts: ClientTimeouts::default(),
            backend_timeouts: BackendTimeouts::default(),
            pool: PoolLimits::default(),
            drain: Self::DRAIN,
            attest_timeout: Self::ATTEST_TIMEOUT,
            verdict_ttl: Self::VERDICT_TTL,
            allow,
            state_dir: None,
            clock: Clock::system(),
        }
    }

    /// Where the fleet's endpoint list is.
    pub const ENDPOINTS_URL: &str = "https://completions.near.ai/endpoints";
    /// Intel's own service, then the public cache that the fleet's operator uses.
    pub const COLLATERAL_SOURCES: [&str; 2] = [
        "https://api.trustedservices.intel.com",
        "https://pccs.phala.network",
    ];
    /// NVIDIA's attestation service.
    pub const NRAS_HOST: &str = "nras.attestation.nvidia.com";
    /// The same as an address.
    pub const NRAS_URL: &str = "https://nras.attestation.nvidia.com";
    /// Where the fleet's operator publishes its compose files.
    pub const COMPOSE_FILES_URL: &str =
        "https://raw.githubusercontent.com/nearai/cvm-compose-files";
    /// The git repository of these files.
    pub const COMPOSE_TAGS_URL: &str = "https://github.com/nearai/cvm-compose-files.git";
    /// The fleet's names.
    pub const ALLOW_DOMAIN: &str = "*.completions.near.ai";
    /// A hundred MiB, as the fleet's nginx takes (client_max_body_size 100m).
    pub const MAX_BODY: u64 = 100 << 20;
    /// Ten of the largest bodies at a time, or thousands of usual ones.
    pub const BODY_MEMORY: u64 = 1 << 30;
    /// Half a minute, as service managers mostly give.
    pub const DRAIN: Duration = Duration::from_secs(30);
    /// Two probes that time out.
    pub const ATTEST_TIMEOUT: Duration = Duration::from_secs(120);
    /// An hour.
    pub const VERDICT_TTL: Duration = Duration::from_secs(60 * 60);
}
