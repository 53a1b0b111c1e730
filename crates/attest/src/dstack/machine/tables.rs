//! The static tables, and the commands by which the firmware links all of them.

use super::dsdt::{dsdt, local_apic};
use super::{QemuFamily, Shape, Tables};

const TABLES: &str = "etc/acpi/tables";
const RSDP: &str = "etc/acpi/rsdp";

/// The tables of a machine.
pub(crate) fn tables(shape: &Shape) -> Tables {
    // Room for what most machines need.
    let mut file = File {
        bytes: Vec::with_capacity(0x2_0000),
        loader: Vec::with_capacity(0x1000),
    };
    file.loader.extend(allocate(RSDP, 16, 2));
    file.loader.extend(allocate(TABLES, 64, 1));

    let facs = file.end();
    file.bytes.extend(b"FACS");
    file.bytes.extend(64_u32.to_le_bytes());
    file.bytes.extend([0; 56]);

    let dsdt_at = file.table("DSDT", 1, |file| dsdt(shape, &mut file.bytes));
    let facp_at = file.table("FACP", 3, |file| facp(shape, facs, dsdt_at, file));
    let apic_at = file.table("APIC", 3, |file| apic(shape, &mut file.bytes));
    let mcfg_at = file.table("MCFG", 1, |file| {
        file.bytes.extend([0; 8]);
        file.bytes.extend(0xe000_0000_u64.to_le_bytes());
        file.bytes.extend([0, 0, 0, 255]); // segment, first and last bus
        file.bytes.extend([0; 4]);
    });
    // The guest needs no workaround for defects of real clocks.
    let waet_at = file.table("WAET", 1, |file| file.bytes.extend(2_u32.to_le_bytes()));
    let rsdt = file.table("RSDT", 1, |file| {
        for table in [facp_at, apic_at, mcfg_at, waet_at] {
            file.pointer(table, 4);
        }
    });

    let mut rsdp = b"RSD PTR \0BOCHS \0".to_vec();
    rsdp.extend(rsdt.to_le_bytes());
    file.loader.extend(add_pointer(RSDP, 16, 4));
    file.loader.extend(add_checksum(RSDP, 8, 0, 20));

    pad(&mut file.bytes, 0x2_0000);
    pad(&mut file.loader, 0x1000);
    Tables {
        tables: file.bytes,
        rsdp,
        loader: file.loader,
    }
}

/// Tables so far, and commands so far.
struct File {
    bytes: Vec<u8>,
    loader: Vec<u8>,
}

impl File {
    fn end(&self) -> u32 {
        length(&self.bytes)
    }

    /// Adds a table; gives its place. The firmware is to compute the checksum.
    fn table(&mut self, signature: &str, revision: u8, body: impl FnOnce(&mut Self)) -> u32 {
        let start = self.end();
        let head = self.bytes.len();
        self.bytes.extend(signature.as_bytes());
        self.bytes.extend([0; 4]); // length, see below
        self.bytes.extend([revision, 0]);
        self.bytes.extend(b"BOCHS BXPC    \x01\0\0\0BXPC\x01\0\0\0");
        body(self);
        let length = self.end().saturating_sub(start);
        let stated = self.bytes.iter_mut().skip(head).skip(4);
        for (byte, value) in stated.zip(length.to_le_bytes()) {
            *byte = value;
        }
        let checksum = start.saturating_add(9);
        self.loader
            .extend(add_checksum(TABLES, checksum, start, length));
        start
    }

