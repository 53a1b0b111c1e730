//! A firmware: flash content, and a description of it for whoever loads it into a TD.

use super::filler;
use crate::hash::sha384;

/// One section of the description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the specification")]
pub struct Section {
    pub data_offset: u32,
    pub raw_size: u32,
    pub gpa: u64,
    pub memory_size: u64,
    pub kind: u32,
    pub attributes: u32,
}

/// A firmware as it is described; each field may lie.
#[derive(Debug, Clone)]
pub struct Firmware {
    /// The flash's content, over which the description is written.
    pub content: Vec<u8>,
    /// The sections, in the table's order.
    pub sections: Vec<Section>,
    /// "TDVF".
    pub signature: [u8; 4],
    /// What it says of its length; `None`: the right one.
    pub length: Option<u32>,
    /// The description's version.
    pub version: u32,
    /// What it says of its number of sections; `None`: the right one.
    pub count: Option<u32>,
    /// Where the description begins, in bytes before the end.
    pub distance: u32,
    /// What the entry for TDX says of that; `None`: the right one.
    pub stated_distance: Option<u32>,
    /// The table's entries from its end downwards: GUID, data, and what the entry says of
    /// its length (`None`: the right one).
    pub entries: Vec<([u8; 16], Vec<u8>, Option<u16>)>,
    /// What the footer says of the table's length; `None`: the right one.
    pub table_length: Option<u16>,
    /// The footer's GUID.
    pub footer: [u8; 16],
}

/// A GUID as a file has it: the first three groups are little-endian.
fn guid(text: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let digits: String = text.chars().filter(|digit| *digit != '-').collect();
    let _ = hex::decode_to_slice(digits, &mut bytes);
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}

const PAGE: usize = 4096;
const SIZE: usize = 6 * PAGE;

impl Firmware {
    /// Two pages of configuration and four of code, with the memory that dstack's
    /// firmware uses.
    pub fn small() -> Self {
        let section = |data_offset, raw_size, gpa, memory_size, kind, attributes| Section {
            data_offset,
            raw_size,
            gpa,
            memory_size,
            kind,
            attributes,
        };
        Self {
            content: filler("fw", SIZE),
            sections: vec![
                section(0x2000, 0x4000, 0xffff_c000, 0x4000, 0, 1),
                section(0, 0x2000, 0xffff_a000, 0x2000, 1, 0),
                section(0, 0, 0x81_0000, 0x1_0000, 3, 0),
                section(0, 0, 0x80_b000, 0x2000, 3, 0),
                section(0, 0, 0x80_9000, 0x2000, 2, 0),
                section(0, 0, 0x80_0000, 0x6000, 3, 0),
            ],
            signature: *b"TDVF",
            length: None,
            version: 1,
            count: None,
            distance: 0x840,
            stated_distance: None,
            entries: vec![
                // As in OVMF: an entry of another kind on either side.
                (
                    guid("dc886566-984a-4798-a75e-5585a7bf67cc"),
                    vec![0; 4],
                    None,
                ),
                (guid(Self::TDX), Vec::new(), None),
                (
                    guid("4c2eb361-7d9b-4cc3-8081-127c90d3d294"),
                    vec![0; 8],
                    None,
                ),
            ],
            table_length: None,
            footer: guid("96b582de-1fb2-45f7-baea-a366c55a082d"),
        }
    }

    /// The GUID of the entry for TDX; an empty one is filled with the distance.
    pub const TDX: &'static str = "e47a6535-984a-4798-865e-4685a7bf8ec2";

    /// `ovmf.fd`.
    pub fn bytes(&self) -> Vec<u8> {
        let mut file = self.content.clone();
        let mut description = self.signature.to_vec();
        let count = u32::try_from(self.sections.len()).unwrap_or(u32::MAX);
        description.extend(self.length.unwrap_or(16 + 32 * count).to_le_bytes());
        description.extend(self.version.to_le_bytes());
        description.extend(self.count.unwrap_or(count).to_le_bytes());
        for section in &self.sections {
            description.extend(section.data_offset.to_le_bytes());
            description.extend(section.raw_size.to_le_bytes());
            description.extend(section.gpa.to_le_bytes());
            description.extend(section.memory_size.to_le_bytes());
            description.extend(section.kind.to_le_bytes());
            description.extend(section.attributes.to_le_bytes());
        }
        let at = file.len() - self.distance as usize;
        description.truncate(self.distance as usize);
        file[at..at + description.len()].copy_from_slice(&description);

        // Backwards from the footer.
        let mut table: Vec<u8> = Vec::new();
        for (name, data, stated) in &self.entries {
            let mut entry = if data.is_empty() && *name == guid(Self::TDX) {
                self.stated_distance
                    .unwrap_or(self.distance)
                    .to_le_bytes()
                    .to_vec()
            } else {
                data.clone()
            };
            let length = u16::try_from(entry.len() + 18).unwrap_or(u16::MAX);
            entry.extend(stated.unwrap_or(length).to_le_bytes());
            entry.extend(name);
            table.splice(..0, entry);
        }
        let length = u16::try_from(table.len() + 18).unwrap_or(u16::MAX);
        table.extend(self.table_length.unwrap_or(length).to_le_bytes());
        table.extend(self.footer);
        let end = file.len() - 32;
        file[end - table.len()..end].copy_from_slice(&table);
        file
    }

    /// The code's section.
    pub fn code(&mut self) -> &mut Section {
        &mut self.sections[0]
    }

    /// MRTD: one page after the other, or all pages of a section first (`two_pass`).
    pub(super) fn mrtd(&self, two_pass: bool) -> [u8; 48] {
        let file = self.bytes();
        let line = |name: &str, gpa: u64| {
            let mut line = name.as_bytes().to_vec();
            line.resize(16, 0);
            line.extend(gpa.to_le_bytes());
            line.resize(128, 0);
            line
        };
        let mut stream: Vec<u8> = Vec::new();
        for section in &self.sections {
            let page_count = section.memory_size / 4096;
            let add = |page: u64| line("MEM.PAGE.ADD", section.gpa + 4096 * page);
            let extend = |page: u64| {
                let mut lines = Vec::new();
                for chunk in 16 * page..16 * (page + 1) {
                    let from = section.data_offset as usize + 256 * chunk as usize;
                    lines.extend(line("MR.EXTEND", section.gpa + 256 * chunk));
                    lines.extend(&file[from..from + 256]);
                }
                lines
            };
            let (extended, added) = (section.attributes & 1 != 0, section.attributes & 2 == 0);
            let rounds: &[(bool, bool)] = if two_pass {
                &[(true, false), (false, true)]
            } else {
                &[(true, true)]
            };
            for (adding, extending) in rounds {
                for page in 0..page_count {
                    if *adding && added {
                        stream.extend(add(page));
                    }
                    if *extending && extended {
                        stream.extend(extend(page));
                    }
                }
            }
        }
        sha384(&stream)
    }

    /// Digest of the configuration.
    pub(super) fn cfv(&self) -> [u8; 48] {
        let file = self.bytes();
        let of = |section: &&Section| section.kind == 1;
        let content = self.sections.iter().find(of).map(|section| {
            let from = section.data_offset as usize;
            &file[from..from + section.raw_size as usize]
        });
        sha384(content.unwrap_or_default())
    }
}
