//! The program: its options, and what it says to people. It runs the crate `proxy`.

pub mod cli;
