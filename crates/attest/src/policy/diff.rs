//! What one policy accepts more, and what less, than another: rule by rule, by what the
//! rules mean and not by how a file writes them.
//!
//! It errs on one side: where it cannot show that a change accepts nothing new, it says
//! that it accepts more.

mod admitted;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use self::admitted::{
    Admitted, firmwares, identities, images, machines, plain, tcb, values, versions,
};
use super::Policy;
use super::rules::accepted::ValueRule;
use super::rules::deployment::{BrokenFiles, Sources, Tags};
use super::rules::gpu::{DRIVER_TABLE, Nras, Places, ProtectedPcie, VBIOS_TABLE};
use super::rules::{AcpiMode, Mode, Rules};
use crate::base::exception::Day;
use crate::base::finding::{IMAGE_ADVISORY, Severity};
use crate::base::levels::{BootLevel, IdentityLevel};
use crate::base::text::escaped;

/// What a change of a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// The new policy accepts something that the old one refuses.
    More,
    /// The new policy refuses something that the old one accepts.
    Less,
    /// Neither: it reports otherwise.
    Neither,
}

/// One rule that is not the same in two policies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleChange {
    /// What it does.
    pub effect: Effect,
    /// The key of the policy file.
    pub rule: String,
    /// In words.
    pub words: String,
}

impl fmt::Display for RuleChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.words)
    }
}

impl Policy {
    /// What `new` accepts more and less than this policy, what it accepts more first.
    #[must_use]
    pub fn changes_to(&self, new: &Self) -> Vec<RuleChange> {
        let mut changes = Changes(Vec::new());
        changes.compare(&self.rules, &new.rules);
        if changes.0.is_empty() && self.digest != new.digest {
            changes.add(
                Effect::More,
                "rules",
                "they differ in a way that is not described here",
            );
        }
        changes.0.sort();
        changes.0
    }
}

struct Changes(Vec<RuleChange>);

impl Changes {
    fn add(&mut self, effect: Effect, rule: &str, words: impl Into<String>) {
        self.0.push(RuleChange {
            effect,
            rule: rule.to_owned(),
            // Names are the words of the author of the file.
            words: escaped(&words.into()),
        });
    }

    /// A rule whose values stand in an order, the strictest last.
    fn order<T: Ord + fmt::Display>(&mut self, rule: &str, old: T, new: T) {
        let effect = match new.cmp(&old) {
            std::cmp::Ordering::Equal => return,
            std::cmp::Ordering::Less => Effect::More,
            std::cmp::Ordering::Greater => Effect::Less,
        };
        self.add(effect, rule, format!("{new} instead of {old}"));
    }

    /// A rule of which some values are stricter than the rest, the strictest first; in the
    /// words of a policy's file.
    fn rank<T: PartialEq + Serialize>(&mut self, rule: &str, stricter: &[T], old: T, new: T) {
        if old == new {
            return;
        }
        let place = |value| stricter.iter().position(|known| known == value);
        let place = |value| place(value).unwrap_or(stricter.len());
        let effect = match place(&new).cmp(&place(&old)) {
            std::cmp::Ordering::Equal => Effect::Neither,
            std::cmp::Ordering::Less => Effect::Less,
            std::cmp::Ordering::Greater => Effect::More,
        };
        let word = |value| serde_json::to_string(value).unwrap_or_default();
        let (new, old) = (word(&new), word(&old));
        let (new, old) = (new.trim_matches('"'), old.trim_matches('"'));
        self.add(effect, rule, format!("\"{new}\" instead of \"{old}\""));
    }

    /// A list of which a value has to be one.
    fn list(&mut self, rule: &str, old: &Admitted, new: &Admitted) {
        let until = |day: &Option<Day>| day.map_or(String::new(), |day| format!(" until {day}"));
        for (key, (name, day)) in new {
            match old.get(key) {
                None => self.add(Effect::More, rule, format!("accepts {name}{}", until(day))),
                Some((_, old_day)) if old_day != day => {
                    // Without an end it lasts longest.
                    let is_longer = match (old_day, day) {
                        (Some(old), Some(new)) => new > old,
                        (_, new) => new.is_none(),
                    };
                    let effect = if is_longer {
                        Effect::More
                    } else {
                        Effect::Less
                    };
                    let was =
                        old_day.map_or(" without an end".to_owned(), |day| format!(" until {day}"));
                    let now =
                        day.map_or(" without an end".to_owned(), |day| format!(" until {day}"));
                    self.add(effect, rule, format!("accepts {name}{now}, before{was}"));
                }
                Some((old_name, _)) if old_name != name => {
                    self.add(
                        Effect::Neither,
                        rule,
                        format!("{old_name} is called {name}"),
                    );
                }
                Some(_) => {}
            }
        }
        for (key, (name, _)) in old {
            if !new.contains_key(key) {
                self.add(
                    Effect::Less,
                    rule,
                    format!("does not accept {name} any more"),
                );
            }
        }
    }

