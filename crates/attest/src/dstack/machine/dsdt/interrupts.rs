//! Routing of PCI interrupts.
//!
//! With the 8259 controller, eight links choose an ISA interrupt for each of the ISA
//! bridge's pins A to H. With the I/O APIC, the pins are its inputs 16 to 23.

use crate::dstack::machine::QemuFamily;
use crate::dstack::machine::aml::Term::*;
use crate::dstack::machine::aml::{Resource, Trigger};

/// Each link to the 8259, the one to the I/O APIC, and the bridge's register.
const LINKS: [(&str, &str, &str); 8] = [
    ("LNKA", "GSIA", "PRQA"),
    ("LNKB", "GSIB", "PRQB"),
    ("LNKC", "GSIC", "PRQC"),
    ("LNKD", "GSID", "PRQD"),
    ("LNKE", "GSIE", "PRQE"),
    ("LNKF", "GSIF", "PRQF"),
    ("LNKG", "GSIG", "PRQG"),
    ("LNKH", "GSIH", "PRQH"),
];

pub(super) fn write(family: QemuFamily, out: &mut Vec<u8>) {
    // Level-triggered interrupts need the host to see an interrupt's end, which it
    // cannot see in a TD. Before 9.2, QEMU's versions for TDX state this in the tables.
    let trigger = if family < QemuFamily::V9_2 {
        Trigger::Edge
    } else {
        Trigger::Level
    };
    // The guest's kernel tells which controller it uses.
    Name("PICF", &Int(0)).write(out);
    Method("_PIC", 1, &[Store(&Arg(0), &Path("PICF"))]).write(out);

    let mut pic = Vec::new();
    routes(LINKS.map(|(link, _, _)| link), &mut pic);
    let mut apic = Vec::new();
    routes(LINKS.map(|(_, gsi, _)| gsi), &mut apic);
    let mut links = Vec::new();
    for (number, (link, _, register)) in (0..).zip(LINKS) {
        self::link(number, link, register, trigger, &mut links);
    }
    for (number, (_, gsi, _)) in (16..).zip(LINKS) {
        self::gsi(number, gsi, trigger, &mut links);
    }
    Scope(
        "_SB",
        &[
            Scope(
                "PCI0",
                &[
                    Name("PRTP", &PackageOf(128, &pic)),
                    Name("PRTA", &PackageOf(128, &apic)),
                    Method(
                        "_PRT",
                        0,
                        &[
                            If(&LEqual(&Path("PICF"), &Int(0)), &[Return(&Path("PRTP"))]),
                            Else(&[Return(&Path("PRTA"))]),
                        ],
                    ),
                ],
            ),
            // The state of a link: bit 7 of its register turns it off.
            Method(
                "IQST",
                1,
                &[
                    If(&And(&Int(0x80), &Arg(0), &Nowhere), &[Return(&Int(0x09))]),
                    Return(&Int(0x0b)),
                ],
            ),
            // The interrupt of a link, as a resource.
            Serialized(
                "IQCR",
                1,
                &[
                    Name("PRR0", &Resources(&[Resource::Interrupts(trigger, &[0])])),
                    CreateDWordField(&Path("PRR0"), 5, "PRRI"),
                    Store(&And(&Arg(0), &Int(0x0f), &Nowhere), &Path("PRRI")),
                    Return(&Path("PRR0")),
                ],
            ),
            Written(&links),
        ],
    )
    .write(out);
}

/// Which link serves each of the four pins of each of the bus's 32 slots.
fn routes([a, b, c, d, e, f, g, h]: [&str; 8], out: &mut Vec<u8>) {
    let low = [a, b, c, d];
    let high = [e, f, g, h];
    for (slot, address) in (0..32).zip((0xffff..).step_by(0x1_0000)) {
        // The first links rotate with the slot; in the chip set's slots they do not.
        let (links, turn) = match slot {
            0..=24 => (high, slot & 3),
            30 => (high, 0),
            _ => (low, 0),
        };
        let turned = links.iter().cycle().skip(turn);
        for (pin, link) in (0..4).zip(turned) {
            Package(&[Int(address), Int(pin), Path(link), Int(0)]).write(out);
        }
    }
}

/// A link that the guest may set to one of three ISA interrupts.
fn link(number: u64, name: &str, register: &str, trigger: Trigger, out: &mut Vec<u8>) {
    let register = Path(register);
    Device(
        name,
        &[
            Name("_HID", &Pnp(0x0c0f)),
            Name("_UID", &Int(number)),
            Name(
                "_PRS",
                &Resources(&[Resource::Interrupts(trigger, &[5, 10, 11])]),
            ),
            Method("_STA", 0, &[Return(&Call("IQST", &[register]))]),
            Method("_DIS", 0, &[Or(&register, &Int(0x80), &register)]),
            Method("_CRS", 0, &[Return(&Call("IQCR", &[register]))]),
            Method(
                "_SRS",
                1,
                &[
                    CreateDWordField(&Arg(0), 5, "PRRI"),
                    Store(&Path("PRRI"), &register),
                ],
            ),
        ],
    )
    .write(out);
}

/// A link that is wired to one input of the I/O APIC.
fn gsi(number: u32, name: &str, trigger: Trigger, out: &mut Vec<u8>) {
    let input = [number];
    let wire = [Resource::Interrupts(trigger, &input)];
    Device(
        name,
        &[
            Name("_HID", &Pnp(0x0c0f)),
            Name("_UID", &Int(number.into())),
            Name("_PRS", &Resources(&wire)),
            Name("_CRS", &Resources(&wire)),
            Method("_DIS", 0, &[]),
            Method("_SRS", 1, &[]),
        ],
    )
    .write(out);
}
