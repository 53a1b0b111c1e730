//! How much memory a piece of work takes from the allocator.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

/// Counts for the whole program.
#[global_allocator]
pub(crate) static MEMORY: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Runs `work`; fails if all that it ever allocated, given back or not, is more
/// than `fixed` bytes and `per_byte` for each of the `input` bytes.
pub(crate) fn bounded<T>(
    input: usize,
    fixed: usize,
    per_byte: usize,
    work: impl FnOnce() -> T,
) -> T {
    let region = Region::new(MEMORY);
    let done = work();
    let allocated = region.change().bytes_allocated;
    assert!(
        allocated <= fixed + per_byte * input,
        "{allocated} bytes were allocated for {input} bytes"
    );
    done
}
