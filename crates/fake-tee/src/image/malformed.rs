//! Firmware and kernels that lie, by name. The first names are those of the files that
//! dstack keeps from fuzzing its own program; the content is written here.

use super::{Firmware, Image, Kernel, Section};

/// An image of which one thing is wrong, and what.
pub type Malformed = (&'static str, Image);

/// The small image after a change of its firmware.
fn firmware(change: impl FnOnce(&mut Firmware)) -> Image {
    let mut image = Image::small();
    change(&mut image.firmware);
    image
}

/// The small image after a change of its kernel.
fn kernel(change: impl FnOnce(&mut Kernel)) -> Image {
    let mut image = Image::small();
    change(&mut image.kernel);
    image
}

fn temporary(gpa: u64, memory_size: u64) -> Section {
    Section {
        data_offset: 0,
        raw_size: 0,
        gpa,
        memory_size,
        kind: 3,
        attributes: 0,
    }
}

/// Every malformed firmware.
pub fn firmwares() -> Vec<Malformed> {
    vec![
        (
            "footer_entry_size_0",
            firmware(|f| f.table_length = Some(0)),
        ),
        (
            "footer_entry_size_17",
            firmware(|f| f.table_length = Some(17)),
        ),
        (
            "footer_longer_than_the_file",
            firmware(|f| f.table_length = Some(u16::MAX)),
        ),
        ("no_footer", firmware(|f| f.footer = [0; 16])),
        (
            "guid_table_entry_len_0",
            firmware(|f| f.entries[0].2 = Some(0)),
        ),
        (
            "guid_table_entry_len_17",
            firmware(|f| f.entries[0].2 = Some(17)),
        ),
        (
            "guid_table_entry_past_the_table",
            firmware(|f| f.entries[2].2 = Some(27)),
        ),
        (
            "no_entry_for_tdx",
            firmware(|f| {
                f.entries.remove(1);
            }),
        ),
        (
            "two_entries_for_tdx",
            firmware(|f| {
                let again = f.entries[1].clone();
                f.entries.push(again);
            }),
        ),
        (
            "entry_for_tdx_of_8_bytes",
            firmware(|f| f.entries[1].1 = vec![0x40, 8, 0, 0, 0x40, 8, 0, 0]),
        ),
        (
            "metadata_offset_past_image",
            firmware(|f| f.stated_distance = Some(24_577)),
        ),
        (
            "metadata_in_the_last_15_bytes",
            firmware(|f| f.stated_distance = Some(15)),
        ),
        ("another_signature", firmware(|f| f.signature = *b"TDVG")),
        ("version_2", firmware(|f| f.version = 2)),
        ("no_sections", firmware(|f| f.count = Some(0))),
        ("num_sections_65", firmware(|f| f.count = Some(65))),
        (
            "num_sections_u32_max",
            firmware(|f| f.count = Some(u32::MAX)),
        ),
        (
            "length_of_five_sections",
            firmware(|f| f.length = Some(176)),
        ),
        // The table of GUIDs lies over the sections.
        ("sections_past_the_file", firmware(|f| f.distance = 148)),
        ("section_type_4", firmware(|f| f.code().kind = 4)),
        ("attributes_3", firmware(|f| f.code().attributes = 3)),
        ("attributes_4", firmware(|f| f.code().attributes = 4)),
        (
            "memory_data_size_1tib",
            firmware(|f| f.code().memory_size = 1 << 40),
        ),
        (
            "pages_65537",
            firmware(|f| {
                // The others have 6 + 16 + 2 + 2 + 6.
                f.sections.push(temporary(1 << 32, (65_537 - 32) << 12));
            }),
        ),
        (
            "memory_address_wraps",
            firmware(|f| f.code().gpa = u64::MAX - 0xfff),
        ),
        ("gpa_not_of_a_page", firmware(|f| f.code().gpa += 1)),
        (
            "size_not_of_a_page",
            firmware(|f| f.sections[2].memory_size -= 1),
        ),
        ("no_size", firmware(|f| f.sections[2].memory_size = 0)),
        (
            "measured_beyond_its_data",
            firmware(|f| f.code().raw_size = 0x3000),
        ),
        (
            "section_data_past_blob",
            firmware(|f| f.code().data_offset = 0x2001),
        ),
        (
            "section_data_offset_u32_max",
            firmware(|f| f.code().data_offset = u32::MAX),
        ),
        (
            "variables_past_the_file",
            firmware(|f| f.sections[1].raw_size = 0x6001),
        ),
        (
            "overlap_in_memory",
            firmware(|f| f.sections[3].gpa = 0x81_f000),
        ),
        (
            "overlap_in_the_file",
            firmware(|f| f.sections[1].data_offset = 1),
        ),
        (
            "no_variables",
            firmware(|f| {
                f.sections.remove(1);
            }),
        ),
        (
            "two_hand_off_lists",
            firmware(|f| {
                let mut again = temporary(0x90_0000, 0x1000);
                again.kind = 2;
                f.sections.push(again);
            }),
        ),
        ("code_not_measured", firmware(|f| f.code().attributes = 0)),
    ]
}

/// Every malformed kernel.
pub fn kernels() -> Vec<Malformed> {
    vec![
        (
            "shorter_than_a_header",
            kernel(|k| k.content.truncate(0x237)),
        ),
        ("no_setup_header", kernel(|k| k.magic = *b"HdrT")),
        ("protocol_2_11", kernel(|k| k.protocol = 0x20b)),
        (
            "shorter_than_its_header_says",
            kernel(|k| k.setup_sectors = 16),
        ),
        ("not_loaded_high", kernel(|k| k.load_flags = 0)),
        ("initrd_below_4_gib", kernel(|k| k.more_flags = 0x7d)),
        ("initrd_flags_disagree", kernel(|k| k.more_flags = 0x3f)),
        ("pe_past_the_file", kernel(|k| k.pe_at = Some(8195))),
        ("pe_at_u32_max", kernel(|k| k.pe_at = Some(u32::MAX))),
        ("pe_elsewhere", kernel(|k| k.pe_at = Some(0x44))),
        (
            "pe_header_cut",
            kernel(|k| {
                k.pe_at = Some(8191);
                k.over = vec![(8191, b"PE\0\0".to_vec())];
            }),
        ),
        ("no_mz", kernel(|k| k.over = vec![(0, b"ZM".to_vec())])),
        ("kind_0x107", kernel(|k| k.kind = 0x107)),
        (
            "optional_header_of_151_bytes",
            kernel(|k| k.optional_length = Some(151)),
        ),
        (
            "optional_header_u16_max",
            kernel(|k| k.optional_length = Some(u16::MAX)),
        ),
        ("directories_4", kernel(|k| k.directories = 4)),
        ("directories_u32_max", kernel(|k| k.directories = u32::MAX)),
        ("pe_sections_0", kernel(|k| k.section_count = Some(0))),
        (
            "pe_sections_u16_max",
            kernel(|k| k.section_count = Some(u16::MAX)),
        ),
        ("headers_within_headers", kernel(|k| k.headers = 0x100)),
        ("headers_past_the_file", kernel(|k| k.headers = 8196)),
        (
            "pe_sections_overlap",
            kernel(|k| k.sections[1] = (0x200, 0xe01)),
        ),
        ("pe_sections_apart", kernel(|k| k.sections[0].0 = 0x1001)),
        (
            "pe_section_in_headers",
            kernel(|k| k.sections[1] = (0x1ff, 0xe01)),
        ),
        (
            "pe_section_past_the_file",
            kernel(|k| k.sections[2].1 = 0x801),
        ),
        ("pe_section_u32_max", kernel(|k| k.sections[2].1 = u32::MAX)),
        ("bytes_behind", kernel(|k| k.sections[2].1 = 0x7ff)),
        (
            "signatures_elsewhere",
            kernel(|k| {
                k.sections[2].1 = 0x700;
                k.signatures = (0x1f00, 0x103);
            }),
        ),
        (
            "signatures_past_the_file",
            kernel(|k| {
                k.sections[2].1 = 0x700;
                k.signatures = (0x1f03, 0x101);
            }),
        ),
        (
            "signatures_of_nothing",
            kernel(|k| k.signatures = (0x2003, 0)),
        ),
    ]
}
