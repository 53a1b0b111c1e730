//! JSON Web Tokens in the one form that NRAS writes: compact (RFC 7515 §3.1),
//! header `{"kid": …, "alg": "ES384"}`.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::base::json::{self, Limits};
use crate::base::text::{quoted, shown};
use crate::base::x509::Key;
use crate::refusals::nras::NrasRejected;

/// Real tokens have 1.7 KB (all eight GPUs) and 1.9 KB (one).
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// The one algorithm: ECDSA on P-384 with SHA-384 (RFC 7518 §3.4).
const ALGORITHM: &str = "ES384";

/// The prefix of the names of production keys; those for trials have `stg`.
const PRODUCTION_KEY: &str = "nv-eat-kid-prod-";

/// One object of two texts.
const HEADER_LIMITS: Limits = Limits {
    depth: 2,
    values: 8,
    members: json::MEMBERS,
};

/// A token whose header was read; its payload was not.
pub(super) struct Token<'a> {
    name: &'a str,
    /// The name of the key that signed it, by its header.
    pub(super) kid: String,
    /// Header and payload as they were sent (RFC 7515 §5.2): the signed text.
    signed: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

/// Any other member (`crit`, `jwk`, `jku`, `x5c`) could ask for more than is done
/// here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    kid: String,
    #[serde(borrow)]
    alg: &'a RawValue,
}

impl<'a> Token<'a> {
    /// Reads the header and nothing behind it.
    pub(super) fn read(name: &'a str, text: &'a str) -> Result<Self, NrasRejected> {
        let malformed = |detail: String| NrasRejected::Token {
            token: shown(name),
            detail,
        };
        if text.len() > MAX_TOKEN_BYTES {
            return Err(NrasRejected::TooLarge {
                what: "a token",
                len: text.len(),
                max: MAX_TOKEN_BYTES,
            });
        }
        let parts: Vec<_> = text.split('.').collect();
        let [header, payload, signature] = parts[..] else {
            return Err(malformed(format!("it has {} parts, not 3", parts.len())));
        };
        let signed = text
            .rsplit_once('.')
            .map(|(signed, _)| signed)
            .unwrap_or_default();
        let decoded = |part: &str, what: &str| {
            BASE64_URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| malformed(format!("its {what} is not base64url")))
        };
        let header = decoded(header, "header")?;
        let signature = decoded(signature, "signature")?;
        let Header { kid, alg } = json::parse_object(&header, &HEADER_LIMITS)
            .map_err(|error| malformed(format!("its header: {error}")))?;
        if serde_json::from_str::<String>(alg.get()).ok().as_deref() != Some(ALGORITHM) {
            return Err(NrasRejected::Algorithm {
                token: shown(name),
                got: shown(alg.get()),
                expected: ALGORITHM,
            });
        }
        if !kid.starts_with(PRODUCTION_KEY) {
            return Err(NrasRejected::Issuer {
                token: shown(name),
                what: "the key",
                got: quoted(&kid),
                expected: PRODUCTION_KEY,
            });
        }
        Ok(Self {
            name,
            kid,
            signed,
            payload,
            signature,
        })
    }

    /// The payload, if the signature is valid. A signature is r and s of 48 bytes each
    /// (RFC 7518 §3.4); no other form is accepted, such as DER.
    pub(super) fn verified(self, key: &Key) -> Result<Vec<u8>, NrasRejected> {
        if self.signature.len() != 96
            || !key.verifies_fixed(self.signed.as_bytes(), &self.signature)
        {
            return Err(NrasRejected::Signature {
                token: shown(self.name),
            });
        }
        BASE64_URL_SAFE_NO_PAD
            .decode(self.payload)
            .map_err(|_| NrasRejected::Token {
                token: shown(self.name),
                detail: "its payload is not base64url".to_owned(),
            })
    }
}
