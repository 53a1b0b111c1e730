//! What changed at a domain since it was last seen: said, and refused under
//! `hold = true` where it went down.

use attest::{
    Appraisal, Blame, ChangeKind, CheckId, History, HistoryCheck, Policy, Status, TagsCheck,
};
use fake_tee::deployment::{action, compose_up};
use fake_tee::{Kms, Signing, Spec};

use crate::support::{
    Beside, DOMAIN, NOW, challenge, code, judge_beside, judge_with_sources, manager, spec, status,
    upstream,
};

/// A machine, its image's name in the policy, and further lines of it.
struct Machine {
    spec: Spec,
    image: &'static str,
    more: &'static str,
    has_files: bool,
}

fn machine() -> Machine {
    Machine {
        spec: spec(),
        image: "fake-image-1.10",
        more: "",
        has_files: true,
    }
}

fn with(change: fn(&mut Machine)) -> Machine {
    let mut machine = machine();
    change(&mut machine);
    machine
}

impl Machine {
    fn judged(&self, more: &str, history: HistoryCheck<'_>) -> Appraisal {
        let text = self.spec.policy_toml().replace(
            "name = \"fake image\"",
            &format!("name = \"{}\"", self.image),
        );
        // Tables that the policy names are named, whatever else it accepts.
        let lines = text
            .lines()
            .filter(|line| self.more.is_empty() || !line.starts_with("machine"));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        let policy = Policy::from_toml(&format!("{text}{}{more}", self.more)).unwrap();
        if self.has_files {
            return judge_with_sources(&self.spec, &policy, history);
        }
        let tags = upstream(&self.spec);
        let beside = Beside {
            tags: TagsCheck::AtHand(&tags),
            history,
            ..Beside::default()
        };
        judge_beside(&self.spec.forge(&challenge()).unwrap(), &policy, beside)
    }
}

/// A history, as a file keeps it.
fn kept(history: &History) -> History {
    History::from_json(history.to_json().as_bytes()).unwrap()
}

fn after(hold: &str, seen: &[&Machine]) -> History {
    let mut history = History::default();
    for machine in seen {
        let appraisal = machine.judged(hold, HistoryCheck::Kept(&history));
        assert_eq!(code(&appraisal), "verified");
        history.remember(&appraisal.sighting.unwrap());
        history = kept(&history);
    }
    history
}

/// The kinds of what changed, but for the deployment log, which has tests of its own.
fn changes(appraisal: &Appraisal) -> Vec<(ChangeKind, bool)> {
    let changes = appraisal.report.changes.iter();
    changes
        .filter(|change| change.kind != ChangeKind::DeploymentLog)
        .map(|change| (change.kind, change.down))
        .collect()
}

const HOLD: &str = "hold = true\ndeployment.sources = \"required\"\n";

