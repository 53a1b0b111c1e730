//! Start valid, change one thing, sign again where that is said: each
//! tampering of log and second quote has its own code.

mod log;
mod quote;
mod read;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use attest::{DeploymentRejected, Evidence};
use fake_tee::Spec;
use fake_tee::quote::TdReport;
use serde_json::Value;

use super::{judge, judge_built, machine};
use crate::support::{challenge, manager, spec_with};

type Case = (&'static str, &'static str, fn(&mut Spec));

/// Changes a field of the finished block.
fn set(spec: &mut Spec, field: &'static str, value: Value) {
    edit(spec, move |block| block[field] = value.clone());
}

fn edit(spec: &mut Spec, change: impl Fn(&mut Value) + Send + Sync + 'static) {
    spec.hooks
        .report
        .push(move |report| change(&mut report["compose_manager_attestation"]));
}

fn remove(spec: &mut Spec, field: &'static str) {
    edit(spec, move |block| {
        block.as_object_mut().unwrap().remove(field).unwrap();
    });
}

/// Changes the TD that the log's quote is of, and signs.
fn td(spec: &mut Spec, change: impl Fn(&mut TdReport) + Send + Sync + 'static) {
    spec.hooks.manager_td_report.push(change);
}

/// Changes a field of the first start of a file, or adds it, and signs.
fn field(spec: &mut Spec, name: &str, value: Value) {
    let up = &mut manager(spec).actions[1];
    up.retain(|(key, _)| key != name);
    up.push((name.to_owned(), value));
}

/// Takes a field from an action, and signs.
fn without(spec: &mut Spec, index: usize, name: &str) {
    let action = &mut manager(spec).actions[index];
    let before = action.len();
    action.retain(|(key, _)| key != name);
    assert_eq!(action.len() + 1, before);
}

/// The block that another machine would have given.
fn block_of(change: impl Fn(&mut Spec)) -> Value {
    let mut other = machine();
    change(&mut other);
    let built = other.forge(&challenge()).unwrap();
    built.report["compose_manager_attestation"].clone()
}

/// Puts the whole block of another machine into this report.
fn transplant(spec: &mut Spec, change: impl Fn(&mut Spec)) {
    let block = block_of(change);
    edit(spec, move |to| *to = block.clone());
}

/// Puts the log of another machine beside this one's quote.
fn transplant_log(spec: &mut Spec, change: impl Fn(&mut Spec)) {
    let block = block_of(change);
    edit(spec, move |to| {
        to["actions"] = block["actions"].clone();
        to["actions_hash"] = block["actions_hash"].clone();
        to["report_data"] = block["report_data"].clone();
    });
}

fn cases() -> impl Iterator<Item = &'static Case> {
    [read::MISSING, read::UNREADABLE, log::CASES, quote::CASES]
        .into_iter()
        .flatten()
}

#[test]
fn each_tampering_is_refused_by_its_own_code() {
    let mut wrong = String::new();
    for (what, code, change) in cases() {
        let spec = spec_with(change);
        match judge(&spec) {
            Err(rejected) if rejected.code() == *code => {}
            Err(rejected) => {
                let got = rejected.code();
                let _ = writeln!(wrong, "{what}: expected {code}, got {got}: {rejected}");
            }
            Ok(_) => {
                let _ = writeln!(wrong, "{what}: expected {code}, it passed");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_code_has_a_tampering() {
    let tried: BTreeSet<_> = cases().map(|(_, code, _)| *code).collect();
    let known: BTreeSet<_> = DeploymentRejected::EXPLANATIONS
        .iter()
        .map(|explanation| explanation.code)
        // Judged by a policy, which looks at a log that holds: see `workload`, `tags` and `declared`.
        .filter(|code| {
            !matches!(
                *code,
                "rejected_deployment_empty"
                    | "rejected_deployment_tag"
                    | "rejected_deployment_commit"
                    | "rejected_deployment_tag_unknown"
                    | "rejected_deployment_tag_moved"
                    | "rejected_deployment_level"
                    | "deployment_tags_unavailable"
                    | "deployment_files_unavailable"
            )
        })
        .collect();
    assert_eq!(tried, known);
}

#[test]
fn a_key_that_stands_twice_in_an_action_ends_the_reading_of_the_report() {
    let mut spec = machine();
    spec.hooks.report_bytes.push(|bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let tampered = text.replacen(
            "\"tag\":\"v0.0.1\"",
            "\"tag\":\"v0.0.1\",\"tag\":\"v0.0.9\"",
            1,
        );
        assert_ne!(text, tampered);
        *bytes = tampered.into_bytes();
    });
    let built = spec.forge(&challenge()).unwrap();
    let rejected = Evidence::parse(&built.report_bytes).unwrap_err();
    assert_eq!(rejected.code(), "evidence_duplicate_key");
}

/// What the refusal of the second quote says is what the first one's would.
#[test]
fn the_cause_of_a_quote_that_does_not_verify_is_kept() {
    let mut spec = machine();
    td(&mut spec, |td| td.td_attributes[0] |= 1);
    let built = spec.forge(&challenge()).unwrap();
    let Err(DeploymentRejected::Quote { cause }) = judge_built(&built) else {
        panic!("expected a refusal of the quote");
    };
    assert_eq!(cause.code(), "rejected_td_debug");
}

#[test]
fn the_register_is_named() {
    for register in 0..4 {
        let mut spec = machine();
        td(&mut spec, move |td| td.rt_mr[register][0] ^= 1);
        let Err(DeploymentRejected::Rtmr { index, .. }) = judge(&spec) else {
            panic!("expected a refusal of a register");
        };
        assert_eq!(index, register);
    }
}
