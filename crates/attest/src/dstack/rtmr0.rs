//! RTMR0 event by event: firmware configuration, memory map, machine shape.
//!
//! The final value of RTMR0 changes with the size of the VM's memory; its events do
//! not, but for the first. So each event is compared on its own: nine constants of the
//! firmware, the TD HOB recomputed from the memory size, and three digests of ACPI
//! tables that describe a machine's shape. Where the log leaves its events out, the
//! register is computed from the same parts.

use crate::base::hash;
use crate::base::text::hex_array;
use crate::dstack::event_log::Event;
use crate::dstack::machine::{self, AcpiDigests, NotRecomputable, Shape};
use crate::refusals::Rejected;

/// The thirteen events of RTMR0, by what they measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rtmr0 {
    pub(crate) td_hob: [u8; 48],
    pub(crate) firmware: Firmware,
    pub(crate) acpi: AcpiDigests,
}

/// Digests that depend on the firmware alone: of the events before and after the ACPI
/// tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Firmware {
    pub(crate) before_acpi: [[u8; 48]; 7],
    pub(crate) after_acpi: [[u8; 48]; 2],
}

/// The GUIDs of EFI's own variables and of the image security database (UEFI 2.10, 3.3
/// and 32.4), as they lie in memory.
const GLOBAL_VARIABLE: [u8; 16] = [
    0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c,
];
const SECURITY_DATABASE: [u8; 16] = [
    0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f,
];

/// The boot option "UiApp": an active option (0x109) with a path to a file of the
/// firmware's own volume (UEFI 2.10, 3.1.3).
const BOOT_0000: [u8; 62] = [
    0x09, 0x01, 0x00, 0x00, 0x2c, 0x00, b'U', 0, b'i', 0, b'A', 0, b'p', 0, b'p', 0, 0, 0, 0x04,
    0x07, 0x14, 0x00, 0xc9, 0xbd, 0xb8, 0x7c, 0xeb, 0xf8, 0x34, 0x4f, 0xaa, 0xea, 0x3e, 0xe4, 0xaf,
    0x65, 0x16, 0xa1, 0x04, 0x06, 0x14, 0x00, 0x21, 0xaa, 0x2c, 0x46, 0x14, 0x76, 0x03, 0x45, 0x83,
    0x6e, 0x8a, 0xb6, 0xf4, 0x66, 0x23, 0x31, 0x7f, 0xff, 0x04, 0x00,
];

/// SHA-384 of the variable store in dstack's firmware, which is an empty one of edk2's.
pub(crate) const EMPTY_VARIABLES: &str = "344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6412af21c097d473155875ffd561d6790";

/// SHA-384 of an empty variable as the firmware measures it (UEFI_VARIABLE_DATA, TCG PC
/// Client Platform Firmware Profile 1.05, 10.2.6).
fn empty_variable(vendor: &[u8; 16], name: &str) -> [u8; 48] {
    let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let characters = u64::try_from(name.len() / 2).unwrap_or_default();
    hash::sha384(&[vendor, &characters.to_le_bytes(), &[0; 8], &name])
}

impl Firmware {
    /// The digests of a firmware with empty variables and this variable store (CFV):
    /// edk2 before May 2025, and dstack's build of edk2 since February 2025.
    pub(crate) fn with_variable_store(cfv: [u8; 48]) -> Self {
        Self {
            before_acpi: [
                cfv,
                empty_variable(&GLOBAL_VARIABLE, "SecureBoot"),
                empty_variable(&GLOBAL_VARIABLE, "PK"),
                empty_variable(&GLOBAL_VARIABLE, "KEK"),
                empty_variable(&SECURITY_DATABASE, "db"),
                empty_variable(&SECURITY_DATABASE, "dbx"),
                hash::sha384(&[&[0; 4]]),
            ],
            after_acpi: [hash::sha384(&[&[0; 2]]), hash::sha384(&[&BOOT_0000])],
        }
    }

