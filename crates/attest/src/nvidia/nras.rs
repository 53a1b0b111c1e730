//! The results of NVIDIA's Remote Attestation Service (NRAS, version 3) for the same
//! GPU evidence that [`crate::appraise_gpus`] appraises.
//!
//! The service has reference measurements, which this crate does not have, and signs
//! its results as JSON Web Tokens (RFC 7519): one for all GPUs, which names the digest
//! of one for each. [`appraise_nras`] proves that a key certified by NVIDIA signed
//! them, that they answer our nonce now, that every check succeeded, and that they are
//! about the GPUs whose evidence was appraised, in order. What an answer does not prove
//! is in [`NRAS_NOT_PROVED`].

mod claims;
mod jwks;
mod jwt;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

pub use jwks::{KeySet, MAX_NRAS_KEY_SET_BYTES, NrasAnchors};

use crate::base::hash;
use crate::base::identifiers::{Nonce, UnixTime};
use crate::base::json::{self, Limits};
use crate::base::text::quoted;
use crate::nvidia::gpu::{GpuFinding, GpuReport};
use crate::refusals::nras::NrasRejected;
use claims::{Claims, Times};
use jwks::Vouched;
use jwt::Token;

/// Real answers have 17 KB for eight GPUs; each further GPU adds 2 KB.
pub const MAX_NRAS_ANSWER_BYTES: usize = 128 << 10;

/// A list of a pair and a map: two levels, and two values for each GPU.
const LIMITS: Limits = Limits {
    depth: 4,
    values: 200,
    members: json::MEMBERS,
};

/// What a good answer of NVIDIA's does not prove.
pub(crate) const NRAS_NOT_PROVED: [&str; 3] = [
    "the reference measurements are NVIDIA's: this program did not compare them",
    "the switches between the GPUs were not shown to NVIDIA",
    "NVIDIA was not asked whether the authority behind the answer has been revoked",
];

/// A result of NVIDIA's in which every check succeeded. Only [`appraise_nras`] makes
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NrasOpinion {
    gpus: usize,
    issued_at: UnixTime,
    valid_until: UnixTime,
}

impl NrasOpinion {
    /// How many GPUs it is about: all whose evidence was appraised.
    #[must_use]
    pub const fn gpus(&self) -> usize {
        self.gpus
    }

    /// When NVIDIA checked them, by its own clock (`iat`).
    #[must_use]
    pub const fn issued_at(&self) -> UnixTime {
        self.issued_at
    }

    /// When the first token (`exp`) or certificate behind it ends, an hour
    /// after [`issued_at`](Self::issued_at) at the latest.
    #[must_use]
    pub const fn valid_until(&self) -> UnixTime {
        self.valid_until
    }
}

/// Appraises the body of NVIDIA's answer to a `nvidia_payload` whose GPUs are
/// `gpus`, in its order.
///
/// # Errors
/// The first check that failed. NVIDIA changes its keys every few hours: after
/// [`NrasRejected::is_unknown_kid`] fetch the key set once more.
pub fn appraise_nras(
    answer: &[u8],
    keys: &KeySet,
    anchors: &NrasAnchors,
    nonce: Nonce,
    gpus: &GpuReport,
    now: UnixTime,
) -> Result<NrasOpinion, NrasRejected> {
    // The list of GPUs lacks them, so its order is not that of the payload.
    if let Some(unknown) = gpus.not_understood().first() {
        let detail = format!("GPU-{} is not understood", unknown.gpu);
        return Err(other_gpus("the list of appraised GPUs", &detail));
    }
    let answer = Answer::read(answer)?;
    let mut appraisal = Appraisal {
        vouched: Vouched::new(keys, anchors, now),
        nonce,
        now,
    };

    let (payload, until) = appraisal.verified(OVERALL, &answer.overall)?;
    let overall = Claims::read(OVERALL, &payload)?;
    overall.are_productions()?;
    overall.are_understood(claims::OVERALL)?;
    overall.text("jti")?;
    overall.expect("sub", "NVIDIA-PLATFORM-ATTESTATION")?;
    let times = overall.times(now)?;
    // A failed answer names no nonce, so the failure is reported first.
    if !overall.boolean("x-nvidia-overall-att-result")? {
        return Err(NrasRejected::Failed {
            detail: appraisal.why(&answer),
        });
    }
    overall.answer(&nonce)?;
    let digests = overall.digests()?;

    let names: Vec<_> = (0..gpus.gpus().len())
        .map(|gpu| format!("GPU-{gpu}"))
        .collect();
    same_names("submods of the overall token", digests.keys(), &names)?;
    same_names("the list of tokens", answer.gpus.keys(), &names)?;

    let mut opinion = NrasOpinion {
        gpus: names.len(),
        issued_at: times.issued_at,
        valid_until: times.valid_until.min(until),
    };
    for (name, finding) in names.iter().zip(gpus.gpus()) {
        // Both maps were just found to have exactly these names.
        let (Some(token), Some(digest)) = (answer.gpus.get(name), digests.get(name)) else {
            return Err(other_gpus("the list of tokens", name));
        };
        let got = hex::encode(hash::sha256(&[token.as_bytes()]));
        if got != *digest {
            return Err(NrasRejected::Digest {
                token: name.clone(),
                got,
                expected: quoted(digest),
            });
        }
        let (times, until) = appraisal.gpu(name, token, finding)?;
        opinion.valid_until = opinion.valid_until.min(times.valid_until).min(until);
    }
    Ok(opinion)
}

