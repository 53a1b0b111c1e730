//! The command line.

/// Adds a line to a `String`, which cannot fail.
macro_rules! line {
    ($text:expr, $($format:tt)*) => {{
        use std::fmt::Write as _;
        let _ = writeln!($text, $($format)*);
    }};
}

mod accept;
mod clients;
mod completions;
mod config_file;
mod doctor;
mod effective_options;
mod image;
mod listening;
mod logs;
mod models;
mod options;
mod outgoing;
mod policy;
mod read_files;
#[cfg(unix)]
mod reload;
mod report_text;
mod serve;
mod service_manager;
mod units;
mod verify;
mod version;

use std::any::TypeId;
use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args as _, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::config_file::ConfigFile;
use self::effective_options::Settings;
use self::read_files::Failure;
pub use self::report_text::{verdict_explained, verdict_text};

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
    /// With --version: commit, compiler and policy as well
    #[arg(long, requires = "version")]
    verbose: bool,
    #[command(flatten)]
    serve: serve::Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients: the default.
    Serve(Box<serve::Args>),
    Verify(Box<verify::Args>),
    Models(Box<models::Args>),
    Doctor(Box<doctor::Args>),
    Policy(policy::Args),
    Image(image::Args),
    Completions(completions::Completions),
    /// Print the man page, in roff: verified-proxy man | man -l -
    Man,
}

/// The commands whose output is a report, and their default level of the log: two of them
/// say themselves what failed.
const REPORTING: [(&str, &str); 3] = [("verify", "warn"), ("models", "error"), ("doctor", "error")];

/// Runs the program. Exit codes: 0 done or verified, 1 refused or a check failed, 2 wrong
/// usage, 3 something could not be read, fetched or opened, 4 something hung and a second
/// signal ended the program.
#[must_use]
pub fn main() -> ExitCode {
    let (cli, settings) = match parse(&std::env::args_os().collect::<Vec<_>>()) {
        Ok(parsed) => parsed,
        Err(failure) => return fail(&failure),
    };
    let outcome = match cli.command.unwrap_or(Command::Serve(Box::new(cli.serve))) {
        Command::Serve(args) => return serve::main(*args, settings),
        Command::Verify(args) => verify::main(*args),
        Command::Models(args) => models::main(*args),
        Command::Doctor(args) => doctor::main(*args),
        Command::Policy(args) => policy::main(args),
        Command::Image(args) => image::main(&args),
        Command::Completions(args) => completions::completions(&args),
        Command::Man => completions::man(),
    };
    outcome.unwrap_or_else(|failure| fail(&failure))
}

/// Whether standard output takes colours.
fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// To standard output, whole.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::Unreadable(format!("standard output: {error}")))
}

/// How long files may still be written after the output. A DNS lookup without an answer
/// takes longer, and cannot be stopped.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Writes the failure to stderr; gives the exit code.
fn fail(failure: &Failure) -> ExitCode {
    let error = match failure {
        Failure::NotAccepted(_) => "",
        _ => "error: ",
    };
    let _ = writeln!(std::io::stderr(), "{error}{failure}");
    failure.exit_code()
}

/// The whole command line, for documents and tests.
#[must_use]
pub fn command() -> clap::Command {
    REPORTING
        .iter()
        .fold(Cli::command(), |command, (name, level)| {
            command.mut_subcommand(name, |reporting| {
                reporting.mut_arg("log", |log| log.default_value(level))
            })
        })
}

/// docs/options.md.
#[must_use]
pub fn document() -> String {
    effective_options::document(&serve_command())
}

/// `serve` alone: the options that a file may have.
fn serve_command() -> clap::Command {
    serve::Args::augment_args(clap::Command::new("serve"))
}

/// Exits for `--help`, `--version` and a command line that is wrong.
fn parse(arguments: &[OsString]) -> Result<(Cli, Settings), Failure> {
    match try_parse(arguments) {
        Ok(parsed) => Ok(parsed),
        Err(Wrong::Option(error)) => {
            let verbose = arguments.iter().any(|argument| argument == "--verbose");
            if error.kind() == ErrorKind::DisplayVersion && verbose {
                // Stdout may be closed.
                let _ = print(&version::verbose());
                std::process::exit(0);
            }
            error.exit()
        }
        Err(Wrong::File(failure)) => Err(failure),
    }
}

/// What `serve` would be started with now: files may have changed since the start.
#[cfg(unix)]
fn serve_again() -> Result<(serve::Args, Settings), Failure> {
    let arguments: Vec<_> = std::env::args_os().collect();
    let (cli, settings) = try_parse(&arguments).map_err(|wrong| match wrong {
        Wrong::Option(error) => Failure::Usage(error.to_string()),
        Wrong::File(failure) => failure,
    })?;
    let args = match cli.command {
        Some(Command::Serve(args)) => *args,
        _ => cli.serve,
    };
    Ok((args, settings))
}

/// Why options cannot be used.
enum Wrong {
    Option(clap::Error),
    File(Failure),
}

impl From<clap::Error> for Wrong {
    fn from(error: clap::Error) -> Self {
        Self::Option(error)
    }
}

impl From<Failure> for Wrong {
    fn from(failure: Failure) -> Self {
        Self::File(failure)
    }
}

fn try_parse(arguments: &[OsString]) -> Result<(Cli, Settings), Wrong> {
    variables_are_text()?;
    let mut matches = command().try_get_matches_from(arguments)?;
    let named = chosen(&matches).try_get_one::<PathBuf>("config");
    let mut file = ConfigFile::default();
    if let Ok(Some(path)) = named {
        file = ConfigFile::read(path, &serve_command())?;
        matches = file
            .as_defaults(command())
            .try_get_matches_from(arguments)?;
    }
    let settings = Settings::of(&serve_command(), chosen(&matches), &file);
    Ok((Cli::from_arg_matches(&matches)?, settings))
}

/// clap says that a variable is not UTF-8, but not which one.
fn variables_are_text() -> Result<(), Failure> {
    for option in serve_command().get_arguments() {
        let may_be_bytes = option.get_value_parser().type_id() == TypeId::of::<PathBuf>();
        if let Some(name) = option.get_env()
            && !may_be_bytes
            && std::env::var_os(name).is_some_and(|value| value.to_str().is_none())
        {
            return Err(Failure::Usage(format!(
                "the variable {}: not UTF-8",
                name.to_string_lossy()
            )));
        }
    }
    Ok(())
}

/// The matches of the innermost subcommand, or of "serve" if none is named.
fn chosen(matches: &ArgMatches) -> &ArgMatches {
    matches
        .subcommand()
        .map_or(matches, |(_, inner)| chosen(inner))
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
        assert_eq!(bare.serve.listening.port, 0);
        let named = Cli::parse_from(["verified-proxy", "serve", "--port", "0"]);
        assert!(matches!(named.command, Some(Command::Serve(args)) if args.listening.port == 0));
    }
}
