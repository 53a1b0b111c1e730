//! CPUs, and the controller by which QEMU plugs them.

use crate::dstack::machine::aml::Term::{self, *};
use crate::dstack::machine::aml::{BYTE, DWORD, PRESERVE, Resource, SYSTEM_IO, ZEROS, all};
use crate::dstack::machine::{QemuFamily, Shape};

/// Registers of the controller; `CSEL` selects the CPU for the others.
const PRESENT: Term<'static> = Path("\\_SB.PCI0.PRES.CPEN");
const INSERTED: Term<'static> = Path("\\_SB.PCI0.PRES.CINS");
const REMOVED: Term<'static> = Path("\\_SB.PCI0.PRES.CRMV");
const EJECT: Term<'static> = Path("\\_SB.PCI0.PRES.CEJ0");
const COMMAND: Term<'static> = Path("\\_SB.PCI0.PRES.CCMD");
const SELECT: Term<'static> = Path("\\_SB.PCI0.PRES.CSEL");
const DATA: Term<'static> = Path("\\_SB.PCI0.PRES.CDAT");

/// All methods use the registers one after the other.
const LOCK: Term<'static> = Acquire("\\_SB.PCI0.PRES.CPLK");
const UNLOCK: Term<'static> = Release("\\_SB.PCI0.PRES.CPLK");

pub(super) fn write(shape: &Shape, out: &mut Vec<u8>) {
    // Room for about as much as they take.
    let count = usize::try_from(shape.cpus).unwrap_or(0);
    let mut notify = Vec::with_capacity(count.saturating_mul(16));
    let mut cpus = Vec::with_capacity(count.saturating_mul(96));
    for number in 0..shape.cpus {
        let name = format!("C{number:03X}");
        let cpu = Int(number.into());
        If(&LEqual(&Arg(0), &cpu), &[Notify(&name, &Arg(1))]).write(&mut notify);
        self::cpu(number, &name, &mut cpus);
    }
    let mut scan = Vec::new();
    self::scan(shape, &mut scan);
    Scope(
        "_SB",
        &[
            controller(shape.family),
            Device(
                "\\_SB.CPUS",
                &[
                    Name("_HID", &Text("ACPI0010")),
                    Name("_CID", &Pnp(0x0a05)),
                    Method("CTFY", 2, &[Written(&notify)]),
                    STATUS,
                    EJECT_CPU,
                    Serialized("CSCN", 0, &[Written(&scan)]),
                    REPORT,
                    Written(&cpus),
                ],
            ),
        ],
    )
    .write(out);
    Method("\\_GPE._E02", 0, &[Call("\\_SB.CPUS.CSCN", &[])]).write(out);
}

/// The controller. Before 11.0 the guest's kernel selects the first CPU at its start.
const fn controller(family: QemuFamily) -> Term<'static> {
    match family {
        QemuFamily::V11 | QemuFamily::V11_1 => Device(
            "\\_SB.PCI0.PRES",
            &[IDENTITY, NUMBER, MUTEX, PORTS, REGISTERS, FLAGS, WORDS],
        ),
        _ => Device(
            "\\_SB.PCI0.PRES",
            &[
                IDENTITY,
                NUMBER,
                MUTEX,
                PORTS,
                REGISTERS,
                FLAGS,
                WORDS,
                Serialized("_INI", 0, &[Store(&Int(0), &Path("CSEL"))]),
            ],
        ),
    }
}

