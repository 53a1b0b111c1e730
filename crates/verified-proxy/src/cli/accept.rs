//! `verified-proxy policy accept`: accepts an honest change, for a while.
//!
//! [`attest::accept`] decides what can be accepted, and whether it is the only thing
//! that the verdict failed in. This module reads the evidence, shows old beside new, and
//! writes the line.

mod file;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use attest::{
    AcceptTcb, AcceptedChange, Appraisal, Base, Day, Evidence, Known, NotAcceptable, Policy,
    Rejected, Terms, accept,
};
use proxy::respond;
use serde::Deserialize;

use super::options::Shared;
use super::print;
use super::read_files::{self, Failure};
use super::verify::{Recorded, unserved};

/// Accept an honest change of a backend for a while, where a verdict failed in exactly one rule
///
/// The evidence is judged again under the policy with the proposed line, which is shown only if nothing
/// else is refused. The command says what was expected and what was seen, and what that means for your
/// prompts. Without --to it writes nothing. Some changes are never accepted: it says what to do
/// instead. Exit codes: 0 there is a line, 1 it cannot be accepted, 2 wrong usage, 3 something could
/// not be read, fetched, reached or written.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// The domain of a backend, to ask it for evidence, or a model that only one backend serves
    #[arg(value_name = "DOMAIN|MODEL", required_unless_present = "evidence")]
    target: Option<String>,

    /// Why you accept it, for the next reader of the policy
    #[arg(long, value_name = "TEXT", value_parser = words)]
    reason: String,

    /// The name of the person who accepts it
    #[arg(long, value_name = "NAME", value_parser = words)]
    by: String,

    /// The last day on which it is accepted, within a year [default: 90 days from now]
    #[arg(long, value_name = "DAY", value_parser = Day::parse)]
    until: Option<Day>,

    /// Where to write: the file of --policy gets the line, a new file gets the whole policy
    ///
    /// Comments and all else in the file of --policy stay. No other existing file is changed.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    to: Option<PathBuf>,

    /// Output of "verify --json": refuse if the verdict is another now, or of another policy
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    verdict: Option<PathBuf>,

    /// The root key of the key management service, as you have it from its operator
    ///
    /// SubjectPublicKeyInfo in DER. It is accepted only if it is the key that was seen.
    #[arg(long, value_name = "HEX", value_parser = hex)]
    expect_root: Option<String>,

    /// The application id, as you have it from its operator
    #[arg(long, value_name = "HEX", value_parser = hex)]
    expect_app_id: Option<String>,

    #[command(flatten)]
    recorded: Recorded,

    #[command(flatten)]
    shared: Shared,
}

/// As an exception of a policy demands it.
fn words(text: &str) -> Result<String, String> {
    let is_plain = (1..=200).contains(&text.len()) && !text.chars().any(char::is_control);
    is_plain
        .then(|| text.to_owned())
        .ok_or_else(|| "expected one line of 1 to 200 bytes".to_owned())
}

fn hex(text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_hex = text.len() >= 2
        && text.len().is_multiple_of(2)
        && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex
        .then(|| text.to_ascii_lowercase())
        .ok_or_else(|| "expected hexadecimal digits, two for each byte".to_owned())
}

