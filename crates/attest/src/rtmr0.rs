//! RTMR0 event by event: firmware configuration, memory map, machine shape.
//!
//! The final value of RTMR0 changes with the size of the VM's memory; its
//! events do not, but for the first. So each event is judged on its own: nine
//! constants of the firmware, the TD HOB recomputed from the memory size, and
//! three digests of ACPI tables that describe a machine's shape.

use crate::event_log::Event;
use crate::{Rejected, hash};

/// The thirteen events of RTMR0, by what they measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rtmr0 {
    pub(crate) td_hob: [u8; 48],
    pub(crate) firmware: Firmware,
    pub(crate) acpi: AcpiDigests,
}

/// Digests that depend on the firmware alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Firmware {
    pub(crate) cfv: [u8; 48],
    pub(crate) secure_boot: [u8; 48],
    pub(crate) pk: [u8; 48],
    pub(crate) kek: [u8; 48],
    pub(crate) db: [u8; 48],
    pub(crate) dbx: [u8; 48],
    pub(crate) separator: [u8; 48],
    pub(crate) boot_order: [u8; 48],
    pub(crate) boot_0000: [u8; 48],
}

impl Firmware {
    /// Each digest with its name, in the order of measurement.
    pub(crate) fn events(&self) -> [(&'static str, &[u8; 48]); 9] {
        [
            ("cfv", &self.cfv),
            ("secure_boot", &self.secure_boot),
            ("pk", &self.pk),
            ("kek", &self.kek),
            ("db", &self.db),
            ("dbx", &self.dbx),
            ("separator", &self.separator),
            ("boot_order", &self.boot_order),
            ("boot_0000", &self.boot_0000),
        ]
    }
}

/// Digests of what QEMU hands over through fw_cfg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AcpiDigests {
    pub(crate) loader: [u8; 48],
    pub(crate) rsdp: [u8; 48],
    pub(crate) tables: [u8; 48],
}

impl Rtmr0 {
    /// Names the events of a replayed log by their place.
    ///
    /// # Errors
    /// [`Rejected::BootEvents`] if there are not thirteen.
    pub(crate) fn read(events: &[Event]) -> Result<Self, Rejected> {
        let digests: Vec<[u8; 48]> = events
            .iter()
            .filter(|event| event.register == 0)
            .map(|event| event.digest)
            .collect();
        let [
            td_hob,
            cfv,
            secure_boot,
            pk,
            kek,
            db,
            dbx,
            separator,
            loader,
            rsdp,
            tables,
            boot_order,
            boot_0000,
        ] = *digests.as_slice()
        else {
            return Err(Rejected::BootEvents {
                detail: format!("RTMR0 has {} events, expected 13", digests.len()),
            });
        };
        Ok(Self {
            td_hob,
            firmware: Firmware {
                cfv,
                secure_boot,
                pk,
                kek,
                db,
                dbx,
                separator,
                boot_order,
                boot_0000,
            },
            acpi: AcpiDigests {
                loader,
                rsdp,
                tables,
            },
        })
    }
}

/// Where the firmware's hand-off block list lies.
const HOB_BASE: u64 = 0x80_9000;

/// Memory that the firmware's metadata has accepted before the list is read,
/// as (start, length); part of the OS image.
const ACCEPTED: [(u64, u64); 4] = [
    (0x80_0000, 0x6000),
    (0x80_9000, 0x2000),
    (0x80_b000, 0x2000),
    (0x81_0000, 0x1_0000),
];

/// Memory from here on is split at the PCI hole below 4 GiB.
const SPLIT_FROM: u64 = 0xb000_0000;
const BELOW_HOLE: u64 = 0x8000_0000;
const ABOVE_HOLE: u64 = 0x1_0000_0000;

/// The smallest memory the fixed pieces fit into.
const MIN_MEMORY: u64 = 0x82_0000;

const RESOURCE_MEMORY: u8 = 0;
const RESOURCE_UNACCEPTED: u8 = 7;

/// SHA-384 of the TD HOB that a TD of this memory size gets: a PHIT block, then
/// a resource descriptor a range (UEFI PI, volume 3, "HOB"). `None` if no
/// machine has such a size.
pub(crate) fn td_hob_digest(memory_size: u64) -> Option<[u8; 48]> {
    if memory_size < MIN_MEMORY {
        return None;
    }
    let mut ranges: Vec<(u8, u64, u64)> = Vec::new();
    let mut start = 0_u64;
    for (accepted, length) in ACCEPTED {
        if accepted > start {
            ranges.push((RESOURCE_UNACCEPTED, start, accepted.checked_sub(start)?));
        }
        ranges.push((RESOURCE_MEMORY, accepted, length));
        start = accepted.checked_add(length)?;
    }
    if memory_size >= SPLIT_FROM {
        ranges.push((RESOURCE_UNACCEPTED, start, BELOW_HOLE.checked_sub(start)?));
        ranges.push((
            RESOURCE_UNACCEPTED,
            ABOVE_HOLE,
            memory_size.checked_sub(BELOW_HOLE)?,
        ));
    } else {
        ranges.push((RESOURCE_UNACCEPTED, start, memory_size.checked_sub(start)?));
    }

    let mut blocks = Vec::new();
    for (kind, start, length) in ranges {
        blocks.extend(3_u16.to_le_bytes());
        blocks.extend(48_u16.to_le_bytes());
        blocks.extend([0; 4]);
        blocks.extend([0; 16]); // owner
        blocks.extend([kind, 0, 0, 0]);
        blocks.extend(7_u32.to_le_bytes()); // present, initialised, tested
        blocks.extend(start.to_le_bytes());
        blocks.extend(length.to_le_bytes());
    }
    const PHIT: u64 = 56;
    const END_OF_LIST: u64 = 8;
    let end = u64::try_from(blocks.len())
        .ok()?
        .checked_add(PHIT)?
        .checked_add(END_OF_LIST)?
        .checked_add(HOB_BASE)?;
    let mut phit = Vec::new();
    phit.extend(1_u16.to_le_bytes());
    phit.extend(56_u16.to_le_bytes());
    phit.extend([0; 4]);
    phit.extend(9_u32.to_le_bytes()); // version
    phit.extend([0; 4]); // boot mode
    phit.extend([0; 32]); // memory top, bottom, free top, free bottom
    phit.extend(end.to_le_bytes());
    Some(hash::sha384(&[&phit, &blocks]))
}
