//! The PCI host bridge, its windows, and the hot-plug controller of the root bus.

use crate::dstack::machine::aml::Term::{self, *};
use crate::dstack::machine::aml::{DWORD, Resource, SYSTEM_IO, ZEROS};
use crate::dstack::machine::{QemuFamily, Shape};

/// "PCI host bridge device", of `_OSC` (PCI Firmware Specification 3.3, section 4.5).
const HOST_BRIDGE: Term<'static> = Uuid(0x33db4d5b_1ff7_401c_9657_7441c03dd766);
/// "Device labeling interface", of `_DSM` (the same, section 4.6).
const DEVICE_LABELS: Term<'static> = Uuid(0xe5c937d0_3553_4d7a_9117_ea4d19c3434d);

/// The host bridge, and the memory of PCI's configuration space.
pub(super) fn host(shape: &Shape, out: &mut Vec<u8>) {
    // The features that the guest may control: all, or all but native hot-plug.
    let granted = if shape.hotplug { 0x1e } else { 0x1f };
    Scope(
        "_SB",
        &[
            Device(
                "PCI0",
                &[
                    Name("_HID", &Pnp(0x0a08)),
                    Name("_CID", &Pnp(0x0a03)),
                    Name("_UID", &Int(0)),
                    // The guest passes the capabilities that it requests; the method
                    // returns those that are granted, and error flags.
                    Method(
                        "_OSC",
                        4,
                        &[
                            CreateDWordField(&Arg(3), 0, "CDW1"),
                            If(
                                &LEqual(&Arg(0), &HOST_BRIDGE),
                                &[
                                    CreateDWordField(&Arg(3), 4, "CDW2"),
                                    CreateDWordField(&Arg(3), 8, "CDW3"),
                                    Store(&Path("CDW3"), &Local(0)),
                                    And(&Local(0), &Int(granted), &Local(0)),
                                    If(
                                        &LNot(&LEqual(&Arg(1), &Int(1))),
                                        &[Or(&Path("CDW1"), &Int(0x08), &Path("CDW1"))],
                                    ),
                                    If(
                                        &LNot(&LEqual(&Path("CDW3"), &Local(0))),
                                        &[Or(&Path("CDW1"), &Int(0x10), &Path("CDW1"))],
                                    ),
                                    Store(&Local(0), &Path("CDW3")),
                                ],
                            ),
                            Else(&[Or(&Path("CDW1"), &Int(0x04), &Path("CDW1"))]),
                            Return(&Arg(3)),
                        ],
                    ),
                    STATIC_LABEL,
                ],
            ),
            Device(
                "DRAC",
                &[
                    Name("_HID", &Text("PNP0C01")),
                    Name(
                        "_CRS",
                        &Resources(&[Resource::Memory(0xe000_0000, 0x1000_0000)]),
                    ),
                ],
            ),
        ],
    )
    .write(out);
}

/// Functions of a device that cannot be unplugged: its label is the caller's argument.
const STATIC_LABEL: Term<'static> = Serialized(
    "EDSM",
    5,
    &[
        If(
            &LEqual(&Arg(2), &Int(0)),
            &[
                NO_FUNCTIONS,
                OTHER_INTERFACE,
                OLD_REVISION,
                // Functions 0 and 7.
                Store(&Int(0x81), &Index(&Local(0), &Int(0))),
                Return(&Local(0)),
            ],
        ),
        If(
            &LEqual(&Arg(2), &Int(7)),
            &[
                NO_LABEL,
                Store(&DerefOf(&Index(&Arg(4), &Int(0))), &Local(1)),
                Store(&Local(1), &Index(&Local(0), &Int(0))),
                Return(&Local(0)),
            ],
        ),
    ],
);

/// No functions: the answer to a question about another interface, or about revisions
/// of this one before 2.
const NO_FUNCTIONS: Term<'static> = Store(&Buffer(&[0]), &Local(0));
const OTHER_INTERFACE: Term<'static> = If(
    &LNot(&LEqual(&Arg(0), &DEVICE_LABELS)),
    &[Return(&Local(0))],
);
const OLD_REVISION: Term<'static> = If(&LLess(&Arg(1), &Int(2)), &[Return(&Local(0))]);
/// A label is a number and a text.
const NO_LABEL: Term<'static> = Store(&Package(&[Int(0), Text("")]), &Local(0));

