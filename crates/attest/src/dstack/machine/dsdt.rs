//! The DSDT: the devices of the machine, and the methods by which the guest's kernel
//! controls QEMU's models of them.
//!
//! Its methods reach ports of QEMU's devices and the PCI configuration of the ISA
//! bridge. None has a region in memory.

mod cpus;
mod devices;
mod interrupts;
mod pci;

pub(super) use self::cpus::local_apic;
use super::Shape;
use super::aml::{BYTE, PRESERVE, Resource, SYSTEM_IO, Term, Term::*, all};

/// The terms of the table, without its header.
pub(super) fn dsdt(shape: &Shape, out: &mut Vec<u8>) {
    DEBUG_PORT.write(out);
    pci::host(shape, out);
    if shape.hotplug {
        pci::hotplug(shape.family, out);
    }
    interrupts::write(shape.family, out);
    Scope("_GPE", &[Name("_HID", &Text("ACPI0006"))]).write(out);
    cpus::write(shape, out);
    pci::resources(shape, out);
    all(out, &[SLEEP_STATES, FW_CFG]);
    devices::write(shape, out);
    if shape.hotplug {
        // Nothing behind a bridge can be plugged, so the event does nothing.
        Scope("_GPE", &[Method("_E01", 0, &[])]).write(out);
    }
}

/// A method that writes its argument, as text, to QEMU's debug port. No table calls it.
const DEBUG_PORT: Term<'static> = Scope(
    "\\",
    &[
        Region("DBG", SYSTEM_IO, 0x402, 1),
        Field("DBG", BYTE | PRESERVE, &[("DBGB", 8)]),
        Method(
            "DBUG",
            1,
            &[
                ToHexString(&Arg(0), &Local(0)),
                ToBuffer(&Local(0), &Local(0)),
                Subtract(&SizeOf(&Local(0)), &Int(1), &Local(1)),
                Store(&Int(0), &Local(2)),
                While(
                    &LLess(&Local(2), &Local(1)),
                    &[
                        Store(&DerefOf(&Index(&Local(0), &Local(2))), &Path("DBGB")),
                        Increment(&Local(2)),
                    ],
                ),
                Store(&Int(0x0a), &Path("DBGB")),
            ],
        ),
    ],
);

/// The value for the power management's control register for each sleep state.
const SLEEP_STATES: Term<'static> = Scope(
    "\\",
    &[
        Name("_S3", &Package(&[Int(1), Int(1), Int(0), Int(0)])),
        Name("_S4", &Package(&[Int(2), Int(2), Int(0), Int(0)])),
        Name("_S5", &Package(&[Int(0), Int(0), Int(0), Int(0)])),
    ],
);

/// The device by which QEMU passes files to the firmware and the guest.
const FW_CFG: Term<'static> = Scope(
    "\\_SB.PCI0",
    &[Device(
        "FWCF",
        &[
            Name("_HID", &Text("QEMU0002")),
            Name("_STA", &Int(0x0b)),
            Name("_CRS", &Resources(&[Resource::Ports(0x510, 1, 12)])),
        ],
    )],
);
