//! Any text as the VM configuration of a valid report.

#![no_main]

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
        if base.verifies(&base.with(VM_CONFIG, text.into())) {
            assert_eq!(memory_size(text), memory_size(base.text(VM_CONFIG)), "another memory size verifies");
        }
        Corpus::Keep
    }
);