/// How messages call the token about all GPUs.
const OVERALL: &str = "overall";

/// The parts of an answer; not verified.
struct Answer<'a> {
    overall: Cow<'a, str>,
    gpus: BTreeMap<String, Cow<'a, str>>,
}

impl<'a> Answer<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, NrasRejected> {
        /// `[["JWT", overall], {"GPU-0": token, …}]` ("detached EAT bundle").
        #[derive(Deserialize)]
        struct Wire<'a>(
            #[serde(borrow)] (Cow<'a, str>, Cow<'a, str>),
            #[serde(borrow)] BTreeMap<String, Cow<'a, str>>,
        );
        if bytes.len() > MAX_NRAS_ANSWER_BYTES {
            return Err(NrasRejected::TooLarge {
                what: "the answer",
                len: bytes.len(),
                max: MAX_NRAS_ANSWER_BYTES,
            });
        }
        let Wire((kind, overall), gpus) =
            json::parse(bytes, &LIMITS).map_err(|error| NrasRejected::Answer {
                detail: error.to_string(),
            })?;
        if kind != "JWT" {
            return Err(NrasRejected::Answer {
                detail: format!("it begins with {}, not with \"JWT\"", quoted(&kind)),
            });
        }
        Ok(Self { overall, gpus })
    }
}

/// The values that every token of an answer is compared with.
struct Appraisal<'a> {
    vouched: Vouched<'a>,
    nonce: Nonce,
    now: UnixTime,
}

impl Appraisal<'_> {
    /// The payload of a token whose signature holds, and the end of its key's
    /// certificate.
    fn verified(&mut self, name: &str, token: &str) -> Result<(Vec<u8>, UnixTime), NrasRejected> {
        let token = Token::read(name, token)?;
        let (key, until) = self.vouched.key(name, &token.kid)?;
        Ok((token.verified(key)?, until))
    }

    /// Checks NVIDIA's result for one GPU.
    fn gpu(
        &mut self,
        name: &str,
        token: &str,
        finding: &GpuFinding,
    ) -> Result<(Times, UnixTime), NrasRejected> {
        let (payload, until) = self.verified(name, token)?;
        let claims = Claims::read(name, &payload)?;
        if let Some(detail) = claims.error_details() {
            return Err(NrasRejected::Failed {
                detail: format!("{name}: {detail}"),
            });
        }
        claims.are_productions()?;
        claims.are_understood(claims::GPU)?;
        claims.text("jti")?;
        let times = claims.times(self.now)?;
        claims.answer(&self.nonce)?;
        claims.device(&finding.ueid)?;
        claims.expect("hwmodel", finding.architecture.chip())?;
        claims.expect("oemid", claims::NVIDIA)?;
        claims.success()?;
        claims.version("x-nvidia-gpu-driver-version", &finding.driver)?;
        claims.version("x-nvidia-gpu-vbios-version", &finding.vbios)?;
        Ok((times, until))
    }

    /// Why NVIDIA refused, from the first GPU's token that states a reason.
    fn why(&mut self, answer: &Answer<'_>) -> String {
        for (name, token) in &answer.gpus {
            let said = self
                .verified(name, token)
                .and_then(|(payload, _)| Ok(Claims::read(name, &payload)?.error_details()));
            match said {
                Ok(None) => {}
                Ok(Some(detail)) => return format!("{}: {detail}", quoted(name)),
                Err(rejected) => return format!("the reason cannot be read: {rejected}"),
            }
        }
        "no token gives a reason".to_owned()
    }
}

/// Checks that the names are GPU-0 to GPU-(n-1), each once.
fn same_names<'a>(
    place: &'static str,
    got: impl Iterator<Item = &'a String>,
    expected: &[String],
) -> Result<(), NrasRejected> {
    let got: Vec<_> = got.collect();
    let stranger = got.iter().find(|name| !expected.contains(name));
    if let Some(stranger) = stranger {
        return Err(other_gpus(place, &format!("{} too many", quoted(stranger))));
    }
    match expected.iter().find(|name| !got.contains(name)) {
        Some(missing) => Err(other_gpus(place, &format!("{missing} is missing"))),
        None => Ok(()),
    }
}

fn other_gpus(place: &'static str, detail: &str) -> NrasRejected {
    NrasRejected::Gpus {
        place,
        detail: detail.to_owned(),
    }
}
