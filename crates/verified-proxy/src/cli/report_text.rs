//! A report as a person reads it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use attest::{NOT_REACHED, Rejected, Report, Status};
use serde::{Deserialize, Deserializer};

use crate::skew::Skew;
use crate::verdicts;

const GREEN: &str = "32";
const RED: &str = "1;31";
const YELLOW: &str = "33";
const BOLD: &str = "1";

/// The words of `verified-proxy verify` for a verdict of `/_proxy/verdicts/{id}`.
///
/// # Errors
/// If `json` is not such a report.
pub fn verdict_text(json: &[u8], colour: bool) -> Result<String, serde_json::Error> {
    serde_json::from_slice(json).map(|shown: Shown| shown.text(colour))
}

/// Grouped, one line a check, ending with what is not proved. `skew` is how far
/// this machine's clock is off, where that may be why it was refused.
pub(super) fn render(report: &Report, skew: Option<Skew>, colour: bool) -> String {
    let rejected = report.rejected.as_ref();
    let shown = Shown {
        hint: rejected.map(|rejected| verdicts::hint(rejected, skew)),
        ..Shown::from(report)
    };
    shown.text(colour)
}

/// What is shown of a report, in the shape that its JSON has.
#[derive(Debug, Deserialize)]
struct Shown {
    verdict: String,
    code: Option<String>,
    message: Option<String>,
    hint: Option<String>,
    policy: ShownPolicy,
    at: String,
    trust_root: String,
    gpu_root: String,
    nras_root: String,
    checks: Vec<ShownCheck>,
    #[serde(deserialize_with = "in_order")]
    facts: Vec<(String, String)>,
}

#[derive(Debug, Deserialize)]
struct ShownPolicy {
    name: String,
    digest: String,
    hardware_only: bool,
}

#[derive(Debug, Deserialize)]
struct ShownCheck {
    group: String,
    title: String,
    status: String,
    detail: String,
}

fn in_order<'de, D: Deserializer<'de>>(json: D) -> Result<Vec<(String, String)>, D::Error> {
    Ok(BTreeMap::deserialize(json)?.into_iter().collect())
}

impl From<&Report> for Shown {
    fn from(report: &Report) -> Self {
        let rejected = report.rejected.as_ref();
        Self {
            verdict: report.verdict().to_owned(),
            code: rejected.map(|rejected| rejected.code().to_owned()),
            message: rejected.map(Rejected::to_string),
            hint: rejected.map(Rejected::hint),
            policy: ShownPolicy {
                name: report.policy.name.clone(),
                digest: report.policy.digest.to_string(),
                hardware_only: report.policy.hardware_only,
            },
            at: report.at.to_string(),
            trust_root: report.trust_root().to_owned(),
            gpu_root: report.gpu_root().to_owned(),
            nras_root: report.nras_root().to_owned(),
            checks: report
                .checks
                .iter()
                .map(|check| ShownCheck {
                    group: check.id.group().title().to_owned(),
                    title: check.id.title().to_owned(),
                    status: check.status.as_str().to_owned(),
                    detail: check.detail.clone(),
                })
                .collect(),
            facts: report
                .facts
                .iter()
                .map(|fact| (fact.name.to_owned(), fact.value.clone()))
                .collect(),
        }
    }
}

impl Shown {
    fn text(&self, colour: bool) -> String {
        let paint = |code: &str, text: &str| {
            if colour {
                format!("\x1b[{code}m{text}\x1b[0m")
            } else {
                text.to_owned()
            }
        };
        let mut out = String::new();
        let (verdict, code) = if self.verdict == "verified" {
            ("VERIFIED", GREEN)
        } else {
            ("REFUSED", RED)
        };
        let _ = writeln!(
            out,
            "{} at {} under policy \"{}\"",
            paint(code, verdict),
            self.at,
            self.policy.name
        );
        let _ = writeln!(out, "policy digest {}", self.policy.digest);
        if self.policy.hardware_only {
            let warning = "HARDWARE ONLY: any software on a genuine TDX machine passes this policy";
            let _ = writeln!(out, "{}", paint(RED, warning));
        }
        if self.trust_root != "intel" {
            let warning = "DANGER: judged under a root that is not Intel's; this says nothing about real hardware";
            let _ = writeln!(out, "{}", paint(RED, warning));
        }
        if self.gpu_root != "nvidia" {
            let warning = "DANGER: GPUs judged under a root that is not NVIDIA's; this says nothing about real GPUs";
            let _ = writeln!(out, "{}", paint(RED, warning));
        }
        if self.nras_root != "nvidia" {
            let warning = "DANGER: NVIDIA's attestation service trusted under an authority that is not NVIDIA's";
            let _ = writeln!(out, "{}", paint(RED, warning));
        }
        if let (Some(code), Some(message)) = (&self.code, &self.message) {
            let _ = writeln!(out, "\n{}: {message}", paint(RED, code));
            if let Some(hint) = &self.hint {
                let _ = writeln!(out, "hint: {hint}");
            }
        }

        let (not_proved, ran): (Vec<_>, Vec<_>) = self
            .checks
            .iter()
            .partition(|check| check.status == Status::NotProved.as_str());
        let mut group = None;
        for check in ran {
            if group != Some(&check.group) {
                group = Some(&check.group);
                let _ = writeln!(out, "\n{}", paint(BOLD, &check.group));
            }
            let mark = if check.status == Status::Pass.as_str() {
                paint(GREEN, "pass")
            } else {
                paint(RED, "FAIL")
            };
            let _ = writeln!(out, "  {mark}  {}: {}", check.title, check.detail);
        }

        if !self.facts.is_empty() {
            let _ = writeln!(out, "\n{}", paint(BOLD, "Seen"));
            for (name, value) in &self.facts {
                let _ = writeln!(out, "  {name}: {value}");
            }
        }

        let _ = writeln!(out, "\n{}", paint(BOLD, "Not proved"));
        let (not_reached, not_run): (Vec<_>, Vec<_>) = not_proved
            .into_iter()
            .partition(|check| check.detail == NOT_REACHED);
        for check in not_run {
            let dash = paint(YELLOW, "-");
            let _ = writeln!(out, "  {dash}  {}: {}", check.title, check.detail);
        }
        if !not_reached.is_empty() {
            let titles: Vec<_> = not_reached.iter().map(|check| &*check.title).collect();
            let _ = writeln!(
                out,
                "  Not reached, as the refusal came first: {}",
                titles.join("; ")
            );
        }
        out
    }
}
