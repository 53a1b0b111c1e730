//! The fake as a service on loopback: Intel's PCS, the endpoint list, the repository of
//! compose files, NVIDIA's attestation service, and a TLS backend that records every byte
//! it is sent.
//!
//! One plain-HTTP port plays all but the backend, and carries the controls under `/_fake/`; one TLS port plays the backend. Everything ends with [`Running`].
//!
//! # Misbehaviours of the backend
//!
//! Ordered by a request's header `x-fake`, its query parameter of that name, or
//! [`Running::order`]. Arguments may be left out; the usual value stands in brackets.
//! Those of raw bytes end the connection with them; with `;open` behind the order it
//! stays open, and what the client still sends on it is recorded.
//!
//! | order | what the backend does |
//! |---|---|
//! | `status=N` | answers with this status \[500\] and an error |
//! | `html=N` | answers with this status \[502\] and a page for people |
//! | `redirect=N,URL` | redirects \[307, elsewhere\] |
//! | `gzip` | answers with a body in gzip |
//! | `alt-svc=TEXT` | offers another place for its next answers |
//! | `forged-verdict=TEXT` | answers with a verdict of its own, as if it were the proxy |
//! | `header=NAME:VALUE` | adds a header to its usual answer |
//! | `close` | says `Connection: close` and does it |
//! | `1xx=N,TIMES,MS` | interim answers \[103, without end, no pause\], then an answer |
//! | `switch` | switches protocols, unasked |
//! | `trailers` | a chunked answer with trailers, one of them undeclared |
//! | `two-lengths` | two values of Content-Length |
//! | `te-and-length` | chunks, and a Content-Length beside them |
//! | `te=TEXT` | chunks under this Transfer-Encoding \[gzip, chunked\] |
//! | `bad-chunk=TEXT` | a good chunk, then one of this size \[zz\] |
//! | `bad-length=TEXT` | this Content-Length \[-1\] |
//! | `long` | a second answer behind the end of the first: response splitting |
//! | `http10` | an answer of HTTP/1.0, which ends with the connection |
//! | `header-flood=N` | so many headers \[without end\] |
//! | `header-long=N` | a header of so many bytes \[without end\] |
//! | `garbage` | something else than HTTP |
//! | `drip=BYTES,MS,TIMES` | a body, slowly \[1, 100, 100\] |
//! | `drip-head=MS` | a head that never ends, a byte at a time \[100\] |
//! | `hang` | takes the request and says nothing |
//! | `hang-head` | stops in the middle of its head |
//! | `hang-body` | stops before the last byte of its body |
//! | `no-answer` | takes the request and closes |
//! | `reset` | takes the request and resets the connection |
//! | `cut-body` | closes before the last byte of a body with a length |
//! | `cut-chunked` | closes before the last chunk |
//! | `cut-until-close` | as `until-close`, but cut on TCP, without TLS's close_notify |
//! | `until-close` | a body that ends with the connection |
//! | `abrupt` | a whole answer, then an end without close_notify |
//! | `early=N` | answers \[413\] before it reads the body, and then reads it |
//! | `early-close=N` | answers \[413\] before it reads the body, and closes |

mod backend;
mod behaviour;
mod body;
mod compose;
mod control;
mod engine;
mod faults;
mod files;
mod http;
mod instance;
mod link;
mod nras;
mod pcs;
mod query;
mod raw;
mod received;
mod running;
mod signatures;
mod tls;
mod upload;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;

use crate::gpu::GpuSpec;
use crate::hash::label;
use crate::spec::Spec;
use crate::tamper::Tampering;
use crate::{Error, Kms, Pki};

use behaviour::Source;
use compose::Repository;
use engine::misbehave::Orders;
use faults::Plan;
use instance::{Balancer, Instance, Machine};
use nras::Nras;
use received::Records;
use tls::Authority;

