//! Tables against digests of tables that QEMU made: those that hardware measured, and
//! those that QEMU's families give for the same shape.

use serde::Deserialize;

use super::aml::Term;
use super::*;
use crate::hash;

#[derive(Deserialize)]
struct Vectors {
    /// SHA-384 of all three files, as RTMR0 has them.
    triples: Vec<Triple>,
    /// SHA-256 of the tables.
    tables: Vec<Golden>,
}

#[derive(Deserialize)]
struct Triple {
    #[serde(flatten)]
    shape: Stated,
    note: String,
    tables: String,
    rsdp: String,
    loader: String,
}

#[derive(Deserialize)]
struct Golden {
    #[serde(flatten)]
    shape: Stated,
    tables_sha256: String,
}

#[derive(Debug, Deserialize)]
struct Stated {
    family: String,
    cpus: u32,
    memory: u64,
    pic: bool,
    hotplug: bool,
    hole64: u64,
    devices: u32,
    root_ports: u32,
}

impl Stated {
    fn shape(&self) -> Shape {
        let family = match self.family.as_str() {
            "V8" => QemuFamily::V8,
            "V9" => QemuFamily::V9,
            "V9_2" => QemuFamily::V9_2,
            "V10" => QemuFamily::V10,
            "V10_2" => QemuFamily::V10_2,
            "V11" => QemuFamily::V11,
            "V11_1" => QemuFamily::V11_1,
            other => panic!("unknown family {other}"),
        };
        Shape {
            family,
            cpus: self.cpus,
            memory: self.memory,
            pic: self.pic,
            hotplug: self.hotplug,
            hole64: self.hole64,
            devices: self.devices,
            root_ports: self.root_ports,
        }
    }
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("vectors.json")).unwrap()
}

#[test]
fn tables_are_those_that_qemu_made() {
    let vectors = vectors();
    assert_eq!((vectors.triples.len(), vectors.tables.len()), (27, 15));
    for vector in &vectors.triples {
        let made = tables(&vector.shape.shape());
        let digest = |bytes: &[u8]| hex::encode(hash::sha384(&[bytes]));
        let digests = [&made.tables, &made.rsdp, &made.loader].map(|file| digest(file));
        let expected = [&vector.tables, &vector.rsdp, &vector.loader];
        assert_eq!(
            digests.each_ref(),
            expected,
            "{}: {:?}",
            vector.note,
            vector.shape
        );
    }
    for vector in &vectors.tables {
        let made = hash::sha256(&[&tables(&vector.shape.shape()).tables]);
        assert_eq!(
            hex::encode(made),
            vector.tables_sha256,
            "{:?}",
            vector.shape
        );
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
