//! `verified-proxy verify`: judges a recorded report, without network.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use attest::{
    AcceptTcb, Appraisal, Appraise, Collateral, Domain, Evidence, Expected, FloorCheck, Nonce,
    Rejected, Spki, Subject, UnixTime, appraise,
};

use super::inputs::{self, Failure};
use super::report_text;
use crate::clock::Clock;

/// Judge a recorded attestation report, without network
///
/// Exit codes: 0 verified, 1 refused (a malformed report included), 2 wrong usage, 3 a file could
/// not be read or written.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backend's report: the exact body of GET /v1/attestation/report
    #[arg(long, value_name = "FILE")]
    evidence: PathBuf,

    /// The nonce that was sent with the request
    #[arg(long, value_name = "HEX")]
    nonce: Nonce,

    /// SHA-256 of the SubjectPublicKeyInfo of the live TLS certificate
    #[arg(long, value_name = "HEX")]
    spki: Spki,

    /// Intel's collateral, as dcap-qvl's QuoteCollateralV3 JSON
    #[arg(long, value_name = "FILE")]
    collateral: PathBuf,

    /// The time to judge at: seconds since 1970 or RFC 3339 [default: now]
    #[arg(long, value_name = "TIME", value_parser = inputs::parse_time)]
    at: Option<UnixTime>,

    /// The domain that was asked
    #[arg(long)]
    domain: Option<Domain>,

    /// Built-in policy "near" or "hardware", or a TOML file
    ///
    /// "hardware" accepts ANY software on a genuine TDX machine.
    #[arg(long, value_name = "near|hardware|FILE", default_value = "near")]
    policy: String,

    /// Accept a TCB status whose every advisory you name; repeatable
    ///
    /// For example OutOfDate:INTEL-SA-01036,INTEL-SA-01079.
    #[arg(long, value_name = "STATUS:ADVISORY,…")]
    accept_tcb: Vec<AcceptTcb>,

    /// DANGER: trust TDX machines under this root certificate (DER or PEM), not Intel's
    #[arg(long, value_name = "FILE")]
    danger_tdx_root: Option<PathBuf>,

    /// Write a policy that accepts what this report shows, for review; never over a file
    #[arg(long, value_name = "FILE")]
    write_policy: Option<PathBuf>,

    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &Args) -> ExitCode {
    match run(args) {
        Ok(code) => code,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "error: {failure}");
            failure.exit_code()
        }
    }
}

fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (evidence, appraisal) = judge(args)?;
    if let Some(path) = &args.write_policy {
        let policy = evidence.and_then(|evidence| appraisal.policy_toml(&evidence));
        write_policy(policy, path)?;
    }
    let report = &appraisal.report;
    let mut out = std::io::stdout().lock();
    let printed = if args.json {
        let mut json = serde_json::to_value(report).unwrap_or_default();
        json["domain"] = args.domain.as_ref().map(ToString::to_string).into();
        writeln!(out, "{json:#}")
    } else {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        out.write_all(report_text::render(report, colour).as_bytes())
    };
    printed
        .and_then(|()| out.flush())
        .map_err(|error| Failure::Unreadable(format!("standard output: {error}")))?;
    Ok(match appraisal.outcome {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(1),
    })
}

/// The evidence, if it could be read, and the verdict.
fn judge(args: &Args) -> Result<(Option<Evidence>, Appraisal), Failure> {
    let policy = inputs::policy(&args.policy, &args.accept_tcb)?;
    let trust_anchors = inputs::trust_anchors(args.danger_tdx_root.as_ref())?;
    let evidence = inputs::read(&args.evidence)?;
    let collateral = inputs::read(&args.collateral)?;
    let now = args.at.unwrap_or_else(|| Clock::system().now());
    let unreadable =
        |rejected: Rejected| Appraisal::unreadable(rejected, &policy, &trust_anchors, now);
    let evidence = match Evidence::parse(&evidence) {
        Ok(evidence) => evidence,
        Err(rejected) => return Ok((None, unreadable(rejected))),
    };
    let collateral = match Collateral::from_json(&collateral) {
        Ok(collateral) => collateral,
        Err(rejected) => return Ok((None, unreadable(rejected))),
    };
    let appraisal = appraise(&Appraise {
        evidence: &evidence,
        subject: &Subject {
            domain: match &args.domain {
                Some(domain) => Expected::Known(domain.clone()),
                None => Expected::NotChecked("no --domain was given"),
            },
            models: Expected::NotChecked(
                "offline there is no attested channel that vouches for the name",
            ),
        },
        live_spki: args.spki,
        nonce: args.nonce,
        collateral: &collateral,
        floor: FloorCheck::NotKept("offline there is no memory of collateral seen before"),
        policy: &policy,
        trust_anchors: &trust_anchors,
        now,
    });
    Ok((Some(evidence), appraisal))
}

fn write_policy(policy: Option<String>, path: &PathBuf) -> Result<(), Failure> {
    let Some(text) = policy else {
        let _ = writeln!(
            std::io::stderr(),
            "no policy was written: the report shows nothing that is measured"
        );
        return Ok(());
    };
    std::fs::File::create_new(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| {
            Failure::Unreadable(format!("--write-policy {}: {error}", path.display()))
        })?;
    let _ = writeln!(
        std::io::stderr(),
        "wrote {}: review it before you use it",
        path.display()
    );
    Ok(())
}
