//! The metadata by which a firmware is loaded into a TD, and the MRTD that follows
//! (Intel TDX Virtual Firmware Design Guide, "TDVF Metadata"; Intel TDX Module ABI,
//! TDH.MEM.PAGE.ADD and TDH.MR.EXTEND).

use super::error::FirmwareError as Error;
use super::{place, u16_at, u32_at, u64_at};
use crate::base::hash::{self, Sha384};

/// 96b582de-1fb2-45f7-baea-a366c55a082d, as a file has it.
const FOOTER: [u8; 16] = [
    0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d,
];
/// e47a6535-984a-4798-865e-4685a7bf8ec2, as a file has it.
const TDX: [u8; 16] = [
    0x35, 0x65, 0x7a, 0xe4, 0x4a, 0x98, 0x98, 0x47, 0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2,
];
/// A length and a GUID.
const ENTRY: u16 = 18;
/// The reset vector comes after the table.
const AFTER_TABLE: usize = 32;

/// Firmware of dstack and of Debian has six sections.
const MAX_SECTIONS: u32 = 64;
/// 256 MiB; dstack's firmware has 4 MiB, and less than 1 MiB besides.
const MAX_PAGES: u64 = 65_536;
const PAGE: u64 = 4096;
const CHUNK: usize = 256;

const CODE: u32 = 0;
const VARIABLES: u32 = 1;
const TD_HOB: u32 = 2;
const TEMPORARY: u32 = 3;

/// A section of a firmware, with whole pages inside the address space.
#[derive(Debug, Clone, Copy)]
struct Section<'a> {
    kind: u32,
    /// Its content is measured (MR.EXTEND).
    measured: bool,
    /// Its pages are added while the TD runs (PAGE.AUG), and are not measured.
    later: bool,
    gpa: u64,
    size: u64,
    data: &'a [u8],
}

/// In which order pages are added and measured. QEMU 8 adds all pages of a section
/// first; later versions measure each page at once.
#[derive(Debug, Clone, Copy)]
pub(super) enum Passes {
    One,
    Two,
}

/// A firmware with valid metadata.
#[derive(Debug)]
pub(super) struct Tdvf<'a> {
    sections: Vec<Section<'a>>,
    variables: &'a [u8],
}

impl<'a> Tdvf<'a> {
    pub(super) fn read(file: &'a [u8]) -> Result<Self, Error> {
        let descriptor = descriptor(file)?;
        let sections = sections(file, descriptor)?;
        let count = |kind| sections.iter().filter(|own| own.kind == kind).count();
        for (kind, what) in [
            (CODE, "code"),
            (VARIABLES, "configuration"),
            (TD_HOB, "the hand-off block list"),
        ] {
            let got = count(kind);
            if got != 1 {
                return Err(Error::SectionCount { what, got });
            }
        }
        let code = |own: &Section<'_>| own.kind == CODE && !own.measured;
        if let Some(section) = sections.iter().position(code) {
            return Err(Error::CodeNotMeasured { section });
        }
        let variables = sections.iter().find(|own| own.kind == VARIABLES);
        let variables = variables.map_or(&[][..], |own| own.data);
        Ok(Self {
            sections,
            variables,
        })
    }

    /// RTMR0's second event: the configuration as the firmware is shipped with it.
    pub(super) fn cfv_digest(&self) -> [u8; 48] {
        hash::sha384(&[self.variables])
    }

    /// Memory that is accepted before the firmware reads the list, as (start, length).
    pub(super) fn accepted(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<_> = self
            .sections
            .iter()
            .filter(|own| matches!(own.kind, TD_HOB | TEMPORARY))
            .map(|own| (own.gpa, own.size))
            .collect();
        ranges.sort_unstable();
        ranges
    }

    pub(super) fn mrtd(&self, passes: Passes) -> [u8; 48] {
        let mut hash = Sha384::new();
        for section in &self.sections {
            match passes {
                Passes::One => {
                    for page in section.pages() {
                        section.add(&mut hash, page);
                        section.extend(&mut hash, page);
                    }
                }
                Passes::Two => {
                    section
                        .pages()
                        .for_each(|page| section.add(&mut hash, page));
                    section
                        .pages()
                        .for_each(|page| section.extend(&mut hash, page));
                }
            }
        }
        hash.finish()
    }
}

