//! Checks of this machine: policy, trust root, state folder, file descriptors.

use attest::{Policy, UnixTime};
use proxy::config::Config;
use proxy::descriptors;
use sources::state::{Memory, StateDir, StateError};

use super::super::read_files::Danger;
use super::check::{Check, Id};

/// New images are deployed every few months: a policy that was not compared with new
/// evidence for a quarter has probably missed one.
const OLD_POLICY_DAYS: u64 = 90;
/// Two weeks are enough to decide about an exception before it ends.
const SOON_DAYS: u64 = 14;
/// Fewer are enough for a few hundred clients only.
const FEW_DESCRIPTORS: u64 = 1_024;

pub(super) fn policy(config: &Config) -> Check {
    let policy = &config.policy;
    let mut detail = format!(
        "\"{}\" of {}, digest {}",
        policy.name(),
        policy.date(),
        policy.digest()
    );
    if policy.hardware_only() {
        detail.push_str("; ANY software on a genuine TDX machine passes it");
        let fix = "use --policy near, unless you do not need to know which software runs";
        return Check::warning(Id::Policy, detail, fix);
    }
    let now = config.clock.now();
    let (over, soon): (Vec<_>, Vec<_>) = policy
        .exceptions()
        .map(|(place, exception)| (place, exception.until, exception.days_left(now)))
        .filter(|(_, _, days)| *days <= SOON_DAYS)
        .partition(|(_, _, days)| *days == 0);
    let fix = "ask the operator whether the accepted deviation is fixed; then remove the exception, or set a later `until` with a new reason";
    let listed = |exceptions: &[(&str, attest::Day, u64)]| {
        let words: Vec<_> = exceptions
            .iter()
            .map(|(place, until, days)| format!("{place} until {until} ({days} days left)"))
            .collect();
        words.join(", ")
    };
    if !over.is_empty() {
        detail.push_str(&format!("; expired exceptions: {}", listed(&over)));
        return Check::warning(Id::Policy, detail, fix);
    }
    if !soon.is_empty() {
        detail.push_str(&format!(
            "; exceptions that end within {SOON_DAYS} days: {}",
            listed(&soon)
        ));
        return Check::warning(Id::Policy, detail, fix);
    }
    match age_in_days(policy, now) {
        Some(days) if days > OLD_POLICY_DAYS => {
            detail.push_str(&format!(
                "; it is {days} days old, and NEAR AI may have deployed a new image since"
            ));
            let fix = "look for a newer verified-proxy; until then backends with a new image are refused, which is safe";
            Check::warning(Id::Policy, detail, fix)
        }
        _ => Check::ok(Id::Policy, detail),
    }
}

fn age_in_days(policy: &Policy, now: UnixTime) -> Option<u64> {
    let date = UnixTime::from_rfc3339(&format!("{}T00:00:00Z", policy.date()))?;
    Some(now.0.saturating_sub(date.0) / (24 * 60 * 60))
}

pub(super) fn trust_root(config: &Config) -> Check {
    match Danger::of(&config.trust_anchors) {
        None => Check::ok(Id::TrustRoot, "Intel's for machines, NVIDIA's for GPUs"),
        Some(Danger { words, options }) => Check::warning(
            Id::TrustRoot,
            format!("DANGER: {words}"),
            format!("remove {options}, unless this is a test or a demonstration"),
        ),
    }
}

pub(super) fn state_dir(config: &Config) -> Check {
    let Some(path) = &config.state_dir else {
        let why = "none is kept (--state-dir none), so the program forgets at its end which Intel documents it saw";
        return Check::skipped(Id::StateDir, why);
    };
    // As serve does: it makes the folder if there is none.
    let opened = StateDir::open(path, &config.trust_anchors)
        .and_then(|state| Memory::load(Some(state), config.policy.holds()));
    match opened {
        Ok(_) => Check::ok(
            Id::StateDir,
            format!("{} can be written by this user only", path.display()),
        ),
        Err(error) => unusable_state(&error),
    }
}

pub(super) fn unusable_state(error: &StateError) -> Check {
    let (detail, fix) = match error {
        StateError::Unusable { path, source } => (
            format!("{} cannot be used: {source}", path.display()),
            "let this user write there, or name another folder with --state-dir".to_owned(),
        ),
        StateError::NotPrivate { path, problem } => (
            format!(
                "{} {problem}; a user who writes there can undo the protection against old collateral",
                path.display()
            ),
            format!(
                "`chmod 700 {}` and give it to the user that runs verified-proxy, or name another folder with --state-dir",
                path.display()
            ),
        ),
        StateError::Exchangeable {
            path,
            parent,
            problem,
        } => (
            format!(
                "{} lies in {}, {problem}; another folder in its place would undo the protection against old collateral",
                path.display(),
                parent.display()
            ),
            format!(
                "let nobody else write to {}, or name another folder with --state-dir",
                parent.display()
            ),
        ),
        StateError::Newer { path, detail, cost } => (
            format!("{}: {detail}, so it is left as it is", path.display()),
            format!(
                "use that version; or give this one a folder of its own with --state-dir: then it {cost}"
            ),
        ),
        StateError::History { path, detail } => (
            format!(
                "{}: {detail}; it remembers what was seen of backends, which the policy holds",
                path.display()
            ),
            "restore it from a backup, or delete it; whatever each backend shows next will then be accepted"
                .to_owned(),
        ),
        StateError::Floors { path, detail } => (
            format!(
                "{}: {detail}; it remembers how new Intel's documents have to be",
                path.display()
            ),
            "restore it from a backup, or delete it; older collateral than already seen will then be accepted again"
                .to_owned(),
        ),
    };
    Check::failed(Id::StateDir, detail, fix)
}

pub(super) fn descriptors() -> Check {
    let Some(most) = descriptors::most() else {
        return Check::skipped(Id::Descriptors, "the limit of this system cannot be read");
    };
    let detail = format!(
        "at most {most}, for {} clients at a time",
        descriptors::clients_under(Some(most))
    );
    if most < FEW_DESCRIPTORS {
        let fix =
            "raise the hard limit: `ulimit -Hn` of the shell, or LimitNOFILE= of a systemd unit";
        return Check::warning(Id::Descriptors, detail, fix);
    }
    Check::ok(Id::Descriptors, detail)
}
