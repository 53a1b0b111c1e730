//! How old collateral may be: no older than what was seen before.
//!
//! Floors follow the documents that CAME, never the request: a source that answers
//! `update=standard` with the early edition causes no later refusal. The rules:
//!
//! 1. Within one edition, dates of issue do not go back.
//! 2. Revocation lists do not go back, whatever edition comes with them.
//! 3. An edition older than what Intel's signed list calls standard is refused
//!    ([`Editions`](super::Editions)), also when the list is not available later.
//!    Without a list no edition is refused for another, and the report says what is not
//!    proved.
//!
//! Dates, not numbers, tell what is newer: Intel's revocation lists all have CRL
//! number 1. Mirrors copy Intel's answers once a day or so, and Intel's own servers
//! sign the same edition at different times: hence the slack.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Editions;
use crate::base::identifiers::{Fmspc, UnixTime};
use crate::base::json;
use crate::intel::root::TdxRoot;
use crate::refusals::Rejected;

/// Slack for an honest mirror; documents are valid for thirty days.
const MIRROR_SLACK_SECONDS: u64 = 7 * 86_400;

/// What genuine documents say about themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) tcb_info: Document,
    pub(crate) qe_identity: Document,
    /// `thisUpdate`; zero if the list is of another CA than the platform's.
    pub(crate) pck_crl: UnixTime,
    pub(crate) root_crl: UnixTime,
}

/// TCB info or QE identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Document {
    /// `tcbEvaluationDataNumber`.
    pub(crate) edition: u32,
    /// `issueDate`.
    pub(crate) issued: UnixTime,
}

/// The oldest collateral of one platform family that is admitted. No value in it
/// decreases.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// The oldest `tcbEvaluationDataNumber` of a TCB info.
    pub tcb_info: u32,
    /// The oldest `tcbEvaluationDataNumber` of a QE identity.
    pub qe_identity: u32,
    /// `thisUpdate` of the newest PCK CRL.
    pub pck_crl: UnixTime,
    /// `thisUpdate` of the newest root CRL.
    pub root_crl: UnixTime,
    /// The newest documents of each edition.
    #[serde(default)]
    pub editions: BTreeMap<u32, Issued>,
}

/// `issueDate`s of the newest documents of one edition; zero: none was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issued {
    /// Of the TCB info.
    pub tcb_info: UnixTime,
    /// Of the QE identity.
    pub qe_identity: UnixTime,
}

/// How documents that a floor admits compare with what was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// No older than anything.
    NoOlder,
    /// Of an older edition than this one, and no list stated yet which is standard.
    OlderEdition(u32),
}

impl Floor {
    /// The floor after documents and the list that came with them.
    fn of(seen: &Seen, list: Option<&Editions>) -> Self {
        let oldest = list.map_or(0, Editions::oldest);
        let mut floor = Self {
            tcb_info: oldest,
            qe_identity: oldest,
            pck_crl: seen.pck_crl,
            root_crl: seen.root_crl,
            editions: BTreeMap::new(),
        };
        let Seen {
            tcb_info,
            qe_identity,
            ..
        } = seen;
        let editions = &mut floor.editions;
        editions.entry(tcb_info.edition).or_default().tcb_info = tcb_info.issued;
        editions.entry(qe_identity.edition).or_default().qe_identity = qe_identity.issued;
        floor
    }

    /// # Errors
    /// [`Rejected::CollateralRollback`] for the first document that is too old.
    pub(crate) fn admit(&self, seen: &Seen, list: Option<&Editions>) -> Result<Admitted, Rejected> {
        let older = |what, got: String, floor: String| {
            Err(Rejected::CollateralRollback { what, got, floor })
        };
        let oldest = list.map_or(0, Editions::oldest);
        for (what, document, kept) in [
            (
                "tcbEvaluationDataNumber of the TCB info",
                seen.tcb_info,
                self.tcb_info,
            ),
            (
                "tcbEvaluationDataNumber of the QE identity",
                seen.qe_identity,
                self.qe_identity,
            ),
        ] {
            let floor = kept.max(oldest);
            if document.edition < floor {
                return older(what, document.edition.to_string(), floor.to_string());
            }
        }
        let of = |edition| self.editions.get(&edition).copied().unwrap_or_default();
        let (tcb_info, qe_identity) = (seen.tcb_info, seen.qe_identity);
        for (what, got, floor) in [
            (
                "the date of the TCB info",
                tcb_info.issued,
                of(tcb_info.edition).tcb_info,
            ),
            (
                "the date of the QE identity",
                qe_identity.issued,
                of(qe_identity.edition).qe_identity,
            ),
            ("the date of the PCK CRL", seen.pck_crl, self.pck_crl),
            ("the date of the root CRL", seen.root_crl, self.root_crl),
        ] {
            if got.plus(MIRROR_SLACK_SECONDS) < floor {
                return older(what, got.to_string(), floor.to_string());
            }
        }
        let is_listed = self.tcb_info.max(oldest) > 0;
        let edition = tcb_info.edition.min(qe_identity.edition);
        Ok(match self.editions.last_key_value() {
            Some((&newest, _)) if edition < newest && !is_listed => Admitted::OlderEdition(newest),
            _ => Admitted::NoOlder,
        })
    }

