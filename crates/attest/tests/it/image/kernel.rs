//! Kernels: every form that is measured, and the memory that they are measured with.

use attest::image::{ImageError, KernelError, KernelHeader, Measured};
use fake_tee::Image;

use super::{measured, must_agree, refused};

#[test]
fn sound_kernels() {
    type Change = fn(&mut Image);
    let changes: [Change; 6] = [
        |image| image.kernel.kind = 0x10b,
        // A table of signatures is not measured.
        |image| {
            image.kernel.sections[0].1 = 0x800;
            image.kernel.sections[2] = (0x1800, 0x700);
            image.kernel.signatures = (0x1f00, 0x103);
        },
        |image| image.kernel.load_flags = 0x81,
        |image| image.kernel.content.truncate(8192),
        // A section without content lies nowhere.
        |image| image.kernel.sections.push((u32::MAX, 0)),
        |image| image.initrd = vec![1; 4096],
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut image = Image::small();
        change(&mut image);
        if number == 3 {
            image.kernel.sections[2].1 = 0x7fd;
        }
        must_agree(&image);
    }
}

/// One kernel for every machine from 2816 MiB on, and for 2 GiB.
#[test]
fn memory() {
    let image = Image::small();
    measured(&image.contents(), |measured| {
        let measured = measured.unwrap();
        let with = |mib: u64| measured.rtmr1_with(mib << 20).unwrap();
        for mib in [2816, 2817, 4096, 1 << 20, 1 << 26] {
            assert_eq!(with(mib), measured.rtmr1(), "{mib}");
        }
        assert_eq!(measured.rtmr1_with(u64::MAX), Ok(measured.rtmr1()));
        assert_eq!(with(2048), measured.rtmr1());
        assert_ne!(with(2815), measured.rtmr1());
        assert_eq!(Measured::CONSTANT_FROM, 2816 << 20);
        // Where the initrd ends, QEMU's tables begin.
        for memory in [0, 1, 0x2_8000, 0x2_8000 + 5000] {
            assert_eq!(
                measured.rtmr1_with(memory),
                Err(KernelError::InitrdPlace {
                    initrd: 5000,
                    memory
                })
            );
        }
        assert!(measured.rtmr1_with(0x2_8000 + 5002).is_ok());
    });
}

#[test]
fn a_normalised_header_is_as_stated_or_that_is_said() {
    let header = |image: &Image| measured(&image.contents(), |m| m.unwrap().kernel_header());
    assert_eq!(header(&Image::small()), KernelHeader::Rewritten);
    let normalised = Image::small_0_6();
    assert_eq!(header(&normalised), KernelHeader::Normalized);
    measured(&normalised.contents(), |measured| {
        let measured = measured.unwrap();
        assert_eq!(measured.rtmr1(), measured.rtmr1_unpatched());
    });
    // The initrd's size is in the header.
    let mut other = Image::small_0_6();
    other.initrd.push(0);
    assert_eq!(header(&other), KernelHeader::NotAsStated);
    let mut unstated = Image::small_0_6();
    unstated.set("kernel_header_normalized", false);
    assert_eq!(header(&unstated), KernelHeader::Rewritten);
}

#[test]
fn no_initrd_and_no_kernel() {
    let mut image = Image::small();
    image.initrd.clear();
    let file = "initramfs.cpio.gz";
    assert_eq!(refused(&image), ImageError::Empty { file });
    let mut image = Image::small();
    image.kernel.content.clear();
    assert_eq!(refused(&image), ImageError::Empty { file: "bzImage" });
}

#[test]
fn a_video_mode_would_be_in_the_header() {
    let mut image = Image::small();
    image.set("cmdline", "console=ttyS0 vga=791");
    assert_eq!(refused(&image), ImageError::Kernel(KernelError::VideoMode));
}
