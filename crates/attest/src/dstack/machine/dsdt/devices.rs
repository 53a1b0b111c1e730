//! The devices of the root bus.

use crate::dstack::machine::aml::Term::{self, *};
use crate::dstack::machine::aml::{BYTE, PCI_CONFIG, PRESERVE, Resource, all};
use crate::dstack::machine::{QemuFamily, Shape};

/// Slots of every machine: the host bridge, three devices, and the root disk.
const FIXED: u32 = 5;
/// The slot of the chip set's ISA bridge, disk controller and SMBus.
const CHIP_SET: u32 = 31;

pub(super) fn write(shape: &Shape, out: &mut Vec<u8>) {
    let mut devices = Vec::new();
    let ports = FIXED.saturating_add(shape.devices);
    let end = ports.saturating_add(shape.root_ports);
    for slot in 0..ports {
        device(slot, 0, &[], &mut devices);
    }
    for slot in ports..end {
        // Behind the port: one device, in slot 0.
        device(
            slot,
            0,
            &[Device("S00", &[Name("_ADR", &Int(0))])],
            &mut devices,
        );
    }
    device(CHIP_SET, 0, isa(shape.family), &mut devices);
    device(CHIP_SET, 2, &[], &mut devices);
    device(CHIP_SET, 3, &[], &mut devices);
    Scope("\\_SB", &[Scope("PCI0", &[Written(&devices)])]).write(out);
}

/// A function of a slot: its name is S and both as one hexadecimal number.
fn device(slot: u32, function: u32, inside: &[Term<'_>], out: &mut Vec<u8>) {
    let name = format!("S{:02X}", slot << 3 | function);
    let mut terms = Vec::new();
    Name("_ADR", &Int(u64::from(slot << 16 | function))).write(&mut terms);
    all(&mut terms, inside);
    Device(&name, &[Written(&terms)]).write(out);
}

/// The ISA bridge: its registers of the links, and the devices behind it.
const fn isa(family: QemuFamily) -> &'static [Term<'static>] {
    match family {
        QemuFamily::V11_1 => &[LINK_REGISTERS, LINK_FIELDS, KEYBOARD, MOUSE, COM1, CLOCK],
        _ => &[
            LINK_REGISTERS,
            LINK_FIELDS,
            KEYBOARD,
            MOUSE,
            OLD_COM1,
            CLOCK,
        ],
    }
}

const LINK_REGISTERS: Term<'static> = Region("PIRQ", PCI_CONFIG, 0x60, 12);
const LINK_FIELDS: Term<'static> = Scope(
    "\\_SB",
    &[Field(
        "PCI0.SF8.PIRQ",
        BYTE | PRESERVE,
        &[
            ("PRQA", 8),
            ("PRQB", 8),
            ("PRQC", 8),
            ("PRQD", 8),
            ("", 32),
            ("PRQE", 8),
            ("PRQF", 8),
            ("PRQG", 8),
            ("PRQH", 8),
        ],
    )],
);
const PRESENT: Term<'static> = Name("_STA", &Int(0x0f));
const KEYBOARD: Term<'static> = Device(
    "KBD",
    &[
        Name("_HID", &Pnp(0x0303)),
        PRESENT,
        Name(
            "_CRS",
            &Resources(&[
                Resource::Ports(0x60, 1, 1),
                Resource::Ports(0x64, 1, 1),
                Resource::Irq(1),
            ]),
        ),
    ],
);
const MOUSE: Term<'static> = Device(
    "MOU",
    &[
        Name("_HID", &Pnp(0x0f13)),
        PRESENT,
        Name("_CRS", &Resources(&[Resource::Irq(12)])),
    ],
);
const COM1: Term<'static> = Device(
    "COM1",
    &[
        SERIAL,
        FIRST,
        PRESENT,
        Name("_CRS", &Resources(&[SERIAL_PORTS, Resource::SharedIrq(4)])),
    ],
);
const OLD_COM1: Term<'static> = Device(
    "COM1",
    &[
        SERIAL,
        FIRST,
        PRESENT,
        Name("_CRS", &Resources(&[SERIAL_PORTS, Resource::Irq(4)])),
    ],
);
const SERIAL: Term<'static> = Name("_HID", &Pnp(0x0501));
const FIRST: Term<'static> = Name("_UID", &Int(1));
const SERIAL_PORTS: Resource<'static> = Resource::Ports(0x3f8, 0, 8);
const CLOCK: Term<'static> = Device(
    "RTC",
    &[
        Name("_HID", &Pnp(0x0b00)),
        Name(
            "_CRS",
            &Resources(&[Resource::Ports(0x70, 1, 8), Resource::Irq(8)]),
        ),
    ],
);
