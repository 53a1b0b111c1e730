//! TCB levels in Intel's terms, and a level that a policy accepts for a while.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::exception::{Day, Exception};
use crate::base::identifiers::UnixTime;
use crate::base::text::{expected, quoted};

/// A status of Intel's TCB info. Any other status is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TcbStatus {
    /// Fully patched.
    UpToDate,
    /// Patched; software in the TD has to have its own mitigations.
    SWHardeningNeeded,
    /// Patched; the platform's configuration may need a change.
    ConfigurationNeeded,
    /// Both of the two above.
    ConfigurationAndSWHardeningNeeded,
    /// A security update is missing.
    OutOfDate,
    /// A security update is missing, and the configuration may need a change.
    OutOfDateConfigurationNeeded,
    /// Keys of this level are compromised. No policy can accept it.
    Revoked,
}

impl TcbStatus {
    const ALL: [Self; 7] = [
        Self::UpToDate,
        Self::SWHardeningNeeded,
        Self::ConfigurationNeeded,
        Self::ConfigurationAndSWHardeningNeeded,
        Self::OutOfDate,
        Self::OutOfDateConfigurationNeeded,
        Self::Revoked,
    ];

    /// Intel's name for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SWHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSWHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Self::Revoked => "Revoked",
        }
    }
}

impl FromStr for TcbStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| {
                let known: Vec<_> = Self::ALL.iter().map(|status| status.as_str()).collect();
                format!(
                    "{} is not a TCB status; known are {}",
                    quoted(text),
                    known.join(", ")
                )
            })
    }
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which of the three judgements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// Microcode, firmware, PCE.
    Platform,
    /// The TDX module.
    Module,
    /// The quoting enclave.
    Qe,
}

impl Component {
    /// The word that policies use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Module => "module",
            Self::Qe => "qe",
        }
    }
}

/// The level that a component matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// Intel's judgement.
    pub status: TcbStatus,
    /// The advisories that apply at this level.
    pub advisories: Vec<String>,
    /// The date of the level, as Intel writes it.
    pub date: String,
}

impl Level {
    /// What would accept this level until about three months from now.
    pub(crate) fn accept(&self, component: Component, now: UnixTime) -> Accept {
        if self.status == TcbStatus::Revoked {
            return Accept::default();
        }
        let option = format!(
            "{}:{}@{}",
            self.status,
            self.advisories.join(","),
            Exception::proposed_end(now)
        );
        let advisories: Vec<_> = self.advisories.iter().map(|id| format!("{id:?}")).collect();
        Accept {
            // A name that had to be escaped for people is not the name of an advisory.
            option: option.parse::<AcceptTcb>().ok().map(|_| option),
            line: Some(format!(
                "tcb.accept_advisories = [{{ component = \"{}\", status = \"{}\", advisories = [{}], {} }}]",
                component.as_str(),
                self.status,
                advisories.join(", "),
                Exception::proposed(now)
            )),
        }
    }
}

/// What would accept a level, as an option and as a line of a policy; nothing accepts
/// `Revoked`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accept {
    pub(crate) option: Option<String>,
    pub(crate) line: Option<String>,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (level of {}", self.status, self.date)?;
        if !self.advisories.is_empty() {
            write!(f, "; {}", self.advisories.join(", "))?;
        }
        f.write_str(")")
    }
}

/// A TCB status that is accepted as long as no other advisories apply than these.
///
/// As text: `OutOfDate:INTEL-SA-01036,INTEL-SA-01079@2027-02-28`, for platform, TDX
/// module and quoting enclave alike, until the end of that day. A rule with advisories
/// accepts no level without any; `OutOfDate:@2027-02-28` accepts just those.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "FileAcceptTcb")]
pub struct AcceptTcb {
    /// Whose level; all three if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) component: Option<Component>,
    pub(crate) status: TcbStatus,
    pub(crate) advisories: BTreeSet<String>,
    pub(crate) exception: Exception,
}

/// As files have it. Files of older versions have no exception.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileAcceptTcb {
    component: Option<Component>,
    status: TcbStatus,
    advisories: BTreeSet<String>,
    exception: Option<Exception>,
}

impl TryFrom<FileAcceptTcb> for AcceptTcb {
    type Error = &'static str;

    fn try_from(file: FileAcceptTcb) -> Result<Self, Self::Error> {
        Ok(Self {
            component: file.component,
            status: file.status,
            advisories: file.advisories,
            exception: file.exception.ok_or(
                "tcb.accept_advisories: what is accepted has an end, a reason and a name; add exception = { until = \"2027-02-28\", reason = \"say why\", by = \"your name\" }",
            )?,
        })
    }
}

impl FromStr for AcceptTcb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text
            .rsplit_once('@')
            .and_then(|(level, until)| Some((level.split_once(':')?, until)));
        let ((status, advisories), until) = parts.ok_or_else(|| {
            let example = "OutOfDate:INTEL-SA-01036@2027-02-28";
            expected(
                format!("STATUS:ADVISORY,...@LAST-DAY such as {example}"),
                text,
            )
        })?;
        let rule = Self {
            component: None,
            status: status.parse()?,
            advisories: advisories
                .split(',')
                .map(str::trim)
                .filter(|id| !id.is_empty())
                .map(str::to_owned)
                .collect(),
            exception: Exception {
                until: Day::parse(until)?,
                reason: "an option of the command line or the configuration".to_owned(),
                by: "the person who started the program".to_owned(),
            },
        };
        rule.check()?;
        Ok(rule)
    }
}

impl AcceptTcb {
    pub(crate) fn admits(&self, component: Component, level: &Level) -> bool {
        self.component.is_none_or(|own| own == component)
            && self.status == level.status
            && self.advisories.is_empty() == level.advisories.is_empty()
            && level
                .advisories
                .iter()
                .all(|id| self.advisories.contains(id))
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.status == TcbStatus::Revoked {
            return Err(
                "no policy can accept Revoked: keys of that level are compromised".to_owned(),
            );
        }
        for id in &self.advisories {
            let is_plain = (1..=64).contains(&id.len())
                && id
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-');
            if !is_plain {
                return Err(expected("an advisory such as INTEL-SA-01036", id));
            }
        }
        self.exception.check("tcb.accept_advisories")
    }
}
