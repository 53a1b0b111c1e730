//! Attests backends for the command line: it sends attestation requests and nothing
//! else.

use std::sync::Arc;

use attest::{Appraisal, Domain, Policy};
use sources::backend::Backend;
use sources::endpoints::Endpoints;
use sources::state::Memory;
use upstream::{AttemptError, Examined, SourceFinding, Sources};

use crate::config::Config;
use crate::ingress::Ingress;
use crate::respond::Failure;
use crate::route::{self, Wanted};
use crate::server::{Server, SetupError};

/// A proxy without clients.
#[derive(Debug)]
pub struct Examiner {
    /// The endpoint list.
    pub endpoints: Endpoints,
    ingress: Arc<Ingress>,
    /// The sources of public documents.
    pub sources: Sources,
    memory: Memory,
}

impl Examiner {
    /// Sets up what a server with this configuration would use.
    pub fn new(config: Config) -> Result<Self, SetupError> {
        let server = Server::new(config)?;
        let ingress = server.ingress();
        Ok(Self {
            endpoints: ingress.endpoints().clone(),
            ingress,
            memory: server.memory(),
            sources: server.sources,
        })
    }

    /// Every backend that serves the model `target`, or the backend of that name; at least
    /// one.
    pub async fn backends(&self, target: &str) -> Result<Vec<Backend>, Failure> {
        let list = self.endpoints.list().await?;
        let listed = list.models().any(|model| model == target);
        // A model's name may look like a domain: the list decides.
        let is_name = || target.contains('.') && target.parse::<Domain>().is_ok();
        let wanted = if !listed && is_name() {
            Wanted::Domain(target)
        } else {
            Wanted::Model(target)
        };
        Ok(route::candidates(&wanted, &list, self.endpoints.allow())?)
    }

    /// Attests `backend` on one new connection.
    pub async fn examine(&self, backend: &Backend) -> Result<Examined, AttemptError> {
        self.ingress.upstream().examine(backend).await
    }

    /// Appraises the same evidence under another policy; sends nothing to the backend. None
    /// if Intel's documents cannot be fetched.
    pub async fn again(
        &self,
        backend: &Backend,
        examined: &Examined,
        policy: &Policy,
    ) -> Option<Appraisal> {
        self.ingress
            .upstream()
            .again(backend, examined, policy)
            .await
    }

    /// Appraises the same evidence by the documents of each source of collateral alone.
    pub async fn by_source(&self, backend: &Backend, examined: &Examined) -> Vec<SourceFinding> {
        self.ingress.upstream().by_source(backend, examined).await
    }
}

/// What was seen and fetched is written before the program ends.
impl Drop for Examiner {
    fn drop(&mut self) {
        self.memory.flush_blocking();
    }
}
