//! The configuration of a proxy, parsed.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use attest::{Domain, Policy, SigningAlgo, TrustAnchors};
use rustls::pki_types::CertificateDer;
pub use sources::backend::{AllowList, AllowPattern};
pub use sources::clock::Clock;
pub use sources::compose_files::ComposeSource;
pub use sources::fetch::FetchUrl;
pub use sources::net::{ConnectTo, Proxies, Proxy, ProxyUrlError};
pub use sources::webpki::WebPki;
pub use upstream::guard::{Guard, HostName, Origin};
pub use upstream::least::ModelLeast;
pub use upstream::metrics::Counter;
pub use upstream::secrets::{ApiKey, ClientTokens};
pub use upstream::{BackendTimeouts, PoolLimits};

/// Everything but the listening socket.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the endpoint list is.
    pub endpoints_url: FetchUrl,
    /// Sources of Intel's collateral, in order.
    pub collateral_sources: Vec<FetchUrl>,
    /// NVIDIA's attestation service. The proxy asks it only if the policy says so.
    pub nras_url: FetchUrl,
    /// Where the compose files are that deployment logs name: `COMMIT/FILE` below it.
    pub compose_source: ComposeSource,
    /// The git repository of these files; the proxy reads its tags.
    pub compose_tags_source: ComposeSource,
    /// Certificate authorities beside the system's.
    pub extra_ca: Vec<CertificateDer<'static>>,
    /// Connects to other addresses than names say, as curl's `--connect-to` does.
    pub connect_to: Vec<ConnectTo>,
    /// The proxy that outgoing connections go through. The library reads no variables.
    pub proxies: Proxies,
    /// The roots of trust for platforms, GPUs and NVIDIA's service.
    pub trust_anchors: TrustAnchors,
    /// What evidence has to prove.
    pub policy: Policy,
    /// Which of its signing keys a backend is asked to attest.
    pub signing_algo: SigningAlgo,
    /// Whether a certificate authority has to vouch for the domain, beside the evidence.
    pub webpki: WebPki,
    /// The least levels for some models, beyond the policy.
    pub model_levels: Vec<ModelLeast>,
    /// Domains whose levels may go down since they were last seen, although the policy
    /// says `hold = true`.
    pub accept_change: Vec<Domain>,
    /// Who may use the port.
    pub guard: Guard,
    /// Added to requests that have no API key of their own, on verified connections only.
    pub api_key: Option<ApiKey>,
    /// The largest request body, in bytes.
    pub max_body: u64,
    /// The most memory for request bodies, over all requests, in bytes.
    pub body_memory: u64,
    /// How long clients may keep the proxy waiting.
    pub client_timeouts: ClientTimeouts,
    /// How long backends may keep the proxy waiting.
    pub backend_timeouts: BackendTimeouts,
    /// How many connections to backends are kept, and for how long.
    pub pool: PoolLimits,
    /// How long answers may go on after `shutdown` resolved.
    pub drain: Duration,
    /// How long a request may wait for a verified connection.
    pub attest_timeout: Duration,
    /// How long a verdict is valid.
    pub verdict_ttl: Duration,
    /// Which hosts may be backends.
    pub allow: AllowList,
    /// The folder that keeps collateral, its floors, the history of backends, compose files
    /// and the endpoint list. Without one, all of it ends with the process.
    pub state_dir: Option<PathBuf>,
    /// The source of the time.
    pub clock: Clock,
    /// Lines of the log that the program could not write; shown among the metrics.
    pub log_lines_dropped: Counter,
}

/// How long clients may keep the proxy waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// Between two pieces of a request's body.
    pub body_idle: Duration,
    /// In which a client has to read something of its answer.
    pub unread: Duration,
}

impl Default for ClientTimeouts {
    /// One minute for the body, as for a request's head; ten minutes for the answer, as
    /// between two pieces of a backend's answer.
    fn default() -> Self {
        Self {
            body_idle: Duration::from_secs(60),
            unread: Duration::from_secs(10 * 60),
        }
    }
}

impl Config {
    /// The program's defaults: the backends and sources of NEAR AI's fleet, Intel's and
    /// NVIDIA's roots. Nothing is kept on disk.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            endpoints_url: constant(Self::ENDPOINTS_URL),
            collateral_sources: Self::COLLATERAL_SOURCES.map(constant).to_vec(),
            nras_url: constant(Self::NRAS_URL),
            compose_source: constant(Self::COMPOSE_FILES_URL),
            compose_tags_source: constant(Self::COMPOSE_TAGS_URL),
            extra_ca: Vec::new(),
            connect_to: Vec::new(),
            proxies: Proxies::none(),
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
            allow: AllowList::new(vec![constant(Self::ALLOW_DOMAIN)]),
            state_dir: None,
            clock: Clock::system(),
            log_lines_dropped: Counter::default(),
        }
    }

    /// Where the endpoint list of NEAR AI's fleet is.
    pub const ENDPOINTS_URL: &str = "https://completions.near.ai/endpoints";
    /// Intel's own service, then the public cache that NEAR AI uses.
    pub const COLLATERAL_SOURCES: [&str; 2] = [
        "https://api.trustedservices.intel.com",
        "https://pccs.phala.network",
    ];
    /// NVIDIA's attestation service.
    pub const NRAS_URL: &str = "https://nras.attestation.nvidia.com";
    /// Where NEAR AI publishes its compose files.
    pub const COMPOSE_FILES_URL: &str =
        "https://raw.githubusercontent.com/nearai/cvm-compose-files";
    /// The git repository of these files.
    pub const COMPOSE_TAGS_URL: &str = "https://github.com/nearai/cvm-compose-files.git";
    /// The names of NEAR AI's backends.
    pub const ALLOW_DOMAIN: &str = "*.completions.near.ai";
    /// 100 MiB, as NEAR AI's nginx takes (client_max_body_size 100m).
    pub const MAX_BODY: u64 = 100 << 20;
    /// 1 GiB: ten of the largest bodies at a time, or thousands of usual ones.
    pub const BODY_MEMORY: u64 = 1 << 30;
    /// Half a minute, as most service managers give.
    pub const DRAIN: Duration = Duration::from_secs(30);
    /// Two attestation requests that time out.
    pub const ATTEST_TIMEOUT: Duration = Duration::from_secs(120);
    /// An hour.
    pub const VERDICT_TTL: Duration = Duration::from_secs(60 * 60);
}

/// One of the defaults above; a test of the program reads them all.
#[expect(clippy::expect_used, reason = "the texts are constants")]
fn constant<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a default that can be read")
}
