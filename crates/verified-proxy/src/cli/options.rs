//! The options that `serve`, a live `verify`, `models` and `policy accept` share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use attest::{AcceptTcb, Domain, Policy, SigningAlgo, TrustAnchors};
use clap::{ValueEnum, ValueHint};
use proxy::config::{
    AllowList, AllowPattern, BackendTimeouts, ComposeSource, Config, ConnectTo, FetchUrl, WebPki,
};
use proxy::examine::Examiner;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::runtime::Runtime;

use super::logs;
use super::outgoing;
use super::read_files::{self, Danger, Failure};
use super::units::{self, StateDir};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Shared {
    #[command(flatten)]
    pub(super) proved: Proved,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    pub(super) logs: logs::Args,
}

#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "What is proved")]
pub(super) struct Proved {
    /// Built-in policy "near", "near-strict" or "hardware", or a TOML file
    ///
    /// "near" expects the software of NEAR AI's fleet, and shows which containers were started in it.
    /// "near-strict" also refuses compose files that are not of a release or break a rule. "hardware" accepts ANY
    /// software on a genuine TDX machine.
    #[arg(long, env = "VERIFIED_PROXY_POLICY", value_name = "near|near-strict|hardware|FILE", default_value = "near", value_hint = ValueHint::FilePath)]
    policy: String,

    /// Accept a TCB status whose every advisory you name; repeatable
    ///
    /// Give the last day after "@": OutOfDate:INTEL-SA-01036,INTEL-SA-01079@2027-02-28.
    /// Several in one value are separated by ";".
    #[arg(
        long,
        env = "VERIFIED_PROXY_ACCEPT_TCB",
        value_name = "STATUS:ADVISORY,…@DAY",
        value_delimiter = ';'
    )]
    accept_tcb: Vec<AcceptTcb>,

    /// Accept what changed at a backend's domain, though the policy says hold = true; repeatable
    ///
    /// For this run of the program, which remembers what it sees: start the next one without this
    /// option.
    #[arg(
        long,
        env = "VERIFIED_PROXY_ACCEPT_CHANGE",
        value_name = "DOMAIN",
        value_delimiter = ','
    )]
    accept_change: Vec<Domain>,

    /// Which of its signing keys a backend has to attest
    #[arg(long, env = "VERIFIED_PROXY_SIGNING_ALGO", value_enum, default_value_t = Algo::Ecdsa)]
    signing_algo: Algo,

    /// Whether a certificate authority has to vouch for the domain, beside the evidence
    #[arg(long, env = "VERIFIED_PROXY_WEBPKI", value_enum, default_value_t = WebPkiMode::Require)]
    webpki: WebPkiMode,

    /// How long a request may wait for a verified connection
    #[arg(long, env = "VERIFIED_PROXY_ATTEST_TIMEOUT", value_name = "TIME", default_value = "2m", value_parser = units::between(1, 3_600))]
    attest_timeout: Duration,

    /// DANGER: trust TDX machines under this root certificate (DER or PEM), not Intel's
    ///
    /// The holder of its key can make any machine look genuine. For tests and demonstrations.
    #[arg(long, env = "VERIFIED_PROXY_DANGER_TDX_ROOT", value_name = "FILE", value_hint = ValueHint::FilePath)]
    danger_tdx_root: Option<PathBuf>,

    /// DANGER: trust GPUs under this root certificate (DER or PEM), not NVIDIA's
    ///
    /// The holder of its key can make any GPU look genuine. For tests and demonstrations.
    #[arg(long, env = "VERIFIED_PROXY_DANGER_GPU_ROOT", value_name = "FILE", value_hint = ValueHint::FilePath)]
    danger_gpu_root: Option<PathBuf>,

    /// DANGER: trust NVIDIA's attestation service under this authority (certificate, DER or PEM)
    ///
    /// It replaces NVIDIA's own intermediate authorities. The holder of its key can sign any opinion
    /// about any GPU. For tests and demonstrations.
    #[arg(long, env = "VERIFIED_PROXY_DANGER_NRAS_INTERMEDIATE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    danger_nras_intermediate: Option<PathBuf>,
}

impl Proved {
    pub(super) fn policy(&self) -> Result<Policy, Failure> {
        read_files::policy(&self.policy, &self.accept_tcb)
    }

    /// The policy's name or file, and what the command line accepts beyond it.
    pub(super) fn named_policy(&self) -> (&str, &[AcceptTcb]) {
        (&self.policy, &self.accept_tcb)
    }

