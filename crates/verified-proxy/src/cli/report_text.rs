//! A report as a person reads it: in short, or explained.

mod explained;
mod shown;

use std::fmt::Write as _;

use attest::{Rejected, Report, Severity};
use sources::skew::Skew;
use upstream::verdicts;

use self::shown::{Check, Shown, counted};

const GREEN: &str = "32";
const RED: &str = "1;31";
const YELLOW: &str = "33";
const BOLD: &str = "1";

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// The verdict, every check, how much more the report has, and what is not proved.
    Short,
    /// What was compared with what, what runs there, and which parties each part trusts.
    Explained,
}

/// The words of `verified-proxy verify` for a verdict of `/_proxy/verdicts/{id}`.
///
/// # Errors
/// If `json` is not such a report.
pub fn verdict_text(json: &[u8], colour: bool) -> Result<String, serde_json::Error> {
    text_of(json, Length::Short, colour)
}

/// The words of `verified-proxy verify --explain` for a verdict of
/// `/_proxy/verdicts/{id}`.
///
/// # Errors
/// If `json` is not such a report.
pub fn verdict_explained(json: &[u8], colour: bool) -> Result<String, serde_json::Error> {
    text_of(json, Length::Explained, colour)
}

fn text_of(json: &[u8], length: Length, colour: bool) -> Result<String, serde_json::Error> {
    serde_json::from_slice(json).map(|shown: Shown| shown.text(length, Paint(colour)))
}

/// Rendered from the JSON of the report, so that `/_proxy/verdicts/{id}` gives the same
/// text. `skew` is how far this machine's clock is off, if that may be the cause of the
/// refusal.
pub(super) fn render(
    report: &Report,
    skew: Option<Skew>,
    length: Length,
    colour: bool,
) -> Result<String, serde_json::Error> {
    let hint = |rejected: &Rejected| verdicts::hint(rejected, skew);
    let shown = Shown {
        hint: report.rejected.as_ref().map(hint),
        ..serde_json::from_value(serde_json::to_value(report)?)?
    };
    Ok(shown.text(length, Paint(colour)))
}

/// Whether the reader's terminal shows colours.
#[derive(Debug, Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn paint(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn mark(self, check: &Check) -> String {
        if !check.ran() {
            self.paint(YELLOW, "-   ")
        } else if check.passed() {
            self.paint(GREEN, "pass")
        } else {
            self.paint(RED, "FAIL")
        }
    }
}

impl Shown {
    fn text(&self, length: Length, paint: Paint) -> String {
        let mut out = self.verdict(paint);
        match length {
            Length::Short => {
                out.push_str(&self.groups(paint));
                out.push_str(&self.counts());
            }
            Length::Explained => out.push_str(&self.explained(paint)),
        }
        out.push_str(&self.not_proved(paint));
        out
    }

    fn verdict(&self, paint: Paint) -> String {
        let mut out = String::new();
        let (verdict, code) = if self.verdict == "verified" {
            ("VERIFIED", GREEN)
        } else {
            ("REFUSED", RED)
        };
        line!(
            out,
            "{} at {} under policy \"{}\"",
            paint.paint(code, verdict),
            self.at,
            self.policy.name
        );
        line!(out, "policy digest {}", self.policy.digest);
        if let Some(levels) = &self.levels {
            line!(out, "levels {levels}");
        }
        if let Some(sentence) = &self.sentence {
            line!(out, "\n{sentence}");
        }
        if !self.changes.is_empty() {
            line!(out, "\nChanged since it was last seen");
        }
        for change in &self.changes {
            let mark = if change.down {
                paint.paint(RED, "DOWN")
            } else {
                paint.paint(YELLOW, "-   ")
            };
            line!(out, "  {mark}  {}", change.detail);
        }
        let warnings = [
            (
                self.policy.hardware_only,
                "HARDWARE ONLY: any software on a genuine TDX machine passes this policy",
            ),
            (
                self.trust_root != "intel",
                "DANGER: judged under a root that is not Intel's; this says nothing about real hardware",
            ),
            (
                self.gpu_root != "nvidia",
                "DANGER: GPUs judged under a root that is not NVIDIA's; this says nothing about real GPUs",
            ),
            (
                self.nras_root != "nvidia",
                "DANGER: NVIDIA's attestation service trusted under an authority that is not NVIDIA's",
            ),
        ];
        for (_, warning) in warnings.iter().filter(|(applies, _)| *applies) {
            line!(out, "{}", paint.paint(RED, warning));
        }
        if let (Some(code), Some(message)) = (&self.code, &self.message) {
            line!(out, "\n{}: {message}", paint.paint(RED, code));
            if let Some(hint) = &self.hint {
                line!(out, "hint: {hint}");
            }
        }
        out
    }

    fn groups(&self, paint: Paint) -> String {
        let mut out = String::new();
        let mut group = None;
        for check in self.checks.iter().filter(|check| check.ran()) {
            if group != Some(&check.group) {
                group = Some(&check.group);
                line!(out, "\n{}", paint.paint(BOLD, &check.group));
            }
            let mark = paint.mark(check);
            line!(out, "  {mark}  {}: {}", check.title, check.detail);
        }
        out
    }

    /// How much more a short report has.
    fn counts(&self) -> String {
        let grave = [Severity::Danger, Severity::Warning]
            .map(|severity| (self.of_severity(severity).count(), severity.as_str()));
        let grave: Vec<_> = grave
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| counted(*count, word))
            .collect();
        let mut findings = counted(self.findings.len(), "finding");
        if !grave.is_empty() {
            let _ = write!(findings, ", of them {}", grave.join(" and "));
        }
        let mut parts = vec![findings];
        if let Some(deployment) = &self.deployment {
            let up = deployment.up.len().saturating_add(deployment.left_out);
            parts.push(format!("{up} up by the log"));
        }
        if !self.gpus.is_empty() {
            parts.push(counted(self.gpus.len(), "GPU"));
        }
        parts.push(counted(self.facts.len(), "fact"));
        format!("\n{}: see --explain\n", parts.join("; "))
    }

    fn not_proved(&self, paint: Paint) -> String {
        let mut out = format!("\n{}\n", paint.paint(BOLD, "Not proved"));
        let dash = paint.paint(YELLOW, "-");
        let (not_run, not_reached): (Vec<_>, Vec<_>) = self
            .checks
            .iter()
            .filter(|check| !check.ran())
            .partition(|check| check.was_reached());
        for check in not_run {
            line!(out, "  {dash}  {}: {}", check.title, check.detail);
        }
        for limit in &self.limits {
            line!(out, "  {dash}  {limit}");
        }
        if !not_reached.is_empty() {
            let titles: Vec<_> = not_reached.iter().map(|check| &*check.title).collect();
            line!(
                out,
                "  Not reached, as the refusal came first: {}",
                titles.join("; ")
            );
        }
        out
    }
}
