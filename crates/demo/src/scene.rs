//! Two simulated backends under one simulated root of trust, and the real proxy.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use attest::{GpuAnchors, Policy, TrustAnchors};
use fake_tee::serve::{Options, Running};
use proxy::{Config, SetupError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client;
use crate::failure::Failure;

/// The model of the backend that is what the policy expects.
pub(crate) const MODEL: &str = "fake/llama";
/// The model of the backend whose host can read its memory.
pub(crate) const TAMPERED_MODEL: &str = "fake/tampered";
const TAMPERED_DOMAIN: &str = "fake-tampered.completions.near.ai";
/// A TD in debug mode, properly measured and signed: its host can read it.
const TAMPERING: &str = "debug-td";

/// The backends and the proxy, running.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) proxy: SocketAddr,
    /// Also simulates the endpoint list and Intel's service.
    pub(crate) good: Running,
    pub(crate) tampered: Running,
    /// From the program's start until the backends run. aws-lc takes most of it, once, to
    /// collect entropy for the process's first key.
    pub(crate) backends: Duration,
    /// From then until the proxy's first answer about itself.
    pub(crate) listening: Duration,
    began: Instant,
    folder: TempDir,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), SetupError>>,
}

impl Scene {
    pub(crate) async fn set(port: u16, began: Instant) -> Result<Self, Failure> {
        let refused = |source| Failure::Listen { port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(refused)?;
        let proxy = listener.local_addr().map_err(refused)?;
        let folder = tempfile::Builder::new()
            .prefix("verified-proxy-demo-")
            .tempdir()
            .map_err(|error| Failure::setup("a folder for the simulated backends", error))?;
        let (good, tampered) = backends(&folder)
            .await
            .map_err(|error| Failure::setup("the simulated backends", error))?;
        let backends = began.elapsed();
        let config = config(&good, &tampered)
            .map_err(|error| Failure::setup("the proxy's configuration", error))?;
        let (stop, stopped) = oneshot::channel::<()>();
        let mut serving = tokio::spawn(proxy::run(config, listener, async {
            let _ = stopped.await;
        }));
        tokio::select! {
            alive = client::get(proxy, "/_proxy/live") => alive?,
            ended = &mut serving => return Err(not_serving(ended)),
        };
        Ok(Self {
            proxy,
            good,
            tampered,
            backends,
            listening: began.elapsed().saturating_sub(backends),
            began,
            folder,
            stop,
            serving,
        })
    }

    /// Since the program's start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Waits for answers to end, and removes every file.
    pub(crate) async fn end(self) -> Result<(), Failure> {
        let _ = self.stop.send(());
        match self.serving.await {
            Ok(Ok(())) => {}
            ended => return Err(not_serving(ended)),
        }
        drop((self.good, self.tampered));
        self.folder
            .close()
            .map_err(|error| Failure::setup("removing the simulated backends' folder", error))
    }
}

/// The tampered backend has the root and the KMS of the other: only its mode is wrong.
async fn backends(folder: &TempDir) -> Result<(Running, Running), fake_tee::Error> {
    let good = fake_tee::serve::start(Options {
        dir: Some(folder.path().join("good")),
        model: MODEL.to_owned(),
        also: vec![(TAMPERED_DOMAIN.to_owned(), vec![TAMPERED_MODEL.to_owned()])],
        ..Options::default()
    })
    .await?;
    let tampered = good
        .sibling(Options {
            dir: Some(folder.path().join("tampered")),
            domain: TAMPERED_DOMAIN.to_owned(),
            model: TAMPERED_MODEL.to_owned(),
            tamper: TAMPERING.to_owned(),
            ..Options::default()
        })
        .await?;
    Ok((good, tampered))
}

/// The product's defaults, with the simulated backends' addresses and roots.
fn config(good: &Running, tampered: &Running) -> Result<Config, Box<dyn Error + Send + Sync>> {
    let authority = |fake: &Running| CertificateDer::from_pem_slice(fake.tls_ca_pem.as_bytes());
    Ok(Config {
        extra_ca: vec![authority(good)?, authority(tampered)?],
        connect_to: vec![good.connect_to().parse()?, tampered.connect_to().parse()?],
        trust_anchors: TrustAnchors::danger_tdx_root(good.tdx_root_der.clone())
            .with_gpus(GpuAnchors::danger_gpu_root(good.gpu_root_der.clone())),
        endpoints_url: good.endpoints_url().parse()?,
        collateral_sources: vec![good.http_url().parse()?],
        compose_source: good.compose_files_url().parse()?,
        compose_tags_source: good.compose_tags_url().parse()?,
        nras_url: good.nras_url().parse()?,
        drain: Duration::from_secs(1),
        ..Config::new(Policy::from_toml(&good.policy_toml)?)
    })
}

fn not_serving(ended: Result<Result<(), SetupError>, tokio::task::JoinError>) -> Failure {
    match ended {
        Ok(Ok(())) => Failure::NotAsItShould("the proxy ended by itself".to_owned()),
        Ok(Err(error)) => Failure::setup("the proxy", error),
        Err(error) => Failure::setup("the proxy", error),
    }
}

/// Resolves at Ctrl-C or SIGTERM; from its first poll on neither ends the process.
pub(crate) async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
