//! Keys beside TLS, OHTTP's and that of end-to-end encryption: forged, recorded, and
//! changed. The proxy uses none of them: nothing here refuses a machine.

mod e2ee;
mod ohttp;
mod properties;
mod recorded;
mod unused;

use attest::{Evidence, NotBound};
use fake_tee::{Signing, Spec};
use serde_json::Value;

use crate::support::{challenge, spec};

/// The valid machine, with its ECDSA key attested.
pub(crate) fn ecdsa() -> Spec {
    let mut spec = spec();
    spec.signing = Signing::ecdsa();
    spec
}

/// The report of a machine, before a change to the JSON.
pub(crate) fn report(spec: &Spec) -> Value {
    spec.forge(&challenge()).unwrap().report
}

fn evidence(report: &Value) -> Evidence {
    Evidence::parse(report.to_string().as_bytes()).unwrap()
}

/// What is said of a report's OHTTP keys.
pub(crate) fn judge_ohttp(report: &Value) -> Result<Vec<Vec<u8>>, NotBound> {
    let evidence = evidence(report);
    evidence.ohttp_keys(evidence.signing_key())
}

/// What is said of a report's `signing_public_key`.
pub(crate) fn judge_e2ee(report: &Value) -> Result<Vec<u8>, NotBound> {
    let evidence = evidence(report);
    evidence.encryption_key(evidence.signing_key())
}

pub(crate) fn word<K>(outcome: &Result<K, NotBound>) -> &'static str {
    match outcome {
        Ok(_) => "bound",
        Err(NotBound::NotProved(_)) => "not proved",
        Err(NotBound::Contradicted(_)) => "contradicted",
    }
}
