//! Rows of OS images: what a release measures, and what the policy decides of it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Row, Rules, best};
use crate::base::exception::{Day, Exception};
use crate::base::finding::Severity;
use crate::base::hex::Hex;
use crate::base::identifiers::UnixTime;
use crate::dstack::machine::Shape;

/// Firmware, kernel, command line and initrd of one image. They count together only, and
/// a row without one of them cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OsImage {
    pub(crate) name: String,
    /// As QEMU measures it from 9.0 on, where the row gives both forms.
    pub(crate) mrtd: Hex<48>,
    /// As QEMU 8 measures the same firmware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mrtd_two_pass: Option<Hex<48>>,
    /// With the setup header that QEMU writes into the kernel, where the row gives both
    /// forms; with at least 2,816 MiB of memory.
    pub(crate) rtmr1: Hex<48>,
    /// With the setup header of the file, as QEMU hands it over from 10.2 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rtmr1_unpatched: Option<Hex<48>>,
    pub(crate) rtmr2: Hex<48>,
    pub(crate) os_image_hash: Hex<32>,
    /// Whose word the values are, for a person.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    confirmed_by: BTreeSet<String>,
    /// From this day on it is a finding that a machine runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warn_from: Option<Day>,
    /// From this day on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refuse_from: Option<Day>,
    /// Set where a user accepts it for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exception: Option<Exception>,
}

/// What a quote and its boot events show of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenImage {
    pub(crate) mrtd: Hex<48>,
    pub(crate) rtmr1: Hex<48>,
    pub(crate) rtmr2: Hex<48>,
    pub(crate) os_image_hash: Hex<32>,
}

impl SeenImage {
    pub(crate) fn new(
        mrtd: [u8; 48],
        rtmr1: [u8; 48],
        rtmr2: [u8; 48],
        os_image_hash: [u8; 32],
    ) -> Self {
        Self {
            mrtd: Hex(mrtd),
            rtmr1: Hex(rtmr1),
            rtmr2: Hex(rtmr2),
            os_image_hash: Hex(os_image_hash),
        }
    }
}

/// In which of two forms MRTD and RTMR1 were measured, where the row gives both: it
/// follows from the version of QEMU, as the tables do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forms {
    two_pass: Option<bool>,
    unpatched: Option<bool>,
}

impl Forms {
    /// What the stated version of QEMU would have measured otherwise, in words.
    pub(crate) fn contradict(&self, shape: &Shape) -> Option<String> {
        let family = shape.family;
        let differs = |form: Option<bool>, expected: bool, register: &str| {
            let is_other = form.is_some_and(|form| form != expected);
            is_other.then(|| {
                format!("QEMU {family}, which info.vm_config states, does not measure {register} in the form that the quote has")
            })
        };
        differs(self.two_pass, family.measures_in_two_passes(), "MRTD")
            .or_else(|| differs(self.unpatched, family.leaves_the_kernel_header(), "RTMR1"))
    }
}

/// A row that a machine's image is equal to, and what the policy decides of it now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ImageRow<'a> {
    pub(crate) row: Row<'a>,
    pub(crate) forms: Forms,
    /// Since when it is a finding.
    pub(crate) warned: Option<Day>,
    /// From when on it is refused.
    pub(crate) refuse_from: Option<Day>,
}

impl OsImage {
    /// What was seen, as a row that holds for a while.
    pub(crate) fn excepted(name: String, seen: SeenImage, exception: Exception) -> Self {
        Self {
            name,
            mrtd: seen.mrtd,
            mrtd_two_pass: None,
            rtmr1: seen.rtmr1,
            rtmr1_unpatched: None,
            rtmr2: seen.rtmr2,
            os_image_hash: seen.os_image_hash,
            confirmed_by: BTreeSet::new(),
            warn_from: None,
            refuse_from: None,
            exception: Some(exception),
        }
    }

    /// The forms that these values have in this row, if they are its.
    fn forms(&self, seen: &SeenImage) -> Option<Forms> {
        let form = |seen: Hex<48>, one: Hex<48>, other: Option<Hex<48>>| match other {
            Some(other) if seen == other => Some(Some(true)),
            _ if seen != one => None,
            other => Some(other.map(|_| false)),
        };
        let is_same = (seen.rtmr2, seen.os_image_hash) == (self.rtmr2, self.os_image_hash);
        let two_pass = form(seen.mrtd, self.mrtd, self.mrtd_two_pass)?;
        let unpatched = form(seen.rtmr1, self.rtmr1, self.rtmr1_unpatched)?;
        is_same.then_some(Forms {
            two_pass,
            unpatched,
        })
    }

