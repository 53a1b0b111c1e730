//! Firmware and kernels that lie: each is refused, by its exact error.

use std::collections::BTreeMap;

use attest::image::{FirmwareError as F, ImageError, KernelError as K};
use fake_tee::image::malformed::{Malformed, firmwares, kernels};

use super::refused;

/// Every file is refused as it is written down here, and none is missing.
fn each_is_refused<E: Into<ImageError>>(files: Vec<Malformed>, expected: Vec<(&str, E)>) {
    let mut expected: BTreeMap<&str, ImageError> = expected
        .into_iter()
        .map(|(name, error)| (name, error.into()))
        .collect();
    for (name, image) in files {
        assert_eq!(Some(refused(&image)), expected.remove(name), "{name}");
    }
    assert!(expected.is_empty(), "{expected:?}");
}

#[test]
fn firmware_that_lies() {
    let table = |got| F::TableLength {
        got,
        least: 18,
        most: 24_544,
    };
    let entry = |got, most| F::EntryLength { got, most };
    let descriptor = |distance| F::DescriptorPlace {
        distance,
        size: 24_576,
    };
    let sections = |got| F::Sections { got, limit: 64 };
    let pages = |section, got| F::Pages {
        section,
        got,
        limit: 65_536,
    };
    let not_pages = |section, gpa, size| F::NotPages { section, gpa, size };
    let data = |section, offset, raw| F::DataPlace {
        section,
        offset,
        raw,
        file: 24_576,
    };
    let overlap = |first, second, place| F::Overlap {
        first,
        second,
        place,
    };
    each_is_refused(
        firmwares(),
        vec![
            ("footer_entry_size_0", table(0)),
            ("footer_entry_size_17", table(17)),
            ("footer_longer_than_the_file", table(u16::MAX)),
            ("no_footer", F::NoTable { size: 24_576 }),
            ("guid_table_entry_len_0", entry(0, 70)),
            ("guid_table_entry_len_17", entry(17, 70)),
            ("guid_table_entry_past_the_table", entry(27, 26)),
            ("no_entry_for_tdx", F::TdxEntries { got: 0 }),
            ("two_entries_for_tdx", F::TdxEntries { got: 2 }),
            ("entry_for_tdx_of_8_bytes", F::TdxEntryLength { got: 8 }),
            ("metadata_offset_past_image", descriptor(24_577)),
            ("metadata_in_the_last_15_bytes", descriptor(15)),
            ("another_signature", F::Signature),
            ("version_2", F::Version { got: 2 }),
            ("no_sections", sections(0)),
            ("num_sections_65", sections(65)),
            ("num_sections_u32_max", sections(u32::MAX)),
            (
                "length_of_five_sections",
                F::DescriptorLength {
                    got: 176,
                    expected: 208,
                },
            ),
            (
                "sections_past_the_file",
                F::DescriptorCut {
                    got: 148,
                    expected: 208,
                },
            ),
            ("section_type_4", F::SectionType { section: 0, got: 4 }),
            ("attributes_3", F::Attributes { section: 0, got: 3 }),
            ("attributes_4", F::Attributes { section: 0, got: 4 }),
            ("memory_data_size_1tib", pages(0, 1 << 28)),
            ("pages_65537", pages(6, 65_537)),
            (
                "memory_address_wraps",
                F::AddressWraps {
                    section: 0,
                    gpa: u64::MAX - 0xfff,
                    size: 0x4000,
                },
            ),
            ("gpa_not_of_a_page", not_pages(0, 0xffff_c001, 0x4000)),
            ("size_not_of_a_page", not_pages(2, 0x81_0000, 0xffff)),
            ("no_size", not_pages(2, 0x81_0000, 0)),
            (
                "measured_beyond_its_data",
                F::MeasuredSizes {
                    section: 0,
                    raw: 0x3000,
                    size: 0x4000,
                },
            ),
            ("section_data_past_blob", data(0, 0x2001, 0x4000)),
            ("section_data_offset_u32_max", data(0, u32::MAX, 0x4000)),
            ("variables_past_the_file", data(1, 0, 0x6001)),
            ("overlap_in_memory", overlap(2, 3, "memory")),
            ("overlap_in_the_file", overlap(0, 1, "the file")),
            (
                "no_variables",
                F::SectionCount {
                    what: "configuration",
                    got: 0,
                },
            ),
            (
                "two_hand_off_lists",
                F::SectionCount {
                    what: "the hand-off block list",
                    got: 2,
                },
            ),
            ("code_not_measured", F::CodeNotMeasured { section: 0 }),
        ],
    );
}

