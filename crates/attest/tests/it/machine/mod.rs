//! RTMR0 computed from what a host states of its machine.

mod computed;
mod images;
mod lies;
mod places;
mod stated;
mod stripped;
mod written_twice;

use attest::{Appraisal, Policy};
use fake_tee::Spec;

use crate::support::{judge_with_sources, policy_text};

/// Under the policy that accepts the default machine, with further lines.
fn judge_under(spec: &Spec, more: &str) -> Appraisal {
    let policy = Policy::from_toml(&policy_text(more)).unwrap_or_else(|e| panic!("{e}\n{more}"));
    judge_with_sources(spec, &policy, attest::HistoryCheck::NotKept("a test"))
}
