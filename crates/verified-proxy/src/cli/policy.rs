//! `verified-proxy policy`: shows, checks and compares policies, and accepts changes.

use std::fmt::Write as _;
use std::process::ExitCode;

use attest::Effect;

use super::read_files::{self, Failure};
use super::{accept, print};

/// Show, check or compare policies, or accept a change for a while
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print every rule of a policy, and those of the policy that it extends
    Show {
        /// "near", "near-strict", "hardware" or a TOML file
        #[arg(value_name = "near|near-strict|hardware|FILE", default_value = "near")]
        policy: String,
    },
    /// Say whether a policy can be used; exit code 1 if not
    Check {
        /// "near", "near-strict", "hardware" or a TOML file
        #[arg(value_name = "near|near-strict|hardware|FILE")]
        policy: String,
    },
    /// Say what a policy accepts more and less than another
    ///
    /// Rules are compared by what they mean, not by how files write them. Exit code 0: NEW accepts
    /// nothing that OLD refuses; 1: it may; 2 and 3: one of them cannot be used or read.
    Diff {
        /// "near", "near-strict", "hardware" or a TOML file
        #[arg(value_name = "OLD")]
        old: String,
        /// "near", "near-strict", "hardware" or a TOML file
        #[arg(value_name = "NEW")]
        new: String,
    },
    Accept(Box<accept::Args>),
}

pub(super) fn main(args: Args) -> Result<ExitCode, Failure> {
    match args.action {
        Action::Show { policy } => show(&policy, true),
        Action::Check { policy } => show(&policy, false),
        Action::Diff { old, new } => diff(&old, &new),
        Action::Accept(args) => accept::main(*args),
    }
}

fn show(name: &str, whole: bool) -> Result<ExitCode, Failure> {
    let policy = read_files::policy(name, &[]).map_err(|failure| match failure {
        Failure::Usage(why) => Failure::Refused(why),
        other => other,
    })?;
    let any_software = if policy.hardware_only() {
        "; HARDWARE ONLY: any software passes it"
    } else {
        ""
    };
    print(&if whole {
        policy.to_toml()
    } else {
        format!(
            "policy \"{}\" of {} can be used{any_software}\ndigest {}\n",
            policy.name(),
            policy.date(),
            policy.digest()
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn diff(old: &str, new: &str) -> Result<ExitCode, Failure> {
    let changes = read_files::policy(old, &[])?.changes_to(&read_files::policy(new, &[])?);
    let mut text = String::new();
    for (effect, heading) in [
        (Effect::More, format!("{new} accepts more than {old}:")),
        (Effect::Less, format!("{new} accepts less than {old}:")),
        (
            Effect::Neither,
            format!("{new} reports something else than {old}:"),
        ),
    ] {
        let mut of_effect = changes
            .iter()
            .filter(|change| change.effect == effect)
            .peekable();
        if of_effect.peek().is_some() {
            line!(text, "{heading}");
        }
        for change in of_effect {
            line!(text, "  {change}");
        }
    }
    let is_weaker = changes.iter().any(|change| change.effect == Effect::More);
    let _ = match (changes.is_empty(), is_weaker) {
        (true, _) => writeln!(text, "{new} accepts exactly what {old} accepts."),
        (_, true) => writeln!(
            text,
            "\nWEAKER: {new} accepts something that {old} refuses."
        ),
        (_, false) => writeln!(text, "\n{new} accepts nothing that {old} refuses."),
    };
    print(&text)?;
    Ok(ExitCode::from(u8::from(is_weaker)))
}
