//! How the report's fields are read: each absent, wrong or doubled one by its name.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Copied, Measured, Repeated, SigningAlgo, SigningKey};
use crate::base::json::{self, BadMember, JsonError, Members};
use crate::base::text::{hex_array, hex_bytes, quoted};
use crate::dstack::event_log::{DigestForm, Event, RUNTIME_EVENT};
use crate::dstack::vm_config::VmConfig;
use crate::refusals::Rejected;

/// The members of an object of the report.
pub(super) type Report<'a> = Members<'a, Rejected>;

/// Real logs have 30 events; an application may add some of its own.
const MAX_EVENTS: usize = 4096;

/// The longest payload seen has 8 KB (a key-provider event has 200 bytes).
const MAX_EVENT_PAYLOAD_BYTES: usize = 64 << 10;

/// Names are shown to people and compared; the longest seen has 40 characters.
const MAX_NAME_BYTES: usize = 512;

#[derive(Deserialize)]
struct WireEvent<'a> {
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

pub(super) fn signing_key(report: &Report<'_>) -> Result<SigningKey, Rejected> {
    let algo = match &*report.string("signing_algo")? {
        "ecdsa" => SigningAlgo::Ecdsa,
        "ed25519" => SigningAlgo::Ed25519,
        other => return Err(bad("signing_algo", "ecdsa or ed25519", other)),
    };
    let text = report.string("signing_address")?;
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
    let raw = raw.ok_or_else(|| Rejected::missing(field))?;
    let nested;
    let text = if raw.get().starts_with('"') {
        nested = json::string::<Rejected>(field, raw)?;
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
    let wire: WireEvent<'_> = json::checked_object(raw.get()).map_err(|got| {
        Rejected::bad(
            &format!("{list}[{index}]"),
            "an object with its fields",
            got,
        )
    })?;
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
        let form = match wire.version.map_or("1", RawValue::get) {
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

/// The host's words on the machine's shape, if there are any.
pub(super) fn vm_config(text: Option<Cow<'_, str>>) -> Result<Option<VmConfig>, Rejected> {
    let config = text.map(|text| VmConfig::parse(&text)).transpose();
    config.map_err(|error| nested_error("info.vm_config", error))
}

impl Repeated {
    pub(super) fn read(info: &Report<'_>, tcb: &Report<'_>, measured: Option<&[Event]>) -> Self {
        let device_id = text(info, "device_id");
        let other_device_id = text(tcb, "device_id")
            .filter(|other| device_id.as_ref().is_some_and(|own| own != other));
        let event_log = tcb.get("event_log").zip(measured);
        let copies = [
            (info, "info.app_id", Measured::AppId),
            (info, "info.instance_id", Measured::InstanceId),
            (info, "info.key_provider_info", Measured::KeyProvider),
            (info, "info.compose_hash", Measured::ComposeHash),
            (tcb, "info.tcb_info.compose_hash", Measured::ComposeHash),
            (info, "info.os_image_hash", Measured::OsImageHash),
            (tcb, "info.tcb_info.os_image_hash", Measured::OsImageHash),
            (tcb, "info.tcb_info.mrtd", Measured::Mrtd),
            (tcb, "info.tcb_info.rtmr0", Measured::Rtmr(0)),
            (tcb, "info.tcb_info.rtmr1", Measured::Rtmr(1)),
            (tcb, "info.tcb_info.rtmr2", Measured::Rtmr(2)),
            (tcb, "info.tcb_info.rtmr3", Measured::Rtmr(3)),
        ];
        let copies = copies.into_iter().filter_map(|(members, field, of)| {
            text(members, field).map(|text| Copied { field, of, text })
        });
        Self {
            copies: copies.collect(),
            device_id,
            other_device_id,
            event_log: event_log.and_then(|(again, measured)| other_events(again, measured)),
        }
    }
}

/// A copy's text; an empty one says nothing.
fn text(members: &Report<'_>, field: &str) -> Option<String> {
    let raw = members.get(field)?;
    let text = json::value(raw).unwrap_or_else(|| raw.get().to_owned());
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

pub(super) fn fixed_hex<const LEN: usize>(
    field: &'static str,
    text: &str,
    expected: &'static str,
) -> Result<[u8; LEN], Rejected> {
    hex_array(text).ok_or_else(|| bad(field, expected, text))
}

pub(super) fn bounded(report: &Report<'_>, field: &str) -> Result<String, Rejected> {
    let text = report.string(field)?;
    if text.len() > MAX_NAME_BYTES {
        return Err(bad(field, "at most 512 bytes", &text));
    }
    Ok(text.into_owned())
}

impl BadMember for Rejected {
    fn missing(path: &str) -> Self {
        let field = path.to_owned();
        Self::EvidenceMissingField { field }
    }

    fn bad(path: &str, expected: &'static str, got: String) -> Self {
        let field = path.to_owned();
        Self::EvidenceBadField {
            field,
            expected,
            got,
        }
    }
}

pub(super) fn bad(field: impl AsRef<str>, expected: &'static str, got: &str) -> Rejected {
    Rejected::bad(field.as_ref(), expected, quoted(got))
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
