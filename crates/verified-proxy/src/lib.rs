//! The program: its options, and what it says to people. What it runs is the crate
//! `proxy`.

pub mod cli;
