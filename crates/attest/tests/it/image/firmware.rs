//! Firmware: every form that is sound, and what a change of it changes.

use attest::image::FileList;
use fake_tee::Image;
use fake_tee::image::Section;
use proptest::prelude::*;

use super::{by_name, measured, must_agree};
use crate::support::cases;

#[test]
fn sound_firmware() {
    must_agree(&Image::small());
    must_agree(&Image::small_0_6());
    type Change = fn(&mut Image);
    let changes: [Change; 5] = [
        |image| image.firmware.sections.reverse(),
        // Pages that are added later are not measured.
        |image| image.firmware.sections[2].attributes = 2,
        // Configuration may be measured too.
        |image| image.firmware.sections[1].attributes = 1,
        // Only the entry for TDX.
        |image| image.firmware.entries = vec![image.firmware.entries[1].clone()],
        // As many pages as are read.
        |image| {
            image.firmware.sections.push(Section {
                data_offset: 0,
                raw_size: 0,
                gpa: 1 << 32,
                memory_size: (65_536 - 32) << 12,
                kind: 3,
                attributes: 0,
            });
        },
    ];
    for change in changes {
        let mut image = Image::small();
        change(&mut image);
        must_agree(&image);
    }
}

#[test]
fn what_the_firmware_accepts_is_in_order() {
    measured(&Image::small().contents(), |measured| {
        assert_eq!(
            measured.unwrap().accepted_memory(),
            [
                (0x80_0000, 0x6000),
                (0x80_9000, 0x2000),
                (0x80_b000, 0x2000),
                (0x81_0000, 0x1_0000),
            ]
        );
    });
}

/// Of one page there is one order, and a row does not give one value in two forms.
#[test]
fn code_of_one_page() {
    let mut image = Image::small();
    let code = image.firmware.code();
    code.data_offset = 0x5000;
    code.raw_size = 0x1000;
    code.memory_size = 0x1000;
    must_agree(&image);
    measured(&image.contents(), |measured| {
        let measured = measured.unwrap();
        assert_eq!(measured.mrtd().single_pass, measured.mrtd().two_pass);
        let row = measured.policy_row("\"one\" page");
        assert!(row.contains("name = \"one page\""), "{row}");
        let policy = format!("name = \"x\"\nextends = \"near\"\ndate = \"2026-11-30\"\n{row}");
        attest::Policy::from_toml(&policy).unwrap();
    });
}

/// Of a firmware that accepts other memory, the hand-off block list is not known.
#[test]
fn rtmr0_needs_the_memory_of_dstacks_firmware() {
    let config = r#"{"cpu_count": 4, "memory_size": 8589934592, "num_gpus": 0, "qemu_version": "9.2.1", "hotplug_off": true}"#;
    let rtmr0 = |image: &Image| {
        measured(&image.contents(), |measured| {
            measured.unwrap().rtmr0(config).map(|rtmr0| rtmr0.register)
        })
    };
    assert!(
        rtmr0(&Image::small()).is_ok(),
        "{:?}",
        rtmr0(&Image::small())
    );
    let mut image = Image::small();
    image.firmware.sections[2].memory_size = 0xf000;
    assert!(rtmr0(&image).unwrap_err().contains("accepts other memory"));
    let mut image = Image::small();
    image.set("ovmf_variant", "stable202505");
    assert!(rtmr0(&image).unwrap_err().contains("SMBIOS"));
}

/// Measures files that were changed after they were listed, listed anew; a file that
/// does not exist would not be asked for.
fn of_changed(change: impl FnOnce(&mut Vec<(String, Vec<u8>)>)) -> Option<[[u8; 48]; 6]> {
    let mut contents = Image::small().contents();
    change(&mut contents);
    let list = FileList::read(&fake_tee::image::list(&contents)).unwrap();
    let measured = list.measure(&by_name(&contents)).ok()?;
    Some([
        measured.mrtd().single_pass,
        measured.mrtd().two_pass,
        measured.cfv_digest(),
        measured.rtmr1(),
        measured.rtmr1_unpatched(),
        measured.rtmr2(),
    ])
}

/// Places in the files that no register covers: checksum (0x98) and directory of
/// signatures (0xe8) of the kernel. A change of the second is refused.
const CHECKSUM: std::ops::Range<usize> = 0x98..0x9c;

proptest! {
    #![proptest_config(cases(256))]

    /// Every byte of the code is in MRTD, in both forms, and nowhere else.
    #[test]
    fn a_changed_byte_of_the_code_changes_mrtd(at in 0x2000_usize..0x5700, bit in 0_u8..8) {
        let before = of_changed(|_| ()).unwrap();
        let after = of_changed(|contents| contents[0].1[at] ^= 1 << bit).unwrap();
        for (form, (before, after)) in before.iter().zip(&after).enumerate() {
            prop_assert_eq!(before != after, form < 2, "{}", form);
        }
    }

    #[test]
    fn a_changed_byte_of_the_configuration_changes_its_digest(at in 0_usize..0x2000, bit in 0_u8..8) {
        let before = of_changed(|_| ()).unwrap();
        let after = of_changed(|contents| contents[0].1[at] ^= 1 << bit).unwrap();
        for (form, (before, after)) in before.iter().zip(&after).enumerate() {
            prop_assert_eq!(before != after, form == 2, "{}", form);
        }
    }

    /// Whatever is changed of firmware or kernel: it is refused, or some register says so.
    #[test]
    fn no_change_is_overlooked(file in 0_usize..2, at: prop::sample::Index, bit in 0_u8..8) {
        let before = of_changed(|_| ()).unwrap();
        let mut place = 0;
        let after = of_changed(|contents| {
            place = at.index(contents[file].1.len());
            contents[file].1[place] ^= 1 << bit;
        });
        if file == 1 && CHECKSUM.contains(&place) {
            prop_assert_eq!(after, Some(before));
        } else {
            prop_assert_ne!(after, Some(before), "{} {:#x}", file, place);
        }
    }

    /// Cut anywhere, and with bytes written over: an answer, and no panic.
    #[test]
    fn any_file_is_read_or_refused(
        file in 0_usize..4,
        cut: prop::sample::Index,
        over in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        of_changed(|contents| {
            let bytes = &mut contents[file].1;
            bytes.truncate(cut.index(bytes.len() + 1));
            for (at, byte) in over {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
        });
    }

    /// Numbers of the description, whatever they are.
    #[test]
    fn any_section_is_read_or_refused(
        section in 0_usize..6,
        numbers in prop::array::uniform4(any::<u32>()),
        gpa in prop_oneof![any::<u64>(), Just(u64::MAX), Just(0xffff_f000)],
        size in prop_oneof![any::<u64>(), Just(u64::MAX), Just(4096)],
    ) {
        let mut image = Image::small();
        let [data_offset, raw_size, kind, attributes] = numbers;
        image.firmware.sections[section] = Section {
            data_offset,
            raw_size,
            gpa,
            memory_size: size,
            kind: kind % 5,
            attributes: attributes % 4,
        };
        measured(&image.contents(), |measured| measured.is_ok());
    }
}