    /// A list that compares nothing while it is empty.
    fn pins(&mut self, rule: &str, old: &Admitted, new: &Admitted) {
        match (old.is_empty(), new.is_empty()) {
            (false, true) => self.add(Effect::More, rule, "accepts any value"),
            (true, false) => {
                let names = new.values().map(|(name, _)| name.as_str());
                let names = crate::compose::listed(names, 4);
                self.add(Effect::Less, rule, format!("accepts only {names}"));
            }
            _ => self.list(rule, old, new),
        }
    }

    fn compare(&mut self, old: &Rules, new: &Rules) {
        self.order("least.hardware", old.least.hardware, new.least.hardware);
        self.order("least.boot", old.least.boot, new.least.boot);
        self.order("least.identity", old.least.identity, new.least.identity);
        self.order(
            "least.deployment",
            old.least.deployment,
            new.least.deployment,
        );
        self.order("least.gpu", old.least.gpu, new.least.gpu);
        self.rank("hold", &[true], old.hold, new.hold);
        self.hardware(old, new);
        let looks = |rules: &Rules| rules.least.boot != BootLevel::Any;
        // Where one of them looks at no software, least.boot has said it all.
        if looks(old) && looks(new) {
            self.software(old, new);
        }
        let names = |rules: &Rules| rules.least.identity != IdentityLevel::Any;
        if names(old) && names(new) {
            self.list("identity", &identities(old), &identities(new));
        }
        self.all_pins(old, new);
        self.gpus(old, new);
        self.deployment(old, new);
        self.findings(old, new);
    }

    fn hardware(&mut self, old: &Rules, new: &Rules) {
        self.list(
            "tcb.accept",
            &plain(old.tcb.accept.iter().map(ToString::to_string)),
            &plain(new.tcb.accept.iter().map(ToString::to_string)),
        );
        self.list("tcb.accept_advisories", &tcb(old), &tcb(new));
        let number = |rules: &Rules| rules.tcb.min_evaluation_number.unwrap_or_default();
        self.order("tcb.min_evaluation_number", number(old), number(new));
        let attributes = |rules: &Rules| plain(rules.td.attributes.iter().map(ToString::to_string));
        self.list("td.attributes", &attributes(old), &attributes(new));
        let xfam = |rules: &Rules| plain(rules.td.xfam.iter().map(ToString::to_string));
        self.list("td.xfam", &xfam(old), &xfam(new));
    }

    fn software(&mut self, old: &Rules, new: &Rules) {
        self.list("os_image", &images(old), &images(new));
        for image in new.os_images.difference(&old.os_images) {
            let known = old.os_images.iter().find(|own| own.is_of(image));
            if let Some(words) = known.and_then(|known| image.said_otherwise(known)) {
                self.add(Effect::Neither, "os_image", words);
            }
        }
        self.list("firmware", &firmwares(old), &firmwares(new));
        let stricter = [AcpiMode::Require, AcpiMode::Recompute];
        self.rank("acpi", &stricter, old.acpi, new.acpi);
        // Also where any tables pass: a row says how many places they have.
        self.list("machine", &machines(old), &machines(new));
        let refuses = |rules: &Rules| {
            let topics = refused(rules);
            topics.contains_key(IMAGE_ADVISORY)
        };
        for advisory in new.image_advisories.difference(&old.image_advisories) {
            let effect = if refuses(new) {
                Effect::Less
            } else {
                Effect::Neither
            };
            self.add(effect, "image_advisory", format!("knows {advisory}"));
        }
        for advisory in old.image_advisories.difference(&new.image_advisories) {
            let effect = if refuses(old) {
                Effect::More
            } else {
                Effect::Neither
            };
            self.add(
                effect,
                "image_advisory",
                format!("does not know {advisory} any more"),
            );
        }
    }

    fn all_pins(&mut self, old: &Rules, new: &Rules) {
        for rule in ValueRule::ALL {
            let is_pin = rule.as_str().starts_with("pins.");
            let is_list = matches!(
                rule,
                ValueRule::GpuDevice | ValueRule::Commit | ValueRule::ServiceImage
            );
            if is_pin || is_list {
                self.pins(rule.as_str(), &values(*rule, old), &values(*rule, new));
            }
        }
        let kms = |rules: &Rules| plain(rules.pins.mr_kms.iter().map(ToString::to_string));
        self.pins("pins.mr_kms", &kms(old), &kms(new));
    }

