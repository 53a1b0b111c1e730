//! Why a release's files cannot be measured.
//!
//! Each sentence names the value and its limit. Bytes that two readers could measure
//! differently are refused: a register that only this program computes is useless.

/// Why files are not measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the message documents each variant")]
pub enum ImageError {
    #[error("{file}: {size} bytes, at most {limit} are read")]
    TooLarge {
        file: String,
        size: usize,
        limit: usize,
    },
    #[error("{file}: it is empty")]
    Empty { file: &'static str },
    #[error(
        "sha256sum.txt, line {line}: expected 64 hex digits in lower case, two spaces and a plain file name, got {got}"
    )]
    ListLine { line: usize, got: String },
    #[error("sha256sum.txt: its last line has no line feed")]
    ListCut,
    #[error("sha256sum.txt: more than {limit} lines")]
    ListTooLong { limit: usize },
    #[error("sha256sum.txt: it lists {name} twice")]
    ListedTwice { name: String },
    #[error("sha256sum.txt: it does not list {name}, which decides a register")]
    NotListed { name: &'static str },
    #[error("{name}: it is listed but missing")]
    Absent { name: &'static str },
    #[error("{name}: its SHA-256 is {got}, but sha256sum.txt lists {listed}")]
    Digest {
        name: String,
        listed: String,
        got: String,
    },
    #[error("metadata.json: {detail}")]
    Metadata { detail: String },
    #[error("metadata.json: expected {expected} as {member}, got {got}")]
    MetadataMember {
        member: &'static str,
        expected: &'static str,
        got: String,
    },
    #[error("ovmf.fd: {0}")]
    Firmware(#[from] FirmwareError),
    #[error("bzImage: {0}")]
    Kernel(#[from] KernelError),
}

/// Why a firmware's metadata are not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the message documents each variant")]
pub enum FirmwareError {
    #[error("it does not end in a table of GUIDs: {size} bytes, no footer 32 bytes before the end")]
    NoTable { size: usize },
    #[error(
        "the table of GUIDs is {got} bytes long by its footer, expected from {least} to {most}"
    )]
    TableLength { got: u16, least: u16, most: usize },
    #[error("an entry of the table of GUIDs is {got} bytes long, expected from 18 to {most}")]
    EntryLength { got: u16, most: usize },
    #[error("the table of GUIDs has {got} entries for TDX, expected 1")]
    TdxEntries { got: usize },
    #[error("the entry for TDX holds {got} bytes, expected 4")]
    TdxEntryLength { got: usize },
    #[error("the metadata for TDX are {distance} bytes before the end of a file of {size} bytes")]
    DescriptorPlace { distance: u32, size: usize },
    #[error("the metadata for TDX do not begin with TDVF")]
    Signature,
    #[error("the metadata for TDX are of version {got}, expected 1")]
    Version { got: u32 },
    #[error("{got} sections, expected from 1 to {limit}")]
    Sections { got: u32, limit: u32 },
    #[error("the metadata for TDX state a length of {got} bytes, but have {expected}")]
    DescriptorLength { got: u32, expected: u32 },
    #[error("the metadata for TDX have {expected} bytes, but the file ends after {got} of them")]
    DescriptorCut { got: usize, expected: u32 },
    #[error("section {section} is of type {got}, expected at most 3")]
    SectionType { section: usize, got: u32 },
    #[error(
        "section {section} has the attributes {got:#x}, expected 0, 1 (measured) or 2 (added later)"
    )]
    Attributes { section: usize, got: u32 },
    #[error(
        "section {section}: {size:#x} bytes at {gpa:#x}, expected whole pages of 4096 bytes, and one at least"
    )]
    NotPages { section: usize, gpa: u64, size: u64 },
    #[error("section {section}: {size:#x} bytes at {gpa:#x} end behind the last address")]
    AddressWraps { section: usize, gpa: u64, size: u64 },
    #[error("the sections have {got} pages or more by section {section}, at most {limit} are read")]
    Pages {
        section: usize,
        got: u64,
        limit: u64,
    },
    #[error(
        "section {section} is measured: {raw} bytes of the file for {size} bytes of memory, expected as many"
    )]
    MeasuredSizes { section: usize, raw: u32, size: u64 },
    #[error("section {section}: {raw} bytes at {offset} of a file of {file} bytes")]
    DataPlace {
        section: usize,
        offset: u32,
        raw: u32,
        file: usize,
    },
    #[error("sections {first} and {second} overlap in {place}")]
    Overlap {
        first: usize,
        second: usize,
        place: &'static str,
    },
    #[error("{got} sections of {what}, expected 1")]
    SectionCount { what: &'static str, got: usize },
    #[error("section {section} is the firmware's code, but is not measured")]
    CodeNotMeasured { section: usize },
}

