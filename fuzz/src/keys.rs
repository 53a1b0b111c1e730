//! Reports that say something of their keys, and what is made of it.

use attest::{Evidence, NotBound};
use fake_tee::{Ohttp, Signing};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::{Base, memory, must_be_printable};

/// Of all that a judgement allocates: reasons repeat pieces of what they are about.
const FIXED_BYTES: usize = 64 << 10;
const BYTES_PER_BYTE: usize = 16;

/// `ohttp_key_config` and `ohttp_attestation`, signed by the base's Ed25519 key.
pub fn signed(key_config: &[u8]) -> (String, Value) {
    let mut ohttp = Ohttp::new();
    ohttp.key_config = key_config.to_vec();
    let mut report = json!({});
    ohttp.write(&mut report).expect("it signs");
    let text = report["ohttp_key_config"].as_str().expect("a text");
    (text.to_owned(), report["ohttp_attestation"].clone())
}

/// The base's report with this key, and with members as JSON texts; `None` if one is
/// no JSON.
fn report(signing: &Signing, members: &[(&str, &str)]) -> Option<Vec<u8>> {
    let mut report = Base::get().report.clone();
    report["signing_algo"] = signing.algo.as_str().into();
    report["signing_address"] = signing.address_text().into();
    let top = report.as_object_mut().expect("a report is an object");
    for unused in [
        "signing_public_key",
        "ohttp_key_config",
        "ohttp_attestation",
    ] {
        top.remove(unused);
    }
    let mut text = report.to_string();
    assert_eq!(text.pop(), Some('}'));
    for (name, member) in members {
        serde_json::from_str::<IgnoredAny>(member).ok()?;
        text += &format!(",\"{name}\":{member}");
    }
    Some((text + "}").into_bytes())
}

/// What is made of a report's keys; `None` if the report cannot be read.
fn judged<T>(
    signing: &Signing,
    members: &[(&str, &str)],
    judge: impl FnOnce(&Evidence) -> Result<T, NotBound>,
) -> Option<Result<T, NotBound>> {
    let evidence = Evidence::parse(&report(signing, members)?).ok()?;
    let len = members.iter().map(|(_, member)| member.len()).sum();
    let judged = memory::bounded(len, FIXED_BYTES, BYTES_PER_BYTE, || judge(&evidence));
    if let Err(reason) = &judged {
        must_be_printable(&reason.to_string());
    }
    Some(judged)
}

/// What is made of a text that is offered, and of the JSON that attests it.
pub fn judge_ohttp(
    offered: Option<&str>,
    attestation: Option<&str>,
    signing: &Signing,
) -> Option<Result<Vec<Vec<u8>>, NotBound>> {
    let offered = offered.map(|text| json!(text).to_string());
    let members = [
        ("ohttp_key_config", offered.as_deref()),
        ("ohttp_attestation", attestation),
    ];
    let members: Vec<_> = members
        .into_iter()
        .filter_map(|(name, member)| Some((name, member?)))
        .collect();
    judged(signing, &members, |evidence| {
        evidence.ohttp_keys(evidence.signing_key())
    })
}

/// What is made of a key for end-to-end encryption: no text refuses the report.
pub fn judge_encryption(public: &str, signing: &Signing) -> Result<Vec<u8>, NotBound> {
    let public = json!(public).to_string();
    judged(signing, &[("signing_public_key", &public)], |evidence| {
        evidence.encryption_key(evidence.signing_key())
    })
    .expect("the report is read")
}

/// The bytes of hex as the wire may spell it: either case, with or without `0x`.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    hex::decode(text.strip_prefix("0x").unwrap_or(text)).ok()
}
