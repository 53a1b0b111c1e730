//! One tampering, one named refusal: the checklist of the evidence.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::panic,
    clippy::arithmetic_side_effects,
    missing_docs,
    reason = "a test that cannot go on should stop"
)]

mod accepted;
mod accepting;
mod collateral_cache;
mod compose;
mod declared;
mod deployment;
mod docs;
mod explanations;
mod false_kms;
mod files;
mod gpu;
mod identifiers;
mod image;
mod keys;
mod last_seen;
mod limits;
mod machine;
mod nras;
mod nras_appraisal;
mod old_policies;
mod pairs;
mod policies;
mod policy_diff;
mod proof_cache;
mod properties;
mod quote_diagnosis;
mod recordings;
mod report_normal_form;
mod support;
mod tags;
mod tampering;
mod workload;

#[path = "../../examples/judge.rs"]
mod judge;
#[path = "../../examples/own_policy.rs"]
mod own_policy;

#[test]
fn the_examples_run() {
    judge::main();
    own_policy::main();
}