pub(super) fn main(args: Args) -> Result<ExitCode, Failure> {
    args.shared.logs.init();
    let (name, accept_tcb) = args.shared.proved.named_policy();
    let (name, accept_tcb) = (name.to_owned(), accept_tcb.to_vec());
    let own = match Policy::built_in(&name) {
        Some(_) => None,
        None => Some(read_files::policy_text(&name)?),
    };
    let base = match &own {
        None => Base::BuiltIn(&name),
        Some(text) => Base::File(text),
    };
    if let Some(text) = &own {
        Policy::from_toml(text).map_err(|error| Failure::Usage(format!("{name}: {error}")))?;
    }
    // Before the backend is asked, and anything is shown.
    let target = args
        .to
        .as_ref()
        .map(|to| file::Target::of(to, own.as_deref().map(|text| (name.as_str(), text))));
    let target = target.transpose()?;
    let terms = Terms {
        until: args.until,
        reason: args.reason.clone(),
        by: args.by.clone(),
        expect_root: args.expect_root.clone(),
        expect_app_id: args.expect_app_id.clone(),
    };
    let seen = args.verdict.as_deref().map(Seen::read).transpose()?;
    let with = |policy: &Policy| {
        let policy = policy.clone();
        accept_tcb.iter().cloned().fold(policy, Policy::accepting)
    };
    let accepted = if args.recorded.evidence.is_some() {
        let anchors = args.shared.proved.trust_anchors()?;
        let case = args.recorded.read()?;
        let evidence = case.evidence.as_ref().map_err(never)?;
        propose(base, &terms, seen, evidence, |policy| {
            case.judge(&with(policy), &anchors)
        })?
    } else {
        live(
            &args.target.unwrap_or_default(),
            args.shared,
            base,
            &terms,
            seen,
            &with,
        )?
    };
    print(&shown(&accepted, &accept_tcb, target.is_some()))?;
    if let Some(target) = target {
        target.write(&accepted.text)?;
        let _ = writeln!(
            std::io::stderr(),
            "wrote {}: use it with --policy",
            target.path().display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The verdict that the user read before, of --verdict.
#[derive(Deserialize)]
struct Seen {
    code: Option<String>,
    policy: SeenPolicy,
}

#[derive(Deserialize)]
struct SeenPolicy {
    digest: String,
}

impl Seen {
    fn read(path: &std::path::Path) -> Result<Self, Failure> {
        let bytes = read_files::read(path)?;
        let refused = |why: String| Failure::Usage(format!("--verdict {}: {why}", path.display()));
        // Live, "verify" prints an array.
        let mut verdicts = serde_json::from_slice::<Vec<Self>>(&bytes)
            .or_else(|_| serde_json::from_slice::<Self>(&bytes).map(|seen| vec![seen]))
            .map_err(|error| refused(format!("not what \"verify --json\" prints: {error}")))?;
        match (verdicts.pop(), verdicts.is_empty()) {
            (Some(seen), true) => Ok(seen),
            _ => Err(refused("expected one verdict".to_owned())),
        }
    }

    /// Fails unless it is of the same policy and has the same code.
    fn is_of(&self, appraisal: &Appraisal) -> Result<(), NotAcceptable> {
        let not = |why: String| NotAcceptable {
            code: None,
            why,
            instead:
                "First read the current verdict, with \"verify --json\" and the same --policy."
                    .to_owned(),
        };
        let policy = &appraisal.report.policy;
        if policy.digest.to_string() != self.policy.digest {
            return Err(not(format!(
                "the verdict of --verdict was judged by another policy (digest {}) than the one named (\"{}\", digest {})",
                shown_digest(&self.policy.digest),
                policy.name,
                shown_digest(&policy.digest.to_string())
            )));
        }
        let code = appraisal.outcome.as_ref().err().map(Rejected::code);
        if code != self.code.as_deref() {
            return Err(not(format!(
                "the verdict of --verdict is {:?}, the evidence gives {}",
                self.code.as_deref().unwrap_or("verified"),
                code.unwrap_or("verified")
            )));
        }
        Ok(())
    }
}

fn shown_digest(digest: &str) -> String {
    digest
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(16)
        .collect()
}

/// Evidence that cannot be read is never accepted.
fn never(rejected: &Rejected) -> NotAcceptable {
    NotAcceptable {
        code: Some(rejected.code()),
        why: format!("{} is never accepted: {rejected}", rejected.code()),
        instead: rejected.explanation().remedy.to_owned(),
    }
}

/// [`accept`], and a check that the first verdict is the one that the user read.
fn propose(
    base: Base<'_>,
    terms: &Terms,
    seen: Option<Seen>,
    evidence: &Evidence,
    mut judge: impl FnMut(&Policy) -> Appraisal,
) -> Result<AcceptedChange, NotAcceptable> {
    let mut seen = seen;
    let mut differs = None;
    let known = Known::of_this_program();
    let outcome = accept(base, terms, &known, evidence, |policy| {
        let appraisal = judge(policy);
        if let Some(seen) = seen.take() {
            differs = seen.is_of(&appraisal).err();
        }
        appraisal
    });
    differs.map_or(outcome, Err)
}

/// Asks one backend once; each further appraisal is of the same evidence.
fn live(
    target: &str,
    shared: Shared,
    base: Base<'_>,
    terms: &Terms,
    seen: Option<Seen>,
    with: &dyn Fn(&Policy) -> Policy,
) -> Result<AcceptedChange, Failure> {
    let (examiner, runtime) = shared.examiner()?;
    let (backend, examined) = runtime.block_on(async {
        let backends = examiner.backends(target).await.map_err(unserved)?;
        let [backend] = backends.as_slice() else {
            let domains = backends.iter().map(|backend| backend.domain().as_str());
            return Err(Failure::Usage(format!(
                "a change is accepted for one backend at a time\nhint: name one of {}",
                domains.collect::<Vec<_>>().join(", ")
            )));
        };
        let examined = examiner
            .examine(backend)
            .await
            .map_err(|error| Failure::Unreadable(respond::attempt_line(&error).to_string()))?;
        Ok((backend.clone(), examined))
    })?;
    let Some(evidence) = &examined.evidence else {
        return Err(match &examined.appraisal.outcome {
            Err(rejected) => never(rejected).into(),
            Ok(_) => Failure::Unreadable("the backend showed no evidence".to_owned()),
        });
    };
    let judged = propose(base, terms, seen, evidence, |policy| {
        let policy = with(policy);
        let again = runtime.block_on(examiner.again(&backend, &examined, &policy));
        again.unwrap_or_else(|| {
            let detail = "they cannot be fetched".to_owned();
            let rejected = Rejected::CollateralFormat { detail };
            let (anchors, at) = (attest::TrustAnchors::intel(), examined.appraisal.report.at);
            Appraisal::unreadable(rejected, &policy, &anchors, at)
        })
    });
    Ok(judged?)
}

/// Old beside new, and the line.
fn shown(accepted: &AcceptedChange, accept_tcb: &[AcceptTcb], is_written: bool) -> String {
    let mut text = accepted.to_string();
    if !accept_tcb.is_empty() {
        line!(text, "  (together with --accept-tcb, which is in no file)");
    }
    line!(text, "\nThe line for a policy:\n");
    for line in &accepted.lines {
        line!(text, "{line}");
    }
    if !is_written {
        line!(
            text,
            "\nNothing was written: name a file with --to to write it."
        );
    }
    text
}
