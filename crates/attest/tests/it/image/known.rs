//! The table of known images, held against the policies and itself.

use std::collections::BTreeSet;

use attest::image::{KnownImage, Weakness, known, known_advisories, known_by_hash};
use attest::{Policy, Severity, UnixTime};

use crate::support::NOW;

fn named(name: &str) -> &'static KnownImage {
    let mut images = known().iter().filter(|image| image.name == name);
    let found = images.next().unwrap_or_else(|| panic!("{name}"));
    assert!(images.next().is_none(), "{name} stands twice");
    found
}

#[test]
fn no_two_rows_are_one_image() {
    let mut names = BTreeSet::new();
    let mut hashes = BTreeSet::new();
    let mut registers = BTreeSet::new();
    for image in known() {
        assert!(names.insert(&image.name), "{}", image.name);
        if let Some(hash) = image.os_image_hash {
            assert!(hashes.insert(hash), "{}", image.name);
            assert_eq!(known_by_hash(&hash), Some(image));
        }
        if let Some(own) = image.registers {
            // RTMR1 alone tells nothing: 0.5.5 and its development image have one.
            assert!(registers.insert(own.rtmr2), "{}", image.name);
        }
        assert_eq!(
            image.prerelease,
            image.version.contains('-'),
            "{}",
            image.name
        );
        assert_eq!(image.dev, image.name.contains("dev"), "{}", image.name);
    }
    assert_eq!(known_by_hash(&[0; 32]), None);
}

/// The policies accept production images of the table, and these only.
#[test]
fn near_names_two_of_them() {
    let accepted = |policy: &Policy| -> Vec<&str> {
        let images = known().iter();
        images
            .filter(|image| policy.names_image(image, UnixTime(NOW)))
            .map(|image| image.name.as_str())
            .collect()
    };
    let two = ["dstack-nvidia-0.5.5", "dstack-nvidia-0.5.11"];
    for policy in [Policy::near(), Policy::near_strict()] {
        assert_eq!(accepted(&policy), two);
    }
    assert!(accepted(&Policy::hardware()).is_empty());
    // A row of the policy is a row of the table: nothing is accepted that is not known.
    let text = Policy::near().to_toml();
    let value: toml::Table = text.parse().unwrap();
    let rows = value["os_image"].as_array().unwrap();
    assert_eq!(rows.len(), two.len());
    for row in rows {
        let image = named(row["name"].as_str().unwrap());
        let own = image.registers.unwrap();
        for (key, value) in [
            ("mrtd", hex::encode(own.mrtd)),
            ("rtmr1", hex::encode(own.rtmr1)),
            ("rtmr2", hex::encode(own.rtmr2)),
            ("os_image_hash", hex::encode(image.os_image_hash.unwrap())),
        ] {
            assert_eq!(row[key].as_str(), Some(value.as_str()), "{key}");
        }
        assert!(!image.dev && !image.prerelease && image.refuse.is_none());
    }
}

/// What a policy says of the weaknesses of its images is what the table says.
#[test]
fn the_policy_names_the_same_weaknesses() {
    let value: toml::Table = Policy::near().to_toml().parse().unwrap();
    let mut said: BTreeSet<(String, String, String)> = BTreeSet::new();
    for row in value["image_advisory"].as_array().unwrap() {
        for image in row["images"].as_array().unwrap() {
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            let image = image.as_str().unwrap().to_owned();
            said.insert((image, text("id"), text("severity")));
        }
    }
    let mut known_of: BTreeSet<_> = BTreeSet::new();
    for image in ["dstack-nvidia-0.5.5", "dstack-nvidia-0.5.11"] {
        for (advisory, weakness) in named(image).weaknesses() {
            if weakness == Weakness::Open {
                let severity = advisory.severity.as_str().to_owned();
                known_of.insert((image.to_owned(), advisory.id.clone(), severity));
            }
        }
    }
    assert_eq!(said, known_of);
}

