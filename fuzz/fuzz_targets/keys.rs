//! Any bytes as an OHTTP key that the backend signs, any text as what it says of its
//! keys, and any point as a key for end-to-end encryption.

#![no_main]

use attest::{KeyStatus, KeysRejected, OhttpKey, OhttpSuite};
use attest_fuzz::keys::{attested, ecdsa, ed25519, judge_e2ee, judge_ohttp, signed, unhex};
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

/// The longest configuration that is read.
const MAX_CONFIG: usize = 256;

/// A configuration, read a second time (RFC 9458 §3.1): number, KEM 0x0020, key,
/// length of what follows, pairs of KDF and AEAD.
fn by_hand(config: &[u8]) -> Option<(u8, &[u8], Vec<OhttpSuite>)> {
    let sound = config.len() <= MAX_CONFIG
        && config.len() >= 41
        && config[1..3] == [0, 0x20]
        && config[35..37] == (config.len() as u16 - 37).to_be_bytes()
        && (config.len() - 37).is_multiple_of(4);
    if !sound {
        return None;
    }
    let pairs = config[37..].chunks(4).map(|pair| OhttpSuite {
        kdf: u16::from(pair[0]) << 8 | u16::from(pair[1]),
        aead: u16::from(pair[2]) << 8 | u16::from(pair[3]),
    });
    Some((config[0], &config[3..35], pairs.collect()))
}

fn must_be(key: &OhttpKey, config: &[u8]) {
    assert_eq!(key.encoded(), config, "another key is bound");
    let (id, public_key, suites) = by_hand(config).expect("a configuration");
    assert_eq!((key.id(), &key.public_key()[..]), (id, public_key));
    assert_eq!(key.suites(), suites);
}

/// The key, if it is bound.
fn bound<K>(judged: Result<KeyStatus<K>, KeysRejected>) -> Option<K> {
    match judged {
        Ok(KeyStatus::Bound(key)) => Some(key),
        _ => None,
    }
}

fn config(data: &[u8]) {
    let (text, attestation) = signed(data);
    let attestation = attestation.to_string();
    let judge = |attested| judge_ohttp(Some(&text), Some(&attestation), attested);
    let under_ecdsa = judge(ecdsa());
    match judge(ed25519()) {
        Ok(KeyStatus::Bound(key)) => {
            must_be(&key, data);
            assert!(matches!(under_ecdsa, Ok(KeyStatus::NotBound(_))));
        }
        Ok(other) => panic!("the attested key signed it: {other:?}"),
        Err(rejected) => {
            assert_eq!(by_hand(data), None, "{rejected}");
            let code = rejected.code();
            let unreadable = ["evidence_ohttp_key_config", "evidence_ohttp_bad_field"];
            assert!(unreadable.contains(&code), "{rejected}");
            let other = under_ecdsa.expect_err("it cannot be read");
            assert_eq!(other.code(), code);
        }
    }
}

fn attestation(text: &str) {
    let valid = Ohttp::new().key_config;
    let (offer, good) = signed(&valid);
    if let Some(key) = bound(judge_ohttp(Some(&offer), Some(text), ed25519())) {
        must_be(&key, &valid);
        let sent: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(sent["signing_algo"], "ed25519");
        for field in ["signing_key", "key_config", "signature"] {
            let of = |value: &Value| value[field].as_str().and_then(unhex);
            assert!(of(&sent).is_some(), "there is no {field}");
            assert_eq!(of(&sent), of(&good), "another {field} is good");
        }
    }
    let under_ecdsa = judge_ohttp(Some(&offer), Some(text), ecdsa());
    assert!(
        bound(under_ecdsa).is_none(),
        "the quote attests another key"
    );
    let without = judge_ohttp(None, Some(text), ed25519());
    assert!(without.is_err(), "nothing is offered");
}

fn offer(text: &str) {
    let valid = Ohttp::new().key_config;
    let (_, good) = signed(&valid);
    let key = bound(judge_ohttp(Some(text), Some(&good.to_string()), ed25519()));
    let bytes = unhex(text);
    assert_eq!(key.is_some(), bytes.as_ref() == Some(&valid), "{text:?}");
    if let Some(key) = key {
        must_be(&key, &valid);
    }
    let is_readable = bytes.is_some_and(|bytes| by_hand(&bytes).is_some());
    match judge_ohttp(Some(text), None, ed25519()) {
        Ok(KeyStatus::NotBound(_)) => assert!(is_readable, "{text:?}"),
        Ok(other) => panic!("nobody signed it: {other:?}"),
        Err(rejected) => assert!(!is_readable, "{rejected}"),
    }
}

/// Bound exactly if it is a key and the attested one.
fn public_key(text: &str, signing: &Signing, is_key: bool) {
    let key = bound(judge_e2ee(text, &attested(signing)));
    assert_eq!(key.is_some(), is_key, "{text:?}");
    if let Some(key) = key {
        assert_eq!(key.as_bytes(), signing.public_key);
    }
}

fuzz_target!(
    init: write_seeds(|base| {
        let valid = Ohttp::new().key_config;
        let (text, good) = signed(&valid);
        assert_eq!(base.text("/ohttp_key_config"), text);
        let good = good.to_string();
        assert!(bound(judge_ohttp(Some(&text), Some(&good), ed25519())).is_some());
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
            [&[ATTESTATION], good.as_bytes()].concat(),
            [&[OFFER], text.as_bytes()].concat(),
            [&[OFFER], &b"0x"[..], text.to_uppercase().as_bytes()].concat(),
            [&[ED25519], hex::encode(&ed25519).as_bytes()].concat(),
            [&[ECDSA], &b"0x"[..], hex::encode(&ecdsa).as_bytes()].concat(),
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
            let is_key = unhex(text).as_ref() == Some(&signing.public_key);
            public_key(text, &signing, is_key);
        };
        match *mode {
            ATTESTATION => attestation(text),
            OFFER => offer(text),
            ED25519 => of_text(Signing::ed25519()),
            ECDSA => of_text(Signing::ecdsa()),
            _ => return Corpus::Reject,
        }
        Corpus::Keep
    }
);
