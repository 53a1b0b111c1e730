//! A local proxy that proves that a TLS connection ends in a TDX TEE running the
//! expected software, and only then sends a request on it.
//!
//! ```text
//! run -> ingress -> { route, upstream -> { sources, attest } } -> respond
//! ```
//!
//! The proof itself is the crate `attest`; that nothing leaves before it is the
//! crate `upstream`. Here is the port: who asks, where a request goes, what is
//! answered. The program around it is `verified-proxy`.

mod api;
mod body;
pub mod codes;
pub mod config;
pub mod core_dumps;
pub mod descriptors;
mod events;
pub mod examine;
mod ingress;
mod listener;
mod page;
pub mod report_labels;
pub mod respond;
mod route;
mod server;
pub mod shutdown;

pub use sources::state::StateError;
pub use sources::tls::TlsSetupError;

pub use crate::config::Config;
pub use crate::listener::Listener;
#[cfg(unix)]
pub use crate::listener::UnixSocket;
pub use crate::route::RouteError;
pub use crate::server::{Server, SetupError, run};
