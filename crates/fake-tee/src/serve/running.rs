//! The handle of a running fake.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::task::JoinHandle;

use super::behaviour::{Behaviour, Route};
use super::faults::Fault;
use super::instance::InstanceInfo;
use super::nras::NrasRoute;
use super::received::Connection;
use super::{Options, State, compose, lock, start_under};
use crate::Error;
use crate::nras::NrasSpec;
use crate::spec::Spec;

/// A running fake. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    /// Plain HTTP: PCS, endpoint list, compose files, controls.
    pub http: SocketAddr,
    /// The TLS backend.
    pub backend: SocketAddr,
    /// Where the files are.
    pub dir: PathBuf,
    /// The throw-away TLS CA, PEM.
    pub tls_ca_pem: String,
    /// The TDX trust anchor, DER.
    pub tdx_root_der: Vec<u8>,
    /// The trust anchor of GPUs, DER.
    pub gpu_root_der: Vec<u8>,
    /// A policy that accepts the untampered machine.
    pub policy_toml: String,
    /// All PCSs; the first is `http`.
    pub sources: Vec<SocketAddr>,
    pub(super) state: Arc<State>,
    pub(super) tasks: Vec<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Running {
    /// Starts another backend under the same Intel and the same KMS, which can be
    /// tampered with by itself. It has a TLS authority and a folder of its own.
    pub async fn sibling(&self, options: Options) -> Result<Self, Error> {
        let base = &self.state.base;
        start_under(options, Some((base.pki.clone(), base.kms.clone()))).await
    }

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
        self.state.records.all()
    }

    /// Forgets what was received.
    pub fn clear(&self) {
        self.state.records.clear();
    }

    /// Switches all instances and the PCS to a named tampering; "none" goes back to the
    /// valid machine.
    pub fn tamper(&self, name: &str) -> Result<(), Error> {
        self.state.tamper(name)
    }

    /// Plays the valid machine with any change, in all instances and the PCS.
    pub fn change(&self, change: impl FnOnce(&mut Spec)) -> Result<(), Error> {
        self.state.change(|spec| {
            change(spec);
            Ok(())
        })
    }

    /// SHA-256 of the first instance's SubjectPublicKeyInfo, as new connections meet it.
    pub fn spki_sha256(&self) -> [u8; 32] {
        self.state
            .instances
            .first()
            .map_or([0; 32], |first| first.identity().spki_sha256)
    }

    /// The instances as they are now.
    pub fn instances(&self) -> Vec<InstanceInfo> {
        let instances = self.state.instances.iter();
        instances.map(|instance| instance.as_ref().into()).collect()
    }

    /// A new TLS key and certificate for new connections, as a graceful reload of nginx:
    /// established connections stay on the old key, and a report asked for on them names
    /// the new one. Gives the new key's SPKI hash.
    pub fn rotate(&self, instance: usize) -> Result<[u8; 32], Error> {
        self.state.rotate(instance)
    }

    /// Shows the certificate of instance `of`, whose key `thief` does not have.
    pub fn steal(&self, thief: usize, of: usize) -> Result<(), Error> {
        self.state.steal(thief, of)
    }

    /// Ends all connections of an instance at once; it goes on to accept.
    pub fn restart(&self, instance: usize) -> Result<(), Error> {
        self.state.restart(instance)
    }

    /// Ends all connections of an instance. Until it starts again the balancer leaves it
    /// out, unless told otherwise: then connections are reset.
    pub fn stop(&self, instance: usize) -> Result<(), Error> {
        self.state.stop(instance)
    }

    /// See [`Running::stop`].
    pub fn start(&self, instance: usize) -> Result<(), Error> {
        self.state.start(instance)
    }

    /// Switches one instance to a named tampering. What the PCS says does not change.
    pub fn tamper_instance(&self, instance: usize, name: &str) -> Result<(), Error> {
        self.state.tamper_instance(instance, name)
    }

    /// Plays the valid machine with any change in one instance. What the PCS says does
    /// not change.
    pub fn change_instance(
        &self,
        instance: usize,
        change: impl FnOnce(&mut Spec),
    ) -> Result<(), Error> {
        self.state.instance(instance)?.change(|spec| {
            change(spec);
            Ok(())
        })
    }

    /// Sends all new connections to one instance; `None`: in turn to all that are up.
    pub fn pin(&self, instance: Option<usize>) {
        self.state.balancer.pin(instance);
    }

    /// The instances of the next connections. After them it goes on as before.
    pub fn order_instances(&self, instances: impl IntoIterator<Item = usize>) {
        self.state.balancer.order(instances);
    }

    /// The fates of the next connections, whichever instance they reach.
    pub fn next_connections(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.faults.queue(faults);
    }

    /// The fates of the next connections to one instance.
    pub fn next_connections_of(
        &self,
        instance: usize,
        faults: impl IntoIterator<Item = Fault>,
    ) -> Result<(), Error> {
        self.state.instance(instance)?.faults.queue(faults);
        Ok(())
    }

    /// The fate of every connection from now on, by its number from 0 on.
    pub fn every_connection(&self, fault: impl Fn(u64) -> Fault + Send + Sync + 'static) {
        self.state.faults.always(Arc::new(fault));
    }

    /// The same for one instance, which comes before what is said for all.
    pub fn every_connection_of(
        &self,
        instance: usize,
        fault: impl Fn(u64) -> Fault + Send + Sync + 'static,
    ) -> Result<(), Error> {
        self.state
            .instance(instance)?
            .faults
            .always(Arc::new(fault));
        Ok(())
    }

    /// The next `times` answers to requests under `path` misbehave; see the table in
    /// [`serve`](crate::serve). 0 times takes the orders for the path back.
    pub fn order(&self, path: &str, what: &str, times: u64) -> Result<(), Error> {
        self.state.orders.add(path, what.parse()?, times);
        Ok(())
    }

    /// How a PCS behaves from now on; no routes: all.
    pub fn pcs(&self, source: usize, routes: &[Route], behaviour: &Behaviour) -> Result<(), Error> {
        let routes = if routes.is_empty() {
            &Route::ALL
        } else {
            routes
        };
        self.state.source(source)?.behave(routes, behaviour);
        Ok(())
    }

    /// Requests that a route of a PCS got.
    pub fn pcs_fetches(&self, source: usize, route: Route) -> u64 {
        self.state
            .source(source)
            .map_or(0, |source| source.count(route))
    }

    /// Base URL of a PCS.
    pub fn source_url(&self, source: usize) -> Option<String> {
        self.sources.get(source).map(|at| format!("http://{at}"))
    }

    /// How the endpoint list behaves from now on; [`Behaviour::Body`] serves any list.
    pub fn endpoints(&self, behaviour: Behaviour) {
        *lock(&self.state.endpoints) = behaviour;
    }

    /// Requests for the endpoint list.
    pub fn endpoints_fetches(&self) -> u64 {
        self.state.endpoints_fetched.load(Relaxed)
    }

    /// Base URL of the repository of compose files.
    pub fn compose_files_url(&self) -> String {
        format!("http://{}{}", self.http, compose::BASE)
    }

    /// How the repository of compose files behaves from now on; [`Behaviour::Body`] has
    /// other bytes. The files are those of [`ComposeManager::files`](crate::ComposeManager).
    pub fn compose_files(&self, behaviour: Behaviour) {
        *lock(&self.state.compose.behaviour) = behaviour;
    }

    /// What the repository of compose files was asked for, as `COMMIT/FILE`.
    pub fn compose_files_fetched(&self) -> Vec<String> {
        lock(&self.state.compose.asked).clone()
    }

    /// URL of the same repository as git names it.
    pub fn compose_tags_url(&self) -> String {
        format!("http://{}{}", self.http, compose::GIT)
    }

    /// How that repository answers who asks for its tags from now on;
    /// [`Behaviour::Body`] has any list. The tags are
    /// [`ComposeManager::published_tags`](crate::ComposeManager::published_tags).
    pub fn compose_tags(&self, behaviour: Behaviour) {
        *lock(&self.state.compose_tags.behaviour) = behaviour;
    }

    /// Requests for its tags.
    pub fn compose_tags_fetches(&self) -> usize {
        lock(&self.state.compose_tags.asked).len()
    }

    /// Base URL of NVIDIA's attestation service.
    pub fn nras_url(&self) -> String {
        self.http_url()
    }

    /// How NVIDIA's attestation service behaves from now on; no routes: all.
    pub fn nras(&self, routes: &[NrasRoute], behaviour: &Behaviour) {
        let routes = if routes.is_empty() {
            &NrasRoute::ALL
        } else {
            routes
        };
        for route in routes {
            self.state.nras.behave(*route, behaviour);
        }
    }

    /// Changes what NVIDIA's attestation service says, before it signs it.
    pub fn change_nras(&self, change: impl FnOnce(&mut NrasSpec)) -> Result<(), Error> {
        self.state.nras.change(|spec| {
            change(spec);
            Ok(())
        })
    }

    /// NVIDIA's attestation service signs with a new key, which a key set that was
    /// fetched before does not have.
    pub fn rotate_nras(&self) -> Result<(), Error> {
        self.state.nras.rotate()
    }

    /// SubjectPublicKeyInfo (DER) of the authority behind its keys: the pin.
    pub fn nras_intermediate_spki_der(&self) -> Result<Vec<u8>, Error> {
        let spec = self.state.nras.spec()?;
        Ok(spec.pki.intermediate_spki_der())
    }

    /// Requests that a route of NVIDIA's attestation service got.
    pub fn nras_fetches(&self, route: NrasRoute) -> u64 {
        self.state.nras.count(route)
    }

    /// The command line that points the product here.
    pub fn command_line(&self) -> String {
        let dir = self.dir.display();
        format!(
            "verified-proxy serve --endpoints-url {} --pccs-url {} --compose-files-url {} \
             --compose-tags-url {} --nras-url {} --extra-ca {dir}/tls-ca.pem --connect-to {} \
             --danger-tdx-root {dir}/tdx-root.der --danger-gpu-root {dir}/gpu-root.der \
             --policy {dir}/policy.toml",
            self.endpoints_url(),
            self.http_url(),
            self.compose_files_url(),
            self.compose_tags_url(),
            // So that no fake evidence is shown to NVIDIA, whatever the policy says.
            self.nras_url(),
            self.connect_to(),
        )
    }
}
