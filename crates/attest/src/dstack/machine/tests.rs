//! Tables against digests of tables that QEMU made: those that hardware measured, and
//! those that QEMU's families give for the same shape.

use serde_json::{Value, json};

use super::aml::Term;
use super::*;
use crate::base::hash;

/// dstack's own digests of tables, of each family and of 1 to 4,096 CPUs. Another test
/// compares those that real machines measured, with the rest of their RTMR0.
#[test]
fn tables_are_those_that_qemu_made() {
    let vectors = include_str!("../../../tests/data/dstack_vectors.json");
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    let cases = &vectors["acpi_tables_upstream_goldens"]["cases"];
    assert_eq!(cases.as_array().unwrap().len(), 15);
    for case in cases.as_array().unwrap() {
        let vm_config = json!({
            "qemu_version": format!("{}.0", case["qemu"].as_str().unwrap()),
            "cpu_count": case["cpus"],
            "memory_size": case["memory"],
            "num_gpus": case["gpus"],
            "num_nvswitches": case["switches"],
            "hotplug_off": case["hotplug_off"],
            "pic": false,
        });
        let shape = Shape::read(&vm_config.to_string()).unwrap();
        let made = hash::sha256(&[&tables(&shape).tables]);
        assert_eq!(case["tables_sha256"], hex::encode(made), "{case}");
    }
}

#[test]
fn each_number_of_a_shape_is_in_its_tables() {
    let shape = Shape {
        family: QemuFamily::V9_2,
        cpus: 4,
        memory: 0x4000_0000,
        pic: false,
        hotplug: false,
        hole64: 0x8_0000_0000,
        devices: 1,
        root_ports: 2,
    };
    let others = [
        Shape {
            family: QemuFamily::V9,
            ..shape
        },
        Shape {
            family: QemuFamily::V10,
            ..shape
        },
        Shape { cpus: 5, ..shape },
        Shape {
            memory: 0x4010_0000,
            ..shape
        },
        Shape { pic: true, ..shape },
        Shape {
            hotplug: true,
            ..shape
        },
        Shape {
            hole64: 0x9_0000_0000,
            ..shape
        },
        Shape {
            devices: 2,
            ..shape
        },
        Shape {
            root_ports: 3,
            ..shape
        },
    ];
    for other in others {
        assert_ne!(tables(&shape).tables, tables(&other).tables, "{other:?}");
    }
}

#[test]
fn no_shape_panics() {
    let shape = Shape {
        family: QemuFamily::V11,
        cpus: 0,
        memory: 0,
        pic: true,
        hotplug: true,
        hole64: 0,
        devices: 0,
        root_ports: 0,
    };
    let most = Shape {
        cpus: 4096,
        memory: u64::MAX,
        hole64: u64::MAX,
        devices: 4096,
        root_ports: 4096,
        ..shape
    };
    for shape in [shape, most] {
        let made = tables(&shape);
        assert_eq!(made.tables.len() % 0x2_0000, 0);
        assert_eq!((made.rsdp.len(), made.loader.len()), (20, 4096));
    }
}

#[test]
fn a_term_states_its_length_in_as_few_bytes_as_it_can() {
    for (body, bytes) in [
        (0, 1),
        (62, 1),
        (63, 2),
        (4093, 2),
        (4094, 3),
        (1_048_572, 3),
        (1_048_573, 4),
    ] {
        let mut out = Vec::new();
        Term::Else(&[Term::Written(&vec![0xa3; body])]).write(&mut out);
        assert_eq!(out.len(), 1 + bytes + body);
        let first = usize::from(out[1]);
        assert_eq!(first >> 6, bytes - 1);
        let length = match bytes {
            1 => first,
            _ => out[2..=bytes]
                .iter()
                .rev()
                .fold(0, |length, byte| length << 8 | usize::from(*byte))
                .checked_shl(4)
                .map_or(0, |high| high | first & 0xf),
        };
        assert_eq!(length, bytes + body);
    }
}
