//! `verified-proxy serve`.

use std::io::{ErrorKind, IsTerminal};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use attest::{AcceptTcb, SigningAlgo};
use clap::ValueEnum;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use super::inputs::{self, Failure};
use crate::config::{AllowList, AllowPattern, Config, ConnectTo, FetchUrl, WebPki};
use crate::shutdown::Signals;
use crate::{Server, limits};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Address to listen on
    #[arg(
        long,
        env = "VERIFIED_PROXY_HOST",
        default_value = "127.0.0.1",
        help_heading = "Listening"
    )]
    pub(super) host: IpAddr,

    /// Port to listen on; 0 takes a free one
    #[arg(
        long,
        env = "VERIFIED_PROXY_PORT",
        default_value_t = 8080,
        help_heading = "Listening"
    )]
    pub(super) port: u16,

    /// Largest request body: bytes, or with KiB, MiB, GiB
    #[arg(long, env = "VERIFIED_PROXY_MAX_BODY", value_name = "SIZE", default_value = "100MiB", value_parser = parse_size, help_heading = "Listening")]
    max_body: u64,

    /// Built-in policy "near" or "hardware", or a TOML file
    ///
    /// "near" expects the software of NEAR AI's fleet. "hardware" accepts ANY software on a
    /// genuine TDX machine.
    #[arg(
        long,
        env = "VERIFIED_PROXY_POLICY",
        value_name = "near|hardware|FILE",
        default_value = "near",
        help_heading = "What is proved"
    )]
    policy: String,

    /// Accept a TCB status whose every advisory you name; repeatable
    ///
    /// For example OutOfDate:INTEL-SA-01036,INTEL-SA-01079. In the environment separate several
    /// with ";".
    #[arg(
        long,
        env = "VERIFIED_PROXY_ACCEPT_TCB",
        value_name = "STATUS:ADVISORY,…",
        value_delimiter = ';',
        help_heading = "What is proved"
    )]
    accept_tcb: Vec<AcceptTcb>,

    /// Which of its signing keys a backend attests
    #[arg(long, env = "VERIFIED_PROXY_SIGNING_ALGO", value_enum, default_value_t = Algo::Ecdsa, help_heading = "What is proved")]
    signing_algo: Algo,

    /// Whether a certificate authority has to vouch for the domain, beside the evidence
    #[arg(long, env = "VERIFIED_PROXY_WEBPKI", value_enum, default_value_t = WebPkiMode::Require, help_heading = "What is proved")]
    webpki: WebPkiMode,

    /// Seconds that a verdict is remembered
    #[arg(long, env = "VERIFIED_PROXY_VERDICT_TTL", value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=86_400), help_heading = "What is proved")]
    verdict_ttl: u64,

    /// Seconds for a request to find a verified connection
    #[arg(long, env = "VERIFIED_PROXY_ATTEST_TIMEOUT", value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3_600), help_heading = "What is proved")]
    attest_timeout: u64,

    /// DANGER: trust TDX machines under this root certificate (DER or PEM), not Intel's
    ///
    /// Whoever holds its key can make any machine look genuine. For tests and demonstrations.
    #[arg(
        long,
        env = "VERIFIED_PROXY_DANGER_TDX_ROOT",
        value_name = "FILE",
        help_heading = "What is proved"
    )]
    danger_tdx_root: Option<PathBuf>,

    /// Where the endpoint list is; plain http on loopback only
    #[arg(long, env = "VERIFIED_PROXY_ENDPOINTS_URL", value_name = "URL", default_value = Config::ENDPOINTS_URL, help_heading = "Network")]
    endpoints_url: FetchUrl,

    /// Where Intel's collateral comes from: a PCS or PCCS; repeatable, tried in order
    #[arg(long, env = "VERIFIED_PROXY_PCCS_URL", value_name = "URL", value_delimiter = ',', default_values = Config::COLLATERAL_SOURCES, help_heading = "Network")]
    pccs_url: Vec<FetchUrl>,

    /// A backend that may be asked; a leading "*." stands for one label; repeatable
    #[arg(long, env = "VERIFIED_PROXY_ALLOW_DOMAIN", value_name = "PATTERN", value_delimiter = ',', default_value = Config::ALLOW_DOMAIN, help_heading = "Network")]
    allow_domain: Vec<AllowPattern>,

    /// Certificate authorities (PEM) beside the system's; repeatable
    #[arg(
        long,
        env = "VERIFIED_PROXY_EXTRA_CA",
        value_name = "FILE",
        help_heading = "Network"
    )]
    extra_ca: Vec<PathBuf>,

    /// Connect to HOST2:PORT2 instead of HOST:PORT, as curl does; repeatable
    ///
    /// Names in TLS and HTTP stay, so nothing less is proved. An empty HOST or PORT matches any.
    #[arg(
        long,
        env = "VERIFIED_PROXY_CONNECT_TO",
        value_name = "HOST:PORT:HOST2:PORT2",
        value_delimiter = ',',
        help_heading = "Network"
    )]
    connect_to: Vec<ConnectTo>,
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
    /// Evidence alone decides; that the server holds its key is checked all the same
    Off,
}

pub(super) fn main(args: Args) -> ExitCode {
    let (filter, not_understood) = log_filter(std::env::var("VERIFIED_PROXY_LOG").ok());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    if let Some(problem) = not_understood {
        tracing::warn!("VERIFIED_PROXY_LOG is not understood, \"info\" is taken: {problem}");
    }
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!("{failure}");
            failure.exit_code()
        }
    }
}

