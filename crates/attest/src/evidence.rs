//! The backend's attestation report (JSON), read once and bounded.
//!
//! Reading proves nothing. It refuses what could be understood in two ways and
//! gives every value a type; the layout is that of NEAR's inference proxy,
//! `GET /v1/attestation/report`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::collateral::CollateralKey;
use crate::event_log::Event;
use crate::json::{self, JsonError};
use crate::quote::ParsedQuote;
use crate::text::{hex_array, hex_bytes, quoted, shown};
use crate::{Rejected, Spki};

/// Real reports have 0.32 to 0.35 MB.
pub const MAX_REPORT_BYTES: usize = 2 << 20;

/// A real quote has 5,010 bytes, of which 3.7 KB are certificates.
pub(crate) const MAX_QUOTE_BYTES: usize = 64 << 10;

/// Real logs have 30 events; an application may add some of its own.
const MAX_EVENTS: usize = 4096;

/// The longest payload seen has 8 KB (a key-provider event has 200 bytes).
const MAX_EVENT_PAYLOAD_BYTES: usize = 64 << 10;

/// Names are shown to people and compared; the longest seen has 40 characters.
const MAX_NAME_BYTES: usize = 512;

/// The algorithm of the key that signs answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SigningAlgo {
    /// secp256k1; the address is Ethereum's, 20 bytes.
    Ecdsa,
    /// The address is the public key, 32 bytes.
    Ed25519,
}

impl SigningAlgo {
    /// The word that the report and its query use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ecdsa => "ecdsa",
            Self::Ed25519 => "ed25519",
        }
    }

    /// Bytes of an address.
    #[must_use]
    pub const fn address_len(self) -> usize {
        match self {
            Self::Ecdsa => 20,
            Self::Ed25519 => 32,
        }
    }
}

/// The key that signs the backend's answers, by its address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SigningKey {
    algo: SigningAlgo,
    address: Vec<u8>,
}

impl SigningKey {
    /// The algorithm.
    #[must_use]
    pub fn algo(&self) -> SigningAlgo {
        self.algo
    }

    /// 20 bytes for ECDSA, 32 for Ed25519.
    #[must_use]
    pub fn address(&self) -> &[u8] {
        &self.address
    }
}

/// `algo:hex`, as policies pin it.
impl std::fmt::Display for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.algo.as_str(), hex::encode(&self.address))
    }
}

/// A report that has been read; nothing in it is proved yet.
#[derive(Debug)]
pub struct Evidence {
    pub(crate) model_name: String,
    pub(crate) signing_key: SigningKey,
    /// As it stands in the report: compared as text, so that no second
    /// spelling of a nonce passes.
    pub(crate) request_nonce: String,
    pub(crate) quote: ParsedQuote,
    pub(crate) events: Vec<Event>,
    pub(crate) tls_key: Spki,
    pub(crate) app_compose: String,
    pub(crate) app_cert: Option<String>,
    pub(crate) vm: VmShape,
    /// As it stands in the report, to be compared with its second copy.
    pub(crate) vm_config: Option<String>,
    /// The JSON text of `compose_manager_attestation`; only its structure has
    /// been looked at.
    pub(crate) compose_manager: Option<String>,
    /// The JSON text of `nvidia_payload`, not looked at; none if it is empty.
    pub(crate) gpu_payload: Option<String>,
    pub(crate) signing_public_key: Option<String>,
    pub(crate) ohttp_key_config: Option<String>,
    /// The JSON text of `ohttp_attestation`, not looked at.
    pub(crate) ohttp_attestation: Option<String>,
    pub(crate) repeated: Repeated,
}

/// What the host says of the machine's shape; of it only the memory is measured.
#[derive(Debug, Default)]
pub(crate) struct VmShape {
    /// Bytes.
    pub(crate) memory_size: Option<u64>,
    pub(crate) num_gpus: Option<u64>,
}

