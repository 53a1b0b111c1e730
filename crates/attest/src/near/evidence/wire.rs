//! The report's layout, and how its fields are read: each absent, wrong or doubled
//! one by its name.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Copied, Measured, Repeated, SigningAlgo, SigningKey, VmShape};
use crate::base::json::{self, JsonError};
use crate::base::text::{hex_array, hex_bytes, quoted};
use crate::dstack::event_log::{DigestForm, Event, RUNTIME_EVENT};
use crate::refusals::Rejected;

/// Real logs have 30 events; an application may add some of its own.
const MAX_EVENTS: usize = 4096;

/// The longest payload seen has 8 KB (a key-provider event has 200 bytes).
const MAX_EVENT_PAYLOAD_BYTES: usize = 64 << 10;

/// Names are shown to people and compared; the longest seen has 40 characters.
const MAX_NAME_BYTES: usize = 512;

/// The top level. Every field is optional here so that its absence is named.
#[derive(Deserialize)]
pub(super) struct Wire<'a> {
    #[serde(borrow, default)]
    pub(super) model_name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) signing_address: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) signing_algo: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) signing_public_key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) request_nonce: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) intel_quote: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) event_log: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) info: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) tls_cert_fingerprint: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) compose_manager_attestation: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) nvidia_payload: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) ohttp_key_config: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) ohttp_attestation: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
pub(super) struct WireInfo<'a> {
    #[serde(borrow, default)]
    pub(super) app_cert: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) app_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) compose_hash: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) device_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) instance_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) key_provider_info: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) os_image_hash: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) tcb_info: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) vm_config: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
pub(super) struct WireTcbInfo<'a> {
    #[serde(borrow, default)]
    pub(super) app_compose: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) compose_hash: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) device_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) event_log: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) os_image_hash: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) mrtd: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) rtmr0: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) rtmr1: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) rtmr2: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) rtmr3: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct WireEvent<'a> {
    imr: u32,
    event_type: u32,
    #[serde(borrow)]
    digest: Cow<'a, str>,
    #[serde(borrow, default)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    event_payload: Cow<'a, str>,
    #[serde(borrow, default)]
    version: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct WireVmConfig<'a> {
    #[serde(borrow, default)]
    pub(super) memory_size: Option<&'a RawValue>,
}

pub(super) fn signing_key(wire: &Wire<'_>) -> Result<SigningKey, Rejected> {
    let algo = match &*string("signing_algo", wire.signing_algo)? {
        "ecdsa" => SigningAlgo::Ecdsa,
        "ed25519" => SigningAlgo::Ed25519,
        other => return Err(bad("signing_algo", "ecdsa or ed25519", other)),
    };
    let text = string("signing_address", wire.signing_address)?;
    let address = hex_bytes(&text).ok_or_else(|| bad("signing_address", "hex", &text))?;
    if address.len() != algo.address_len() {
        return Err(Rejected::EvidenceAddressLength {
            algo: algo.as_str(),
            expected: algo.address_len(),
            got: address.len(),
        });
    }
    Ok(SigningKey { algo, address })
}

/// An array, or the same array as a JSON text (dstack's own form).
pub(crate) fn events(field: &'static str, raw: Option<&RawValue>) -> Result<Vec<Event>, Rejected> {
    let raw = present(raw).ok_or_else(|| missing(field))?;
    let nested;
    let text = if raw.get().starts_with('"') {
        nested = string(field, Some(raw))?;
        json::check(nested.as_bytes(), &json::NESTED)
            .map_err(|error| nested_error(field, error))?;
        &*nested
    } else {
        raw.get()
    };
    let wire: Vec<&RawValue> = serde_json::from_str(text)
        .map_err(|error| bad(field, "a list of events", &error.to_string()))?;
    if wire.len() > MAX_EVENTS {
        return Err(Rejected::EvidenceTooComplex {
            detail: format!("{} events, at most {MAX_EVENTS} are read", wire.len()),
        });
    }
    wire.into_iter()
        .enumerate()
        .map(|(index, raw)| event(field, index, raw))
        .collect()
}

