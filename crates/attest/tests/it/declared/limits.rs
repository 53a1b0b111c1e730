//! Logs of many or costly actions.

use fake_tee::deployment::compose_up;
use serde_json::json;

use super::{REPORT, judged};
use crate::support::{
    NOW, QUOTES_FOR_THE_MOST, challenge, code, cpu_time, judge_with, manager,
    policy_of_the_machine_alone, policy_with, spec, spec_with,
};

/// As many as a person reads, and how many more there are.
#[test]
fn many_experiments_are_told_in_few_lines() {
    let spec = spec_with(|s| {
        for number in 0..300 {
            let tag = format!("try-{number}");
            manager(s).actions.push(compose_up(NOW - 60, &tag, &[]));
        }
    });
    let appraisal = judged(&spec, REPORT);
    let findings = &appraisal.report.findings;
    let untagged = findings
        .iter()
        .filter(|finding| finding.topic == "deployment_untagged");
    let details: Vec<_> = untagged.map(|finding| finding.detail.as_str()).collect();
    assert_eq!(details.len(), 21);
    assert_eq!(details[20], "and 280 more of this kind");
    let shown = appraisal.report.deployment.as_ref().unwrap();
    assert_eq!(
        (
            shown.not_tagged.len(),
            shown.files.len(),
            shown.files_left_out
        ),
        (20, 200, 102)
    );
}

/// The costliest texts that a report has room for: nested as deep as they may be, and
/// full of escapes.
#[test]
fn hostile_actions_cost_less_than_three_quotes() {
    let time = |built: &fake_tee::Built, policy: &attest::Policy, expected: &str| {
        let before = cpu_time();
        let judged = judge_with(built, policy, attest::FloorCheck::NotKept("a test"));
        let took = cpu_time() - before;
        assert_eq!(code(&judged), expected);
        took
    };
    let alone = policy_of_the_machine_alone();
    let both = policy_with("gpu.mode = \"off\"\n");
    let plain = spec().forge(&challenge()).unwrap();
    // Cryptography is fast in every build; serde's walk over escapes is not.
    let most = if cfg!(debug_assertions) { 8 } else { 3 };
    for (escape, count, expected) in [
        ("\\u0041", 280_000, "evidence_deployment_bad_field"),
        ("\\\"", 850_000, "evidence_deployment_bad_field"),
        // The most that is read, and one text more.
        ("\\u0041", 10_922, "verified"),
        ("\\u0041", 10_923, "evidence_deployment_bad_field"),
    ] {
        let text = escape.repeat(count);
        let hostile = spec_with(|s| {
            let escaped = format!("\"{text}\"");
            let plain: String = serde_json::from_str(&escaped).unwrap();
            let nested = json!([[[[plain]]]]);
            manager(s).actions[0].push(("x".to_owned(), nested));
            let spelled = json!(plain).to_string();
            s.hooks.report_bytes.push(move |bytes| {
                let report = String::from_utf8(bytes.clone()).unwrap();
                let report = report.replacen(&spelled, &escaped, 1);
                assert!(report.contains(&escaped));
                *bytes = report.into_bytes();
            });
        });
        let hostile = hostile.forge(&challenge()).unwrap();
        // The quietest of some rounds. What reading such a report costs is not the log's.
        let rounds = (0..7).map(|_| {
            let quote = time(&plain, alone, "verified");
            let reading = time(&hostile, alone, "verified");
            let log = time(&hostile, &both, expected).saturating_sub(reading);
            let times = log.as_nanos() / quote.as_nanos().max(1);
            (times, log, reading.saturating_sub(quote), quote)
        });
        let (times, log, reading, quote) = rounds.min().unwrap();
        let costs =
            format!("{count} times {escape}: log {log:?}, reading {reading:?}, quote {quote:?}");
        println!("{costs}");
        assert!(
            times < most && reading < quote * QUOTES_FOR_THE_MOST,
            "{costs}"
        );
    }
}
