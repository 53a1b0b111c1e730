//! The list of files and the metadata: what is read, and what is not taken.

use attest::image::{FileList, ImageError, OvmfVariant};
use fake_tee::Image;
use fake_tee::hash::sha256;

use super::{by_name, measured, refused};

fn read(text: &str) -> Result<FileList, ImageError> {
    FileList::read(text.as_bytes())
}

#[test]
fn the_list_is_as_sha256sum_writes_it() {
    let good = String::from_utf8(Image::small().list()).unwrap();
    let list = read(&good).unwrap();
    assert_eq!(list.os_image_hash(), sha256(good.as_bytes()));
    let names: Vec<_> = list.names().collect();
    assert_eq!(
        names,
        [
            ("bzImage", 64 << 20),
            ("initramfs.cpio.gz", 64 << 20),
            ("metadata.json", 64 << 10),
            ("ovmf.fd", 16 << 20),
        ]
    );
    let zeros = "0".repeat(64);
    for (line, why) in [
        (format!("{zeros} ovmf.cbor"), "one space"),
        (format!("{zeros} *a"), "a mark"),
        (format!("{}  a", "0".repeat(63)), "63 digits"),
        (format!("{}  a", "A".repeat(64)), "capitals"),
        (format!("{zeros}  "), "no name"),
        (format!("{zeros}  ./a"), "a folder"),
        (format!("{zeros}  ../a"), "another folder"),
        (format!("{zeros}  /etc/passwd"), "a path"),
        (format!("{zeros}  a/b"), "a folder"),
        (format!("{zeros}  .a"), "hidden"),
        (format!("{zeros}  -a"), "an option"),
        (format!("{zeros}  sha256sum.txt"), "itself"),
        (format!("{zeros}  a\0"), "NUL"),
        (format!("{zeros}  a\r"), "a return"),
        (format!("{zeros}  {}", "a".repeat(65)), "a long name"),
        (format!("{zeros}  \u{e4}"), "no ASCII"),
        (String::new(), "an empty line"),
    ] {
        match read(&format!("{good}{line}\n")) {
            Err(ImageError::ListLine { line: 5, .. }) => {}
            other => panic!("{why}: {other:?}"),
        }
    }
    assert!(matches!(
        FileList::read(b"\xff\n"),
        Err(ImageError::ListLine { line: 1, .. })
    ));
    assert_eq!(read(good.trim_end()), Err(ImageError::ListCut));
    assert_eq!(read(""), Err(ImageError::NotListed { name: "ovmf.fd" }));
    let again = good.lines().next().unwrap();
    let name = "ovmf.fd".to_owned();
    assert_eq!(
        read(&format!("{good}{again}\n")),
        Err(ImageError::ListedTwice { name })
    );
    for name in ["ovmf.fd", "bzImage", "initramfs.cpio.gz", "metadata.json"] {
        let less: String = good
            .lines()
            .filter(|line| !line.ends_with(name))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(read(&less), Err(ImageError::NotListed { name }));
    }
    let more = |count: usize| -> String {
        let lines = (0..count).map(|number| format!("{zeros}  more.{number}\n"));
        good.clone() + &lines.collect::<String>()
    };
    assert!(read(&more(28)).is_ok());
    assert_eq!(read(&more(29)), Err(ImageError::ListTooLong { limit: 32 }));
    assert_eq!(
        read(&"x".repeat(16_385)),
        Err(ImageError::TooLarge {
            file: "sha256sum.txt".to_owned(),
            size: 16_385,
            limit: 16_384
        })
    );
}

#[test]
fn each_file_is_the_listed_one() {
    let image = Image::small_0_6();
    let list = FileList::read(&image.list()).unwrap();
    for number in 0..image.contents().len() {
        let mut contents = image.contents();
        contents[number].1.push(0);
        let (name, content) = contents[number].clone();
        let got = hex::encode(sha256(&content));
        let listed = hex::encode(sha256(&image.contents()[number].1));
        let error = list.measure(&by_name(&contents)).unwrap_err();
        assert_eq!(error, ImageError::Digest { name, listed, got });
    }
}