fn event(list: &'static str, index: usize, raw: &RawValue) -> Result<Event, Rejected> {
    let field = |name: &str| format!("{list}[{index}].{name}");
    let wire: WireEvent<'_> = object(format!("{list}[{index}]"), Some(raw))?;
    let register = u8::try_from(wire.imr)
        .ok()
        .filter(|register| *register <= 3)
        .ok_or_else(|| bad(field("imr"), "0 to 3", &wire.imr.to_string()))?;
    if wire.event_payload.len() > MAX_EVENT_PAYLOAD_BYTES.saturating_mul(2) {
        return Err(bad(field("event_payload"), "at most 64 KiB", "more"));
    }
    let payload = hex_bytes(&wire.event_payload)
        .ok_or_else(|| bad(field("event_payload"), "hex", &wire.event_payload))?;
    if wire.event.len() > MAX_NAME_BYTES {
        return Err(bad(field("event"), "a short name", &wire.event));
    }
    // dstack 0.6 leaves out what follows from name and payload; the registers tell
    // whether it does.
    if wire.digest.is_empty() && register == 3 && wire.event_type == RUNTIME_EVENT {
        let form = match present(wire.version).map_or("1", RawValue::get) {
            "1" => DigestForm::V1,
            "2" => DigestForm::V2,
            other => return Err(bad(field("version"), "1 or 2", other)),
        };
        return Ok(Event::without_digest(&wire.event, payload, form));
    }
    let digest = hex_array(&wire.digest)
        .ok_or_else(|| bad(field("digest"), "96 hex digits", &wire.digest))?;
    Ok(Event {
        register,
        kind: wire.event_type,
        digest,
        name: wire.event.clone().into_owned(),
        payload,
    })
}

pub(super) fn vm_shape(vm_config: Option<&RawValue>) -> Result<VmShape, Rejected> {
    let Some(text) = optional_string("info.vm_config", vm_config)? else {
        return Ok(VmShape::default());
    };
    let config: WireVmConfig<'_> = json::parse_object(text.as_bytes(), &json::NESTED)
        .map_err(|error| nested_error("info.vm_config", error))?;
    let memory_size = present(config.memory_size)
        .map(|raw| {
            serde_json::from_str(raw.get())
                .map_err(|_| bad("info.vm_config.memory_size", "a number of bytes", raw.get()))
        })
        .transpose()?;
    Ok(VmShape { memory_size })
}

impl Repeated {
    pub(super) fn read(
        info: &WireInfo<'_>,
        tcb: &WireTcbInfo<'_>,
        measured: Option<&[Event]>,
    ) -> Self {
        let device_id = text(info.device_id);
        let other_device_id =
            text(tcb.device_id).filter(|other| device_id.as_ref().is_some_and(|own| own != other));
        let event_log = present(tcb.event_log)
            .zip(measured)
            .and_then(|(again, measured)| other_events(again, measured));
        let copies = [
            ("info.app_id", Measured::AppId, info.app_id),
            ("info.instance_id", Measured::InstanceId, info.instance_id),
            (
                "info.key_provider_info",
                Measured::KeyProvider,
                info.key_provider_info,
            ),
            (
                "info.compose_hash",
                Measured::ComposeHash,
                info.compose_hash,
            ),
            (
                "info.tcb_info.compose_hash",
                Measured::ComposeHash,
                tcb.compose_hash,
            ),
            (
                "info.os_image_hash",
                Measured::OsImageHash,
                info.os_image_hash,
            ),
            (
                "info.tcb_info.os_image_hash",
                Measured::OsImageHash,
                tcb.os_image_hash,
            ),
            ("info.tcb_info.mrtd", Measured::Mrtd, tcb.mrtd),
            ("info.tcb_info.rtmr0", Measured::Rtmr(0), tcb.rtmr0),
            ("info.tcb_info.rtmr1", Measured::Rtmr(1), tcb.rtmr1),
            ("info.tcb_info.rtmr2", Measured::Rtmr(2), tcb.rtmr2),
            ("info.tcb_info.rtmr3", Measured::Rtmr(3), tcb.rtmr3),
        ];
        Self {
            copies: copies
                .into_iter()
                .filter_map(|(field, of, raw)| text(raw).map(|text| Copied { field, of, text }))
                .collect(),
            device_id,
            other_device_id,
            event_log,
        }
    }
}