/// What is logged, and what was wrong with the user's wish.
fn log_filter(wish: Option<String>) -> (EnvFilter, Option<String>) {
    let usual = || EnvFilter::new("info");
    match wish.filter(|wish| !wish.is_empty()) {
        None => (usual(), None),
        Some(wish) => match EnvFilter::try_new(&wish) {
            Ok(filter) => (filter, None),
            Err(error) => (usual(), Some(format!("{wish:?}: {error}"))),
        },
    }
}

fn start(args: Args) -> Result<(), Failure> {
    let address = (args.host, args.port);
    let config = config(args)?;
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::Unreadable(format!("the runtime: {error}")))?;
    runtime.block_on(serve(config, address))
}

async fn serve(config: Config, address: (IpAddr, u16)) -> Result<(), Failure> {
    limits::raise();
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| cannot_listen(address, &error))?;
    let local = listener
        .local_addr()
        .map_err(|error| cannot_listen(address, &error))?;
    if !local.ip().is_loopback() {
        tracing::warn!(%local, "listening beyond loopback: whoever reaches this port can use it");
    }
    let announcement = announcement(&config, local);
    let server = Server::new(config)
        .map_err(|error| Failure::Unreadable(format!("cannot start: {error}")))?;
    let signals = Signals::catch();
    announce(&announcement);
    tokio::select! {
        () = server.serve(listener, signals.clone().came(1)) => {}
        () = signals.came(2) => tracing::warn!("second signal: answers were cut off"),
    }
    Ok(())
}

fn cannot_listen((host, port): (IpAddr, u16), error: &std::io::Error) -> Failure {
    let hint = match error.kind() {
        ErrorKind::AddrInUse => {
            "\nhint: another program has this port, perhaps another verified-proxy; choose one with --port"
        }
        ErrorKind::PermissionDenied => {
            "\nhint: ports below 1024 need a privilege; choose one with --port"
        }
        ErrorKind::AddrNotAvailable => "\nhint: --host has to be an address of this machine",
        _ => "",
    };
    Failure::Unreadable(format!(
        "cannot listen on {host} port {port}: {error}{hint}"
    ))
}

#[expect(
    clippy::print_stdout,
    reason = "the one line for people and scripts; logs go to stderr"
)]
fn announce(line: &str) {
    println!("{line}");
}

fn announcement(config: &Config, local: std::net::SocketAddr) -> String {
    let policy = &config.policy;
    let hardware_only = if policy.hardware_only() {
        ", ANY SOFTWARE"
    } else {
        ""
    };
    format!(
        "verified-proxy on http://{local} (policy {}{hardware_only}, digest {})",
        policy.name(),
        policy.digest()
    )
}

fn config(args: Args) -> Result<Config, Failure> {
    let policy = inputs::policy(&args.policy, &args.accept_tcb)?;
    if policy.hardware_only() {
        tracing::warn!("this policy accepts any software on a genuine TDX machine");
    }
    let trust_anchors = inputs::trust_anchors(args.danger_tdx_root.as_ref())?;
    if !trust_anchors.is_intel() {
        tracing::warn!(
            "DANGER: TDX machines are trusted under another root than Intel's; verdicts say nothing about real hardware"
        );
    }
    let mut extra_ca = Vec::new();
    for path in &args.extra_ca {
        extra_ca.extend(read_certificates(path)?);
    }
    Ok(Config {
        extra_ca,
        connect_to: args.connect_to,
        trust_anchors,
        signing_algo: match args.signing_algo {
            Algo::Ecdsa => SigningAlgo::Ecdsa,
            Algo::Ed25519 => SigningAlgo::Ed25519,
        },
        webpki: match args.webpki {
            WebPkiMode::Require => WebPki::Require,
            WebPkiMode::Off => WebPki::Off,
        },
        max_body: args.max_body,
        attest_timeout: Duration::from_secs(args.attest_timeout),
        verdict_ttl: Duration::from_secs(args.verdict_ttl),
        ..Config::new(
            policy,
            args.endpoints_url,
            args.pccs_url,
            AllowList::new(args.allow_domain),
        )
    })
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let unreadable = |detail: String| Failure::Unreadable(format!("{}: {detail}", path.display()));
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&inputs::read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error: rustls::pki_types::pem::Error| unreadable(error.to_string()))?;
    if certificates.is_empty() {
        return Err(unreadable("no certificate in it (expected PEM)".to_owned()));
    }
    Ok(certificates)
}

fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    ) {
        (digits, "" | "B") => (digits, 0),
        (digits, "KiB") => (digits, 10),
        (digits, "MiB") => (digits, 20),
        (digits, "GiB") => (digits, 30),
        _ => return Err("expected bytes, or a number with KiB, MiB or GiB".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a number".to_owned())?;
    match number.checked_mul(1 << shift) {
        Some(0) => Err("expected at least one byte".to_owned()),
        Some(size) => Ok(size),
        None => Err("too large".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_level_that_is_not_understood_is_said() {
        for fine in [
            None,
            Some(""),
            Some("debug"),
            Some("verified_proxy=trace,warn"),
        ] {
            assert_eq!(log_filter(fine.map(str::to_owned)).1, None, "{fine:?}");
        }
        let (filter, problem) = log_filter(Some("verified_proxy=loud".to_owned()));
        assert_eq!(filter.to_string(), "info");
        assert!(problem.unwrap().contains("loud"));
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("100MiB"), Ok(100 << 20));
        assert_eq!(parse_size("5"), Ok(5));
        for text in ["", "MiB", "1MB", "-1", "0", "0MiB", "99999999999GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
