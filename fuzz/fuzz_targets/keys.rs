//! Any bytes as an OHTTP key that the backend signs, any text as what it says of its
//! keys, and any point as a key for end-to-end encryption.

#![no_main]

use attest::NotBound;
use attest_fuzz::keys::{judge_encryption, judge_ohttp, signed, unhex};
use attest_fuzz::write_seeds;
use fake_tee::{Ohttp, Signing};
use k256::PublicKey;
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::Value;

/// The input is the key configuration, which is signed.
const CONFIG: u8 = b'C';
/// The input is the attestation of the valid configuration.
const ATTESTATION: u8 = b'A';
/// The input is the configuration's text, beside the valid attestation.
const OFFER: u8 = b'O';
/// The input is the text of the public key, beside the Ed25519 key.
const ED25519: u8 = b'E';
/// The same beside the ECDSA key.
const ECDSA: u8 = b'S';
/// The input is a public key, beside the ECDSA address that its bytes have.
const POINT: u8 = b'P';

/// The most bytes of configurations that are read.
const MAX_CONFIG: usize = 2048;

/// One configuration, read a second time (RFC 9458 §3.1): number, KEM 0x0020, key,
/// length of what follows, pairs of KDF and AEAD.
fn is_config(config: &[u8]) -> bool {
    config.len() >= 41
        && config[1..3] == [0, 0x20]
        && config[35..37] == (config.len() as u16 - 37).to_be_bytes()
        && (config.len() - 37).is_multiple_of(4)
}

/// The configurations of a text, one or a list of them (§3.2).
fn by_hand(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    if text.len() > MAX_CONFIG {
        return None;
    }
    if is_config(text) {
        return Some(vec![text.to_vec()]);
    }
    let mut all = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let len = text.get(at..at + 2)?;
        let len = usize::from(len[0]) << 8 | usize::from(len[1]);
        let config = text.get(at + 2..at + 2 + len)?;
        if !is_config(config) {
            return None;
        }
        all.push(config.to_vec());
        at += 2 + len;
    }
    (!all.is_empty()).then_some(all)
}

fn config(data: &[u8]) {
    let (text, attestation) = signed(data);
    let attestation = attestation.to_string();
    let judge = |signing: Signing| {
        let judged = judge_ohttp(Some(&text), Some(&attestation), &signing);
        judged.expect("the report is read")
    };
    match judge(Signing::ed25519()) {
        Ok(keys) => assert_eq!(Some(keys), by_hand(data), "other keys are bound"),
        Err(NotBound::NotProved(reason)) => assert_eq!(by_hand(data), None, "{reason}"),
        Err(NotBound::Contradicted(reason)) => panic!("the attested key signed it: {reason}"),
    }
    let under_ecdsa = judge(Signing::ecdsa());
    assert!(
        matches!(under_ecdsa, Err(NotBound::NotProved(_))),
        "the quote attests another key"
    );
}

fn attestation(text: &str) -> Corpus {
    let valid = Ohttp::new().key_config;
    let (offer, good) = signed(&valid);
    let Some(judged) = judge_ohttp(Some(&offer), Some(text), &Signing::ed25519()) else {
        return Corpus::Reject;
    };
    if let Ok(keys) = judged {
        assert_eq!(keys, [valid], "another key is bound");
        let sent: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(sent["signing_algo"], "ed25519");
        for field in ["signing_key", "key_config", "signature"] {
            let of = |value: &Value| value[field].as_str().and_then(unhex);
            assert!(of(&sent).is_some(), "there is no {field}");
            assert_eq!(of(&sent), of(&good), "another {field} is good");
        }
    }
    let bound = |judged: Option<Result<_, NotBound>>| judged.is_some_and(|judged| judged.is_ok());
    assert!(
        !bound(judge_ohttp(Some(&offer), Some(text), &Signing::ecdsa())),
        "the quote attests another key"
    );
    assert!(
        !bound(judge_ohttp(None, Some(text), &Signing::ed25519())),
        "nothing is offered"
    );
    Corpus::Keep
}

