//! Any bytes as NVIDIA's answer about GPUs, or as the claims of one of its tokens,
//! which are then signed.

#![no_main]

use attest_fuzz::nras::Nras;
use attest_fuzz::write_seeds;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Claims without what may be another in a good token: its number, and times
/// that hold.
fn meaning(claims: &[u8]) -> Value {
    let mut claims: Value = serde_json::from_slice(claims).unwrap_or_default();
    for open in ["jti", "iat", "nbf", "exp"] {
        if let Some(claim) = claims.get_mut(open) {
            *claim = Value::Null;
        }
    }
    claims
}

fuzz_target!(
    init: write_seeds(|_| {
        let nras = Nras::get();
        let [overall, gpu] = &nras.claims;
        vec![
            [b"A", nras.answer.to_string().as_bytes()].concat(),
            [&[0], overall.as_slice()].concat(),
            [&[1], gpu.as_slice()].concat(),
        ]
    }),
    |data: &[u8]| {
        let Some((kind, data)) = data.split_first() else {
            return;
        };
        let nras = Nras::get();
        let is_good = |answer: &[u8]| nras.judge(answer, nras.key_set.as_bytes()).is_some();
        let (answer, claims) = match kind {
            0 => (nras.with_overall(data), &nras.claims[0]),
            1 => (nras.with_gpu(data), &nras.claims[1]),
            _ => {
                if is_good(data) {
                    let answer: Value = serde_json::from_slice(data).expect("a good answer is JSON");
                    assert_eq!(answer, nras.answer, "another answer is good");
                }
                return;
            }
        };
        if is_good(answer.to_string().as_bytes()) {
            assert_eq!(meaning(data), meaning(claims), "other claims are good");
        }
    }
);
