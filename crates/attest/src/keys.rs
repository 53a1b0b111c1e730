//! Keys beside TLS with which clients can encrypt to a backend: that of its OHTTP
//! gateway, and that of its end-to-end encryption.
//!
//! Neither is in the quote. What is: the address of the key that signs answers.
//! [`e2ee_key`] proves that the public key is the one of that address, and
//! [`ohttp_key`] that the address' key signed the OHTTP key. Neither signature nor
//! key speaks of our nonce; the quote that attests the address does.

mod ohttp;
mod rejected;

use aws_lc_rs::signature::{ECDSA_P256K1_SHA256_FIXED, ParsedPublicKey};
use sha3::{Digest as _, Keccak256};

pub use ohttp::{OhttpKey, OhttpSuite, OhttpWire, ohttp_key};
pub use rejected::KeysRejected;

use crate::text::{hex_bytes, quoted};
use crate::{SigningAlgo, SigningKey};

/// What a quote says of a key. Only [`KeyStatus::Bound`] is a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyStatus<K> {
    /// The quote vouches for it, by way of the attested signing key.
    Bound(K),
    /// There is a key, and the quote does not vouch for it.
    NotBound(&'static str),
    /// There is no key.
    Absent(&'static str),
}

impl<K> KeyStatus<K> {
    /// The same of another form of the key.
    #[must_use]
    pub fn map<L>(self, of: impl FnOnce(K) -> L) -> KeyStatus<L> {
        match self {
            Self::Bound(key) => KeyStatus::Bound(of(key)),
            Self::NotBound(reason) => KeyStatus::NotBound(reason),
            Self::Absent(reason) => KeyStatus::Absent(reason),
        }
    }
}

/// The public key to which clients encrypt; only [`e2ee_key`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct E2eeKey(Vec<u8>);

impl E2eeKey {
    /// Ed25519: the key's 32 bytes. ECDSA: X and Y of a point of secp256k1, 64 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// SEC 1 §2.3.3: an uncompressed point begins with this.
const UNCOMPRESSED: u8 = 4;
/// X and Y of a point of secp256k1.
const POINT_LEN: usize = 64;

/// The key of `signing_public_key`, if it is that of the attested address.
///
/// `public` is the field's text, `None` where the report has none.
///
/// # Errors
/// If it is not a key of the attested algorithm, or another one.
pub fn e2ee_key(
    public: Option<&str>,
    attested: &SigningKey,
) -> Result<KeyStatus<E2eeKey>, KeysRejected> {
    let Some(text) = public else {
        return Ok(KeyStatus::Absent(
            "the report has no signing_public_key to encrypt to",
        ));
    };
    let (len, expected) = match attested.algo() {
        SigningAlgo::Ed25519 => (32, "64 hex digits"),
        SigningAlgo::Ecdsa => (POINT_LEN, "128 hex digits"),
    };
    let key = short_hex(text, len)
        .filter(|key| key.len() == len)
        .ok_or_else(|| KeysRejected::E2eeUnreadable {
            expected,
            got: quoted(text),
        })?;
    let named = match attested.algo() {
        // The address is the key.
        SigningAlgo::Ed25519 => key.clone(),
        SigningAlgo::Ecdsa => {
            // To encrypt to a point off the curve would leak the sender's secret.
            let point = [&[UNCOMPRESSED], &*key].concat();
            if ParsedPublicKey::new(&ECDSA_P256K1_SHA256_FIXED, &point).is_err() {
                return Err(KeysRejected::E2eeUnreadable {
                    expected: "a point of secp256k1",
                    got: quoted(text),
                });
            }
            address(&key)
        }
    };
    if named != attested.address() {
        return Err(KeysRejected::E2ee {
            got: hex::encode(named),
            expected: hex::encode(attested.address()),
        });
    }
    Ok(KeyStatus::Bound(E2eeKey(key)))
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
