//! What a report says, in one spelling: shared by property tests and fuzz targets.

use serde_json::{Value, json};

/// Everything in a report that a verdict speaks about. What is left out may
/// differ between two reports that verify: unknown fields, repeated values that
/// are absent, the texts of events that are measured by digest alone, the
/// spelling of hex, PEM's white space, zeros after the quote, and certificates
/// of the quote beyond those that sign.
pub(crate) fn meaning(report: &Value) -> Value {
    let text = |pointer: &str| {
        report
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let event_log = match &report["event_log"] {
        Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
        other => other.clone(),
    };
    let vm_config: Value = serde_json::from_str(text("/info/vm_config")).unwrap_or_default();
    let quote = hex::decode(plain_hex(text("/intel_quote"))).unwrap_or_default();
    let events: Vec<_> = (0..4)
        .map(|register| events_of(&event_log, register))
        .collect();
    json!({
        "model_name": report["model_name"],
        "request_nonce": report["request_nonce"],
        "signing_algo": report["signing_algo"],
        "signing_address": plain_hex(text("/signing_address")),
        "tls_cert_fingerprint": plain_hex(text("/tls_cert_fingerprint")),
        "quote": hex::encode(signed_part(&quote)),
        "app_compose": text("/info/tcb_info/app_compose"),
        "memory_size": vm_config["memory_size"],
        "app_cert": first_certificate(text("/info/app_cert")),
        "events": events,
    })
}

/// The fields in which the meanings of two reports differ.
pub(crate) fn differences(one: &Value, other: &Value) -> Vec<String> {
    let (one, other) = (meaning(one), meaning(other));
    one.as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| **value != other[name.as_str()])
        .map(|(name, _)| name.clone())
        .collect()
}

/// The events of one register: digests, and what is measured by its payload.
fn events_of(event_log: &Value, register: u64) -> Vec<Value> {
    let mut booting = register == 3;
    event_log
        .as_array()
        .into_iter()
        .flatten()
        .filter(|event| event["imr"] == register)
        .map(|event| {
            let of = |name: &str| event[name].as_str().unwrap_or_default();
            let payload = booting.then(|| {
                json!([
                    event["event_type"],
                    of("event"),
                    plain_hex(of("event_payload"))
                ])
            });
            booting &= of("event") != "system-ready";
            json!([plain_hex(of("digest")), payload])
        })
        .collect()
}

fn plain_hex(text: &str) -> String {
    text.strip_prefix("0x").unwrap_or(text).to_ascii_lowercase()
}

/// Header and TD report: what the attestation key signs.
pub(crate) fn signed_part(quote: &[u8]) -> &[u8] {
    let length = match quote {
        [4, 0, ..] => 48 + 584,
        // Version 5 names type and size of its body; the largest is that of TD 1.5.
        _ => 48 + 6 + 648,
    };
    quote.get(..length).unwrap_or(quote)
}

/// The first certificate of a PEM chain, in base64.
pub(crate) fn first_certificate(pem: &str) -> String {
    pem.split("-----BEGIN CERTIFICATE-----")
        .nth(1)
        .and_then(|rest| rest.split("-----").next())
        .unwrap_or_default()
        .split_whitespace()
        .collect()
}
