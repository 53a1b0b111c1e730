//! Reports of verdicts, and their names.

use std::fmt;
use std::sync::Arc;

use attest::{
    Appraisal, Change, Domain, Levels, Nonce, PolicyDigest, Rejected, Spki, Status, UnixTime,
};
use http::HeaderValue;
use serde::Serialize;
use sources::webpki::WebPki;

/// Names a verdict: 64 bits of a digest over its subject and its nonce. The nonce is fresh, so
/// two verdicts have the same name only by collision.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VerdictId(String);

impl VerdictId {
    pub(crate) fn of(domain: &Domain, spki: Spki, policy: PolicyDigest, nonce: Nonce) -> Self {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        context.update(domain.as_str().as_bytes());
        context.update(&[0]);
        context.update(spki.as_bytes());
        context.update(policy.as_bytes());
        context.update(nonce.as_bytes());
        let digest = context.finish();
        Self(hex::encode(digest.as_ref().get(..8).unwrap_or_default()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn header_value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).unwrap_or_else(|_| HeaderValue::from_static("?"))
    }
}

impl fmt::Display for VerdictId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A report for people, as JSON.
#[derive(Debug, Clone)]
pub struct VerdictReport {
    pub id: VerdictId,
    pub json: Arc<str>,
    /// True if the verdict could reach more as soon as a source answers.
    pub(crate) may_rise: bool,
    pub(super) line: Arc<Line>,
}

/// The report's line in the list of verdicts.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    id: String,
    domain: Domain,
    spki: Spki,
    /// "verified" or "rejected".
    verdict: &'static str,
    /// The code of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// The verdict's levels; absent for a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    levels: Option<Levels>,
    /// The verdict's meaning, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    sentence: Option<String>,
    /// Differences from what was seen before.
    changes: Vec<Change>,
    /// Numbers of checks that passed, and of those that did not run.
    passed: usize,
    not_proved: usize,
    /// Seconds since 1970.
    judged_at: u64,
}

impl VerdictReport {
    pub(crate) fn new(
        id: VerdictId,
        domain: &Domain,
        spki: Spki,
        webpki: WebPki,
        judged_at: UnixTime,
        appraisal: &Appraisal,
    ) -> Self {
        let count = |status| {
            let checks = appraisal.report.checks.iter();
            checks.filter(|check| check.status == status).count()
        };
        let line = Line {
            id: id.to_string(),
            domain: domain.clone(),
            spki,
            verdict: match appraisal.outcome {
                Ok(_) => "verified",
                Err(_) => "rejected",
            },
            code: appraisal.outcome.as_ref().err().map(Rejected::code),
            levels: appraisal.report.levels,
            sentence: appraisal.report.sentence(),
            changes: appraisal.report.changes.clone(),
            passed: count(Status::Pass),
            not_proved: count(Status::NotProved),
            judged_at: judged_at.0,
        };
        let mut json = serde_json::json!({
            "id": line.id,
            "domain": domain.as_str(),
            "spki": spki.to_string(),
            "ca_chain": webpki.as_str(),
        });
        let report = serde_json::to_value(&appraisal.report);
        if let (Some(object), Ok(serde_json::Value::Object(report))) =
            (json.as_object_mut(), report)
        {
            object.extend(report);
        }
        Self {
            id,
            json: json.to_string().into(),
            may_rise: false,
            line: Arc::new(line),
        }
    }

    /// The verdict's meaning and levels in one line for people.
    pub(crate) fn meaning(&self) -> String {
        match (&self.line.sentence, self.line.levels) {
            (Some(sentence), Some(levels)) => format!("{sentence} ({levels})"),
            _ => self.line.verdict.to_owned(),
        }
    }
}
