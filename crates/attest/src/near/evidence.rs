//! The backend's attestation report (JSON), read once and bounded.
//!
//! Reading proves nothing. It refuses what could be understood in two ways and
//! gives every value a type; the layout is that of NEAR's inference proxy,
//! `GET /v1/attestation/report`.

mod wire;

use std::borrow::Cow;

use serde_json::value::RawValue;

pub(crate) use self::wire::events;
use self::wire::{Report, bad, bounded, fixed_hex, signing_key, unreadable, vm_config};
use crate::base::identifiers::Spki;
use crate::base::json;
use crate::base::text::hex_bytes;
use crate::dstack::event_log::Event;
use crate::dstack::vm_config::VmConfig;
use crate::intel::collateral::CollateralKey;
use crate::intel::quote::ParsedQuote;
use crate::refusals::Rejected;

/// Real reports have 0.32 to 0.35 MB.
pub const MAX_REPORT_BYTES: usize = 2 << 20;

/// A real quote has 5,010 bytes, of which 3.7 KB are certificates.
pub(crate) const MAX_QUOTE_BYTES: usize = 64 << 10;

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
///
/// What only dstack's guests have is a `Result`: a policy that looks at no software
/// verifies a machine without it.
#[derive(Debug)]
pub struct Evidence {
    pub(crate) model_name: String,
    pub(crate) signing_key: SigningKey,
    /// As it stands in the report: compared as text, so that no second
    /// spelling of a nonce passes.
    pub(crate) request_nonce: String,
    pub(crate) quote: ParsedQuote,
    pub(crate) events: Result<Vec<Event>, Rejected>,
    pub(crate) tls_key: Spki,
    pub(crate) app_compose: Result<String, Rejected>,
    pub(crate) app_cert: Result<Option<String>, Rejected>,
    pub(crate) vm: Result<Option<VmConfig>, Rejected>,
    /// As it stands in the report, to be compared with its second copy.
    pub(crate) vm_config: Option<String>,
    /// The JSON text of `compose_manager_attestation`; only its structure has
    /// been looked at.
    pub(crate) compose_manager: Option<String>,
    /// The JSON text of `nvidia_payload`, not looked at; none if it is empty.
    pub(crate) gpu_payload: Option<String>,
    /// These three refuse no report, whatever they are: see [`crate::near::keys`].
    pub(crate) signing_public_key: Option<Box<RawValue>>,
    pub(crate) ohttp_key_config: Option<Box<RawValue>>,
    pub(crate) ohttp_attestation: Option<Box<RawValue>>,
    pub(crate) repeated: Repeated,
}

/// Values that the report states a second time, or the host alone. They prove
/// nothing; what differs is told.
#[derive(Debug, Default)]
pub(crate) struct Repeated {
    pub(crate) copies: Vec<Copied>,
    pub(crate) device_id: Option<String>,
    /// `info.tcb_info.device_id`, if it is another one.
    pub(crate) other_device_id: Option<String>,
    /// How `info.tcb_info.event_log` differs from `event_log`.
    pub(crate) event_log: Option<String>,
}

/// A copy of something measured.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) field: &'static str,
    pub(crate) of: Measured,
    /// A value that is no string, as its JSON text.
    pub(crate) text: String,
}

/// What is measured, and repeated in reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measured {
    Mrtd,
    Rtmr(usize),
    AppId,
    ComposeHash,
    InstanceId,
    OsImageHash,
    KeyProvider,
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
        let report: Report<'_> = json::parse_object(bytes, &json::REPORT).map_err(unreadable)?;
        let info = report.object("info");
        let tcb = info
            .as_ref()
            .map_err(Rejected::clone)
            .and_then(|info| info.object("info.tcb_info"));
        let app_compose = tcb
            .as_ref()
            .map_err(Rejected::clone)
            .and_then(|tcb| tcb.string("info.tcb_info.app_compose"))
            .map(Cow::into_owned);
        let (info, tcb) = (info.unwrap_or_default(), tcb.unwrap_or_default());

        let signing_key = signing_key(&report)?;
        let tls_key = match report.optional_string("tls_cert_fingerprint")? {
            None => return Err(Rejected::EvidenceNoTlsFingerprint {}),
            Some(text) if text.is_empty() => return Err(Rejected::EvidenceNoTlsFingerprint {}),
            Some(text) => {
                Spki::from_bytes(fixed_hex("tls_cert_fingerprint", &text, "64 hex digits")?)
            }
        };
        let events = events("event_log", report.get("event_log"));
        let quote_text = report.string("intel_quote")?;
        if quote_text.len() > MAX_QUOTE_BYTES.saturating_mul(2) {
            return Err(Rejected::QuoteFormat {
                detail: format!("{} hex digits", quote_text.len()),
            });
        }
        let quote = hex_bytes(&quote_text).ok_or_else(|| bad("intel_quote", "hex", &quote_text))?;

        Ok(Self {
            model_name: bounded(&report, "model_name")?,
            signing_key,
            request_nonce: bounded(&report, "request_nonce")?,
            quote: ParsedQuote::parse(quote)?,
            repeated: Repeated::read(&info, &tcb, events.as_deref().ok()),
            events,
            tls_key,
            app_compose,
            app_cert: info.optional_string("info.app_cert").map(|pem| {
                pem.map(Cow::into_owned)
                    .filter(|pem| !pem.trim().is_empty())
            }),
            vm: info.optional_string("info.vm_config").and_then(vm_config),
            vm_config: info
                .get("info.vm_config")
                .and_then(json::text)
                .map(Cow::into_owned),
            compose_manager: report
                .get("compose_manager_attestation")
                .map(|raw| raw.get().to_owned()),
            gpu_payload: report
                .optional_string("nvidia_payload")?
                .map(Cow::into_owned)
                .filter(|payload| !payload.is_empty()),
            signing_public_key: report.get("signing_public_key").map(ToOwned::to_owned),
            ohttp_key_config: report.get("ohttp_key_config").map(ToOwned::to_owned),
            ohttp_attestation: report.get("ohttp_attestation").map(ToOwned::to_owned),
        })
    }

    /// What a policy that looks at software demands besides the quote: the first
    /// piece that is missing, or not as dstack writes it.
    pub(crate) fn is_of_dstack(&self) -> Result<(), Rejected> {
        self.app_compose.as_ref().map_err(Clone::clone)?;
        self.events.as_ref().map_err(Clone::clone)?;
        self.app_cert.as_ref().map_err(Clone::clone)?;
        self.memory_size()?;
        Ok(())
    }

    /// The machine's memory by its host's word, which the TD HOB confirms.
    pub(crate) fn memory_size(&self) -> Result<Option<u64>, Rejected> {
        match self.vm.as_ref().map_err(Clone::clone)? {
            None => Ok(None),
            Some(config) => config
                .memory
                .clone()
                .map_err(|got| bad("info.vm_config.memory_size", "a number of bytes", &got)),
        }
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