impl Section<'_> {
    /// Where each page begins, from the section's beginning.
    fn pages(&self) -> impl Iterator<Item = u64> {
        (0..self.size).step_by(4096)
    }

    fn add(&self, hash: &mut Sha384, page: u64) {
        if !self.later {
            hash.update(&operation(b"MEM.PAGE.ADD", self.gpa.wrapping_add(page)));
        }
    }

    fn extend(&self, hash: &mut Sha384, page: u64) {
        if !self.measured {
            return;
        }
        let content = usize::try_from(page)
            .ok()
            .and_then(|from| self.data.get(from..))
            .and_then(|rest| rest.first_chunk::<4096>())
            .map_or(&[][..], |content| content);
        let mut gpa = self.gpa.wrapping_add(page);
        for chunk in content.chunks(CHUNK) {
            hash.update(&operation(b"MR.EXTEND", gpa));
            hash.update(chunk);
            gpa = gpa.wrapping_add(256);
        }
    }
}

/// What an operation adds to MRTD: its name, zeros up to 16 bytes, an address, zeros.
fn operation(name: &[u8], gpa: u64) -> [u8; 128] {
    let mut block = [0; 128];
    let address = gpa.to_le_bytes();
    let bytes = name.iter().chain(std::iter::repeat(&0)).take(16);
    for (to, from) in block.iter_mut().zip(bytes.chain(&address)) {
        *to = *from;
    }
    block
}

/// The bytes from the metadata on, which the table at the file's end locates.
fn descriptor(file: &[u8]) -> Result<&[u8], Error> {
    let no_table = Error::NoTable { size: file.len() };
    let table = file.len().checked_sub(AFTER_TABLE);
    let Some(before) = table.and_then(|end| file.get(..end)) else {
        return Err(no_table);
    };
    let Some((length, above)) = last_entry(before) else {
        return Err(no_table);
    };
    if !above.ends_with(&FOOTER) {
        return Err(no_table);
    }
    // The footer's length is the whole table's, its own entry included.
    let table = usize::from(length)
        .checked_sub(usize::from(ENTRY))
        .and_then(|rest| {
            let end = before.len().checked_sub(usize::from(ENTRY))?;
            file.get(end.checked_sub(rest)?..end)
        });
    let Some(mut table) = table else {
        return Err(Error::TableLength {
            got: length,
            least: ENTRY,
            most: before.len(),
        });
    };
    let mut found = Vec::new();
    while !table.is_empty() {
        let most = table.len();
        let length = last_entry(table).map_or(0, |(length, _)| length);
        let entry = (length >= ENTRY)
            .then(|| most.checked_sub(usize::from(length)))
            .flatten()
            .and_then(|start| table.split_at_checked(start));
        let Some((rest, entry)) = entry else {
            return Err(Error::EntryLength { got: length, most });
        };
        if entry.ends_with(&TDX) {
            found.push(entry);
        }
        table = rest;
    }
    // Of two entries, readers could use the first or the last.
    let &[entry] = found.as_slice() else {
        return Err(Error::TdxEntries { got: found.len() });
    };
    // Of a longer entry, QEMU would read the first four bytes, and other readers the
    // last.
    let data = entry.len().saturating_sub(usize::from(ENTRY));
    let Some(distance) = u32_at(entry, 0).filter(|_| data == 4) else {
        return Err(Error::TdxEntryLength { got: data });
    };
    let start = file.len().checked_sub(place(distance));
    start
        .and_then(|start| file.get(start..))
        .filter(|descriptor| descriptor.len() >= 16)
        .ok_or(Error::DescriptorPlace {
            distance,
            size: file.len(),
        })
}

/// The length that the last entry of a table states, and the bytes that end in its GUID.
fn last_entry(table: &[u8]) -> Option<(u16, &[u8])> {
    let start = table.len().checked_sub(usize::from(ENTRY))?;
    Some((u16_at(table, start)?, table))
}