/// Registers of the root bus's hot-plug controller, and methods that use them.
pub(super) fn hotplug(family: QemuFamily, out: &mut Vec<u8>) {
    let label = if family < QemuFamily::V9_2 {
        LABEL_BEFORE_9_2
    } else {
        LABEL
    };
    Scope(
        "_SB.PCI0",
        &[
            Region("PCST", SYSTEM_IO, 0xcc0, 8),
            Field("PCST", DWORD | ZEROS, &[("PCIU", 32), ("PCID", 32)]),
            Region("SEJ", SYSTEM_IO, 0xcc8, 4),
            Field("SEJ", DWORD | ZEROS, &[("B0EJ", 32)]),
            Region("BNMR", SYSTEM_IO, 0xcd0, 8),
            Field("BNMR", DWORD | ZEROS, &[("BNUM", 32), ("PIDX", 32)]),
            Mutex("BLCK"),
            // Ejects a slot of a bus.
            Method(
                "PCEJ",
                2,
                &[
                    Acquire("BLCK"),
                    Store(&Arg(0), &Path("BNUM")),
                    Store(&ShiftLeft(&Int(1), &Arg(1), &Nowhere), &Path("B0EJ")),
                    Release("BLCK"),
                    Return(&Int(0)),
                ],
            ),
            // Asks for the number of the device in a slot of a bus.
            Method(
                "AIDX",
                2,
                &[
                    Acquire("BLCK"),
                    Store(&Arg(0), &Path("BNUM")),
                    Store(&ShiftLeft(&Int(1), &Arg(1), &Nowhere), &Path("PIDX")),
                    Store(&Path("PIDX"), &Local(0)),
                    Release("BLCK"),
                    Return(&Local(0)),
                ],
            ),
            Serialized("PDSM", 5, &[FUNCTIONS, label]),
        ],
    )
    .write(out);
}

/// `AIDX` of the bus and the slot that the caller names.
const ASK: Term<'static> = Store(
    &Call(
        "AIDX",
        &[
            DerefOf(&Index(&Arg(4), &Int(0))),
            DerefOf(&Index(&Arg(4), &Int(1))),
        ],
    ),
    &Local(2),
);
const UNNUMBERED: Term<'static> = LEqual(&Local(2), &Int(0));
const ABSENT: Term<'static> = LEqual(&Local(2), &Int(0xffff_ffff));

/// The functions of a device that can be unplugged.
const FUNCTIONS: Term<'static> = If(
    &LEqual(&Arg(2), &Int(0)),
    &[
        NO_FUNCTIONS,
        OTHER_INTERFACE,
        OLD_REVISION,
        Store(&Int(0), &Local(1)),
        ASK,
        If(
            &LNot(&Or(&UNNUMBERED, &ABSENT, &Nowhere)),
            // Functions 0 and 7.
            &[
                Or(&Local(1), &Int(1), &Local(1)),
                Or(&Local(1), &ShiftLeft(&Int(1), &Int(7), &Nowhere), &Local(1)),
            ],
        ),
        Store(&Local(1), &Index(&Local(0), &Int(0))),
        Return(&Local(0)),
    ],
);
/// Its label, if it has a number.
const LABEL: Term<'static> = If(
    &LEqual(&Arg(2), &Int(7)),
    &[
        ASK,
        Store(&PackageOf(2, &[]), &Local(0)),
        If(
            &LNot(&LOr(&UNNUMBERED, &ABSENT)),
            &[NUMBER, Store(&Text(""), &Index(&Local(0), &Int(1)))],
        ),
        Return(&Local(0)),
    ],
);
/// The same, whatever its number.
const LABEL_BEFORE_9_2: Term<'static> = If(
    &LEqual(&Arg(2), &Int(7)),
    &[NO_LABEL, ASK, NUMBER, Return(&Local(0))],
);
const NUMBER: Term<'static> = Store(&Local(2), &Index(&Local(0), &Int(0)));

/// The resources of the root bus, and of the controllers on it.
pub(super) fn resources(shape: &Shape, out: &mut Vec<u8>) {
    // Memory that is not split ends where it is full; the window begins there.
    let start = match u32::try_from(shape.memory) {
        Ok(memory) if memory < 0xb000_0000 => memory,
        _ => 0x8000_0000,
    };
    // QEMU ends the window at a multiple of 1 GiB, whatever length the host states.
    const GIB: u64 = 1 << 30;
    let hole64 = shape.hole64.checked_next_multiple_of(GIB);
    let windows = [
        Resource::Buses(0, 256),
        Resource::Ports(0xcf8, 1, 8),
        Resource::PortWindow(0, 0xcf8),
        Resource::PortWindow(0xd00, 0xf300),
        Resource::CacheableMemory(0xa_0000, 0x2_0000), // VGA
        Resource::Memory(start, 0xe000_0000_u32.saturating_sub(start)),
        Resource::Memory(0xf000_0000, 0xec0_0000), // up to the I/O APIC
        Resource::CacheableMemory64(0x3800_0000_0000, hole64.unwrap_or(u64::MAX)),
    ];
    let mut hotplug = Vec::new();
    if shape.hotplug {
        ports(
            "PHPR",
            "PCI Hotplug resources",
            Resource::Ports(0xcc0, 1, 24),
            &mut hotplug,
        );
    }
    let mut events = Vec::new();
    ports(
        "GPE0",
        "GPE0 resources",
        Resource::Ports(0x620, 1, 16),
        &mut events,
    );
    Scope(
        "\\_SB.PCI0",
        &[
            Name("_CRS", &Resources(&windows)),
            Written(&events),
            Written(&hotplug),
        ],
    )
    .write(out);
}

/// A device that only reserves its ports.
fn ports(name: &str, uid: &str, ports: Resource<'_>, out: &mut Vec<u8>) {
    Device(
        name,
        &[
            Name("_HID", &Text("PNP0A06")),
            Name("_UID", &Text(uid)),
            Name("_STA", &Int(0x0b)),
            Name("_CRS", &Resources(&[ports])),
        ],
    )
    .write(out);
}
