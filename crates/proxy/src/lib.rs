//! A local proxy: it proves that a TLS connection ends in a TDX TEE that runs the
//! expected software, and only then sends a request on it.
//!
//! ```text
//! run -> ingress -> { route, upstream -> { sources, attest } } -> respond
//! ```
//!
//! The crate `attest` computes the proof, and the crate `upstream` sends nothing before it. Here is the port: who may ask, where a request goes, what is
//! answered. The program around it is `verified-proxy`.
//!
//! # Embedding
//!
//! Make a [`Config`] and a [`Listener`], and await [`run`] (`examples/embed.rs`). The
//! caller has to:
//!
//! - Keep strangers from the port. Listen on loopback or at a [`UnixSocket`], or demand
//!   tokens (`Config::guard`): otherwise whoever reaches the port spends `Config::api_key`.
//!   The program refuses such a configuration, the library does not.
//! - Set `Config::state_dir`. Without it the process forgets at its end how new Intel's
//!   documents were, and accepts older ones after the next start.
//! - Allow `Config::body_memory` at least `Config::max_body` and `upstream::BODY_SLACK`:
//!   otherwise a body of that size is never taken.
//! - Await [`run`] to its end. It resolves after `shutdown` did and the answers ended,
//!   and writes the state; if it is dropped, answers break off.
//! - Call [`descriptors::raise`] and [`core_dumps::disable`] once for the process: each
//!   client has a file descriptor, and memory holds keys and prompts.

mod api;
mod body;
mod client_stream;
pub mod codes;
pub mod config;
pub mod core_dumps;
pub mod descriptors;
mod events;
pub mod examine;
mod ingress;
mod listener;
mod page;
mod probes;
pub mod report_labels;
pub mod respond;
mod route;
mod server;
pub mod shutdown;

pub use sources::state::StateError;
pub use sources::tls::TlsSetupError;

pub use crate::config::Config;
pub use crate::listener::{BindError, Host, Listener};
#[cfg(unix)]
pub use crate::listener::{HandedOver, NotUsable, UnixSocket};
pub use crate::route::RouteError;
pub use crate::server::{ReloadError, Reloader, Server, SetupError, run};