/// Why a kernel's digest is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the message documents each variant")]
pub enum KernelError {
    #[error("{size} bytes, expected at least {least}")]
    TooShort { size: usize, least: usize },
    #[error("no setup header of Linux: 0x202 does not hold HdrS")]
    NotLinux,
    #[error("boot protocol {got:#x}, expected at least {least:#x}")]
    Protocol { got: u16, least: u16 },
    #[error("its header states a real-mode part of {says} bytes, but the file has {size}")]
    Shorter { says: usize, size: usize },
    #[error("it is not loaded high (bit 0 of the flags at 0x211, which are {got:#x})")]
    NotLoadedHigh { got: u8 },
    #[error(
        "expected bits 1 and 6 of the flags at 0x236, which are {got:#x}: without both, the place of the initrd is not certain"
    )]
    InitrdFlags { got: u16 },
    #[error("the initrd of {initrd} bytes does not fit into {memory} bytes of memory")]
    InitrdPlace { initrd: usize, memory: u64 },
    #[error("the command line has vga=, which QEMU writes into the kernel's header")]
    VideoMode,
    #[error("no PE header at {at:#x}, where the file says that it is")]
    NoPeHeader { at: u32 },
    #[error("its optional header is of kind {got:#x}, expected 0x10b or 0x20b")]
    OptionalHeader { got: u16 },
    #[error("its optional header of {got} bytes is too short for {needed}")]
    OptionalHeaderLength { got: u16, needed: usize },
    #[error("{got} directories, expected from 5 to {most}")]
    Directories { got: u32, most: u32 },
    #[error("{got} sections, expected from 1 to {limit}")]
    Sections { got: u16, limit: u16 },
    #[error(
        "its headers are {got} bytes long by their own word; their tables end at {least}, and the file at {most}"
    )]
    HeadersSize { got: u32, least: usize, most: usize },
    #[error("section {section} begins at {got:#x}, and what is before it ends at {expected:#x}")]
    SectionPlace {
        section: usize,
        got: u32,
        expected: usize,
    },
    #[error("section {section}: {size} bytes at {at:#x} of a file of {file} bytes")]
    SectionEnd {
        section: usize,
        at: u32,
        size: u32,
        file: usize,
    },
    #[error("{got} bytes follow the last section, and are no table of signatures")]
    Trailing { got: usize },
    #[error("the table of signatures: {size} bytes at {at:#x} of a file of {file} bytes")]
    Signatures { at: u32, size: u32, file: usize },
}

impl ImageError {
    /// True if a later version of this program may be able to measure the files: this
    /// version does not understand their form.
    #[must_use]
    pub fn is_not_understood(&self) -> bool {
        matches!(
            self,
            Self::Firmware(
                FirmwareError::Version { .. }
                    | FirmwareError::SectionType { .. }
                    | FirmwareError::Attributes { .. }
            ) | Self::Kernel(
                KernelError::NotLoadedHigh { .. }
                    | KernelError::InitrdFlags { .. }
                    | KernelError::VideoMode
            )
        )
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            _ if self.is_not_understood() => {
                "This version of verified-proxy does not understand this image; look for a newer one."
            }
            Self::Absent { .. } => "Take all files of the release from one place, and try again.",
            Self::Kernel(KernelError::InitrdPlace { .. }) => {
                "Ask for a machine with more memory; dstack's have 2816 MiB or more."
            }
            _ => {
                "Take the files from the release again. If the problem persists, they are not a release: do not accept an image by these files."
            }
        }
    }
}
