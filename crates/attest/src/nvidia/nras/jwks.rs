//! NVIDIA's signing keys: `/.well-known/jwks.json` (RFC 7517), and the authorities that
//! certify them.
//!
//! Each key comes with the certificate that NVIDIA's intermediate authority issued for
//! it and with that authority's own. The root is not sent, so nothing proves the
//! intermediate's certificate: its key is pinned, and only that key is compared. A
//! signing key is used for two days.

use std::collections::{BTreeMap, BTreeSet};

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde::Deserialize;
use serde_json::value::RawValue;
use x509_cert::Certificate;

use crate::base::identifiers::{Spki, UnixTime};
use crate::base::json::{self, Limits};
use crate::base::text::{quoted, shown};
use crate::base::x509::{self, Key as PublicKey, P384, RSA};
use crate::refusals::nras::NrasRejected;

/// Real sets have 81 KB (32 keys) and 91 KB (36).
pub const MAX_NRAS_KEY_SET_BYTES: usize = 512 << 10;

/// A key an hour for two days are 48; a fleet may have several of each.
const MAX_KEYS: usize = 200;

/// Leaf and intermediate; NVIDIA may add those above.
const MAX_CERTIFICATES: usize = 4;

/// Real names have 70 bytes.
const MAX_KID_BYTES: usize = 128;

/// Set, list, key, certificates: four levels, and ten values a key.
const LIMITS: Limits = Limits {
    depth: 6,
    values: 4_000,
    members: json::MEMBERS,
};

/// SHA-256 of the SubjectPublicKeyInfo of "NVIDIA Attestation Service GPU
/// Intermediate 004" (RSA-2048, 2025-12-08 to 2029-12-08), the authority behind
/// every key of April to June 2026.
const NVIDIA_INTERMEDIATES: [[u8; 32]; 1] = [[
    0xfd, 0x32, 0x83, 0x7f, 0x95, 0x4e, 0x2c, 0x45, 0xdb, 0x07, 0x31, 0x05, 0x16, 0x6d, 0xfe, 0x69,
    0x85, 0xae, 0x04, 0x80, 0xbb, 0x11, 0x3f, 0xba, 0x63, 0xb0, 0x91, 0xa7, 0x5a, 0xff, 0xe8, 0x96,
]];

/// The subject of signing keys' certificates. GH100 is Hopper, the one architecture
/// that is understood.
const SUBJECT: &str = "NVIDIA Attestation Service GPU GH100";

/// The authorities that may certify signing keys. They come in as a value; no feature
/// or variable changes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NrasAnchors {
    intermediates: BTreeSet<Spki>,
}

impl NrasAnchors {
    /// NVIDIA's intermediate authority of attestations.
    #[must_use]
    pub fn nvidia() -> Self {
        Self::danger_nras_intermediates(NVIDIA_INTERMEDIATES.map(Spki::from_bytes))
    }

    /// DANGER: other authorities. The holder of one's key can sign any result about any
    /// GPU; for tests and demonstrations.
    #[must_use]
    pub fn danger_nras_intermediates(keys: impl IntoIterator<Item = Spki>) -> Self {
        Self {
            intermediates: keys.into_iter().collect(),
        }
    }

    /// True for [`NrasAnchors::nvidia`].
    #[must_use]
    pub fn is_nvidia(&self) -> bool {
        *self == Self::nvidia()
    }

    /// The authorities' keys.
    pub fn intermediates(&self) -> impl Iterator<Item = Spki> {
        self.intermediates.iter().copied()
    }
}

/// A key set as it was sent. Each key is that of its certificate; the certificate is
/// verified when the key is used.
#[derive(Debug)]
pub struct KeySet {
    keys: BTreeMap<String, Key>,
}

#[derive(Debug)]
struct Key {
    key: PublicKey,
    leaf: Certificate,
    intermediate_der: Vec<u8>,
}

/// The members of a key that are read; by RFC 7517 §4 others are ignored.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: String,
    kid: String,
    x5c: Vec<String>,
    x: String,
    y: String,
}

