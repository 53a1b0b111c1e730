//! Other software on genuine hardware: everything signed, everything replays.

use super::{Case, case, edit};

const OTHER: [u8; 48] = [0x66; 48];

pub(super) const CASES: &[Case] = &[
    case(
        "A2",
        "another firmware (MRTD), all labels right, signed",
        "rejected_os_image",
        |s| s.td.mr_td = OTHER,
    ),
    case(
        "A1",
        "another kernel (RTMR1), signed",
        "rejected_os_image",
        |s| s.boot.kernel = OTHER,
    ),
    case(
        "A1",
        "another command line (RTMR2), signed",
        "rejected_os_image",
        |s| s.boot.command_line = OTHER,
    ),
    case(
        "A1",
        "another initrd (RTMR2), signed",
        "rejected_os_image",
        |s| s.boot.initrd = OTHER,
    ),
    case(
        "A1",
        "another os-image-hash, signed",
        "rejected_os_image",
        |s| s.app.os_image_hash = [0x66; 32],
    ),
    case(
        "A1",
        "another firmware volume (CFV), signed",
        "rejected_firmware",
        |s| s.boot.cfv = OTHER,
    ),
    case(
        "A1",
        "another SecureBoot variable, signed",
        "rejected_firmware",
        |s| s.boot.secure_boot = OTHER,
    ),
    case("A1", "another PK, signed", "rejected_firmware", |s| {
        s.boot.pk = OTHER
    }),
    case("A1", "another KEK, signed", "rejected_firmware", |s| {
        s.boot.kek = OTHER
    }),
    case("A1", "another db, signed", "rejected_firmware", |s| {
        s.boot.db = OTHER
    }),
    case("A1", "another dbx, signed", "rejected_firmware", |s| {
        s.boot.dbx = OTHER
    }),
    case(
        "A1",
        "another separator, signed",
        "rejected_firmware",
        |s| s.boot.separator = OTHER,
    ),
    case(
        "A1",
        "another BootOrder, signed",
        "rejected_firmware",
        |s| s.boot.boot_order = OTHER,
    ),
    case("A1", "another Boot0000, signed", "rejected_firmware", |s| {
        s.boot.boot_0000 = OTHER
    }),
    case(
        "A2",
        "two firmware events exchanged, signed",
        "rejected_firmware",
        |s| {
            s.hooks.events.push(|events| {
                let at: Vec<_> = (0..events.len()).filter(|i| events[*i].imr == 0).collect();
                events.swap(at[3], at[4]);
            });
        },
    ),
    case(
        "A2",
        "another memory map (TD HOB), signed",
        "rejected_td_hob",
        |s| {
            s.hooks
                .events
                .push(|events| events[0].digest = OTHER.to_vec());
        },
    ),
    case(
        "A2",
        "other ACPI loader commands, signed",
        "rejected_acpi",
        |s| s.boot.acpi_loader = Some(OTHER),
    ),
    case("A2", "another ACPI RSDP, signed", "rejected_acpi", |s| {
        s.boot.acpi_rsdp = Some(OTHER)
    }),
    case("A2", "other ACPI tables, signed", "rejected_acpi", |s| {
        s.boot.acpi_tables = Some(OTHER)
    }),
    case(
        "A1",
        "another app-id, with its own certificate, signed",
        "rejected_app_id",
        |s| {
            s.app.app_id = vec![0x66; 20];
        },
    ),
    case(
        "A18",
        "another app-id in RTMR3 than the KMS signed, signed",
        "rejected_app_id_disagrees",
        |s| {
            edit(s, "app-id", |event| event.event_payload = vec![0x66; 20]);
            super::set(s, "/info/app_id", serde_json::json!("66".repeat(20)));
        },
    ),
    case(
        "A18",
        "another KMS in RTMR3 than the one that signed, signed",
        "rejected_key_provider",
        |s| {
            s.app.key_provider = Some(r#"{"name":"kms","id":"3059"}"#.to_owned());
        },
    ),
    case(
        "A18",
        "no KMS in RTMR3 (name \"none\"), signed",
        "rejected_key_provider",
        |s| {
            let id = s.kms.root_spki_hex();
            s.app.key_provider = Some(format!(r#"{{"name":"none","id":"{id}"}}"#));
        },
    ),
    case(
        "A18",
        "a key provider that is no JSON, signed",
        "rejected_key_provider",
        |s| {
            s.app.key_provider = Some("kms".to_owned());
        },
    ),
    case(
        "A18",
        "a key provider with two ids, signed",
        "rejected_key_provider",
        |s| {
            let id = s.kms.root_spki_hex();
            s.app.key_provider = Some(format!(r#"{{"name":"kms","id":"00","id":"{id}"}}"#));
        },
    ),
    case(
        "A18",
        "a key provider as an array, signed",
        "rejected_key_provider",
        |s| {
            let id = s.kms.root_spki_hex();
            s.app.key_provider = Some(format!(r#"["kms","{id}"]"#));
        },
    ),
];
