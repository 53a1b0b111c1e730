//! A report as a person reads it.

use std::fmt::Write as _;

use attest::{Group, NOT_REACHED, Report, Status};

use crate::skew::Skew;
use crate::verdicts;

const GREEN: &str = "32";
const RED: &str = "1;31";
const YELLOW: &str = "33";
const BOLD: &str = "1";

/// Grouped, one line a check, ending with what is not proved. `skew` is how far
/// this machine's clock is off, where that may be why it was refused.
pub(super) fn render(report: &Report, skew: Option<Skew>, colour: bool) -> String {
    let paint = |code: &str, text: &str| {
        if colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    };
    let mut out = String::new();
    let (verdict, code) = match report.rejected {
        None => ("VERIFIED", GREEN),
        Some(_) => ("REFUSED", RED),
    };
    let _ = writeln!(
        out,
        "{} at {} under policy \"{}\"",
        paint(code, verdict),
        report.at,
        report.policy.name
    );
    let _ = writeln!(out, "policy digest {}", report.policy.digest);
    if report.policy.hardware_only {
        let warning = "HARDWARE ONLY: any software on a genuine TDX machine passes this policy";
        let _ = writeln!(out, "{}", paint(RED, warning));
    }
    if !report.intel_root {
        let warning = "DANGER: judged under a root that is not Intel's; this says nothing about real hardware";
        let _ = writeln!(out, "{}", paint(RED, warning));
    }

    if let Some(rejected) = &report.rejected {
        let _ = writeln!(out, "\n{}: {rejected}", paint(RED, rejected.code()));
        let _ = writeln!(out, "hint: {}", verdicts::hint(rejected, skew));
    }

    let mut group: Option<Group> = None;
    for check in report
        .checks
        .iter()
        .filter(|check| check.status != Status::NotProved)
    {
        if group != Some(check.id.group()) {
            group = Some(check.id.group());
            let _ = writeln!(out, "\n{}", paint(BOLD, check.id.group().title()));
        }
        let mark = match check.status {
            Status::Pass => paint(GREEN, "pass"),
            Status::Fail | Status::NotProved => paint(RED, "FAIL"),
        };
        let _ = writeln!(out, "  {mark}  {}: {}", check.id.title(), check.detail);
    }

    if !report.facts.is_empty() {
        let _ = writeln!(out, "\n{}", paint(BOLD, "Seen"));
        for fact in &report.facts {
            let _ = writeln!(out, "  {}: {}", fact.name, fact.value);
        }
    }

    let _ = writeln!(out, "\n{}", paint(BOLD, "Not proved"));
    let mut not_reached = Vec::new();
    for check in &report.checks {
        if check.status != Status::NotProved {
            continue;
        }
        if check.detail == NOT_REACHED {
            not_reached.push(check.id.title());
            continue;
        }
        let dash = paint(YELLOW, "-");
        let _ = writeln!(out, "  {dash}  {}: {}", check.id.title(), check.detail);
    }
    if !not_reached.is_empty() {
        let _ = writeln!(
            out,
            "  Not reached, as the refusal came first: {}",
            not_reached.join("; ")
        );
    }
    out
}
