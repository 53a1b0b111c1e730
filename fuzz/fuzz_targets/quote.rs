//! Any bytes as the quote of a valid report.

#![no_main]

use attest_fuzz::{Base, quote_verified, signed_part, write_seeds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: write_seeds(|base| vec![base.quote(), base.quote_v5.clone()]),
    |data: &[u8]| {
        let base = Base::get();
        let report = base.with("/intel_quote", hex::encode(data).into());
        let Some(appraisal) = base.judge(&report) else {
            return;
        };
        if quote_verified(&appraisal) {
            let genuine = [base.quote(), base.quote_v5.clone()];
            assert!(
                genuine.iter().any(|quote| signed_part(quote) == signed_part(data)),
                "a quote verifies that no key signed"
            );
        }
    }
);
