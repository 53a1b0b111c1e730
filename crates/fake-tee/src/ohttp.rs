//! The key of an OHTTP gateway (RFC 9458) and the signature over it, as the report
//! carries them beside the quote.

use serde_json::{Value, json};

use crate::hash::label256;
use crate::signing::Signing;
use crate::{Error, Signer};

/// The OHTTP part of a report.
#[derive(Debug, Clone)]
pub struct Ohttp {
    /// The key configuration, encoded: what is offered and signed.
    pub key_config: Vec<u8>,
    /// Whether it is signed; until May 2026 it was not.
    pub attested: bool,
    /// Who signs it; the proper one is the Ed25519 key, whatever key the quote attests.
    pub signer: Signer,
}

impl Ohttp {
    /// Key 1: X25519, HKDF-SHA256 with AES-128-GCM or ChaCha20-Poly1305.
    pub fn new() -> Self {
        let mut key_config = vec![1, 0, 0x20];
        // Any 32 bytes are an X25519 key (RFC 7748 §5).
        key_config.extend(label256("OHTTP key"));
        key_config.extend([0, 8, 0, 1, 0, 1, 0, 1, 0, 3]);
        Self {
            key_config,
            attested: true,
            signer: Signer::Proper,
        }
    }

    /// Adds `ohttp_key_config` and `ohttp_attestation` to a report, an object.
    pub fn write(&self, report: &mut Value) -> Result<(), Error> {
        let key_config = hex::encode(&self.key_config);
        report["ohttp_key_config"] = key_config.clone().into();
        if self.attested {
            let (key, signature) = Signing::sign_ed25519(&self.key_config, self.signer)?;
            report["ohttp_attestation"] = json!({
                "signing_algo": "ed25519",
                "signing_key": hex::encode(key),
                "key_config": key_config,
                "signature": hex::encode(signature),
            });
        }
        Ok(())
    }
}

impl Default for Ohttp {
    fn default() -> Self {
        Self::new()
    }
}
