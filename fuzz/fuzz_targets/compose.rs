//! Any text as the application description of a valid report.

#![no_main]

use attest_fuzz::{Base, write_seeds};
use libfuzzer_sys::{Corpus, fuzz_target};

const COMPOSE: &str = "/info/tcb_info/app_compose";

fuzz_target!(
    init: write_seeds(|base| {
        let text = base.text(COMPOSE);
        vec![text.into(), format!("{text}\n").into(), text.replace(' ', "").into(), b"{}".to_vec()]
    }),
    |data: &[u8]| -> Corpus {
        let Ok(text) = std::str::from_utf8(data) else {
            return Corpus::Reject;
        };
        let base = Base::get();
        let verifies = base.verifies(&base.with(COMPOSE, text.into()));
        assert_eq!(verifies, text == base.text(COMPOSE), "compose is bound byte for byte");
        Corpus::Keep
    }
);
