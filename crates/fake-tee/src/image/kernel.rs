//! A Linux kernel as far as a boot loader and an Authenticode digest look at it: the
//! setup header, PE headers, and content.

use super::filler;

/// A kernel as it is described; each field may lie.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The file before anything is written into it.
    pub content: Vec<u8>,
    /// "HdrS".
    pub magic: [u8; 4],
    /// The boot protocol.
    pub protocol: u16,
    /// Sectors of the real-mode part, less one.
    pub setup_sectors: u8,
    /// Flags at 0x211.
    pub load_flags: u8,
    /// Flags at 0x236.
    pub more_flags: u16,
    /// What the file says of the place of the PE headers; `None`: the right one.
    pub pe_at: Option<u32>,
    /// The kind of the optional header: 0x20b, or 0x10b.
    pub kind: u16,
    /// What the file says of the optional header's length; `None`: the right one.
    pub optional_length: Option<u16>,
    /// How many directories there are by its own word.
    pub directories: u32,
    /// What it says of its headers' length.
    pub headers: u32,
    /// Sections: place and size.
    pub sections: Vec<(u32, u32)>,
    /// What it says of their number; `None`: the right one.
    pub section_count: Option<u16>,
    /// The table of signatures: place and size.
    pub signatures: (u32, u32),
    /// Written over all that, at these places.
    pub over: Vec<(usize, Vec<u8>)>,
}

const PE_AT: usize = 0x40;
const OPTIONAL_AT: usize = PE_AT + 24;
const DIRECTORIES: usize = 6;

impl Kernel {
    /// Eight kilobytes and three bytes, in three sections.
    pub fn small() -> Self {
        Self {
            content: filler("kernel", 8195),
            magic: *b"HdrS",
            protocol: 0x20f,
            setup_sectors: 7,
            load_flags: 1,
            more_flags: 0x7f,
            pe_at: None,
            kind: 0x20b,
            optional_length: None,
            directories: 6,
            headers: 0x200,
            sections: vec![(0x1000, 0x0803), (0x200, 0xe00), (0x1803, 0x800)],
            section_count: None,
            signatures: (0, 0),
            over: Vec::new(),
        }
    }

    /// The same with its header as QEMU would write it for an initrd of this size and a
    /// machine of dstack's size.
    pub fn normalized(mut self, initrd: usize) -> Self {
        let over = patch(self.load_flags, 1 << 40, initrd);
        self.over.extend(over);
        self
    }

    fn directories_at(&self) -> usize {
        OPTIONAL_AT + if self.kind == 0x10b { 96 } else { 112 }
    }

    /// `bzImage`.
    pub fn bytes(&self) -> Vec<u8> {
        let mut file = self.content.clone();
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(to) = file.get_mut(at..at + bytes.len()) {
                to.copy_from_slice(bytes);
            }
        };
        put(0, b"MZ");
        let pe_at = self.pe_at.unwrap_or(PE_AT as u32);
        put(0x3c, &pe_at.to_le_bytes());
        put(PE_AT, b"PE\0\0\x64\x86");
        let count = u16::try_from(self.sections.len()).unwrap_or(u16::MAX);
        let count = self.section_count.unwrap_or(count);
        put(PE_AT + 6, &count.to_le_bytes());
        let directories_at = self.directories_at();
        let table_at = directories_at + 8 * DIRECTORIES;
        let length = u16::try_from(table_at - OPTIONAL_AT).unwrap_or(u16::MAX);
        let length = self.optional_length.unwrap_or(length);
        put(PE_AT + 20, &length.to_le_bytes());
        put(OPTIONAL_AT, &self.kind.to_le_bytes());
        put(OPTIONAL_AT + 60, &self.headers.to_le_bytes());
        put(directories_at - 4, &self.directories.to_le_bytes());
        put(directories_at, &[0; 8 * DIRECTORIES]);
        put(directories_at + 32, &self.signatures.0.to_le_bytes());
        put(directories_at + 36, &self.signatures.1.to_le_bytes());
        for (number, (at, size)) in self.sections.iter().enumerate() {
            let entry = table_at + 40 * number;
            put(entry + 16, &size.to_le_bytes());
            put(entry + 20, &at.to_le_bytes());
        }
        put(0x1f1, &[self.setup_sectors]);
        put(0x202, &self.magic);
        put(0x206, &self.protocol.to_le_bytes());
        put(0x211, &[self.load_flags]);
        put(0x236, &self.more_flags.to_le_bytes());
        for (at, bytes) in &self.over {
            put(*at, bytes);
        }
        file
    }

    /// What is hashed of it, given memory and the initrd's size where QEMU has written to
    /// the header.
    pub(super) fn measured(&self, patched: Option<(u64, usize)>) -> Vec<u8> {
        let mut file = self.bytes();
        let size = file.len();
        if let Some((memory, initrd)) = patched {
            for (at, bytes) in patch(file[0x211], memory, initrd) {
                file[at..at + bytes.len()].copy_from_slice(&bytes);
            }
        }
        file.truncate(size - self.signatures.1 as usize);
        let directory = self.directories_at() + 32;
        file.drain(directory..directory + 8);
        file.drain(OPTIONAL_AT + 64..OPTIONAL_AT + 68);
        file.extend(vec![0; size.next_multiple_of(8) - size]);
        file
    }
}

/// What QEMU writes into the header of a kernel that is loaded high.
fn patch(flags: u8, memory: u64, initrd: usize) -> Vec<(usize, Vec<u8>)> {
    let low = if memory < 2816 << 20 { memory } else { 2 << 30 };
    let initrd = initrd as u64;
    // Whole pages below what is kept for ACPI tables.
    let at = (low - 0x28000 - 1 - initrd) / 4096 * 4096;
    vec![
        (0x210, vec![0xb0, flags | 0x80]),
        (0x218, (at as u32).to_le_bytes().to_vec()),
        (0x21c, (initrd as u32).to_le_bytes().to_vec()),
        (0x224, 0xfe00_u32.to_le_bytes().to_vec()),
        (0x228, 0x20000_u32.to_le_bytes().to_vec()),
    ]
}