/// A copy's text; an empty one says nothing.
fn text(raw: Option<&RawValue>) -> Option<String> {
    let raw = present(raw)?;
    let text = serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned());
    Some(text).filter(|text| !text.is_empty())
}

/// dstack strips payloads from one of the two logs: what was measured are digests.
fn other_events(again: &RawValue, measured: &[Event]) -> Option<String> {
    let digests = |events: &[Event]| -> Vec<_> {
        events
            .iter()
            .map(|event| (event.register, event.digest))
            .collect()
    };
    match events("info.tcb_info.event_log", Some(again)) {
        Ok(events) if digests(&events) == digests(measured) => None,
        Ok(events) => Some(format!("a list of {} other events", events.len())),
        Err(unreadable) => Some(unreadable.to_string()),
    }
}

pub(super) fn object<'a, T: Deserialize<'a>>(
    field: impl Into<String>,
    raw: Option<&'a RawValue>,
) -> Result<T, Rejected> {
    let field = field.into();
    let Some(raw) = present(raw) else {
        return Err(missing(&field));
    };
    json::checked_object(raw.get()).map_err(|detail| Rejected::EvidenceBadField {
        field,
        expected: "an object with its fields",
        got: detail,
    })
}

pub(super) fn string<'a>(
    field: &'static str,
    raw: Option<&'a RawValue>,
) -> Result<Cow<'a, str>, Rejected> {
    optional_string(field, raw)?.ok_or_else(|| missing(field))
}

/// `null` is absence.
pub(super) fn optional_string<'a>(
    field: &'static str,
    raw: Option<&'a RawValue>,
) -> Result<Option<Cow<'a, str>>, Rejected> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let Some(raw) = present(raw) else {
        return Ok(None);
    };
    match serde_json::from_str::<Text<'a>>(raw.get()) {
        Ok(text) => Ok(Some(text.0)),
        Err(_) => Err(bad(field, "a string", raw.get())),
    }
}

pub(super) fn present(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| raw.get() != "null")
}

pub(super) fn fixed_hex<const LEN: usize>(
    field: &'static str,
    text: &str,
    expected: &'static str,
) -> Result<[u8; LEN], Rejected> {
    hex_array(text).ok_or_else(|| bad(field, expected, text))
}

pub(super) fn bounded(field: &'static str, text: Cow<'_, str>) -> Result<String, Rejected> {
    if text.len() > MAX_NAME_BYTES {
        return Err(bad(field, "at most 512 bytes", &text));
    }
    Ok(text.into_owned())
}

fn missing(field: &str) -> Rejected {
    Rejected::EvidenceMissingField {
        field: field.to_owned(),
    }
}

pub(super) fn bad(field: impl Into<String>, expected: &'static str, got: &str) -> Rejected {
    Rejected::EvidenceBadField {
        field: field.into(),
        expected,
        got: quoted(got),
    }
}

pub(super) fn unreadable(error: JsonError) -> Rejected {
    match error {
        JsonError::Syntax(detail) => Rejected::EvidenceNotJson { detail },
        JsonError::DuplicateKey(key) => Rejected::EvidenceDuplicateKey { key },
        JsonError::TooComplex(detail) => Rejected::EvidenceTooComplex { detail },
    }
}

fn nested_error(field: &'static str, error: JsonError) -> Rejected {
    match error {
        JsonError::Syntax(detail) => bad(field, "JSON in a string", &detail),
        other => unreadable(other),
    }
}
