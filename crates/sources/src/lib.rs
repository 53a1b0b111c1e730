//! What a proof needs beside the machine's own evidence: public documents, fetched and stored,
//! and the names that may be asked for evidence.
//!
//! No type of this crate can hold a client's data, and the crate depends on none that has such
//! a type.

pub mod backend;
pub mod clock;
pub mod collateral;
pub mod compose_files;
pub mod compose_tags;
pub mod endpoints;
pub mod fetch;
pub mod lock;
pub mod net;
pub mod nras;
mod retry_after;
pub mod seldom;
mod single_flight;
pub mod skew;
pub mod state;
pub mod tls;
pub mod webpki;
