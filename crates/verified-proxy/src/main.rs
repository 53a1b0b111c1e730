//! The program; see the library.

/// A request takes some fifty short-lived allocations, of which ten are too large
/// for the fast path of glibc's allocator: bench/run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    verified_proxy::cli::main()
}
