//! The registers of a guest that boots a release of dstack, from the release's files.
//!
//! Firmware, kernel, initrd and command line decide MRTD, RTMR1 and RTMR2 alone: with
//! 2816 MiB of memory or more, they do not depend on the host. So the registers of an
//! honest machine can be computed from the files. The files cannot prove that they are a
//! release.

mod error;
mod files;
mod kernel;
mod known;
mod metadata;
mod tdvf;

pub use self::error::{FirmwareError, ImageError, KernelError};
pub use self::files::{FileList, KernelHeader, Measured, Mrtd};
pub use self::known::{
    ImageRegisters, KnownAdvisory, KnownImage, Weakness, known, known_advisories, known_by_hash,
};
pub use self::metadata::{Metadata, OvmfVariant};

/// A number in a file: none where the file ends before.
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A place in a file; a number that does not fit is past every file's end.
fn place(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
