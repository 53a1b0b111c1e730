//! The proxy, put together.

use std::sync::Arc;
use std::time::Duration;

use attest::TrustAnchors;
use rustls::client::WebPkiServerVerifier;
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
use tokio::sync::{Mutex, watch};
use upstream::admission::Counts;
use upstream::metrics::Metrics;
use upstream::verdicts::Verdicts;
use upstream::{Dialer, Judge, Sources, Upstream, UpstreamSettings};

use crate::config::{Config, Counter};
use crate::descriptors;
use crate::ingress::{ClientLimits, Ingress};
use crate::listener::Listener;
use crate::page::Page;
use crate::probes;
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

/// Why a proxy goes on as it was.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The new configuration cannot be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// What was remembered under one root says nothing under another.
    #[error("the roots of trust changed: they are read at the start only, so restart the proxy")]
    TrustAnchors,
    /// As at a start, which ends with an error then.
    #[error(
        "this policy holds backends to what was seen of them (hold = true), and that could not be read at the start: restart the proxy"
    )]
    History,
}

/// How long a reload waits for the endpoint list and for verdicts by the new rules. Requests
/// wait longer for them if they have to.
const PREPARATION: Duration = Duration::from_secs(5);

/// A proxy that is set up and does not serve yet.
#[derive(Debug)]
pub struct Server {
    current: watch::Sender<Arc<Ingress>>,
    pub(crate) sources: Sources,
    lasting: Lasting,
    metrics: Option<Listener>,
}

/// What reloads leave as it is.
#[derive(Debug, Clone)]
struct Lasting {
    state: Option<Arc<StateDir>>,
    memory: Memory,
    trust_anchors: TrustAnchors,
    /// Of what clients share.
    counts: Counts,
    log_lines_dropped: Counter,
    /// Held during a reload: each replaces what the one before it made.
    reloading: Arc<Mutex<()>>,
}

impl Lasting {
    fn of(config: &Config) -> Result<Self, SetupError> {
        let trust_anchors = config.trust_anchors.clone();
        let state = match &config.state_dir {
            Some(path) => Some(StateDir::open(path, &trust_anchors)?),
            None => None,
        };
        let memory = Memory::load(state.clone(), config.policy.holds())?;
        Ok(Self {
            state,
            memory,
            trust_anchors,
            counts: Counts::default(),
            log_lines_dropped: config.log_lines_dropped.clone(),
            reloading: Arc::default(),
        })
    }
}

impl Server {
    /// Does everything that can fail.
    ///
    /// # Errors
    /// If outgoing TLS cannot be set up or the state directory cannot be used.
    pub fn new(config: Config) -> Result<Self, SetupError> {
        // First: no folder is made for a proxy that cannot start.
        let webpki = tls::webpki(&config.extra_ca)?;
        let lasting = Lasting::of(&config)?;
        let (ingress, sources) = set_up(config, webpki, &lasting)?;
        Ok(Self {
            current: watch::Sender::new(Arc::new(ingress)),
            sources,
            lasting,
            metrics: None,
        })
    }

    /// Fetches the endpoint list, and logs what to do if that fails. No request waits for
    /// it.
    pub fn self_check(&self) -> impl Future<Output = ()> + Send + use<> {
        let endpoints = self.ingress().endpoints().clone();
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

    pub(crate) fn memory(&self) -> Memory {
        self.lasting.memory.clone()
    }

    pub(crate) fn ingress(&self) -> Arc<Ingress> {
        Arc::clone(&self.current.borrow())
    }

    /// Also answers `/_proxy/metrics`, `/_proxy/live` and `/_proxy/ready`, and nothing else, on
    /// `listener`, without tokens.
    #[must_use]
    pub fn with_metrics(mut self, listener: Listener) -> Self {
        self.metrics = Some(listener);
        self
    }

    /// Changes the configuration while the proxy serves.
    pub fn reloader(&self) -> Reloader {
        Reloader {
            current: self.current.clone(),
            lasting: self.lasting.clone(),
        }
    }

    /// Serves clients on `listener` until `shutdown` resolves, then until their
    /// answers have ended or [`Config::drain`] has passed; then writes what was seen, for 5 s
    /// at most. Dropping the future ends it at once.
    pub async fn serve(self, listener: impl Into<Listener>, shutdown: impl Future<Output = ()>) {
        self.sources.collaterals.prewarm();
        let current = self.current.subscribe();
        // Ends with the clients: until then a supervisor may ask.
        let probes = self
            .metrics
            .map(|listener| probes::serve(current.clone(), listener));
        let clients = Ingress::serve(current, listener.into(), shutdown);
        match probes {
            Some(probes) => tokio::select! {
                () = clients => {}
                () = probes => {}
            },
            None => clients.await,
        }
        self.lasting.memory.flush().await;
    }
}

/// Changes the configuration of a proxy that serves.
#[derive(Debug)]
pub struct Reloader {
    current: watch::Sender<Arc<Ingress>>,
    lasting: Lasting,
}

impl Reloader {
    /// Serves every request whose head comes after this has resolved by `config`, also on
    /// connections that are open already. Requests that came before are sent under the new
    /// policy if they were not sent yet; answers under way go on. What was seen of collateral
    /// and backends stays, so `state_dir` is not looked at.
    ///
    /// It may take some seconds, in which requests are served as before: the backends in use
    /// are verified by the new rules.
    ///
    /// # Errors
    /// If `config` cannot be set up, or has other roots of trust. Nothing has changed then.
    pub async fn reload(&self, config: Config) -> Result<(), ReloadError> {
        if config.trust_anchors != self.lasting.trust_anchors {
            return Err(ReloadError::TrustAnchors);
        }
        if config.policy.holds() && !self.lasting.memory.history_is_known() {
            return Err(ReloadError::History);
        }
        let _turn = self.lasting.reloading.lock().await;
        let webpki = tls::webpki(&config.extra_ca).map_err(SetupError::from)?;
        let (ingress, sources) = set_up(config, webpki, &self.lasting)?;
        sources.collaterals.prewarm();
        let before = Arc::clone(&self.current.borrow());
        let ingress = Arc::new(ingress.after(&before));
        let prepared = ingress.prepare(&before);
        if tokio::time::timeout(PREPARATION, prepared).await.is_err() {
            tracing::debug!("not every backend in use is verified by the new rules yet");
        }
        self.current.send_replace(Arc::clone(&ingress));
        before.retire(ingress);
        Ok(())
    }
}

fn set_up(
    config: Config,
    webpki: Arc<WebPkiServerVerifier>,
    lasting: &Lasting,
) -> Result<(Ingress, Sources), SetupError> {
    let clock = config.clock;
    let (state, memory) = (&lasting.state, &lasting.memory);
    let routes = Routes::new(config.connect_to, config.proxies);
    let network = Network::new(routes, webpki.clone())?;
    let fetcher = Fetcher::new(webpki.clone(), network.clone(), clock.clone())?;
    let fetcher = Arc::new(fetcher);
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
        state.clone(),
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
        lasting.log_lines_dropped.clone(),
        lasting.counts.clone(),
    );
    let page = Page::new(
        &config.policy,
        &config.trust_anchors,
        config.webpki,
        config.verdict_ttl,
        lasting.counts.clone(),
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
    let verdicts = Verdicts::new(
        config.verdict_ttl,
        clock.clone(),
        Arc::clone(&metrics),
        seldom.clone(),
    );
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
    Ok((ingress, sources))
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