/// Values that the report states a second time. They prove nothing; where they
/// stand they must agree with what is measured.
#[derive(Debug, Default)]
pub(crate) struct Repeated {
    pub(crate) compose_hashes: Vec<(&'static str, String)>,
    pub(crate) app_id: Option<String>,
    pub(crate) instance_id: Option<String>,
    pub(crate) os_image_hashes: Vec<(&'static str, String)>,
    pub(crate) key_provider_info: Option<String>,
    pub(crate) registers: Vec<(&'static str, Register, String)>,
    pub(crate) device_id: Option<String>,
}

/// A measurement register of the quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Register {
    Mrtd,
    Rtmr(u8),
}

impl Evidence {
    /// Reads a report.
    ///
    /// # Errors
    /// An `evidence_*` refusal, or `rejected_quote_*` if the quote inside does
    /// not have the layout of a TDX quote.
    pub fn parse(bytes: &[u8]) -> Result<Self, Rejected> {
        if bytes.len() > MAX_REPORT_BYTES {
            return Err(Rejected::EvidenceTooLarge {
                len: bytes.len(),
                max: MAX_REPORT_BYTES,
            });
        }
        let wire: Wire<'_> = json::parse_object(bytes, &json::REPORT).map_err(unreadable)?;
        let info: WireInfo<'_> = object("info", wire.info)?;
        let tcb: WireTcbInfo<'_> = object("info.tcb_info", info.tcb_info)?;

        let signing_key = signing_key(&wire)?;
        let tls_key = match optional_string("tls_cert_fingerprint", wire.tls_cert_fingerprint)? {
            None => return Err(Rejected::EvidenceNoTlsFingerprint {}),
            Some(text) if text.is_empty() => return Err(Rejected::EvidenceNoTlsFingerprint {}),
            Some(text) => {
                Spki::from_bytes(fixed_hex("tls_cert_fingerprint", &text, "64 hex digits")?)
            }
        };
        let events = events("event_log", wire.event_log)?;
        if let Some(again) = tcb.event_log
            && self::events("info.tcb_info.event_log", Some(again))? != events
        {
            return Err(Rejected::EvidenceInconsistent {
                field: "info.tcb_info.event_log",
                got: "another list of events".to_owned(),
                with: "event_log",
                expected: format!("a list of {}", events.len()),
            });
        }
        let quote_text = string("intel_quote", wire.intel_quote)?;
        if quote_text.len() > MAX_QUOTE_BYTES.saturating_mul(2) {
            return Err(Rejected::QuoteFormat {
                detail: format!("{} hex digits", quote_text.len()),
            });
        }
        let quote = hex_bytes(&quote_text).ok_or_else(|| bad("intel_quote", "hex", &quote_text))?;

        Ok(Self {
            model_name: bounded("model_name", string("model_name", wire.model_name)?)?,
            signing_key,
            request_nonce: bounded(
                "request_nonce",
                string("request_nonce", wire.request_nonce)?,
            )?,
            quote: ParsedQuote::parse(quote)?,
            events,
            tls_key,
            app_compose: string("info.tcb_info.app_compose", tcb.app_compose)?.into_owned(),
            app_cert: optional_string("info.app_cert", info.app_cert)?
                .map(Cow::into_owned)
                .filter(|pem| !pem.trim().is_empty()),
            vm: vm_shape(info.vm_config)?,
            vm_config: optional_string("info.vm_config", info.vm_config)?.map(Cow::into_owned),
            compose_manager: present(wire.compose_manager_attestation)
                .map(|raw| raw.get().to_owned()),
            gpu_payload: optional_string("nvidia_payload", wire.nvidia_payload)?
                .map(Cow::into_owned)
                .filter(|payload| !payload.is_empty()),
            signing_public_key: optional_string("signing_public_key", wire.signing_public_key)?
                .map(Cow::into_owned),
            ohttp_key_config: optional_string("ohttp_key_config", wire.ohttp_key_config)?
                .map(Cow::into_owned),
            ohttp_attestation: present(wire.ohttp_attestation).map(|raw| raw.get().to_owned()),
            repeated: Repeated::read(&info, &tcb)?,
        })
    }

    /// What to ask a PCS for, by the certificate inside the quote.
    ///
    /// # Errors
    /// [`Rejected::QuoteFormat`] if the quote carries no PCK certificate.
    pub fn collateral_key(&self) -> Result<CollateralKey, Rejected> {
        self.quote.collateral_key()
    }

    /// The key that signs answers, as the report claims it.
    #[must_use]
    pub fn signing_key(&self) -> &SigningKey {
        &self.signing_key
    }

    /// The GPUs' evidence, as it goes to NVIDIA's attestation service unchanged;
    /// nothing in it is proved.
    #[must_use]
    pub fn gpu_payload(&self) -> Option<&str> {
        self.gpu_payload.as_deref()
    }

    /// The model, as the report claims it.
    #[must_use]
    pub fn model_name(&self) -> &str {
        &self.model_name
    }
}

/// The top level. Every field is optional here so that its absence is named.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    model_name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    signing_address: Option<&'a RawValue>,
    #[serde(borrow, default)]
    signing_algo: Option<&'a RawValue>,
    #[serde(borrow, default)]
    signing_public_key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    request_nonce: Option<&'a RawValue>,
    #[serde(borrow, default)]
    intel_quote: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event_log: Option<&'a RawValue>,
    #[serde(borrow, default)]
    info: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tls_cert_fingerprint: Option<&'a RawValue>,
    #[serde(borrow, default)]
    compose_manager_attestation: Option<&'a RawValue>,
    #[serde(borrow, default)]
    nvidia_payload: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ohttp_key_config: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ohttp_attestation: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireInfo<'a> {
    #[serde(borrow, default)]
    app_cert: Option<&'a RawValue>,
    #[serde(borrow, default)]
    app_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    compose_hash: Option<&'a RawValue>,
    #[serde(borrow, default)]
    device_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    instance_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    key_provider_info: Option<&'a RawValue>,
    #[serde(borrow, default)]
    os_image_hash: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tcb_info: Option<&'a RawValue>,
    #[serde(borrow, default)]
    vm_config: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireTcbInfo<'a> {
    #[serde(borrow, default)]
    app_compose: Option<&'a RawValue>,
    #[serde(borrow, default)]
    compose_hash: Option<&'a RawValue>,
    #[serde(borrow, default)]
    device_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event_log: Option<&'a RawValue>,
    #[serde(borrow, default)]
    os_image_hash: Option<&'a RawValue>,
    #[serde(borrow, default)]
    mrtd: Option<&'a RawValue>,
    #[serde(borrow, default)]
    rtmr0: Option<&'a RawValue>,
    #[serde(borrow, default)]
    rtmr1: Option<&'a RawValue>,
    #[serde(borrow, default)]
    rtmr2: Option<&'a RawValue>,
    #[serde(borrow, default)]
    rtmr3: Option<&'a RawValue>,
}

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
}

