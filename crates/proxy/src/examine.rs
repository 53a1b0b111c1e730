//! What backends show, for somebody who wants to know: a probe is sent, and
//! nothing else.

use std::sync::Arc;

use attest::{Appraisal, Domain, Policy, UnixTime};
use sources::backend::Backend;
use sources::collateral::SourceError;
use sources::compose_files::ComposeFiles;
use sources::compose_tags::ComposeTags;
use sources::endpoints::{EndpointList, Endpoints, EndpointsError};
use sources::fetch::{FetchUrl, Fetcher};
use sources::nras::Nras;
use upstream::{AttemptError, Examined, SourceFinding, Sources, Upstream};

use crate::config::Config;
use crate::respond::Failure;
use crate::route::{self, Wanted};
use crate::server::{Server, SetupError};

/// A proxy's way to backends, without clients.
#[derive(Debug)]
pub struct Examiner {
    endpoints: Endpoints,
    upstream: Upstream,
    sources: Sources,
}

impl Examiner {
    /// Sets up what a server with this configuration would use.
    pub fn new(config: Config) -> Result<Self, SetupError> {
        let Server {
            ingress, sources, ..
        } = Server::new(config)?;
        let (endpoints, upstream) = ingress.into_outgoing();
        Ok(Self {
            endpoints,
            upstream,
            sources,
        })
    }

    /// The endpoint list of this moment.
    pub async fn renewed_list(&self) -> Result<Arc<EndpointList>, EndpointsError> {
        self.endpoints.renewed().await
    }

    /// The last good list and when it came, from disk perhaps.
    pub fn kept_list(&self) -> Option<(Arc<EndpointList>, UnixTime)> {
        self.endpoints.kept()
    }

    /// Every backend that serves the model `target`, or the one of that name.
    /// Never empty.
    pub async fn backends(&self, target: &str) -> Result<Vec<Backend>, Failure> {
        let list = self.endpoints.list().await?;
        let listed = list.models().any(|model| model == target);
        // A model may look like a domain; what the list says comes first.
        let is_name = || target.contains('.') && target.parse::<Domain>().is_ok();
        let wanted = if !listed && is_name() {
            Wanted::Domain(target)
        } else {
            Wanted::Model(target)
        };
        Ok(route::candidates(&wanted, &list, self.endpoints.allow())?)
    }

    /// One new connection to `backend`.
    pub async fn examine(&self, backend: &Backend) -> Result<Examined, AttemptError> {
        self.upstream.examine(backend).await
    }

    /// What `backend` showed, judged again under another policy: it is not asked again.
    /// Nothing if Intel's documents cannot be had.
    pub async fn again(
        &self,
        backend: &Backend,
        examined: &Examined,
        policy: &Policy,
    ) -> Option<Appraisal> {
        self.upstream.again(backend, examined, policy).await
    }

    /// What each source of collateral has for what `backend` showed.
    pub async fn by_source(&self, backend: &Backend, examined: &Examined) -> Vec<SourceFinding> {
        self.upstream.by_source(backend, examined).await
    }

    /// Whether each source of collateral answers at all.
    pub async fn each_answers(&self) -> Vec<(FetchUrl, Result<(), SourceError>)> {
        self.sources.collaterals.each_answers().await
    }

    /// The repository of compose files.
    pub fn compose_files(&self) -> &ComposeFiles {
        &self.sources.compose_files
    }

    /// The tags of that repository.
    pub fn compose_tags(&self) -> &ComposeTags {
        &self.sources.compose_tags
    }

    /// NVIDIA's attestation service.
    pub fn nras(&self) -> &Nras {
        &self.sources.nras
    }

    /// What fetches public documents.
    pub fn fetcher(&self) -> &Fetcher {
        self.sources.collaterals.fetcher()
    }
}
