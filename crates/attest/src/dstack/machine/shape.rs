//! The shape that a host states (`info.vm_config`), read for recomputation.
//!
//! The host states it, and it is not trusted: a false shape gives other tables than the
//! measured ones. Each value has bounds. A member that changes QEMU's tables in a way
//! that this program does not compute is refused, never ignored.

use std::fmt;

use serde::Deserialize;

use super::{QemuFamily, Shape};
use crate::base::json::{self, Members};
use crate::base::text::quoted;

/// Why no tables are computed for the stated shape; for people, bounded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotRecomputable(String);

/// QEMU's own limit for q35 (`max_cpus`).
const MAX_CPUS: u64 = 4096;

/// The root bus has 31 places for devices below the chipset's: of these, 5 are taken in
/// every machine (host bridge, root disk, data disk, socket, shared folder).
const MAX_DEVICES: u64 = 26;

/// Devices of every machine beside the host bridge.
const ALWAYS: u32 = 4;

/// Where the firmware of these images puts the 64-bit PCI window, which QEMU then
/// states in the tables. The last byte of memory has to lie below.
pub(super) const WINDOW: u64 = 0x3800_0000_0000;

/// The hole below 4 GiB moves memory up by this much at most.
const HOLE: u64 = 0x8000_0000;

/// Below 8 MiB lies nothing that the firmware boots from; see the TD HOB.
const MIN_MEMORY: u64 = 16 << 20;
const MIB: u64 = 1 << 20;

/// QEMU's default for the window.
const DEFAULT_HOLE64: u64 = 0x8_0000_0000;
/// The widest physical address of a processor (Intel SDM, volume 3A, 4.1.4).
const MAX_HOLE64: u64 = 1 << 52;

/// Members that change QEMU's tables and for which no tables are computed.
const NOT_COMPUTED: [&str; 8] = [
    "hugepages",
    "numa",
    "numa_nodes",
    "numa_pinning",
    "smm",
    "swtpm",
    "tpm",
    "memory_backend",
];

impl Shape {
    /// Reads the JSON text of `vm_config`.
    pub(crate) fn read(text: &str) -> Result<Self, NotRecomputable> {
        let members: Members<'_> = json::parse_object(text.as_bytes(), &json::NESTED)
            .map_err(|error| NotRecomputable(format!("info.vm_config: {error}")))?;
        for name in NOT_COMPUTED {
            let value = members.get(name).map_or("null", |raw| raw.get());
            let is_nothing = ["null", "false", "0", "[]", "{}", "\"\""]
                .contains(&value.split_whitespace().collect::<String>().as_str());
            if !is_nothing {
                return Err(refused(
                    name,
                    &quoted(value),
                    "no tables are computed for it",
                ));
            }
        }
        if members
            .get("root_verity")
            .is_some_and(|raw| raw.get().trim() == "false")
        {
            return Err(refused("root_verity", "false", "expected true"));
        }
        let family = match of::<String>(&members, "qemu_version", "text such as \"9.2.1\"")? {
            None => QemuFamily::V9,
            Some(version) => QemuFamily::of_version(&version)?,
        };
        let number = |name, least, most, default| number(&members, name, least, most, default);
        let cpus = number("cpu_count", 1, MAX_CPUS, None)?;
        let memory = number("memory_size", MIN_MEMORY, WINDOW - HOLE, None)?;
        if !memory.is_multiple_of(MIB) {
            let expected = "expected a multiple of 1048576";
            return Err(refused("memory_size", &memory.to_string(), expected));
        }
        let hotplug = !flag(&members, "hotplug_off")?.unwrap_or(false);
        let hole64 = match number("pci_hole64_size", 0, MAX_HOLE64, Some(0))? {
            0 => DEFAULT_HOLE64,
            asked => asked,
        };
        let count = |name, default| number(name, 0, MAX_DEVICES, Some(default));
        let devices = count("num_nics", 1)?.saturating_add(count("num_verity_volumes", 0)?);
        let root_ports = count("num_gpus", 0)?.saturating_add(count("num_nvswitches", 0)?);
        let all = devices.saturating_add(root_ports);
        if all > MAX_DEVICES {
            return Err(NotRecomputable(format!(
                "{all} devices are on the root bus of the machine that info.vm_config states, which has room for {MAX_DEVICES}"
            )));
        }
        if hotplug && root_ports > 0 {
            return Err(NotRecomputable(format!(
                "info.vm_config states {root_ports} GPUs and NVSwitches with hot-plug on (hotplug_off is not true); no tables are computed for that"
            )));
        }
        Ok(Self {
            family,
            cpus: small(cpus),
            memory,
            pic: flag(&members, "pic")?.unwrap_or(family == QemuFamily::V8),
            hotplug,
            hole64,
            devices: small(devices),
            root_ports: small(root_ports),
        })
    }
}