fn offer(text: &str) {
    let valid = Ohttp::new().key_config;
    let good = signed(&valid).1.to_string();
    let judge = |attestation| {
        let judged = judge_ohttp(Some(text), attestation, &Signing::ed25519());
        judged.expect("the report is read")
    };
    let is_valid = unhex(text).as_ref() == Some(&valid);
    match judge(Some(&good)) {
        Ok(keys) => assert!(
            is_valid && keys == [valid],
            "another key is bound: {text:?}"
        ),
        Err(reason) => assert!(!is_valid, "{reason}"),
    }
    let unsigned = judge(None);
    assert!(
        matches!(unsigned, Err(NotBound::NotProved(_))),
        "nobody signed it"
    );
}

/// Bound exactly if it is a key and the attested one.
fn public_key(text: &str, signing: &Signing, is_key: bool) {
    let key = judge_encryption(text, signing);
    assert_eq!(key.is_ok(), is_key, "{text:?}: {key:?}");
    if let Ok(key) = key {
        assert_eq!(key, signing.public_key);
    }
}

fuzz_target!(
    init: write_seeds(|base| {
        let valid = Ohttp::new().key_config;
        let (text, good) = signed(&valid);
        assert_eq!(base.text("/ohttp_key_config"), text);
        let good = good.to_string();
        let judged = judge_ohttp(Some(&text), Some(&good), &Signing::ed25519());
        assert_eq!(judged, Some(Ok(vec![valid.clone()])));
        let [ed25519, ecdsa] = [Signing::ed25519(), Signing::ecdsa()].map(|key| key.public_key);
        let with_suites = |suites: u8| {
            let list = vec![0; usize::from(suites)];
            [&[CONFIG], &valid[..36], &[suites], &list].concat()
        };
        vec![
            [&[CONFIG], &valid[..]].concat(),
            // One pair, and the most that fit.
            with_suites(4),
            with_suites(216),
            // A list of two.
            [&[CONFIG, 0, 45], &valid[..], &[0, 45], &valid[..]].concat(),
            [&[ATTESTATION], good.as_bytes()].concat(),
            [&[OFFER], text.as_bytes()].concat(),
            [&[OFFER], &b"0x"[..], text.to_uppercase().as_bytes()].concat(),
            [&[ED25519], hex::encode(&ed25519).as_bytes()].concat(),
            [&[ECDSA], &b"0x"[..], hex::encode(&ecdsa).as_bytes()].concat(),
            [&[ECDSA], &b"04"[..], hex::encode(&ecdsa).as_bytes()].concat(),
            [&[POINT], &ecdsa[..]].concat(),
            [&[POINT], &[0; 64][..]].concat(),
        ]
    }),
    |data: &[u8]| -> Corpus {
        let Some((mode, data)) = data.split_first() else {
            return Corpus::Reject;
        };
        if *mode == CONFIG {
            config(data);
            return Corpus::Keep;
        }
        if *mode == POINT {
            if data.len() != 64 {
                return Corpus::Reject;
            }
            let is_point = PublicKey::from_sec1_bytes(&[&[4], data].concat()).is_ok();
            public_key(&hex::encode(data), &Signing::of_point(data), is_point);
            return Corpus::Keep;
        }
        let Ok(text) = std::str::from_utf8(data) else {
            return Corpus::Reject;
        };
        let of_text = |signing: Signing| {
            let is_key = unhex(text).is_some_and(|key| {
                let sec1 = key.len() == 65 && key[0] == 4;
                key[usize::from(sec1)..] == signing.public_key
            });
            public_key(text, &signing, is_key);
        };
        match *mode {
            ATTESTATION => return attestation(text),
            OFFER => offer(text),
            ED25519 => of_text(Signing::ed25519()),
            ECDSA => of_text(Signing::ecdsa()),
            _ => return Corpus::Reject,
        }
        Corpus::Keep
    }
);