    fn gpus(&mut self, old: &Rules, new: &Rules) {
        let (was, is) = (&old.gpu, &new.gpu);
        self.rank("gpu.mode", &MODES, was.mode, is.mode);
        if was.mode == Mode::Off || is.mode == Mode::Off {
            return;
        }
        match (was.count, is.count) {
            (was, is) if was == is => {}
            (None, Some(count)) => {
                self.add(
                    Effect::Less,
                    "gpu.count",
                    format!("accepts only {count} GPUs"),
                );
            }
            (Some(_), None) => self.add(Effect::More, "gpu.count", "accepts any number of GPUs"),
            (Some(was), Some(is)) => {
                self.add(Effect::More, "gpu.count", format!("accepts {is} GPUs"));
                let words = format!("does not accept {was} GPUs any more");
                self.add(Effect::Less, "gpu.count", words);
            }
            _ => {}
        }
        self.rank(
            "gpu.protected_pcie",
            &[ProtectedPcie::Required],
            was.protected_pcie,
            is.protected_pcie,
        );
        self.rank("gpu.places", &[Places::Accounted], was.places, is.places);
        self.rank("gpu.nras", &[Nras::Require], was.nras, is.nras);
        for kind in [DRIVER_TABLE, VBIOS_TABLE] {
            self.pins(
                "gpu.measurements",
                &versions(kind, old),
                &versions(kind, new),
            );
        }
    }

    fn deployment(&mut self, old: &Rules, new: &Rules) {
        let (was, is) = (&old.deployment, &new.deployment);
        self.rank("deployment.mode", &MODES, was.mode, is.mode);
        if was.mode == Mode::Off || is.mode == Mode::Off {
            return;
        }
        let stricter = [Tags::Releases, Tags::Report];
        self.rank("deployment.tags", &stricter, was.tags, is.tags);
        self.rank(
            "deployment.files",
            &[BrokenFiles::Refuse],
            was.broken_files,
            is.broken_files,
        );
        let stricter = [Sources::Required];
        self.rank("deployment.sources", &stricter, was.sources, is.sources);
        self.list(
            "deployment.managers",
            &plain(was.manager_names()),
            &plain(is.manager_names()),
        );
        let (was, is) = (&was.files, &is.files);
        for (rule, was, is) in [
            ("fronts", &was.fronts, &is.fronts),
            ("proxies", &was.proxies, &is.proxies),
            ("engines", &was.engines, &is.engines),
            ("helpers", &was.helpers, &is.helpers),
            ("gpu_helpers", &was.gpu_helpers, &is.gpu_helpers),
        ] {
            let names = |list: &BTreeSet<_>| plain(list.iter().map(ToString::to_string));
            self.list(
                &format!("deployment.repositories.{rule}"),
                &names(was),
                &names(is),
            );
        }
        self.list(
            "deployment.read_only_paths",
            &plain(was.read_only_paths.iter().cloned()),
            &plain(is.read_only_paths.iter().cloned()),
        );
    }

    fn findings(&mut self, old: &Rules, new: &Rules) {
        let (was, is) = (refused(old), refused(new));
        for (topic, least) in &is {
            match was.get(topic) {
                None => self.add(
                    Effect::Less,
                    "findings.refuse",
                    format!("refuses {topic} of severity {least} and above"),
                ),
                Some(before) if before != least => {
                    let effect = if least < before {
                        Effect::Less
                    } else {
                        Effect::More
                    };
                    self.add(
                        effect,
                        "findings.refuse",
                        format!("refuses {topic} from severity {least}, before from {before}"),
                    );
                }
                Some(_) => {}
            }
        }
        for topic in was.keys().filter(|topic| !is.contains_key(*topic)) {
            self.add(Effect::More, "findings.refuse", format!("accepts {topic}"));
        }
        // What is accepted of a finding counts where the old policy refuses it.
        let accepted = |rules: &Rules| {
            let rows = rules.accepted.iter();
            let rows = rows.filter(|row| row.rule == ValueRule::Finding);
            let rows = rows.filter(|row| {
                let topic = row.value.split(": ").next().unwrap_or_default();
                was.contains_key(topic)
            });
            rows.map(|row| {
                (
                    row.value.clone(),
                    (row.value.clone(), Some(row.exception.until)),
                )
            })
            .collect::<Admitted>()
        };
        self.list("findings.refuse", &accepted(old), &accepted(new));
        let quiet = |rules: &Rules| -> BTreeSet<_> {
            rules
                .findings
                .quiet
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        let (was, is) = (quiet(old), quiet(new));
        let lines = is.difference(&was).map(|line| ("does not remark ", line));
        for (words, line) in lines.chain(was.difference(&is).map(|line| ("remarks again: ", line)))
        {
            self.add(Effect::Neither, "findings.quiet", format!("{words}{line}"));
        }
    }
}

const MODES: [Mode; 2] = [Mode::Required, Mode::IfPresent];

/// The severity from which each topic refuses.
fn refused(rules: &Rules) -> BTreeMap<&str, Severity> {
    let mut topics = BTreeMap::new();
    for (topic, least) in rules.findings.refused_topics() {
        let known = topics.entry(topic).or_insert(least);
        *known = least.min(*known);
    }
    topics
}
