//! A virtual machine's shape, and the ACPI tables that QEMU makes of it.
//!
//! ACPI tables are code that the guest's kernel runs. QEMU makes them by fixed rules
//! from a few numbers, and passes three blobs to the firmware, which measures them into
//! RTMR0. So no list of known machines is needed: this module makes the tables again
//! from the shape that the host states, and the digests are compared with the measured
//! ones. They differ if the host states another shape than it used, or changed a byte
//! of a table.

mod aml;
mod dsdt;
mod seen;
mod shape;
mod tables;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

pub(crate) use self::seen::seen;
pub use self::shape::NotRecomputable;
use self::tables::tables;
use crate::base::hash;

/// Versions of QEMU that make the same tables and measure memory in the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum QemuFamily {
    /// 8.0 to 8.2.
    V8,
    /// 9.0 and 9.1.
    V9,
    /// 9.2.
    V9_2,
    /// 10.0 to 10.1.
    V10,
    /// 10.2: tables as 10.0; it leaves a kernel's setup header as it is.
    V10_2,
    /// 11.0.
    V11,
    /// 11.1 and later.
    V11_1,
}

/// The numbers that the tables depend on. Each is within its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    pub(crate) family: QemuFamily,
    /// Virtual CPUs: 1 to 4,096.
    pub(crate) cpus: u32,
    /// Bytes; a multiple of 1 MiB.
    pub(crate) memory: u64,
    /// The machine has an 8259 interrupt controller.
    pub(crate) pic: bool,
    /// ACPI hot-plug of PCI devices is on. Then there are no root ports.
    pub(crate) hotplug: bool,
    /// Bytes of the 64-bit PCI window.
    pub(crate) hole64: u64,
    /// Devices on the root bus beside the five of every machine: network interfaces
    /// and volumes.
    pub(crate) devices: u32,
    /// PCI Express root ports: one for each GPU and each NVSwitch.
    pub(crate) root_ports: u32,
}

/// The blobs that QEMU passes to the firmware, before the firmware writes addresses and
/// checksums into them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tables {
    /// `etc/acpi/tables`.
    pub(crate) tables: Vec<u8>,
    /// `etc/acpi/rsdp`.
    pub(crate) rsdp: Vec<u8>,
    /// `etc/table-loader`.
    pub(crate) loader: Vec<u8>,
}

/// Digests of the blobs that QEMU passes through fw_cfg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AcpiDigests {
    pub(crate) loader: [u8; 48],
    pub(crate) rsdp: [u8; 48],
    pub(crate) tables: [u8; 48],
}

/// The digests of a shape's tables, computed once: a machine is appraised again with
/// each new connection, and its tables have 128 KiB.
pub(crate) fn digests(shape: &Shape) -> AcpiDigests {
    static KNOWN: Mutex<BTreeMap<Shape, AcpiDigests>> = Mutex::new(BTreeMap::new());
    // Each entry of a poisoned map is complete: a panic cannot leave one half written.
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(digests) = known().get(shape) {
        return *digests;
    }
    let made = tables(shape);
    let digests = AcpiDigests {
        loader: hash::sha384(&[&made.loader]),
        rsdp: hash::sha384(&[&made.rsdp]),
        tables: hash::sha384(&[&made.tables]),
    };
    let mut known = known();
    // Hosts choose shapes. A fleet has few, so a small map is enough.
    if known.len() >= MAX_KNOWN {
        known.clear();
    }
    known.insert(*shape, digests);
    digests
}

const MAX_KNOWN: usize = 64;

#[cfg(test)]
mod tests;
