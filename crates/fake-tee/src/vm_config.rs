//! The host's own description of the VM.

use serde::Serialize;

/// `vm_config`: what the host says about the VM. Unmeasured, but RTMR0 covers what the host
/// makes of it: the TD HOB and the ACPI tables.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "the names are those of dstack's vm_config")]
pub struct VmConfig {
    pub spec_version: u32,
    pub os_image_hash: String,
    pub cpu_count: u32,
    pub memory_size: u64,
    /// Left out if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub qemu_version: String,
    pub pci_hole64_size: u64,
    pub hugepages: bool,
    pub num_gpus: u32,
    pub num_nvswitches: u32,
    pub hotplug_off: bool,
    pub image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pic: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_nics: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_verity_volumes: Option<u32>,
}

impl VmConfig {
    /// A machine with this many GPUs and the four switches between them.
    pub(crate) fn new(num_gpus: u32, os_image_hash: [u8; 32]) -> Self {
        Self {
            spec_version: 1,
            os_image_hash: hex::encode(os_image_hash),
            cpu_count: 32,
            memory_size: 1 << 40,
            qemu_version: "9.2.1".to_owned(),
            pci_hole64_size: 1 << 50,
            hugepages: false,
            num_gpus,
            num_nvswitches: 4,
            hotplug_off: true,
            image: "fake-image-1.0".to_owned(),
            pic: None,
            num_nics: None,
            num_verity_volumes: None,
        }
    }
}
