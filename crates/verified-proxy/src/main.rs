//! The program; see the library.

fn main() -> std::process::ExitCode {
    verified_proxy::cli::main()
}