impl KeySet {
    /// Reads the body of the key set.
    ///
    /// # Errors
    /// `evidence_nras_too_large`, `_key_set`, `_duplicate_key`, and
    /// `rejected_nras_key_mismatch`.
    pub fn parse(bytes: &[u8]) -> Result<Self, NrasRejected> {
        #[derive(Deserialize)]
        struct Wire<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        if bytes.len() > MAX_NRAS_KEY_SET_BYTES {
            return Err(NrasRejected::TooLarge {
                what: "the key set",
                len: bytes.len(),
                max: MAX_NRAS_KEY_SET_BYTES,
            });
        }
        let wire: Wire<'_> =
            json::parse_object(bytes, &LIMITS).map_err(|error| unreadable(error.to_string()))?;
        if wire.keys.len() > MAX_KEYS {
            return Err(unreadable(format!(
                "{} keys, at most {MAX_KEYS} are read",
                wire.keys.len()
            )));
        }
        let mut keys = BTreeMap::new();
        for (index, raw) in wire.keys.into_iter().enumerate() {
            let refuse = |detail: String| unreadable(format!("keys[{index}]: {detail}"));
            let jwk: Jwk = json::checked_object(raw.get()).map_err(refuse)?;
            let key = Key::read(&jwk, refuse)?;
            if keys.insert(jwk.kid.clone(), key).is_some() {
                return Err(NrasRejected::DuplicateKey {
                    kid: quoted(&jwk.kid),
                });
            }
        }
        Ok(Self { keys })
    }

    /// How many keys it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True if it has no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Key {
    fn read(jwk: &Jwk, refuse: impl Fn(String) -> NrasRejected) -> Result<Self, NrasRejected> {
        for (member, got, expected) in [("kty", &jwk.kty, "EC"), ("crv", &jwk.crv, "P-384")] {
            if got != expected {
                return Err(refuse(format!("{member} is {}", quoted(got))));
            }
        }
        if jwk.kid.is_empty() || jwk.kid.len() > MAX_KID_BYTES {
            return Err(refuse(format!("its name has {} bytes", jwk.kid.len())));
        }
        let [leaf, intermediate, ..] = &jwk.x5c[..] else {
            return Err(refuse(format!("{} certificates, not 2", jwk.x5c.len())));
        };
        if jwk.x5c.len() > MAX_CERTIFICATES {
            return Err(refuse(format!(
                "{} certificates, at most {MAX_CERTIFICATES} are read",
                jwk.x5c.len()
            )));
        }
        // RFC 7517 §4.7: base64, not base64url.
        let der = |text: &str| {
            BASE64_STANDARD
                .decode(text)
                .map_err(|_| refuse("a certificate is not base64".to_owned()))
        };
        // RFC 7518 §6.2.1.2: a coordinate is as long as the curve's field.
        let coordinate = |text: &str, member: &str| {
            let decoded = BASE64_URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
            <[u8; 48]>::try_from(decoded)
                .map_err(|_| refuse(format!("{member} is not 48 bytes in base64url")))
        };
        let leaf = x509::certificate(&der(leaf)?).map_err(&refuse)?;
        let intermediate_der = der(intermediate)?;
        let (x, y) = (coordinate(&jwk.x, "x")?, coordinate(&jwk.y, "y")?);
        let key = PublicKey::of(&leaf, &P384).map_err(|detail| refuse(detail.to_owned()))?;
        // Tokens are verified with the certificate's key. A reader that uses x and y
        // must get the same key.
        if key != PublicKey::at(&P384, &[x, y].concat()) {
            return Err(NrasRejected::KeyMismatch {
                kid: quoted(&jwk.kid),
            });
        }
        Ok(Self {
            key,
            leaf,
            intermediate_der,
        })
    }

