//! The files of a release, by the list that names them.

use std::collections::BTreeMap;

use super::error::{ImageError, KernelError};
use super::kernel::{Kernel, SPLIT_FROM};
use super::metadata::Metadata;
use super::tdvf::{Passes, Tdvf};
use crate::base::hash;
use crate::base::text::quoted;
use crate::dstack::rtmr0::{ACCEPTED, ComputedRtmr0, compute_rtmr0};

const LIST: &str = "sha256sum.txt";
const FIRMWARE: &str = "ovmf.fd";
const KERNEL: &str = "bzImage";
const INITRD: &str = "initramfs.cpio.gz";
const METADATA: &str = "metadata.json";

/// The four files that decide the registers, and the most bytes of each; those of
/// dstack 0.5.11 have 4 MiB, 9 MB, 8 MB and 600 bytes.
const CORE: [(&str, usize); 4] = [
    (FIRMWARE, 16 << 20),
    (KERNEL, 64 << 20),
    (INITRD, 64 << 20),
    (METADATA, 64 << 10),
];
/// Other files, which dstack 0.6 lists: measurements of some hundred bytes.
const MAX_OTHER_BYTES: usize = 16 << 20;
/// Releases of 2026 list eight files.
const MAX_LISTED: usize = 32;
const MAX_NAME: usize = 64;

/// The list of a release's files (`sha256sum.txt`). Its own hash names the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileList {
    os_image_hash: [u8; 32],
    listed: BTreeMap<String, String>,
}

impl FileList {
    /// The name of the list.
    pub const NAME: &'static str = LIST;
    /// The most bytes of the list that are read.
    pub const LIMIT: usize = 16 << 10;

    /// Reads a list.
    ///
    /// # Errors [`ImageError`] for a line that `sha256sum` would not write, a duplicate
    /// name, and a list without one of the four files that decide the registers.
    pub fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        must_be_within(LIST, bytes, Self::LIMIT)?;
        let mut listed = BTreeMap::new();
        let mut lines: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
        if lines.pop().is_none_or(|rest| !rest.is_empty()) {
            return Err(ImageError::ListCut);
        }
        for (line, bytes) in (1..).zip(lines) {
            if line > MAX_LISTED {
                return Err(ImageError::ListTooLong { limit: MAX_LISTED });
            }
            let Some((digest, name)) = entry(bytes) else {
                let got = quoted(&String::from_utf8_lossy(bytes));
                return Err(ImageError::ListLine { line, got });
            };
            if listed.insert(name.to_owned(), digest.to_owned()).is_some() {
                let name = name.to_owned();
                return Err(ImageError::ListedTwice { name });
            }
        }
        for (name, _) in CORE {
            if !listed.contains_key(name) {
                return Err(ImageError::NotListed { name });
            }
        }
        Ok(Self {
            os_image_hash: hash::sha256(&[bytes]),
            listed,
        })
    }

    /// SHA-256 of the list, which names the image (`os_image_hash`).
    #[must_use]
    pub fn os_image_hash(&self) -> [u8; 32] {
        self.os_image_hash
    }

    /// The names of the listed files, without folders, and the most bytes of each that
    /// are read.
    pub fn names(&self) -> impl Iterator<Item = (&str, usize)> {
        self.listed.keys().map(|name| {
            let core = CORE.iter().find(|(own, _)| own == name);
            (
                name.as_str(),
                core.map_or(MAX_OTHER_BYTES, |(_, limit)| *limit),
            )
        })
    }

    /// Measures the files, by their names.
    ///
    /// # Errors
    /// [`ImageError`] if one of the four is absent, if a file is not what the list says,
    /// and if it cannot be understood in one way only.
    pub fn measure<'a>(
        &self,
        files: &BTreeMap<&str, &'a [u8]>,
    ) -> Result<Measured<'a>, ImageError> {
        let mut checked = Vec::new();
        let mut not_given = Vec::new();
        for ((name, limit), listed) in self.names().zip(self.listed.values()) {
            let Some(bytes) = files.get(name) else {
                not_given.push(name.to_owned());
                continue;
            };
            must_be_within(name, bytes, limit)?;
            let got = hex::encode(hash::sha256(&[bytes]));
            if got != *listed {
                return Err(ImageError::Digest {
                    name: name.to_owned(),
                    listed: listed.clone(),
                    got,
                });
            }
            checked.push(name.to_owned());
        }
        let file = |name: &'static str| match files.get(name) {
            Some([]) => Err(ImageError::Empty { file: name }),
            Some(bytes) => Ok(*bytes),
            None => Err(ImageError::Absent { name }),
        };
        let metadata = Metadata::read(file(METADATA)?)?;
        let firmware = Tdvf::read(file(FIRMWARE)?)?;
        let initrd = file(INITRD)?;
        let kernel = Kernel::read(file(KERNEL)?)?;
        if metadata.cmdline.contains("vga=") {
            return Err(KernelError::VideoMode.into());
        }
        let (patched, unchanged) = kernel.patched(SPLIT_FROM, initrd.len())?;
        Ok(Measured {
            os_image_hash: self.os_image_hash,
            mrtd: Mrtd {
                single_pass: firmware.mrtd(Passes::One),
                two_pass: firmware.mrtd(Passes::Two),
            },
            cfv: firmware.cfv_digest(),
            accepted: firmware.accepted(),
            rtmr1: rtmr1(patched),
            rtmr1_unpatched: rtmr1(kernel.unpatched()),
            rtmr2: rtmr2(&metadata.cmdline, initrd),
            kernel_header: match (metadata.kernel_header_normalized, unchanged) {
                (true, true) => KernelHeader::Normalized,
                (true, false) => KernelHeader::NotAsStated,
                (false, _) => KernelHeader::Rewritten,
            },
            metadata,
            kernel,
            initrd: initrd.len(),
            checked,
            not_given,
        })
    }
}

