//! The proxy as a client sees it, in front of a fake TEE that records every byte.
//! Everything is in this process and on loopback.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set its scene up has failed; clippy knows tests, not their helpers"
)]

mod accept;
mod attacks;
mod bodies;
mod chat;
mod cli;
mod clients;
mod compose_files;
mod compose_tags;
mod connection;
mod docs;
mod doctor;
mod drain;
mod every_code;
mod fetches;
mod fleet;
mod framing;
mod generated;
mod guard;
mod guidance;
mod harness;
mod heads;
mod hostile;
mod joined;
mod kept;
mod kills;
mod levels;
mod lists;
mod load;
mod metrics;
mod nras;
mod own_pages;
mod page;
mod program;
mod readme;
mod refused;
mod routing;
mod serve;
mod sources;
mod stalled;
mod state;
mod verify;
mod verify_live;
