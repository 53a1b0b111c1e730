//! One check, and how checks are shown.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::json;

macro_rules! ids {
    ($($id:ident $title:literal;)*) => {
        /// What is checked. The names in JSON are stable: added to, never renamed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub(super) enum Id {
            $($id,)*
        }

        impl Id {
            fn title(self) -> &'static str {
                match self { $(Self::$id => $title,)* }
            }
        }
    };
}

ids! {
    Dns "DNS";
    OutgoingProxy "outgoing proxy";
    Authorities "certificate authorities";
    EndpointList "endpoint list";
    Pcs "Intel's collateral";
    ComposeFiles "compose files";
    ComposeTags "release tags";
    Nras "NVIDIA's keys";
    Clock "clock";
    Backend "backend";
    Policy "policy";
    TrustRoot "trust root";
    StateDir "state directory";
    Descriptors "file descriptors";
    Port "port";
    ApiKey "API key";
    ProxyVariables "proxy variables";
    BaseUrl "base URL";
}

/// A check's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Ok,
    Warning,
    Failed,
    /// Not checked, which is not a pass; the detail says why.
    Skipped,
}

/// One check with its result. The constructors demand a fix for a warning and a failure.
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

    /// Messages of others may have several lines; a check is one line.
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

/// What to do about a source that cannot be reached.
pub(super) fn reach_or(otherwise: &str) -> String {
    format!("check that outgoing connections to it are allowed (firewall, VPN), or {otherwise}")
}

fn count(checks: &[Check], status: Status) -> usize {
    checks.iter().filter(|check| check.status == status).count()
}

/// One line for each check, its fix below.
pub(super) fn text(checks: &[Check], colour: bool) -> String {
    let mut out = String::new();
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
        line!(out, ": {}", check.detail);
        if let Some(fix) = &check.fix {
            line!(out, "         fix: {fix}");
        }
    }
    let [failed, warnings, ok, skipped] =
        [Status::Failed, Status::Warning, Status::Ok, Status::Skipped]
            .map(|status| count(checks, status));
    line!(
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