pub use behaviour::{Behaviour, Route};
pub use engine::misbehave::MISBEHAVIOURS;
pub use faults::{Act, Fault, Point};
pub use files::write_evidence;
pub use instance::InstanceInfo;
pub use nras::NrasRoute;
pub use received::{Connection, Received, Record};
pub use running::Running;
pub use tls::Transport;

/// Bounds of a service that serves tests: enough for any, never without end.
const MAX_CONNECTIONS: usize = 4096;
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
    /// More PCSs, each on a port of its own: whether it is a PCCS.
    pub more_sources: Vec<bool>,
    /// Further domains and their models: on the list, and in the certificates.
    pub also: Vec<(String, Vec<String>)>,
    /// Machines behind the backend port, each with a TLS key of its own.
    pub instances: usize,
    /// All instances with one TLS key.
    pub shared_key: bool,
    /// What TLS offers.
    pub transport: Transport,
    /// What is kept of requests.
    pub record: Record,
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
            more_sources: Vec::new(),
            also: Vec::new(),
            instances: 1,
            shared_key: false,
            transport: Transport::default(),
            record: Record::Full,
        }
    }
}

#[derive(Debug)]
struct State {
    options: Options,
    base: Spec,
    /// Every model that the instances serve.
    models: Vec<String>,
    /// The machine that the PCS knows.
    machine: Mutex<Arc<Machine>>,
    instances: Vec<Arc<Instance>>,
    balancer: Balancer,
    authority: Authority,
    /// Of any instance's connections.
    faults: Plan,
    orders: Orders,
    records: Records,
    sources: Vec<Source>,
    endpoints: Mutex<Behaviour>,
    endpoints_fetched: AtomicU64,
    compose: Repository,
    compose_tags: Repository,
    nras: Nras,
}

impl State {
    fn serves(&self, model: &str) -> bool {
        self.models.iter().any(|known| known == model)
    }

    fn instance(&self, index: usize) -> Result<&Arc<Instance>, Error> {
        let count = self.instances.len();
        self.instances.get(index).ok_or_else(|| {
            Error::Argument(format!(
                "there is no instance {index}, only 0 to {}",
                count - 1
            ))
        })
    }

    fn change(&self, change: impl FnOnce(&mut Spec) -> Result<(), Error>) -> Result<(), Error> {
        let mut spec = self.base.clone();
        change(&mut spec)?;
        for instance in &self.instances {
            instance.change(|own| {
                let id = own.app.instance_id.clone();
                own.clone_from(&spec);
                if instance.index > 0 && spec.app.instance_id == self.base.app.instance_id {
                    own.app.instance_id = id;
                }
                Ok(())
            })?;
        }
        *lock(&self.machine) = Machine::new(spec)?;
        Ok(())
    }

    fn tamper(&self, name: &str) -> Result<(), Error> {
        let tampering = Tampering::named(name)?;
        self.change(|spec| tampering.apply(spec))
    }

    fn tamper_instance(&self, index: usize, name: &str) -> Result<(), Error> {
        let tampering = Tampering::named(name)?;
        self.instance(index)?.change(|spec| tampering.apply(spec))
    }

    fn rotate(&self, index: usize) -> Result<[u8; 32], Error> {
        let instance = self.instance(index)?;
        let identity = self.authority.issue()?;
        let spki_sha256 = identity.spki_sha256;
        *lock(&instance.identity) = Arc::new(identity);
        Ok(spki_sha256)
    }

    fn steal(&self, thief: usize, of: usize) -> Result<(), Error> {
        let stolen = self.authority.stolen(&self.instance(of)?.identity())?;
        *lock(&self.instance(thief)?.identity) = Arc::new(stolen);
        Ok(())
    }

    fn stop(&self, index: usize) -> Result<(), Error> {
        let instance = self.instance(index)?;
        instance.up.store(false, Relaxed);
        instance.end_connections();
        Ok(())
    }

    fn start(&self, index: usize) -> Result<(), Error> {
        self.instance(index)?.up.store(true, Relaxed);
        Ok(())
    }

