//! The registers of a guest that boots a release of dstack, from the release's files.
//!
//! Firmware, kernel, initrd and command line decide MRTD, RTMR1 and RTMR2 alone: nothing
//! of the host enters them from 2816 MiB of memory on. Whoever has the files can compute
//! what an honest machine must report. That the files are a release is nothing that they
//! could say themselves.

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

/// As a place in a file; what does not fit lies behind every file's end.
fn place(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
