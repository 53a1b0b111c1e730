//! The keys of an OHTTP gateway (RFC 9458), and the backend's signature over them.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use serde_json::value::RawValue;

use super::{NotBound, not_read, short_hex};
use crate::base::json::{self, Limits, Members};
use crate::base::text::shown_hex;
use crate::near::evidence::{SigningAlgo, SigningKey};

/// Real configurations have 45 bytes; one of the longest KEM that is registered for
/// HPKE (X-Wing, 1,216 bytes of key) has 1.2 KB.
const MAX_CONFIG_BYTES: usize = 2 << 10;

/// Real attestations have 340 bytes.
const MAX_ATTESTATION_BYTES: usize = 8 << 10;

/// One object of strings.
const LIMITS: Limits = Limits {
    depth: 4,
    values: 64,
    members: json::MEMBERS,
};

/// DHKEM(X25519, HKDF-SHA256) in the IANA registry of HPKE's KEMs.
const X25519: u16 = 0x0020;
const X25519_KEY_LEN: usize = 32;
const ED25519_KEY_LEN: usize = 32;
const ED25519_SIGNATURE_LEN: usize = 64;

/// `ohttp_attestation`, read.
struct Attestation {
    signer: Vec<u8>,
    key_config: Vec<u8>,
    signature: Vec<u8>,
}

/// The configurations that a report offers, if the attested key signed them.
///
/// The backend signs with its Ed25519 key, whatever key the report was asked to
/// attest; only a report that attests that key binds them.
pub(super) fn keys(
    offered: Option<&RawValue>,
    attestation: Option<&RawValue>,
    attested: &SigningKey,
) -> Result<Vec<Vec<u8>>, NotBound> {
    let not_proved = |reason: &str| NotBound::NotProved(reason.to_owned());
    let (offered, attestation) = match (offered, attestation) {
        (Some(offered), Some(attestation)) => (offered, attestation),
        // As until May 2026.
        (Some(_), None) => return Err(not_proved("nobody signed the OHTTP key")),
        (None, Some(_)) => return Err(not_proved("the report offers no OHTTP key, but signs one")),
        (None, None) => return Err(not_proved("the report has no OHTTP key")),
    };
    let path = "ohttp_key_config";
    let offered = config(path, &json::string::<NotBound>(path, offered)?)?;
    let attestation = Attestation::read(attestation)?;
    if attestation.key_config != offered {
        return Err(NotBound::Contradicted(format!(
            "the signed OHTTP key configuration is {}, the offered one {}",
            shown_hex(&attestation.key_config),
            shown_hex(&offered),
        )));
    }
    if attested.algo() == SigningAlgo::Ed25519 && attestation.signer != attested.address() {
        return Err(NotBound::Contradicted(format!(
            "the OHTTP key is signed by the key {}, the quote attests {}",
            hex::encode(&attestation.signer),
            hex::encode(attested.address()),
        )));
    }
    // Over the bytes, not their hex.
    UnparsedPublicKey::new(&ED25519, &attestation.signer)
        .verify(&offered, &attestation.signature)
        .map_err(|_| {
            let what = "the signature over the OHTTP key configuration does not verify";
            NotBound::Contradicted(what.to_owned())
        })?;
    if attested.algo() != SigningAlgo::Ed25519 {
        return Err(not_proved(
            "the OHTTP key is signed by an Ed25519 key, and the quote attests an ECDSA key",
        ));
    }
    configurations(&offered)
}

/// One configuration (RFC 9458 §3.1), or a list of them as in `application/ohttp-keys`
/// (§3.2). The signing key signs other things too: what is no key is not bound as one.
///
/// No bytes are both. A configuration of an X25519 key begins, behind its id, with a
/// zero, so the length of a list's first element would be even; that of a
/// configuration is odd.
fn configurations(bytes: &[u8]) -> Result<Vec<Vec<u8>>, NotBound> {
    let each = match elements(bytes) {
        Some(elements) if understood(bytes).is_err() => elements,
        _ => vec![bytes],
    };
    for config in &each {
        understood(config).map_err(|problem| {
            NotBound::NotProved(format!(
                "the OHTTP key configuration is not understood: {problem}"
            ))
        })?;
    }
    Ok(each.into_iter().map(<[u8]>::to_vec).collect())
}

/// The elements of a list that fill it, each with its length in front.
fn elements(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut elements = Vec::new();
    while !bytes.is_empty() {
        let (&len, rest) = bytes.split_first_chunk()?;
        let (element, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(len)))?;
        elements.push(element);
        bytes = rest;
    }
    (!elements.is_empty()).then_some(elements)
}

/// Key identifier, KEM, public key, length of the suites, suites; nothing after.
fn understood(config: &[u8]) -> Result<(), String> {
    let short = || "it is cut short".to_owned();
    let (_id, rest) = config.split_first().ok_or_else(short)?;
    let (&kem, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let kem = u16::from_be_bytes(kem);
    if kem != X25519 {
        return Err(format!(
            "its KEM is {kem:#06x}, expected {X25519:#06x} (X25519)"
        ));
    }
    let (_key, rest) = rest.split_at_checked(X25519_KEY_LEN).ok_or_else(short)?;
    let (&len, suites) = rest.split_first_chunk().ok_or_else(short)?;
    if usize::from(u16::from_be_bytes(len)) != suites.len() {
        return Err("its list of suites does not fill it".to_owned());
    }
    // KDF and AEAD.
    let (suites, rest) = suites.as_chunks::<4>();
    if suites.is_empty() || !rest.is_empty() {
        return Err("its list of suites is not whole pairs, at least one".to_owned());
    }
    Ok(())
}

impl Attestation {
    fn read(raw: &RawValue) -> Result<Self, NotBound> {
        let unreadable = |got: &str| not_read("ohttp_attestation", "a small object", got);
        let text = raw.get();
        if text.len() > MAX_ATTESTATION_BYTES {
            return Err(unreadable(&format!("{} bytes", text.len())));
        }
        let signed: Members<'_, NotBound> = json::parse_object(text.as_bytes(), &LIMITS)
            .map_err(|error| unreadable(&error.to_string()))?;
        let member = |path| signed.string(path);
        let path = "ohttp_attestation.signing_algo";
        let algo = member(path)?;
        let expected = SigningAlgo::Ed25519.as_str();
        if algo != expected {
            return Err(not_read(path, expected, &algo));
        }
        let fixed = |path, len, expected| {
            let text = member(path)?;
            short_hex(&text, len)
                .filter(|bytes| bytes.len() == len)
                .ok_or_else(|| not_read(path, expected, &text))
        };
        let path = "ohttp_attestation.key_config";
        let key_config = config(path, &member(path)?)?;
        Ok(Self {
            key_config,
            signer: fixed(
                "ohttp_attestation.signing_key",
                ED25519_KEY_LEN,
                "64 hex digits",
            )?,
            signature: fixed(
                "ohttp_attestation.signature",
                ED25519_SIGNATURE_LEN,
                "128 hex digits",
            )?,
        })
    }
}

fn config(path: &str, text: &str) -> Result<Vec<u8>, NotBound> {
    short_hex(text, MAX_CONFIG_BYTES).ok_or_else(|| not_read(path, "hex of at most 2 KiB", text))
}
