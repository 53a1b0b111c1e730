//! What the host says of the virtual machine's shape (`info.vm_config`).
//!
//! Nothing of it is measured: memory is checked through the TD HOB, CPUs and
//! GPUs show in the ACPI tables' digests. It is for a report's reader.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::base::json;
use crate::base::text::{quoted, shown};
use crate::refusals::Rejected;

/// A machine's shape in its host's words; each field is none where the text
/// does not say, or says something else than a number, boolean or text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VmConfig {
    /// Virtual CPUs.
    pub cpu_count: Option<u64>,
    /// Bytes of memory.
    pub memory_size: Option<u64>,
    /// GPUs passed through.
    pub num_gpus: Option<u64>,
    /// NVSwitches passed through.
    pub num_nvswitches: Option<u64>,
    /// The PCI hole above 4 GiB, in bytes.
    pub pci_hole64_size: Option<u64>,
    /// Memory is of huge pages.
    pub hugepages: Option<bool>,
    /// No device is plugged in while it runs.
    pub hotplug_off: Option<bool>,
    /// The image's name; printable and bounded.
    pub image: Option<String>,
    /// QEMU's version; printable and bounded.
    pub qemu_version: Option<String>,
    /// The hash that the host gives the image; printable and bounded.
    pub os_image_hash: Option<String>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    cpu_count: Option<&'a RawValue>,
    #[serde(borrow)]
    memory_size: Option<&'a RawValue>,
    #[serde(borrow)]
    num_gpus: Option<&'a RawValue>,
    #[serde(borrow)]
    num_nvswitches: Option<&'a RawValue>,
    #[serde(borrow)]
    pci_hole64_size: Option<&'a RawValue>,
    #[serde(borrow)]
    hugepages: Option<&'a RawValue>,
    #[serde(borrow)]
    hotplug_off: Option<&'a RawValue>,
    #[serde(borrow)]
    image: Option<&'a RawValue>,
    #[serde(borrow)]
    qemu_version: Option<&'a RawValue>,
    #[serde(borrow)]
    os_image_hash: Option<&'a RawValue>,
}

impl VmConfig {
    /// Reads the JSON text.
    ///
    /// # Errors
    /// [`Rejected::EvidenceBadField`] for what is no JSON object within limits,
    /// or names a key twice.
    pub fn read(text: &str) -> Result<Self, Rejected> {
        let wire: Wire<'_> =
            json::parse_object(text.as_bytes(), &json::NESTED).map_err(|error| {
                Rejected::EvidenceBadField {
                    field: "info.vm_config".to_owned(),
                    expected: "a JSON object in a string",
                    got: quoted(&error.to_string()),
                }
            })?;
        Ok(Self {
            cpu_count: value(wire.cpu_count),
            memory_size: value(wire.memory_size),
            num_gpus: value(wire.num_gpus),
            num_nvswitches: value(wire.num_nvswitches),
            pci_hole64_size: value(wire.pci_hole64_size),
            hugepages: value(wire.hugepages),
            hotplug_off: value(wire.hotplug_off),
            image: words(wire.image),
            qemu_version: words(wire.qemu_version),
            os_image_hash: words(wire.os_image_hash),
        })
    }
}

/// What it says of the machine's shape, in a line; empty if it says nothing.
impl fmt::Display for VmConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |what: &str, number: Option<u64>| number.map(|n| format!("{n} {what}"));
        let words = [
            number("CPUs", self.cpu_count),
            number("bytes of memory", self.memory_size),
            number("GPUs", self.num_gpus),
            number("NVSwitches", self.num_nvswitches),
            self.image.as_ref().map(|image| format!("image {image}")),
        ];
        f.write_str(&words.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

fn value<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

fn words(raw: Option<&RawValue>) -> Option<String> {
    value::<Cow<'_, str>>(raw).map(|text| shown(&text))
}
