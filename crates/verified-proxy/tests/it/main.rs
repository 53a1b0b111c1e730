//! The proxy as a client sees it, in front of a fake TEE that records every byte.
//! Everything is in this process and on loopback.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set its scene up has failed; clippy knows tests, not their helpers"
)]

mod accept;
mod admission;
mod attacks;
mod bodies;
mod chat;
mod cli;
mod clients;
mod coalescing;
mod compose_files;
mod compose_tags;
mod connection;
mod connection_reuse;
mod departed;
mod docs;
mod doctor;
mod drain;
mod endpoint_list;
mod every_code;
mod fetches;
mod framing;
mod generated;
mod guard;
mod guidance;
#[cfg(unix)]
mod handed_over;
mod harness;
mod hostile;
mod hung;
mod levels;
mod load;
mod many_instances;
mod metrics;
mod mixed_instances;
mod nras;
mod outgoing_proxy;
mod own_pages;
mod page;
mod program;
mod readme;
mod refused;
mod reload;
mod repeats;
mod request_heads;
#[cfg(unix)]
mod restart;
mod routing;
mod serve;
mod sources;
mod stalled;
mod state;
mod state_crashes;
mod state_layouts;
mod uploads;
mod verify;
mod verify_live;
