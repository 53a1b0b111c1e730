//! P-256 keys that sign both certificates (DER signatures) and quotes (r || s).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rcgen::{KeyPair, PublicKeyData as _};

use crate::Error;

/// A P-256 key pair.
#[derive(Debug)]
pub struct P256Key {
    certificate_key: KeyPair,
    fixed: EcdsaKeyPair,
}

impl P256Key {
    /// A fresh key.
    pub fn generate() -> Result<Self, Error> {
        let certificate_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let fixed = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            certificate_key.serialized_der(),
        )
        .map_err(|_| Error::Key("a generated P-256 key was refused"))?;
        Ok(Self {
            certificate_key,
            fixed,
        })
    }

    /// ECDSA with SHA-256 as r || s, the form of quotes and PCS documents.
    pub fn sign_fixed(&self, message: &[u8]) -> Result<[u8; 64], Error> {
        let signature = self
            .fixed
            .sign(&SystemRandom::new(), message)
            .map_err(|_| Error::Key("signing failed"))?;
        signature
            .as_ref()
            .try_into()
            .map_err(|_| Error::Key("a P-256 signature is not 64 bytes"))
    }

    /// X || Y, as the attestation key stands in a quote.
    pub fn public_point(&self) -> Result<[u8; 64], Error> {
        // SEC1 uncompressed: 04 || X || Y.
        self.fixed
            .public_key()
            .as_ref()
            .get(1..)
            .and_then(|point| point.try_into().ok())
            .ok_or(Error::Key("a P-256 point is not 65 bytes"))
    }

    /// The SubjectPublicKeyInfo in DER.
    pub fn spki_der(&self) -> Vec<u8> {
        self.certificate_key.subject_public_key_info()
    }

    /// The key as rcgen wants it.
    pub fn certificate_key(&self) -> &KeyPair {
        &self.certificate_key
    }
}
