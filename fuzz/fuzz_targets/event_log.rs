//! Any text as the event log of a valid report: as it stands, and as a JSON string.

#![no_main]

use attest_fuzz::{Base, write_seeds};
use libfuzzer_sys::{Corpus, fuzz_target};

const PLACE: &str = "the place of the event log";

fuzz_target!(
    init: write_seeds(|base| {
        let log = base.part("/event_log");
        let mut seeds = vec![log.to_string().into_bytes()];
        seeds.extend(log.as_array().into_iter().flatten().map(|event| format!("[{event}]").into_bytes()));
        seeds
    }),
    |data: &[u8]| -> Corpus {
        let Ok(text) = std::str::from_utf8(data) else {
            return Corpus::Reject;
        };
        let base = Base::get();
        let report = String::from_utf8(base.with("/event_log", PLACE.into())).expect("JSON is UTF-8");
        let as_array = report.replace(&format!("{PLACE:?}"), text);
        let as_string = base.with("/event_log", text.into());
        let (array_verifies, string_verifies) = (base.verifies(as_array.as_bytes()), base.verifies(&as_string));
        // Either form is the same log. A string may nest less deep.
        let is_shallow = data.iter().filter(|byte| **byte == b'[').count() < 8;
        if serde_json::from_str::<Vec<serde_json::Value>>(text).is_ok() && is_shallow {
            assert_eq!(array_verifies, string_verifies, "the two forms of one log differ");
        }
        Corpus::Keep
    }
);
