//! Any text as the VM configuration of a valid report.

#![no_main]

use attest::compute_rtmr0;
use attest_fuzz::{Base, write_seeds};
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::Value;

const VM_CONFIG: &str = "/info/vm_config";

fn memory_size(text: &str) -> Option<u64> {
    let config: Value = serde_json::from_str(text).ok()?;
    config["memory_size"].as_u64()
}

fuzz_target!(
    init: write_seeds(|base| {
        let text = base.text(VM_CONFIG);
        let mut seeds = vec![text.as_bytes().to_vec(), br#"{"memory_size":1099511627776}"#.to_vec()];
        for member in [
            r#""cpu_count":1"#, r#""cpu_count":4096"#, r#""cpu_count":"64""#, r#""qemu_version":"8.2.2""#,
            r#""qemu_version":"11.1.0","pic":true"#, r#""num_gpus":8,"num_nvswitches":4,"hotplug_off":true"#,
            r#""num_nics":3,"num_verity_volumes":2"#, r#""pci_hole64_size":1125899906842624"#,
            r#""hugepages":true"#, r#""numa_nodes":[]"#, r#""smm":null"#,
        ] {
            seeds.push(format!(r#"{{"cpu_count":2,"memory_size":3221225472,{member}}}"#).into());
        }
        for size in ["0", "-1", "1", "2147483648", "3221225472", "18446744073709551615", "1e12", "null", "\"1\""] {
            seeds.push(format!(r#"{{"memory_size":{size}}}"#).into());
        }
        seeds
    }),
    |data: &[u8]| -> Corpus {
        let Ok(text) = std::str::from_utf8(data) else {
            return Corpus::Reject;
        };
        let base = Base::get();
        let computed = compute_rtmr0(text, None);
        if base.verifies(&base.with(VM_CONFIG, text.into())) {
            assert_eq!(memory_size(text), memory_size(base.text(VM_CONFIG)), "another memory size verifies");
            let own = compute_rtmr0(base.text(VM_CONFIG), None).unwrap();
            assert_eq!(computed.unwrap(), own, "another machine verifies");
        }
        Corpus::Keep
    }
);
