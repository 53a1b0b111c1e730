//! What holds for every input of a kind, where tables hold for one of each.
//!
//! Cases are chosen so that all of this takes seconds; `fuzz/` looks longer.

mod domains;
mod policies;
mod remembered;
mod signed;

use std::sync::OnceLock;

use attest::{Appraisal, Collateral, Evidence, FloorCheck};
use fake_tee::Built;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::report_normal_form::differences;
use crate::support::{
    Beside, cases, challenge, judge_parsed, policy_of_the_machine_alone as policy, spec,
};

/// The valid machine, forged once.
fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| spec().forge(&challenge()).unwrap())
}

/// Its report without what nobody reads, so that a random byte means something.
fn report() -> &'static Value {
    static REPORT: OnceLock<Value> = OnceLock::new();
    REPORT.get_or_init(|| {
        let mut report = built().report.clone();
        let top = report.as_object_mut().unwrap();
        for unread in [
            "all_attestations",
            "nvidia_payload",
            "compose_manager_attestation",
        ] {
            top.remove(unread);
        }
        report
    })
}

fn collateral() -> &'static Collateral {
    static COLLATERAL: OnceLock<Collateral> = OnceLock::new();
    COLLATERAL.get_or_init(|| Collateral::from_json(built().collateral_json.as_bytes()).unwrap())
}

fn base_evidence() -> &'static Evidence {
    static EVIDENCE: OnceLock<Evidence> = OnceLock::new();
    EVIDENCE.get_or_init(|| Evidence::parse(report().to_string().as_bytes()).unwrap())
}

fn judge_evidence(
    evidence: &Evidence,
    collateral: &Collateral,
    floor: FloorCheck<'_>,
) -> Appraisal {
    let beside = Beside {
        floor,
        ..Beside::default()
    };
    judge_parsed(evidence, collateral, policy(), beside)
}

/// `None` if the report cannot be read.
fn judge_bytes(report: &[u8]) -> Option<Appraisal> {
    let evidence = Evidence::parse(report).ok()?;
    Some(judge_evidence(
        &evidence,
        collateral(),
        FloorCheck::NotKept("a test"),
    ))
}

fn verifies(report: &[u8]) -> bool {
    judge_bytes(report).is_some_and(|appraisal| appraisal.outcome.is_ok())
}

/// One change to a text or to bytes. Positions wrap around.
#[derive(Debug, Clone, Copy)]
enum Edit {
    Flip { at: usize, bit: u8 },
    Delete { at: usize },
    Insert { at: usize, byte: u8 },
}

impl Edit {
    fn flip() -> impl Strategy<Value = Self> {
        (any::<usize>(), 0..8_u8).prop_map(|(at, bit)| Self::Flip { at, bit })
    }

    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            Self::flip(),
            any::<usize>().prop_map(|at| Self::Delete { at }),
            (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Self::Insert { at, byte }),
            // Bytes that JSON gives a meaning to.
            (
                any::<usize>(),
                prop::sample::select(b" \t\n,:\"[]{}\\0e-".to_vec())
            )
                .prop_map(|(at, byte)| Self::Insert { at, byte }),
        ]
    }

    fn apply(self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        match self {
            Self::Flip { at, bit } => bytes[at % len] ^= 1 << bit,
            Self::Delete { at } => drop(bytes.remove(at % len)),
            Self::Insert { at, byte } => bytes.insert(at % (len + 1), byte),
        }
    }
}

fn is_bounded_and_printable(message: &str) -> bool {
    message.len() < 8192 && message.chars().all(|c| (' '..='~').contains(&c))
}

/// Text that terminals, logs and pages would like to misunderstand.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[\u{0}-\u{1f}\u{7f}-\u{9f}\u{200b}-\u{202e}\u{2066}-\u{2069}\"\\\\<>&%{}]{1,40}",
        "(\u{1b}\\[2J|\u{202e}|\r\n|\u{1f4a9}){1,400}",
        "[0-9a-f]{0,3000}",
    ]
}

/// Places of the report that a message might repeat.
const REPEATED: [&str; 24] = [
    "/model_name",
    "/signing_algo",
    "/signing_address",
    "/signing_public_key",
    "/request_nonce",
    "/intel_quote",
    "/tls_cert_fingerprint",
    "/event_log",
    "/event_log/0/digest",
    "/event_log/0/event",
    "/event_log/0/event_payload",
    "/event_log/24/event",
    "/event_log/24/event_payload",
    "/info",
    "/info/app_cert",
    "/info/app_id",
    "/info/compose_hash",
    "/info/instance_id",
    "/info/key_provider_info",
    "/info/os_image_hash",
    "/info/vm_config",
    "/info/tcb_info/app_compose",
    "/info/tcb_info/mrtd",
    "/info/tcb_info/device_id",
];

proptest! {
    #![proptest_config(cases(160))]

    #[test]
    fn foreign_text_is_shown_bounded_and_escaped(
        place in prop::sample::select(REPEATED.to_vec()),
        text in hostile(),
        as_key in any::<bool>(),
    ) {
        let mut changed = report().clone();
        let value = changed.pointer_mut(place).unwrap();
        *value = if as_key { json!({ text: 1 }) } else { json!(text) };
        match Evidence::parse(changed.to_string().as_bytes()) {
            Err(rejected) => {
                prop_assert!(is_bounded_and_printable(&rejected.to_string()), "{rejected}");
                prop_assert!(is_bounded_and_printable(&rejected.hint()), "{}", rejected.hint());
            }
            Ok(evidence) => {
                let appraisal = judge_evidence(&evidence, collateral(), FloorCheck::NotKept("a test"));
                for check in &appraisal.report.checks {
                    prop_assert!(is_bounded_and_printable(&check.detail), "{}", check.detail);
                }
                for fact in &appraisal.report.facts {
                    prop_assert!(is_bounded_and_printable(&fact.value), "{}", fact.value);
                }
                if let Some(rejected) = &appraisal.report.rejected {
                    prop_assert!(is_bounded_and_printable(&rejected.hint()), "{}", rejected.hint());
                }
            }
        }
    }

    #[test]
    fn a_duplicate_key_is_named_bounded_and_escaped(key in hostile()) {
        let key = Value::from(key);
        let text = format!("{{{key}:1,{key}:2}}");
        let rejected = Evidence::parse(text.as_bytes()).unwrap_err();
        prop_assert!(is_bounded_and_printable(&rejected.to_string()), "{rejected}");
        prop_assert_eq!(rejected.code(), "evidence_duplicate_key");
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn an_edited_report_verifies_only_if_it_means_the_same(edits in prop::collection::vec(Edit::any(), 1..3)) {
        let mut bytes = report().to_string().into_bytes();
        for edit in edits {
            edit.apply(&mut bytes);
        }
        if verifies(&bytes) {
            let edited: Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(differences(report(), &edited), Vec::<String>::new());
        }
    }
}
