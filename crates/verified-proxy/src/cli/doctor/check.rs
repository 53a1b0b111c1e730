//! One thing that was looked at, and how findings are shown.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::json;

/// What was looked at. The names in JSON are stable: added to, never renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Id {
    Dns,
    Authorities,
    EndpointList,
    Pcs,
    ComposeFiles,
    ComposeTags,
    Nras,
    Clock,
    Backend,
    Policy,
    TrustRoot,
    StateDir,
    Descriptors,
    Port,
    ApiKey,
    ProxyVariables,
    BaseUrl,
}

impl Id {
    fn title(self) -> &'static str {
        match self {
            Self::Dns => "DNS",
            Self::Authorities => "certificate authorities",
            Self::EndpointList => "endpoint list",
            Self::Pcs => "Intel's collateral",
            Self::ComposeFiles => "compose files",
            Self::ComposeTags => "release tags",
            Self::Nras => "NVIDIA's keys",
            Self::Clock => "clock",
            Self::Backend => "backend",
            Self::Policy => "policy",
            Self::TrustRoot => "trust root",
            Self::StateDir => "state directory",
            Self::Descriptors => "file descriptors",
            Self::Port => "port",
            Self::ApiKey => "API key",
            Self::ProxyVariables => "proxy variables",
            Self::BaseUrl => "base URL",
        }
    }
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Ok,
    Warning,
    Failed,
    /// Not looked at, which is no pass; the detail says why.
    Skipped,
}

/// One finding. What is not well has a fix; there is no other way to make one.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Check {
    #[serde(rename = "check")]
    id: Id,
    /// Which one, of several.
    subject: Option<String>,
    pub(super) status: Status,
    detail: String,
    fix: Option<String>,
}

impl Check {
    pub(super) fn ok(id: Id, detail: impl Into<String>) -> Self {
        Self::new(id, Status::Ok, detail.into(), None)
    }

    pub(super) fn warning(id: Id, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(id, Status::Warning, detail.into(), Some(fix.into()))
    }

    pub(super) fn failed(id: Id, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(id, Status::Failed, detail.into(), Some(fix.into()))
    }

    pub(super) fn skipped(id: Id, why: impl Into<String>) -> Self {
        Self::new(id, Status::Skipped, why.into(), None)
    }

    pub(super) fn of(self, subject: impl Into<String>) -> Self {
        Self {
            subject: Some(subject.into()),
            ..self
        }
    }

    /// What others say comes in lines; a finding has one.
    fn new(id: Id, status: Status, detail: String, fix: Option<String>) -> Self {
        let one_line = |text: String| text.replace('\n', " ");
        Self {
            id,
            subject: None,
            status,
            detail: one_line(detail),
            fix: fix.map(one_line),
        }
    }
}

fn count(checks: &[Check], status: Status) -> usize {
    checks.iter().filter(|check| check.status == status).count()
}

/// One line a check, its fix below.
pub(super) fn text(checks: &[Check], colour: bool) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for check in checks {
        let (mark, code) = match check.status {
            Status::Ok => ("ok", "32"),
            Status::Warning => ("warning", "33"),
            Status::Failed => ("FAILED", "1;31"),
            Status::Skipped => ("skipped", "2"),
        };
        let mark = format!("{mark:8}");
        let mark = if colour {
            format!("\x1b[{code}m{mark}\x1b[0m")
        } else {
            mark
        };
        let _ = write!(out, "{mark} {}", check.id.title());
        if let Some(subject) = &check.subject {
            let _ = write!(out, " from {subject}");
        }
        let _ = writeln!(out, ": {}", check.detail);
        if let Some(fix) = &check.fix {
            let _ = writeln!(out, "         fix: {fix}");
        }
    }
    let [failed, warnings, ok, skipped] =
        [Status::Failed, Status::Warning, Status::Ok, Status::Skipped]
            .map(|status| count(checks, status));
    let _ = writeln!(
        out,
        "\n{failed} failed, {warnings} with a warning, {ok} ok, {skipped} skipped"
    );
    out
}

pub(super) fn json(checks: &[Check]) -> String {
    let verdict = [Status::Failed, Status::Warning]
        .into_iter()
        .find(|status| count(checks, *status) > 0)
        .unwrap_or(Status::Ok);
    let json = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "verdict": verdict,
        "checks": checks,
    });
    format!("{json:#}\n")
}