#[test]
fn what_went_down_is_said_and_refused_under_hold() {
    use ChangeKind::{Image, Kms as Root, Level, Remarks, SigningKey};
    let dance = |machine: &mut Machine| {
        let actions = &mut manager(&mut machine.spec).actions;
        actions.push(action(NOW - 60, "dance", &[]));
    };
    type Row = (
        &'static str,
        fn(&mut Machine),
        &'static [(ChangeKind, bool)],
    );
    let rows: [Row; 12] = [
        ("nothing", |_| (), &[]),
        (
            "tables that nothing explains, which the policy only reports",
            |m| {
                m.spec.boot.acpi_tables = Some([7; 48]);
                m.more = "acpi = \"report\"\ngpu.places = \"report\"\n";
            },
            &[(Level, true)],
        ),
        (
            "an action that is not known",
            dance,
            &[(Level, true), (Remarks, false)],
        ),
        ("files that did not come", |m| m.has_files = false, &[]),
        (
            "an older image",
            |m| m.image = "fake-image-1.9",
            &[(Image, true)],
        ),
        (
            "a newer image",
            |m| m.image = "fake-image-1.11",
            &[(Image, false)],
        ),
        (
            "an image of another family",
            |m| m.image = "other-1.0",
            &[(Image, false)],
        ),
        (
            "an image without a version",
            |m| m.image = "fake",
            &[(Image, false)],
        ),
        (
            "another KMS",
            |m| m.spec.kms = Kms::other().unwrap(),
            &[(Root, true)],
        ),
        (
            "another signing key",
            |m| {
                m.spec.signing.address = vec![7; 32];
                m.spec.signing.public_key = vec![7; 32];
                m.spec.ohttp = None;
            },
            &[(SigningKey, true)],
        ),
        (
            "a key of the other algorithm",
            |m| {
                m.spec.signing = Signing::ecdsa();
                m.spec.ohttp = None;
            },
            &[(SigningKey, true)],
        ),
        (
            "another instance",
            |m| m.spec.app.instance_id = vec![9; 20],
            &[],
        ),
    ];
    let history = after(HOLD, &[&machine()]);
    for (what, change, expected) in rows {
        let machine = with(change);
        let said = machine.judged("", HistoryCheck::Kept(&history));
        assert_eq!(code(&said), "verified", "{what}");
        assert_eq!(
            changes(&said),
            expected,
            "{what}: {:?}",
            said.report.changes
        );
        let down = expected.iter().any(|(_, down)| *down);
        // What cannot be compared is not proved either.
        let is_open = !machine.has_files || ["other-1.0", "fake"].contains(&machine.image);
        let open = if down || is_open {
            Status::NotProved
        } else {
            Status::Pass
        };
        assert_eq!(status(&said, CheckId::LastSeen), open, "{what}");

        let held = machine.judged(HOLD, HistoryCheck::Kept(&history));
        if !machine.has_files {
            assert_eq!(code(&held), "deployment_files_unavailable");
            continue;
        }
        let accepting = machine.judged(HOLD, HistoryCheck::Accepting(&history));
        assert_eq!(code(&accepting), "verified", "{what}");
        assert_eq!(status(&accepting, CheckId::LastSeen), open, "{what}");
        if !down {
            assert_eq!(code(&held), "verified", "{what}");
            continue;
        }
        let rejected = held.outcome.as_ref().unwrap_err();
        assert_eq!(rejected.code(), "rejected_went_down", "{what}");
        assert_eq!(rejected.blame(), Blame::Unknown);
        assert!(rejected.hint().contains("--accept-change"));
        assert_eq!(held.sighting, None, "a refused state is not remembered");

        // Accepted once, it is a state that was seen.
        let mut history = history.clone();
        history.remember(&accepting.sighting.unwrap());
        let again = machine.judged(HOLD, HistoryCheck::Kept(&kept(&history)));
        assert_eq!(code(&again), "verified", "{what}");
        assert_eq!(changes(&again), [], "{what}");
    }
}

/// Whoever starts the program once without `hold`, or looks with another policy, has not
/// accepted anything.
#[test]
fn another_policys_verdict_undoes_no_hold() {
    let older = with(|m| m.image = "fake-image-1.9");
    let mut history = after(HOLD, &[&machine()]);
    let seen = older.judged("", HistoryCheck::Kept(&history));
    assert_eq!(changes(&seen), [(ChangeKind::Image, true)]);
    history.remember(&seen.sighting.unwrap());
    let again = older.judged("", HistoryCheck::Kept(&kept(&history)));
    assert_eq!(changes(&again), []);
    let held = older.judged(HOLD, HistoryCheck::Kept(&kept(&history)));
    assert_eq!(code(&held), "rejected_went_down");
}

/// Several machines of two images under one name take turns.
#[test]
fn machines_that_take_turns_are_no_news() {
    let old = with(|m| m.image = "fake-image-1.9");
    let history = after(HOLD, &[&old, &machine()]);
    for one in [&old, &machine()] {
        let held = one.judged(HOLD, HistoryCheck::Kept(&history));
        assert_eq!((code(&held), changes(&held)), ("verified", vec![]));
    }
}

/// A verdict whose files did not come is no measure for the next.
#[test]
fn a_level_that_a_source_left_open_is_neither_up_nor_down() {
    let branch = with(|m| {
        manager(&mut m.spec)
            .actions
            .push(compose_up(NOW - 60, "main", &[]));
    });
    let history = after("", &[&with(|m| m.has_files = false)]);
    let declared = branch.judged("", HistoryCheck::Kept(&history));
    assert_eq!(code(&declared), "verified");
    assert!(!changes(&declared).contains(&(ChangeKind::Level, true)));
}

