//! The keys with which a model signs its answers. One of each kind, the same for the
//! whole process and for every process.

use std::sync::OnceLock;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

use k256::ecdsa::SigningKey;
use sha3::{Digest as _, Keccak256};

use crate::hash::label256;
use crate::{Error, Signer};

/// `signing_algo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningAlgo {
    /// secp256k1, named by a 20-byte address.
    Ecdsa,
    /// Ed25519, named by its 32-byte public key.
    Ed25519,
}

impl SigningAlgo {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ecdsa => "ecdsa",
            Self::Ed25519 => "ed25519",
        }
    }
}

/// A signing key's public side.
#[derive(Debug, Clone)]
pub struct Signing {
    /// Algorithm.
    pub algo: SigningAlgo,
    /// 20 or 32 bytes.
    pub address: Vec<u8>,
    /// 64 bytes (X || Y) or 32.
    pub public_key: Vec<u8>,
}

impl Signing {
    /// An Ed25519 key.
    pub fn ed25519() -> Self {
        static KEY: OnceLock<Vec<u8>> = OnceLock::new();
        let public_key = KEY
            .get_or_init(|| {
                // A seed of 32 bytes is always a key; the fallback keeps this total.
                ed25519_key()
                    .map_or_else(|_| Vec::new(), |pair| pair.public_key().as_ref().to_vec())
            })
            .clone();
        Self {
            algo: SigningAlgo::Ed25519,
            address: public_key.clone(),
            public_key,
        }
    }

    /// A secp256k1 key.
    pub fn ecdsa() -> Self {
        static KEY: OnceLock<Vec<u8>> = OnceLock::new();
        let public_key = KEY
            .get_or_init(|| {
                // SEC1 uncompressed: 04 || X || Y.
                secp256k1_key()
                    .map(|key| key.verifying_key().to_encoded_point(false).as_bytes()[1..].to_vec())
                    .unwrap_or_default()
            })
            .clone();
        Self::of_point(&public_key)
    }

    /// Whatever X || Y are, on the curve or not.
    pub fn of_point(point: &[u8]) -> Self {
        Self {
            algo: SigningAlgo::Ecdsa,
            address: keccak256(&[point]).into_iter().skip(12).collect(),
            public_key: point.to_vec(),
        }
    }

    /// Signs with the process's key of this kind, whatever address a test put here:
    /// `0x` r || s || v over the text as EIP-191 wraps it, or Ed25519 over the text.
    pub fn sign(&self, text: &str) -> Result<String, Error> {
        if self.algo == SigningAlgo::Ed25519 {
            return Ok(hex::encode(ed25519_key()?.sign(text.as_bytes())));
        }
        let prefix = format!("\x19Ethereum Signed Message:\n{}", text.len());
        let digest = keccak256(&[prefix.as_bytes(), text.as_bytes()]);
        let (signature, recovery) = secp256k1_key()?
            .sign_prehash_recoverable(&digest)
            .map_err(|_| Error::Key("signing failed"))?;
        let v = 27 + recovery.to_byte();
        Ok(format!("0x{}{v:02x}", hex::encode(signature.to_bytes())))
    }

    /// Signs bytes with the process's Ed25519 key or a stranger's: key and signature.
    pub(crate) fn sign_ed25519(bytes: &[u8], signer: Signer) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let pair = match signer {
            Signer::Proper => ed25519_key()?,
            Signer::Stranger => ed25519_of("a stranger's Ed25519 seed")?,
        };
        let signature = pair.sign(bytes).as_ref().to_vec();
        Ok((pair.public_key().as_ref().to_vec(), signature))
    }

    /// As the wire writes it: Ethereum's form with 0x for ECDSA, bare hex for Ed25519.
    pub fn address_text(&self) -> String {
        match self.algo {
            SigningAlgo::Ecdsa => format!("0x{}", hex::encode(&self.address)),
            SigningAlgo::Ed25519 => hex::encode(&self.address),
        }
    }
}

fn ed25519_key() -> Result<Ed25519KeyPair, Error> {
    ed25519_of("Ed25519 seed")
}

fn ed25519_of(name: &str) -> Result<Ed25519KeyPair, Error> {
    Ed25519KeyPair::from_seed_unchecked(&label256(name))
        .map_err(|_| Error::Key("an Ed25519 seed was refused"))
}

fn secp256k1_key() -> Result<SigningKey, Error> {
    SigningKey::from_slice(&label256("secp256k1 scalar"))
        .map_err(|_| Error::Key("a secp256k1 scalar was refused"))
}

pub(crate) fn keccak256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Keccak256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}