const IDENTITY: Term<'static> = Name("_HID", &Pnp(0x0a06));
const NUMBER: Term<'static> = Name("_UID", &Text("CPU Hotplug resources"));
const MUTEX: Term<'static> = Mutex("CPLK");
const PORTS: Term<'static> = Name("_CRS", &Resources(&[Resource::Ports(0xcd8, 1, 12)]));
const REGISTERS: Term<'static> = Region("PRST", SYSTEM_IO, 0xcd8, 12);
const FLAGS: Term<'static> = Field(
    "PRST",
    BYTE | ZEROS,
    &[
        ("", 32),
        ("CPEN", 1),
        ("CINS", 1),
        ("CRMV", 1),
        ("CEJ0", 1),
        ("CEJF", 1),
        ("", 3),
        ("CCMD", 8),
    ],
);
const WORDS: Term<'static> = Field(
    "PRST",
    DWORD | PRESERVE,
    &[("CSEL", 32), ("", 32), ("CDAT", 32)],
);

/// Whether a CPU is there.
const STATUS: Term<'static> = Serialized(
    "CSTA",
    1,
    &[
        LOCK,
        Store(&Arg(0), &SELECT),
        Store(&Int(0), &Local(0)),
        If(&LEqual(&PRESENT, &Int(1)), &[Store(&Int(0x0f), &Local(0))]),
        UNLOCK,
        Return(&Local(0)),
    ],
);
/// Gives a CPU back.
const EJECT_CPU: Term<'static> = Serialized(
    "CEJ0",
    1,
    &[
        LOCK,
        Store(&Arg(0), &SELECT),
        Store(&Int(1), &EJECT),
        UNLOCK,
    ],
);
/// Reports the result of a CPU's change to the controller.
const REPORT: Term<'static> = Serialized(
    "COST",
    4,
    &[
        LOCK,
        Store(&Arg(0), &SELECT),
        Store(&Int(1), &COMMAND),
        Store(&Arg(1), &DATA),
        Store(&Int(2), &COMMAND),
        Store(&Arg(2), &DATA),
        UNLOCK,
    ],
);

/// Finds the CPUs that were plugged or are to be removed, and notifies the guest's
/// kernel of each. A pass gathers up to 255; there is one more pass if a list was full.
fn scan(shape: &Shape, out: &mut Vec<u8>) {
    // From 10.0 the method gathers removed CPUs as well, and notifies of them later.
    let gathers = shape.family >= QemuFamily::V10;
    let if_gathers = |terms: &[Term<'_>]| {
        let mut written = Vec::new();
        if gathers {
            all(&mut written, terms);
        }
        written
    };
    let removed_list = if_gathers(&[Name("CEJL", &PackageOf(255, &[]))]);
    let none_removed = if_gathers(&[Store(&Int(0), &Local(5))]);
    let notify_removed = if_gathers(&NOTIFY_REMOVED);
    let new_is_full = LEqual(&Local(1), &Int(255));
    let removed_is_full = LEqual(&Local(5), &Int(255));
    let a_list_is_full = LOr(&new_is_full, &removed_is_full);
    let is_removed = LEqual(&REMOVED, &Int(1));
    let if_removed = If(&is_removed, &GATHER_REMOVED);
    let else_if_removed = [If(&is_removed, &NOTIFY_AT_ONCE)];
    all(
        out,
        &[
            LOCK,
            Name("CNEW", &PackageOf(255, &[])),
            Written(&removed_list),
            Store(&Int(0), &Local(3)),
            Store(&Int(1), &Local(4)),
            While(
                &LEqual(&Local(4), &Int(1)),
                &[
                    Store(&Int(0), &Local(4)),
                    Store(&Int(1), &Local(0)),
                    Store(&Int(0), &Local(1)),
                    Written(&none_removed),
                    While(
                        &LAnd(
                            &LEqual(&Local(0), &Int(1)),
                            &LLess(&Local(3), &Int(shape.cpus.into())),
                        ),
                        &[
                            Store(&Int(0), &Local(0)),
                            // The next CPU with an event, from this one on.
                            Store(&Local(3), &SELECT),
                            Store(&Int(0), &COMMAND),
                            If(&LLess(&DATA, &Local(3)), &[Break]),
                            If(
                                if gathers {
                                    &a_list_is_full
                                } else {
                                    &new_is_full
                                },
                                &[Store(&Int(1), &Local(4)), Break],
                            ),
                            Store(&DATA, &Local(3)),
                            If(
                                &LEqual(&INSERTED, &Int(1)),
                                &[
                                    Store(&Local(3), &Index(&Path("CNEW"), &Local(1))),
                                    Increment(&Local(1)),
                                    Store(&Int(1), &Local(0)),
                                ],
                            ),
                            if gathers {
                                if_removed
                            } else {
                                Else(&else_if_removed)
                            },
                            Increment(&Local(3)),
                        ],
                    ),
                    Store(&Int(0), &Local(2)),
                    While(
                        &LLess(&Local(2), &Local(1)),
                        &[
                            Store(&DerefOf(&Index(&Path("CNEW"), &Local(2))), &Local(3)),
                            Call("CTFY", &[Local(3), Int(1)]),
                            Store(&Local(3), &Debug),
                            Store(&Local(3), &SELECT),
                            Store(&Int(1), &INSERTED),
                            Increment(&Local(2)),
                        ],
                    ),
                    Written(&notify_removed),
                ],
            ),
            UNLOCK,
        ],
    );
}

