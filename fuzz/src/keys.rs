//! Signing keys as reports attest them, and judges of the keys that they vouch for.

use std::sync::OnceLock;

use attest::{
    E2eeKey, Evidence, KeyStatus, KeysRejected, OhttpKey, OhttpWire, SigningKey, e2ee_key,
    ohttp_key,
};
use fake_tee::{Ohttp, Signing};
use serde_json::{Value, json};

use crate::{Base, memory, must_be_printable};

/// Of all that a judgement allocates: refusals repeat pieces of what they are about.
const FIXED_BYTES: usize = 64 << 10;
const BYTES_PER_BYTE: usize = 16;

/// The Ed25519 key of the base.
pub fn ed25519() -> &'static SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    KEY.get_or_init(|| attested(&Signing::ed25519()))
}

/// An ECDSA key.
pub fn ecdsa() -> &'static SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    KEY.get_or_init(|| attested(&Signing::ecdsa()))
}

/// The key of a report that names this one.
pub fn attested(signing: &Signing) -> SigningKey {
    let mut report = Base::get().report.clone();
    report["signing_algo"] = signing.algo.as_str().into();
    report["signing_address"] = signing.address_text().into();
    let evidence = Evidence::parse(report.to_string().as_bytes()).expect("a report");
    evidence.signing_key().clone()
}

/// `ohttp_key_config` and `ohttp_attestation`, signed by the base's Ed25519 key.
pub fn signed(key_config: &[u8]) -> (String, Value) {
    let mut ohttp = Ohttp::new();
    ohttp.key_config = key_config.to_vec();
    let mut report = json!({});
    ohttp.write(&mut report).expect("it signs");
    let text = report["ohttp_key_config"].as_str().expect("a text");
    (text.to_owned(), report["ohttp_attestation"].clone())
}

/// What is said of an OHTTP key.
pub fn judge_ohttp(
    key_config: Option<&str>,
    attestation: Option<&str>,
    attested: &SigningKey,
) -> Result<KeyStatus<OhttpKey>, KeysRejected> {
    let texts = [key_config, attestation];
    let wire = OhttpWire {
        key_config,
        attestation,
    };
    judged(&texts, || ohttp_key(wire, attested))
}

/// What is said of a key for end-to-end encryption.
pub fn judge_e2ee(public: &str, attested: &SigningKey) -> Result<KeyStatus<E2eeKey>, KeysRejected> {
    judged(&[Some(public)], || e2ee_key(Some(public), attested))
}

fn judged<T>(
    texts: &[Option<&str>],
    judge: impl FnOnce() -> Result<T, KeysRejected>,
) -> Result<T, KeysRejected> {
    let len = texts.iter().flatten().map(|text| text.len()).sum();
    let judged = memory::bounded(len, FIXED_BYTES, BYTES_PER_BYTE, judge);
    if let Err(rejected) = &judged {
        must_be_printable(&rejected.to_string());
    }
    judged
}

/// The bytes of hex as the wire may spell it: either case, with or without `0x`.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    hex::decode(text.strip_prefix("0x").unwrap_or(text)).ok()
}
