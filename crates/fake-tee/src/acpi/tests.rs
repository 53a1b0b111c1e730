//! Hashes of other makers' files.

use super::*;
use crate::hash::sha256;

const VECTORS: &str = include_str!("vectors.txt");

fn stated<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn switch(text: &str) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" => Some(false),
        "-" => None,
        _ => panic!("{text}"),
    }
}

#[test]
fn tables_are_those_of_other_makers() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<_> = line.split_whitespace().collect();
        let [
            qemu,
            cpus,
            memory,
            gpus,
            switches,
            hotplug,
            pic,
            window,
            nics,
            volumes,
            files @ ..,
        ] = &columns[..]
        else {
            continue;
        };
        let made = tables(&VmConfig {
            qemu_version: qemu.trim_matches('-').to_owned(),
            cpu_count: stated(cpus).unwrap(),
            memory_size: stated(memory).unwrap(),
            num_gpus: stated(gpus).unwrap(),
            num_nvswitches: stated(switches).unwrap(),
            hotplug_off: !switch(hotplug).unwrap(),
            pic: switch(pic),
            pci_hole64_size: stated(window).unwrap(),
            num_nics: stated(nics),
            num_verity_volumes: stated(volumes),
            ..VmConfig::new(0, [0; 32])
        });
        for (expected, file) in files.iter().zip([&made.tables, &made.rsdp, &made.loader]) {
            let (expected, found) = match expected.strip_prefix("sha256:") {
                Some(expected) => (expected, hex::encode(sha256(file))),
                None => (*expected, hex::encode(sha384(file))),
            };
            if expected != "-" && found[..32] != *expected {
                wrong.push(line);
            }
        }
        checked += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(checked, 114, "all vectors");
}

/// Whatever a test lets a host say of its machine.
#[test]
fn no_shape_is_too_odd() {
    for number in [0, 1, 32, 4096, u32::MAX] {
        let size = u64::from(number) << 32 | u64::from(number);
        let made = tables(&VmConfig {
            qemu_version: "new".to_owned(),
            cpu_count: number.min(300),
            memory_size: size,
            pci_hole64_size: u64::MAX - size,
            num_gpus: number,
            num_nvswitches: number,
            num_nics: Some(number),
            num_verity_volumes: Some(number),
            ..VmConfig::new(0, [0; 32])
        });
        assert_eq!(made.tables.len() % 0x2_0000, 0);
    }
}
