//! No bit of what is signed can be flipped: the quote, and Intel's documents.

use attest::{Collateral, FloorCheck};
use proptest::prelude::*;
use serde_json::Value;

use super::{base_evidence, built, judge_evidence, report, verifies};
use crate::support::cases;

/// The report with another quote.
fn with_quote(quote: &[u8]) -> Vec<u8> {
    let mut report = report().clone();
    report["intel_quote"] = hex::encode(quote).into();
    report.to_string().into_bytes()
}

/// The bytes of a quote of version 4 by what they are for, where nobody signs
/// them. A flip there may verify; anywhere else it must not.
fn is_framing(quote: &[u8], at: usize) -> bool {
    let begin = |nth: usize| {
        let starts = quote
            .windows(10)
            .enumerate()
            .filter(|(_, window)| window == b"-----BEGIN");
        starts.map(|(start, _)| start).nth(nth).unwrap()
    };
    let size: [u8; 4] = quote[begin(0) - 4..begin(0)].try_into().unwrap();
    let end = begin(0) + u32::from_le_bytes(size) as usize;
    // Length of the signature data: shorter by some of the zeros after the chain.
    (632..636).contains(&at)
        // Size of the chain: a shorter one may lose its root.
        || (begin(0) - 4..begin(0)).contains(&at)
        // Line ends of PEM.
        || (begin(0)..end).contains(&at) && quote[at].is_ascii_whitespace()
        // The copy of the root, and the zero that ends the chain: trust comes from
        // the root that is passed in.
        || (begin(2)..end).contains(&at)
}

fn flipped_quote_is_refused(at: usize, bit: u8) -> Result<(), String> {
    let mut quote = built().quote.clone();
    quote[at] ^= 1 << bit;
    if verifies(&with_quote(&quote)) && !is_framing(&built().quote, at) {
        return Err(format!("bit {bit} of byte {at} can be flipped"));
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_flipped_bit_of_the_quote_never_verifies(at in 0..built().quote.len(), bit in 0..8_u8) {
        flipped_quote_is_refused(at, bit).map_err(TestCaseError::fail)?;
    }
}

#[test]
#[ignore = "a minute: ./check --all runs it"]
fn no_byte_of_the_quote_can_be_flipped() {
    for at in 0..built().quote.len() {
        flipped_quote_is_refused(at, (at % 8) as u8).unwrap();
    }
}

/// A document of the collateral, decoded.
fn document(name: &str) -> Vec<u8> {
    let json: Value = serde_json::from_str(&built().collateral_json).unwrap();
    let text = json[name].as_str().unwrap();
    if IS_HEX.contains(&name) {
        hex::decode(text).unwrap()
    } else {
        text.into()
    }
}

const IS_HEX: [&str; 4] = [
    "root_ca_crl",
    "pck_crl",
    "tcb_info_signature",
    "qe_identity_signature",
];

const DOCUMENTS: [&str; 9] = [
    "pck_crl_issuer_chain",
    "root_ca_crl",
    "pck_crl",
    "tcb_info_issuer_chain",
    "tcb_info",
    "tcb_info_signature",
    "qe_identity_issuer_chain",
    "qe_identity",
    "qe_identity_signature",
];

/// The collateral with one document replaced; `None` if it cannot be read.
fn with_document(name: &str, bytes: Vec<u8>) -> Option<Collateral> {
    let mut json: Value = serde_json::from_str(&built().collateral_json).unwrap();
    json[name] = if IS_HEX.contains(&name) {
        hex::encode(bytes).into()
    } else {
        String::from_utf8(bytes).ok()?.into()
    };
    Collateral::from_json(json.to_string().as_bytes()).ok()
}

fn flipped_document_is_refused(name: &str, at: usize, bit: u8) -> Result<(), String> {
    let mut bytes = document(name);
    let at = at % bytes.len();
    let before = bytes[at];
    bytes[at] ^= 1 << bit;
    let Some(collateral) = with_document(name, bytes.clone()) else {
        return Ok(());
    };
    let appraisal = judge_evidence(base_evidence(), &collateral, FloorCheck::NotKept("a test"));
    if appraisal.outcome.is_err() {
        return Ok(());
    }
    // In PEM chains: line ends, and whatever follows the first certificate,
    // which is a copy of the root. The PCK CRL's issuer chain decides nothing:
    // the CRL's issuer is the one in the quote's chain.
    let first = bytes
        .windows(8)
        .position(|window| window == b"-----END")
        .unwrap_or(bytes.len());
    let is_framing = name.ends_with("_chain") && (before.is_ascii_whitespace() || at >= first);
    if is_framing || name == "pck_crl_issuer_chain" {
        return Ok(());
    }
    Err(format!("{name}: bit {bit} of byte {at} can be flipped"))
}

proptest! {
    #![proptest_config(cases(384))]

    #[test]
    fn a_flipped_bit_of_the_collateral_never_verifies(
        name in prop::sample::select(DOCUMENTS.to_vec()),
        at in any::<usize>(),
        bit in 0..8_u8,
    ) {
        flipped_document_is_refused(name, at, bit).map_err(TestCaseError::fail)?;
    }
}

#[test]
#[ignore = "a minute: ./check --all runs it"]
fn no_byte_of_the_collateral_can_be_flipped() {
    for name in DOCUMENTS {
        for at in 0..document(name).len() {
            flipped_document_is_refused(name, at, (at % 8) as u8).unwrap();
        }
    }
}
