//! What a log that holds says twice, or says of the time: findings.
//!
//! A copy proves nothing, and a time is a statement of software. The order of the
//! actions is protected by their hash, whatever a clock said in between.

use std::collections::HashMap;

use super::actions::{Action, Kind, second};
use super::block::Block;
use crate::base::finding::{Finding, Severity};
use crate::base::identifiers::{CommitId, FileDigest, UnixTime};
use crate::base::text::quoted;
use crate::near::evidence::Evidence;

/// How far two honest clocks may be apart, and how far one may be set: no ordinary
/// clock is five minutes wrong.
pub(super) const SLACK_SECONDS: u64 = 300;

/// Lines of one kind that are told; the next one says how many more there are.
pub(crate) const MAX_TOLD: usize = 20;

/// Copies of what the quote or the report says better.
pub(super) fn copies(
    block: &Block<'_>,
    report_data: &[u8; 64],
    evidence: &Evidence,
) -> Vec<Finding> {
    let vm_config = evidence.vm_config.as_ref();
    let events = evidence.events.as_ref().ok();
    let copies = [
        (
            "report_data",
            "the quote's",
            block.report_data.differs(Some(report_data)),
        ),
        ("event_log", "the report's", block.events.differs(events)),
        (
            "vm_config",
            "the report's",
            block.vm_config.differs(vm_config),
        ),
    ];
    let differing = copies.into_iter().filter(|(.., differs)| *differs);
    differing
        .map(|(field, with, _)| {
            Finding::new(
                Severity::Warning,
                "deployment_copy",
                format!(
                    "{field} beside the deployment log differs from {with}; {field} is ignored"
                ),
            )
        })
        .collect()
}

/// An appended log is in the order of time, unless a clock was set.
pub(super) fn times(actions: &[Action], now: UnixTime) -> Vec<Finding> {
    let finding = |severity, detail| Finding::new(severity, "deployment_time", detail);
    let mut findings = Vec::new();
    let later = actions.iter().enumerate().skip(1);
    let mut back = later
        .zip(actions)
        .filter(|((_, action), before)| action.at < before.at);
    if let Some(((index, action), before)) = back.next() {
        let far = |before: &Action, action: &Action| {
            second(before.at) > second(action.at).plus(SLACK_SECONDS)
        };
        let mut is_far = far(before, action);
        let mut more = 0_usize;
        for ((_, action), before) in back {
            is_far |= far(before, action);
            more = more.saturating_add(1);
        }
        findings.push(finding(
            if is_far {
                Severity::Warning
            } else {
                Severity::Notice
            },
            format!(
                "the machine's clock was set back: action {index} of the deployment log is of {}, the one before it of {}{}",
                action.at.to_rfc3339(),
                before.at.to_rfc3339(),
                and_more(more)
            ),
        ));
    }
    let ahead = |(_, action): &(usize, &Action)| second(action.at) > now.plus(SLACK_SECONDS);
    let mut future = actions.iter().enumerate().filter(ahead);
    if let Some((index, action)) = future.next() {
        findings.push(finding(
            Severity::Warning,
            format!(
                "one of two clocks is wrong: action {index} of the deployment log is of {}, it is {now}{}",
                action.at.to_rfc3339(),
                and_more(future.count())
            ),
        ));
    }
    findings
}

/// A commit holds one content of a file: where a log has two, one of them is false.
pub(super) fn contradictions(actions: &[Action]) -> Vec<String> {
    let mut digests: HashMap<(&str, CommitId), FileDigest> = HashMap::new();
    let mut found = Vec::new();
    for action in actions {
        let Kind::Up { source, .. } = &action.kind else {
            continue;
        };
        let known = digests
            .entry((&source.file, source.commit))
            .or_insert(source.sha256);
        if *known != source.sha256 {
            found.push(format!(
                "the log contradicts itself: {} at the commit {} has the digest {known}, and {}",
                quoted(&source.file),
                source.commit,
                source.sha256
            ));
        }
    }
    found
}

/// ", and N more" where there are more.
pub(crate) fn and_more(count: usize) -> String {
    match count {
        0 => String::new(),
        count => format!("; and {count} more"),
    }
}
