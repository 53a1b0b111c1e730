//! The program's command line.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Parser;

use crate::Error;
use crate::challenge::Challenge;
use crate::hash::label256;
use crate::serve::{self, Options, Record, Transport, unix_now, write_evidence};
use crate::spec::Spec;
use crate::tamper::{TAMPERINGS, Tampering};

/// A throw-away TEE on loopback: Intel PCS, endpoint list and TLS backend.
/// Nothing that it says is true.
#[derive(Debug, Parser)]
#[command(name = "fake-tee", version)]
pub struct Arguments {
    /// Where files are written [default: a new folder in the temporary one]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The model's name
    #[arg(long, default_value = "fake/llama")]
    model: String,
    /// The backend's domain
    #[arg(long, default_value = "fake-llama.completions.near.ai")]
    domain: String,
    /// The TLS backend's port; 0: any free one
    #[arg(long, default_value_t = 0)]
    port_backend: u16,
    /// The plain-HTTP port; 0: any free one
    #[arg(long, default_value_t = 0)]
    port_http: u16,
    /// What to tamper with; "list" prints all
    #[arg(long, default_value = "none")]
    tamper: String,
    /// Play a PCCS, which has the route rootcacrl, in place of Intel's PCS
    #[arg(long)]
    pccs: bool,
    /// Machines behind the backend port, each with a TLS key of its own
    #[arg(long, default_value_t = 1, value_name = "N")]
    instances: usize,
    /// All instances with one TLS key
    #[arg(long)]
    shared_key: bool,
    /// What is kept of requests: every byte, a line each, or nothing; "off" signs no
    /// answers either and is for measurements
    #[arg(long, default_value = "full", value_name = "full|heads|off")]
    record: Record,
    /// TLS 1.2 only
    #[arg(long)]
    tls12: bool,
    /// HTTP/1.1 only
    #[arg(long)]
    http1: bool,
    /// Session tickets that any instance takes back
    #[arg(long)]
    shared_tickets: bool,
    /// A further domain and its models, for the list and the certificates; repeatable
    #[arg(long, value_name = "DOMAIN=MODEL,MODEL")]
    also: Vec<String>,
    /// A further PCS on a port of its own (see env.json); repeatable
    #[arg(long, value_name = "pcs|pccs")]
    source: Vec<String>,
    /// Write a report with all that an offline verification needs, and exit
    #[arg(long, value_name = "DIR")]
    write_evidence: Option<PathBuf>,
    /// The report's nonce, 64 hex digits
    #[arg(long, requires = "write_evidence", value_name = "HEX")]
    nonce: Option<String>,
    /// SHA-256 of the TLS key's SubjectPublicKeyInfo, 64 hex digits
    #[arg(long, requires = "write_evidence", value_name = "HEX")]
    spki: Option<String>,
    /// The time of the report, seconds since 1970 [default: now]
    #[arg(long, requires = "write_evidence", value_name = "UNIX")]
    at: Option<u64>,
}

/// Does what the command line says.
pub fn run(arguments: Arguments) -> Result<(), Error> {
    let mut out = io::stdout();
    if arguments.tamper == "list" {
        for tampering in TAMPERINGS {
            writeln!(out, "{:20} {}", tampering.name, tampering.about)?;
        }
        return Ok(());
    }
    let tampering = Tampering::named(&arguments.tamper)?;
    if let Some(dir) = &arguments.write_evidence {
        let mut valid = Spec::new(arguments.at.unwrap_or_else(unix_now))?;
        valid.model_name.clone_from(&arguments.model);
        let mut played = valid.clone();
        tampering.apply(&mut played)?;
        let challenge = Challenge {
            nonce: hex32(arguments.nonce.as_deref(), "nonce")?,
            spki_sha256: hex32(arguments.spki.as_deref(), "spki")?,
        };
        write_evidence(dir, &valid, &played, &challenge)?;
        let dir = dir.display();
        writeln!(
            out,
            "verified-proxy verify --evidence {dir}/report.json --nonce {} --spki {} \
             --collateral {dir}/collateral.json --at {} --policy {dir}/policy.toml \
             --danger-tdx-root {dir}/tdx-root.der --danger-gpu-root {dir}/gpu-root.der",
            hex::encode(challenge.nonce),
            hex::encode(challenge.spki_sha256),
            valid.now,
        )?;
        return Ok(());
    }

    let options = Options {
        dir: arguments.dir,
        model: arguments.model,
        domain: arguments.domain,
        port_backend: arguments.port_backend,
        port_http: arguments.port_http,
        tamper: arguments.tamper,
        pccs: arguments.pccs,
        more_sources: arguments
            .source
            .iter()
            .map(|kind| match kind.as_str() {
                "pcs" => Ok(false),
                "pccs" => Ok(true),
                _ => Err(Error::Argument(format!(
                    "--source {kind}: expected pcs or pccs"
                ))),
            })
            .collect::<Result<_, _>>()?,
        also: arguments
            .also
            .iter()
            .map(|text| {
                let (domain, models) = text.split_once('=').ok_or_else(|| {
                    Error::Argument(format!("--also {text}: expected DOMAIN=MODEL,MODEL"))
                })?;
                let models = models.split(',').map(str::to_owned).collect();
                Ok((domain.to_owned(), models))
            })
            .collect::<Result<_, Error>>()?,
        instances: arguments.instances,
        shared_key: arguments.shared_key,
        transport: Transport {
            http2: !arguments.http1,
            tls12_only: arguments.tls12,
            shared_tickets: arguments.shared_tickets,
        },
        record: arguments.record,
    };
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let running = serve::start(options).await?;
            writeln!(out, "{}", running.command_line())?;
            out.flush()?;
            tokio::signal::ctrl_c().await?;
            Ok(())
        })
}

/// Thirty-two bytes of hex, or a stable value.
fn hex32(text: Option<&str>, what: &str) -> Result<[u8; 32], Error> {
    match text {
        None => Ok(label256(what)),
        Some(text) => hex::decode(text)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| Error::Argument(format!("--{what} is not 64 hex digits"))),
    }
}
