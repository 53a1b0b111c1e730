//! What holds for every answer and key set of a kind.

use std::sync::OnceLock;

use attest::{KeySet, NrasOpinion, NrasRejected};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Machine, assert_printable, code, judge, judge_bytes, spec};
use crate::support::cases;

/// One GPU, its answer and the keys, forged once.
struct One {
    machine: Machine,
    answer: Vec<u8>,
    key_set: Vec<u8>,
    opinion: NrasOpinion,
}

fn one() -> &'static One {
    static ONE: OnceLock<One> = OnceLock::new();
    ONE.get_or_init(|| {
        let machine = Machine::with(1);
        let answer = spec().answer(&machine.payload).unwrap().to_string();
        let key_set = spec().key_set().unwrap().to_string();
        let opinion = judge_bytes(answer.as_bytes(), key_set.as_bytes(), &machine.gpus).unwrap();
        One {
            machine,
            answer: answer.into_bytes(),
            key_set: key_set.into_bytes(),
            opinion,
        }
    })
}

impl One {
    fn judge(&self, answer: &[u8], key_set: &[u8]) -> Result<NrasOpinion, NrasRejected> {
        let outcome = judge_bytes(answer, key_set, &self.machine.gpus);
        if let Err(rejected) = &outcome {
            assert_printable(rejected);
        }
        outcome
    }
}

#[test]
fn an_answer_with_one_other_bit_is_refused() {
    let one = one();
    for at in 0..one.answer.len() {
        let mut answer = one.answer.clone();
        answer[at] ^= 1 << (at % 7);
        let outcome = one.judge(&answer, &one.key_set);
        assert_ne!(code(&outcome), "verified", "byte {at}");
    }
}

/// Only what is not read may differ, and then the opinion is the same.
#[test]
fn a_key_set_with_one_other_bit_changes_no_opinion() {
    let one = one();
    let mut refused = 0;
    for at in 0..one.key_set.len() {
        let mut key_set = one.key_set.clone();
        key_set[at] ^= 1 << (at % 7);
        match one.judge(&one.answer, &key_set) {
            Ok(opinion) => assert_eq!(opinion, one.opinion, "byte {at}"),
            Err(_) => refused += 1,
        }
    }
    // A certificate of the key, and more than the key that nobody asks for.
    assert!(refused * 3 > one.key_set.len(), "{refused}");
}

#[test]
fn what_ends_at_any_byte_is_refused() {
    let one = one();
    for len in 0..one.answer.len() {
        let outcome = one.judge(&one.answer[..len], &one.key_set);
        assert_eq!(code(&outcome), "evidence_nras_answer", "{len} bytes");
    }
    for len in 0..one.key_set.len() {
        let outcome = one.judge(&one.answer, &one.key_set[..len]);
        assert_eq!(code(&outcome), "evidence_nras_key_set", "{len} bytes");
    }
}

/// Some JSON value.
fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::collection::vec(any::<String>(), 0..4).prop_map(Value::from),
        any::<String>().prop_map(|key| json!({ key: {"a": [1]} })),
    ]
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn any_bit_counts(at: usize, bit in 0..8_u8, of_keys: bool) {
        let one = one();
        let (mut answer, mut key_set) = (one.answer.clone(), one.key_set.clone());
        let bytes = if of_keys { &mut key_set } else { &mut answer };
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(opinion) = one.judge(&answer, &key_set) {
            prop_assert!(of_keys);
            prop_assert_eq!(opinion, one.opinion);
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let one = one();
        prop_assert_ne!(code(&one.judge(&bytes, &one.key_set)), "verified");
        prop_assert_ne!(code(&one.judge(&one.answer, &bytes)), "verified");
        // As tokens, and as certificates.
        let text = super::unsigned::encoded(&bytes);
        let answer = json!([["JWT", format!("{text}.{text}.{text}")], {}]).to_string();
        prop_assert_ne!(code(&one.judge(answer.as_bytes(), &one.key_set)), "verified");
        let mut keys: Value = serde_json::from_slice(&one.key_set).unwrap();
        for place in 0..2 {
            let genuine = keys["keys"][0]["x5c"][place].take();
            keys["keys"][0]["x5c"][place] = fake_tee::encode::base64(&bytes).into();
            let text = keys.to_string();
            prop_assert_ne!(code(&one.judge(&one.answer, text.as_bytes())), "verified");
            keys["keys"][0]["x5c"][place] = genuine;
        }
    }

    #[test]
    fn any_bytes_after_a_true_beginning_are_refused(
        keep in 0..20_000_usize,
        bytes in prop::collection::vec(any::<u8>(), 1..300),
    ) {
        let one = one();
        for (of_keys, whole) in [(false, &one.answer), (true, &one.key_set)] {
            let mut all = whole[..keep % whole.len()].to_vec();
            all.extend(&bytes);
            let outcome = if of_keys {
                one.judge(&one.answer, &all)
            } else {
                one.judge(&all, &one.key_set)
            };
            prop_assert_ne!(code(&outcome), "verified");
        }
    }

    /// Signed by the service's own key, so that they are read.
    #[test]
    fn any_claims_are_refused_in_printable_words(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        place: usize,
        of_gpu: bool,
        name: Option<String>,
        value in value(),
    ) {
        let mut words = spec();
        let hooks = if of_gpu { words.gpu(1) } else { &mut words.overall };
        let payload = bytes.clone();
        hooks.payload.push(move |claims| claims.clone_from(&payload));
        let outcome = judge(&words);
        prop_assert_ne!(code(&outcome), "verified");
        assert_printable(&outcome.unwrap_err());

        let mut other = spec();
        let hooks = if of_gpu { other.gpu(1) } else { &mut other.overall };
        let changed = std::sync::Arc::new(std::sync::Mutex::new(false));
        let seen = changed.clone();
        hooks.claims.push(move |claims| {
            let before = claims.clone();
            let names: Vec<_> = claims.as_object().unwrap().keys().cloned().collect();
            let name = name.clone().unwrap_or_else(|| names[place % names.len()].clone());
            // Nobody reads the number that only NVIDIA counts by, and other times
            // may be good ones.
            if !["jti", "nbf", "exp"].contains(&name.as_str()) {
                claims[name] = value.clone();
            }
            *seen.lock().unwrap() = *claims != before;
        });
        let outcome = judge(&other);
        if let Err(rejected) = &outcome {
            assert_printable(rejected);
        }
        prop_assert_eq!(outcome.is_err(), *changed.lock().unwrap());
    }

    #[test]
    fn any_text_is_no_key_set(text: String, value in value()) {
        for text in [
            text.clone(),
            json!({ "keys": text }).to_string(),
            json!({ "keys": [value] }).to_string(),
            json!({ "keys": [{"kty": "EC", "crv": "P-384", "kid": text, "x5c": [text, text], "x": text, "y": text}] })
                .to_string(),
        ] {
            if let Err(rejected) = KeySet::parse(text.as_bytes()) {
                assert_printable(&rejected);
            } else {
                prop_assert!(false, "{text}");
            }
        }
    }
}
