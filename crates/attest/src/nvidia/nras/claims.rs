//! The claims of a token, by version 2.0 of NVIDIA's claims.
//!
//! An unknown claim may change what the others mean. So every claim has to be known: a
//! newer version is refused as such and never half understood.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::base::identifiers::{Nonce, UnixTime};
use crate::base::json::{self, Limits};
use crate::base::text::{quoted, shown};
use crate::nvidia::gpu::Ueid;
use crate::refusals::nras::NrasRejected;

/// The issuer in production; `nras.attestation-stg.nvidia.com` is for trials.
const ISSUER: &str = "https://nras.attestation.nvidia.com";

/// NVIDIA's IANA private enterprise number, by which EAT names makers of hardware.
pub(super) const NVIDIA: &str = "5703";

/// What [`Claims`] of every version are called.
const VERSION: &str = "2.0";

/// How much our clock may be behind NVIDIA's; the deployment log has the same slack.
/// Recordings were made 3 to 5 s after their tokens.
const CLOCK_TOLERANCE: u64 = 300;

/// NVIDIA's tokens are valid for an hour; older ones are refused.
const MAX_AGE: u64 = 3_600;

/// The digests of sixteen GPUs are 80 values, three levels deep.
const LIMITS: Limits = Limits {
    depth: 6,
    values: 400,
    members: json::MEMBERS,
};

/// A failed GPU's token has it, and lacks others.
const ERROR_DETAILS: &str = "x-nvidia-error-details";

/// Of the token about all GPUs.
pub(super) const OVERALL: &[&str] = &[
    "sub",
    "x-nvidia-ver",
    "iss",
    "iat",
    "nbf",
    "exp",
    "jti",
    "eat_nonce",
    "x-nvidia-overall-att-result",
    "submods",
];

/// Of a GPU's token, beside [`CHECKS`].
pub(super) const GPU: &[&str] = &[
    "iss",
    "iat",
    "nbf",
    "exp",
    "jti",
    "eat_nonce",
    "ueid",
    "hwmodel",
    "oemid",
    "measres",
    "secboot",
    "dbgstat",
    "x-nvidia-attestation-warning",
    "x-nvidia-gpu-driver-version",
    "x-nvidia-gpu-vbios-version",
];

/// NVIDIA's checks of a GPU, in its order. Each has to be true.
const CHECKS: &[&str] = &[
    "x-nvidia-gpu-arch-check",
    "x-nvidia-gpu-attestation-report-parsed",
    "x-nvidia-gpu-attestation-report-nonce-match",
    "x-nvidia-gpu-attestation-report-cert-chain-validated",
    "x-nvidia-gpu-attestation-report-signature-verified",
    "x-nvidia-gpu-driver-rim-fetched",
    "x-nvidia-gpu-driver-rim-schema-validated",
    "x-nvidia-gpu-driver-rim-cert-validated",
    "x-nvidia-gpu-driver-rim-signature-verified",
    "x-nvidia-gpu-driver-rim-measurements-available",
    "x-nvidia-gpu-vbios-rim-fetched",
    "x-nvidia-gpu-vbios-rim-schema-validated",
    "x-nvidia-gpu-vbios-rim-cert-validated",
    "x-nvidia-gpu-vbios-rim-signature-verified",
    "x-nvidia-gpu-vbios-rim-measurements-available",
    "x-nvidia-gpu-vbios-index-no-conflict",
];

/// A signed token's claims.
pub(super) struct Claims<'a> {
    /// What messages call the token.
    token: String,
    claims: BTreeMap<String, &'a RawValue>,
}

/// When a token was made, and when it ends.
pub(super) struct Times {
    pub(super) issued_at: UnixTime,
    pub(super) valid_until: UnixTime,
}

impl<'a> Claims<'a> {
    /// Reads the payload of a token whose signature holds.
    pub(super) fn read(token: &str, payload: &'a [u8]) -> Result<Self, NrasRejected> {
        let token = shown(token);
        match json::parse(payload, &LIMITS) {
            Ok(claims) => Ok(Self { token, claims }),
            Err(error) => Err(NrasRejected::Claims {
                token,
                detail: error.to_string(),
            }),
        }
    }

