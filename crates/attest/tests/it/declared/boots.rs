//! What counts since the machine booted, and what counts for good.

use attest::{ChangeKind, DeploymentLevel, History, HistoryCheck};
use fake_tee::Spec;
use fake_tee::compose_file::commit;
use fake_tee::deployment::{compose_up, manager_of, manager_started};

use super::{HARMLESS, HOUR, REPORT, judged, level, reasons};
use crate::support::{
    NOW, WITH_SOCKET, code, judge_with_sources, manager, policy_with, spec, spec_with,
};

/// A restart takes rights away, but nothing that was up: where it was stopped before, the
/// machine is `tagged` again.
#[test]
fn what_ran_counts_until_the_machine_boots_anew() {
    let log = |ended: Option<u64>, booted: u64| {
        judged(
            &spec_with(|s| {
                manager(s).experiment(NOW - 40 * HOUR, WITH_SOCKET);
                if let Some(ended) = ended {
                    manager(s).experiment_ends(ended);
                }
                manager(s)
                    .actions
                    .push(compose_up(NOW - 2 * HOUR, "v0.0.2", &[]));
                s.app.boot_time = booted;
            }),
            REPORT,
        )
    };
    let boot = spec().app.boot_time;
    let ended = Some(NOW - 39 * HOUR);
    assert_eq!(level(&log(None, boot)), DeploymentLevel::Declared);
    assert_eq!(level(&log(ended, boot)), DeploymentLevel::Declared);
    let after = log(ended, NOW - 10 * HOUR);
    assert_eq!(
        level(&after),
        DeploymentLevel::Tagged,
        "{}",
        reasons(&after)
    );
    assert_eq!(
        level(&log(None, NOW - 10 * HOUR)),
        DeploymentLevel::Declared
    );
    // Within the slack of the clocks it may have been this boot.
    let end = NOW - 39 * HOUR;
    assert_eq!(level(&log(ended, end + 301)), DeploymentLevel::Tagged);
    assert_eq!(
        level(&log(ended, NOW - 40 * HOUR + 300)),
        DeploymentLevel::Declared
    );

    let shown = after.report.deployment.unwrap();
    assert_eq!(shown.before_boot, 6);
    let files: Vec<_> = shown
        .files
        .iter()
        .map(|file| (file.tag.as_str(), file.release, file.since_boot))
        .collect();
    assert_eq!(
        files,
        [
            ("v0.0.1", "release", true),
            ("v0.0.2", "release", true),
            ("try-x", "no release", false)
        ]
    );
}

/// A policy that says nothing of it refuses as before, also for what is long over.
#[test]
fn a_refusing_policy_refuses_at_any_time_of_the_log() {
    type Change = fn(&mut Spec);
    let rows: [(Change, &str); 3] = [
        (
            |s| manager(s).experiment(NOW - 24 * HOUR, HARMLESS),
            "rejected_deployment_tag",
        ),
        (
            |s| manager(s).tags.push(|tags| tags[0].commit = commit("x")),
            "rejected_deployment_tag_moved",
        ),
        (
            |s| manager(s).publish("v0.0.1", WITH_SOCKET),
            "rejected_compose_docker_socket",
        ),
    ];
    for (change, expected) in rows {
        let spec = spec_with(|s| {
            change(s);
            manager(s).experiment_ends(NOW - 20 * HOUR);
            manager(s)
                .actions
                .push(compose_up(NOW - 2 * HOUR, "v0.0.2", &[]));
            s.app.boot_time = NOW - 10 * HOUR;
        });
        assert_eq!(code(&judged(&spec, "")), expected);
        assert_eq!(code(&judged(&spec, REPORT)), "verified");
    }
}

/// What a log that is gone had started since this boot, nobody knows any more.
#[test]
fn a_log_that_does_not_go_on_is_declared_until_the_machine_boots_anew() {
    let long = spec_with(|s| manager(s).actions.push(compose_up(NOW - 60, "v0.0.2", &[])));
    let mut logs = History::default();
    let mut step = |spec: &Spec| {
        let appraisal = judge_with_sources(spec, &policy_with(REPORT), HistoryCheck::Kept(&logs));
        assert_eq!(code(&appraisal), "verified");
        logs.remember(appraisal.sighting.as_ref().unwrap());
        logs = History::from_json(logs.to_json().as_bytes()).unwrap();
        // The domain itself falls to "declared" with its log; that is another change.
        let changes = appraisal.report.changes.iter();
        let of_log = changes.filter(|change| change.kind == ChangeKind::DeploymentLog);
        let of_log: Vec<_> = of_log.map(|change| change.detail.clone()).collect();
        (level(&appraisal), of_log)
    };
    let (tagged, declared) = (DeploymentLevel::Tagged, DeploymentLevel::Declared);
    assert_eq!(step(&spec()), (tagged, vec![]));
    let (got, changes) = step(&long);
    assert_eq!(got, tagged);
    assert_eq!(
        changes,
        [
            "1 more action in the deployment log",
            "started fake.yaml from the tag v0.0.2"
        ]
    );
    assert_eq!(step(&long), (tagged, vec![]));
    // An earlier state of the same log, and then nothing new.
    let (got, changes) = step(&spec());
    assert_eq!(got, declared);
    assert!(changes[0].starts_with("log reset"), "{changes:?}");
    assert_eq!(step(&spec()), (declared, vec![]));
    // A disk that was lost with a restart.
    let anew = spec_with(|s| {
        s.app.boot_time = NOW - 10 * HOUR;
        manager(s).actions = vec![
            manager_started(NOW - 9 * HOUR),
            compose_up(NOW - 8 * HOUR, "v0.0.2", &[]),
        ];
    });
    let (got, changes) = step(&anew);
    assert_eq!(got, tagged);
    assert!(changes[0].starts_with("log reset"), "{changes:?}");
    assert_eq!(step(&anew), (tagged, vec![]));
    let other = spec_with(|s| {
        s.app.boot_time = NOW - 10 * HOUR;
        let image = format!("fake/compose-manager@sha256:{}", "ab".repeat(32));
        manager(s).actions = vec![
            manager_started(NOW - 9 * HOUR),
            compose_up(NOW - 8 * HOUR, "v0.0.2", &[]),
            manager_of(NOW - 60, &image),
        ];
    });
    let (got, changes) = step(&other);
    assert_eq!(got, tagged);
    assert!(
        changes[1].starts_with("the manager is now fake/compose-manager@sha256:abab"),
        "{changes:?}"
    );
}