    /// The end of the certificate's validity, if a pinned authority issued it
    /// for this purpose and it is valid now.
    fn certified(
        &self,
        kid: &str,
        anchors: &NrasAnchors,
        now: UnixTime,
    ) -> Result<UnixTime, NrasRejected> {
        let refuse = |certificate: &'static str, detail: String| NrasRejected::Certificate {
            kid: quoted(kid),
            certificate,
            detail,
        };
        const INTERMEDIATE: &str = "the intermediate";
        let intermediate = x509::certificate(&self.intermediate_der)
            .map_err(|detail| refuse(INTERMEDIATE, detail))?;
        let spki = x509::spki_der(&intermediate).map_err(|detail| refuse(INTERMEDIATE, detail))?;
        let spki = Spki::of_der(&spki);
        if !anchors.intermediates.contains(&spki) {
            return Err(NrasRejected::Authority {
                kid: quoted(kid),
                got: spki.to_string(),
            });
        }
        if !PublicKey::of(&intermediate, &RSA).is_ok_and(|key| key.signed(&self.leaf)) {
            let detail = "the pinned authority did not sign it";
            return Err(refuse("its own", detail.to_owned()));
        }
        is_for_tokens(&self.leaf).map_err(|detail| refuse("its own", detail))?;
        let valid = |name, certificate| {
            x509::valid_at(x509::validity(certificate), now, 0).map_err(|detail| {
                NrasRejected::CertificateTime {
                    kid: quoted(kid),
                    certificate: name,
                    detail,
                }
            })
        };
        // Nothing proves the intermediate's dates, but an expired one is always wrong.
        let above = valid(INTERMEDIATE, &intermediate)?;
        Ok(valid("its own", &self.leaf)?.min(above))
    }
}

/// Checks the certificate's purpose: the authority may also certify others than signers
/// of tokens about GPUs.
fn is_for_tokens(leaf: &Certificate) -> Result<(), String> {
    x509::signs_data(leaf)?;
    let name = x509::common_name(leaf)?;
    if name != SUBJECT {
        return Err(format!("it is for {}", quoted(&name)));
    }
    Ok(())
}

/// A key set under anchors at a moment. Tokens of one answer share a key, whose
/// certificate is then verified once.
pub(super) struct Vouched<'a> {
    keys: &'a KeySet,
    anchors: &'a NrasAnchors,
    now: UnixTime,
    last: Option<(&'a str, &'a PublicKey, UnixTime)>,
}

impl<'a> Vouched<'a> {
    pub(super) fn new(keys: &'a KeySet, anchors: &'a NrasAnchors, now: UnixTime) -> Self {
        Self {
            keys,
            anchors,
            now,
            last: None,
        }
    }

    /// A key that a pinned authority vouches for, and until when.
    pub(super) fn key(
        &mut self,
        token: &str,
        kid: &str,
    ) -> Result<(&'a PublicKey, UnixTime), NrasRejected> {
        if let Some((_, key, until)) = self.last.filter(|(known, ..)| *known == kid) {
            return Ok((key, until));
        }
        let Some((kid, key)) = self.keys.keys.get_key_value(kid) else {
            return Err(NrasRejected::UnknownKey {
                token: shown(token),
                kid: quoted(kid),
                known: self.keys.len(),
            });
        };
        let until = key.certified(kid, self.anchors, self.now)?;
        self.last = Some((kid, &key.key, until));
        Ok((&key.key, until))
    }
}

fn unreadable(detail: String) -> NrasRejected {
    NrasRejected::KeySet { detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_pin_is_nvidias() {
        let nvidia = NrasAnchors::nvidia();
        let pins: Vec<_> = nvidia.intermediates().collect();
        let known = "fd32837f954e2c45db073105166dfe6985ae0480bb113fba63b091a75affe896";
        assert_eq!(pins, [known.parse().unwrap()]);
        assert!(nvidia.is_nvidia());
        let more = pins.into_iter().chain([Spki::from_bytes([1; 32])]);
        assert!(!NrasAnchors::danger_nras_intermediates(more).is_nvidia());
    }
}
