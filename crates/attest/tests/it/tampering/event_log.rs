//! What was measured, and in which order.

use fake_tee::Spec;
use fake_tee::event_log::{DigestForm, Event};
use serde_json::json;

use super::{Case, before, case, edit, find, set, swap, without};

pub(super) const CASES: &[Case] = &[
    case(
        "A3",
        "payload of app-id exchanged, its digest kept",
        "rejected_event_digest",
        |s| swap(s, "app-id"),
    ),
    case(
        "A3",
        "payload of compose-hash exchanged, its digest kept",
        "rejected_event_digest",
        |s| swap(s, "compose-hash"),
    ),
    case(
        "A3",
        "payload of instance-id exchanged, its digest kept",
        "rejected_event_digest",
        |s| swap(s, "instance-id"),
    ),
    case(
        "A3",
        "payload of mr-kms exchanged, its digest kept",
        "rejected_event_digest",
        |s| swap(s, "mr-kms"),
    ),
    case(
        "A3",
        "payload of os-image-hash exchanged, its digest kept",
        "rejected_event_digest",
        |s| swap(s, "os-image-hash"),
    ),
    case(
        "A3",
        "payload of key-provider exchanged, its digest kept",
        "rejected_event_digest",
        |s| swap(s, "key-provider"),
    ),
    case(
        "A3",
        "payload of storage-fs exchanged, its digest kept",
        "rejected_event_digest",
        |s| swap(s, "storage-fs"),
    ),
    case(
        "A3",
        "payload exchanged under a V2 digest",
        "rejected_event_digest",
        |s| {
            s.digest_form = DigestForm::V2;
            swap(s, "app-id");
        },
    ),
    case(
        "A3",
        "name of an event exchanged, its digest kept",
        "rejected_event_digest",
        |s| {
            s.hooks
                .events_after
                .push(|events| find(events, "storage-fs").event = "mr-kms".to_owned());
        },
    ),
    case(
        "A3",
        "payload and digest exchanged",
        "rejected_rtmr_replay",
        |s| {
            s.hooks.events_after.push(|events| {
                let event = find(events, "app-id");
                event.event_payload[0] ^= 1;
                event.rehash(DigestForm::V1);
            });
        },
    ),
    case(
        "A4",
        "the last event cut off",
        "rejected_rtmr_replay",
        |s| {
            s.hooks.events_after.push(|events| {
                events.pop();
            });
        },
    ),
    case(
        "A4",
        "an event of RTMR0 left out",
        "rejected_rtmr_replay",
        |s| leave_out(s, 0),
    ),
    case(
        "A4",
        "an event of RTMR1 left out",
        "rejected_rtmr_replay",
        |s| leave_out(s, 1),
    ),
    case(
        "A4",
        "an event of RTMR2 left out",
        "rejected_rtmr_replay",
        |s| leave_out(s, 2),
    ),
    case(
        "A4",
        "an event of RTMR3 left out",
        "rejected_rtmr_replay",
        |s| leave_out(s, 3),
    ),
    case(
        "A4",
        "two events of RTMR3 exchanged",
        "rejected_rtmr_replay",
        |s| {
            s.hooks.events_after.push(|events| {
                let last = events.len() - 1;
                events.swap(last, last - 1);
            });
        },
    ),
    case(
        "A4",
        "an event added at the end",
        "rejected_rtmr_replay",
        |s| {
            s.hooks
                .events_after
                .push(|events| events.push(Event::runtime("later", b"", DigestForm::V1)));
        },
    ),
    case(
        "A4",
        "an event moved to another register",
        "rejected_rtmr_replay",
        |s| {
            s.hooks.events_after.push(|events| events[0].imr = 1);
        },
    ),
    case("A4", "an empty log", "rejected_rtmr_replay", |s| {
        s.hooks.events_after.push(Vec::clear)
    }),
    case(
        "A4",
        "RTMR0 of another log, signed",
        "rejected_rtmr_replay",
        |s| s.overrides.rt_mr[0] = Some([1; 48]),
    ),
    case(
        "A4",
        "RTMR3 of zeros, signed",
        "rejected_rtmr_replay",
        |s| s.overrides.rt_mr[3] = Some([0; 48]),
    ),
    case(
        "A4",
        "no events of RTMR3, signed",
        "rejected_boot_events",
        |s| {
            s.hooks
                .events
                .push(|events| events.retain(|event| event.imr != 3));
        },
    ),
    case(
        "A4",
        "no system-preparing, signed",
        "rejected_boot_events",
        |s| without(s, "system-preparing"),
    ),
    case("A4", "no app-id, signed", "rejected_boot_events", |s| {
        without(s, "app-id")
    }),
    case(
        "A4",
        "no compose-hash, signed",
        "rejected_boot_events",
        |s| without(s, "compose-hash"),
    ),
    case(
        "A4",
        "no instance-id, signed",
        "rejected_boot_events",
        |s| without(s, "instance-id"),
    ),
    case(
        "A4",
        "no boot-mr-done, signed",
        "rejected_boot_events",
        |s| without(s, "boot-mr-done"),
    ),
    case(
        "A4",
        "no os-image-hash, signed",
        "rejected_boot_events",
        |s| without(s, "os-image-hash"),
    ),
    case(
        "A4",
        "no key-provider, signed",
        "rejected_boot_events",
        |s| without(s, "key-provider"),
    ),
    case(
        "A4",
        "no system-ready, signed",
        "rejected_boot_events",
        |s| without(s, "system-ready"),
    ),
    case("A4", "app-id twice, signed", "rejected_boot_events", |s| {
        twice(s, "app-id")
    }),
    case(
        "A4",
        "compose-hash twice, signed",
        "rejected_boot_events",
        |s| twice(s, "compose-hash"),
    ),
    case(
        "A4",
        "instance-id twice, signed",
        "rejected_boot_events",
        |s| twice(s, "instance-id"),
    ),
    case(
        "A4",
        "os-image-hash twice, signed",
        "rejected_boot_events",
        |s| twice(s, "os-image-hash"),
    ),
    case(
        "A4",
        "key-provider twice, signed",
        "rejected_boot_events",
        |s| twice(s, "key-provider"),
    ),
    case(
        "A4",
        "storage-fs twice, signed",
        "rejected_boot_events",
        |s| twice(s, "storage-fs"),
    ),
    case(
        "A4",
        "app-id and compose-hash exchanged, signed",
        "rejected_boot_events",
        |s| {
            s.hooks.events.push(|events| {
                let at = events
                    .iter()
                    .position(|event| event.event == "app-id")
                    .unwrap();
                events.swap(at, at + 1);
            });
        },
    ),
    case(
        "A4",
        "an unknown event before app-id, signed",
        "rejected_boot_events",
        |s| before(s, "app-id", Event::runtime("unknown", b"", DigestForm::V1)),
    ),
    case(
        "A4",
        "an unknown event before the first one, signed",
        "rejected_boot_events",
        |s| {
            before(
                s,
                "system-preparing",
                Event::runtime("unknown", b"", DigestForm::V1),
            );
        },
    ),
    case(
        "A4",
        "an unknown boot event whose digest its payload does not give, signed",
        "rejected_event_digest",
        |s| {
            let mut event = Event::runtime("unknown", b"1", DigestForm::V1);
            event.event_payload = b"0".to_vec();
            before(s, "system-ready", event);
        },
    ),
    case(
        "A4",
        "an unknown boot event of another type, signed",
        "rejected_boot_events",
        |s| {
            let mut event = Event::runtime("unknown", b"", DigestForm::V1);
            event.event_type = 1;
            event.rehash(DigestForm::V1);
            before(s, "system-ready", event);
        },
    ),
    case(
        "A4",
        "six init-script-hash, signed",
        "rejected_boot_events",
        |s| s.app.init_script_hashes = vec![[1; 32]; 6],
    ),
    case(
        "A4",
        "gpu-policy-hash twice, signed",
        "rejected_boot_events",
        |s| {
            s.boot_dstack_0_6();
            twice(s, "gpu-policy-hash");
        },
    ),
    case(
        "A4",
        "gpu-attestation twice, signed",
        "rejected_boot_events",
        |s| {
            s.boot_dstack_0_6();
            twice(s, "gpu-attestation");
        },
    ),
    case(
        "A4",
        "storage-encrypted twice, signed",
        "rejected_boot_events",
        |s| {
            s.boot_dstack_0_6();
            twice(s, "storage-encrypted");
        },
    ),
    case(
        "A4",
        "gpu-attestation before gpu-policy-hash, signed",
        "rejected_boot_events",
        |s| {
            s.boot_dstack_0_6();
            behind(s, "gpu-policy-hash", 1);
        },
    ),
    case(
        "A4",
        "gpu-attestation behind instance-id, signed",
        "rejected_boot_events",
        |s| {
            s.boot_dstack_0_6();
            behind(s, "gpu-attestation", 1);
        },
    ),
    case(
        "A4",
        "storage-fs behind storage-encrypted, signed",
        "rejected_boot_events",
        |s| {
            s.boot_dstack_0_6();
            behind(s, "storage-fs", 1);
        },
    ),
    case(
        "A3",
        "payload of gpu-attestation exchanged, its digest kept",
        "rejected_event_digest",
        |s| {
            s.boot_dstack_0_6();
            s.strip_digests = false;
            swap(s, "gpu-attestation");
        },
    ),
    case(
        "A3",
        "payload of gpu-attestation exchanged, its digest left out",
        "rejected_rtmr_replay",
        |s| {
            s.boot_dstack_0_6();
            swap(s, "gpu-attestation");
        },
    ),
    case(
        "A3",
        "digests left out, and called those of the other version",
        "rejected_rtmr_replay",
        |s| stripped(s, 2),
    ),
    case(
        "A15",
        "a digest left out in RTMR0",
        "evidence_bad_field",
        |s| set(s, "/event_log/0/digest", json!("")),
    ),
    case(
        "A15",
        "a digest left out of an event of version 3",
        "evidence_bad_field",
        |s| stripped(s, 3),
    ),
    case(
        "A4",
        "the identity after system-ready only, signed",
        "rejected_boot_events",
        |s| {
            s.hooks.events.push(|events| {
                let at = events
                    .iter()
                    .position(|event| event.event == "app-id")
                    .unwrap();
                let event = events.remove(at);
                events.push(event);
            });
        },
    ),
    case(
        "A4",
        "a boot event of another type, signed",
        "rejected_boot_events",
        |s| edit(s, "app-id", |event| event.event_type = 1),
    ),
    case(
        "A4",
        "twelve events of RTMR0, signed",
        "rejected_boot_events",
        |s| {
            s.hooks.events.push(|events| {
                let at = events.iter().rposition(|event| event.imr == 0).unwrap();
                events.remove(at);
            });
        },
    ),
    case(
        "A4",
        "fourteen events of RTMR0, signed",
        "rejected_boot_events",
        |s| {
            s.hooks.events.push(|events| {
                let event = events[0].clone();
                events.insert(0, event);
            });
        },
    ),
    case(
        "A4",
        "an os-image-hash of 31 bytes, signed",
        "rejected_boot_events",
        |s| {
            edit(s, "os-image-hash", |event| {
                event.event_payload.pop();
            });
            set(s, "/info/os_image_hash", json!(""));
            set(s, "/info/tcb_info/os_image_hash", json!(""));
        },
    ),
    case(
        "A4",
        "an app-id of 21 bytes, signed",
        "rejected_boot_events",
        |s| s.app.app_id.push(0),
    ),
    case(
        "A4",
        "an instance-id of 60 KB, signed",
        "rejected_boot_events",
        |s| {
            s.app.instance_id = vec![7; 60_000];
        },
    ),
    case("A15", "an event of register 4", "evidence_bad_field", |s| {
        set(s, "/event_log/0/imr", json!(4))
    }),
    case(
        "A15",
        "an event of register -1",
        "evidence_bad_field",
        |s| set(s, "/event_log/0/imr", json!(-1)),
    ),
    case(
        "A15",
        "an event's digest one byte short",
        "evidence_bad_field",
        |s| {
            set(s, "/event_log/0/digest", json!("00".repeat(47)));
        },
    ),
    case(
        "A15",
        "an event's payload that is not hex",
        "evidence_bad_field",
        |s| {
            set(s, "/event_log/0/event_payload", json!("zz"));
        },
    ),
    case(
        "A15",
        "an event's type as a string",
        "evidence_bad_field",
        |s| {
            set(s, "/event_log/0/event_type", json!("4"));
        },
    ),
    case("A15", "an event as an array", "evidence_bad_field", |s| {
        set(s, "/event_log/0", json!([0, 4, "00", "", ""]));
    }),
    case(
        "A15",
        "an event log that is a number",
        "evidence_bad_field",
        |s| set(s, "/event_log", json!(1)),
    ),
    case(
        "A15",
        "an event log that is a string of no JSON",
        "evidence_bad_field",
        |s| {
            set(s, "/event_log", json!("no"));
        },
    ),
    case(
        "A15",
        "a key twice in an event log that is a string",
        "evidence_duplicate_key",
        |s| {
            set(s, "/event_log", json!(r#"[{"imr":0,"imr":1}]"#));
        },
    ),
    case("A15", "5,000 events", "evidence_too_complex", |s| {
        s.hooks.report.push(|report| {
            let event = report["event_log"][0].clone();
            report["event_log"] = vec![event; 5000].into();
        });
    }),
    case(
        "A15",
        "an event's payload of 70 KB",
        "evidence_bad_field",
        |s| {
            set(s, "/event_log/0/event_payload", json!("00".repeat(70_000)));
        },
    ),
    case(
        "A15",
        "an event's name of 600 bytes",
        "evidence_bad_field",
        |s| {
            set(s, "/event_log/0/event", json!("n".repeat(600)));
        },
    ),
];

fn leave_out(spec: &mut Spec, register: u32) {
    spec.hooks.events_after.push(move |events| {
        let at = events
            .iter()
            .position(|event| event.imr == register)
            .unwrap();
        events.remove(at);
    });
}

/// Leaves the digests out of the log, and calls their events those of another version.
fn stripped(spec: &mut Spec, version: u32) {
    spec.strip_digests = true;
    spec.hooks.report.push(move |report| {
        for event in report["event_log"].as_array_mut().unwrap() {
            event["version"] = version.into();
        }
    });
}

/// Moves an event so many places on.
fn behind(spec: &mut Spec, name: &'static str, places: usize) {
    spec.hooks.events.push(move |events| {
        let at = events.iter().position(|event| event.event == name).unwrap();
        let event = events.remove(at);
        events.insert(at + places, event);
    });
}

fn twice(spec: &mut Spec, name: &'static str) {
    spec.hooks.events.push(move |events| {
        let at = events.iter().position(|event| event.event == name).unwrap();
        let again = events[at].clone();
        events.insert(at, again);
    });
}
