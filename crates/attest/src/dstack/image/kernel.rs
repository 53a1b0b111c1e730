//! The kernel as the firmware measures it: the Authenticode digest of a PE file after
//! QEMU changed its setup header.
//!
//! QEMU up to 10.1 writes where command line and initrd lie into the header (Linux boot
//! protocol, Documentation/arch/x86/boot.rst); from 10.2 on it leaves the header of a
//! confidential guest alone.

use super::error::KernelError as Error;
use super::{place, u16_at, u32_at};
use crate::base::hash::Sha384;

/// Up to the last field of the setup header that is read or written here.
const HEADER: usize = 0x238;
const HEAP: usize = 0x211;
/// The protocol that has flags about where an initrd may lie.
const LEAST_PROTOCOL: u16 = 0x20c;
/// The kernel accepts an initrd above 4 GiB (bit 1); every kernel seen has bit 6 too.
/// QEMU reads bit 1, dstack's own program reads bit 6.
const INITRD_ANYWHERE: u16 = 1 << 1 | 1 << 6;

const LOADED_HIGH: u8 = 1;
const CAN_USE_HEAP: u8 = 0x80;
const LOADER_QEMU: u8 = 0xb0;
const REAL_MODE: u32 = 0x1_0000;
const COMMAND_LINE: u32 = 0x2_0000;

/// Memory from here on is split, with this much below 4 GiB.
pub(super) const SPLIT_FROM: u64 = 0xb000_0000;
const BELOW_SPLIT: u64 = 0x8000_0000;
/// QEMU keeps this much below 4 GiB for ACPI tables.
const ACPI_DATA: u64 = 0x2_8000;

const PE32: u16 = 0x10b;
const PE32_PLUS: u16 = 0x20b;
/// The directory of signatures is the fifth.
const LEAST_DIRECTORIES: u32 = 5;
const MOST_DIRECTORIES: u32 = 16;
/// The most sections that Windows loads (PE format, "COFF File Header"); Linux has
/// four.
const MAX_SECTIONS: u16 = 96;

/// A kernel whose PE headers describe the whole file without gaps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel<'a> {
    file: &'a [u8],
    header: [u8; HEADER],
    /// The place of the checksum, which is not measured.
    checksum: usize,
    /// The place of the directory of signatures, which is not measured.
    directory: usize,
    /// Where signatures begin.
    end: usize,
}

impl<'a> Kernel<'a> {
    pub(super) fn read(file: &'a [u8]) -> Result<Self, Error> {
        let header = *file.first_chunk().ok_or(Error::TooShort {
            size: file.len(),
            least: HEADER,
        })?;
        must_be_linux(file, &header)?;
        let at = u32_at(file, 0x3c).unwrap_or_default();
        let no_pe = Error::NoPeHeader { at };
        let pe = place(at);
        let from_pe = |offset: usize| pe.checked_add(offset);
        let found = file.get(pe..).unwrap_or_default();
        if !file.starts_with(b"MZ") || !found.starts_with(b"PE\0\0") {
            return Err(no_pe);
        }
        let (Some(count), Some(length), Some(kind)) =
            (u16_at(found, 6), u16_at(found, 20), u16_at(found, 24))
        else {
            return Err(no_pe);
        };
        // Of the optional header: the number of directories, and the directories.
        let directories_at: usize = match kind {
            PE32 => 92,
            PE32_PLUS => 108,
            got => return Err(Error::OptionalHeader { got }),
        };
        let needed = directories_at.saturating_add(44);
        if usize::from(length) < needed {
            return Err(Error::OptionalHeaderLength {
                got: length,
                needed,
            });
        }
        if !(1..=MAX_SECTIONS).contains(&count) {
            return Err(Error::Sections {
                got: count,
                limit: MAX_SECTIONS,
            });
        }
        let optional = found.get(24..).unwrap_or_default();
        let (Some(headers), Some(directories), Some(checksum), Some(directory)) = (
            u32_at(optional, 60),
            u32_at(optional, directories_at),
            from_pe(24 + 64),
            directories_at.checked_add(24 + 36).and_then(from_pe),
        ) else {
            return Err(no_pe);
        };
        if !(LEAST_DIRECTORIES..=MOST_DIRECTORIES).contains(&directories) {
            return Err(Error::Directories {
                got: directories,
                most: MOST_DIRECTORIES,
            });
        }
        let table = from_pe(24).and_then(|at| at.checked_add(usize::from(length)));
        let table_end = table.and_then(|at| at.checked_add(usize::from(count).checked_mul(40)?));
        let (Some(table), Some(table_end)) = (table, table_end) else {
            return Err(no_pe);
        };
        if place(headers) < table_end || place(headers) > file.len() {
            return Err(Error::HeadersSize {
                got: headers,
                least: table_end,
                most: file.len(),
            });
        }
        let sections = file.get(table..table_end).unwrap_or_default();
        let end = end_of_sections(file, sections, place(headers))?;
        let signatures = file.get(directory..).unwrap_or_default();
        must_end_in_signatures(
            file,
            end,
            u32_at(signatures, 0).unwrap_or_default(),
            u32_at(signatures, 4).unwrap_or_default(),
        )?;
        Ok(Self {
            file,
            header,
            checksum,
            directory,
            end,
        })
    }