    /// Writes the place of a table; the firmware is to add where it put the tables.
    fn pointer(&mut self, to: u32, width: u8) {
        self.loader.extend(add_pointer(TABLES, self.end(), width));
        let bytes = u64::from(to).to_le_bytes();
        self.bytes.extend(bytes.into_iter().take(width.into()));
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// Fills up to a multiple of `unit`.
fn pad(bytes: &mut Vec<u8>, unit: usize) {
    let end = bytes.len().checked_next_multiple_of(unit);
    bytes.resize(end.unwrap_or(bytes.len()), 0);
}

/// Fixed hardware: the ports of power management, by number and as addresses.
fn facp(shape: &Shape, facs: u32, dsdt: u32, file: &mut File) {
    const EVENTS: u16 = 0x600;
    const CONTROL: u16 = 0x604;
    const TIMER: u16 = 0x608;
    const GENERAL_EVENTS: u16 = 0x620;
    const RESET: u16 = 0xcf9;

    file.pointer(facs, 4);
    file.pointer(dsdt, 4);
    let out = &mut file.bytes;
    out.extend([1, 0]); // interrupt model, profile
    out.extend(9_u16.to_le_bytes()); // interrupt
    out.extend([0; 4]); // SMI command port: none
    out.extend([0; 4]); // values for it
    for port in [EVENTS, 0, CONTROL, 0, 0, TIMER, GENERAL_EVENTS, 0] {
        out.extend(u32::from(port).to_le_bytes());
    }
    out.extend([4, 2, 0, 4, 16, 0, 0, 0]); // lengths of these
    out.extend([0xff, 0x0f, 0xff, 0x0f]); // latencies of C2 and C3: not supported
    out.extend([0; 6]); // caches, throttling
    out.extend([0, 0, 0x32]); // day, month, century in the clock
    out.extend([2, 0, 0]); // legacy devices; reserved
    // With more than eight CPUs their identifiers are of the cluster model.
    let cluster = if shape.cpus > 8 { 1 << 18 } else { 0 };
    out.extend((0x84a5_u32 | cluster).to_le_bytes());
    address(8, RESET, out);
    out.extend([0x0f, 0, 0, 0]); // value to reset
    out.extend([0; 8]); // FACS
    file.pointer(dsdt, 8);
    let out = &mut file.bytes;
    address(32, EVENTS, out);
    address(0, 0, out);
    address(16, CONTROL, out);
    address(0, 0, out);
    address(0, 0, out);
    address(32, TIMER, out);
    address(128, GENERAL_EVENTS, out);
    address(0, 0, out);
}

/// A port as a generic address; none if it has no bits.
fn address(bits: u8, port: u16, out: &mut Vec<u8>) {
    let space = u8::from(bits > 0);
    out.extend([space, bits, 0, 0]);
    out.extend(u64::from(port).to_le_bytes());
}

/// Interrupt controllers: of each CPU, and the I/O APIC.
fn apic(shape: &Shape, out: &mut Vec<u8>) {
    out.extend(0xfee0_0000_u32.to_le_bytes());
    out.extend(u32::from(shape.pic).to_le_bytes());
    for cpu in 0..shape.cpus {
        local_apic(cpu, out);
    }
    out.extend([1, 12, 0, 0]);
    out.extend(0xfec0_0000_u32.to_le_bytes());
    out.extend([0; 4]);
    // ISA interrupts that differ from ISA's rules. The timer's is at input 2.
    if shape.family < QemuFamily::V9_2 {
        const EDGE_ACTIVE_HIGH: u8 = 0b0101;
        isa_override(0, 2, EDGE_ACTIVE_HIGH, out);
        for irq in 1..16 {
            isa_override(irq, irq, EDGE_ACTIVE_HIGH, out);
        }
    } else {
        const AS_ISA: u8 = 0;
        const LEVEL_ACTIVE_HIGH: u8 = 0b1101;
        isa_override(0, 2, AS_ISA, out);
        for irq in [5, 9, 10, 11] {
            isa_override(irq, irq, LEVEL_ACTIVE_HIGH, out);
        }
    }
    // LINT1 of all CPUs is the NMI.
    if shape.cpus > WIDE_FROM {
        out.extend([10, 12, 0, 0, 255, 255, 255, 255, 1, 0, 0, 0]);
    } else {
        out.extend([4, 6, 255, 0, 0, 1]);
    }
}

/// CPUs from this number on have identifiers of 32 bits (x2APIC).
const WIDE_FROM: u32 = 255;

fn isa_override(irq: u8, input: u8, flags: u8, out: &mut Vec<u8>) {
    out.extend([2, 10, 0, irq, input, 0, 0, 0, flags, 0]);
}

/// Commands of the loader have 128 bytes; names of files have 56.
fn command(code: u8, arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![code, 0, 0, 0];
    for argument in arguments {
        bytes.extend(*argument);
    }
    bytes.resize(128, 0);
    bytes
}

fn file_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(56, 0);
    bytes
}

/// "Put this file into memory." Zone 2 is below 1 MiB.
fn allocate(file: &str, align: u32, zone: u8) -> Vec<u8> {
    command(1, &[&file_name(file), &align.to_le_bytes(), &[zone]])
}

/// "Add the address of the tables to the number at this place."
fn add_pointer(file: &str, place: u32, width: u8) -> Vec<u8> {
    let names = [file_name(file), file_name(TABLES)].concat();
    command(2, &[&names, &place.to_le_bytes(), &[width]])
}

/// "Write a checksum of this range to this place."
fn add_checksum(file: &str, place: u32, start: u32, length: u32) -> Vec<u8> {
    let numbers = [place, start, length].map(u32::to_le_bytes).concat();
    command(3, &[&file_name(file), &numbers])
}
