//! What the host says of the virtual machine's shape (`info.vm_config`).
//!
//! Nothing of it is measured: memory is checked through the TD HOB, CPUs and
//! GPUs show in the ACPI tables' digests. It is for a report's reader.

use std::fmt;

use crate::base::json::{self, JsonError, Members};
use crate::base::text::shown;

/// A machine's shape in its host's words; each is none where the text does not say, or
/// says something else than a number or text.
#[derive(Debug, Clone)]
pub struct VmConfig {
    cpus: Option<u64>,
    /// Bytes; or what stands there instead.
    pub(crate) memory: Result<Option<u64>, String>,
    pub(crate) gpus: Option<u64>,
    switches: Option<u64>,
    /// Printable and bounded.
    image: Option<String>,
}

impl VmConfig {
    /// Reads a JSON object within limits that names no key twice.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }

    pub(crate) fn parse(text: &str) -> Result<Self, JsonError> {
        let members: Members<'_> = json::parse_object(text.as_bytes(), &json::NESTED)?;
        let number = |name| members.get(name).and_then(json::value);
        let memory = members.get("memory_size");
        Ok(Self {
            cpus: number("cpu_count"),
            memory: memory
                .map(|raw| json::value(raw).ok_or_else(|| raw.get().to_owned()))
                .transpose(),
            gpus: number("num_gpus"),
            switches: number("num_nvswitches"),
            image: members
                .get("image")
                .and_then(json::text)
                .map(|text| shown(&text)),
        })
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory_size(&self) -> Option<u64> {
        *self.memory.as_ref().ok()?
    }
}

/// What it says of the machine's shape, in a line; empty if it says nothing.
impl fmt::Display for VmConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |what: &str, number: Option<u64>| number.map(|n| format!("{n} {what}"));
        let words = [
            number("CPUs", self.cpus),
            number("bytes of memory", self.memory_size()),
            number("GPUs", self.gpus),
            number("NVSwitches", self.switches),
            self.image.as_ref().map(|image| format!("image {image}")),
        ];
        f.write_str(&words.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}
