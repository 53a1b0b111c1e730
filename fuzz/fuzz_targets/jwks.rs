//! Any bytes as the keys behind NVIDIA's answer.

#![no_main]

use std::collections::BTreeSet;

use attest::KeySet;
use attest_fuzz::nras::Nras;
use attest_fuzz::write_seeds;
use base64::engine::GeneralPurpose;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use libfuzzer_sys::fuzz_target;
use memchr::memmem;
use serde_json::Value;

fn decoded(engine: &GeneralPurpose, text: &Value) -> Vec<u8> {
    engine
        .decode(text.as_str().expect("a text"))
        .expect("base64")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    memmem::find(bytes, part).is_some()
}

/// What a second reader finds in a set that can be read.
fn must_be_as_sent(key_set: &KeySet, sent: &Value) {
    let keys = sent["keys"].as_array().expect("a list");
    assert_eq!(key_set.len(), keys.len());
    let names: BTreeSet<_> = keys.iter().map(|key| key["kid"].as_str()).collect();
    assert_eq!(names.len(), keys.len(), "a name stands twice");
    assert!(!names.contains(&None), "a key has no name");
    for key in keys {
        assert_eq!(key["kty"], "EC");
        assert_eq!(key["crv"], "P-384");
        // SEC 1 §2.3.3; the certificate has its key in this form.
        let [x, y] = ["x", "y"].map(|name| decoded(&BASE64_URL_SAFE_NO_PAD, &key[name]));
        let point = [&[4], &x[..], &y].concat();
        assert_eq!(point.len(), 97);
        let leaf = decoded(&BASE64_STANDARD, &key["x5c"][0]);
        assert!(contains(&leaf, &point), "the certificate is another key's");
    }
}

/// A key with the certificate that vouches for it.
fn meaning(key: &Value) -> [&Value; 3] {
    [&key["x"], &key["y"], &key["x5c"][0]]
}

fuzz_target!(
    init: write_seeds(|_| {
        let text = &Nras::get().key_set;
        let valid: Value = serde_json::from_str(text).expect("JSON");
        let with = |keys: Vec<&Value>| serde_json::json!({ "keys": keys }).to_string();
        let first = &valid["keys"][0];
        let mut other = first.clone();
        other["kid"] = "other".into();
        let sets = [text.clone(), with(vec![]), with(vec![&other, first])];
        sets.map(String::into_bytes).to_vec()
    }),
    |data: &[u8]| {
        let nras = Nras::get();
        if let Ok(key_set) = KeySet::parse(data) {
            must_be_as_sent(&key_set, &serde_json::from_slice(data).expect("JSON"));
        }
        let answer = nras.answer.to_string();
        let Some(opinion) = nras.judge(answer.as_bytes(), data) else {
            return;
        };
        let before = nras.judge(answer.as_bytes(), nras.key_set.as_bytes());
        let before = before.expect("the valid keys are good");
        assert_eq!(opinion.gpus(), before.gpus());
        assert_eq!(opinion.issued_at(), before.issued_at());
        // Nobody vouches for the dates of the authority's certificate. Those of
        // others cannot make the opinion last longer.
        assert!(opinion.valid_until() <= before.valid_until(), "it lasts longer");
        let sent: Value = serde_json::from_slice(data).expect("JSON");
        let valid: Value = serde_json::from_str(&nras.key_set).expect("JSON");
        let valid = &valid["keys"][0];
        let keys = sent["keys"].as_array().expect("a list");
        let key = keys.iter().find(|key| key["kid"] == valid["kid"]).expect("the key");
        assert_eq!(meaning(key), meaning(valid), "another key is good");
        // Of the authority's certificate only the key counts.
        let authority = decoded(&BASE64_STANDARD, &key["x5c"][1]);
        assert!(contains(&authority, &nras.authority), "another authority is good");
    }
);
