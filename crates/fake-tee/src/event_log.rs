//! dstack's event log, its replay, and the formula of the TD HOB.
//!
//! Order, types and what is measured: what a dstack guest boots through (firmware in
//! RTMR0, boot services in RTMR1, kernel in RTMR2, dstack in RTMR3). RTMR0 is that of a
//! real machine; the digests of kernel, command line and initrd are the fake's own.

use serde::{Serialize, Serializer};

use crate::acpi;
use crate::hash::{label384, sha384};
use crate::vm_config::VmConfig;

/// Event type of dstack's runtime events.
pub const RUNTIME_EVENT_TYPE: u32 = 0x0800_0001;

/// How the digest of a runtime event is formed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DigestForm {
    /// SHA-384(type_le || ":" || name || ":" || payload).
    #[default]
    V1,
    /// SHA-384 of canonical JSON `{"name","payload","type"}`.
    V2,
}

/// One entry of the log, as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names are those of the wire format")]
pub struct Event {
    pub imr: u32,
    pub event_type: u32,
    #[serde(serialize_with = "as_hex")]
    pub digest: Vec<u8>,
    pub event: String,
    #[serde(serialize_with = "as_hex")]
    pub event_payload: Vec<u8>,
}

fn as_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

impl Event {
    /// A firmware or kernel event: a digest, and a payload that does not explain it.
    pub fn boot(imr: u32, event_type: u32, digest: [u8; 48], payload: &[u8]) -> Self {
        Self {
            imr,
            event_type,
            digest: digest.to_vec(),
            event: String::new(),
            event_payload: payload.to_vec(),
        }
    }

    /// A dstack runtime event in RTMR3.
    pub fn runtime(name: &str, payload: &[u8], form: DigestForm) -> Self {
        let mut event = Self {
            imr: 3,
            event_type: RUNTIME_EVENT_TYPE,
            digest: Vec::new(),
            event: name.to_owned(),
            event_payload: payload.to_vec(),
        };
        event.rehash(form);
        event
    }

    /// Forms the digest again, after name or payload were changed.
    pub fn rehash(&mut self, form: DigestForm) {
        let digest = match form {
            DigestForm::V1 => {
                let mut input = self.event_type.to_le_bytes().to_vec();
                input.push(b':');
                input.extend(self.event.as_bytes());
                input.push(b':');
                input.extend(&self.event_payload);
                sha384(&input)
            }
            DigestForm::V2 => sha384(
                format!(
                    r#"{{"name":{},"payload":"{}","type":{}}}"#,
                    json_string(&self.event),
                    hex::encode(&self.event_payload),
                    self.event_type
                )
                .as_bytes(),
            ),
        };
        self.digest = digest.to_vec();
    }
}

/// A JSON string as RFC 8785 writes it, which is also how serde_json does.
fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Extends four registers of zeros with the digests, in log order.
pub fn replay(events: &[Event]) -> [[u8; 48]; 4] {
    let mut registers = [[0; 48]; 4];
    for event in events {
        if let Some(register) = registers.get_mut(event.imr as usize) {
            *register = sha384(&[&register[..], &event.digest].concat());
        }
    }
    registers
}

/// TCG's event type of ACPI data.
const PLATFORM_CONFIG_FLAGS: u32 = 10;

/// Leaves in a log what the shortest of dstack's has: of RTMR0 the three ACPI events, with
/// names, and all of RTMR3. The registers stay what the whole log replays to.
pub(crate) fn strip_boot_events(events: &mut Vec<Event>) {
    let mut names = ["acpi-loader", "acpi-rsdp", "acpi-tables"].into_iter();
    events.retain_mut(|event| {
        if (event.imr, event.event_type) == (0, PLATFORM_CONFIG_FLAGS) {
            event.event = names.next().unwrap_or_default().to_owned();
            return true;
        }
        event.imr == 3
    });
}

/// SHA-384 of the variable store as the firmware volume holds it before the first boot
/// (540 672 bytes, those of Debian's `OVMF_VARS_4M.fd`).
const CFV: [u8; 48] = [
    0x34, 0x4b, 0xc5, 0x1c, 0x98, 0x0b, 0xa6, 0x21, 0xaa, 0xa0, 0x0d, 0xa3, 0xed, 0x74, 0x36, 0xf7,
    0xd6, 0xe5, 0x49, 0x19, 0x7d, 0xfe, 0x69, 0x95, 0x15, 0xdf, 0xa2, 0xc6, 0x58, 0x3d, 0x95, 0xe6,
    0x41, 0x2a, 0xf2, 0x1c, 0x09, 0x7d, 0x47, 0x31, 0x55, 0x87, 0x5f, 0xfd, 0x56, 0x1d, 0x67, 0x90,
];

/// EFI_GLOBAL_VARIABLE, 8be4df61-93ca-11d2-aa0d-00e098032b8c.
const GLOBAL: [u8; 16] = [
    0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c,
];

/// EFI_IMAGE_SECURITY_DATABASE, d719b2cb-3d3a-4596-a3bc-dad00e67656f.
const IMAGE_SECURITY: [u8; 16] = [
    0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f,
];

