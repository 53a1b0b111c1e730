//! The fake as a service on loopback: Intel's PCS, the endpoint list, and a TLS
//! backend that records every byte it is sent.
//!
//! One plain-HTTP port plays PCS and endpoint list and carries the controls under
//! `/_fake/`; one TLS port plays the backend. Everything ends with [`Running`].

mod backend;
mod body;
mod chat;
mod files;
mod http;
mod pcs;
mod received;
mod report;
mod tls;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::collateral::Collateral;
use crate::hash::sha256;
use crate::spec::Spec;
use crate::tamper::Tampering;
use crate::{Error, Kms, Pki};

pub use files::write_evidence;
pub use received::Connection;

/// Bounds of a service that serves tests: enough for any, never without end.
const MAX_CONNECTIONS: usize = 512;
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const TLS_TIMEOUT: Duration = Duration::from_secs(10);

/// What is played, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where files are written; `None`: a folder of its own in the system's temporary one.
    pub dir: Option<PathBuf>,
    /// The model's name.
    pub model: String,
    /// The backend's domain.
    pub domain: String,
    /// The backend's port; 0 lets the system choose.
    pub port_backend: u16,
    /// The plain-HTTP port; 0 lets the system choose.
    pub port_http: u16,
    /// A name of [`TAMPERINGS`](crate::tamper::TAMPERINGS).
    pub tamper: String,
    /// Whether the PCS has the route `rootcacrl`, which only a PCCS has.
    pub pccs: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dir: None,
            model: "fake/llama".to_owned(),
            domain: "fake-llama.completions.near.ai".to_owned(),
            port_backend: 0,
            port_http: 0,
            tamper: "none".to_owned(),
            pccs: false,
        }
    }
}

/// The machine that is played at the moment.
#[derive(Debug)]
struct Machine {
    spec: Spec,
    collateral: Collateral,
}

#[derive(Debug)]
struct State {
    options: Options,
    base: Spec,
    machine: Mutex<Arc<Machine>>,
    received: received::Received,
    spki_sha256: [u8; 32],
}

impl State {
    fn machine(&self) -> Arc<Machine> {
        lock(&self.machine).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Spec) -> Result<(), Error>) -> Result<(), Error> {
        let mut spec = self.base.clone();
        change(&mut spec)?;
        let collateral = spec.forge_collateral()?;
        *lock(&self.machine) = Arc::new(Machine { spec, collateral });
        Ok(())
    }

    fn tamper(&self, name: &str) -> Result<(), Error> {
        let tampering = Tampering::named(name)?;
        self.change(|spec| tampering.apply(spec))
    }
}

/// A poisoned lock guards data that one failed test left; the data is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

/// A running fake. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    /// Plain HTTP: PCS, endpoint list, controls.
    pub http: SocketAddr,
    /// The TLS backend.
    pub backend: SocketAddr,
    /// Where the files are.
    pub dir: PathBuf,
    /// The throw-away TLS CA, PEM.
    pub tls_ca_pem: String,
    /// The TDX trust anchor, DER.
    pub tdx_root_der: Vec<u8>,
    /// A policy that accepts the untampered machine.
    pub policy_toml: String,
    state: Arc<State>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Running {
    /// Base URL of the plain-HTTP port.
    pub fn http_url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// The endpoint list's URL.
    pub fn endpoints_url(&self) -> String {
        format!("http://{}/endpoints", self.http)
    }

    /// For curl's and the product's `--connect-to`.
    pub fn connect_to(&self) -> String {
        format!(
            "{}:443:{}:{}",
            self.state.options.domain,
            self.backend.ip(),
            self.backend.port()
        )
    }

    /// What the backend got since start or [`Running::clear`], connection by connection.
    pub fn received(&self) -> Vec<Connection> {
        self.state.received.all()
    }

    /// Forgets what was received.
    pub fn clear(&self) {
        self.state.received.clear();
    }

    /// Switches to a named tampering; "none" goes back to the valid machine.
    pub fn tamper(&self, name: &str) -> Result<(), Error> {
        self.state.tamper(name)
    }

    /// Plays the valid machine with any change.
    pub fn change(&self, change: impl FnOnce(&mut Spec)) -> Result<(), Error> {
        self.state.change(|spec| {
            change(spec);
            Ok(())
        })
    }

    /// SHA-256 of the backend's SubjectPublicKeyInfo.
    pub fn spki_sha256(&self) -> [u8; 32] {
        self.state.spki_sha256
    }

    /// The command line that points the product here.
    pub fn command_line(&self) -> String {
        let dir = self.dir.display();
        format!(
            "verified-proxy serve --endpoints-url {} --pccs-url {} --extra-ca {dir}/tls-ca.pem \
             --connect-to {} --danger-tdx-root {dir}/tdx-root.der --policy {dir}/policy.toml",
            self.endpoints_url(),
            self.http_url(),
            self.connect_to(),
        )
    }
}

/// Binds both ports, writes the files and starts to serve. Needs a tokio runtime.
pub async fn start(options: Options) -> Result<Running, Error> {
    let listen = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let http_listener = listen(options.port_http).await?;
    let backend_listener = listen(options.port_backend).await?;
    let http = http_listener.local_addr()?;
    let backend = backend_listener.local_addr()?;

    // The root certificate names the CRL's URL, so the PKI comes after the port.
    let pki = Arc::new(Pki::new(Some(&format!(
        "http://{http}{}",
        pcs::ROOT_CRL_PATH
    )))?);
    let mut base = Spec::with(unix_now(), pki, Arc::new(Kms::new()?));
    base.model_name.clone_from(&options.model);
    let identity = tls::Identity::new(&options.domain, base.now)?;

    let mut machine_spec = base.clone();
    Tampering::named(&options.tamper)?.apply(&mut machine_spec)?;
    let collateral = machine_spec.forge_collateral()?;
    let dir = match &options.dir {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir().join(format!("fake-tee-{}", std::process::id())),
    };
    let state = Arc::new(State {
        machine: Mutex::new(Arc::new(Machine {
            spec: machine_spec,
            collateral,
        })),
        received: received::Received::default(),
        spki_sha256: sha256(&identity.spki_der),
        options,
        base,
    });
    let tasks = vec![
        tokio::spawn(http::serve(http_listener, state.clone())),
        tokio::spawn(backend::serve(
            backend_listener,
            identity.server_config()?,
            state.clone(),
        )),
    ];
    let running = Running {
        http,
        backend,
        dir,
        tls_ca_pem: identity.ca_pem.clone(),
        tdx_root_der: state.base.pki.root_der().to_vec(),
        policy_toml: state.base.policy_toml(),
        state,
        tasks,
    };
    files::write_environment(&running)?;
    Ok(running)
}
