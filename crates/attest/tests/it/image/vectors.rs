//! Vectors that dstack's own program and an independent one agree on. They lie beside
//! the project (`VERIFIED_PROXY_SHARED`).

use std::path::PathBuf;

use attest::image::Measured;
use fake_tee::Image;
use fake_tee::hash::{sha256, sha384};
use fake_tee::image::filler;
use serde_json::Value;

use super::{Contents, measured};

/// RTMR0 of NEAR AI's machines of 2 TiB with an image's own configuration.
fn rtmr0_of_near(vectors: &Value, image: &str, measured: &Measured<'_>) {
    // Its machines of 1 TiB stand in the first row, with the version of QEMU.
    let mut config = vectors["acpi_and_rtmr0"][0]["vm_config"].clone();
    config["memory_size"] = (2_u64 << 40).into();
    let computed = measured.rtmr0(&config.to_string()).unwrap();
    let expected = text(&vectors["images"][image], "/rtmr0_near_2tib_cfv_of_file");
    assert_eq!(hex::encode(computed.register), expected);
    assert_eq!(computed.events.len(), 13);
    assert_eq!(computed.events[1], ("cfv", measured.cfv_digest()));
    assert!(
        measured
            .rtmr0("{}")
            .unwrap_err()
            .contains("has no cpu_count")
    );
}

/// None where there are no vectors, which is said.
fn vectors() -> Option<Value> {
    let Some(folder) = std::env::var_os("VERIFIED_PROXY_SHARED").map(PathBuf::from) else {
        eprintln!("skipped: VERIFIED_PROXY_SHARED is not set");
        return None;
    };
    let text = std::fs::read(folder.join("dstack/vectors.json")).unwrap();
    Some(serde_json::from_slice(&text).unwrap())
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer);
    found
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("{pointer}"))
}

#[test]
fn constants_of_rtmr1() {
    // Those of the sentences and the separator, as everybody who boots by UEFI has them.
    for (preimage, digest) in [
        (
            &b"Calling EFI Application from Boot Option"[..],
            "77a0dab2312b4e1e57a84d865a21e5b2ee8d677a21012ada819d0a98988078d3d740f6346bfe0abaa938ca20439a8d71",
        ),
        (
            &[0; 4],
            "394341b7182cd227c5c6b07ef8000cdfd86136c4292b8e576573ad7ed9ae41019f5818b4b971c9effc60e1ad9f1289f0",
        ),
        (
            b"Exit Boot Services Invocation",
            "214b0bef1379756011344877743fdc2a5382bac6e70362d624ccf3f654407c1b4badf7d8f9295dd3dabdef65b27677e0",
        ),
        (
            b"Exit Boot Services Returned with Success",
            "0a2e01c85deae718a530ad8c6d20a84009babe6c8989269e950d8cf440c6e997695e64d455c4174a652cd080f6230b74",
        ),
    ] {
        assert_eq!(hex::encode(sha384(preimage)), digest);
    }
    let Some(vectors) = vectors() else { return };
    for (_, constant) in vectors["rtmr1_constants"].as_object().unwrap() {
        let preimage = hex::decode(text(constant, "/preimage")).unwrap();
        assert_eq!(hex::encode(sha384(&preimage)), text(constant, "/sha384"));
    }
    // And with the kernel's digest in front they are the registers of both images.
    for name in ["tiny", "deb"] {
        let image = &vectors["images"][name];
        let mut pairs = vec![
            (text(image, "/kernel"), text(image, "/rtmr1")),
            (
                text(image, "/kernel_unpatched"),
                text(image, "/rtmr1_unpatched"),
            ),
        ];
        for row in image["by_memory"].as_array().unwrap() {
            pairs.push((text(row, "/kernel"), text(row, "/rtmr1")));
        }
        for (kernel, rtmr1) in pairs {
            let kernel: [u8; 48] = hex::decode(kernel).unwrap().try_into().unwrap();
            let events = [
                "calling_efi",
                "separator",
                "exit_invocation",
                "exit_success",
            ]
            .map(|name| hex::decode(text(&vectors["rtmr1_constants"][name], "/sha384")).unwrap());
            let register = events.iter().fold(
                sha384(&[&[0; 48][..], &kernel].concat()),
                |register, event| sha384(&[&register[..], event].concat()),
            );
            assert_eq!(hex::encode(register), rtmr1);
        }
    }
}

