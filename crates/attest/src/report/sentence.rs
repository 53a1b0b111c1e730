//! What a verdict means, in the words that a person reads everywhere: on the page, in
//! the terminal, in the log. It is true at the verdict's levels and says no more.

use std::collections::BTreeSet;

use super::{CheckId, Report, Status};
use crate::base::finding::{Finding, IMAGE_ADVISORY, Severity};
use crate::base::levels::{BootLevel, DeploymentLevel, HardwareLevel, IdentityLevel, Levels};

/// Releases that are named before the sentence says "and others".
const NAMED_RELEASES: usize = 2;

/// What a sentence names beside the levels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// The policy's name of the OS image; never the host's.
    pub image: Option<String>,
    /// Whose application it is, by the policy.
    pub operator: Option<String>,
    /// The last day of the first exception that the boot level rests on.
    pub boot_until: Option<String>,
    /// The last day of the exception by which the identity is accepted.
    pub identity_until: Option<String>,
    /// The last day of the first exception that the hardware level rests on.
    pub hardware_until: Option<String>,
}

impl Report {
    /// Findings that deserve a look: warnings and dangers that the policy does not quiet.
    #[must_use]
    pub fn remarks(&self) -> Vec<&Finding> {
        let findings = self.findings.iter();
        findings
            .filter(|finding| finding.severity >= Severity::Warning)
            .filter(|finding| !self.quiet.contains(finding.topic))
            .collect()
    }

    /// What the verdict means; `None` if it was refused.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        let levels = self.levels?;
        let mut text = String::new();
        if !self.intel_root {
            text.push_str("This says nothing about real hardware: its trust root is not Intel's. ");
        }
        text.push_str(&self.machine(levels));
        text.push(' ');
        text.push_str(&self.owner(levels));
        text.push(' ');
        text.push_str(&self.decides(levels));
        Some(text)
    }

    /// Which machine the connection ends in, and who vouches for it.
    fn machine(&self, levels: Levels) -> String {
        let image = self
            .named
            .image
            .as_deref()
            .unwrap_or("an image without a name");
        let image = match (levels.boot, self.named.boot_until.as_deref()) {
            (BootLevel::AcceptedByYou, Some(until)) => {
                format!("{image}, with what you accepted until {until}")
            }
            (BootLevel::AcceptedByYou, None) => format!("{image}, with what you accepted"),
            (BootLevel::Named | BootLevel::Any, _) => image.to_owned(),
        };
        match (levels.boot, levels.identity) {
            (BootLevel::Any, _) => {
                "Somebody's machine: your connection ends inside an Intel TDX machine, and which software runs in it was not checked.".to_owned()
            }
            (_, IdentityLevel::Any) => format!(
                "Somebody's machine: your connection ends inside a sealed Intel TDX machine ({image}), and whose it is was not checked."
            ),
            (_, IdentityLevel::Expected) => {
                let until = self.named.identity_until.as_ref();
                let until = until.map(|until| format!(" (an identity that you accepted until {until})"));
                format!(
                    "Your connection ends inside a sealed Intel TDX machine ({image}) that {} key service{} accepted.",
                    self.operators(),
                    until.unwrap_or_default()
                )
            }
        }
    }

    /// What the machine's owner and the network can see.
    fn owner(&self, levels: Levels) -> String {
        match (levels.boot, levels.hardware) {
            (BootLevel::Any, _) => {
                "The network cannot read your prompts; whoever runs that machine can.".to_owned()
            }
            (_, HardwareLevel::Current) if !self.tables_hold() => {
                "The network cannot read your prompts. The machine's ACPI tables, which can hold code that its system runs, were not checked: its owner may be able to read your prompts.".to_owned()
            }
            (_, HardwareLevel::Current) => {
                let weaknesses = match self.weaknesses() {
                    0 => String::new(),
                    1 => ", except that the owner may use a known weakness of this image".to_owned(),
                    count => format!(
                        ", except that the owner may use {count} known weaknesses of this image"
                    ),
                };
                format!("The machine's owner and the network cannot read your prompts{weaknesses}.")
            }
            (_, HardwareLevel::Outdated) => {
                let until = match &self.named.hardware_until {
                    Some(until) => format!(", which you accepted until {until}"),
                    None => String::new(),
                };
                format!(
                    "The network cannot read your prompts. The machine lacks security updates of Intel's{until}: its owner may be able to read your prompts."
                )
            }
        }
    }

    /// Who decides what runs inside, and what is known of that.
    fn decides(&self, levels: Levels) -> String {
        let (count, new) = match self.new_remarks {
            Some(count) => (count, "new "),
            None => (self.remarks().len(), ""),
        };
        let remarks = match count {
            0 => String::new(),
            1 => format!(" (1 {new}remark)"),
            count => format!(" ({count} {new}remarks)"),
        };
        let actor = match (levels.identity, &self.named.operator) {
            (IdentityLevel::Expected, Some(operator)) => operator.as_str(),
            (IdentityLevel::Expected, None) => "Its operator",
            (IdentityLevel::Any, _) => "Whoever runs it",
        };
        let decides = format!("{actor} decides what runs inside and could read your prompts");
        match (levels.boot, levels.deployment) {
            (BootLevel::Any, _) => format!("Do not send it secrets{remarks}."),
            (_, DeploymentLevel::None) => {
                format!("{decides}; what that is was not checked{remarks}.")
            }
            (_, DeploymentLevel::Declared) => {
                format!("{decides}; it declares {}{remarks}.", self.releases())
            }
            (_, DeploymentLevel::Tagged) => format!(
                "{decides}; it declares {}, and its log names only public releases since boot{remarks}.",
                self.releases()
            ),
        }
    }

    /// Whether the policy names the tables that the machine's owner gave the system.
    fn tables_hold(&self) -> bool {
        let acpi = self.check(CheckId::Acpi);
        acpi.is_some_and(|check| check.status == Status::Pass)
    }

    /// Open advisories of the image that let its owner read prompts.
    fn weaknesses(&self) -> usize {
        let findings = self.findings.iter();
        findings
            .filter(|finding| finding.topic == IMAGE_ADVISORY)
            .filter(|finding| finding.severity == Severity::Danger)
            .count()
    }

    fn operators(&self) -> String {
        match &self.named.operator {
            Some(operator) => format!("{operator}'s"),
            None => "the expected".to_owned(),
        }
    }

    /// The tags of what is up, by the machine's log.
    fn releases(&self) -> String {
        let up = self.deployment.iter().flat_map(|log| &log.up);
        let tags: BTreeSet<&str> = up.map(|up| up.tag.as_str()).collect();
        let named: Vec<_> = tags.iter().take(NAMED_RELEASES).copied().collect();
        match (named.as_slice(), tags.len()) {
            ([], _) => "nothing that runs".to_owned(),
            (named, count) if count > named.len() => format!("{} and others", named.join(", ")),
            (named, _) => named.join(" and "),
        }
    }
}