fn must_be_within(file: &str, bytes: &[u8], limit: usize) -> Result<(), ImageError> {
    if bytes.len() > limit {
        return Err(ImageError::TooLarge {
            file: file.to_owned(),
            size: bytes.len(),
            limit,
        });
    }
    Ok(())
}

/// `<64 hex digits> <name>`, as `sha256sum` writes it. A name must not be a path.
fn entry(line: &[u8]) -> Option<(&str, &str)> {
    let (digest, name) = std::str::from_utf8(line).ok()?.split_once("  ")?;
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let digest_is_one = digest.len() == 64 && digest.bytes().all(is_hex);
    let name_is_plain = (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(is_plain)
        && !name.starts_with(['.', '-'])
        && name != LIST;
    (digest_is_one && name_is_plain).then_some((digest, name))
}

/// MRTD for both orders in which versions of QEMU add and measure pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mrtd {
    /// By QEMU 9.0 and later: each page is measured as it is added.
    pub single_pass: [u8; 48],
    /// By QEMU 8: all pages of a section are added before it is measured.
    pub two_pass: [u8; 48],
}

/// What QEMU does to the kernel's setup header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelHeader {
    /// QEMU up to 10.1 rewrites it; later versions leave it as it is in the file.
    Rewritten,
    /// The metadata say that the file has it as QEMU would write it, and it does: RTMR1
    /// does not depend on QEMU's version.
    Normalized,
    /// The metadata say so, but the file does not have it so.
    NotAsStated,
}

/// The measurements of a guest that boots these files. They do not prove that the files
/// are a release.
#[derive(Debug)]
pub struct Measured<'a> {
    os_image_hash: [u8; 32],
    metadata: Metadata,
    mrtd: Mrtd,
    cfv: [u8; 48],
    accepted: Vec<(u64, u64)>,
    rtmr1: [u8; 48],
    rtmr1_unpatched: [u8; 48],
    rtmr2: [u8; 48],
    kernel_header: KernelHeader,
    kernel: Kernel<'a>,
    initrd: usize,
    checked: Vec<String>,
    not_given: Vec<String>,
}

