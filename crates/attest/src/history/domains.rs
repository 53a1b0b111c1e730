//! What verdicts on one domain rested on. Several machines of several images may answer
//! under one name, so each state that was seen lately counts, not the last one alone.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Change, ChangeKind};
use crate::finding::Finding;
use crate::levels::Levels;
use crate::{Domain, UnixTime, hash};

/// Four times the domains of today's fleet.
pub(super) const MAX_DOMAINS: usize = 100;
/// Machines of one domain that boot the same image share a state.
pub(super) const MAX_STATES: usize = 16;
/// An honest machine has some twenty.
pub(super) const MAX_REMARKS: usize = 512;

/// A state that was not seen for so long, while others were, is gone: a return to it is
/// a change.
const STATE_DAYS: u64 = 30;
/// The same of a remark.
const REMARK_DAYS: u64 = 90;
/// For so long a remark is new: a person who looks once a week sees it.
const NEW_DAYS: u64 = 7;

const DAY_SECONDS: u64 = 86_400;
/// Topics that a change repeats.
const SHOWN_TOPICS: usize = 6;

/// What a verdict rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    pub(crate) levels: Levels,
    /// The deployment level may be higher: a source was not at hand, which is no news of
    /// the machine.
    pub(crate) deployment_is_open: bool,
    /// The policy's name of the OS image, or its hash.
    pub(crate) image: Option<String>,
    pub(crate) kms_root: Option<String>,
    /// With its algorithm, which the user chooses.
    pub(crate) signing_key: String,
}

/// One verdict's state and remarks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DomainSeen {
    domain: String,
    state: State,
    remarks: BTreeSet<String>,
    day: u64,
}

impl DomainSeen {
    pub(crate) fn new<'a>(
        domain: &Domain,
        state: State,
        remarks: impl Iterator<Item = &'a Finding>,
        now: UnixTime,
    ) -> Self {
        Self {
            domain: domain.to_string(),
            state,
            remarks: remarks.map(remark_id).take(MAX_REMARKS).collect(),
            day: now.0 / DAY_SECONDS,
        }
    }
}

/// 128 bits: whoever writes both texts must not find two that look the same.
fn remark_id(finding: &Finding) -> String {
    let digest = hash::sha256(&[finding.topic.as_bytes(), b"\n", finding.detail.as_bytes()]);
    hex::encode(digest.get(..16).unwrap_or(&digest))
}

/// What was seen of each domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Domains(BTreeMap<String, Remembered>);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    states: Vec<Dated>,
    /// The days, since 1970, on which each was seen first and last.
    remarks: BTreeMap<String, (u64, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dated {
    state: State,
    /// The day, since 1970, on which it was seen last.
    last: u64,
}

/// A verdict beside what is remembered of its domain.
#[derive(Debug)]
pub(crate) struct Compared {
    /// Nothing was seen of the domain before.
    pub(crate) is_first: bool,
    pub(crate) changes: Vec<Change>,
    /// Remarks that were first seen less than [`NEW_DAYS`] days ago, or never.
    pub(crate) new_remarks: usize,
}

impl Domains {
    pub(crate) fn compare<'a>(
        &self,
        domain: &Domain,
        state: &State,
        remarks: impl Iterator<Item = &'a Finding>,
        now: UnixTime,
    ) -> Compared {
        let known = self.0.get(domain.as_str());
        let today = now.0 / DAY_SECONDS;
        let mut new_remarks = 0_usize;
        let mut unseen = 0_usize;
        let mut topics = BTreeSet::new();
        for finding in remarks {
            let first = known.and_then(|known| known.remarks.get(&remark_id(finding)));
            if first.is_none() {
                unseen = unseen.saturating_add(1);
                topics.insert(finding.topic);
            }
            if first.is_none_or(|(first, _)| today < first.saturating_add(NEW_DAYS)) {
                new_remarks = new_remarks.saturating_add(1);
            }
        }
        let mut changes = known.map_or_else(Vec::new, |known| known.changes(state));
        if known.is_some() && unseen > 0 {
            let more = if topics.len() > SHOWN_TOPICS {
                ", ..."
            } else {
                ""
            };
            let topics: Vec<_> = topics.into_iter().take(SHOWN_TOPICS).collect();
            let remarks = if unseen == 1 { "remark" } else { "remarks" };
            let detail = format!("{unseen} new {remarks}: {}{more}", topics.join(", "));
            changes.push(Change::new(ChangeKind::Remarks, detail));
        }
        Compared {
            is_first: known.is_none(),
            changes,
            new_remarks,
        }
    }

    pub(super) fn remember(&mut self, seen: &DomainSeen) -> bool {
        let before = self.0.get(&seen.domain).cloned();
        if before.is_none() && self.0.len() >= MAX_DOMAINS {
            let oldest = self.0.iter().min_by_key(|(_, known)| known.last_day());
            if let Some(oldest) = oldest.map(|(domain, _)| domain.clone()) {
                self.0.remove(&oldest);
            }
        }
        let known = self.0.entry(seen.domain.clone()).or_default();
        known.remember(seen);
        before.as_ref() != Some(known)
    }
}

