//! The deployment log: a machine with a compose-manager, and what is said of it
//! after a change.

mod accepted;
mod folding;
mod properties;
mod recorded;
mod tampering;

use attest::{
    AppraiseDeployment, Collateral, Deployment, DeploymentRejected, Evidence, FloorCheck, Nonce,
    UnixTime, appraise_deployment,
};
use fake_tee::{Built, Spec};

use crate::support::{
    NONCE, NOW, anchors, challenge, code, judge_with, policy_of_the_machine_alone, spec,
};

/// A valid machine, which has a compose-manager.
fn machine() -> Spec {
    spec()
}

fn judge(spec: &Spec) -> Result<Deployment, DeploymentRejected> {
    judge_built(&spec.forge(&challenge()).unwrap())
}

/// The report itself is one that verifies: what is refused is its deployment.
fn judge_built(built: &Built) -> Result<Deployment, DeploymentRejected> {
    let policy = policy_of_the_machine_alone();
    let appraisal = judge_with(built, policy, FloorCheck::NotKept("a test"));
    assert_eq!(code(&appraisal), "verified", "{:#?}", appraisal.report);
    appraise_deployment(&AppraiseDeployment {
        evidence: &Evidence::parse(&built.report_bytes).unwrap(),
        quote: appraisal.verified_quote().unwrap(),
        nonce: Nonce::from_bytes(NONCE),
        collateral: &Collateral::from_json(built.collateral_json.as_bytes()).unwrap(),
        trust_anchors: &anchors(),
        now: UnixTime(NOW),
    })
}

#[test]
fn the_untampered_machine_has_a_deployment() {
    let deployment = judge(&machine()).unwrap();
    assert_eq!(deployment.actions(), 4);
}
