//! The command line.

mod inputs;
mod policy;
mod report_text;
mod serve;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A local proxy for NEAR AI: it proves that a connection ends in a TEE before
/// it sends your request.
///
/// Point an OpenAI client at http://127.0.0.1:8080/v1. Without a command, "serve" is meant.
#[derive(Debug, Parser)]
#[command(
    name = "verified-proxy",
    after_help = "Logs go to stderr; VERIFIED_PROXY_LOG sets their level (error, warn, info, debug).",
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
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Serve(Box::new(cli.serve))) {
        Command::Serve(args) => serve::main(*args),
        Command::Verify(args) => verify::main(&args),
        Command::Policy(args) => policy::main(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
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
