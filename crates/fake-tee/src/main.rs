//! `fake-tee`: see the library.

use std::process::ExitCode;

use clap::Parser as _;

/// Measured against glibc's with bench/run, where it must not be what limits.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
