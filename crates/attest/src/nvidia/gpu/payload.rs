//! The JSON around the evidence, as NVIDIA's tools write it: `nvidia_payload`.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::base::identifiers::Nonce;
use crate::base::json::{self, Limits};
use crate::base::text::quoted;
use crate::refusals::gpu::GpuRejected;

/// Real payloads have 98 KB for eight GPUs.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 512 << 10;

/// NEAR's machines have eight; the largest baseboards carry sixteen.
pub(crate) const MAX_GPUS: usize = 16;

/// Real evidence has 4.3 KB, a real chain 4.8 KB.
pub(crate) const MAX_BLOB_BYTES: usize = 16 << 10;

/// Payload, list, item: three levels. Newer tools add fields, never levels.
const LIMITS: Limits = Limits {
    depth: 8,
    values: 2_000,
    members: json::MEMBERS,
};

/// One GPU's evidence as it was sent; not verified.
pub(super) struct Item<'a> {
    /// Its architecture, if the JSON names one; not signed.
    pub(super) arch: Option<Cow<'a, str>>,
    /// PEM, leaf first.
    pub(super) certificates: Vec<u8>,
    /// SPDM request and response.
    pub(super) evidence: Vec<u8>,
}

/// The whole payload.
pub(super) struct Payload<'a> {
    /// The architecture of all GPUs, if the JSON names one; not signed.
    pub(super) arch: Option<Cow<'a, str>>,
    pub(super) items: Vec<Item<'a>>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    arch: Option<&'a RawValue>,
    #[serde(borrow, default)]
    evidence_list: Option<&'a RawValue>,
    #[serde(borrow, default)]
    nonce: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireItem<'a> {
    #[serde(borrow, default)]
    arch: Option<&'a RawValue>,
    #[serde(borrow, default)]
    certificate: Option<&'a RawValue>,
    #[serde(borrow, default)]
    evidence: Option<&'a RawValue>,
    #[serde(borrow, default)]
    nonce: Option<&'a RawValue>,
}

/// Reads the payload and compares the nonces that it repeats outside the signed bytes,
/// each as text, so that no other spelling is accepted.
pub(super) fn read<'a>(text: &'a str, nonce: &Nonce) -> Result<Payload<'a>, GpuRejected> {
    if text.len() > MAX_PAYLOAD_BYTES {
        return Err(GpuRejected::TooLarge {
            what: "the payload".to_owned(),
            len: text.len(),
            max: MAX_PAYLOAD_BYTES,
        });
    }
    let wire: Wire<'_> = json::parse_object(text.as_bytes(), &LIMITS)
        .map_err(|error| unreadable(error.to_string()))?;
    let list = wire
        .evidence_list
        .ok_or_else(|| unreadable("evidence_list is missing".to_owned()))?;
    let list: Vec<&RawValue> = serde_json::from_str(list.get())
        .map_err(|_| unreadable("evidence_list is not a list".to_owned()))?;
    if list.is_empty() {
        return Err(GpuRejected::Missing {
            what: "the list of GPUs is empty",
        });
    }
    if list.len() > MAX_GPUS {
        return Err(GpuRejected::TooMany {
            got: list.len(),
            max: MAX_GPUS,
        });
    }
    let arch = optional("arch", wire.arch)?;
    same_nonce("nonce", &string("nonce", wire.nonce)?, nonce)?;
    let items = list
        .into_iter()
        .enumerate()
        .map(|(index, raw)| item(index, raw, nonce))
        .collect::<Result<_, _>>()?;
    Ok(Payload { arch, items })
}

fn item<'a>(index: usize, raw: &'a RawValue, nonce: &Nonce) -> Result<Item<'a>, GpuRejected> {
    let field = |name: &str| format!("evidence_list[{index}].{name}");
    let wire: WireItem<'_> = json::checked_object(raw.get())
        .map_err(|detail| unreadable(format!("evidence_list[{index}]: {detail}")))?;
    // Items have repeated the nonce since June 2026.
    if let Some(repeated) = wire.nonce {
        let name = field("nonce");
        same_nonce(&name, &string(&name, Some(repeated))?, nonce)?;
    }
    Ok(Item {
        arch: optional(&field("arch"), wire.arch)?,
        certificates: blob(&field("certificate"), wire.certificate)?,
        evidence: blob(&field("evidence"), wire.evidence)?,
    })
}

fn same_nonce(field: &str, got: &str, expected: &Nonce) -> Result<(), GpuRejected> {
    let expected = expected.to_string();
    if got != expected {
        return Err(GpuRejected::PayloadNonce {
            field: field.to_owned(),
            got: quoted(got),
            expected,
        });
    }
    Ok(())
}

fn string<'a>(field: &str, raw: Option<&'a RawValue>) -> Result<Cow<'a, str>, GpuRejected> {
    raw.and_then(json::text).ok_or_else(|| {
        unreadable(match raw.map(RawValue::get) {
            Some(got) => format!("{field} is {}, not a string", quoted(got)),
            None => format!("{field} is missing"),
        })
    })
}

fn optional<'a>(
    field: &str,
    raw: Option<&'a RawValue>,
) -> Result<Option<Cow<'a, str>>, GpuRejected> {
    raw.map(|raw| string(field, Some(raw))).transpose()
}

/// Base64 in its one canonical spelling.
fn blob(field: &str, raw: Option<&RawValue>) -> Result<Vec<u8>, GpuRejected> {
    let text = string(field, raw)?;
    // Four characters encode three bytes; padding encodes none.
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    let len = (text.len() / 4).saturating_mul(3).saturating_sub(padding);
    if len > MAX_BLOB_BYTES {
        return Err(GpuRejected::TooLarge {
            what: field.to_owned(),
            len,
            max: MAX_BLOB_BYTES,
        });
    }
    BASE64_STANDARD
        .decode(text.as_bytes())
        .map_err(|_| unreadable(format!("{field} is not base64")))
}

fn unreadable(detail: String) -> GpuRejected {
    GpuRejected::Payload { detail }
}