const NOTIFY_AT_ONCE: [Term<'static>; 3] = [
    Call("CTFY", &[Local(3), Int(3)]),
    Store(&Int(1), &REMOVED),
    Store(&Int(1), &Local(0)),
];
const GATHER_REMOVED: [Term<'static>; 3] = [
    Store(&Local(3), &Index(&Path("CEJL"), &Local(5))),
    Increment(&Local(5)),
    Store(&Int(1), &Local(0)),
];
const NOTIFY_REMOVED: [Term<'static>; 2] = [
    Store(&Int(0), &Local(2)),
    While(
        &LLess(&Local(2), &Local(5)),
        &[
            Store(&DerefOf(&Index(&Path("CEJL"), &Local(2))), &Local(3)),
            Call("CTFY", &[Local(3), Int(3)]),
            Store(&Local(3), &SELECT),
            Store(&Int(1), &REMOVED),
            Increment(&Local(2)),
        ],
    ),
];

/// A CPU: an identifier of eight bits below 255, a wider one above.
fn cpu(number: u32, name: &str, out: &mut Vec<u8>) {
    let cpu = Int(number.into());
    let mut controller = Vec::new();
    local_apic(number, &mut controller);
    let status = Serialized("_STA", 0, &[Return(&Call("CSTA", &[cpu]))]);
    let controller = Name("_MAT", &Buffer(&controller));
    // The first CPU stays.
    let ejection = match number {
        0 => Written(&[]),
        _ => Method("_EJ0", 1, &[Call("CEJ0", &[cpu])]),
    };
    let report = Serialized("_OST", 3, &[Call("COST", &[cpu, Arg(0), Arg(1), Arg(2)])]);
    let rest = [status, controller, ejection, report];
    match u8::try_from(number) {
        Ok(id @ 0..=254) => Processor(name, id, &rest).write(out),
        _ => {
            let [status, controller, ejection, report] = rest;
            Device(
                name,
                &[
                    Name("_HID", &Text("ACPI0007")),
                    Name("_UID", &cpu),
                    status,
                    controller,
                    ejection,
                    report,
                ],
            )
            .write(out);
        }
    }
}

/// A CPU's interrupt controller, enabled. The CPU's object holds the same bytes.
pub(in crate::dstack::machine) fn local_apic(cpu: u32, out: &mut Vec<u8>) {
    match u8::try_from(cpu) {
        Ok(id @ 0..=254) => out.extend([0, 8, id, id, 1, 0, 0, 0]),
        _ => {
            out.extend([9, 16, 0, 0]);
            out.extend(cpu.to_le_bytes());
            out.extend([1, 0, 0, 0]);
            out.extend(cpu.to_le_bytes());
        }
    }
}
