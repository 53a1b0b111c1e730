//! The command line.

mod clients;
mod config_file;
mod inputs;
mod logs;
mod options;
mod policy;
mod report_text;
mod serve;
mod settings;
mod units;
mod verify;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Args as _, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::config_file::ConfigFile;
use self::inputs::Failure;
pub use self::report_text::verdict_text;
use self::settings::Settings;

/// A local proxy for NEAR AI: it proves that a connection ends in a TEE before
/// it sends your request.
///
/// Point an OpenAI client at http://127.0.0.1:8080/v1. Without a command, "serve" is meant.
#[derive(Debug, Parser)]
#[command(
    name = "verified-proxy",
    after_help = "Times are seconds, or such as 90s, 10m, 1h. Logs go to stderr.",
    version,
    args_conflicts_with_subcommands = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients: the default.
    Serve(Box<serve::Args>),
    Verify(Box<verify::Args>),
    Policy(policy::Args),
}

/// Runs the program. Exit codes: 0 done or verified, 1 refused, 2 wrong usage,
/// 3 something could not be read, fetched or opened.
#[must_use]
pub fn main() -> ExitCode {
    let (cli, settings) = match parse(std::env::args_os().collect()) {
        Ok(parsed) => parsed,
        Err(failure) => return fail(&failure),
    };
    match cli.command.unwrap_or(Command::Serve(Box::new(cli.serve))) {
        Command::Serve(args) => serve::main(*args, &settings),
        Command::Verify(args) => verify::main(*args),
        Command::Policy(args) => policy::main(&args),
    }
}

/// What stderr says, and the exit code.
fn fail(failure: &Failure) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {failure}");
    failure.exit_code()
}

/// The whole command line, for documents and tests.
#[must_use]
pub fn command() -> clap::Command {
    // Whoever runs it reads a report, not a log.
    Cli::command().mut_subcommand("verify", |verify| {
        verify.mut_arg("log", |log| log.default_value("warn"))
    })
}

/// docs/options.md.
#[must_use]
pub fn document() -> String {
    settings::document(&serve_command())
}

/// `serve` alone: what a file may hold.
fn serve_command() -> clap::Command {
    serve::Args::augment_args(clap::Command::new("serve"))
}

/// Exits for `--help`, `--version` and a command line that is wrong.
fn parse(arguments: Vec<OsString>) -> Result<(Cli, Settings), Failure> {
    let exit = |error: clap::Error| -> ArgMatches { error.exit() };
    let mut matches = command()
        .try_get_matches_from(&arguments)
        .unwrap_or_else(exit);
    let named = chosen(&matches).try_get_one::<PathBuf>("config");
    let mut file = ConfigFile::default();
    if let Ok(Some(path)) = named {
        file = ConfigFile::read(path, &serve_command())?;
        matches = file
            .as_defaults(command())
            .try_get_matches_from(&arguments)
            .unwrap_or_else(exit);
    }
    let settings = Settings::of(&serve_command(), chosen(&matches), &file);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    Ok((cli, settings))
}

/// Those of the subcommand, which may be left out.
fn chosen(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, matches)| matches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn serve_is_the_default() {
        let bare = Cli::parse_from(["verified-proxy", "--port", "0"]);
        assert!(bare.command.is_none());
        assert_eq!(bare.serve.port, 0);
        let named = Cli::parse_from(["verified-proxy", "serve", "--port", "0"]);
        assert!(matches!(named.command, Some(Command::Serve(args)) if args.port == 0));
    }
}