    /// Each digest with its name, in the order of measurement.
    pub(crate) fn events(&self) -> [(&'static str, &[u8; 48]); 9] {
        let [cfv, secure_boot, pk, kek, db, dbx, separator] = &self.before_acpi;
        let [boot_order, boot_0000] = &self.after_acpi;
        [
            ("cfv", cfv),
            ("secure_boot", secure_boot),
            ("pk", pk),
            ("kek", kek),
            ("db", db),
            ("dbx", dbx),
            ("separator", separator),
            ("boot_order", boot_order),
            ("boot_0000", boot_0000),
        ]
    }
}

impl Rtmr0 {
    /// Each digest with its name, in the order of measurement.
    fn events(&self) -> Vec<(&'static str, &[u8; 48])> {
        let acpi = [
            ("acpi_loader", &self.acpi.loader),
            ("acpi_rsdp", &self.acpi.rsdp),
            ("acpi_tables", &self.acpi.tables),
        ];
        let mut firmware = self.firmware.events().into_iter();
        let mut events = vec![("td_hob", &self.td_hob)];
        events.extend(firmware.by_ref().take(self.firmware.before_acpi.len()));
        events.extend(acpi);
        events.extend(firmware);
        events
    }

    /// The register that these events give.
    pub(crate) fn register(&self) -> [u8; 48] {
        let events = self.events().into_iter();
        events.fold([0; 48], |register, (_, digest)| {
            hash::sha384(&[&register, digest])
        })
    }

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
        let count = digests.len();
        let digests = <[[u8; 48]; 13]>::try_from(digests);
        let digests = digests.map_err(|_| Rejected::BootEvents {
            detail: format!("RTMR0 has {count} events, expected 13"),
        })?;
        let [td_hob, before_acpi @ .., loader, rsdp, tables, order, first] = digests;
        Ok(Self {
            td_hob,
            firmware: Firmware {
                before_acpi,
                after_acpi: [order, first],
            },
            acpi: AcpiDigests {
                loader,
                rsdp,
                tables,
            },
        })
    }
}

/// RTMR0 of a machine, computed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ComputedRtmr0 {
    /// The thirteen events in the order of measurement: a name, and SHA-384.
    pub events: Vec<(&'static str, [u8; 48])>,
    /// The register that they give.
    pub register: [u8; 48],
}

/// Computes RTMR0 of the machine that a `vm_config` states, with a firmware whose
/// variable store has this SHA-384 (`None`: dstack's own, which is empty).
///
/// # Errors [`NotRecomputable`] for a shape for which no tables are computed, with the
/// member and its bounds.
pub fn compute_rtmr0(
    vm_config: &str,
    variable_store: Option<[u8; 48]>,
) -> Result<ComputedRtmr0, NotRecomputable> {
    let shape = Shape::read(vm_config)?;
    let own = || hex_array(EMPTY_VARIABLES).unwrap_or([0; 48]);
    let rtmr0 = Rtmr0 {
        td_hob: td_hob_digest(shape.memory).unwrap_or([0; 48]),
        firmware: Firmware::with_variable_store(variable_store.unwrap_or_else(own)),
        acpi: machine::digests(&shape),
    };
    Ok(ComputedRtmr0 {
        events: rtmr0
            .events()
            .into_iter()
            .map(|(name, digest)| (name, *digest))
            .collect(),
        register: rtmr0.register(),
    })
}

/// Where the firmware's hand-off block list lies.
const HOB_BASE: u64 = 0x80_9000;

/// Memory that the firmware's metadata has accepted before the list is read,
/// as (start, length); part of the OS image.
pub(crate) const ACCEPTED: [(u64, u64); 4] = [
    (0x80_0000, 0x6000),
    (0x80_9000, 0x2000),
    (0x80_b000, 0x2000),
    (0x81_0000, 0x1_0000),
];

/// Memory from here on is split at the PCI hole below 4 GiB.
const SPLIT_FROM: u64 = 0xb000_0000;
const BELOW_HOLE: u64 = 0x8000_0000;
const ABOVE_HOLE: u64 = 0x1_0000_0000;

/// The smallest memory that holds the fixed pieces.
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