#[test]
fn four_files_decide_and_the_others_may_be_absent() {
    let image = Image::small_0_6();
    let list = FileList::read(&image.list()).unwrap();
    let mut contents = image.contents();
    let whole = list
        .measure(&by_name(&contents))
        .unwrap()
        .checked()
        .to_vec();
    assert_eq!(whole.len(), 8);
    contents.truncate(5);
    let files = by_name(&contents);
    let measured = list.measure(&files).unwrap();
    assert_eq!(measured.checked().len(), 5);
    assert_eq!(
        measured.not_given(),
        [
            "measurement.aws.cbor",
            "measurement.gcp.cbor",
            "measurement.snp.cbor"
        ]
    );
    for name in ["ovmf.fd", "bzImage", "initramfs.cpio.gz", "metadata.json"] {
        let mut files = by_name(&contents);
        files.remove(name);
        let error = list.measure(&files).unwrap_err();
        assert_eq!(error, ImageError::Absent { name });
    }
}

/// Sizes are looked at before anything is hashed: a digest of these would not match.
#[test]
fn sizes() {
    let list = FileList::read(&Image::small_0_6().list()).unwrap();
    let contents = Image::small_0_6().contents();
    for (name, limit) in list.names() {
        let large = vec![0; limit + 1];
        let mut files = by_name(&contents);
        files.insert(name, &large);
        let expected = ImageError::TooLarge {
            file: name.to_owned(),
            size: limit + 1,
            limit,
        };
        assert_eq!(list.measure(&files).unwrap_err(), expected);
    }
}

#[test]
fn metadata() {
    let said = |image: &Image| measured(&image.contents(), |m| m.unwrap().metadata().clone());
    let plain = said(&Image::small());
    assert_eq!((plain.version.as_str(), plain.is_dev), ("0.5.11", false));
    assert_eq!(plain.ovmf_variant, OvmfVariant::Pre202505);
    assert!(plain.ovmf_variant.rtmr0_not_recomputable().is_none());
    assert!(!plain.kernel_header_normalized);

    let mut image = Image::small();
    image.set("is_dev", true);
    image.set("ovmf_variant", "stable202505");
    let other = said(&image);
    assert!(other.is_dev);
    let why = other.ovmf_variant.rtmr0_not_recomputable().unwrap();
    assert!(why.contains("SMBIOS"), "{why}");
    // RTMR0 aside, everything is measured.
    super::must_agree(&image);
    image.set("ovmf_variant", "stable\u{1b}202611");
    let unknown = said(&image).ovmf_variant;
    assert_eq!(
        unknown,
        OvmfVariant::Other("stable\\u{1b}202611".to_owned())
    );
    assert!(unknown.rtmr0_not_recomputable().is_some());
    image.set("ovmf_variant", serde_json::Value::Null);
    assert_eq!(said(&image).ovmf_variant, OvmfVariant::NotStated);

    let long = "x".repeat(2049);
    for (member, value) in [
        ("bios", "ovmf-other.fd".into()),
        ("kernel", "./bzImage".into()),
        ("initrd", serde_json::Value::Null),
        ("version", 5.into()),
        ("is_dev", "false".into()),
        ("is_dev", serde_json::Value::Null),
        ("cmdline", serde_json::Value::Null),
        ("cmdline", "console=\u{e4}".into()),
        ("cmdline", "a\nb".into()),
        ("cmdline", "a\0b".into()),
        ("cmdline", long.into()),
        ("ovmf_variant", 1.into()),
        ("kernel_header_normalized", "true".into()),
        ("git_revision", 1.into()),
    ] {
        let mut image = Image::small();
        image.set(member, value);
        match refused(&image) {
            ImageError::MetadataMember { member: got, .. } => assert_eq!(got, member),
            other => panic!("{member}: {other}"),
        }
    }
    for text in [
        "",
        "[]",
        "{\"version\":\"1\",\"version\":\"2\"}",
        "{",
        "\u{feff}{}",
    ] {
        let mut contents = Image::small().contents();
        contents[3].1 = text.into();
        let error = measured(&contents, |measured| measured.unwrap_err());
        match error {
            ImageError::Metadata { .. } => assert!(!text.is_empty()),
            ImageError::Empty { .. } => assert!(text.is_empty()),
            other => panic!("{text}: {other}"),
        }
    }
}