    pub(super) fn trust_anchors(&self) -> Result<TrustAnchors, Failure> {
        read_files::trust_anchors(
            self.danger_tdx_root.as_deref(),
            self.danger_gpu_root.as_deref(),
            self.danger_nras_intermediate.as_deref(),
        )
    }
}

#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Network")]
struct Network {
    /// URL of the endpoint list; plain http on loopback only
    #[arg(long, env = "VERIFIED_PROXY_ENDPOINTS_URL", value_name = "URL", default_value = Config::ENDPOINTS_URL)]
    endpoints_url: FetchUrl,

    /// A source of Intel's collateral, a PCS or PCCS; repeatable, tried in order
    #[arg(long, env = "VERIFIED_PROXY_PCCS_URL", value_name = "URL", value_delimiter = ',', default_values = Config::COLLATERAL_SOURCES)]
    pccs_url: Vec<FetchUrl>,

    /// NVIDIA's attestation service, asked only if the policy says so (gpu.nras)
    ///
    /// The proxy sends it a backend's GPU evidence and nothing else. NVIDIA so learns which GPUs you
    /// use, and when.
    #[arg(long, env = "VERIFIED_PROXY_NRAS_URL", value_name = "URL", default_value = Config::NRAS_URL)]
    nras_url: FetchUrl,

    /// URL below which COMMIT/FILE is a compose file that a deployment names; "off" fetches none
    ///
    /// Its server sees which commits you verify, and nothing of your requests. A file counts only if
    /// it has the hash in the deployment log. A file that is not fetched is reported as not proved, or
    /// refused if the policy says deployment.sources = "required".
    #[arg(long, env = "VERIFIED_PROXY_COMPOSE_FILES_URL", value_name = "URL|off", default_value = Config::COMPOSE_FILES_URL)]
    compose_files_url: ComposeSource,

    /// URL of the git repository of those files, to compare its tags; "off" compares none
    ///
    /// A release that a deployment names has to be, in this repository, a tag of the commit in the
    /// deployment log. The list of tags is not signed and can only lead to a refusal. Without a list,
    /// tags are reported as not compared, or refused as compose files are.
    #[arg(long, env = "VERIFIED_PROXY_COMPOSE_TAGS_URL", value_name = "URL|off", default_value = Config::COMPOSE_TAGS_URL)]
    compose_tags_url: ComposeSource,

    /// Names of allowed backends; a leading "*." stands for one label; repeatable
    #[arg(long, env = "VERIFIED_PROXY_ALLOW_DOMAIN", value_name = "PATTERN", value_delimiter = ',', default_value = Config::ALLOW_DOMAIN)]
    allow_domain: Vec<AllowPattern>,

    /// Certificate authorities (PEM) beside the system's; repeatable
    #[arg(long, env = "VERIFIED_PROXY_EXTRA_CA", value_name = "FILE", value_delimiter = ',', value_hint = ValueHint::FilePath)]
    extra_ca: Vec<PathBuf>,

    /// Connect to HOST2:PORT2 instead of HOST:PORT, as curl does; repeatable
    ///
    /// TLS and HTTP keep the name of HOST, so the proof is the same. An empty HOST or PORT matches any.
    #[arg(
        long,
        env = "VERIFIED_PROXY_CONNECT_TO",
        value_name = "HOST:PORT:HOST2:PORT2",
        value_delimiter = ','
    )]
    connect_to: Vec<ConnectTo>,

    /// Proxy for outgoing connections: http://, https:// or socks5h://HOST:PORT; "none" uses none
    ///
    /// With USER:PASSWORD@ before HOST, if it asks for them: give these in the variable or the file,
    /// since other users of this machine can see arguments. Without this option HTTPS_PROXY counts,
    /// then ALL_PROXY, in lower or upper case. Hosts in NO_PROXY and this machine are reached
    /// directly. The proxy looks names up (socks5:// is the same as socks5h://), and sees names and
    /// TLS; --connect-to comes first, so the proxy is asked for HOST2:PORT2.
    #[arg(
        long,
        env = "VERIFIED_PROXY_PROXY",
        value_name = "URL|none",
        hide_env_values = true
    )]
    proxy: Option<String>,

    /// How long DNS, TCP and TLS with a backend may take together, through an outgoing proxy too
    #[arg(long, env = "VERIFIED_PROXY_CONNECT_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = units::between(1, 300))]
    connect_timeout: Duration,
}

