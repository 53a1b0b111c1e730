//! The ACPI tables that QEMU hands to a guest of some shape, in its three fw_cfg files.
//!
//! Tables of genuine QEMU binaries, cut into templates where they vary
//! (`acpi/templates.txt`), are filled and joined again. Known to hold for QEMU 8.0 to 11.1
//! with dstack's machine: q35 of one NUMA node, no HPET, no SMM, no swtpm, and a CPU with 46
//! physical address bits, which decide where PCI memory above 4 GiB begins.

mod template;

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::hash::sha384;
use crate::vm_config::VmConfig;
use template::render;

/// What a host gives the firmware, before that patches pointers and checksums in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    /// `etc/acpi/tables`.
    pub tables: Vec<u8>,
    /// `etc/acpi/rsdp`.
    pub rsdp: Vec<u8>,
    /// `etc/table-loader`.
    pub loader: Vec<u8>,
}

/// What the firmware measures into RTMR0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of Tables")]
pub struct Digests {
    pub tables: [u8; 48],
    pub rsdp: [u8; 48],
    pub loader: [u8; 48],
}

impl Tables {
    /// SHA-384 of each file.
    pub fn digests(&self) -> Digests {
        Digests {
            tables: sha384(&self.tables),
            rsdp: sha384(&self.rsdp),
            loader: sha384(&self.loader),
        }
    }
}

/// The digests of [`tables`].
pub fn digests(config: &VmConfig) -> Digests {
    // Tests forge the same machine again and again.
    static MADE: LazyLock<Mutex<HashMap<Shape, Digests>>> = LazyLock::new(Mutex::default);
    let shape = Shape::new(config);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(digests) = made.get(&shape) {
        return *digests;
    }
    let digests = shape.tables().digests();
    made.insert(shape, digests);
    digests
}

/// The tables of the machine that a `vm_config` describes.
pub fn tables(config: &VmConfig) -> Tables {
    Shape::new(config).tables()
}

const FACS_LENGTH: usize = 64;
const HEADER_LENGTH: u32 = 36;
/// Places in [`File::tables`], after the DSDT.
const FACP: usize = 1;
const RSDT: usize = 5;
/// No device has a higher one: 1f is the chipset's.
const LAST_SLOT: u32 = 0x1e;
/// The most that QEMU's q35 takes.
const MOST_CPUS: u32 = 4096;
/// The first id that needs an x2APIC: 255 addresses all CPUs.
const FIRST_X2APIC: u32 = 255;

/// Where a table is.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: u32,
    length: u32,
}

#[derive(Default)]
struct File {
    bytes: Vec<u8>,
    tables: Vec<Place>,
}

impl File {
    fn add(&mut self, signature: &[u8; 4], revision: u8, body: &[u8]) {
        let place = Place {
            start: self.bytes.len() as u32,
            length: HEADER_LENGTH + body.len() as u32,
        };
        self.bytes.extend(signature);
        self.bytes.extend(place.length.to_le_bytes());
        self.bytes.extend([revision, 0]);
        self.bytes.extend(b"BOCHS BXPC    \x01\0\0\0BXPC\x01\0\0\0");
        self.bytes.extend(body);
        self.tables.push(place);
    }

    /// Commands of 128 bytes: load both files, then patch pointers and checksums.
    fn loader(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut command = |kind: u32, names: &[&str], rest: &[u8]| {
            let end = out.len() + 128;
            out.extend(kind.to_le_bytes());
            for name in names {
                out.extend(name.bytes());
                out.resize(out.len() + 56 - name.len(), 0);
            }
            out.extend(rest);
            out.resize(end, 0);
        };
        const ALLOCATE: u32 = 1;
        const POINTER: u32 = 2;
        const CHECKSUM: u32 = 3;
        const TABLES: &str = "etc/acpi/tables";
        const RSDP: &str = "etc/acpi/rsdp";
        let pointer = |at: u32, size: u8| [&at.to_le_bytes()[..], &[size]].concat();
        let checksum = |at: u32, start: u32, length: u32| [at, start, length].map(u32::to_le_bytes);
        let table = |place: Place| checksum(place.start + 9, place.start, place.length).concat();
        // Alignment, then the zone: below 1 MiB for what the guest searches there.
        command(ALLOCATE, &[RSDP], &[16, 0, 0, 0, 2]);
        command(ALLOCATE, &[TABLES], &[64, 0, 0, 0, 1]);
        for (index, place) in self.tables.iter().enumerate() {
            let fields: Vec<_> = match index {
                FACP => vec![(36, 4), (40, 4), (140, 8)],
                RSDT => (0..4).map(|entry| (HEADER_LENGTH + 4 * entry, 4)).collect(),
                _ => Vec::new(),
            };
            for (at, size) in fields {
                command(POINTER, &[TABLES; 2], &pointer(place.start + at, size));
            }
            command(CHECKSUM, &[TABLES], &table(*place));
        }
        command(POINTER, &[RSDP, TABLES], &pointer(16, 4));
        command(CHECKSUM, &[RSDP], &checksum(8, 0, 20).concat());
        out.resize(4096, 0);
        out
    }
}

