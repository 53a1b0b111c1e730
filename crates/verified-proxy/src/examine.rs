//! What backends show, for somebody who wants to know: a probe is sent, and
//! nothing else.

use attest::Domain;

use crate::backend::Backend;
use crate::config::Config;
use crate::endpoints::Endpoints;
use crate::respond::Failure;
use crate::route::{self, Wanted};
use crate::upstream::{AttemptError, Examined, Upstream};
use crate::{Server, SetupError};

/// A proxy's way to backends, without clients.
#[derive(Debug)]
pub(crate) struct Examiner {
    endpoints: Endpoints,
    upstream: Upstream,
}

impl Examiner {
    /// Sets up what a server with this configuration would use.
    pub(crate) fn new(config: Config) -> Result<Self, SetupError> {
        let (endpoints, upstream) = Server::new(config)?.ingress.into_outgoing();
        Ok(Self {
            endpoints,
            upstream,
        })
    }

    /// Every backend that serves the model `target`, or the one of that name.
    /// Never empty.
    pub(crate) async fn backends(&self, target: &str) -> Result<Vec<Backend>, Failure> {
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
    pub(crate) async fn examine(&self, backend: &Backend) -> Result<Examined, AttemptError> {
        self.upstream.examine(backend).await
    }
}
