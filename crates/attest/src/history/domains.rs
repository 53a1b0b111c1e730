//! What verdicts on one domain rested on. Several machines of several images may answer
//! under one name, so each state that was seen lately counts, not the last one alone.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Change, ChangeKind};
use crate::base::finding::Finding;
use crate::base::hash;
use crate::base::identifiers::{Domain, UnixTime};
use crate::base::levels::Levels;

/// Four times the domains of today's fleet.
pub(super) const MAX_DOMAINS: usize = 100;
/// Machines of one domain share a state where they have the same image, levels and keys.
pub(super) const MAX_STATES: usize = 16;
/// An honest machine has some twenty.
pub(super) const MAX_REMARKS: usize = 512;

/// A state that was not seen for so long, while others were, is gone: a return to it is
/// a change. The newest states stay, however long the proxy is not used.
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
    /// The deployment level may be higher: a file or a tag was missing, which says nothing
    /// about the machine.
    pub(crate) deployment_is_open: bool,
    /// The policy's name of the OS image.
    pub(crate) image: Option<String>,
    pub(crate) kms_root: Option<String>,
    /// With its algorithm: which one it is, the backend says.
    pub(crate) signing_key: String,
}

/// One verdict's state and remarks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DomainSeen {
    domain: String,
    state: State,
    /// Under a policy that holds what was seen.
    held: bool,
    remarks: BTreeSet<String>,
    day: u64,
}

impl DomainSeen {
    pub(crate) fn new<'a>(
        domain: &Domain,
        state: State,
        held: bool,
        remarks: impl Iterator<Item = &'a Finding>,
        now: UnixTime,
    ) -> Self {
        Self {
            domain: domain.to_string(),
            state,
            held,
            remarks: remarks.map(remark_id).take(MAX_REMARKS).collect(),
            day: now.0 / DAY_SECONDS,
        }
    }
}

/// 128 bits, so that the author of both texts finds no two with one id.
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
    /// A policy that holds what was seen let it pass. Such a policy compares with these
    /// alone: another policy's verdict must not undo it.
    held: bool,
    /// The day, since 1970, on which it was seen last.
    last: u64,
}

/// A verdict beside what is remembered of its domain.
#[derive(Debug)]
pub(crate) struct Compared {
    /// Nothing was seen of the domain before.
    pub(crate) is_first: bool,
    /// Why a fall may have gone unnoticed.
    pub(crate) open: Option<&'static str>,
    pub(crate) changes: Vec<Change>,
    /// Remarks that were first seen less than [`NEW_DAYS`] days ago, or never.
    pub(crate) new_remarks: usize,
}

