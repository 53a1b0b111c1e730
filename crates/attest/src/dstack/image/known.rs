//! The images of dstack that this program knows: names, dates and weaknesses, and
//! registers where all of them were computed or seen. This table accepts no image: the
//! policy does.

use std::cmp::Ordering;
use std::sync::OnceLock;

use serde::Deserialize;

use super::files::{Measured, Mrtd};
use crate::base::exception::Day;
use crate::base::finding::Severity;
use crate::base::hex::Hex;

const KNOWN: &str = include_str!("known.toml");

/// The name in `confirmed_by` for quotes of NEAR AI's own machines.
const SEEN_BY_US: &str = "near-capture";

/// All registers that depend on the image alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageRegisters {
    /// By QEMU 9.0 and later.
    pub mrtd: [u8; 48],
    /// By QEMU 8, where it was computed or seen.
    pub mrtd_two_pass: Option<[u8; 48]>,
    /// With 2816 MiB of memory or more.
    pub rtmr1: [u8; 48],
    /// Command line and initrd.
    pub rtmr2: [u8; 48],
}

/// An image that this program knows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownImage {
    /// Such as `dstack-nvidia-0.5.11`.
    pub name: String,
    /// Such as `0.5.11`.
    pub version: String,
    /// The day of its release, where it is known.
    pub released: Option<Day>,
    /// A development image: the machine's operator can log in.
    pub dev: bool,
    /// A release candidate.
    pub prerelease: bool,
    /// Why no policy should accept it.
    pub refuse: Option<String>,
    /// SHA-256 of its list of files.
    pub os_image_hash: Option<[u8; 32]>,
    /// All of its registers, or none.
    pub registers: Option<ImageRegisters>,
    /// MRTD as the release's page states it; nothing else confirms it.
    pub mrtd_published: Option<[u8; 48]>,
    /// Which events its firmware measures into RTMR0.
    pub ovmf_variant: Option<String>,
    /// Its kernel is shipped as QEMU would rewrite it.
    pub kernel_header_normalized: bool,
    /// The sources that confirm these values.
    pub confirmed_by: Vec<String>,
}

/// A known weakness of images, for a person whose prompts must stay hidden from the
/// machine's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownAdvisory {
    /// Such as `GHSA-jxq2-hpw3-m5wf`.
    pub id: String,
    /// How serious it is.
    pub severity: Severity,
    /// What an attacker can do with it.
    pub what: String,
    lines: Vec<Line>,
}

/// Whether an image has a weakness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weakness {
    /// It has.
    Open,
    /// It is not known whether it has.
    NotStated,
    /// It has not.
    Closed,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    line: String,
    fixed: Option<String>,
    fixed_by: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    image: Vec<FileImage>,
    advisory: Vec<FileAdvisory>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileImage {
    name: String,
    version: String,
    released: Option<Day>,
    #[serde(default)]
    dev: bool,
    #[serde(default)]
    prerelease: bool,
    refuse: Option<String>,
    os_image_hash: Option<Hex<32>>,
    mrtd: Option<Hex<48>>,
    mrtd_two_pass: Option<Hex<48>>,
    rtmr1: Option<Hex<48>>,
    rtmr2: Option<Hex<48>>,
    mrtd_published: Option<Hex<48>>,
    ovmf_variant: Option<String>,
    #[serde(default)]
    kernel_header_normalized: bool,
    #[serde(default)]
    confirmed_by: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileAdvisory {
    id: String,
    severity: Severity,
    what: String,
    lines: Vec<Line>,
}

struct Known {
    images: Vec<KnownImage>,
    advisories: Vec<KnownAdvisory>,
}

fn table() -> &'static Known {
    static TABLE: OnceLock<Known> = OnceLock::new();
    // An unreadable text would give an empty table; a test rules that out.
    TABLE.get_or_init(|| {
        read(KNOWN).unwrap_or(Known {
            images: Vec::new(),
            advisories: Vec::new(),
        })
    })
}

