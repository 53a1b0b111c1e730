//! Any text as a policy.

#![no_main]

use attest::Policy;
use attest_fuzz::{must_be_printable, write_seeds};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(
    init: write_seeds(|base| {
        let own = |policy: Policy| policy.to_toml().replacen("name = \"", "name = \"own ", 1).into_bytes();
        vec![
            base.policy_toml().into(),
            own(Policy::near()),
            own(Policy::hardware()),
            b"name = \"x\"\nextends = \"near\"\ndate = \"2026-11-22\"\nacpi = \"report\"\ntcb.min_evaluation_number = 17\n".to_vec(),
            b"name = \"x\"\nextends = \"hardware\"\ndate = \"2026-11-22\"\ntcb.accept = [\"UpToDate\"]\ntcb.accept_advisories = [{ status = \"OutOfDate\", advisories = [\"INTEL-SA-01036\"] }]\npins.signing_keys = [\"ecdsa:0000000000000000000000000000000000000000\"]\n".to_vec(),
        ]
    }),
    |data: &[u8]| -> Corpus {
        let Ok(text) = std::str::from_utf8(data) else {
            return Corpus::Reject;
        };
        let policy = match Policy::from_toml(text) {
            Ok(policy) => policy,
            Err(error) => {
                // A few lines, with a mark under the place.
                let error = error.to_string();
                assert!(error.lines().count() <= 12, "{error}");
                error.lines().for_each(must_be_printable);
                return Corpus::Keep;
            }
        };
        must_be_printable(policy.name());
        let again = Policy::from_toml(text).expect("reading a policy again is no different");
        assert_eq!(policy.digest(), again.digest());
        let written = policy.to_toml();
        let reread = match Policy::from_toml(&written) {
            Ok(reread) => reread,
            Err(error) => {
                // The name of a built-in policy belongs to its own text only.
                let is_built_in = matches!(policy.name(), "near" | "hardware");
                assert!(is_built_in, "a written policy cannot be read: {error}\n{written}");
                return Corpus::Keep;
            }
        };
        assert_eq!(reread.digest(), policy.digest(), "{written}");
        assert_eq!((reread.name(), reread.date()), (policy.name(), policy.date()));
        assert_eq!(reread.hardware_only(), policy.hardware_only());
        Corpus::Keep
    }
);
