//! Any bytes as a request's form, cut anywhere: whatever the proxy makes of it,
//! the cuts change nothing, and it holds little.

#![no_main]

use attest_fuzz::body::{Cut, MAX_MODEL_BYTES};
use attest_fuzz::write_seeds;
use libfuzzer_sys::{Corpus, fuzz_target};
use memchr::memmem;

/// The last has half of a delimiter in itself.
const BOUNDARIES: [&str; 3] = ["b", "--a b", "--x--x--"];

fn content_type(boundary: &str) -> String {
    format!("multipart/form-data; boundary=\"{boundary}\"")
}

fuzz_target!(
    init: write_seeds(|_| {
        let file = "Content-Disposition: form-data; name=\"file\"; filename=\"a\"\r\nContent-Type: audio/wav";
        let model = "content-disposition: form-data; name=model";
        BOUNDARIES
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
                let seed = [&[choice, 3, 0, 12, 0, 40, 0, 90], text.as_bytes()].concat();
                let model = Cut::of(&seed).expect("a seed").model(&content_type(boundary));
                assert_eq!(model, Ok(Some("a/b".to_owned())));
                seed
            })
            .collect()
    }),
    |data: &[u8]| -> Corpus {
        let Some(cut) = Cut::of(data) else {
            return Corpus::Reject;
        };
        let boundary = BOUNDARIES[usize::from(cut.choice) % BOUNDARIES.len()];
        if let Ok(Some(model)) = cut.model(&content_type(boundary)) {
            assert!(model.len() <= MAX_MODEL_BYTES);
            // It is the whole content of one part.
            let part = format!("\r\n\r\n{model}\r\n--{boundary}");
            assert!(memmem::find(cut.body, part.as_bytes()).is_some(), "{model:?}");
            assert!(!model.contains(&format!("\r\n--{boundary}")), "{model:?}");
        }
        Corpus::Keep
    }
);
