//! Any bytes as a report.

#![no_main]

use attest_fuzz::{Base, write_seeds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: write_seeds(|base| {
        let string_log = base.part("/event_log").to_string();
        vec![
            base.report.to_string().into_bytes(),
            base.with("/event_log", string_log.into()),
            base.with("/intel_quote", hex::encode(&base.quote_v5).into()),
            br#"{"info":{"tcb_info":{}},"signing_algo":"ed25519","signing_address":"00","intel_quote":null,"event_log":[]}"#.to_vec(),
        ]
    }),
    |data: &[u8]| {
        Base::get().verifies(data);
    }
);
