//! `metadata.json`: what the release states about itself.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::ImageError;
use crate::base::json;
use crate::base::text::{quoted, shown};

/// One object of ten members in real files.
const LIMITS: json::Limits = json::Limits {
    depth: 4,
    values: 256,
    members: 64,
};

/// The most bytes of a command line that Linux reads on x86 (COMMAND_LINE_SIZE).
const MAX_COMMAND_LINE: usize = 2048;

/// Which events the firmware measures into RTMR0.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OvmfVariant {
    /// Thirteen events, all of which can be recomputed.
    Pre202505,
    /// Seventeen, one of which depends on the machine's SMBIOS tables.
    Stable202505,
    /// A name that this program does not know; printable and bounded.
    Other(String),
    /// Not stated, as before dstack 0.5.10.
    NotStated,
}

impl OvmfVariant {
    /// Why RTMR0 of such a firmware cannot be recomputed; none if it can.
    #[must_use]
    pub fn rtmr0_not_recomputable(&self) -> Option<&'static str> {
        match self {
            Self::Pre202505 | Self::NotStated => None,
            Self::Stable202505 => Some(
                "this firmware (stable202505) measures SMBIOS tables into RTMR0, which cannot be recomputed; refuse the image",
            ),
            Self::Other(_) => Some(
                "this version of verified-proxy does not know which events this firmware measures into RTMR0",
            ),
        }
    }
}

impl fmt::Display for OvmfVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pre202505 => "pre202505",
            Self::Stable202505 => "stable202505",
            Self::Other(name) => name,
            Self::NotStated => "not stated",
        })
    }
}

/// The members of `metadata.json`. Texts are printable; nothing in it is a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// The release's version.
    pub version: String,
    /// The commit that it was made from, if the file states one.
    pub git_revision: Option<String>,
    /// A development image: the machine's operator can log in.
    pub is_dev: bool,
    /// The kernel's command line.
    pub cmdline: String,
    /// Which events the firmware measures.
    pub ovmf_variant: OvmfVariant,
    /// The kernel's header is shipped as QEMU would rewrite it.
    pub kernel_header_normalized: bool,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    version: Option<&'a RawValue>,
    #[serde(borrow)]
    git_revision: Option<&'a RawValue>,
    #[serde(borrow)]
    is_dev: Option<&'a RawValue>,
    #[serde(borrow)]
    cmdline: Option<&'a RawValue>,
    #[serde(borrow)]
    ovmf_variant: Option<&'a RawValue>,
    #[serde(borrow)]
    kernel_header_normalized: Option<&'a RawValue>,
    #[serde(borrow)]
    bios: Option<&'a RawValue>,
    #[serde(borrow)]
    kernel: Option<&'a RawValue>,
    #[serde(borrow)]
    initrd: Option<&'a RawValue>,
}

impl Metadata {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        let wire: Wire<'_> =
            json::parse_object(bytes, &LIMITS).map_err(|error| ImageError::Metadata {
                detail: error.to_string(),
            })?;
        // A machine boots the files that are named here; files of other names would not
        // be the measured ones.
        for (member, raw, expected) in [
            ("bios", wire.bios, "\"ovmf.fd\""),
            ("kernel", wire.kernel, "\"bzImage\""),
            ("initrd", wire.initrd, "\"initramfs.cpio.gz\""),
        ] {
            let found = text(member, expected, raw)?;
            if format!("\"{found}\"") != expected {
                return Err(wrong(member, expected, raw));
            }
        }
        let cmdline = text("cmdline", "a command line of printable ASCII", wire.cmdline)?;
        // The firmware measures it as UTF-16, converted from bytes, which is unambiguous
        // for ASCII only.
        if cmdline.len() > MAX_COMMAND_LINE || !cmdline.chars().all(|c| (' '..='~').contains(&c)) {
            return Err(wrong(
                "cmdline",
                "at most 2048 characters of printable ASCII",
                wire.cmdline,
            ));
        }
        Ok(Self {
            version: shown(&text("version", "a version", wire.version)?),
            git_revision: match wire.git_revision {
                None => None,
                some => Some(shown(&text("git_revision", "a text", some)?)),
            },
            is_dev: flag("is_dev", wire.is_dev)?,
            cmdline: cmdline.into_owned(),
            ovmf_variant: match wire.ovmf_variant {
                None => OvmfVariant::NotStated,
                some => match &*text("ovmf_variant", "a text", some)? {
                    "pre202505" => OvmfVariant::Pre202505,
                    "stable202505" => OvmfVariant::Stable202505,
                    other => OvmfVariant::Other(shown(other)),
                },
            },
            kernel_header_normalized: match wire.kernel_header_normalized {
                None => false,
                some => flag("kernel_header_normalized", some)?,
            },
        })
    }
}

fn wrong(member: &'static str, expected: &'static str, raw: Option<&RawValue>) -> ImageError {
    ImageError::MetadataMember {
        member,
        expected,
        got: raw.map_or_else(|| "nothing".to_owned(), |raw| quoted(raw.get())),
    }
}

fn text<'a>(
    member: &'static str,
    expected: &'static str,
    raw: Option<&'a RawValue>,
) -> Result<Cow<'a, str>, ImageError> {
    raw.and_then(json::text)
        .ok_or_else(|| wrong(member, expected, raw))
}

fn flag(member: &'static str, raw: Option<&RawValue>) -> Result<bool, ImageError> {
    match raw.map(RawValue::get) {
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        _ => Err(wrong(member, "true or false", raw)),
    }
}