impl Remembered {
    fn last_day(&self) -> u64 {
        self.states.iter().map(|seen| seen.last).max().unwrap_or(0)
    }

    fn states(&self) -> impl Iterator<Item = &State> {
        self.states.iter().map(|seen| &seen.state)
    }

    fn changes(&self, now: &State) -> Vec<Change> {
        let levels = || self.states().map(|seen| seen.levels);
        let sure = |state: &&State| !state.deployment_is_open;
        let deployment = now.levels.deployment;
        let lower = [
            lower(
                "hardware",
                now.levels.hardware,
                levels().map(|own| own.hardware),
            ),
            lower("boot", now.levels.boot, levels().map(|own| own.boot)),
            lower(
                "identity",
                now.levels.identity,
                levels().map(|own| own.identity),
            ),
            lower(
                "deployment",
                deployment,
                self.states()
                    .filter(sure)
                    .filter(|_| !now.deployment_is_open)
                    .map(|own| own.levels.deployment),
            ),
            lower("gpu", now.levels.gpu, levels().map(|own| own.gpu)),
        ];
        let mut changes: Vec<_> = lower
            .into_iter()
            .flatten()
            .map(|detail| Change::down(ChangeKind::Level, detail))
            .collect();
        changes.extend(self.image(now));
        let roots = self.states().filter_map(|seen| seen.kms_root.as_deref());
        if let Some(root) = now.kms_root.as_deref().and_then(|root| other(root, roots)) {
            let detail = format!("the key management service is another one: {root}");
            changes.push(Change::down(ChangeKind::Kms, detail));
        }
        let algorithm = |key: &str| key.split(':').next().map(str::to_owned);
        let keys = self.states().map(|seen| seen.signing_key.as_str());
        let keys = keys.filter(|key| algorithm(key) == algorithm(&now.signing_key));
        if let Some(key) = other(&now.signing_key, keys) {
            let detail = format!("the key that signs answers is another one: {key}");
            changes.push(Change::down(ChangeKind::SigningKey, detail));
        }
        changes
    }

    fn image(&self, now: &State) -> Option<Change> {
        let seen = || self.states().filter_map(|seen| seen.image.as_deref());
        let image = other(now.image.as_deref()?, seen())?;
        let before: BTreeSet<_> = seen().collect();
        let before: Vec<_> = before.into_iter().collect();
        let detail = format!("the OS image is {image}, before: {}", before.join(", "));
        let own = version(image);
        let of_family = seen().filter_map(version);
        let of_family =
            of_family.filter(|(family, _)| own.as_ref().is_some_and(|own| own.0 == *family));
        Some(match of_family.min() {
            Some(oldest) if own.is_some_and(|own| own < oldest) => {
                Change::down(ChangeKind::Image, detail)
            }
            _ => Change::new(ChangeKind::Image, detail),
        })
    }

    fn remember(&mut self, seen: &DomainSeen) {
        match self.states.iter_mut().find(|own| own.state == seen.state) {
            Some(own) => own.last = own.last.max(seen.day),
            None => self.states.push(Dated {
                state: seen.state.clone(),
                last: seen.day,
            }),
        }
        for id in &seen.remarks {
            let days = self
                .remarks
                .entry(id.clone())
                .or_insert((seen.day, seen.day));
            days.1 = days.1.max(seen.day);
        }
        let today = self.last_day();
        self.states
            .retain(|own| own.last.saturating_add(STATE_DAYS) >= today);
        self.remarks
            .retain(|_, (_, last)| last.saturating_add(REMARK_DAYS) >= today);
        self.states.sort_by_key(|own| std::cmp::Reverse(own.last));
        self.states.truncate(MAX_STATES);
        let more = self.remarks.len().saturating_sub(MAX_REMARKS);
        if more > 0 {
            let by_age = self
                .remarks
                .iter()
                .map(|(id, (_, last))| (*last, id.clone()));
            let by_age: BTreeSet<_> = by_age.collect();
            for (_, id) in by_age.into_iter().take(more) {
                self.remarks.remove(&id);
            }
        }
    }
}

/// A level below all that were seen, in words.
fn lower<T: Ord + fmt::Display>(
    axis: &str,
    now: T,
    seen: impl Iterator<Item = T>,
) -> Option<String> {
    let lowest = seen.min()?;
    (now < lowest).then(|| format!("{axis}={now}, before: {lowest} or higher"))
}

/// `now`, if something was seen before and never this.
fn other<'a>(now: &'a str, seen: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let seen: Vec<_> = seen.collect();
    (!seen.is_empty() && !seen.contains(&now)).then_some(now)
}

/// Family and version of `dstack-nvidia-0.5.11`.
fn version(image: &str) -> Option<(&str, Vec<u64>)> {
    let (family, version) = image.rsplit_once('-')?;
    let numbers: Result<Vec<u64>, _> = version.split('.').map(str::parse).collect();
    Some((family, numbers.ok()?))
}