#[test]
fn what_was_not_seen_before_is_not_proved() {
    let first = machine().judged(HOLD, HistoryCheck::Kept(&History::default()));
    assert_eq!(code(&first), "verified");
    assert_eq!(status(&first, CheckId::LastSeen), Status::NotProved);
    assert_eq!(changes(&first), []);
    let without = machine().judged(HOLD, HistoryCheck::NotKept("a test"));
    assert_eq!(status(&without, CheckId::LastSeen), Status::NotProved);
    assert_eq!(without.report.new_remarks, None);
}

#[test]
fn the_sentence_counts_what_is_new_at_this_domain() {
    let newer = with(|m| {
        manager(&mut m.spec)
            .actions
            .push(action(NOW - 60, "dance", &[]));
    });
    let without = newer.judged("", HistoryCheck::NotKept("a test"));
    let all = without.report.remarks().len();
    assert!(all > 0);
    let sentence = |appraisal: &Appraisal| appraisal.report.sentence().unwrap();
    assert!(sentence(&without).contains(&format!(" ({all} remark")));

    let first = newer.judged("", HistoryCheck::Kept(&History::default()));
    assert!(
        sentence(&first).contains(&format!(" ({all} new remark")),
        "{}",
        sentence(&first)
    );
    // Seen on another machine of the domain before: nothing is left that is new, a week
    // later. Today it is.
    let history = after("", &[&machine()]);
    let known = machine().judged("", HistoryCheck::Kept(&history)).report;
    let more = newer.judged("", HistoryCheck::Kept(&history)).report;
    assert_eq!(known.new_remarks, Some(known.remarks().len()));
    assert_eq!(more.new_remarks, Some(all));
    let new = more.changes.iter();
    let new: Vec<_> = new
        .filter(|change| change.kind == ChangeKind::Remarks)
        .map(|change| change.detail.as_str())
        .collect();
    assert_eq!(new, ["1 new remark: deployment_unknown_action"]);
}

#[test]
fn hold_without_a_named_system_is_refused() {
    let of = |base: &str, more: &str| {
        let head = "name = \"x\"\ndate = \"2026-11-30\"\nhold = true\n";
        Policy::from_toml(&format!("{head}extends = \"{base}\"\n{more}"))
    };
    let error = of("hardware", "").unwrap_err().to_string();
    assert!(error.contains("hold = true has no effect"), "{error}");
    // A file that does not come would leave the level open.
    let error = of("near", "").unwrap_err().to_string();
    assert!(
        error.contains("deployment.sources = \"required\""),
        "{error}"
    );
    assert!(of("near", "deployment.mode = \"off\"\n").unwrap().holds());
    assert!(of("near-strict", "").unwrap().holds());
    let near = of("near", "deployment.sources = \"required\"\n").unwrap();
    assert!(near.holds() && !Policy::near().holds());
    assert!(
        near.to_toml()
            .contains("hold = true  # x; near says otherwise")
    );
}

#[test]
fn a_damaged_file_is_not_read() {
    let whole = after("", &[&machine()]).to_json();
    assert!(whole.contains(DOMAIN));
    for (damaged, word) in [
        (String::new(), "EOF"),
        (whole[..whole.len() - 1].to_owned(), "EOF"),
        (
            whole.replacen("\"levels\"", "\"level\"", 1),
            "unknown field",
        ),
        (
            whole.replacen("\"current\"", "\"best\"", 1),
            "unknown variant",
        ),
        (whole.replacen("\"logs\"", "\"domains\"", 1), "twice"),
    ] {
        let error = History::from_json(damaged.as_bytes()).unwrap_err();
        assert!(error.contains(word), "{word}: {error}");
    }
    // Version 0.1 kept logs alone.
    let logs: serde_json::Value = serde_json::from_str(&whole).unwrap();
    let of_logs = History::from_json_of_logs(logs["logs"].to_string().as_bytes()).unwrap();
    let known = machine().judged("", HistoryCheck::Kept(&of_logs));
    assert_eq!(status(&known, CheckId::DeploymentContinuity), Status::Pass);
    assert_eq!(status(&known, CheckId::LastSeen), Status::NotProved);
}