fn read(text: &str) -> Result<Known, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let images = file.image.into_iter().map(KnownImage::of);
    let advisories = file.advisory.into_iter().map(|own| KnownAdvisory {
        id: own.id,
        severity: own.severity,
        what: own.what,
        lines: own.lines,
    });
    Ok(Known {
        images: images.collect::<Result<_, _>>()?,
        advisories: advisories.collect(),
    })
}

/// Every image that this program knows, in the order of versions.
#[must_use]
pub fn known() -> &'static [KnownImage] {
    &table().images
}

/// The image with this hash, if this program knows it.
#[must_use]
pub fn known_by_hash(os_image_hash: &[u8; 32]) -> Option<&'static KnownImage> {
    known()
        .iter()
        .find(|image| image.os_image_hash.as_ref() == Some(os_image_hash))
}

/// Every weakness of images that this program knows.
#[must_use]
pub fn known_advisories() -> &'static [KnownAdvisory] {
    &table().advisories
}

impl KnownImage {
    fn of(file: FileImage) -> Result<Self, String> {
        let registers = match (file.mrtd, file.rtmr1, file.rtmr2) {
            (Some(mrtd), Some(rtmr1), Some(rtmr2)) => Some(ImageRegisters {
                mrtd: mrtd.0,
                mrtd_two_pass: file.mrtd_two_pass.map(|digest| digest.0),
                rtmr1: rtmr1.0,
                rtmr2: rtmr2.0,
            }),
            (None, None, None) if file.mrtd_two_pass.is_none() => None,
            _ => {
                return Err(format!(
                    "{}: registers are given whole or not at all",
                    file.name
                ));
            }
        };
        Ok(Self {
            name: file.name,
            version: file.version,
            released: file.released,
            dev: file.dev,
            prerelease: file.prerelease,
            refuse: file.refuse,
            os_image_hash: file.os_image_hash.map(|hash| hash.0),
            registers,
            mrtd_published: file.mrtd_published.map(|digest| digest.0),
            ovmf_variant: file.ovmf_variant,
            kernel_header_normalized: file.kernel_header_normalized,
            confirmed_by: file.confirmed_by,
        })
    }

    /// True if a quote with its registers was verified under Intel's root.
    #[must_use]
    pub fn seen_on_hardware(&self) -> bool {
        self.registers.is_some() && self.confirmed_by.iter().any(|who| who == SEEN_BY_US)
    }

    /// The weaknesses that it has, or may have.
    pub fn weaknesses(&self) -> impl Iterator<Item = (&'static KnownAdvisory, Weakness)> {
        known_advisories()
            .iter()
            .map(|advisory| (advisory, advisory.of(self)))
            .filter(|(_, weakness)| *weakness != Weakness::Closed)
    }

    /// The name of the first value of the files that differs from the known one; none
    /// if all agree or no value is known.
    #[must_use]
    pub fn differs_from(&self, measured: &Measured<'_>) -> Option<&'static str> {
        let Mrtd {
            single_pass,
            two_pass,
        } = measured.mrtd();
        if self.mrtd_published.is_some_and(|mrtd| mrtd != single_pass) {
            return Some("MRTD");
        }
        let own = self.registers?;
        let two_pass_differs = own.mrtd_two_pass.is_some_and(|mrtd| mrtd != two_pass);
        if own.mrtd != single_pass || two_pass_differs {
            return Some("MRTD");
        }
        if own.rtmr1 != measured.rtmr1() {
            return Some("RTMR1");
        }
        (own.rtmr2 != measured.rtmr2()).then_some("RTMR2")
    }
}

impl KnownAdvisory {
    /// Whether this image has the weakness.
    #[must_use]
    pub fn of(&self, image: &KnownImage) -> Weakness {
        let version = numbers(&image.version);
        let line = version.get(..2).unwrap_or_default();
        let own = self.lines.iter().find(|own| numbers(&own.line) == line);
        let Some(own) = own else {
            let is_behind = self
                .lines
                .iter()
                .all(|own| numbers(&own.line) < line.to_vec());
            return if is_behind {
                Weakness::Closed
            } else {
                Weakness::NotStated
            };
        };
        let is_before = |fixed: &String| match version.cmp(&numbers(fixed)) {
            Ordering::Less => true,
            // A release candidate is older than the version that it is for.
            Ordering::Equal => image.prerelease,
            Ordering::Greater => false,
        };
        match (&own.fixed, &own.fixed_by) {
            (Some(fixed), _) if is_before(fixed) => Weakness::Open,
            (None, Some(fixed)) if is_before(fixed) => Weakness::NotStated,
            (None, None) => Weakness::NotStated,
            _ => Weakness::Closed,
        }
    }

