//! Any bytes as a request's form, cut anywhere: whatever the proxy makes of it,
//! the cuts change nothing, and it holds little.

#![no_main]

use attest_fuzz::body::{Cut, MAX_MODEL_BYTES};
use attest_fuzz::write_seeds;
use libfuzzer_sys::{Corpus, fuzz_target};

/// The last has half of a delimiter in itself.
const TYPES: [&str; 3] = [
    "multipart/form-data; boundary=b",
    "multipart/form-data; boundary=\"--a b\"",
    "multipart/form-data; boundary=\"--x--x--\"",
];

fuzz_target!(
    init: write_seeds(|_| {
        let file = "Content-Disposition: form-data; name=\"file\"; filename=\"a\"\r\nContent-Type: audio/wav";
        let model = "content-disposition: form-data; name=model";
        ["b", "--a b", "--x--x--"]
            .iter()
            .zip(0..)
            .map(|(boundary, choice)| {
                let part = |header: &str, content: &str| {
                    format!("--{boundary}\r\n{header}\r\n\r\n{content}\r\n")
                };
                let text = format!(
                    "preamble\r\n{}{}{}--{boundary}-- \r\nepilogue",
                    part(file, "\r\n--\r\n-- x--"),
                    part(model, "a/b"),
                    part("", "")
                );
                [&[choice, 3, 0, 12, 0, 40, 0, 90], text.as_bytes()].concat()
            })
            .collect()
    }),
    |data: &[u8]| -> Corpus {
        let Some(cut) = Cut::of(data) else {
            return Corpus::Reject;
        };
        let content_type = TYPES[usize::from(cut.choice) % TYPES.len()];
        if let Ok(Some(model)) = cut.model(content_type) {
            assert!(model.len() <= MAX_MODEL_BYTES);
            let mut windows = cut.body.windows(model.len().max(1));
            assert!(model.is_empty() || windows.any(|window| window == model.as_bytes()));
        }
        Corpus::Keep
    }
);