    fn restart(&self, index: usize) -> Result<(), Error> {
        self.instance(index)?.end_connections();
        Ok(())
    }

    fn source(&self, index: usize) -> Result<&Source, Error> {
        self.sources
            .get(index)
            .ok_or_else(|| Error::Argument(format!("there is no PCS {index}")))
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

/// Binds the ports, writes the files and starts to serve. Needs a tokio runtime.
pub async fn start(options: Options) -> Result<Running, Error> {
    start_under(options, None).await
}

/// Under `authorities`, where another fake has some already.
async fn start_under(
    options: Options,
    authorities: Option<(Arc<Pki>, Arc<Kms>)>,
) -> Result<Running, Error> {
    if options.instances == 0 {
        return Err(Error::Argument("there must be an instance".to_owned()));
    }
    let listen = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let http_listener = listen(options.port_http).await?;
    let backend_listener = listen(options.port_backend).await?;
    let http = http_listener.local_addr()?;
    let backend = backend_listener.local_addr()?;

    let (pki, kms) = match authorities {
        Some(authorities) => authorities,
        // The root certificate names the CRL's URL, so the PKI comes after the port.
        None => {
            let crl = format!("http://{http}{}", pcs::ROOT_CRL_PATH);
            (Arc::new(Pki::new(Some(&crl))?), Arc::new(Kms::new()?))
        }
    };
    let mut base = Spec::with(unix_now(), pki, kms, GpuSpec::shared()?);
    base.model_name.clone_from(&options.model);

    let mut domains = vec![options.domain.clone()];
    let mut models = vec![options.model.clone()];
    for (domain, more) in &options.also {
        domains.push(domain.clone());
        models.extend(more.iter().cloned());
    }
    domains.dedup();
    let authority = Authority::new(domains, base.now, options.transport)?;
    let mut instances: Vec<Arc<Instance>> = Vec::new();
    for index in 0..options.instances {
        let identity = match instances.first().filter(|_| options.shared_key) {
            Some(first) => first.identity(),
            None => Arc::new(authority.issue()?),
        };
        let mut own = base.clone();
        if index > 0 {
            own.app.instance_id = label::<20>(&format!("instance id {index}")).to_vec();
        }
        instances.push(Arc::new(Instance::new(index, own, identity)?));
    }
    let dir = match &options.dir {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir().join(format!("fake-tee-{}", std::process::id())),
    };
    let pccs = [options.pccs]
        .into_iter()
        .chain(options.more_sources.iter().copied());
    let state = Arc::new(State {
        models,
        machine: Mutex::new(Machine::new(base.clone())?),
        instances,
        balancer: Balancer::default(),
        authority,
        faults: Plan::default(),
        orders: Orders::default(),
        records: Records::default(),
        sources: pccs.map(Source::new).collect(),
        endpoints: Mutex::default(),
        endpoints_fetched: AtomicU64::new(0),
        compose: Repository::default(),
        compose_tags: Repository::default(),
        nras: Nras::default(),
        options,
        base,
    });
    state.tamper(&state.options.tamper)?;
    let mut tasks = vec![
        tokio::spawn(http::serve(http_listener, state.clone(), 0)),
        tokio::spawn(backend::serve(backend_listener, state.clone())),
    ];
    let mut sources = vec![http];
    for index in 1..state.sources.len() {
        let listener = listen(0).await?;
        sources.push(listener.local_addr()?);
        tasks.push(tokio::spawn(http::serve(listener, state.clone(), index)));
    }
    let running = Running {
        http,
        backend,
        dir,
        tls_ca_pem: state.authority.ca_pem.clone(),
        tdx_root_der: state.base.pki.root_der().to_vec(),
        gpu_root_der: state.base.gpu_root_der(),
        policy_toml: state.base.policy_toml(),
        sources,
        state,
        tasks,
    };
    files::write_environment(&running)?;
    Ok(running)
}
