//! The values that name things: keys, nonces, domains, moments.
//!
//! Each is parsed once, where it comes in, and has a type of its own, although most of
//! them are 32 bytes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::base::text::as_text;

/// The error of a text that does not have the form of its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, got {got}")]
pub struct InvalidIdentifier {
    expected: &'static str,
    got: String,
}

impl InvalidIdentifier {
    fn new(expected: &'static str, got: &str) -> Self {
        Self {
            expected,
            got: crate::base::text::shown(got),
        }
    }
}

macro_rules! digest_identifier {
    ($(#[$doc:meta])* $name:ident, $len:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Takes the bytes as they are.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        /// Hex, with or without `0x`, in either case.
        impl FromStr for $name {
            type Err = InvalidIdentifier;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                crate::base::text::hex_array(text)
                    .map(Self)
                    .ok_or_else(|| InvalidIdentifier::new($expected, text))
            }
        }

        as_text!($name, str::parse);
    };
}

digest_identifier!(
    /// SHA-256 of a certificate's SubjectPublicKeyInfo (DER): what this crate
    /// means by "the TLS key". RFC 7469 §2.4 uses the same digest.
    Spki, 32, "64 hex digits (SHA-256 of a SubjectPublicKeyInfo)"
);

digest_identifier!(
    /// The verifier's 32 random bytes, which make a quote fresh.
    Nonce, 32, "64 hex digits (a 32-byte nonce)"
);

digest_identifier!(
    /// SHA-256 over every rule of a resolved [`Policy`](crate::Policy).
    PolicyDigest, 32, "64 hex digits (a policy digest)"
);

digest_identifier!(
    /// A family of platforms as Intel's PCS names it: Family-Model-Stepping-Platform-CustomSKU.
    Fmspc, 6, "12 hex digits (an FMSPC)"
);

digest_identifier!(
    /// The name of a git commit (SHA-1).
    CommitId, 20, "40 hex digits (a git commit)"
);

digest_identifier!(
    /// SHA-256 of a compose file's bytes.
    FileDigest, 32, "64 hex digits (SHA-256 of a file)"
);

digest_identifier!(
    /// A digest of a deployment log up to one of its actions.
    LogDigest, 32, "64 hex digits (the digest of a log)"
);

impl Spki {
    /// The digest of a DER-encoded SubjectPublicKeyInfo.
    #[must_use]
    pub fn of_der(subject_public_key_info: &[u8]) -> Self {
        Self(crate::base::hash::sha256(&[subject_public_key_info]))
    }
}

/// A DNS name of a backend: lower case, at least two labels of letters, digits
/// and inner hyphens; never an IP literal, port or userinfo.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(Arc<str>);

impl Domain {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Domain {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = InvalidIdentifier;

    /// RFC 1123 §2.1 host names; the last label must not be numeric, which
    /// rules out IPv4 literals (WHATWG URL, "ends in a number").
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid =
            || InvalidIdentifier::new("a DNS name such as model.completions.near.ai", text);
        let name = text.to_ascii_lowercase();
        let label_is_valid = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        let last = name.rsplit('.').next().unwrap_or_default();
        if name.len() > 253
            || !name.contains('.')
            || !name.split('.').all(label_is_valid)
            || last.starts_with(|c: char| c.is_ascii_digit())
        {
            return Err(invalid());
        }
        Ok(Self(name.into()))
    }
}

/// Seconds since 1970-01-01T00:00:00Z, always passed in: this crate reads no clock.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// This moment plus `seconds`, saturating.
    #[must_use]
    pub const fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Parses RFC 3339, as Intel's collateral writes its dates.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let moment = chrono::DateTime::parse_from_rfc3339(text).ok()?;
        u64::try_from(moment.timestamp()).ok().map(Self)
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = i64::try_from(self.0)
            .ok()
            .and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0));
        match moment {
            Some(moment) => f.write_str(&moment.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
            None => write!(f, "{} seconds after 1970", self.0),
        }
    }
}
