//! dstack's event log, its replay, and the formula of the TD HOB.
//!
//! Order, types and text constants: what a dstack guest boots through (firmware
//! in RTMR0, boot services in RTMR1, kernel in RTMR2, dstack in RTMR3). All other
//! digests are the fake's own.

use serde::{Serialize, Serializer};

use crate::hash::{label384, sha384};

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

/// Digests of what the firmware (RTMR0) and the boot chain (RTMR1, RTMR2) measure.
/// The three of ACPI belong to a machine's shape, the rest to an OS image.
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
    pub acpi_loader: [u8; 48],
    pub acpi_rsdp: [u8; 48],
    pub acpi_tables: [u8; 48],
    pub kernel: [u8; 48],
    pub command_line: [u8; 48],
    pub initrd: [u8; 48],
}

impl BootDigests {
    pub(crate) fn new() -> Self {
        Self {
            cfv: label384("CFV"),
            secure_boot: label384("SecureBoot"),
            pk: label384("PK"),
            kek: label384("KEK"),
            db: label384("db"),
            dbx: label384("dbx"),
            separator: sha384(&[0; 4]),
            boot_order: label384("BootOrder"),
            boot_0000: label384("Boot0000"),
            acpi_loader: label384("ACPI loader"),
            acpi_rsdp: label384("ACPI RSDP"),
            acpi_tables: label384("ACPI tables"),
            kernel: label384("kernel"),
            command_line: label384("kernel command line"),
            initrd: label384("initrd"),
        }
    }

    /// The events of RTMR0, 1 and 2 in the order in which a guest logs them.
    pub(crate) fn events(&self, memory_size: u64) -> Vec<Event> {
        // TCG PC Client event types.
        const SEPARATOR: u32 = 4;
        const EVENT_TAG: u32 = 6;
        const PLATFORM_CONFIG_FLAGS: u32 = 10;
        const EFI_VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
        const EFI_VARIABLE_BOOT: u32 = 0x8000_0002;
        const EFI_BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
        const EFI_ACTION: u32 = 0x8000_0007;
        const EFI_PLATFORM_FIRMWARE_BLOB2: u32 = 0x8000_000a;
        const EFI_HANDOFF_TABLES2: u32 = 0x8000_000b;
        const CALLING: &[u8] = b"Calling EFI Application from Boot Option";
        const EXITING: &[u8] = b"Exit Boot Services Invocation";
        const EXITED: &[u8] = b"Exit Boot Services Returned with Success";
        let variable = |name: &str| {
            let mut payload = b"fake variable ".to_vec();
            payload.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
            payload
        };
        let config =
            |digest, name| Event::boot(0, EFI_VARIABLE_DRIVER_CONFIG, digest, &variable(name));
        let acpi = |digest| Event::boot(0, PLATFORM_CONFIG_FLAGS, digest, b"ACPI DATA");
        vec![
            Event::boot(
                0,
                EFI_HANDOFF_TABLES2,
                td_hob_digest(memory_size),
                b"\x09TdxTable\0",
            ),
            Event::boot(0, EFI_PLATFORM_FIRMWARE_BLOB2, self.cfv, b"fake CFV"),
            config(self.secure_boot, "SecureBoot"),
            config(self.pk, "PK"),
            config(self.kek, "KEK"),
            config(self.db, "db"),
            config(self.dbx, "dbx"),
            Event::boot(0, SEPARATOR, self.separator, &[0; 4]),
            acpi(self.acpi_loader),
            acpi(self.acpi_rsdp),
            acpi(self.acpi_tables),
            Event::boot(
                1,
                EFI_BOOT_SERVICES_APPLICATION,
                self.kernel,
                b"fake kernel",
            ),
            Event::boot(
                0,
                EFI_VARIABLE_BOOT,
                self.boot_order,
                &variable("BootOrder"),
            ),
            Event::boot(0, EFI_VARIABLE_BOOT, self.boot_0000, &variable("Boot0000")),
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