#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Files")]
struct Files {
    /// Folder that keeps Intel's documents and what was seen of backends; "none" keeps nothing
    /// [default: verified-proxy in the platform's folder for state]
    #[arg(long, env = "VERIFIED_PROXY_STATE_DIR", value_name = "DIR", value_parser = StateDir::parse, value_hint = ValueHint::DirPath)]
    state_dir: Option<StateDir>,

    /// Options from a TOML file: a key is an option's long name without dashes
    ///
    /// A flag overrides the environment, which overrides the file, which overrides the default.
    /// Repeatable options take arrays. Relative paths in the file are relative to it.
    #[arg(long, env = "VERIFIED_PROXY_CONFIG", value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Algo {
    Ecdsa,
    Ed25519,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WebPkiMode {
    /// Chain and host name are checked
    Require,
    /// Evidence alone decides; the server still has to hold its certificate's key
    Off,
}

impl Shared {
    /// A way to backends with these options, and what runs it.
    pub(super) fn examiner(self) -> Result<(Examiner, Runtime), Failure> {
        let examiner = Examiner::new(self.config()?)
            .map_err(|error| Failure::Unreadable(format!("cannot start: {error}")))?;
        Ok((examiner, runtime()?))
    }

    /// The configuration that these options make, with the files that they name.
    pub(super) fn config(self) -> Result<Config, Failure> {
        let policy = self.proved.policy()?;
        if policy.hardware_only() {
            tracing::warn!("this policy accepts any software on a genuine TDX machine");
        }
        let network = self.network;
        if policy.requires_sources() {
            let tags = policy.compares_tags().then_some(&network.compose_tags_url);
            for (option, source) in [
                ("--compose-files-url", Some(&network.compose_files_url)),
                ("--compose-tags-url", tags),
            ] {
                if source == Some(&ComposeSource::Off) {
                    return Err(Failure::Usage(format!(
                        "{option} off: the policy says deployment.sources = \"required\", so every backend would be refused"
                    )));
                }
            }
        }
        if !self.proved.accept_change.is_empty() {
            let domains = self.proved.accept_change.iter().map(Domain::as_str);
            let domains: Vec<_> = domains.collect();
            tracing::warn!(
                "--accept-change: this run accepts whatever went down at {}",
                domains.join(" and ")
            );
        }
        let proxies = outgoing::proxies(network.proxy.as_deref(), |name| std::env::var_os(name))?;
        let trust_anchors = self.proved.trust_anchors()?;
        if let Some(danger) = Danger::of(&trust_anchors) {
            tracing::warn!("DANGER: roots of trust are {}", danger.words);
        }
        let mut extra_ca = Vec::new();
        for path in &network.extra_ca {
            extra_ca.extend(read_certificates(path)?);
        }
        let state_dir = match self.files.state_dir.unwrap_or_else(StateDir::of_platform) {
            StateDir::At(folder) => Some(folder),
            StateDir::Nowhere => {
                if policy.holds() {
                    tracing::warn!(
                        "--state-dir none: each start forgets what was seen of backends, which the policy compares (hold = true)"
                    );
                }
                None
            }
        };
        Ok(Config {
            endpoints_url: network.endpoints_url,
            collateral_sources: network.pccs_url,
            nras_url: network.nras_url,
            compose_source: network.compose_files_url,
            compose_tags_source: network.compose_tags_url,
            allow: AllowList::new(network.allow_domain),
            extra_ca,
            connect_to: network.connect_to,
            proxies,
            trust_anchors,
            accept_change: self.proved.accept_change,
            signing_algo: match self.proved.signing_algo {
                Algo::Ecdsa => SigningAlgo::Ecdsa,
                Algo::Ed25519 => SigningAlgo::Ed25519,
            },
            webpki: match self.proved.webpki {
                WebPkiMode::Require => WebPki::Require,
                WebPkiMode::Off => WebPki::Off,
            },
            backend_timeouts: BackendTimeouts {
                connect: network.connect_timeout,
                ..BackendTimeouts::default()
            },
            attest_timeout: self.proved.attest_timeout,
            state_dir,
            ..Config::new(policy)
        })
    }
}

pub(super) fn runtime() -> Result<Runtime, Failure> {
    Runtime::new().map_err(|error| Failure::Unreadable(format!("the runtime: {error}")))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let unreadable = |detail: String| Failure::Unreadable(format!("{}: {detail}", path.display()));
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&read_files::read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error: rustls::pki_types::pem::Error| unreadable(error.to_string()))?;
    if certificates.is_empty() {
        return Err(unreadable(
            "no certificate in this file (expected PEM)".to_owned(),
        ));
    }
    Ok(certificates)
}
