//! A local proxy that proves that a TLS connection ends in a TDX TEE running the
//! expected software, and only then sends a request on it.
//!
//! ```text
//! main -> cli -> run -> ingress -> { route, upstream -> { dial, verdicts, collateral, attest } }
//! ```
//!
//! The proof itself is the crate `attest`; that nothing leaves before it is the
//! module `upstream`.

mod admin;
mod backend;
pub mod cli;
mod clock;
pub mod codes;
mod collateral;
pub mod config;
mod endpoints;
mod examine;
mod fetch;
mod idle;
mod ingress;
mod limits;
mod net;
mod respond;
mod route;
mod shutdown;
mod tls;
mod upstream;
mod verdicts;

use std::sync::Arc;

use tokio::net::TcpListener;

use crate::collateral::Collaterals;
pub use crate::config::Config;
use crate::endpoints::Endpoints;
use crate::fetch::Fetcher;
use crate::ingress::{ClientLimits, Ingress};
use crate::net::ConnectMap;
pub use crate::tls::TlsSetupError;
use crate::upstream::{Judge, Terms, Upstream};
use crate::verdicts::Verdicts;

/// What backends and fetched-from servers see of this program.
const USER_AGENT: &str = concat!("verified-proxy/", env!("CARGO_PKG_VERSION"));

/// A proxy that is set up and does not serve yet.
#[derive(Debug)]
pub struct Server(Ingress);

impl Server {
    /// Sets everything up that can fail.
    ///
    /// # Errors
    /// If outgoing TLS cannot be set up.
    pub fn new(config: Config) -> Result<Self, TlsSetupError> {
        let webpki = tls::webpki(&config.extra_ca)?;
        let connect_to = ConnectMap::new(config.connect_to);
        let fetcher = Arc::new(Fetcher::new(Arc::clone(&webpki), connect_to.clone())?);
        let endpoints = Endpoints::new(Arc::clone(&fetcher), config.endpoints_url, config.allow);
        let collaterals =
            Collaterals::new(fetcher, config.collateral_sources, &config.trust_anchors);
        let judge = Judge::new(
            config.policy,
            config.trust_anchors,
            config.signing_algo,
            config.webpki,
            collaterals,
            config.clock.clone(),
        );
        let verdicts = Arc::new(Verdicts::new(config.verdict_ttl));
        let upstream = Upstream::new(
            webpki,
            connect_to,
            judge,
            Arc::clone(&verdicts),
            config.attest_timeout,
            Terms {
                timeouts: config.backend_timeouts,
                clock: config.clock,
            },
        )?;
        Ok(Self(Ingress::new(
            endpoints,
            upstream,
            verdicts,
            ClientLimits {
                max_body: config.max_body,
                body_memory: config.body_memory,
                timeouts: config.client_timeouts,
                drain: config.drain,
            },
        )))
    }

    /// Serves clients on `listener` until `shutdown` resolves, then until their
    /// answers have ended or [`Config::drain`] has passed. Dropping the future
    /// ends them at once.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        self.0.serve(listener, shutdown).await;
    }
}

/// [`Server::new`] and [`Server::serve`].
///
/// # Errors
/// Those of [`Server::new`].
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), TlsSetupError> {
    Server::new(config)?.serve(listener, shutdown).await;
    Ok(())
}