/// What decides over the tables.
#[derive(PartialEq, Eq, Hash)]
struct Shape {
    flags: Vec<&'static str>,
    edge_only: bool,
    pic: bool,
    cpus: u32,
    devices: u32,
    ports: u32,
    low_start: u32,
    high_length: u64,
}

impl Shape {
    fn new(config: &VmConfig) -> Self {
        let version = version(&config.qemu_version);
        let ports = config.num_gpus.saturating_add(config.num_nvswitches);
        let mut flags: Vec<_> = [(9, 2), (10, 0), (11, 0), (11, 1)]
            .into_iter()
            .zip(["9.2", "10.0", "11.0", "11.1"])
            .filter_map(|(since, flag)| (version >= since).then_some(flag))
            .collect();
        if !config.hotplug_off && ports == 0 {
            flags.push("hotplug");
        }
        let low_end = if config.memory_size >= 0xb000_0000 {
            0x8000_0000
        } else {
            config.memory_size
        };
        let hole = match config.pci_hole64_size {
            0 => 0x8_0000_0000,
            stated => stated,
        };
        Self {
            flags,
            edge_only: version < (9, 2),
            pic: config.pic.unwrap_or(version < (9, 0)),
            cpus: config.cpu_count.min(MOST_CPUS),
            // The root disk and three that every guest has.
            devices: 4u32
                .saturating_add(config.num_nics.unwrap_or(1))
                .saturating_add(config.num_verity_volumes.unwrap_or(0)),
            ports,
            low_start: low_end as u32,
            high_length: hole.div_ceil(1 << 30).saturating_mul(1 << 30),
        }
    }

    fn tables(&self) -> Tables {
        let mut file = File::default();
        file.bytes.extend(b"FACS\x40\0\0\0");
        file.bytes.resize(FACS_LENGTH, 0);
        file.add(b"DSDT", 1, &self.dsdt());
        file.add(b"FACP", 3, &self.facp());
        file.add(b"APIC", 3, &self.apic());
        file.add(b"MCFG", 1, &render("mcfg", &[], &[]));
        file.add(b"WAET", 1, &render("waet", &[], &[]));
        let pointers: Vec<u8> = file.tables[1..]
            .iter()
            .flat_map(|table| table.start.to_le_bytes())
            .collect();
        file.add(b"RSDT", 1, &pointers);
        let loader = file.loader();
        let mut rsdp = b"RSD PTR \0BOCHS \0".to_vec();
        rsdp.extend(file.tables[RSDT].start.to_le_bytes());
        let mut tables = file.bytes;
        tables.resize(tables.len().next_multiple_of(0x2_0000), 0);
        Tables {
            tables,
            rsdp,
            loader,
        }
    }