#[test]
fn weaknesses_by_version() {
    let of = |image: &str, id: &str| {
        let mut advisories = known_advisories().iter();
        let advisory = advisories.find(|own| own.id == id).unwrap();
        advisory.of(named(image))
    };
    let (open, not_stated, closed) = (Weakness::Open, Weakness::NotStated, Weakness::Closed);
    for (image, id, expected) in [
        ("dstack-0.5.4", "GHSA-jxq2-hpw3-m5wf", closed),
        ("dstack-nvidia-0.5.5", "CVE-2026-22696", open),
        ("dstack-nvidia-0.5.6", "CVE-2026-22696", closed),
        // 0.5.4.1 is before 0.5.6, and 0.5.11 behind 0.5.6.
        ("dstack-nvidia-dev-0.5.4.1", "CVE-2026-22696", open),
        ("dstack-nvidia-0.5.11", "CVE-2026-22696", closed),
        ("dstack-0.6.0", "CVE-2026-22696", closed),
        ("dstack-nvidia-0.5.11", "dstack 1255 and 1447", open),
        ("dstack-nvidia-0.5.12", "dstack 1255 and 1447", closed),
        ("dstack-0.6.0", "dstack 1255 and 1447", closed),
        ("dstack-0.6.0-rc6", "dstack 1255 and 1447", open),
        ("dstack-0.6.0", "dstack 1442 and 1443", open),
        ("dstack-0.6.1", "dstack 1442 and 1443", closed),
        // Nobody says which release of 0.6 had it first; 0.6.4 has.
        ("dstack-0.6.3", "dstack 1522 and 1571", not_stated),
        ("dstack-0.6.4", "dstack 1522 and 1571", closed),
        ("dstack-0.6.1", "GHSA-c79w-3x5w-gmm5", open),
        ("dstack-0.6.2", "GHSA-c79w-3x5w-gmm5", closed),
        // Nobody says that 0.5 is not concerned.
        ("dstack-nvidia-0.5.16", "GHSA-c79w-3x5w-gmm5", not_stated),
    ] {
        assert_eq!(of(image, id), expected, "{image} {id}");
    }
    let worst = |image: &str| {
        let weaknesses = named(image).weaknesses();
        let open = weaknesses.filter(|(_, weakness)| *weakness == Weakness::Open);
        open.map(|(advisory, _)| advisory.severity).max()
    };
    assert_eq!(worst("dstack-nvidia-0.5.11"), Some(Severity::Danger));
    assert_eq!(worst("dstack-0.6.6"), None);
}

#[test]
fn seen_or_not() {
    assert!(named("dstack-nvidia-0.5.5").seen_on_hardware());
    // Others have seen it, and said so.
    assert!(!named("dstack-nvidia-0.5.11").seen_on_hardware());
    assert!(named("dstack-nvidia-0.5.11").registers.is_some());
    for image in known() {
        assert!(image.registers.is_some() || !image.seen_on_hardware());
    }
    for refused in ["dstack-nvidia-0.5.10", "dstack-0.6.0", "dstack-0.6.1"] {
        assert!(named(refused).refuse.is_some());
    }
}

/// A machine that boots a synthetic image shows the registers that are measured of its
/// files.
#[test]
fn a_fake_machine_boots_an_image() {
    use attest::image::FileList;
    let image = fake_tee::Image::small();
    let spec = crate::support::spec_with(|spec| image.boot(spec));
    let built = spec.forge(&crate::support::challenge()).unwrap();
    let contents = image.contents();
    let list = FileList::read(&image.list()).unwrap();
    let files = super::by_name(&contents);
    let row = list.measure(&files).unwrap().policy_row("small");
    let own = spec.policy_toml();
    let own_row = own
        .lines()
        .find(|line| line.starts_with("os_image"))
        .unwrap();
    // The row that was measured stands for the machine's own.
    let with = |row: &str| {
        let text = own.replace(&format!("{own_row}\n"), "") + row;
        let policy = Policy::from_toml(&text).unwrap();
        let floor = attest::FloorCheck::NotKept("a test");
        crate::support::judge_with(&built, &policy, floor).outcome
    };
    let verified = with(&row);
    assert!(verified.is_ok(), "{:?}", verified.err());
    let other = fake_tee::Image::small_0_6();
    let contents = other.contents();
    let list = FileList::read(&other.list()).unwrap();
    let row = list
        .measure(&super::by_name(&contents))
        .unwrap()
        .policy_row("other");
    assert_eq!(with(&row).unwrap_err().code(), "rejected_os_image");
}