impl Measured<'_> {
    /// The least memory from which on RTMR1 does not depend on its size: 2816 MiB.
    pub const CONSTANT_FROM: u64 = SPLIT_FROM;

    /// SHA-256 of the list of files.
    #[must_use]
    pub fn os_image_hash(&self) -> [u8; 32] {
        self.os_image_hash
    }

    /// What the release states about itself.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The firmware's code.
    #[must_use]
    pub fn mrtd(&self) -> Mrtd {
        self.mrtd
    }

    /// The firmware's configuration as it is shipped, RTMR0's second event.
    #[must_use]
    pub fn cfv_digest(&self) -> [u8; 48] {
        self.cfv
    }

    /// Memory that the firmware has accepted before it reads the hand-off block list, as
    /// (start, length); in order.
    #[must_use]
    pub fn accepted_memory(&self) -> &[(u64, u64)] {
        &self.accepted
    }

    /// The kernel, with 2816 MiB of memory or more.
    #[must_use]
    pub fn rtmr1(&self) -> [u8; 48] {
        self.rtmr1
    }

    /// The kernel with this much memory, in bytes.
    ///
    /// # Errors
    /// [`KernelError::InitrdPlace`] where the initrd does not fit.
    pub fn rtmr1_with(&self, memory: u64) -> Result<[u8; 48], KernelError> {
        let (patched, _) = self.kernel.patched(memory, self.initrd)?;
        Ok(rtmr1(patched))
    }

    /// The kernel as it is in the file: QEMU 10.2 and later.
    #[must_use]
    pub fn rtmr1_unpatched(&self) -> [u8; 48] {
        self.rtmr1_unpatched
    }

    /// Command line, which has the root file system's hash, and initrd.
    #[must_use]
    pub fn rtmr2(&self) -> [u8; 48] {
        self.rtmr2
    }

    /// What QEMU does to the kernel's setup header.
    #[must_use]
    pub fn kernel_header(&self) -> KernelHeader {
        self.kernel_header
    }

    /// RTMR0 of a machine of the shape that `vm_config` states, with this firmware.
    ///
    /// # Errors
    /// In words, why it cannot be recomputed.
    pub fn rtmr0(&self, vm_config: &str) -> Result<ComputedRtmr0, String> {
        if let Some(why) = self.metadata.ovmf_variant.rtmr0_not_recomputable() {
            return Err(why.to_owned());
        }
        if self.accepted != ACCEPTED {
            return Err(
                "this firmware accepts other memory than dstack's before it reads the hand-off block list"
                    .to_owned(),
            );
        }
        compute_rtmr0(vm_config, Some(self.cfv)).map_err(|error| error.to_string())
    }

    /// The row of a policy that accepts these files, in every form in which QEMU measures
    /// them with 2816 MiB of memory or more.
    #[must_use]
    pub fn policy_row(&self, name: &str) -> String {
        let name: String = crate::base::text::shown(name)
            .chars()
            .filter(|c| !matches!(c, '"' | '\\'))
            .collect();
        // A row with one value in two forms is refused.
        let other = |one, other| (one != other).then_some(other);
        let Mrtd {
            single_pass,
            two_pass,
        } = self.mrtd;
        let registers = [
            ("mrtd", Some(single_pass)),
            ("mrtd_two_pass", other(single_pass, two_pass)),
            ("rtmr1", Some(self.rtmr1)),
            ("rtmr1_unpatched", other(self.rtmr1, self.rtmr1_unpatched)),
            ("rtmr2", Some(self.rtmr2)),
        ];
        let mut row = format!("[[os_image]]\nname = \"{name}\"\n");
        for (member, digest) in registers {
            if let Some(digest) = digest {
                row.push_str(&format!("{member} = \"{}\"\n", hex::encode(digest)));
            }
        }
        let os_image_hash = hex::encode(self.os_image_hash);
        row + &format!("os_image_hash = \"{os_image_hash}\"\n")
    }

    /// Files whose digests are those of the list.
    #[must_use]
    pub fn checked(&self) -> &[String] {
        &self.checked
    }

    /// Listed files that were not checked.
    #[must_use]
    pub fn not_given(&self) -> &[String] {
        &self.not_given
    }
}

/// The value of a register of zeros after these events.
fn fold(digests: &[[u8; 48]]) -> [u8; 48] {
    let zero = [0; 48];
    digests
        .iter()
        .fold(zero, |register, digest| hash::sha384(&[&register, digest]))
}

/// TCG PC Client Platform Firmware Profile: the events of the started program, and of
/// the exit from boot services.
fn rtmr1(kernel: [u8; 48]) -> [u8; 48] {
    fold(&[
        kernel,
        hash::sha384(&[b"Calling EFI Application from Boot Option"]),
        hash::sha384(&[&[0; 4]]),
        hash::sha384(&[b"Exit Boot Services Invocation"]),
        hash::sha384(&[b"Exit Boot Services Returned with Success"]),
    ])
}

/// The kernel's EFI stub measures the initrd, and the command line that QEMU made, with
/// its terminator.
fn rtmr2(cmdline: &str, initrd: &[u8]) -> [u8; 48] {
    let text: Vec<u8> = cmdline
        .encode_utf16()
        .chain(" initrd=initrd\0".encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    fold(&[hash::sha384(&[&text]), hash::sha384(&[initrd])])
}