/// The first entry alone.
const BOOT_ORDER: &[u8] = &[0, 0];

/// UEFI_VARIABLE_DATA (TCG PC Client Platform Firmware Profile, 10.2.6).
fn variable(vendor: [u8; 16], name: &str, data: &[u8]) -> Vec<u8> {
    let name: Vec<_> = name.encode_utf16().collect();
    let mut out = vendor.to_vec();
    out.extend((name.len() as u64).to_le_bytes());
    out.extend((data.len() as u64).to_le_bytes());
    out.extend(name.into_iter().flat_map(u16::to_le_bytes));
    out.extend(data);
    out
}

/// EFI_LOAD_OPTION (UEFI 2.10, 3.1.3) of the menu inside the firmware volume.
fn boot_0000() -> Vec<u8> {
    /// LOAD_OPTION_ACTIVE, LOAD_OPTION_HIDDEN, LOAD_OPTION_CATEGORY_APP.
    const ATTRIBUTES: u32 = 0x109;
    /// 7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1.
    const VOLUME: [u8; 16] = [
        0xc9, 0xbd, 0xb8, 0x7c, 0xeb, 0xf8, 0x34, 0x4f, 0xaa, 0xea, 0x3e, 0xe4, 0xaf, 0x65, 0x16,
        0xa1,
    ];
    /// 462caa21-7614-4503-836e-8ab6f4662331.
    const FILE: [u8; 16] = [
        0x21, 0xaa, 0x2c, 0x46, 0x14, 0x76, 0x03, 0x45, 0x83, 0x6e, 0x8a, 0xb6, 0xf4, 0x66, 0x23,
        0x31,
    ];
    // Device path nodes: type, subtype, length with these four bytes.
    let mut path = vec![4, 7, 20, 0];
    path.extend(VOLUME);
    path.extend([4, 6, 20, 0]);
    path.extend(FILE);
    path.extend([0x7f, 0xff, 4, 0]);
    let mut out = ATTRIBUTES.to_le_bytes().to_vec();
    out.extend((path.len() as u16).to_le_bytes());
    out.extend("UiApp\0".encode_utf16().flat_map(u16::to_le_bytes));
    out.extend(path);
    out
}

/// Digests of what the firmware (RTMR0) and the boot chain (RTMR1, RTMR2) measure.
/// The three of ACPI belong to a machine's shape (`None`: as `vm_config` describes it),
/// the rest to an OS image.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "one field an event")]
pub struct BootDigests {
    pub cfv: [u8; 48],
    pub secure_boot: [u8; 48],
    pub pk: [u8; 48],
    pub kek: [u8; 48],
    pub db: [u8; 48],
    pub dbx: [u8; 48],
    pub separator: [u8; 48],
    pub boot_order: [u8; 48],
    pub boot_0000: [u8; 48],
    pub acpi_loader: Option<[u8; 48]>,
    pub acpi_rsdp: Option<[u8; 48]>,
    pub acpi_tables: Option<[u8; 48]>,
    pub kernel: [u8; 48],
    pub command_line: [u8; 48],
    pub initrd: [u8; 48],
}

impl BootDigests {
    pub(crate) fn new() -> Self {
        Self {
            cfv: CFV,
            secure_boot: sha384(&variable(GLOBAL, "SecureBoot", b"")),
            pk: sha384(&variable(GLOBAL, "PK", b"")),
            kek: sha384(&variable(GLOBAL, "KEK", b"")),
            db: sha384(&variable(IMAGE_SECURITY, "db", b"")),
            dbx: sha384(&variable(IMAGE_SECURITY, "dbx", b"")),
            separator: sha384(&[0; 4]),
            boot_order: sha384(BOOT_ORDER),
            boot_0000: sha384(&boot_0000()),
            acpi_loader: None,
            acpi_rsdp: None,
            acpi_tables: None,
            kernel: label384("kernel"),
            command_line: label384("kernel command line"),
            initrd: label384("initrd"),
        }
    }

    /// The digests of the three ACPI files of this machine.
    pub fn acpi(&self, config: &VmConfig) -> acpi::Digests {
        let made = acpi::digests(config);
        acpi::Digests {
            loader: self.acpi_loader.unwrap_or(made.loader),
            rsdp: self.acpi_rsdp.unwrap_or(made.rsdp),
            tables: self.acpi_tables.unwrap_or(made.tables),
        }
    }