    fn dsdt(&self) -> Vec<u8> {
        const LOW_END: u32 = 0xe000_0000;
        const HIGH_START: u64 = 0x3800_0000_0000;
        let mut notify = Vec::new();
        let mut processors = Vec::new();
        for id in 0..self.cpus {
            let name = format!("C{id:03X}");
            let (name, number) = (name.as_bytes(), integer(id));
            notify.extend(render("notify", &[], &[("n", &number), ("name", name)]));
            let template = match id {
                ..FIRST_X2APIC => "processor",
                _ => "x2apic",
            };
            let flags: &[_] = if id == 0 { &[] } else { &["eject"] };
            let holes: template::Holes<'_> = &[
                ("n", &number),
                ("id", &[id as u8]),
                ("name", name),
                ("entry", &apic_entry(id)),
            ];
            processors.extend(render(template, flags, holes));
        }
        let mut slots = Vec::new();
        for slot in 0..=self.devices.saturating_add(self.ports).min(LAST_SLOT) {
            let kind = if slot > self.devices { "port" } else { "slot" };
            let name = format!("S{:02X}_", slot << 3);
            let address = integer(slot << 16);
            let holes: template::Holes<'_> = &[("name", name.as_bytes()), ("address", &address)];
            slots.extend(render(kind, &[], holes));
        }
        let low_length = LOW_END.saturating_sub(self.low_start);
        let high_end = HIGH_START.wrapping_add(self.high_length).wrapping_sub(1);
        render(
            "dsdt",
            &self.flags,
            &[
                ("trigger", &[if self.edge_only { 0x0b } else { 0x09 }]),
                ("notify", &notify),
                ("cpus", &integer(self.cpus)),
                ("processors", &processors),
                ("low_start", &self.low_start.to_le_bytes()),
                ("low_length", &low_length.to_le_bytes()),
                ("high_end", &high_end.to_le_bytes()),
                ("high_length", &self.high_length.to_le_bytes()),
                ("slots", &slots),
            ],
        )
    }

    fn facp(&self) -> Vec<u8> {
        // FORCE_APIC_PHYSICAL_DESTINATION_MODE: logical addresses are of 8 CPUs.
        let flags = 0x84a5u32 | u32::from(self.cpus > 8) << 18;
        let dsdt = (FACS_LENGTH as u32).to_le_bytes();
        let holes: template::Holes<'_> = &[
            ("facs", &[0; 4]),
            ("dsdt", &dsdt),
            ("flags", &flags.to_le_bytes()),
        ];
        render("facp", &[], holes)
    }

    fn apic(&self) -> Vec<u8> {
        let mut out = 0xfee0_0000u32.to_le_bytes().to_vec();
        out.extend(u32::from(self.pic).to_le_bytes());
        for id in 0..self.cpus {
            out.extend(apic_entry(id));
        }
        // The I/O APIC.
        out.extend([1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
        const BUS: u8 = 0;
        const EDGE: u8 = 0x05;
        const LEVEL: u8 = 0x0d;
        for irq in 0..16u8 {
            let flags = match irq {
                _ if self.edge_only => EDGE,
                0 => BUS,
                5 | 9 | 10 | 11 => LEVEL,
                _ => continue,
            };
            let global = if irq == 0 { 2 } else { irq };
            out.extend([2, 10, 0, irq, global, 0, 0, 0, flags, 0]);
        }
        // NMI at LINT1 of all CPUs.
        if self.cpus > FIRST_X2APIC {
            out.extend([10, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
        } else {
            out.extend([4, 6, 0xff, 0, 0, 1]);
        }
        out
    }
}

/// Major and minor version; dstack takes 9.1.0 where none is stated.
fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), minor) => (major, minor.unwrap_or(0)),
        _ => (9, 1),
    }
}

/// A CPU's entry of the APIC table, which its `_MAT` repeats.
fn apic_entry(id: u32) -> Vec<u8> {
    match u8::try_from(id) {
        Ok(short) if id < FIRST_X2APIC => vec![0, 8, short, short, 1, 0, 0, 0],
        _ => {
            let mut out = vec![9, 16, 0, 0];
            out.extend([id, 1, id].map(u32::to_le_bytes).concat());
            out
        }
    }
}

/// An AML integer in its shortest form.
fn integer(value: u32) -> Vec<u8> {
    let bytes = value.to_le_bytes();
    match value {
        0..=1 => vec![value as u8],
        2..=0xff => vec![0x0a, bytes[0]],
        0x100..=0xffff => [&[0x0b], &bytes[..2]].concat(),
        _ => [&[0x0c], &bytes[..]].concat(),
    }
}

#[cfg(test)]
mod tests;
