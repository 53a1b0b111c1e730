//! Against values that others computed, and that quotes of real machines have:
//! `data/dstack_vectors.json`.

use std::collections::BTreeMap;

use attest::{ComputedRtmr0, compute_rtmr0};
use serde_json::Value;

pub(super) fn vectors() -> Value {
    serde_json::from_str(include_str!("../../data/dstack_vectors.json")).unwrap()
}

fn computed(vm_config: &Value) -> ComputedRtmr0 {
    compute_rtmr0(&vm_config.to_string(), None).unwrap()
}

fn by_name(rtmr0: &ComputedRtmr0) -> BTreeMap<&'static str, String> {
    let events = rtmr0.events.iter();
    events
        .map(|(name, digest)| (*name, hex::encode(digest)))
        .collect()
}

/// Tables, RSDP, loader, TD HOB and RTMR0: eleven of them of machines that exist.
#[test]
fn every_shape_of_the_vectors() {
    let vectors = vectors();
    let shapes = vectors["acpi_and_rtmr0"].as_array().unwrap();
    assert_eq!(shapes.len(), 27);
    let mut wrong = Vec::new();
    for shape in shapes {
        let rtmr0 = computed(&shape["vm_config"]);
        let mut got = by_name(&rtmr0);
        got.insert("rtmr0", hex::encode(rtmr0.register));
        for name in ["acpi_loader", "acpi_rsdp", "acpi_tables", "td_hob", "rtmr0"] {
            if shape[name].as_str() != Some(&got[name]) {
                wrong.push(format!("{name} of {}", shape["vm_config"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_memory_map_at_every_size_of_the_vectors() {
    let vectors = vectors();
    let sizes = vectors["td_hob"].as_array().unwrap();
    assert_eq!(sizes.len(), 12);
    for size in sizes {
        let shape = serde_json::json!({"cpu_count": 1, "memory_size": size["memory_size"]});
        let events = by_name(&computed(&shape));
        assert_eq!(size["sha384"], events["td_hob"], "{shape}");
    }
}

#[test]
fn the_events_of_the_firmware() {
    let shape = serde_json::json!({"cpu_count": 1, "memory_size": 1_u64 << 30});
    let events = by_name(&computed(&shape));
    let vectors = vectors();
    let firmware = vectors["rtmr0_firmware_events"].as_object().unwrap();
    assert_eq!(firmware.len(), 9);
    for (name, event) in firmware {
        assert_eq!(event["sha384"], events[name.as_str()], "{name}");
    }
}
