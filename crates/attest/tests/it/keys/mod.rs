//! Keys beside TLS, OHTTP's and that of end-to-end encryption: forged, recorded, and
//! changed.

mod e2ee;
mod ohttp;
mod properties;
mod recorded;

use attest::{
    E2eeKey, Evidence, KeyStatus, KeysRejected, OhttpKey, OhttpWire, e2ee_key, ohttp_key,
};
use fake_tee::{Signing, Spec};
use serde_json::Value;

use crate::support::{challenge, spec};

/// The valid machine, with its ECDSA key attested.
pub(crate) fn ecdsa() -> Spec {
    let mut spec = spec();
    spec.signing = Signing::ecdsa();
    spec
}

/// What a report says of OHTTP, before a change to the JSON.
pub(crate) fn report(spec: &Spec) -> Value {
    spec.forge(&challenge()).unwrap().report
}

/// What is said of a report's OHTTP key.
pub(crate) fn judge_ohttp(report: &Value) -> Result<KeyStatus<OhttpKey>, KeysRejected> {
    let evidence = Evidence::parse(report.to_string().as_bytes()).unwrap();
    let attestation = report.get("ohttp_attestation").map(Value::to_string);
    ohttp_key(
        OhttpWire {
            key_config: report.get("ohttp_key_config").and_then(Value::as_str),
            attestation: attestation.as_deref(),
        },
        evidence.signing_key(),
    )
}

/// What is said of a report's `signing_public_key`, or of another text in its place.
pub(crate) fn judge_e2ee(
    report: &Value,
    public: Option<&str>,
) -> Result<KeyStatus<E2eeKey>, KeysRejected> {
    let evidence = Evidence::parse(report.to_string().as_bytes()).unwrap();
    e2ee_key(public, evidence.signing_key())
}

/// The code of a refusal, or one of "bound", "not bound", "absent".
pub(crate) fn code<K>(outcome: &Result<KeyStatus<K>, KeysRejected>) -> &'static str {
    match outcome {
        Ok(KeyStatus::Bound(_)) => "bound",
        Ok(KeyStatus::NotBound(_)) => "not bound",
        Ok(KeyStatus::Absent(_)) => "absent",
        Err(rejected) => rejected.code(),
    }
}
