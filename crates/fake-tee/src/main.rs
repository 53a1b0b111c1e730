//! `fake-tee`: see the library.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match fake_tee::cli::run(fake_tee::cli::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the program's only error output")]
            {
                eprintln!("error: {error}");
            }
            ExitCode::FAILURE
        }
    }
}