    /// Refuses tokens that NVIDIA signs for trials.
    pub(super) fn are_productions(&self) -> Result<(), NrasRejected> {
        self.equals("iss", ISSUER, |token, got| NrasRejected::Issuer {
            token,
            what: "the issuer",
            got,
            expected: ISSUER,
        })
    }

    /// Refuses claims of another version.
    pub(super) fn are_understood(&self, known: &[&str]) -> Result<(), NrasRejected> {
        let newer = |claim: String| {
            Err(NrasRejected::NewerClaims {
                token: self.token.clone(),
                claim,
            })
        };
        if known.contains(&"x-nvidia-ver") {
            let version = self.text("x-nvidia-ver")?;
            if version != VERSION {
                return newer(format!("x-nvidia-ver {}", quoted(&version)));
            }
        }
        // The overall token has none of the checks of a GPU's.
        let checks = if known == GPU { CHECKS } else { &[] };
        let mut names = self.claims.keys().map(String::as_str);
        match names.find(|name| !known.contains(name) && !checks.contains(name)) {
            Some(name) => newer(quoted(name)),
            None => Ok(()),
        }
    }

    /// Made at most an hour ago, not in the future, and valid now.
    pub(super) fn times(&self, now: UnixTime) -> Result<Times, NrasRejected> {
        let [issued_at, not_before, expires] = [
            self.seconds("iat")?,
            self.seconds("nbf")?,
            self.seconds("exp")?,
        ];
        let refuse = |detail: String| {
            Err(NrasRejected::Time {
                token: self.token.clone(),
                detail: format!("{detail}, it is {now}"),
            })
        };
        let latest = now.0.saturating_add(CLOCK_TOLERANCE);
        for (what, at) in [("issued at", issued_at), ("valid from", not_before)] {
            if at > latest {
                return refuse(format!("{what} {}", UnixTime(at)));
            }
        }
        // RFC 7519 §4.1.4: not on or after. An hour leaves room for any clock.
        if now.0 >= expires {
            return refuse(format!("expired at {}", UnixTime(expires)));
        }
        let oldest = issued_at.saturating_add(MAX_AGE);
        if now.0 > oldest {
            return refuse(format!(
                "issued at {}, more than an hour ago",
                UnixTime(issued_at)
            ));
        }
        Ok(Times {
            issued_at: UnixTime(issued_at),
            valid_until: UnixTime(expires.min(oldest)),
        })
    }

    /// Answers our nonce, compared as text, so that no other spelling is accepted.
    pub(super) fn answer(&self, nonce: &Nonce) -> Result<(), NrasRejected> {
        let expected = nonce.to_string();
        self.equals("eat_nonce", &expected.clone(), |token, got| {
            NrasRejected::Nonce {
                token,
                got,
                expected,
            }
        })
    }

    /// The digest of each GPU's token, by the GPU's name:
    /// `{"GPU-0": ["DIGEST", ["SHA-256", hex]]}`.
    pub(super) fn digests(&self) -> Result<BTreeMap<String, String>, NrasRejected> {
        let submods: BTreeMap<String, (String, (String, String))> =
            self.value("submods", "digests")?;
        let mut digests = BTreeMap::new();
        for (name, (kind, (algorithm, digest))) in submods {
            if kind != "DIGEST" || algorithm != "SHA-256" {
                return Err(self.malformed("submods", "SHA-256 digests"));
            }
            digests.insert(name, digest);
        }
        Ok(digests)
    }

    /// Is about the GPU whose evidence is at this place of the list.
    pub(super) fn device(&self, ueid: &Ueid) -> Result<(), NrasRejected> {
        let expected = ueid.to_string();
        self.equals("ueid", &expected.clone(), |token, got| {
            NrasRejected::Device {
                token,
                got,
                expected,
            }
        })
    }

