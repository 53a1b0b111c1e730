//! The boot: image, tables, events, and the application that they name.

use super::{Member, alike};
use crate::tampering::{before, flip, swap, without};
use fake_tee::event_log::{DigestForm, Event};
use fake_tee::{Kms, Spec};

pub(super) const PAIRS: &[(Member, Member)] = &[
    (
        (
            "the report's copy of the app id has another form",
            |s| flip(s, "/info/app_id"),
            "tagged",
        ),
        (
            "the measured app id is exchanged, its digest kept",
            |s| swap(s, "app-id"),
            "rejected_event_digest machine",
        ),
    ),
    alike(
        "the application gets a new id",
        "another application poses as it",
        |s| s.app.app_id = vec![7; 20],
        "rejected_app_id unknown",
    ),
    alike(
        "the key service gets a new root",
        "another key service poses as it",
        |s| s.kms = Kms::other().unwrap(),
        "rejected_kms_root unknown",
    ),
    alike(
        "a new OS image",
        "firmware of the host's own",
        |s| s.td.mr_td = [7; 48],
        "rejected_os_image unknown",
    ),
    (
        (
            "the hash that the host repeats differs, as with dstack 0.6.0",
            |s| flip(s, "/info/os_image_hash"),
            "tagged",
        ),
        (
            "the measured hash is another image's",
            |s| s.app.os_image_hash = [7; 32],
            "rejected_os_image unknown",
        ),
    ),
    alike(
        "tables of a machine that nothing is computed of",
        "tables with code of the host's",
        |s| s.boot.acpi_tables = Some([7; 48]),
        "rejected_acpi unknown",
    ),
    (
        (
            "twice the memory",
            |s| s.vm_config.memory_size = 2 << 40,
            "tagged",
        ),
        (
            "another memory map than the stated size gives",
            |s| {
                s.hooks.report.push(|report| {
                    let text = report["info"]["vm_config"].as_str().unwrap();
                    report["info"]["vm_config"] =
                        text.replace("\"memory_size\":", "\"memory_size\":1").into();
                });
            },
            "rejected_td_hob machine",
        ),
    ),
    (
        (
            "8 GiB of memory",
            |s| s.vm_config.memory_size = 8 << 30,
            "tagged",
        ),
        (
            "another firmware configuration",
            |s| s.boot.cfv = [7; 48],
            "rejected_firmware unknown",
        ),
    ),
    (
        (
            "a newer dstack digests events in its second form",
            |s| s.digest_form = DigestForm::V2,
            "tagged",
        ),
        (
            "a payload is exchanged under such a digest",
            |s| {
                s.digest_form = DigestForm::V2;
                swap(s, "key-provider");
            },
            "rejected_event_digest machine",
        ),
    ),
    (
        ("a guest of dstack 0.6", Spec::boot_dstack_0_6, "tagged"),
        (
            "more scripts than dstack runs",
            |s| s.app.init_script_hashes = vec![[1; 32]; 6],
            "rejected_boot_events unknown",
        ),
    ),
    (
        (
            "a boot event that is not known",
            |s| {
                before(
                    s,
                    "storage-fs",
                    Event::runtime("new-event", b"x", DigestForm::V1),
                );
            },
            "tagged",
        ),
        (
            "a known boot event a second time",
            |s| {
                before(
                    s,
                    "storage-fs",
                    Event::runtime("app-id", &[9; 20], DigestForm::V1),
                );
            },
            "rejected_boot_events unknown",
        ),
    ),
    (
        (
            "no storage-fs, as dstack 0.5.4 has it",
            |s| s.app.storage_fs = None,
            "tagged",
        ),
        (
            "the boot never ended",
            |s| without(s, "system-ready"),
            "rejected_boot_events unknown",
        ),
    ),
    (
        (
            "events of the application after the boot",
            |s| {
                s.app.app_events = vec![("x".to_owned(), vec![1])];
            },
            "tagged",
        ),
        (
            "the last event is left out of the log",
            |s| {
                s.hooks.events_after.push(|events| {
                    events.pop();
                });
            },
            "rejected_rtmr_replay machine",
        ),
    ),
    (
        (
            "no contact with a KMS is noted",
            |s| s.app.mr_kms.clear(),
            "tagged",
        ),
        (
            "keys from another provider",
            |s| {
                s.app.key_provider = Some(r#"{"name":"kms","id":"00"}"#.to_owned());
            },
            "rejected_key_provider machine",
        ),
    ),
];