    /// The values that the row accepts together, each with words for its form.
    pub(crate) fn all_forms(&self) -> Vec<(&'static str, Hex<48>, Hex<48>)> {
        let mrtds = [
            Some(("", self.mrtd)),
            self.mrtd_two_pass
                .map(|own| (" as QEMU 8 measures it", own)),
        ];
        let rtmr1s = [
            Some(("", self.rtmr1)),
            self.rtmr1_unpatched
                .map(|own| (" with the kernel's own header", own)),
        ];
        let forms = mrtds.into_iter().flatten().flat_map(|(of_mrtd, mrtd)| {
            rtmr1s.into_iter().flatten().map(move |(of_rtmr1, rtmr1)| {
                let form = if of_mrtd.is_empty() {
                    of_rtmr1
                } else {
                    of_mrtd
                };
                (form, mrtd, rtmr1)
            })
        });
        forms.collect()
    }

    /// The last day on which it is accepted, if there is one.
    pub(crate) fn last_day(&self) -> Option<Day> {
        let accepted = self.exception.as_ref().map(|exception| exception.until);
        let before = |day: Day| Day::of(UnixTime(day.start().0.saturating_sub(1)));
        let refused = self.refuse_from.map(before);
        match (accepted, refused) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// The same image, in some words.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        (self.rtmr2, self.os_image_hash) == (other.rtmr2, other.os_image_hash)
    }

    /// What it says otherwise than another row of the image and that refuses nothing.
    pub(crate) fn said_otherwise(&self, known: &Self) -> Option<String> {
        let is_other =
            (self.warn_from, &self.confirmed_by) != (known.warn_from, &known.confirmed_by);
        is_other.then(|| match self.warn_from {
            Some(day) => format!("warns of {} from {day} on", self.name),
            None => format!("says otherwise who confirmed {}", self.name),
        })
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let is_other =
            self.mrtd_two_pass != Some(self.mrtd) && self.rtmr1_unpatched != Some(self.rtmr1);
        match (self.warn_from, self.refuse_from) {
            _ if !is_other => Err(format!(
                "os_image {}: both forms of a register are the same value; remove mrtd_two_pass or rtmr1_unpatched",
                crate::base::text::quoted(&self.name)
            )),
            (Some(warn), Some(refuse)) if warn >= refuse => Err(format!(
                "os_image {}: warn_from = \"{warn}\" is not before refuse_from = \"{refuse}\"; set an earlier day, or remove warn_from",
                crate::base::text::quoted(&self.name)
            )),
            _ => Ok(()),
        }
    }
}

/// What the policy says of an image now.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ImageDecision<'a> {
    Accepted(ImageRow<'a>),
    /// A row names it, and refuses it from this day on.
    Withdrawn {
        name: &'a str,
        since: Day,
    },
    Unknown,
}

impl Rules {
    /// What the policy says of this image now; of equal rows the one that accepts it, and
    /// of these the one that is no exception or lasts longest.
    pub(crate) fn os_image(&self, seen: &SeenImage, now: UnixTime) -> ImageDecision<'_> {
        let rows = self.os_images.iter();
        let rows: Vec<_> = rows
            .filter_map(|own| {
                let row = ImageRow {
                    row: Row {
                        name: &own.name,
                        exception: own.exception.as_ref(),
                    },
                    forms: own.forms(seen)?,
                    warned: own.warn_from.filter(|day| now >= day.start()),
                    refuse_from: own.refuse_from,
                };
                Some(row)
            })
            .collect();
        let withdrawn = |row: &&ImageRow<'_>| row.refuse_from.filter(|day| now >= day.start());
        let open = rows.iter().filter(|row| withdrawn(row).is_none());
        if let Some(best) = best(open, |row| row.row, now) {
            return ImageDecision::Accepted(*best);
        }
        let ended = rows.iter().find_map(|row| Some((row, withdrawn(&row)?)));
        ended.map_or(ImageDecision::Unknown, |(row, since)| {
            ImageDecision::Withdrawn {
                name: row.row.name,
                since,
            }
        })
    }
}

/// A known weakness of images that concerns a user who hides prompts from the host. It
/// is a finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageAdvisory {
    id: String,
    pub(crate) severity: Severity,
    /// By their names in the policy.
    pub(crate) images: BTreeSet<String>,
    /// The first version without it.
    fixed: String,
    /// What it lets somebody do.
    what: String,
}

impl ImageAdvisory {
    pub(crate) fn concerns(&self, image: &str) -> bool {
        self.images.contains(image)
    }
}

impl fmt::Display for ImageAdvisory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; fixed in {}", self.id, self.what, self.fixed)
    }
}
