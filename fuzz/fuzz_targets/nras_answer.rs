//! Any bytes as NVIDIA's answer about GPUs, or as the claims or header of one of its
//! tokens, which are then signed.

#![no_main]

use attest::NrasOpinion;
use attest_fuzz::gpu::smaller_form;
use attest_fuzz::nras::{NOW, Nras};
use attest_fuzz::write_seeds;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// An answer with its first token's signature in one of its two forms. The others
/// are bound byte for byte, by digests.
fn in_one_form(mut answer: Value) -> (Value, Vec<u8>) {
    let token = answer[0][1].as_str().expect("a token").to_owned();
    let (signed, signature) = token.rsplit_once('.').expect("a signature");
    answer[0][1] = signed.into();
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    (answer, smaller_form(&signature))
}

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

/// What may be another: the token has a number, and is valid now and for an hour
/// at most; our clock may be a minute behind.
fn must_be_in_time(claims: &Value, opinion: &NrasOpinion) {
    assert!(claims["jti"].is_string(), "it has no number");
    let [issued_at, not_before, expires] =
        ["iat", "nbf", "exp"].map(|claim| claims[claim].as_u64().expect("seconds"));
    assert!(issued_at.max(not_before) <= NOW + 60, "it is not valid yet");
    let ends = expires.min(issued_at + 3600);
    assert!(NOW <= ends && NOW < expires, "it is no longer valid");
    assert!((NOW..=ends).contains(&opinion.valid_until().0));
    assert_eq!(opinion.gpus(), 1);
}

fuzz_target!(
    init: write_seeds(|_| {
        let nras = Nras::get();
        let [overall, gpu] = &nras.claims;
        // Else nothing would be learned from answers that are refused.
        let (signed, signature) = in_one_form(nras.answer.clone());
        let mut other_form = nras.answer.clone();
        let token = signed[0][1].as_str().expect("a text");
        other_form[0][1] = format!("{token}.{}", BASE64_URL_SAFE_NO_PAD.encode(&signature)).into();
        for answer in [
            nras.with_overall(overall),
            nras.with_gpu(gpu),
            nras.with_header(&nras.header()),
            other_form,
        ] {
            let opinion = nras.judge(answer.to_string().as_bytes(), nras.key_set.as_bytes());
            assert!(opinion.is_some(), "the valid claims are good");
        }
        vec![
            [b"A", nras.answer.to_string().as_bytes()].concat(),
            [&[0], overall.as_slice()].concat(),
            [&[1], gpu.as_slice()].concat(),
            [&[2], nras.header().as_slice()].concat(),
        ]
    }),
    |data: &[u8]| {
        let Some((kind, data)) = data.split_first() else {
            return;
        };
        let nras = Nras::get();
        let judge = |answer: &[u8]| nras.judge(answer, nras.key_set.as_bytes());
        let (answer, claims) = match kind {
            2 => {
                if judge(nras.with_header(data).to_string().as_bytes()).is_some() {
                    let [got, valid] = [data, &nras.header()].map(serde_json::from_slice::<Value>);
                    assert_eq!(got.expect("JSON"), valid.expect("JSON"), "another header is good");
                }
                return;
            }
            0 => (nras.with_overall(data), &nras.claims[0]),
            1 => (nras.with_gpu(data), &nras.claims[1]),
            _ => {
                if judge(data).is_some() {
                    let answer = serde_json::from_slice(data).expect("a good answer is JSON");
                    let [got, valid] = [answer, nras.answer.clone()].map(in_one_form);
                    assert_eq!(got, valid, "another answer is good");
                }
                return;
            }
        };
        if let Some(opinion) = judge(answer.to_string().as_bytes()) {
            assert_eq!(meaning(data), meaning(claims), "other claims are good");
            let claims = serde_json::from_slice(data).expect("JSON");
            must_be_in_time(&claims, &opinion);
            if *kind == 0 {
                assert_eq!(claims["iat"], opinion.issued_at().0);
            }
        }
    }
);
