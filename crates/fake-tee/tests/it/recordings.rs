//! The formulas of this crate, against recorded reports. They arbitrate.

use std::path::Path;

use fake_tee::event_log::{DigestForm, Event, replay, td_hob_digest};
use fake_tee::hash::sha256;
use serde_json::Value;

use crate::dcap::{challenge, spec};

const VARIABLE: &str = "VERIFIED_PROXY_CAPTURES";

fn recordings() -> Vec<Value> {
    let Some(folder) = std::env::var_os(VARIABLE) else {
        println!("skipped: {VARIABLE} does not name a folder of recordings");
        return Vec::new();
    };
    let reports: Vec<Value> = std::fs::read_dir(Path::new(&folder))
        .unwrap()
        .map(|entry| entry.unwrap().path().join("attestation_report.json"))
        .filter(|path| path.exists())
        .map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
        .collect();
    assert!(!reports.is_empty(), "no recordings in {VARIABLE}");
    reports
}

fn events(report: &Value) -> Vec<Event> {
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
    report["event_log"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| Event {
            imr: event["imr"].as_u64().unwrap() as u32,
            event_type: event["event_type"].as_u64().unwrap() as u32,
            digest: bytes(&event["digest"]),
            event: event["event"].as_str().unwrap().to_owned(),
            event_payload: bytes(&event["event_payload"]),
        })
        .collect()
}

#[test]
fn formulas_hold_on_recordings() {
    for report in recordings() {
        let events = events(&report);
        let tcb_info = &report["info"]["tcb_info"];
        for (i, register) in replay(&events).iter().enumerate() {
            assert_eq!(tcb_info[format!("rtmr{i}")], hex::encode(register));
        }
        for event in events.iter().filter(|event| event.imr == 3) {
            let mut again = event.clone();
            again.rehash(DigestForm::V1);
            assert_eq!(&again, event);
        }
        let vm_config: Value =
            serde_json::from_str(report["info"]["vm_config"].as_str().unwrap()).unwrap();
        let memory = vm_config["memory_size"].as_u64().unwrap();
        assert_eq!(events[0].digest, td_hob_digest(memory));
        // And all of RTMR0, for a machine of this shape.
        let number = |name: &str| vm_config[name].as_u64().unwrap();
        let mut spec = spec();
        let config = &mut spec.vm_config;
        config.memory_size = memory;
        config.cpu_count = number("cpu_count") as u32;
        config.num_gpus = number("num_gpus") as u32;
        config.num_nvswitches = number("num_nvswitches") as u32;
        config.pci_hole64_size = number("pci_hole64_size");
        config.hotplug_off = vm_config["hotplug_off"].as_bool().unwrap();
        config.qemu_version = vm_config["qemu_version"].as_str().unwrap().to_owned();
        let rtmr0 = |events: &[Event]| -> Vec<_> {
            let own = events.iter().filter(|event| event.imr == 0);
            own.map(|event| hex::encode(&event.digest)).collect()
        };
        assert_eq!(rtmr0(&spec.events()), rtmr0(&events));
        let compose = tcb_info["app_compose"].as_str().unwrap();
        assert_eq!(
            tcb_info["compose_hash"],
            hex::encode(sha256(compose.as_bytes()))
        );
    }
}

#[test]
fn the_fake_has_the_shape_of_recordings() {
    for report in recordings() {
        let mut spec = spec();
        let attested = report.get("ohttp_attestation").is_some();
        spec.ohttp.as_mut().unwrap().attested = attested;
        let built = spec.forge(&challenge()).unwrap();
        let recorded = events(&report);
        let shape = |events: &[Event]| {
            events
                .iter()
                .map(|e| (e.imr, e.event_type, e.event.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(shape(&built.events), shape(&recorded));
        same_keys("report", &report, &built.report);
        // Texts that the firmware and the kernel measure are the same everywhere.
        for (ours, theirs) in built.events.iter().zip(&recorded) {
            if [4, 0x8000_0001, 0x8000_0002, 0x8000_0007].contains(&ours.event_type) {
                assert_eq!(ours, theirs);
            }
        }
    }
}

/// Every key that the fake writes is in the recording, and the other way round
/// but for the block that it leaves out.
fn same_keys(path: &str, recorded: &Value, forged: &Value) {
    const LEFT_OUT: &str = "compose_manager_attestation";
    match (recorded, forged) {
        (Value::Object(recorded), Value::Object(forged)) => {
            for key in recorded.keys().chain(forged.keys()) {
                if key == LEFT_OUT {
                    continue;
                }
                let at = format!("{path}.{key}");
                let theirs = recorded
                    .get(key)
                    .unwrap_or_else(|| panic!("{at} is not recorded"));
                let ours = forged
                    .get(key)
                    .unwrap_or_else(|| panic!("{at} is not forged"));
                same_keys(&at, theirs, ours);
            }
        }
        (Value::Array(recorded), Value::Array(forged)) => {
            same_keys(&format!("{path}[0]"), &recorded[0], &forged[0]);
        }
        (recorded, forged) => assert_eq!(
            std::mem::discriminant(recorded),
            std::mem::discriminant(forged),
            "{path}"
        ),
    }
}
