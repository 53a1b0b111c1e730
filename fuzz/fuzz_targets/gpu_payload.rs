//! Any text as the payload of two valid GPUs. @c, @e, @C, @E and @n
//! stand for their base64 and the nonce.

#![no_main]

use attest_fuzz::gpu::{Machine, filled, nonce, payload, pem_content, words, write_seeds};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::Value;

/// The certificates and evidence of a GPU, in base64.
fn base64(machine: &Machine) -> [String; 4] {
    [
        &machine.chains[0],
        &machine.evidence[0],
        &machine.chains[1],
        &machine.evidence[1],
    ]
    .map(|blob| BASE64_STANDARD.encode(blob))
}

fn blob(item: &Value, field: &str) -> Vec<u8> {
    BASE64_STANDARD
        .decode(item[field].as_str().expect("a text"))
        .expect("base64")
}

fuzz_target!(
    init: write_seeds(|machine| {
        let both = [0, 1].map(|gpu| (&*machine.chains[gpu], &*machine.evidence[gpu]));
        let names = ["@c", "@e", "@C", "@E"];
        let short = |text: String| {
            let text = text.replace(&nonce(), "@n");
            base64(machine).iter().zip(names).fold(text, |text, (value, name)| text.replace(value, name))
        };
        let two = short(payload(both));
        let mixed = two.replacen("@e", "@E", 1);
        vec![
            short(payload([both[0]])).into_bytes(),
            short(payload([both[1], both[0]])).into_bytes(),
            short(payload([both[1], both[1]])).into_bytes(),
            two.into_bytes(),
            mixed.into_bytes(),
        ]
    }),
    |data: &[u8]| -> Corpus {
        let Ok(text) = std::str::from_utf8(data) else {
            return Corpus::Reject;
        };
        let machine = Machine::get();
        let ([c, e, big_c, big_e], nonce) = (&base64(machine), &nonce());
        let names = [("@c", &**c), ("@e", e), ("@C", big_c), ("@E", big_e), ("@n", nonce)];
        let Some(text) = filled(text, &names) else {
            return Corpus::Reject;
        };
        if let Ok(report) = machine.judge(&text) {
            // A second reader, which takes the last of equal names, finds the same.
            let value: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(value["nonce"], **nonce);
            let list = value["evidence_list"].as_array().expect("a list");
            assert_eq!(list.len(), report.gpus().len());
            let mut seen = Vec::new();
            for (item, finding) in list.iter().zip(report.gpus()) {
                let repeated = item.get("nonce").filter(|nonce| !nonce.is_null());
                assert!(repeated.is_none_or(|repeated| *repeated == **nonce));
                let evidence = blob(item, "evidence");
                let gpu = machine.evidence.iter().position(|other| *other == evidence);
                let gpu = gpu.expect("the evidence of a GPU");
                let content = pem_content(&blob(item, "certificate"));
                assert_eq!(content, pem_content(&machine.chains[gpu]), "another chain verifies");
                assert_eq!(words(finding), machine.finding(gpu));
                assert!(!seen.contains(&gpu), "a GPU counts twice");
                seen.push(gpu);
            }
            assert!(!seen.is_empty(), "no GPU verifies");
        }
        Corpus::Keep
    }
);
