//! A machine with a compose-manager, and what holds for every log of it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::OnceLock;

use attest::{
    Appraisal, Appraise, AppraiseDeployment, Collateral, ComposeFiles, Context, Continuity,
    Deployment, DeploymentRejected, Evidence, Expected, Nonce, Policy, Service, Spki, Subject,
    TrustAnchors, UnixTime, appraise, appraise_deployment,
};
use fake_tee::deployment::ActionsForm;
use fake_tee::{Challenge, ComposeManager, Spec};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::{NONCE, NOW, SPKI, memory, must_be_printable, write_seed_files};

/// Of all that an appraisal allocates.
const FIXED_BYTES: usize = 1 << 20;
const BYTES_PER_BYTE: usize = 64;

const BLOCK: &str = "compose_manager_attestation";
const PLACE: &str = "the place of the block";

/// An action, its members in their order.
pub type Action = Vec<(String, Value)>;

/// A valid machine.
#[derive(Debug)]
pub struct Machine {
    spec: Spec,
    appraisal: Appraisal,
    collateral: Collateral,
    anchors: TrustAnchors,
    /// The report before its deployment log and after it.
    around: (String, String),
    /// The deployment log.
    pub block: Value,
    /// What it says.
    pub deployment: OnceLock<Deployment>,
}

impl Machine {
    /// The machine of this process.
    pub fn get() -> &'static Self {
        static MACHINE: OnceLock<Machine> = OnceLock::new();
        MACHINE.get_or_init(Self::new)
    }

    fn new() -> Self {
        let mut spec = Spec::new(NOW).expect("keys can be made");
        spec.compose_manager = Some(ComposeManager::new(NOW));
        let built = spec.forge(&challenge()).expect("the machine can be forged");
        let collateral = Collateral::from_json(built.collateral_json.as_bytes());
        let collateral = collateral.expect("the collateral is valid");
        let anchors = TrustAnchors::danger_tdx_root(built.tdx_root_der);
        let appraisal = appraise(&Appraise {
            evidence: &Evidence::parse(&built.report_bytes).expect("a report"),
            subject: &Subject {
                domain: Expected::NotChecked("a fuzz target dials nobody"),
                models: Expected::NotChecked("a fuzz target asks for no model"),
            },
            live_spki: Spki::from_bytes(SPKI),
            nonce: Nonce::from_bytes(NONCE),
            collateral: &collateral,
            policy: &Policy::from_toml(&spec.policy_toml()).expect("the policy is valid"),
            trust_anchors: &anchors,
            context: Context::none("a fuzz target has no memory"),
            now: UnixTime(NOW),
        });
        let mut report = built.report;
        let top = report.as_object_mut().expect("a report is an object");
        top.remove("all_attestations");
        top.remove("nvidia_payload");
        let block = top.insert(BLOCK.to_owned(), PLACE.into()).expect("the log");
        let text = report.to_string();
        let (before, after) = text.split_once(&format!("{PLACE:?}")).expect("the place");
        let machine = Self {
            around: (before.to_owned(), after.to_owned()),
            spec,
            appraisal,
            collateral,
            anchors,
            block,
            deployment: OnceLock::new(),
        };
        let valid = machine.judge(&machine.block.to_string());
        let valid = valid.expect("a report").expect("the machine verifies");
        let _ = machine.deployment.set(valid);
        machine
    }

    /// Judges a block as this machine's; `None` if its report cannot be read.
    pub fn judge(&self, block: &str) -> Option<Result<Deployment, DeploymentRejected>> {
        let report = [&self.around.0, block, &self.around.1].concat();
        let evidence = match Evidence::parse(report.as_bytes()) {
            Ok(evidence) => evidence,
            Err(rejected) => {
                must_be_printable(&rejected.to_string());
                return None;
            }
        };
        let judged = memory::bounded(block.len(), FIXED_BYTES, BYTES_PER_BYTE, || {
            appraise_deployment(&AppraiseDeployment {
                evidence: &evidence,
                quote: self.appraisal.verified_quote().expect("a verified quote"),
                nonce: Nonce::from_bytes(NONCE),
                collateral: &self.collateral,
                trust_anchors: &self.anchors,
                now: UnixTime(NOW),
            })
        });
        if let Err(rejected) = &judged {
            must_be_printable(&rejected.to_string());
        }
        Some(judged)
    }

    /// The block of a machine with the same keys in which this happened.
    pub fn block_of(&self, actions: &[Action], form: ActionsForm) -> Value {
        let mut spec = self.spec.clone();
        let manager = spec.compose_manager.as_mut().expect("a manager");
        manager.actions = actions.to_vec();
        manager.form = form;
        let built = spec.forge(&challenge()).expect("the machine can be forged");
        built.report[BLOCK].clone()
    }
}

fn challenge() -> Challenge {
    Challenge {
        nonce: NONCE,
        spki_sha256: SPKI,
    }
}

/// What holds for every log.
pub fn must_fold(deployment: &Deployment) {
    let seen = deployment.seen();
    assert_eq!(seen.actions, deployment.actions());
    assert_eq!(deployment.continuity(&seen), Continuity::Unchanged);
    assert_eq!(deployment.first().is_some(), seen.actions > 0);
    assert!(deployment.first() <= deployment.last());
    let started = deployment.started();
    assert!(started.len() <= seen.actions);
    if let Some(manager) = deployment.manager() {
        assert!(Some(manager.since) <= deployment.last());
    }
    let up = deployment.up();
    let mut names = BTreeSet::new();
    for up in &up {
        assert!(started.contains(&&*up.source), "nobody started {up:?}");
        assert!(Some(up.since) >= deployment.first() && Some(up.since) <= deployment.last());
        match &up.service {
            Service::Named(name) => assert!(names.insert(name.clone()), "{name} is up twice"),
            Service::Rest { except } => {
                assert!(names.iter().all(|name| except.contains(name)), "{up:?}");
            }
        }
    }
    // With every file at hand, what is up has a name that its file defines. Here
    // each defines the first half of what was named, in one circle.
    let mut files = ComposeFiles::default();
    let half: Vec<_> = names
        .iter()
        .take(names.len().div_ceil(2))
        .cloned()
        .collect();
    let circle = half.iter().cycle().skip(1).zip(&half);
    let defined: Vec<_> = circle
        .map(|(next, name)| (name.clone(), BTreeSet::from([next.clone()])))
        .collect();
    for source in &started {
        files.insert(&source.file, source.commit, defined.clone());
    }
    let mut given = BTreeSet::new();
    for up in deployment.up_given(&files) {
        assert!(started.contains(&&*up.source), "nobody started {up:?}");
        let Service::Named(name) = up.service else {
            panic!("a file is at hand, and yet something has no name");
        };
        assert!(half.contains(&name), "no file defines {name}");
        given.insert(name);
    }
    // A circle is started as a whole.
    assert!(given.is_empty() || given.len() <= half.len());
}

/// As [`write_seeds`](crate::write_seeds).
pub fn write_seeds(seeds: impl FnOnce(&'static Machine) -> Vec<Vec<u8>>) {
    let machine = Machine::get();
    write_seed_files(|| seeds(machine));
}

/// An object with its members in their order.
#[derive(Debug)]
pub struct Members(pub Action);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}
