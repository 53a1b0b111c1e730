//! The fake against dcap-qvl, and its formulas against recordings.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "clippy's exceptions for tests do not reach their helper functions"
)]

mod cases;
mod dcap;
mod fields;
mod recordings;
mod service;