    fn raise(&mut self, other: &Self) {
        self.tcb_info = self.tcb_info.max(other.tcb_info);
        self.qe_identity = self.qe_identity.max(other.qe_identity);
        self.pck_crl = self.pck_crl.max(other.pck_crl);
        self.root_crl = self.root_crl.max(other.root_crl);
        for (&edition, issued) in &other.editions {
            let own = self.editions.entry(edition).or_default();
            own.tcb_info = own.tcb_info.max(issued.tcb_info);
            own.qe_identity = own.qe_identity.max(issued.qe_identity);
        }
    }
}

/// The key of a floor: a trust root and a platform family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FloorKey {
    root_sha256: [u8; 32],
    fmspc: Fmspc,
}

impl FloorKey {
    /// The key for collateral of this family.
    #[must_use]
    pub fn new(root: &TdxRoot, fmspc: Fmspc) -> Self {
        Self {
            root_sha256: root.tdx_root_sha256(),
            fmspc,
        }
    }

    fn to_text(&self) -> String {
        format!("{}/{}", hex::encode(self.root_sha256), self.fmspc)
    }
}

/// Reads a key and its floor.
///
/// Earlier versions kept floors by the channel of the request. A floor of `standard`
/// keeps its numbers, since no floor may sink; a floor of `early` was never one for
/// other documents, so only its revocation lists count.
fn entry(text: &str, mut floor: Floor) -> Option<(FloorKey, Floor)> {
    let mut parts = text.split('/');
    let key = FloorKey {
        root_sha256: crate::base::text::hex_array(parts.next()?)?,
        fmspc: parts.next()?.parse().ok()?,
    };
    match parts.next() {
        None | Some("standard") => {}
        Some("early") => {
            floor.tcb_info = 0;
            floor.qe_identity = 0;
        }
        Some(_) => return None,
    }
    parts.next().is_none().then_some((key, floor))
}

/// What one appraisal saw; [`Floors::raise`] remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FloorSeen {
    key: FloorKey,
    floor: Floor,
}

impl FloorSeen {
    pub(crate) fn new(key: FloorKey, seen: &Seen, list: Option<&Editions>) -> Self {
        Self {
            key,
            floor: Floor::of(seen, list),
        }
    }
}

/// The newest documents seen. The program that fetches collateral keeps this on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Floors {
    by_key: BTreeMap<FloorKey, Floor>,
}

impl Floors {
    /// The floor of one key; `None` if no documents were seen.
    #[must_use]
    pub fn get(&self, key: &FloorKey) -> Option<&Floor> {
        self.by_key.get(key)
    }

    /// Raises the floor to what an appraisal saw, whatever its verdict. It never sinks.
    /// Returns true if anything changed, that is, if it has to be saved.
    pub fn raise(&mut self, seen: &FloorSeen) -> bool {
        self.raise_one(&seen.key, &seen.floor)
    }

    fn raise_one(&mut self, key: &FloorKey, by: &Floor) -> bool {
        let known = self.by_key.get(key);
        let mut floor = known.cloned().unwrap_or_default();
        floor.raise(by);
        let changed = known != Some(&floor);
        if changed {
            self.by_key.insert(key.clone(), floor);
        }
        changed
    }

    /// Raises every floor to what another process saw: two that share a file
    /// merge theirs. Returns true if anything changed.
    pub fn merge(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (key, floor) in &other.by_key {
            changed |= self.raise_one(key, floor);
        }
        changed
    }

    /// Reads what [`Floors::to_json`] wrote, also that of earlier versions.
    ///
    /// # Errors
    /// A sentence that says what is wrong; the file was damaged or edited.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let texts: BTreeMap<String, Floor> =
            json::parse(bytes, &json::OWN_FILE).map_err(|error| error.to_string())?;
        let mut floors = Self::default();
        for (text, floor) in texts {
            let (key, floor) = entry(&text, floor).ok_or_else(|| {
                format!("{} is not a floor's key", crate::base::text::quoted(&text))
            })?;
            floors.raise_one(&key, &floor);
        }
        Ok(floors)
    }

    /// One line a key, for a file.
    #[must_use]
    pub fn to_json(&self) -> String {
        let texts: BTreeMap<String, &Floor> = self
            .by_key
            .iter()
            .map(|(key, floor)| (key.to_text(), floor))
            .collect();
        serde_json::to_string_pretty(&texts).unwrap_or_default()
    }
}
