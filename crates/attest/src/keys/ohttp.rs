//! The key of an OHTTP gateway (RFC 9458), and the backend's signature over it.

use std::borrow::Cow;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::rejected::KeysRejected;
use super::{KeyStatus, short_hex};
use crate::json::{self, Limits};
use crate::text::{quoted, shown_hex};
use crate::{SigningAlgo, SigningKey};

/// Real configurations have 45 bytes. RFC 9458 allows 64 KB; all KDFs and AEADs that
/// are registered for HPKE make 9 suites.
const MAX_CONFIG_BYTES: usize = 256;

/// Real attestations have 340 bytes.
const MAX_ATTESTATION_BYTES: usize = 8 << 10;

/// One object of strings.
const LIMITS: Limits = Limits {
    depth: 4,
    values: 64,
};

/// DHKEM(X25519, HKDF-SHA256) in the IANA registry of HPKE's KEMs.
const X25519: u16 = 0x0020;
const ED25519_KEY_LEN: usize = 32;
const ED25519_SIGNATURE_LEN: usize = 64;

/// What a report says of its OHTTP key; nothing in it is proved.
#[derive(Debug, Clone, Copy)]
pub struct OhttpWire<'a> {
    /// The text of `ohttp_key_config`.
    pub key_config: Option<&'a str>,
    /// The JSON text of `ohttp_attestation`.
    pub attestation: Option<&'a str>,
}

/// A gateway's key configuration (RFC 9458 §3.1); only [`ohttp_key`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OhttpKey {
    encoded: Vec<u8>,
    id: u8,
    public_key: [u8; 32],
    suites: Vec<OhttpSuite>,
}

/// A pair out of the IANA registries of HPKE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OhttpSuite {
    /// 1 is HKDF-SHA256.
    pub kdf: u16,
    /// 1 is AES-128-GCM, 3 is ChaCha20-Poly1305.
    pub aead: u16,
}

impl OhttpKey {
    /// The bytes that were signed.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// The number by which requests name the key.
    #[must_use]
    pub const fn id(&self) -> u8 {
        self.id
    }

    /// X25519.
    #[must_use]
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    /// At least one, in the gateway's order.
    #[must_use]
    pub fn suites(&self) -> &[OhttpSuite] {
        &self.suites
    }

