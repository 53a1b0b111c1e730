//! Accepting a change: one row for a policy, for a while, where a verdict failed in
//! exactly one rule.
//!
//! That it is one rule is shown by judging the same evidence again under the policy
//! with the row: the result has to be a proof. So a row never hides a second refusal.
//! What a row may accept is what honest operators change and what this program can
//! explain; whoever has other keys, another application or an unknown image has to be
//! named by a value that the user got elsewhere.

mod acceptance;
mod proposal;

use std::fmt;

pub use self::acceptance::Acceptance;
use self::proposal::{proposal, rule};
use crate::appraise::Appraisal;
use crate::base::exception::{Day, Exception};
use crate::base::identifiers::UnixTime;
use crate::base::levels::Levels;
use crate::near::evidence::Evidence;
use crate::policy::difference::Difference;
use crate::policy::known::Known;
use crate::policy::row::Row;
use crate::policy::{Policy, PolicyError};
use crate::refusals::Rejected;

/// The most rows that one rule gets at once: a machine of NVIDIA's has eight GPUs, and a
/// log names some dozens of commits.
const MAX_ROWS: usize = 64;

/// The longest time for which `policy accept` accepts something.
const MAX_DAYS: u64 = 366;

/// Until when, why and by whom something is to be accepted, and what the user knows from
/// elsewhere.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The last day; a ready-made one if absent.
    pub until: Option<Day>,
    /// Why, in the user's words.
    pub reason: String,
    /// Who accepts it.
    pub by: String,
    /// The root key (SubjectPublicKeyInfo, DER, hex) of the expected KMS.
    pub expect_root: Option<String>,
    /// The expected application's id (hex).
    pub expect_app_id: Option<String>,
}

/// The policy that a row is added to.
#[derive(Debug, Clone, Copy)]
pub enum Base<'a> {
    /// A built-in policy: the result extends it.
    BuiltIn(&'a str),
    /// The text of a file: the result is this text with the row.
    File(&'a str),
}

impl Base<'_> {
    fn policy(self) -> Result<Policy, PolicyError> {
        match self {
            Self::BuiltIn(name) => Policy::built_in(name)
                .ok_or_else(|| PolicyError(format!("no policy {name} is built in"))),
            Self::File(text) => Policy::from_toml(text),
        }
    }

    fn text(self, day: Day) -> String {
        match self {
            Self::BuiltIn(name) => format!(
                "# The built-in policy \"{name}\", and what was accepted beside it for a while.\n\nname = \"{name}, and what I accepted\"\nextends = \"{name}\"\ndate = \"{day}\"\n"
            ),
            Self::File(text) => text.to_owned(),
        }
    }
}

/// What a policy would accept besides, shown to a person before it does.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Accepted {
    /// The rule that the verdict failed in, as a policy file names it.
    pub rule: String,
    /// The code of the refusal.
    pub code: &'static str,
    /// What the rule is about.
    pub what: String,
    /// Old beside new.
    pub differences: Vec<Difference>,
    /// Where the new value is known from.
    pub known_from: String,
    /// What it means for a user whose prompts go there.
    pub meaning: String,
    /// Whether it weakens something.
    pub weakens: String,
    /// What is judged as before.
    pub stays: String,
    /// Until when, why and by whom.
    pub exception: Exception,
    /// The row, as a line of a policy; several of one rule.
    pub lines: Vec<String>,
    /// The whole policy with it.
    pub text: String,
    /// What the same evidence shows under it.
    pub levels: Levels,
    /// The sentence for people about it.
    pub sentence: String,
}

/// Why a verdict is not accepted, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}\ninstead: {instead}")]
pub struct NotAcceptable {
    /// The refusal's code, if there is one.
    pub code: Option<&'static str>,
    /// Why not.
    pub why: String,
    /// What to do instead.
    pub instead: String,
}

impl NotAcceptable {
    fn new(rejected: &Rejected, why: impl Into<String>, instead: impl Into<String>) -> Self {
        Self {
            code: Some(rejected.code()),
            why: why.into(),
            instead: instead.into(),
        }
    }

    fn terms(why: impl Into<String>, instead: impl Into<String>) -> Self {
        Self {
            code: None,
            why: why.into(),
            instead: instead.into(),
        }
    }
}

