//! `report_data = SHA-256(signing_address || live SPKI) || nonce`
//!
//! The formula of NEAR's inference proxy, with the LIVE key in it: a report
//! about another key cannot satisfy it. The older layout (address, zeros,
//! nonce) binds no TLS key and is never tried.

use crate::base::hash;
use crate::base::identifiers::{Nonce, Spki};
use crate::base::text::shown;
use crate::intel::quote::MeasuredTd;
use crate::near::evidence::Evidence;
use crate::refusals::Rejected;

/// The key that the report names is the one of this connection.
pub(crate) fn tls_key(evidence: &Evidence, live: Spki) -> Result<(), Rejected> {
    if evidence.tls_key == live {
        return Ok(());
    }
    Err(Rejected::SpkiMismatch {
        live: live.to_string(),
        attested: evidence.tls_key.to_string(),
    })
}

/// Report and quote carry the nonce that was sent. The report's copy must be
/// spelled as it was sent: 64 lower-case hex digits.
pub(crate) fn nonce(evidence: &Evidence, td: &MeasuredTd, sent: Nonce) -> Result<(), Rejected> {
    let mismatch = |got: String| Rejected::Nonce {
        sent: sent.to_string(),
        got,
    };
    if evidence.request_nonce != sent.to_string() {
        return Err(mismatch(format!(
            "request_nonce {}",
            shown(&evidence.request_nonce)
        )));
    }
    let (_, quoted) = halves(&td.report_data);
    if quoted != *sent.as_bytes() {
        return Err(mismatch(format!("report_data {}", hex::encode(quoted))));
    }
    Ok(())
}

/// The quote vouches for signing key and TLS key together.
pub(crate) fn report_data(
    evidence: &Evidence,
    td: &MeasuredTd,
    live: Spki,
) -> Result<(), Rejected> {
    let expected = hash::sha256(&[evidence.signing_key.address(), live.as_bytes()]);
    let (got, _) = halves(&td.report_data);
    if got == expected {
        return Ok(());
    }
    Err(Rejected::ReportData {
        expected: hex::encode(expected),
        got: hex::encode(got),
    })
}

fn halves(report_data: &[u8; 64]) -> ([u8; 32], [u8; 32]) {
    let (mut first, mut second) = ([0; 32], [0; 32]);
    let (low, high) = report_data.split_at(32);
    first.copy_from_slice(low);
    second.copy_from_slice(high);
    (first, second)
}
