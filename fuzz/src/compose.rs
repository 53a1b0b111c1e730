//! Readers of compose files and applications, and what holds for all that they find.

use attest::{
    ComposeDocument, ComposeRejected, FileRules, Finding, app_compose_findings, judge_compose,
};

use crate::{memory, must_be_printable};

/// Of all that reading and judging allocates: aliases may write out 512 KB, and a
/// thousand findings repeat some hundred bytes each.
const FIXED_BYTES: usize = 16 << 20;
const BYTES_PER_BYTE: usize = 128;

/// The most findings, and one that says that more were left out.
const MAX_FINDINGS: usize = 1001;

/// Reads a file.
pub fn read(data: &[u8]) -> Result<ComposeDocument, ComposeRejected> {
    let read = bounded(data.len(), || ComposeDocument::read("f", data));
    if let Err(rejected) = &read {
        must_be_printable(&rejected.to_string());
        assert!(
            rejected.code().starts_with("evidence_compose_"),
            "{rejected}"
        );
    }
    read
}

/// Judges a file of so many bytes.
pub fn judge(
    len: usize,
    document: &ComposeDocument,
    rules: &FileRules,
) -> Result<Vec<Finding>, ComposeRejected> {
    let judged = bounded(len, || judge_compose(document, rules));
    match &judged {
        Ok(findings) => must_be_few(findings),
        Err(rejected) => {
            must_be_printable(&rejected.to_string());
            assert!(
                rejected.code().starts_with("rejected_compose_"),
                "{rejected}"
            );
        }
    }
    judged
}

/// What is found in an application's description.
pub fn findings(text: &str) -> Vec<Finding> {
    let findings = bounded(text.len(), || app_compose_findings(text));
    must_be_few(&findings);
    findings
}

fn bounded<T>(len: usize, work: impl FnOnce() -> T) -> T {
    memory::bounded(len, FIXED_BYTES, BYTES_PER_BYTE, work)
}

fn must_be_few(findings: &[Finding]) {
    assert!(
        findings.len() <= MAX_FINDINGS,
        "{} findings",
        findings.len()
    );
    for finding in findings {
        must_be_printable(&finding.detail);
    }
}