#[derive(Deserialize)]
struct WireVmConfig<'a> {
    #[serde(borrow, default)]
    memory_size: Option<&'a RawValue>,
    #[serde(borrow, default)]
    num_gpus: Option<&'a RawValue>,
}

fn signing_key(wire: &Wire<'_>) -> Result<SigningKey, Rejected> {
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
    let digest = hex_array(&wire.digest)
        .ok_or_else(|| bad(field("digest"), "96 hex digits", &wire.digest))?;
    if wire.event_payload.len() > MAX_EVENT_PAYLOAD_BYTES.saturating_mul(2) {
        return Err(bad(field("event_payload"), "at most 64 KiB", "more"));
    }
    let payload = hex_bytes(&wire.event_payload)
        .ok_or_else(|| bad(field("event_payload"), "hex", &wire.event_payload))?;
    if wire.event.len() > MAX_NAME_BYTES {
        return Err(bad(field("event"), "a short name", &wire.event));
    }
    Ok(Event {
        register,
        kind: wire.event_type,
        digest,
        name: wire.event.clone().into_owned(),
        payload,
    })
}

fn vm_shape(vm_config: Option<&RawValue>) -> Result<VmShape, Rejected> {
    let Some(text) = optional_string("info.vm_config", vm_config)? else {
        return Ok(VmShape::default());
    };
    let config: WireVmConfig<'_> = json::parse_object(text.as_bytes(), &json::NESTED)
        .map_err(|error| nested_error("info.vm_config", error))?;
    let number = |field: &'static str, expected, raw| match present(raw) {
        None => Ok(None),
        Some(raw) => serde_json::from_str(raw.get())
            .map(Some)
            .map_err(|_| bad(field, expected, raw.get())),
    };
    Ok(VmShape {
        memory_size: number(
            "info.vm_config.memory_size",
            "a number of bytes",
            config.memory_size,
        )?,
        num_gpus: number(
            "info.vm_config.num_gpus",
            "a number of GPUs",
            config.num_gpus,
        )?,
    })
}