impl Shape {
    /// Devices outside of root ports: no rule accounts for them.
    pub(crate) fn other_devices(&self) -> u32 {
        self.devices.saturating_add(ALWAYS)
    }
}

/// As a person reads it; QEMU's version as a family.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} CPUs, {} MiB of memory, {} places for GPUs and NVSwitches, {} other devices on the root bus, hot-plug {}, QEMU {}",
            self.cpus,
            self.memory / MIB,
            self.root_ports,
            self.other_devices(),
            if self.hotplug { "on" } else { "off" },
            self.family
        )
    }
}

impl QemuFamily {
    fn of_version(version: &str) -> Result<Self, NotRecomputable> {
        let numbers: Vec<Option<u16>> = version
            .split('.')
            .map(|part| {
                let is_plain =
                    (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
                is_plain.then(|| part.parse().ok()).flatten()
            })
            .collect();
        let [Some(major), Some(minor), Some(_)] = *numbers.as_slice() else {
            let expected = "expected three numbers such as 9.2.1";
            return Err(refused("qemu_version", &quoted(version), expected));
        };
        Ok(match (major, minor) {
            (..8, _) => {
                return Err(refused(
                    "qemu_version",
                    &quoted(version),
                    "tables are computed from 8.0 on",
                ));
            }
            (8, _) => Self::V8,
            (9, ..2) => Self::V9,
            (9, _) => Self::V9_2,
            (10, ..2) => Self::V10,
            (10, _) => Self::V10_2,
            (11, 0) => Self::V11,
            // Most releases leave these tables as they are. One that does not gives
            // other digests, and is refused.
            _ => Self::V11_1,
        })
    }

    /// True if it adds all pages of a firmware section before it measures the first
    /// (`qemu_single_pass_add_pages` of dstack, which says the opposite of its name).
    pub(crate) fn measures_in_two_passes(self) -> bool {
        self == Self::V8
    }

    /// True if a confidential guest gets the kernel's setup header as the file has it
    /// (QEMU a7542a38f399).
    pub(crate) fn leaves_the_kernel_header(self) -> bool {
        self >= Self::V10_2
    }
}

impl fmt::Display for QemuFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V8 => "8.0 to 8.2",
            Self::V9 => "9.0 or 9.1",
            Self::V9_2 => "9.2",
            Self::V10 => "10.0 or 10.1",
            Self::V10_2 => "10.2",
            Self::V11 => "11.0",
            Self::V11_1 => "11.1 or later",
        })
    }
}

/// A member that may be absent or null; otherwise it must have its type, since a number
/// inside a text could be read in two ways.
fn of<'a, T: Deserialize<'a>>(
    members: &Members<'a>,
    name: &str,
    expected: &str,
) -> Result<Option<T>, NotRecomputable> {
    match members.get(name) {
        None => Ok(None),
        Some(raw) => json::value(raw)
            .map(Some)
            .ok_or_else(|| refused(name, &quoted(raw.get()), &format!("expected {expected}"))),
    }
}

fn flag(members: &Members<'_>, name: &str) -> Result<Option<bool>, NotRecomputable> {
    of(members, name, "true or false")
}

fn number(
    members: &Members<'_>,
    name: &str,
    least: u64,
    most: u64,
    default: Option<u64>,
) -> Result<u64, NotRecomputable> {
    let expected = format!("a number from {least} to {most}");
    let value = of::<u64>(members, name, &expected)?.or(default);
    let value = value.ok_or_else(|| NotRecomputable(format!("info.vm_config has no {name}")))?;
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(refused(
            name,
            &value.to_string(),
            &format!("expected {expected}"),
        ))
    }
}

fn refused(name: &str, value: &str, expected: &str) -> NotRecomputable {
    NotRecomputable(format!("info.vm_config.{name} is {value}: {expected}"))
}

/// Converts a number that was compared with a bound below 2^32.
fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
