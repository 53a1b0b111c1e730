//! `image measure` and `image list`.

use attest::Policy;
use attest::image::known;
use fake_tee::Image;
use fake_tee::image::malformed::firmwares;

use super::*;

/// A release, unpacked.
fn unpacked(name: &str, image: &Image) -> PathBuf {
    let dir = folder(name);
    std::fs::write(dir.join("sha256sum.txt"), image.list()).unwrap();
    for (name, content) in image.contents() {
        std::fs::write(dir.join(name), content).unwrap();
    }
    dir
}

/// Exit code, output and errors of `image measure`.
fn measure(dir: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let dir = dir.display().to_string();
    let arguments = [&["image", "measure", &dir], more].concat();
    let output = run(&arguments);
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn a_release_is_measured() {
    let image = Image::small_0_6();
    let dir = unpacked("image", &image);
    std::fs::remove_file(dir.join("measurement.aws.cbor")).unwrap();
    let registers = image.registers(1 << 40);
    let (code, said, errors) = measure(&dir, &["--json"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let said: Value = serde_json::from_str(&said).unwrap();
    for (member, digest) in [
        ("mrtd", registers.mrtd_single_pass),
        ("mrtd_two_pass", registers.mrtd_two_pass),
        ("rtmr1", registers.rtmr1),
        ("rtmr1_unpatched", registers.rtmr1_unpatched),
        ("rtmr2", registers.rtmr2),
        ("cfv", registers.cfv),
    ] {
        assert_eq!(said[member], hex::encode(digest), "{member}");
    }
    assert_eq!(said["os_image_hash"], hex::encode(registers.os_image_hash));
    assert_eq!(said["kernel_header"], "normalized");
    assert_eq!(said["not_given"], json!(["measurement.aws.cbor"]));
    assert_eq!(said["known"], false);
    assert_eq!(said["name"], Value::Null);
    assert_eq!(said["contradiction"], Value::Null);
    assert_eq!(said["machine"], Value::Null);

    // The row is ready for a policy, with its warning.
    let row = said["policy_row"].as_str().unwrap();
    assert!(
        row.starts_with("# A hash is not a proof of a release"),
        "{row}"
    );
    let policy = format!("name = \"own\"\nextends = \"near\"\ndate = \"2026-11-30\"\n{row}");
    let policy = Policy::from_toml(&policy).unwrap();
    let rtmr2 = hex::encode(registers.rtmr2);
    assert!(policy.to_toml().contains(&rtmr2));

    let (code, words, errors) = measure(&dir, &[]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(words.ends_with(row), "{words}");
    for part in [
        "unlisted 0.6.6: its hash is not in this program's table of images\n",
        "\nversion                  \"0.6.6\", production\n",
        "\nfiles not given          measurement.aws.cbor\n",
        &hex::encode(registers.mrtd_two_pass),
    ] {
        assert!(words.contains(part), "{part} is not in {words}");
    }
}

#[test]
fn a_machine_of_little_memory_has_another_rtmr1() {
    let image = Image::small();
    let dir = unpacked("image-memory", &image);
    let config = dir.join("vm_config.json");
    let config = |text: &str| {
        std::fs::write(&config, text).unwrap();
        measure(&dir, &["--json", "--vm-config", config.to_str().unwrap()])
    };
    let (code, said, refused) = config(r#"{"memory_size": 1073741824}"#);
    assert_eq!(code, Some(1));
    let why = "RTMR0 of the machine is not computed: info.vm_config has no cpu_count";
    assert!(refused.contains(why), "{refused}");
    let said: Value = serde_json::from_str(&said).unwrap();
    let rtmr1 = hex::encode(image.registers(1 << 30).rtmr1);
    assert_eq!(said["machine"]["rtmr1"], rtmr1);
    assert_ne!(said["rtmr1"], rtmr1);
    // Without a version and CPUs there are no tables.
    assert_eq!(said["machine"]["rtmr0"], Value::Null);
    let why = said["machine"]["rtmr0_not_recomputable"].as_str().unwrap();
    assert!(!why.is_empty());
    let near = r#"{"cpu_count": 64, "num_gpus": 8, "num_nvswitches": 4, "hotplug_off": true, "pci_hole64_size": 1125899906842624, "memory_size": 2199023255552, "qemu_version": "9.2.1"}"#;
    let (code, said, _) = config(near);
    assert_eq!(code, Some(0));
    let said: Value = serde_json::from_str(&said).unwrap();
    // By dstack's program and another one, for NEAR AI's machines with this configuration.
    assert_eq!(
        said["machine"]["rtmr0"],
        "32fe7cbd9f046feeb77616e3757ebe53310dc45d55ff7b634dd18c0d0b9e59f1cdfc924df5445daceff790f893501d8e"
    );
    let events = said["machine"]["rtmr0_events"].as_array().unwrap();
    let names: Vec<_> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        (names.len(), names[0], names[12]),
        (13, "td_hob", "boot_0000")
    );
    for wrong in ["", "[]", r#"{"memory_size": 1, "memory_size": 2}"#] {
        let (code, _, errors) = config(wrong);
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains("vm_config"), "{errors}");
    }
    // Of firmware that measures SMBIOS tables there is no RTMR0.
    let mut image = Image::small();
    image.set("ovmf_variant", "stable202505");
    let dir = unpacked("image-smbios", &image);
    let config = dir.join("vm_config.json");
    std::fs::write(&config, r#"{"memory_size": 1099511627776}"#).unwrap();
    let (code, said, _) = measure(&dir, &["--vm-config", config.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(said.contains("RTMR0                    not recomputable: this firmware (stable202505) measures SMBIOS tables"), "{said}");
}

#[test]
fn files_that_contradict_themselves() {
    // Not what is listed.
    let dir = unpacked("image-changed", &Image::small());
    std::fs::write(dir.join("ovmf.fd"), "another").unwrap();
    let (code, said, errors) = measure(&dir, &[]);
    assert_eq!((code, said.as_str()), (Some(1), ""));
    assert!(
        errors.starts_with("error: ovmf.fd: its SHA-256 is "),
        "{errors}"
    );
    assert!(
        errors.contains("\nhint: Take the files from the release again."),
        "{errors}"
    );
    // Listed, and malformed.
    for (name, image) in firmwares().into_iter().take(3) {
        let dir = unpacked("image-malformed", &image);
        let (code, said, errors) = measure(&dir, &["--json"]);
        assert_eq!((code, said.as_str()), (Some(1), ""), "{name}");
        assert!(
            errors.starts_with("error: ovmf.fd: the table of GUIDs is "),
            "{errors}"
        );
    }
    let list = dir.join("sha256sum.txt");
    std::fs::write(&list, "0  /etc/passwd\n").unwrap();
    let (code, _, errors) = measure(&dir, &[]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("sha256sum.txt, line 1: expected"),
        "{errors}"
    );
    // What is stated of the kernel's header is not so: measured, and said.
    let mut image = Image::small_0_6();
    image.initrd.push(0);
    let dir = unpacked("image-header", &image);
    let (code, said, errors) = measure(&dir, &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains(&hex::encode(image.registers(1 << 40).rtmr1)));
    assert!(
        errors.contains("metadata.json says that the kernel's header is normalised"),
        "{errors}"
    );
}

#[cfg(unix)]
#[test]
fn what_cannot_be_read() {
    use std::os::unix::fs::symlink;
    let unreadable = |dir: &Path, why: &str| {
        let (code, said, errors) = measure(dir, &[]);
        assert_eq!((code, said.as_str()), (Some(3), ""), "{why}: {errors}");
        assert!(errors.contains(why), "{why} is not in {errors}");
    };
    let dir = folder("image-nothing");
    unreadable(&dir.join("absent"), "sha256sum.txt: no such file\nhint: ");
    unreadable(&dir, "sha256sum.txt: no such file\nhint: ");
    std::fs::write(dir.join("sha256sum.txt"), vec![b'x'; 16_385]).unwrap();
    unreadable(&dir, "sha256sum.txt: more than 16384 bytes");

    let outside = folder("image-outside");
    let fresh = || unpacked("image-unreadable", &Image::small());
    let firmware = |dir: &Path| dir.join("ovmf.fd");
    let dir = fresh();
    std::fs::remove_file(firmware(&dir)).unwrap();
    unreadable(&dir, "ovmf.fd: it is listed but missing");
    std::fs::create_dir(firmware(&dir)).unwrap();
    unreadable(&dir, "ovmf.fd: not a regular file");
    // Links, to elsewhere and to the very file.
    for (name, image) in [("ovmf.fd", "ovmf.fd"), ("sha256sum.txt", "list")] {
        for target in [outside.join(image), PathBuf::from(format!("kept-{image}"))] {
            let dir = fresh();
            std::fs::rename(dir.join(name), dir.join(&target)).unwrap();
            symlink(&target, dir.join(name)).unwrap();
            unreadable(&dir, "a link, which is not followed");
        }
    }
    // A pipe that nobody writes to.
    let dir = fresh();
    std::fs::remove_file(firmware(&dir)).unwrap();
    let made = Command::new("mkfifo").arg(firmware(&dir)).status();
    if made.is_ok_and(|status| status.success()) {
        unreadable(&dir, "ovmf.fd: not a regular file");
    }
    let dir = fresh();
    let large = std::fs::File::create(dir.join("metadata.json")).unwrap();
    large.set_len((64 << 10) + 1).unwrap();
    unreadable(&dir, "metadata.json: more than 65536 bytes");
    // The folder itself may be a link: the user has named it.
    let link = outside.join("link");
    symlink(fresh(), &link).unwrap();
    assert_eq!(measure(&link, &[]).0, Some(0));
    assert_eq!(run(&["image", "measure"]).status.code(), Some(2));
    assert_eq!(run(&["image"]).status.code(), Some(2));
}

#[test]
fn the_images_that_are_known() {
    let listed = |arguments: &[&str]| {
        let output = run(&[&["image", "list"], arguments].concat());
        assert_eq!(output.status.code(), Some(0));
        text(&output.stdout)
    };
    let words = listed(&[]);
    let line = |name: &str| {
        let mut lines = words.lines();
        let found = lines.find(|line| line.starts_with(&format!("{name} ")));
        found.unwrap_or_else(|| panic!("{name} is not in {words}"))
    };
    for (name, parts) in [
        (
            "dstack-nvidia-0.5.5",
            ["known, seen", "accepted", "2 danger, 3 warning"],
        ),
        (
            "dstack-nvidia-0.5.11",
            ["known  ", "accepted", "2 danger, 1 warning"],
        ),
        (
            "dstack-nvidia-dev-0.5.5",
            ["known  ", "development", "2 danger"],
        ),
        ("dstack-0.6.1", ["-  ", "refuse", "1 danger"]),
        ("dstack-0.6.6", ["5aa762ee7cdd", "-  ", "none known"]),
    ] {
        for part in parts {
            assert!(line(name).contains(part), "{part}: {}", line(name));
        }
    }
    assert!(words.contains("\n  dstack-nvidia-0.5.10: its firmware measures SMBIOS tables"));
    // The worst comes first.
    let at = |part: &str| words.find(part).unwrap_or_else(|| panic!("{part}"));
    assert!(at("(danger)") < at("(warning)") && at("(warning)") < at("(notice)"));
    assert!(words.contains("A hash is not a proof of a release."));
    assert!(words.lines().all(|line| line.len() < 250));

    let said: Value = serde_json::from_str(&listed(&["--json"])).unwrap();
    let rows = said["images"].as_array().unwrap();
    assert_eq!(rows.len(), known().len());
    let accepted = |said: &Value| -> Vec<String> {
        let rows = said["images"].as_array().unwrap().iter();
        let accepted = rows.filter(|row| row["accepted"] == true);
        accepted
            .map(|row| row["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        accepted(&said),
        ["dstack-nvidia-0.5.5", "dstack-nvidia-0.5.11"]
    );
    for (row, image) in rows.iter().zip(known()) {
        assert_eq!(row["name"], image.name);
        assert_eq!(row["registers"].is_null(), image.registers.is_none());
        assert_eq!(row["seen_on_hardware"], image.seen_on_hardware());
        assert_eq!(
            row["advisories"].as_array().unwrap().len(),
            image.weaknesses().count()
        );
    }
    let hardware: Value = serde_json::from_str(&listed(&["--json", "--policy=hardware"])).unwrap();
    assert!(accepted(&hardware).is_empty());
    let absent = run(&["image", "list", "--policy=/nonexistent"]);
    assert_eq!(absent.status.code(), Some(3));
    assert_eq!(run(&["image", "list", "--unknown"]).status.code(), Some(2));
}