    /// All of NVIDIA's checks succeeded.
    pub(super) fn success(&self) -> Result<(), NrasRejected> {
        let token = || self.token.clone();
        for claim in CHECKS {
            if !self.boolean(claim)? {
                return Err(NrasRejected::CheckFailed {
                    token: token(),
                    claim,
                });
            }
        }
        self.equals("measres", "success", |token, got| {
            NrasRejected::Measurements { token, got }
        })?;
        if !self.boolean("secboot")? {
            return Err(NrasRejected::SecureBoot { token: token() });
        }
        self.equals("dbgstat", "disabled", |token, got| NrasRejected::Debug {
            token,
            got,
        })?;
        let warning = self.raw("x-nvidia-attestation-warning")?.get();
        if warning != "null" {
            return Err(NrasRejected::Warning {
                token: token(),
                got: shown(warning),
            });
        }
        Ok(())
    }

    /// A version that the GPU has signed, too.
    pub(super) fn version(&self, claim: &'static str, expected: &str) -> Result<(), NrasRejected> {
        self.equals(claim, expected, |token, got| NrasRejected::Version {
            token,
            claim,
            got,
            expected: quoted(expected),
        })
    }

    /// A text with one possible value.
    pub(super) fn expect(
        &self,
        claim: &'static str,
        expected: &'static str,
    ) -> Result<(), NrasRejected> {
        self.equals(claim, expected, |token, got| NrasRejected::Claim {
            token,
            claim,
            got,
            expected,
        })
    }

    /// Refuses another text than `expected`; `refuse` gets the token's name and the text.
    fn equals(
        &self,
        claim: &str,
        expected: &str,
        refuse: impl FnOnce(String, String) -> NrasRejected,
    ) -> Result<(), NrasRejected> {
        let got = self.text(claim)?;
        if got != expected {
            return Err(refuse(self.token.clone(), quoted(&got)));
        }
        Ok(())
    }

    /// Why NVIDIA refuses a GPU, in NVIDIA's words.
    pub(super) fn error_details(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Details<'a> {
            #[serde(borrow, default)]
            code: Option<&'a RawValue>,
            #[serde(borrow, default)]
            message: Option<&'a RawValue>,
            #[serde(borrow, default)]
            description: Option<&'a RawValue>,
        }
        let raw = self.claims.get(ERROR_DETAILS)?.get();
        let Ok(details) = json::checked_object::<Details<'_>>(raw) else {
            return Some(shown(raw));
        };
        let said: Vec<_> = [
            ("code", details.code),
            ("message", details.message),
            ("description", details.description),
        ]
        .into_iter()
        .filter_map(|(name, raw)| Some(format!("{name} {}", shown(raw?.get()))))
        .collect();
        Some(said.join(", "))
    }

    pub(super) fn text(&self, claim: &str) -> Result<String, NrasRejected> {
        self.value(claim, "a text")
    }

    pub(super) fn boolean(&self, claim: &str) -> Result<bool, NrasRejected> {
        self.value(claim, "true or false")
    }

    /// Whole seconds since 1970.
    fn seconds(&self, claim: &str) -> Result<u64, NrasRejected> {
        self.value(claim, "seconds since 1970")
    }

    fn value<T: serde::de::DeserializeOwned>(
        &self,
        claim: &str,
        expected: &'static str,
    ) -> Result<T, NrasRejected> {
        let raw = self.raw(claim)?.get();
        serde_json::from_str(raw).map_err(|_| self.malformed(claim, expected))
    }

    fn raw(&self, claim: &str) -> Result<&'a RawValue, NrasRejected> {
        let found = self.claims.get(claim).copied();
        found.ok_or_else(|| NrasRejected::Claims {
            token: self.token.clone(),
            detail: format!("{claim} is missing"),
        })
    }

    fn malformed(&self, claim: &str, expected: &'static str) -> NrasRejected {
        let got = self.claims.get(claim).map_or("", |raw| raw.get());
        NrasRejected::Claims {
            token: self.token.clone(),
            detail: format!("{claim}: expected {expected}, got {}", shown(got)),
        }
    }
}