    /// As the file is.
    pub(super) fn unpatched(&self) -> [u8; 48] {
        self.authenticode(&self.header)
    }

    /// The kernel as QEMU up to 10.1 changes it, and whether that equals the file.
    pub(super) fn patched(&self, memory: u64, initrd: usize) -> Result<([u8; 48], bool), Error> {
        let header = self.header_for(memory, initrd)?;
        Ok((self.authenticode(&header), header == self.header))
    }

    fn header_for(&self, memory: u64, initrd: usize) -> Result<[u8; HEADER], Error> {
        let below_4g = if memory >= SPLIT_FROM {
            BELOW_SPLIT
        } else {
            memory
        };
        let does_not_fit = Error::InitrdPlace { initrd, memory };
        let size = u32::try_from(initrd).map_err(|_| does_not_fit.clone())?;
        // It ends where QEMU keeps its tables, or before.
        let address = below_4g
            .checked_sub(ACPI_DATA)
            .and_then(|most| most.checked_sub(1))
            .and_then(|most| most.checked_sub(u64::from(size)))
            .and_then(|address| u32::try_from(address).ok())
            .filter(|address| *address > 0)
            .ok_or(does_not_fit)?;
        let mut header = self.header;
        let flags = header.get(HEAP).copied().unwrap_or_default() | CAN_USE_HEAP;
        let heap_end = COMMAND_LINE.wrapping_sub(REAL_MODE).wrapping_sub(0x200);
        for (at, bytes) in [
            (0x210, &[LOADER_QEMU][..]),
            (HEAP, &[flags]),
            (0x218, &(address & !4095).to_le_bytes()),
            (0x21c, &size.to_le_bytes()),
            (0x224, &heap_end.to_le_bytes()),
            (0x228, &COMMAND_LINE.to_le_bytes()),
        ] {
            for (to, from) in header.iter_mut().skip(at).zip(bytes) {
                *to = *from;
            }
        }
        Ok(header)
    }

    /// The digest of all but checksum, directory of signatures and signatures, with
    /// zeros up to a multiple of eight bytes (Windows Authenticode PE Signature
    /// Format).
    fn authenticode(&self, header: &[u8; HEADER]) -> [u8; 48] {
        let mut hash = Sha384::new();
        let from_directory = self.directory.saturating_add(8);
        for (from, to) in [
            (0, self.checksum),
            (self.checksum.saturating_add(4), self.directory),
            (from_directory, self.end),
        ] {
            hash.update(header.get(from..to.min(HEADER)).unwrap_or_default());
            hash.update(self.file.get(from.max(HEADER)..to).unwrap_or_default());
        }
        let over = self.file.len().checked_rem(8).unwrap_or_default();
        if over > 0 {
            hash.update([0; 8].get(over..).unwrap_or_default());
        }
        hash.finish()
    }
}

fn must_be_linux(file: &[u8], header: &[u8; HEADER]) -> Result<(), Error> {
    let byte = |at: usize| header.get(at).copied().unwrap_or_default();
    let number = |at: usize| u16_at(header, at).unwrap_or_default();
    if header.get(0x202..0x206) != Some(b"HdrS") {
        return Err(Error::NotLinux);
    }
    let protocol = number(0x206);
    if protocol < LEAST_PROTOCOL {
        return Err(Error::Protocol {
            got: protocol,
            least: LEAST_PROTOCOL,
        });
    }
    // The number of sectors of 512 bytes after the first; zero means four.
    let sectors = match byte(0x1f1) {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let says = sectors.saturating_add(1).saturating_mul(512);
    if says > file.len() {
        return Err(Error::Shorter {
            says,
            size: file.len(),
        });
    }
    if byte(HEAP) & LOADED_HIGH == 0 {
        return Err(Error::NotLoadedHigh { got: byte(HEAP) });
    }
    if number(0x236) & INITRD_ANYWHERE != INITRD_ANYWHERE {
        return Err(Error::InitrdFlags { got: number(0x236) });
    }
    Ok(())
}

/// Checks that sections follow the headers and each other without a gap: readers hash
/// bytes between or after them differently.
fn end_of_sections(file: &[u8], table: &[u8], headers: usize) -> Result<usize, Error> {
    let mut sections: Vec<_> = table
        .chunks_exact(40)
        .enumerate()
        .filter_map(|(section, entry)| Some((u32_at(entry, 20)?, u32_at(entry, 16)?, section)))
        .filter(|(_, size, _)| *size > 0)
        .collect();
    sections.sort_unstable();
    let mut end = headers;
    for (at, size, section) in sections {
        if place(at) != end {
            return Err(Error::SectionPlace {
                section,
                got: at,
                expected: end,
            });
        }
        end = end.saturating_add(place(size));
        if end > file.len() {
            return Err(Error::SectionEnd {
                section,
                at,
                size,
                file: file.len(),
            });
        }
    }
    Ok(end)
}

fn must_end_in_signatures(file: &[u8], end: usize, at: u32, size: u32) -> Result<(), Error> {
    let rest = file.len().saturating_sub(end);
    if (at, size) == (0, 0) {
        return if rest == 0 {
            Ok(())
        } else {
            Err(Error::Trailing { got: rest })
        };
    }
    if place(at) == end && place(size) == rest && rest > 0 {
        return Ok(());
    }
    Err(Error::Signatures {
        at,
        size,
        file: file.len(),
    })
}
