//! What holds for every text and every list of actions.

use std::sync::OnceLock;

use attest::{
    Appraisal, AppraiseDeployment, CanonicalForm, Collateral, Continuity, Deployment,
    DeploymentRejected, Evidence, FloorCheck, Nonce, UnixTime, appraise_deployment,
};
use fake_tee::Built;
use fake_tee::deployment::{ActionsForm, action};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{judge, machine};
use crate::support::{NONCE, NOW, anchors, cases, challenge, judge_with, manager, policy};

type Fields = Vec<(String, Value)>;

struct Machine {
    built: Built,
    appraisal: Appraisal,
    collateral: Collateral,
}

/// The valid machine, forged and verified once.
fn valid() -> &'static Machine {
    static VALID: OnceLock<Machine> = OnceLock::new();
    VALID.get_or_init(|| {
        let built = machine().forge(&challenge()).unwrap();
        Machine {
            appraisal: judge_with(&built, policy(), FloorCheck::NotKept("a test")),
            collateral: Collateral::from_json(built.collateral_json.as_bytes()).unwrap(),
            built,
        }
    })
}

/// Judges a report with another block; `None` if it is no report.
fn with_block(block: &str) -> Option<Result<Deployment, DeploymentRejected>> {
    let machine = valid();
    let mut report = machine.built.report.clone();
    report["compose_manager_attestation"] = "the block".into();
    let report = report.to_string().replacen("\"the block\"", block, 1);
    let evidence = Evidence::parse(report.as_bytes()).ok()?;
    Some(appraise_deployment(&AppraiseDeployment {
        evidence: &evidence,
        quote: machine.appraisal.verified_quote().unwrap(),
        nonce: Nonce::from_bytes(NONCE),
        collateral: &machine.collateral,
        trust_anchors: &anchors(),
        now: UnixTime(NOW),
    }))
}

fn block() -> &'static str {
    static BLOCK: OnceLock<String> = OnceLock::new();
    BLOCK.get_or_init(|| valid().built.report["compose_manager_attestation"].to_string())
}

/// The block without the copies that nobody needs.
fn short_block() -> &'static str {
    static BLOCK: OnceLock<String> = OnceLock::new();
    BLOCK.get_or_init(|| {
        let mut block = valid().built.report["compose_manager_attestation"].clone();
        let fields = block.as_object_mut().unwrap();
        fields.remove("event_log");
        fields.remove("vm_config");
        fields.remove("report_data");
        block.to_string()
    })
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("\\PC{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn service() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9._-]{0,6}"
}

fn one_action() -> impl Strategy<Value = Fields> {
    let services = prop::collection::vec(service(), 0..4);
    let file = prop_oneof![Just("a.yaml"), Just("prod/b.yaml")];
    prop_oneof![
        (
            any::<bool>(),
            services,
            file,
            any::<[u8; 20]>(),
            any::<[u8; 32]>()
        )
            .prop_map(|(up, services, file, commit, sha256)| {
                let mut fields = vec![
                    ("tag", Value::from("v0.0.1")),
                    ("commit", hex::encode(commit).into()),
                    ("file", file.into()),
                ];
                if up {
                    fields.push(("file_sha256", hex::encode(sha256).into()));
                }
                if !services.is_empty() {
                    fields.push(("services", json!(services)));
                }
                action(
                    NOW - 9,
                    if up { "compose_up" } else { "compose_down" },
                    &fields,
                )
            }),
        ("\\PC{0,20}", any::<String>(), json_value()).prop_map(|(name, container, unknown)| {
            action(
                NOW - 9,
                &format!("x{name}"),
                &[("container", container.into()), ("zz_unknown", unknown)],
            )
        }),
    ]
}

fn deployment(actions: &[Fields], form: ActionsForm) -> Deployment {
    let mut spec = machine();
    manager(&mut spec).actions = actions.to_vec();
    manager(&mut spec).form = form;
    judge(&spec).unwrap()
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn no_block_panics(block in json_value()) {
        if let Some(Ok(_)) = with_block(&block.to_string()) {
            prop_assert!(false, "an arbitrary block passed: {block}");
        }
    }

    #[test]
    fn no_list_of_actions_panics_or_passes(
        actions in prop::collection::vec(prop::collection::btree_map(
            prop_oneof![
                Just("timestamp"), Just("action"), Just("tag"), Just("commit"), Just("file"),
                Just("file_sha256"), Just("services"), Just("container"), Just("image"),
            ],
            prop_oneof![
                json_value(),
                Just(json!("compose_up")), Just(json!("compose_down")),
                Just(json!("compose_manager_started")), Just(json!("2026-01-01T00:00:00Z")),
            ],
            0..9,
        ), 0..4),
    ) {
        let mut block: Value = serde_json::from_str(block()).unwrap();
        block["actions"] = json!(actions);
        let judged = with_block(&block.to_string());
        prop_assert!(!matches!(judged, Some(Ok(_))), "passed: {}", block["actions"]);
    }

    /// Whatever byte of the block changes: it is refused, or means the same.
    #[test]
    fn no_other_byte_in_a_block_means_another_deployment(
        at in any::<prop::sample::Index>(),
        byte in 0x20_u8..0x7f,
    ) {
        let original = with_block(short_block()).unwrap().unwrap();
        let mut bytes = short_block().as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let text = String::from_utf8(bytes).unwrap();
        if let Some(Ok(deployment)) = with_block(&text) {
            prop_assert_eq!(deployment, original);
        }
    }
}

proptest! {
    // Each case signs quotes.
    #![proptest_config(cases(48))]

    #[test]
    fn every_list_of_actions_hashes_in_both_forms_and_folds_alike(
        actions in prop::collection::vec(one_action(), 1..12),
    ) {
        let sorted = deployment(&actions, ActionsForm::Sorted);
        let declared = deployment(&actions, ActionsForm::Declared);
        prop_assert_eq!(sorted.form(), CanonicalForm::SortedKeys);
        prop_assert_eq!(declared.form(), CanonicalForm::DeclaredOrder);
        prop_assert_eq!(sorted.up(), declared.up());
        prop_assert_eq!(sorted.seen(), declared.seen());
        prop_assert_eq!(sorted.actions(), actions.len());
        // Whatever is up was started.
        let started = sorted.started();
        for up in sorted.up() {
            prop_assert!(started.contains(&&*up.source));
        }
    }

    #[test]
    fn extension_is_transitive_and_never_of_another_log(
        actions in prop::collection::vec(one_action(), 0..8),
        cuts in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        changed in any::<prop::sample::Index>(),
        other in one_action(),
    ) {
        let (one, two) = (cuts.0.index(actions.len() + 1), cuts.1.index(actions.len() + 1));
        let (short, middle) = (one.min(two), one.max(two));
        let log = |len: usize| deployment(&actions[..len], ActionsForm::Sorted);
        let (first, second, third) = (log(short), log(middle), log(actions.len()));
        let by = |by: usize| match by {
            0 => Continuity::Unchanged,
            by => Continuity::Extended { by },
        };
        prop_assert_eq!(second.continuity(&first.seen()), by(middle - short));
        prop_assert_eq!(third.continuity(&second.seen()), by(actions.len() - middle));
        prop_assert_eq!(third.continuity(&first.seen()), by(actions.len() - short));
        // And one changed action, wherever it stands, makes another log of it.
        let place = changed.index(short.max(1));
        if place < short && actions[place] != other {
            let mut actions = actions.clone();
            actions[place] = other;
            let changed = deployment(&actions, ActionsForm::Sorted);
            prop_assert_eq!(changed.continuity(&first.seen()), Continuity::Reset);
        }
    }
}
