//! The proxy, put together.

use std::sync::Arc;

use sources::collateral::Collaterals;
use sources::compose_files::ComposeFiles;
use sources::compose_tags::ComposeTags;
use sources::endpoints::Endpoints;
use sources::fetch::Fetcher;
use sources::net::{Network, Routes};
use sources::nras::Nras;
use sources::seldom::Seldom;
use sources::state::{Memory, StateDir, StateError};
use sources::tls::{self, TlsSetupError};
use upstream::metrics::Metrics;
use upstream::verdicts::Verdicts;
use upstream::{Dialer, Judge, Sources, Upstream, UpstreamSettings};

use crate::config::Config;
use crate::descriptors;
use crate::ingress::{ClientLimits, Ingress};
use crate::listener::Listener;
use crate::page::Page;
use crate::respond;

/// Why a proxy cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Outgoing TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
}

/// A proxy that is set up and does not serve yet.
#[derive(Debug)]
pub struct Server {
    pub(crate) ingress: Ingress,
    pub(crate) sources: Sources,
    pub(crate) memory: Memory,
}

impl Server {
    /// Does everything that can fail.
    ///
    /// # Errors
    /// If outgoing TLS cannot be set up or the state directory cannot be used.
    pub fn new(config: Config) -> Result<Self, SetupError> {
        let clock = config.clock;
        let webpki = tls::webpki(&config.extra_ca)?;
        let routes = Routes::new(config.connect_to, config.proxies);
        let network = Network::new(routes, webpki.clone())?;
        let fetcher = Fetcher::new(webpki.clone(), network.clone(), clock.clone())?;
        let fetcher = Arc::new(fetcher);
        let state = match &config.state_dir {
            Some(path) => Some(StateDir::open(path, &config.trust_anchors)?),
            None => None,
        };
        let memory = Memory::load(state.clone(), config.policy.holds())?;
        let endpoints = Endpoints::new(
            fetcher.clone(),
            config.endpoints_url,
            config.allow,
            clock.clone(),
            state.clone(),
        );
        let nras = Nras::new(fetcher.clone(), config.nras_url, clock.clone());
        let files = config.compose_source;
        let compose_files = ComposeFiles::new(files, fetcher.clone(), clock.clone(), state.clone());
        let tags = config.compose_tags_source;
        let compose_tags = ComposeTags::new(tags, fetcher.clone(), clock.clone());
        let collaterals = Collaterals::new(
            fetcher,
            config.collateral_sources,
            &config.trust_anchors,
            clock.clone(),
            state,
        );
        let sources = Sources {
            collaterals,
            nras,
            compose_files,
            compose_tags,
        };
        let metrics = Metrics::new(
            &config.policy,
            &config.trust_anchors,
            config.webpki,
            config.log_lines_dropped,
        );
        let page = Page::new(
            &config.policy,
            &config.trust_anchors,
            config.webpki,
            config.verdict_ttl,
            metrics.counts(),
        );
        let judge = Judge::new(
            config.policy,
            config.trust_anchors,
            config.signing_algo,
            config.webpki,
            sources.clone(),
            memory.clone(),
            config.accept_change,
            clock.clone(),
        );
        let seldom = Seldom::default();
        let verdicts = Verdicts::new(config.verdict_ttl, Arc::clone(&metrics), seldom.clone());
        let verdicts = Arc::new(verdicts);
        let settings = Arc::new(UpstreamSettings {
            timeouts: config.backend_timeouts,
            clock,
            metrics: Arc::clone(&metrics),
            api_key: config.api_key,
            seldom,
            model_levels: config.model_levels,
        });
        let dialer = Dialer::new(config.webpki, webpki, network, Arc::clone(&settings))?;
        let mut pool = config.pool;
        pool.idle_in_all = pool.idle_in_all.min(descriptors::idle());
        let upstream = Upstream::new(
            dialer,
            pool,
            judge,
            Arc::clone(&verdicts),
            config.attest_timeout,
            settings,
        );
        let ingress = Ingress::new(
            endpoints,
            upstream,
            verdicts,
            metrics,
            page,
            config.guard,
            ClientLimits {
                max_body: config.max_body,
                body_memory: config.body_memory,
                timeouts: config.client_timeouts,
                drain: config.drain,
            },
        );
        Ok(Self {
            ingress,
            sources,
            memory,
        })
    }

    /// Fetches the endpoint list, and logs what to do if that fails. No request waits for
    /// it.
    pub fn self_check(&self) -> impl Future<Output = ()> + Send + use<> {
        let endpoints = self.ingress.endpoints().clone();
        async move {
            if let Err(error) = endpoints.renewed().await {
                tracing::warn!(
                    "self-check: the endpoint list was not fetched, so {}; {}; `verified-proxy doctor` finds out why",
                    match endpoints.kept() {
                        Some((_, since)) => format!("the one of {since} is used"),
                        None => "no request can be answered".to_owned(),
                    },
                    respond::remedy(&error)
                );
            }
        }
    }

    /// Serves clients on `listener` until `shutdown` resolves, then until their
    /// answers have ended or [`Config::drain`] has passed; then writes what was seen, for 5 s
    /// at most. Dropping the future ends it at once.
    ///
    /// A lookup or a write to the disk that hangs goes on in a thread of the runtime: end that
    /// with `Runtime::shutdown_timeout`, since dropping it waits for them.
    pub async fn serve(self, listener: impl Into<Listener>, shutdown: impl Future<Output = ()>) {
        self.sources.collaterals.prewarm();
        self.ingress.serve(listener.into(), shutdown).await;
        self.memory.flush().await;
    }
}

/// [`Server::new`] and [`Server::serve`].
///
/// # Errors
/// Those of [`Server::new`].
pub async fn run(
    config: Config,
    listener: impl Into<Listener>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), SetupError> {
    Server::new(config)?.serve(listener, shutdown).await;
    Ok(())
}
