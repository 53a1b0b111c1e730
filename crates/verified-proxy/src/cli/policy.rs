//! `verified-proxy policy`: shows and checks policies.

use std::io::Write;
use std::process::ExitCode;

use super::inputs::{self, Failure};

/// Show or check a policy
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print every rule of a policy, with those of the one it extends
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
}

pub(super) fn main(args: &Args) -> ExitCode {
    let (name, show) = match &args.action {
        Action::Show { policy } => (policy, true),
        Action::Check { policy } => (policy, false),
    };
    match inputs::policy(name, &[]) {
        Ok(policy) => {
            let text = if show {
                policy.to_toml()
            } else {
                format!(
                    "policy \"{}\" of {} can be used{}\ndigest {}\n",
                    policy.name(),
                    policy.date(),
                    if policy.hardware_only() {
                        "; HARDWARE ONLY: any software passes it"
                    } else {
                        ""
                    },
                    policy.digest()
                )
            };
            match std::io::stdout().write_all(text.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::from(3),
            }
        }
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "error: {failure}");
            match failure {
                Failure::Usage(_) => ExitCode::from(1),
                Failure::Unreadable(_) => failure.exit_code(),
            }
        }
    }
}