/// dstack's own test of RTMR2 has a digest in place of an initrd: the command line's event
/// is what can be compared.
#[test]
fn rtmr2_of_upstream() {
    let Some(vectors) = vectors() else { return };
    let golden = &vectors["rtmr2_upstream_golden"];
    let mut image = Image::small();
    image.set("cmdline", text(golden, "/cmdline"));
    let event = image.registers(1 << 40).command_line;
    assert_eq!(hex::encode(event), text(golden, "/cmdline_event"));
    let initrd = hex::decode(text(golden, "/initrd_event")).unwrap();
    let register = sha384(&[&sha384(&[&[0; 48][..], &event].concat())[..], &initrd].concat());
    assert_eq!(hex::encode(register), text(golden, "/rtmr2"));
    super::must_agree(&image);
}

/// Of the image `tiny` three files can be made anew by their rule, and of its firmware
/// the configuration: what depends on these alone is compared.
#[test]
fn what_can_be_made_anew_of_the_smaller_image() {
    let Some(vectors) = vectors() else { return };
    let tiny = &vectors["images"]["tiny"];
    let image = Image::small();
    for (name, content) in [
        ("initramfs.cpio.gz", &image.initrd),
        ("metadata.json", &image.metadata_json()),
    ] {
        let listed = text(&tiny["files"][name], "/sha256");
        assert_eq!(hex::encode(sha256(content)), listed, "{name}");
    }
    let list = text(tiny, "/sha256sum.txt").as_bytes();
    let list = attest::image::FileList::read(list).unwrap();
    assert_eq!(
        hex::encode(list.os_image_hash()),
        text(tiny, "/os_image_hash")
    );
    let registers = image.registers(1 << 40);
    assert_eq!(hex::encode(registers.command_line), text(tiny, "/cmdline"));
    assert_eq!(hex::encode(registers.initrd), text(tiny, "/initrd"));
    measured(&image.contents(), |measured| {
        let measured = measured.unwrap();
        assert_eq!(hex::encode(measured.rtmr2()), text(tiny, "/rtmr2"));
        assert_eq!(
            hex::encode(measured.cfv_digest()),
            text(tiny, "/cfv_of_file")
        );
        rtmr0_of_near(&vectors, "tiny", &measured);
    });
}

/// The image `deb`: firmware and kernel of Debian 12 (packages ovmf 2022.11-6+deb12u2 and
/// linux-image-6.1.0-54-cloud-amd64-unsigned 6.1.190-1, unpacked into the folder that
/// `VERIFIED_PROXY_DEB_IMAGE` names), initrd and metadata by rule.
#[test]
fn the_image_of_debian() {
    let Some(vectors) = vectors() else { return };
    let Some(folder) = std::env::var_os("VERIFIED_PROXY_DEB_IMAGE").map(PathBuf::from) else {
        eprintln!("skipped: VERIFIED_PROXY_DEB_IMAGE is not set");
        return;
    };
    let deb = &vectors["images"]["deb"];
    let read = |path: &str| std::fs::read(folder.join(path)).unwrap();
    let contents: Contents = vec![
        ("ovmf.fd".to_owned(), read("usr/share/ovmf/OVMF.fd")),
        (
            "bzImage".to_owned(),
            read("boot/vmlinuz-6.1.0-54-cloud-amd64"),
        ),
        ("initramfs.cpio.gz".to_owned(), filler("initrd", 1_048_579)),
        ("metadata.json".to_owned(), Image::small().metadata_json()),
    ];
    let listed = fake_tee::image::list(&contents);
    assert_eq!(
        String::from_utf8(listed).unwrap(),
        text(deb, "/sha256sum.txt")
    );
    measured(&contents, |measured| {
        let measured = measured.unwrap();
        for (name, got) in [
            ("/mrtd_single", measured.mrtd().single_pass),
            ("/mrtd_two", measured.mrtd().two_pass),
            ("/rtmr1", measured.rtmr1()),
            ("/rtmr1_unpatched", measured.rtmr1_unpatched()),
            ("/rtmr2", measured.rtmr2()),
            ("/cfv_of_file", measured.cfv_digest()),
        ] {
            assert_eq!(hex::encode(got), text(deb, name), "{name}");
        }
        assert_eq!(
            hex::encode(measured.os_image_hash()),
            text(deb, "/os_image_hash")
        );
        rtmr0_of_near(&vectors, "deb", &measured);
        let rows = deb["by_memory"].as_array().unwrap();
        assert_eq!(rows.len(), 6);
        for row in rows {
            let memory = row["memory_size"].as_u64().unwrap();
            let got = measured.rtmr1_with(memory).unwrap();
            assert_eq!(hex::encode(got), text(row, "/rtmr1"), "{memory}");
            if memory >= Measured::CONSTANT_FROM {
                assert_eq!(got, measured.rtmr1());
            }
        }
    });
}