/// Proposes the row that would accept what a verdict was refused for, and shows that
/// nothing else was: `judge` judges the same evidence under the policy that it is given.
///
/// # Errors
/// [`NotAcceptable`] with the reason, and what to do instead.
pub fn accept(
    base: Base<'_>,
    terms: &Terms,
    known: &Known,
    evidence: &Evidence,
    mut judge: impl FnMut(&Policy) -> Appraisal,
) -> Result<Accepted, NotAcceptable> {
    let unusable =
        |error: PolicyError| NotAcceptable::terms(error.to_string(), "Correct the policy first.");
    let old = base.policy().map_err(unusable)?;
    let first = judge(&old);
    let now = first.report.at;
    let day = Day::of(now);
    let mut rejected = match first.outcome {
        Err(rejected) => rejected,
        Ok(_) => {
            return Err(NotAcceptable::terms(
                "the policy accepts this evidence: there is nothing to accept",
                "Use the policy as it is.",
            ));
        }
    };
    let exception = terms.exception(now)?;
    terms.fit(&rejected)?;
    let code = rejected.code();
    let mut text = base.text(day);
    let mut rows: Vec<Row> = Vec::new();
    let mut differences: Vec<Difference> = Vec::new();
    loop {
        let found = old.rules().differences(&rejected);
        let proposal = proposal(&rejected, &old, terms, known, evidence, &exception, now)?;
        if rows.contains(&proposal.row) || rows.len() >= MAX_ROWS {
            return Err(NotAcceptable::new(
                &rejected,
                format!("a row of {} does not accept it: {rejected}", proposal.rule),
                rejected.explanation().remedy,
            ));
        }
        differences.extend(
            found
                .into_iter()
                .filter(|new| !differences.contains(new))
                .collect::<Vec<_>>(),
        );
        text = proposal.row.added_to_text(&text, day).map_err(|error| {
            NotAcceptable::new(
                &rejected,
                format!("the policy cannot take the line: {error}"),
                format!(
                    "Change the policy first, then accept. The line is: {}",
                    proposal.row.line()
                ),
            )
        })?;
        rows.push(proposal.row.clone());
        let policy = Policy::from_toml(&text).map_err(unusable)?;
        let again = judge(&policy);
        let next = match again.outcome {
            Err(next) => next,
            Ok(_) => {
                return Ok(Accepted {
                    rule: proposal.rule,
                    code,
                    what: proposal.what,
                    differences,
                    known_from: proposal.known_from,
                    meaning: proposal.meaning,
                    weakens: proposal.weakens,
                    stays: stays(&rows),
                    exception,
                    lines: rows.iter().map(Row::line).collect(),
                    text,
                    levels: again.report.levels.unwrap_or(Levels::LEAST),
                    sentence: again.report.sentence().unwrap_or_default(),
                });
            }
        };
        if rule(&next).as_deref() != Some(proposal.rule.as_str()) {
            return Err(NotAcceptable::new(
                &next,
                format!(
                    "the verdict fails in more than one rule: in {code}, and with that accepted in {}: {next}",
                    next.code()
                ),
                "One change at a time is accepted. Ask the backend's operator, over another channel than this connection, what changed.",
            ));
        }
        rejected = next;
    }
}

impl Terms {
    fn exception(&self, now: UnixTime) -> Result<Exception, NotAcceptable> {
        let until = self.until.unwrap_or_else(|| Exception::proposed_end(now));
        let exception = Exception {
            until,
            reason: self.reason.clone(),
            by: self.by.clone(),
        };
        exception
            .check("accept")
            .map_err(|why| NotAcceptable::terms(why, "Say it in a line."))?;
        match exception.days_left(now) {
            1..=MAX_DAYS => Ok(exception),
            _ => Err(NotAcceptable::terms(
                format!("until {until} is over already, or more than {MAX_DAYS} days away"),
                "Choose a day within a year, so that somebody looks at it again.",
            )),
        }
    }

    /// A value from elsewhere is for the refusal that it is about.
    fn fit(&self, rejected: &Rejected) -> Result<(), NotAcceptable> {
        for (option, is_given, code) in [
            (
                "--expect-root",
                self.expect_root.is_some(),
                "rejected_kms_root",
            ),
            (
                "--expect-app-id",
                self.expect_app_id.is_some(),
                "rejected_app_id",
            ),
        ] {
            if is_given && rejected.code() != code {
                return Err(NotAcceptable::new(
                    rejected,
                    format!(
                        "{option} is for {code}, and the verdict is {}",
                        rejected.code()
                    ),
                    format!("Leave {option} out."),
                ));
            }
        }
        Ok(())
    }
}

/// What a row leaves as it is.
fn stays(rows: &[Row]) -> String {
    let own = match rows.first() {
        Some(Row::Image(_)) => {
            "machine tables, key management service, application, GPUs and deployment"
        }
        Some(Row::Machine(_)) => {
            "the OS image, firmware, memory map, key management service, application, GPUs and deployment"
        }
        Some(Row::Tcb(_)) => {
            "the quote's signature, the OS image, machine tables, key management service, application, GPUs and deployment, as far as attestation on a machine with these weaknesses can be believed"
        }
        Some(Row::Identity(_)) => "the hardware, the OS image, machine tables, GPUs and deployment",
        Some(Row::Value(_)) | None => {
            "the hardware, the OS image, machine tables, key management service, application, GPUs and deployment, but for this one value"
        }
    };
    format!(
        "Everything else is judged as before: {own}. The evidence was judged again under the policy with this line, and holds in every other rule."
    )
}

/// For a person, before anything is written.
impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "The verdict was refused in one rule, {} ({}).\n",
            self.rule, self.code
        )?;
        writeln!(f, "What changed: {}", self.what)?;
        for Difference {
            what,
            expected,
            seen,
        } in &self.differences
        {
            writeln!(f, "  {what}")?;
            writeln!(f, "    expected  {expected}")?;
            writeln!(f, "    seen      {seen}")?;
        }
        let Exception { until, reason, by } = &self.exception;
        writeln!(f, "\nKnown from: {}", self.known_from)?;
        writeln!(f, "What it means for your prompts: {}", self.meaning)?;
        writeln!(f, "Does it weaken anything? {}", self.weakens)?;
        writeln!(f, "What stays protected: {}", self.stays)?;
        writeln!(
            f,
            "It would hold until {until}, that day included. {by} proposes it: {reason}"
        )?;
        writeln!(
            f,
            "\nUnder the policy with this line, the same evidence shows: {}",
            self.levels
        )?;
        writeln!(f, "  {}", self.sentence)
    }
}