    /// The events of RTMR0, 1 and 2 in the order in which a guest logs them.
    pub(crate) fn events(&self, config: &VmConfig) -> Vec<Event> {
        // TCG PC Client event types.
        const SEPARATOR: u32 = 4;
        const EVENT_TAG: u32 = 6;
        const EFI_VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
        const EFI_VARIABLE_BOOT: u32 = 0x8000_0002;
        const EFI_BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
        const EFI_ACTION: u32 = 0x8000_0007;
        const EFI_PLATFORM_FIRMWARE_BLOB2: u32 = 0x8000_000a;
        const EFI_HANDOFF_TABLES2: u32 = 0x8000_000b;
        const CALLING: &[u8] = b"Calling EFI Application from Boot Option";
        const EXITING: &[u8] = b"Exit Boot Services Invocation";
        const EXITED: &[u8] = b"Exit Boot Services Returned with Success";
        let config_variable = |digest, vendor, name| {
            let payload = variable(vendor, name, b"");
            Event::boot(0, EFI_VARIABLE_DRIVER_CONFIG, digest, &payload)
        };
        let boot_variable = |digest, name, data: &[u8]| {
            let payload = variable(GLOBAL, name, data);
            Event::boot(0, EFI_VARIABLE_BOOT, digest, &payload)
        };
        let files = self.acpi(config);
        let acpi = |digest| Event::boot(0, PLATFORM_CONFIG_FLAGS, digest, b"ACPI DATA");
        vec![
            Event::boot(
                0,
                EFI_HANDOFF_TABLES2,
                td_hob_digest(config.memory_size),
                b"\x09TdxTable\0",
            ),
            Event::boot(0, EFI_PLATFORM_FIRMWARE_BLOB2, self.cfv, b"fake CFV"),
            config_variable(self.secure_boot, GLOBAL, "SecureBoot"),
            config_variable(self.pk, GLOBAL, "PK"),
            config_variable(self.kek, GLOBAL, "KEK"),
            config_variable(self.db, IMAGE_SECURITY, "db"),
            config_variable(self.dbx, IMAGE_SECURITY, "dbx"),
            Event::boot(0, SEPARATOR, self.separator, &[0; 4]),
            acpi(files.loader),
            acpi(files.rsdp),
            acpi(files.tables),
            Event::boot(
                1,
                EFI_BOOT_SERVICES_APPLICATION,
                self.kernel,
                b"fake kernel",
            ),
            boot_variable(self.boot_order, "BootOrder", BOOT_ORDER),
            boot_variable(self.boot_0000, "Boot0000", &boot_0000()),
            Event::boot(1, EFI_ACTION, sha384(CALLING), CALLING),
            Event::boot(1, SEPARATOR, sha384(&[0; 4]), &[0; 4]),
            Event::boot(
                2,
                EVENT_TAG,
                self.command_line,
                b"fake LOADED_IMAGE::LoadOptions",
            ),
            Event::boot(2, EVENT_TAG, self.initrd, b"fake Linux initrd"),
            Event::boot(1, EFI_ACTION, sha384(EXITING), EXITING),
            Event::boot(1, EFI_ACTION, sha384(EXITED), EXITED),
        ]
    }
}

/// SHA-384 of the hand-off block list that the host gives the firmware for this
/// much memory (RTMR0 event 0).
///
/// UEFI PI 1.8 vol. 3, 4.5: a PHIT block, then one resource descriptor a range.
pub fn td_hob_digest(memory_size: u64) -> [u8; 48] {
    const HOB_START: u64 = 0x80_9000;
    const LOW_END: u64 = 0x8000_0000;
    const HIGH_START: u64 = 0x1_0000_0000;
    // From here on the ranges leave room for the PCI hole below 4 GiB.
    const SPLIT_FROM: u64 = 0xb000_0000;
    const ACCEPTED: u8 = 0;
    const NOT_ACCEPTED: u8 = 7;
    // Ranges that the firmware's metadata has accepted before it starts.
    let accepted = [
        (0x80_0000u64, 0x6000u64),
        (0x80_9000, 0x2000),
        (0x80_b000, 0x2000),
        (0x81_0000, 0x1_0000),
    ];
    let mut ranges = Vec::new();
    let mut at = 0;
    for (start, length) in accepted {
        if start > at {
            ranges.push((NOT_ACCEPTED, at, start - at));
        }
        ranges.push((ACCEPTED, start, length));
        at = start + length;
    }
    if memory_size >= SPLIT_FROM {
        ranges.push((NOT_ACCEPTED, at, LOW_END - at));
        ranges.push((NOT_ACCEPTED, HIGH_START, memory_size - LOW_END));
    } else {
        ranges.push((NOT_ACCEPTED, at, memory_size.saturating_sub(at)));
    }

    let list_length = 56 + 48 * ranges.len() as u64;
    let mut list = Vec::new();
    list.extend(1u16.to_le_bytes());
    list.extend(56u16.to_le_bytes());
    list.extend([0; 4]);
    list.extend(9u32.to_le_bytes());
    list.extend([0; 4]);
    list.extend([0; 32]);
    list.extend((HOB_START + list_length + 8).to_le_bytes());
    for (kind, start, length) in ranges {
        list.extend(3u16.to_le_bytes());
        list.extend(48u16.to_le_bytes());
        list.extend([0; 4]);
        list.extend([0; 16]);
        list.extend([kind, 0, 0, 0]);
        list.extend(7u32.to_le_bytes());
        list.extend(start.to_le_bytes());
        list.extend(length.to_le_bytes());
    }
    sha384(&list)
}

#[cfg(test)]
mod tests;
