//! Findings that a policy refuses, and those that it does not want to hear of for a
//! while.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Mode;
use super::Rules;
use super::accepted::finding_value;
use super::deployment::{BrokenFiles, Sources};
use crate::base::exception::Day;
use crate::base::finding::{Finding, LEFT_OUT, Severity, TOPICS, UNREADABLE};
use crate::base::identifiers::UnixTime;
use crate::base::levels::{BootLevel, DeploymentLevel};
use crate::base::text::{as_text, quoted};

/// What a policy says of findings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FindingRules {
    /// These refuse: `topic`, or `topic=severity` for that severity and graver ones.
    pub(crate) refuse: BTreeSet<Refused>,
    /// These are no remarks: `topic until 2027-02-28`.
    pub(crate) quiet: BTreeSet<Quiet>,
    /// Findings that do not refuse for a while: `topic: detail`.
    #[serde(skip)]
    accepted: BTreeSet<String>,
}

/// A kind of finding that refuses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Refused {
    topic: String,
    least: Severity,
}

/// A kind of finding that is no remark until a day.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Quiet {
    topic: String,
    until: Day,
}

impl FindingRules {
    /// The first finding that refuses. What was left out of a list that is too long may
    /// be any of them.
    pub(crate) fn refused<'a>(&self, findings: &'a [Finding]) -> Option<&'a Finding> {
        findings.iter().find(|finding| {
            let is_accepted = || self.accepted.contains(&finding_value(finding));
            let mut rules = self.refuse.iter();
            rules.any(|rule| rule.may_be_among(finding))
                || self.refuse.iter().any(|rule| rule.is_met_by(finding)) && !is_accepted()
        })
    }

    /// Lets one finding pass that a rule refuses.
    pub(crate) fn accept(&mut self, value: &str) -> Result<(), String> {
        let topic = value.split(": ").next().unwrap_or_default();
        if !self.refuse.iter().any(|rule| rule.topic == topic) {
            return Err("the policy does not refuse this finding".to_owned());
        }
        self.accepted.insert(value.to_owned());
        Ok(())
    }

    /// Checks that the policy requires the evidence of each finding that it refuses: a
    /// machine that has the finding would leave optional evidence out.
    pub(crate) fn check(&self, rules: &Rules) -> Result<(), String> {
        let deployment = &rules.deployment;
        let looks = deployment.mode == Mode::Required;
        let fetched = looks && deployment.sources == Sources::Required;
        for rule in &self.refuse {
            let (is_demanded, mend) = match rule.topic.as_str() {
                // A copy of a measured value, or a key that the proxy does not use.
                "copy_differs"
                | "deployment_copy"
                | "gpu_copies_differ"
                | "encryption_key_contradicts"
                | "ohttp_key_contradicts" => {
                    (false, "no rule on a copy: a machine may leave the copy out")
                }
                // A file that cannot be read has no findings.
                topic if topic.starts_with("compose_") => (
                    fetched
                        && (deployment.broken_files == BrokenFiles::Refuse
                            || rules.least.deployment == DeploymentLevel::Tagged),
                    "deployment.sources = \"required\", and deployment.files = \"refuse\" or least.deployment = \"tagged\"",
                ),
                "deployment_file" | "deployment_untagged" | "deployment_before_boot" => {
                    (fetched, "deployment.sources = \"required\"")
                }
                topic if topic.starts_with("deployment_") => {
                    (looks, "deployment.mode = \"required\"")
                }
                topic if topic.starts_with("gpu_") => {
                    (rules.gpu.mode == Mode::Required, "gpu.mode = \"required\"")
                }
                _ => (
                    rules.least.boot > BootLevel::Any,
                    "least.boot above \"any\"",
                ),
            };
            if !is_demanded {
                return Err(format!(
                    "findings.refuse = [{}] has no effect, because the policy accepts a report without the evidence for it: expected {mend}",
                    quoted(&rule.to_string())
                ));
            }
        }
        Ok(())
    }

    /// Each topic that refuses, and from which severity.
    pub(crate) fn refused_topics(&self) -> impl Iterator<Item = (&str, Severity)> {
        let rules = self.refuse.iter();
        rules.map(|rule| (rule.topic.as_str(), rule.least))
    }

    /// The topics that are no remarks now.
    pub(crate) fn quiet_at(&self, now: UnixTime) -> BTreeSet<String> {
        let holding = self.quiet.iter().filter(|rule| now < rule.until.end());
        holding.map(|rule| rule.topic.clone()).collect()
    }
}

impl Refused {
    fn is_met_by(&self, finding: &Finding) -> bool {
        self.topic == finding.topic && finding.severity >= self.least
    }

    /// What was left out of a list may be any finding, and so may be what an
    /// application description says that cannot be read.
    fn may_be_among(&self, finding: &Finding) -> bool {
        let unreadable = finding.topic == UNREADABLE && self.topic.starts_with("app_");
        (finding.topic == LEFT_OUT || unreadable) && finding.severity >= self.least
    }
}

/// Refuses a topic that this version never reports, because no machine could break such a rule.
fn topic(text: &str) -> Result<String, String> {
    if TOPICS.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "this version knows no finding {}; `verified-proxy verify --json` lists the findings of a report",
            quoted(text)
        ))
    }
}

impl FromStr for Refused {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, least) = match text.split_once('=') {
            None => (text, Severity::Info),
            Some((name, word)) => {
                let known = Severity::ALL.into_iter().find(|own| own.as_str() == word);
                let expected = || {
                    format!(
                        "expected info, notice, warning or danger, got {}",
                        quoted(word)
                    )
                };
                (name, known.ok_or_else(expected)?)
            }
        };
        Ok(Self {
            topic: topic(name)?,
            least,
        })
    }
}

impl FromStr for Quiet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, until) = text.split_once(" until ").ok_or_else(|| {
            format!(
                "expected a finding and its last day, such as \"app_script until 2027-02-28\", got {}",
                quoted(text)
            )
        })?;
        Ok(Self {
            topic: topic(name)?,
            until: Day::parse(until)?,
        })
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.least {
            Severity::Info => f.write_str(&self.topic),
            least => write!(f, "{}={least}", self.topic),
        }
    }
}

impl std::fmt::Display for Quiet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} until {}", self.topic, self.until)
    }
}

as_text!(Refused, str::parse);
as_text!(Quiet, str::parse);