#[test]
fn a_kernel_that_lies() {
    let no_pe = |at| K::NoPeHeader { at };
    let optional = |got| K::OptionalHeaderLength { got, needed: 152 };
    let directories = |got| K::Directories { got, most: 16 };
    let sections = |got| K::Sections { got, limit: 96 };
    let headers = |got, least| K::HeadersSize {
        got,
        least,
        most: 8195,
    };
    let section = |section, got, expected| K::SectionPlace {
        section,
        got,
        expected,
    };
    let end = |size| K::SectionEnd {
        section: 2,
        at: 0x1803,
        size,
        file: 8195,
    };
    let signatures = |at, size| K::Signatures {
        at,
        size,
        file: 8195,
    };
    each_is_refused(
        kernels(),
        vec![
            (
                "shorter_than_a_header",
                K::TooShort {
                    size: 0x237,
                    least: 0x238,
                },
            ),
            ("no_setup_header", K::NotLinux),
            (
                "protocol_2_11",
                K::Protocol {
                    got: 0x20b,
                    least: 0x20c,
                },
            ),
            (
                "shorter_than_its_header_says",
                K::Shorter {
                    says: 8704,
                    size: 8195,
                },
            ),
            ("not_loaded_high", K::NotLoadedHigh { got: 0 }),
            ("initrd_below_4_gib", K::InitrdFlags { got: 0x7d }),
            ("initrd_flags_disagree", K::InitrdFlags { got: 0x3f }),
            ("pe_past_the_file", no_pe(8195)),
            ("pe_at_u32_max", no_pe(u32::MAX)),
            ("pe_elsewhere", no_pe(0x44)),
            ("pe_header_cut", no_pe(8191)),
            ("no_mz", no_pe(0x40)),
            ("kind_0x107", K::OptionalHeader { got: 0x107 }),
            ("optional_header_of_151_bytes", optional(151)),
            ("optional_header_u16_max", headers(0x200, 65_743)),
            ("directories_4", directories(4)),
            ("directories_u32_max", directories(u32::MAX)),
            ("pe_sections_0", sections(0)),
            ("pe_sections_u16_max", sections(u16::MAX)),
            ("headers_within_headers", headers(0x100, 0x170)),
            ("headers_past_the_file", headers(8196, 0x170)),
            ("pe_sections_overlap", section(0, 0x1000, 0x1001)),
            ("pe_sections_apart", section(0, 0x1001, 0x1000)),
            ("pe_section_in_headers", section(1, 0x1ff, 0x200)),
            ("pe_section_past_the_file", end(0x801)),
            ("pe_section_u32_max", end(u32::MAX)),
            ("bytes_behind", K::Trailing { got: 1 }),
            ("signatures_elsewhere", signatures(0x1f00, 0x103)),
            ("signatures_past_the_file", signatures(0x1f03, 0x101)),
            ("signatures_of_nothing", signatures(0x2003, 0)),
        ],
    );
}

/// Whoever meets it is told what to do, and not that an image is newer where it lies.
#[test]
fn what_to_do_is_said() {
    let newer = [
        "version_2",
        "section_type_4",
        "attributes_3",
        "attributes_4",
        "not_loaded_high",
        "initrd_below_4_gib",
        "initrd_flags_disagree",
    ];
    for (name, image) in firmwares().into_iter().chain(kernels()) {
        let error = refused(&image);
        assert_eq!(error.is_not_understood(), newer.contains(&name), "{name}");
        assert!(error.remedy().ends_with('.'), "{name}");
        let text = error.to_string();
        assert!(
            text.starts_with("ovmf.fd: ") || text.starts_with("bzImage: "),
            "{text}"
        );
    }
}