    /// Key identifier, KEM, public key, length of the suites, suites; nothing after.
    fn parse(bytes: &[u8]) -> Result<Self, KeysRejected> {
        let refuse = |detail: &str| KeysRejected::OhttpKeyConfig {
            detail: detail.to_owned(),
        };
        let short = || refuse("it is cut short");
        let (&[id], rest) = bytes.split_first_chunk().ok_or_else(short)?;
        let (&kem, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let kem = u16::from_be_bytes(kem);
        if kem != X25519 {
            return Err(KeysRejected::OhttpKeyConfig {
                detail: format!("its KEM is {kem:#06x}, expected {X25519:#06x} (X25519)"),
            });
        }
        let (&public_key, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (&len, list) = rest.split_first_chunk().ok_or_else(short)?;
        if usize::from(u16::from_be_bytes(len)) != list.len() {
            return Err(refuse("its list of suites does not fill it"));
        }
        let (suites, rest) = list.as_chunks();
        if suites.is_empty() || !rest.is_empty() {
            return Err(refuse(
                "its list of suites is not whole pairs, at least one",
            ));
        }
        let suites = suites
            .iter()
            .map(|&[k0, k1, a0, a1]| OhttpSuite {
                kdf: u16::from_be_bytes([k0, k1]),
                aead: u16::from_be_bytes([a0, a1]),
            })
            .collect();
        Ok(Self {
            encoded: bytes.to_vec(),
            id,
            public_key,
            suites,
        })
    }
}

#[derive(Deserialize)]
struct WireAttestation<'a> {
    #[serde(borrow, default)]
    signing_algo: Option<&'a RawValue>,
    #[serde(borrow, default)]
    signing_key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    key_config: Option<&'a RawValue>,
    #[serde(borrow, default)]
    signature: Option<&'a RawValue>,
}

/// `ohttp_attestation`, read.
struct Attestation {
    signer: Vec<u8>,
    key_config: Vec<u8>,
    signature: Vec<u8>,
}

/// The OHTTP key of a report, if the attested key signed it.
///
/// The backend signs it with its Ed25519 key, whatever key the report was asked to
/// attest; only a report that attests that key binds it.
///
/// # Errors
/// If something cannot be read, if the signature is wrong, or of a key that the quote
/// speaks against.
pub fn ohttp_key(
    wire: OhttpWire<'_>,
    attested: &SigningKey,
) -> Result<KeyStatus<OhttpKey>, KeysRejected> {
    let attestation = wire.attestation.map(Attestation::read).transpose()?;
    let Some(offered) = wire.key_config else {
        return match attestation {
            None => Ok(KeyStatus::Absent("the report has no OHTTP key")),
            // Else whoever takes the offer away could put in another.
            Some(_) => Err(KeysRejected::OhttpMissingField {
                field: "ohttp_key_config",
            }),
        };
    };
    let offered = config("ohttp_key_config", offered)?;
    let key = OhttpKey::parse(&offered)?;
    let Some(attestation) = attestation else {
        // As until May 2026.
        return Ok(KeyStatus::NotBound("nobody signed the OHTTP key"));
    };
    if attestation.key_config != offered {
        return Err(KeysRejected::OhttpOther {
            signed: shown_hex(&attestation.key_config),
            offered: shown_hex(&offered),
        });
    }
    if attested.algo() == SigningAlgo::Ed25519 && attestation.signer != attested.address() {
        return Err(KeysRejected::OhttpSigner {
            got: hex::encode(&attestation.signer),
            expected: hex::encode(attested.address()),
        });
    }
    // Over the bytes, not their hex.
    UnparsedPublicKey::new(&ED25519, &attestation.signer)
        .verify(&offered, &attestation.signature)
        .map_err(|_| KeysRejected::OhttpSignature {})?;
    Ok(match attested.algo() {
        SigningAlgo::Ed25519 => KeyStatus::Bound(key),
        SigningAlgo::Ecdsa => KeyStatus::NotBound(
            "the OHTTP key is signed by an Ed25519 key, and the quote attests an ECDSA key",
        ),
    })
}

impl Attestation {
    fn read(text: &str) -> Result<Self, KeysRejected> {
        let unreadable = |got: String| KeysRejected::OhttpBadField {
            field: "ohttp_attestation",
            expected: "a small object",
            got,
        };
        if text.len() > MAX_ATTESTATION_BYTES {
            return Err(unreadable(format!("{} bytes", text.len())));
        }
        let wire: WireAttestation<'_> = json::parse_object(text.as_bytes(), &LIMITS)
            .map_err(|error| unreadable(error.to_string()))?;
        let algo = string("ohttp_attestation.signing_algo", wire.signing_algo)?;
        if algo != SigningAlgo::Ed25519.as_str() {
            return Err(KeysRejected::OhttpBadField {
                field: "ohttp_attestation.signing_algo",
                expected: "ed25519",
                got: quoted(&algo),
            });
        }
        let field = "ohttp_attestation.key_config";
        Ok(Self {
            key_config: config(field, &string(field, wire.key_config)?)?,
            signer: fixed(
                "ohttp_attestation.signing_key",
                wire.signing_key,
                ED25519_KEY_LEN,
                "64 hex digits",
            )?,
            signature: fixed(
                "ohttp_attestation.signature",
                wire.signature,
                ED25519_SIGNATURE_LEN,
                "128 hex digits",
            )?,
        })
    }
}

fn config(field: &'static str, text: &str) -> Result<Vec<u8>, KeysRejected> {
    short_hex(text, MAX_CONFIG_BYTES).ok_or_else(|| KeysRejected::OhttpBadField {
        field,
        expected: "hex of at most 256 bytes",
        got: quoted(text),
    })
}

fn fixed(
    field: &'static str,
    raw: Option<&RawValue>,
    len: usize,
    expected: &'static str,
) -> Result<Vec<u8>, KeysRejected> {
    let text = string(field, raw)?;
    short_hex(&text, len)
        .filter(|bytes| bytes.len() == len)
        .ok_or_else(|| KeysRejected::OhttpBadField {
            field,
            expected,
            got: quoted(&text),
        })
}

/// `null` is absence.
fn string<'a>(
    field: &'static str,
    raw: Option<&'a RawValue>,
) -> Result<Cow<'a, str>, KeysRejected> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let raw = raw
        .filter(|raw| raw.get() != "null")
        .ok_or(KeysRejected::OhttpMissingField { field })?;
    serde_json::from_str::<Text<'a>>(raw.get())
        .map(|text| text.0)
        .map_err(|_| KeysRejected::OhttpBadField {
            field,
            expected: "a string",
            got: quoted(raw.get()),
        })
}