impl Domains {
    pub(crate) fn compare<'a>(
        &self,
        domain: &Domain,
        state: &State,
        held: bool,
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
        let seen = known.map_or_else(Vec::new, |known| known.states(held));
        let (mut changes, open) = compared(&seen, state);
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
            is_first: seen.is_empty(),
            open,
            changes,
            new_remarks,
        }
    }

    pub(super) fn remember(&mut self, seen: &DomainSeen) -> bool {
        let before = self.0.get(&seen.domain).cloned();
        if before.is_none() && self.0.len() >= MAX_DOMAINS {
            // One more name must not replace a name that is in use: a client that asks for
            // a hundred names would make the proxy forget what it holds.
            let oldest = self.0.iter().min_by_key(|(_, known)| known.last_day());
            match oldest.map(|(domain, known)| (domain.clone(), known.last_day())) {
                Some((oldest, last)) if last.saturating_add(STATE_DAYS) < seen.day => {
                    self.0.remove(&oldest);
                }
                _ => return false,
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

    fn states(&self, held: bool) -> Vec<&State> {
        let seen = self.states.iter().filter(|seen| seen.held || !held);
        seen.map(|seen| &seen.state).collect()
    }

    fn remember(&mut self, seen: &DomainSeen) {
        match self.states.iter_mut().find(|own| own.state == seen.state) {
            Some(own) => {
                own.last = own.last.max(seen.day);
                own.held |= seen.held;
            }
            // In front: of those of one day, the last that was seen is kept.
            None => self.states.insert(
                0,
                Dated {
                    state: seen.state.clone(),
                    held: seen.held,
                    last: seen.day,
                },
            ),
        }
        for id in &seen.remarks {
            let days = self
                .remarks
                .entry(id.clone())
                .or_insert((seen.day, seen.day));
            days.1 = days.1.max(seen.day);
        }
        // Those that are held have a place, and time, of their own.
        let newest = |held: bool| {
            let of_kind = self.states.iter().filter(|own| own.held == held);
            of_kind.map(|own| own.last).max().unwrap_or(0)
        };
        let (held, other) = (newest(true), newest(false));
        self.states.retain(|own| {
            let newest = if own.held { held } else { other };
            own.last.saturating_add(STATE_DAYS) >= newest
        });
        self.states
            .sort_by_key(|own| std::cmp::Reverse((own.held, own.last)));
        self.states.truncate(MAX_STATES);
        let today = self.last_day();
        self.remarks
            .retain(|_, (_, last)| last.saturating_add(REMARK_DAYS) >= today);
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

/// What differs from all states that were seen, and why a fall may have gone unnoticed.
fn compared(seen: &[&State], now: &State) -> (Vec<Change>, Option<&'static str>) {
    let mut open = None;
    let mut changes = Vec::new();
    let levels = || seen.iter().map(|own| own.levels);
    let sure = seen.iter().filter(|own| !own.deployment_is_open);
    let sure: Vec<_> = sure.map(|own| own.levels.deployment).collect();
    let deployment = if now.deployment_is_open || sure.is_empty() {
        open = Some("a source did not answer, so the deployment level was not compared");
        None
    } else {
        lower("deployment", now.levels.deployment, sure.into_iter())
    };
    let now_at = now.levels;
    let lower = [
        lower(
            "hardware",
            now_at.hardware,
            levels().map(|own| own.hardware),
        ),
        lower("boot", now_at.boot, levels().map(|own| own.boot)),
        lower(
            "identity",
            now_at.identity,
            levels().map(|own| own.identity),
        ),
        deployment,
        lower("gpu", now_at.gpu, levels().map(|own| own.gpu)),
    ];
    let lower = lower.into_iter().flatten();
    changes.extend(lower.map(|detail| Change::down(ChangeKind::Level, detail)));
    let images = || seen.iter().filter_map(|own| own.image.as_deref());
    if let Some(image) = now.image.as_deref().and_then(|now| other(now, images())) {
        let before: BTreeSet<_> = images().collect();
        let before: Vec<_> = before.into_iter().collect();
        let detail = format!("the OS image is {image}, before: {}", before.join(", "));
        match is_older(image, images()) {
            Some(true) => changes.push(Change::down(ChangeKind::Image, detail)),
            Some(false) => changes.push(Change::new(ChangeKind::Image, detail)),
            None => {
                changes.push(Change::new(ChangeKind::Image, detail));
                open = Some("which of the OS images is older is not known");
            }
        }
    }
    let roots = seen.iter().filter_map(|own| own.kms_root.as_deref());
    if let Some(root) = now.kms_root.as_deref().and_then(|now| other(now, roots)) {
        let detail = format!("the key management service is another one: {root}");
        changes.push(Change::down(ChangeKind::Kms, detail));
    }
    let keys = seen.iter().map(|own| own.signing_key.as_str());
    if let Some(key) = other(&now.signing_key, keys) {
        let detail = format!("the key that signs answers is another one: {key}");
        changes.push(Change::down(ChangeKind::SigningKey, detail));
    }
    (changes, open)
}

/// A level below all that were seen, in words.
fn lower<T: Ord + fmt::Display>(
    axis: &str,
    now: T,
    seen: impl Iterator<Item = T>,
) -> Option<String> {
    let lowest = seen.min()?;
    (now < lowest).then(|| format!("{axis}={now}, never below {lowest} before"))
}

/// `now`, if something was seen before and never this.
fn other<'a>(now: &'a str, seen: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let seen: Vec<_> = seen.collect();
    (!seen.is_empty() && !seen.contains(&now)).then_some(now)
}

/// Whether an image is older than each of its family that was seen; `None` if none was.
fn is_older<'a>(image: &str, seen: impl Iterator<Item = &'a str>) -> Option<bool> {
    let own = version(image)?;
    let of_family = seen.filter_map(version).filter(|seen| seen.0 == own.0);
    of_family.min().map(|oldest| own < oldest)
}

/// Family and version of `dstack-nvidia-0.5.11`.
fn version(image: &str) -> Option<(&str, Vec<u64>)> {
    let (family, version) = image.rsplit_once('-')?;
    // "+5" would be a number, too.
    let digits = version
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let numbers: Result<Vec<u64>, _> = version.split('.').map(str::parse).collect();
    Some((family, numbers.ok().filter(|_| digits)?))
}