fn sections<'a>(file: &'a [u8], descriptor: &[u8]) -> Result<Vec<Section<'a>>, Error> {
    if !descriptor.starts_with(b"TDVF") {
        return Err(Error::Signature);
    }
    let number = |at| u32_at(descriptor, at).unwrap_or_default();
    let (length, version, count) = (number(4), number(8), number(12));
    if version != 1 {
        return Err(Error::Version { got: version });
    }
    if !(1..=MAX_SECTIONS).contains(&count) {
        return Err(Error::Sections {
            got: count,
            limit: MAX_SECTIONS,
        });
    }
    let expected = count.saturating_mul(32).saturating_add(16);
    if length != expected {
        return Err(Error::DescriptorLength {
            got: length,
            expected,
        });
    }
    let Some(table) = descriptor.get(16..place(expected)) else {
        return Err(Error::DescriptorCut {
            got: descriptor.len(),
            expected,
        });
    };
    let mut pages = 0_u64;
    let mut read = Vec::new();
    for (section, entry) in table.chunks_exact(32).enumerate() {
        read.push(one_section(file, entry, section, &mut pages)?);
    }
    must_not_overlap(&read)?;
    Ok(read.into_iter().map(|(section, _)| section).collect())
}

/// A section, and where its content begins in the file.
fn one_section<'a>(
    file: &'a [u8],
    entry: &[u8],
    section: usize,
    pages: &mut u64,
) -> Result<(Section<'a>, usize), Error> {
    let short = |at| u32_at(entry, at).unwrap_or_default();
    let long = |at| u64_at(entry, at).unwrap_or_default();
    let (offset, raw, gpa, size) = (short(0), short(4), long(8), long(16));
    let (kind, attributes) = (short(24), short(28));
    if kind > TEMPORARY {
        return Err(Error::SectionType { section, got: kind });
    }
    if attributes > 2 {
        return Err(Error::Attributes {
            section,
            got: attributes,
        });
    }
    if size == 0 || !gpa.is_multiple_of(PAGE) || !size.is_multiple_of(PAGE) {
        return Err(Error::NotPages { section, gpa, size });
    }
    if gpa.checked_add(size).is_none() {
        return Err(Error::AddressWraps { section, gpa, size });
    }
    *pages = pages.saturating_add(size.checked_div(PAGE).unwrap_or(u64::MAX));
    if *pages > MAX_PAGES {
        return Err(Error::Pages {
            section,
            got: *pages,
            limit: MAX_PAGES,
        });
    }
    let measured = attributes == 1;
    // For missing bytes, one reader would measure zeros and another the bytes that
    // follow.
    if measured && u64::from(raw) != size {
        return Err(Error::MeasuredSizes { section, raw, size });
    }
    let data = place(offset)
        .checked_add(place(raw))
        .and_then(|end| file.get(place(offset)..end));
    let Some(data) = data else {
        return Err(Error::DataPlace {
            section,
            offset,
            raw,
            file: file.len(),
        });
    };
    let section = Section {
        kind,
        measured,
        later: attributes == 2,
        gpa,
        size,
        data,
    };
    Ok((section, place(offset)))
}

/// Checks that no page is added twice and no byte of the file belongs to two sections,
/// which also bounds the hashed bytes by the file's size.
fn must_not_overlap(sections: &[(Section<'_>, usize)]) -> Result<(), Error> {
    for (second, (own, offset)) in sections.iter().enumerate() {
        for (first, (other, other_offset)) in sections.iter().enumerate().take(second) {
            let ends = |from: u64, length: u64| from.saturating_add(length);
            let in_memory =
                own.gpa < ends(other.gpa, other.size) && other.gpa < ends(own.gpa, own.size);
            let end = |from: usize, data: &[u8]| from.saturating_add(data.len());
            let in_file =
                *offset < end(*other_offset, other.data) && *other_offset < end(*offset, own.data);
            let place = match (in_memory, in_file) {
                (true, _) => "memory",
                (_, true) => "the file",
                _ => continue,
            };
            return Err(Error::Overlap {
                first,
                second,
                place,
            });
        }
    }
    Ok(())
}
