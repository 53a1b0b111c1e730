//! The fake against dcap-qvl, and its formulas against recordings.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "clippy's exceptions for tests do not reach their helper functions; and a test client dials the fake's own ports"
)]

mod cases;
mod client;
mod dcap;
mod faults;
mod fields;
mod instances;
mod nras;
mod recordings;
mod service;