impl Repeated {
    fn read(info: &WireInfo<'_>, tcb: &WireTcbInfo<'_>) -> Result<Self, Rejected> {
        let text = |field: &'static str, raw: Option<&RawValue>| -> Result<_, Rejected> {
            Ok(match optional_string(field, raw)? {
                Some(text) if !text.is_empty() => Some(text.into_owned()),
                _ => None,
            })
        };
        let mut repeated = Self {
            app_id: text("info.app_id", info.app_id)?,
            instance_id: text("info.instance_id", info.instance_id)?,
            key_provider_info: text("info.key_provider_info", info.key_provider_info)?,
            device_id: text("info.device_id", info.device_id)?,
            ..Self::default()
        };
        for (field, raw) in [
            ("info.compose_hash", info.compose_hash),
            ("info.tcb_info.compose_hash", tcb.compose_hash),
        ] {
            repeated
                .compose_hashes
                .extend(text(field, raw)?.map(|value| (field, value)));
        }
        for (field, raw) in [
            ("info.os_image_hash", info.os_image_hash),
            ("info.tcb_info.os_image_hash", tcb.os_image_hash),
        ] {
            repeated
                .os_image_hashes
                .extend(text(field, raw)?.map(|value| (field, value)));
        }
        for (field, register, raw) in [
            ("info.tcb_info.mrtd", Register::Mrtd, tcb.mrtd),
            ("info.tcb_info.rtmr0", Register::Rtmr(0), tcb.rtmr0),
            ("info.tcb_info.rtmr1", Register::Rtmr(1), tcb.rtmr1),
            ("info.tcb_info.rtmr2", Register::Rtmr(2), tcb.rtmr2),
            ("info.tcb_info.rtmr3", Register::Rtmr(3), tcb.rtmr3),
        ] {
            repeated
                .registers
                .extend(text(field, raw)?.map(|value| (field, register, value)));
        }
        if let Some(again) = text("info.tcb_info.device_id", tcb.device_id)?
            && let Some(device_id) = &repeated.device_id
            && again != *device_id
        {
            return Err(Rejected::EvidenceInconsistent {
                field: "info.tcb_info.device_id",
                got: shown(&again),
                with: "info.device_id",
                expected: shown(device_id),
            });
        }
        Ok(repeated)
    }
}

fn object<'a, T: Deserialize<'a>>(
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

fn string<'a>(field: &'static str, raw: Option<&'a RawValue>) -> Result<Cow<'a, str>, Rejected> {
    optional_string(field, raw)?.ok_or_else(|| missing(field))
}

/// `null` is absence.
fn optional_string<'a>(
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

fn present(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| raw.get() != "null")
}

fn fixed_hex<const LEN: usize>(
    field: &'static str,
    text: &str,
    expected: &'static str,
) -> Result<[u8; LEN], Rejected> {
    hex_array(text).ok_or_else(|| bad(field, expected, text))
}

fn bounded(field: &'static str, text: Cow<'_, str>) -> Result<String, Rejected> {
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

fn bad(field: impl Into<String>, expected: &'static str, got: &str) -> Rejected {
    Rejected::EvidenceBadField {
        field: field.into(),
        expected,
        got: quoted(got),
    }
}

fn unreadable(error: JsonError) -> Rejected {
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