    /// The versions without it, in words, such as `fixed in 0.5.12, fixed in 0.6.0`.
    #[must_use]
    pub fn fixed(&self) -> String {
        let lines = self.lines.iter();
        let lines = lines.map(|own| match (&own.fixed, &own.fixed_by) {
            (Some(fixed), _) => format!("fixed in {fixed}"),
            (None, Some(fixed)) => format!("fixed in {fixed} or before"),
            (None, None) => format!("not stated for {}", own.line),
        });
        lines.collect::<Vec<_>>().join(", ")
    }
}

/// The numbers of a version, without what follows a hyphen.
fn numbers(version: &str) -> Vec<u32> {
    let release = version.split('-').next().unwrap_or_default();
    release
        .split('.')
        .map(|number| number.parse().unwrap_or_default())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_can_be_read() {
        let known = read(KNOWN).unwrap();
        assert!(known.images.len() > 30);
        assert_eq!(known.advisories.len(), 10);
    }

    #[test]
    fn registers_are_whole_or_absent() {
        let whole = "[[image]]\nname = \"x\"\nversion = \"1\"\n";
        let some = format!("mrtd = \"{}\"\n", "00".repeat(48));
        let text = |image: String| {
            format!(
                "{image}\n[[advisory]]\nid = \"x\"\nseverity = \"info\"\nwhat = \"x\"\nlines = []\n"
            )
        };
        assert!(read(&text(whole.to_owned())).is_ok());
        assert!(read(&text(format!("{whole}{some}"))).is_err());
        assert!(
            read(&text(format!(
                "{whole}{}",
                some.replace("mrtd", "mrtd_two_pass")
            )))
            .is_err()
        );
    }

    #[test]
    fn files_that_are_not_the_known_image() {
        let image = fake_tee::Image::small();
        let contents = image.contents();
        let files = contents.iter();
        let files = files.map(|(name, content)| (name.as_str(), content.as_slice()));
        let list = super::super::FileList::read(&image.list()).unwrap();
        let measured = list.measure(&files.collect()).unwrap();
        let mrtd = measured.mrtd();
        let own = ImageRegisters {
            mrtd: mrtd.single_pass,
            mrtd_two_pass: Some(mrtd.two_pass),
            rtmr1: measured.rtmr1(),
            rtmr2: measured.rtmr2(),
        };
        let differs = |registers, mrtd_published| {
            let image = KnownImage {
                registers,
                mrtd_published,
                ..known().first().unwrap().clone()
            };
            image.differs_from(&measured)
        };
        assert_eq!(differs(None, None), None);
        assert_eq!(differs(None, Some(mrtd.single_pass)), None);
        assert_eq!(differs(None, Some(mrtd.two_pass)), Some("MRTD"));
        assert_eq!(differs(Some(own), None), None);
        let with = |change: fn(&mut ImageRegisters)| {
            let mut other = own;
            change(&mut other);
            differs(Some(other), None)
        };
        assert_eq!(with(|own| own.mrtd_two_pass = None), None);
        assert_eq!(with(|own| own.mrtd = [0; 48]), Some("MRTD"));
        assert_eq!(with(|own| own.mrtd_two_pass = Some([0; 48])), Some("MRTD"));
        assert_eq!(with(|own| own.rtmr1 = [0; 48]), Some("RTMR1"));
        assert_eq!(with(|own| own.rtmr2 = [0; 48]), Some("RTMR2"));
    }
}
