//! Keys beside TLS with which clients can encrypt to a backend: that of its
//! end-to-end encryption, and those of its OHTTP gateway.
//!
//! None is in the quote. What is: the address of the key that signs answers. The key
//! of end-to-end encryption is the one of that address, and the address' key signs
//! those of OHTTP. Neither speaks of our nonce; the quote that attests the address does.
//!
//! The proxy encrypts to none of them, so nothing here refuses a machine.

mod ohttp;

use aws_lc_rs::signature::{ECDSA_P256K1_SHA256_FIXED, ParsedPublicKey};
use serde_json::value::RawValue;
use sha3::{Digest as _, Keccak256};

use crate::base::json::{self, BadMember};
use crate::base::text::{hex_bytes, quoted};
use crate::near::evidence::{Evidence, SigningAlgo, SigningKey};

/// Why the attested signing key does not vouch for a key. Messages quote foreign text
/// bounded and escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotBound {
    /// There is no key or no statement about it, or this version does not understand it.
    #[error("{0}")]
    NotProved(String),
    /// The report says of the key what is not so.
    #[error("{0}")]
    Contradicted(String),
}

impl Evidence {
    /// The public key for end-to-end encryption, if it is the one of this address, which
    /// a quote has to attest: of [`Attested::signing_key`](crate::Attested::signing_key).
    ///
    /// Ed25519: the key's 32 bytes. ECDSA: X and Y of a point of secp256k1, 64 bytes.
    ///
    /// # Errors
    /// If it is not proved to be.
    pub fn encryption_key(&self, attested: &SigningKey) -> Result<Vec<u8>, NotBound> {
        encryption_key(self.signing_public_key.as_deref(), attested)
    }

    /// The key configurations of the OHTTP gateway (RFC 9458 §3.1), each as it is
    /// encoded and at least one, if the key of this address signed them; a quote has to
    /// attest it, as with [`encryption_key`](Self::encryption_key).
    ///
    /// # Errors
    /// If it is not proved that it did.
    pub fn ohttp_keys(&self, attested: &SigningKey) -> Result<Vec<Vec<u8>>, NotBound> {
        let offered = self.ohttp_key_config.as_deref();
        ohttp::keys(offered, self.ohttp_attestation.as_deref(), attested)
    }
}

/// SEC 1 §2.3.3: an uncompressed point begins with this.
const UNCOMPRESSED: u8 = 4;
/// X and Y of a point of secp256k1.
const POINT_LEN: usize = 64;

fn encryption_key(public: Option<&RawValue>, attested: &SigningKey) -> Result<Vec<u8>, NotBound> {
    const FIELD: &str = "signing_public_key";
    let public = public.ok_or_else(|| {
        NotBound::NotProved("the report has no signing_public_key to encrypt to".to_owned())
    })?;
    let public = json::string::<NotBound>(FIELD, public)?;
    let contradicted = |what: String| NotBound::Contradicted(format!("{FIELD} {what}"));
    let (key, address) = match attested.algo() {
        SigningAlgo::Ed25519 => {
            let key = short_hex(&public, 32)
                .filter(|key| key.len() == 32)
                .ok_or_else(|| not_read(FIELD, "64 hex digits", &public))?;
            // The address is the key.
            (key.clone(), key)
        }
        SigningAlgo::Ecdsa => {
            let point = short_hex(&public, POINT_LEN.saturating_add(1))
                .and_then(coordinates)
                .ok_or_else(|| not_read(FIELD, "128 hex digits, or 04 and these", &public))?;
            // To encrypt to a point off the curve would leak the sender's secret.
            let encoded = [&[UNCOMPRESSED], &*point].concat();
            if ParsedPublicKey::new(&ECDSA_P256K1_SHA256_FIXED, &encoded).is_err() {
                return Err(contradicted(format!(
                    "is no point of secp256k1: {}",
                    quoted(&public)
                )));
            }
            let address = address(&point);
            (point, address)
        }
    };
    if address != attested.address() {
        return Err(contradicted(format!(
            "belongs to the address {}, the quote attests {}",
            hex::encode(address),
            hex::encode(attested.address()),
        )));
    }
    Ok(key)
}

/// X and Y of a point, with SEC 1's first byte or without: it is the same key.
fn coordinates(bytes: Vec<u8>) -> Option<Vec<u8>> {
    match bytes.split_first() {
        Some((&UNCOMPRESSED, point)) if point.len() == POINT_LEN => Some(point.to_vec()),
        _ => (bytes.len() == POINT_LEN).then_some(bytes),
    }
}

/// Ethereum's address of a point (yellow paper, appendix F): the last 20 bytes of
/// its Keccak-256, which is not SHA3-256.
fn address(point: &[u8]) -> Vec<u8> {
    Keccak256::digest(point).into_iter().skip(12).collect()
}

/// Hex of at most `max` bytes: longer text is not decoded.
fn short_hex(text: &str, max: usize) -> Option<Vec<u8>> {
    let longest = max.saturating_mul(2).saturating_add("0x".len());
    (text.len() <= longest)
        .then(|| hex_bytes(text))
        .flatten()
        .filter(|bytes| bytes.len() <= max)
}

impl BadMember for NotBound {
    fn missing(path: &str) -> Self {
        Self::NotProved(format!("there is no {path}"))
    }

    fn bad(path: &str, expected: &'static str, got: String) -> Self {
        Self::NotProved(format!(
            "{path} is not understood: expected {expected}, got {got}"
        ))
    }
}

/// What another version may write.
fn not_read(field: &str, expected: &'static str, got: &str) -> NotBound {
    NotBound::bad(field, expected, quoted(got))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The secret key 1, whose address is known to everybody: the point is the base
    /// point of SEC 2 §2.4.1.
    #[test]
    fn an_address_is_ethereums() {
        let point = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798\
                     483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";
        assert_eq!(
            hex::encode(address(&hex::decode(point).unwrap())),
            "7e5f4552091a69125d5dfcb7b8c2659029395bdf"
        );
    }

    #[test]
    fn long_text_is_not_decoded() {
        assert_eq!(short_hex("0xabcd", 2), Some(vec![0xab, 0xcd]));
        assert_eq!(short_hex("abcdef", 2), None);
        assert_eq!(short_hex("0xabcdef", 2), None);
        assert_eq!(short_hex("abc", 2), None);
    }
}
