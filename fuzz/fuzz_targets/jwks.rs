//! Any bytes as the keys behind NVIDIA's answer.

#![no_main]

use attest_fuzz::nras::Nras;
use attest_fuzz::write_seeds;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// The key that signed, with the certificate that vouches for it; of the
/// authority's certificate only the key counts.
fn meaning(key_set: &Value, kid: &Value) -> Vec<Value> {
    let keys = key_set["keys"].as_array().into_iter().flatten();
    keys.filter(|key| key["kid"] == *kid)
        .flat_map(|key| [&key["x"], &key["y"], &key["x5c"][0]].map(Value::clone))
        .collect()
}

fuzz_target!(
    init: write_seeds(|_| vec![Nras::get().key_set.as_bytes().to_vec()]),
    |data: &[u8]| {
        let nras = Nras::get();
        let answer = nras.answer.to_string();
        let Some(opinion) = nras.judge(answer.as_bytes(), data) else {
            return;
        };
        let before = nras.judge(answer.as_bytes(), nras.key_set.as_bytes());
        assert_eq!(before, Some(opinion), "another opinion");
        let good: Value = serde_json::from_str(&nras.key_set).expect("JSON");
        let this: Value = serde_json::from_slice(data).expect("a good key set is JSON");
        let kid = &good["keys"][0]["kid"];
        assert_eq!(meaning(&this, kid), meaning(&good, kid), "another key is good");
    }
);
