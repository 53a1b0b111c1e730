//! `verified-proxy image`: which OS images are known, and what a release's files measure.

mod files;
mod list;
mod measure;

use std::process::ExitCode;

use super::read_files::Failure;

/// List the OS images that this program knows of, or measure a release's files
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    List(list::Args),
    Measure(measure::Args),
}

pub(super) fn main(args: &Args) -> Result<ExitCode, Failure> {
    match &args.action {
        Action::List(args) => list::main(args),
        Action::Measure(args) => measure::main(args),
    }
}

/// Shown wherever an image is accepted by its hash.
const NO_PROOF: &str = "A hash is not a proof of a release";
