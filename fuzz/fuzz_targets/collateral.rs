//! Any bytes as the collateral for a valid report.

#![no_main]

use attest::Collateral;
use attest_fuzz::{Base, first_certificate, must_be_printable, write_seeds};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// The documents and the certificates that sign them. White space between
/// certificates and copies of the root may differ: trust comes from the root
/// that is passed in.
fn meaning(collateral: &[u8]) -> Value {
    let json: Value = serde_json::from_slice(collateral).unwrap_or_default();
    let text = |name: &str| json[name].as_str().unwrap_or_default();
    json!({
        "tcb_info": text("tcb_info"),
        "tcb_info_signature": text("tcb_info_signature").to_ascii_lowercase(),
        "tcb_info_issuer": first_certificate(text("tcb_info_issuer_chain")),
        "qe_identity": text("qe_identity"),
        "qe_identity_signature": text("qe_identity_signature").to_ascii_lowercase(),
        "qe_identity_issuer": first_certificate(text("qe_identity_issuer_chain")),
        "root_ca_crl": text("root_ca_crl").to_ascii_lowercase(),
        "pck_crl": text("pck_crl").to_ascii_lowercase(),
    })
}

fuzz_target!(
    init: write_seeds(|base| {
        let json: Value = serde_json::from_str(&base.collateral_json).expect("JSON");
        let mut seeds = vec![base.collateral_json.as_bytes().to_vec()];
        // Inside JSON, each document is hard to reach: one level expired, one renamed.
        for (from, to) in [("UpToDate", "OutOfDate"), ("nextUpdate", "issueDate"), ("\"TDX\"", "\"SGX\"")] {
            let mut other = json.clone();
            let text = other["tcb_info"].as_str().unwrap_or_default().replace(from, to);
            other["tcb_info"] = text.into();
            seeds.push(other.to_string().into());
        }
        seeds
    }),
    |data: &[u8]| {
        let base = Base::get();
        let collateral = match Collateral::from_json(data) {
            Ok(collateral) => collateral,
            Err(rejected) => return must_be_printable(&rejected.to_string()),
        };
        let report = base.report.to_string();
        let appraisal = base.judge_with(report.as_bytes(), &collateral).expect("the base can be read");
        if appraisal.outcome.is_ok() {
            assert_eq!(meaning(data), meaning(base.collateral_json.as_bytes()), "other collateral verifies");
        }
    }
);
