//! What a host may state of its machine, and what nothing is computed of.

use attest::compute_rtmr0;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::cases;

fn shape() -> Value {
    json!({
        "cpu_count": 4,
        "memory_size": 8_u64 << 30,
        "qemu_version": "9.2.1",
        "pci_hole64_size": 0,
        "num_gpus": 1,
        "num_nvswitches": 0,
        "hotplug_off": true,
    })
}

fn register(shape: &Value) -> [u8; 48] {
    compute_rtmr0(&shape.to_string(), None).unwrap().register
}

/// Each with one member changed: the reason, with the value and the bound.
#[test]
fn what_no_tables_are_computed_of() {
    for (member, value, reason) in [
        (
            "cpu_count",
            json!(0),
            "cpu_count is 0: expected a number from 1 to 4096",
        ),
        (
            "cpu_count",
            json!(4097),
            "cpu_count is 4097: expected a number from 1 to 4096",
        ),
        (
            "cpu_count",
            json!("4"),
            "cpu_count is \"\\\"4\\\"\": expected a number",
        ),
        (
            "cpu_count",
            json!(4.0),
            "cpu_count is \"4.0\": expected a number",
        ),
        (
            "cpu_count",
            json!(-4),
            "cpu_count is \"-4\": expected a number",
        ),
        (
            "cpu_count",
            json!(true),
            "cpu_count is \"true\": expected a number",
        ),
        (
            "cpu_count",
            json!([4]),
            "cpu_count is \"[4]\": expected a number",
        ),
        ("cpu_count", Value::Null, "info.vm_config has no cpu_count"),
        (
            "memory_size",
            Value::Null,
            "info.vm_config has no memory_size",
        ),
        (
            "memory_size",
            json!((8_u64 << 30) + 1),
            "expected a multiple of 1048576",
        ),
        (
            "memory_size",
            json!(0),
            "memory_size is 0: expected a number from 16777216",
        ),
        (
            "memory_size",
            json!(15 << 20),
            "expected a number from 16777216",
        ),
        (
            "memory_size",
            json!(0x3800_0000_0000_u64),
            "to 61570503671808",
        ),
        ("memory_size", json!(u64::MAX), "to 61570503671808"),
        (
            "qemu_version",
            json!("7.2.1"),
            "tables are computed from 8.0 on",
        ),
        (
            "qemu_version",
            json!("9.2"),
            "expected three numbers such as 9.2.1",
        ),
        ("qemu_version", json!("9.2.1.0"), "expected three numbers"),
        ("qemu_version", json!("9.2.1-rc1"), "expected three numbers"),
        ("qemu_version", json!("9.+2.1"), "expected three numbers"),
        ("qemu_version", json!(""), "expected three numbers"),
        ("qemu_version", json!("99999.1.1"), "expected three numbers"),
        ("qemu_version", json!(9), "expected text"),
        (
            "pci_hole64_size",
            json!((1_u64 << 52) + 1),
            "to 4503599627370496",
        ),
        ("num_gpus", json!(27), "to 26"),
        ("num_nics", json!(27), "to 26"),
        ("num_nics", json!(26), "27 devices are on the root bus"),
        (
            "num_nvswitches",
            json!(25),
            "27 devices are on the root bus",
        ),
        (
            "num_verity_volumes",
            json!(25),
            "27 devices are on the root bus",
        ),
        (
            "hotplug_off",
            json!(false),
            "states 1 GPUs and NVSwitches with hot-plug on",
        ),
        ("hotplug_off", Value::Null, "with hot-plug on"),
        ("hotplug_off", json!("true"), "expected true or false"),
        ("pic", json!(1), "expected true or false"),
        ("hugepages", json!(true), "no tables are computed for it"),
        ("hugepages", json!("no"), "no tables are computed for it"),
        ("hugepages", json!("\u{1b}[2J\u{202e}"), "is \"\\\""),
        (
            "numa_nodes",
            json!([{"pxb_bus": 5}]),
            "no tables are computed for it",
        ),
        ("smm", json!(true), "no tables are computed for it"),
        ("swtpm", json!(true), "no tables are computed for it"),
        ("root_verity", json!(false), "expected true"),
    ] {
        let mut changed = shape();
        changed[member] = value;
        let refused = compute_rtmr0(&changed.to_string(), None).unwrap_err();
        assert!(refused.to_string().contains(reason), "{member}: {refused}");
    }
    for (text, reason) in [
        ("", "info.vm_config"),
        ("[]", "info.vm_config"),
        (r#"{"cpu_count": 4, "cpu_count": 5}"#, "info.vm_config"),
        ("{\"hugepages\": [\n\"\u{9b}\u{202e}\"\n]}", "hugepages is"),
        (r#"{"cpu_count": 4, "cpu\u005fcount": 5}"#, "info.vm_config"),
    ] {
        let refused = compute_rtmr0(text, None).unwrap_err();
        assert!(refused.to_string().contains(reason), "{text}: {refused}");
        let is_plain = |c: char| (' '..='~').contains(&c);
        assert!(refused.to_string().chars().all(is_plain), "{refused:?}");
    }
}

/// Members that the tables do not depend on, and members that say what their absence says.
#[test]
fn what_makes_no_difference() {
    let plain = register(&shape());
    for (member, value) in [
        ("spec_version", json!(1)),
        ("image", json!("a name of the host's")),
        ("os_image_hash", json!("00")),
        ("ovmf_variant", json!("pre202505")),
        ("host_share_mode", json!("vhd")),
        ("qemu_single_pass_add_pages", json!(true)),
        ("a member of a newer dstack", json!({"x": [1]})),
        ("hugepages", json!(false)),
        ("numa_nodes", json!([])),
        ("smm", Value::Null),
        ("pic", json!(false)),
        ("num_nics", json!(1)),
        ("num_verity_volumes", json!(0)),
        ("pci_hole64_size", json!(0x8_0000_0000_u64)),
        ("pci_hole64_size", Value::Null),
        ("qemu_version", json!("9.2.0")),
        ("qemu_version", json!("9.3.7")),
        ("root_verity", json!(true)),
    ] {
        let mut changed = shape();
        changed[member] = value;
        assert_eq!(plain, register(&changed), "{changed}");
    }
    let mut swapped = shape();
    swapped["num_gpus"] = json!(0);
    swapped["num_nvswitches"] = json!(1);
    assert_eq!(plain, register(&swapped), "a place is a place");
}

/// Every member that QEMU's rules depend on, changed by the least.
#[test]
fn what_makes_a_difference() {
    let plain = register(&shape());
    for (member, value) in [
        ("cpu_count", json!(3)),
        ("cpu_count", json!(5)),
        ("memory_size", json!((8_u64 << 30) + (1 << 20))),
        ("qemu_version", json!("9.1.9")),
        ("qemu_version", json!("8.2.2")),
        ("qemu_version", json!("10.0.0")),
        ("qemu_version", json!("11.0.0")),
        ("qemu_version", json!("11.1.0")),
        ("pci_hole64_size", json!(0x10_0000_0000_u64)),
        ("pic", json!(true)),
        ("num_gpus", json!(2)),
        ("num_gpus", json!(0)),
        ("num_nvswitches", json!(1)),
        ("num_nics", json!(0)),
        ("num_nics", json!(2)),
        ("num_verity_volumes", json!(1)),
    ] {
        let mut changed = shape();
        changed[member] = value;
        assert_ne!(plain, register(&changed), "{changed}");
    }
    let mut without_gpu = shape();
    without_gpu["num_gpus"] = json!(0);
    let off = register(&without_gpu);
    without_gpu["hotplug_off"] = json!(false);
    assert_ne!(off, register(&without_gpu), "hot-plug");
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn no_text_makes_it_fail_otherwise(text in ".{0,200}") {
        let _ = compute_rtmr0(&text, None);
    }

    #[test]
    fn numbers_of_any_size_are_bounded(
        cpus in any::<u64>(), memory in any::<u64>(), hole in any::<u64>(),
        gpus in any::<u64>(), switches in any::<u64>(), nics in any::<u64>(),
    ) {
        let shape = json!({
            "cpu_count": cpus, "memory_size": memory, "pci_hole64_size": hole,
            "num_gpus": gpus, "num_nvswitches": switches, "num_nics": nics, "hotplug_off": true,
        });
        let _ = compute_rtmr0(&shape.to_string(), None);
    }
}
