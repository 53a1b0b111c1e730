//! Live: one attestation request on each new connection, and nothing else.

use std::process::ExitCode;

use proxy::respond::{self, Failure as Unserved, Line};
use serde::Deserialize;
use serde_json::{Value, json};
use upstream::{AttemptError, DialError, Examined};

use super::{Args, rendered, write_policy};
use crate::cli::print;
use crate::cli::read_files::Failure;
use crate::cli::report_text::Length;

/// The connections to one backend that had the same outcome.
struct Finding {
    domain: String,
    /// How many.
    connections: u32,
    outcome: Outcome,
}

enum Outcome {
    Judged(Box<Examined>, Seen),
    /// TLS showed that this is not the backend.
    Impostor(Line),
    /// There is no evidence.
    Unavailable(Line),
}

/// What `/_proxy/verdicts/{id}` says of the connection.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Seen {
    id: String,
    spki: String,
    ca_chain: String,
}

pub(super) fn run(target: &str, args: Args) -> Result<ExitCode, Failure> {
    let length = args.length();
    let Args {
        connections,
        write_policy: policy_file,
        json,
        shared,
        ..
    } = args;
    let (examiner, runtime) = shared.examiner()?;
    let findings = runtime.block_on(async {
        let backends = examiner.backends(target).await.map_err(unserved)?;
        if policy_file.is_some() && (backends.len() > 1 || connections > 1) {
            let domains: Vec<_> = backends
                .iter()
                .map(|backend| backend.domain().as_str())
                .collect();
            return Err(Failure::Usage(format!(
                "--write-policy needs exactly one report\nhint: name one domain and --connections 1: {}",
                domains.join(", ")
            )));
        }
        let mut findings = Vec::new();
        for backend in &backends {
            for _ in 0..connections {
                let outcome = match examiner.examine(backend).await {
                    Ok(examined) => Outcome::judged(examined),
                    Err(error) => Outcome::failed(&error),
                };
                add(&mut findings, backend.domain().to_string(), outcome);
            }
        }
        Ok(findings)
    })?;
    if let (Some(path), [finding]) = (&policy_file, findings.as_slice()) {
        write_policy(finding.policy_toml(), path)?;
    }
    print(&if json {
        let list: Vec<_> = findings.iter().map(Finding::json).collect();
        format!("{:#}\n", Value::from(list))
    } else {
        text(&findings, length)?
    })?;
    Ok(ExitCode::from(
        // A refusal counts before a backend that could not be reached.
        [1, 3]
            .into_iter()
            .find(|code| findings.iter().any(|finding| finding.exit_code() == *code))
            .unwrap_or(0),
    ))
}

/// Why there is no backend to attest: a wrong target, or no endpoint list.
pub(in crate::cli) fn unserved(failure: Unserved) -> Failure {
    let text = respond::line(&failure).to_string();
    match failure {
        Unserved::Route(_) => Failure::Usage(text),
        _ => Failure::Unreadable(text),
    }
}

/// Counts outcomes by backend, key and verdict: no other verdict on the same key hides a
/// refusal.
fn add(findings: &mut Vec<Finding>, domain: String, outcome: Outcome) {
    let same = findings
        .iter_mut()
        .find(|finding| finding.domain == domain && finding.outcome.is_like(&outcome));
    match same {
        Some(finding) => finding.connections += 1,
        None => findings.push(Finding {
            domain,
            connections: 1,
            outcome,
        }),
    }
}

impl Outcome {
    fn judged(examined: Examined) -> Self {
        let seen = serde_json::from_str(&examined.report.json).unwrap_or_default();
        Self::Judged(Box::new(examined), seen)
    }

    fn failed(error: &AttemptError) -> Self {
        let explained = respond::attempt_line(error);
        match error {
            AttemptError::Dial(DialError::Certificate(_) | DialError::KeyNotHeld) => {
                Self::Impostor(explained)
            }
            _ => Self::Unavailable(explained),
        }
    }

    fn code(&self) -> Option<&'static str> {
        match self {
            Self::Judged(examined, _) => examined
                .appraisal
                .outcome
                .as_ref()
                .err()
                .map(attest::Rejected::code),
            Self::Impostor(explained) | Self::Unavailable(explained) => Some(explained.code),
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        let key = |outcome: &Self| match outcome {
            Self::Judged(_, seen) => Some(seen.spki.clone()),
            Self::Impostor(_) | Self::Unavailable(_) => None,
        };
        key(self) == key(other) && self.code() == other.code()
    }
}

impl Finding {
    fn exit_code(&self) -> u8 {
        match &self.outcome {
            Outcome::Judged(examined, _) if examined.appraisal.outcome.is_ok() => 0,
            Outcome::Judged(..) | Outcome::Impostor(_) => 1,
            Outcome::Unavailable(_) => 3,
        }
    }

    fn verdict(&self) -> &'static str {
        match self.exit_code() {
            0 => "verified",
            1 => "rejected",
            _ => "unavailable",
        }
    }

    fn policy_toml(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Judged(examined, _) => {
                examined.appraisal.policy_toml(examined.evidence.as_ref()?)
            }
            Outcome::Impostor(_) | Outcome::Unavailable(_) => None,
        }
    }

    /// The JSON of `/_proxy/verdicts/{id}`, and the number of connections.
    fn json(&self) -> Value {
        let mut json = match &self.outcome {
            Outcome::Judged(examined, seen) => {
                let mut json = serde_json::to_value(&examined.appraisal.report).unwrap_or_default();
                json["id"] = seen.id.clone().into();
                json["spki"] = seen.spki.clone().into();
                json["ca_chain"] = seen.ca_chain.clone().into();
                json
            }
            Outcome::Impostor(explained) | Outcome::Unavailable(explained) => json!({
                "verdict": self.verdict(),
                "code": explained.code,
                "message": explained.message,
                "hint": explained.hint,
            }),
        };
        json["domain"] = self.domain.clone().into();
        json["connections"] = self.connections.into();
        json
    }
}

fn text(findings: &[Finding], length: Length) -> Result<String, Failure> {
    let mut out = String::new();
    for (index, finding) in findings.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        line!(out, "backend {}", finding.domain);
        if finding.connections > 1 {
            line!(out, "connections {}", finding.connections);
        }
        match &finding.outcome {
            Outcome::Judged(examined, seen) => {
                line!(out, "TLS key {}", seen.spki);
                line!(out, "CA chain {}", seen.ca_chain);
                let report = &examined.appraisal.report;
                out.push_str(&rendered(report, examined.skew, length)?);
            }
            Outcome::Impostor(explained) | Outcome::Unavailable(explained) => {
                line!(out, "{}", finding.verdict().to_uppercase());
                line!(out, "\n{explained}");
            }
        }
    }
    if findings.len() > 1 {
        let count = |code| {
            findings
                .iter()
                .filter(|finding| finding.exit_code() == code)
                .count()
        };
        line!(
            out,
            "\n{} verified, {} refused, {} unavailable",
            count(0),
            count(1),
            count(3)
        );
    }
    Ok(out)
}
