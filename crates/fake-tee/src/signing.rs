//! The key with which a model signs its answers, as far as a report names it.

use std::sync::OnceLock;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

use crate::hash::{label, label256, sha512};

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
    /// A real Ed25519 key, the same for the whole process.
    pub fn ed25519() -> Self {
        static KEY: OnceLock<Vec<u8>> = OnceLock::new();
        let public_key = KEY
            .get_or_init(|| {
                // A seed of 32 bytes is always a key; the fallback keeps this total.
                Ed25519KeyPair::from_seed_unchecked(&label256("Ed25519 seed"))
                    .map(|pair| pair.public_key().as_ref().to_vec())
                    .unwrap_or_default()
            })
            .clone();
        Self {
            algo: SigningAlgo::Ed25519,
            address: public_key.clone(),
            public_key,
        }
    }

    /// Bytes of the right lengths; no secp256k1 key stands behind them.
    pub fn ecdsa() -> Self {
        Self {
            algo: SigningAlgo::Ecdsa,
            address: label::<20>("secp256k1 address").to_vec(),
            public_key: sha512(b"fake-tee:secp256k1 point").to_vec(),
        }
    }

    /// As the wire writes it: Ethereum's form with 0x for ECDSA, bare hex for Ed25519.
    pub fn address_text(&self) -> String {
        match self.algo {
            SigningAlgo::Ecdsa => format!("0x{}", hex::encode(&self.address)),
            SigningAlgo::Ed25519 => hex::encode(&self.address),
        }
    }
}
