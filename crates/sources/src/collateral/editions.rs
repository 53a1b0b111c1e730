//! Intel's list of editions, which tells the standard one from early ones.
//!
//! The list is signed, so any source's list will do: the first genuine one is used for a day
//! or, if no source has a newer one, until it expires. Without a list nothing is refused.

use std::sync::Arc;
use std::time::Duration;

use attest::{Editions, EditionsParts};

use super::{HEDGE, MAX_AGE, MIN_AGE, Shared, SourceError};
use crate::clock::{Clock, Stamp};
use crate::fetch::FetchUrl;
use crate::lock::lock;
use crate::single_flight::{SingleFlight, Waiter};
use crate::state::CacheFile;

/// How long a verdict waits for the list: the second source gets a second of it.
pub(super) const PATIENCE: Duration = HEDGE.saturating_add(Duration::from_secs(1));
/// An older PCCS has no list, and will not have one a minute later.
const RETRY: Duration = Duration::from_secs(10 * 60);

/// The stored list and the search for one.
#[derive(Debug, Default)]
pub(super) struct EditionsState {
    list: Option<(Arc<Editions>, Stamp)>,
    failed: Option<Stamp>,
    in_flight: SingleFlight<()>,
}

impl EditionsState {
    pub(super) fn stored(&self, clock: &Clock) -> Option<Arc<Editions>> {
        let (list, _) = self.list.as_ref()?;
        (clock.now() < list.next_update()).then(|| Arc::clone(list))
    }

    /// True if three quarters of the list's life are over.
    fn due(&self, clock: &Clock) -> bool {
        self.list.as_ref().is_none_or(|(list, at)| {
            let left = list.next_update().0.saturating_sub(at.wall().0);
            let life = Duration::from_secs(left).clamp(MIN_AGE, MAX_AGE);
            at.age(clock) >= life / 4 * 3
        })
    }

    /// Searches for a list if one is due. Returns the search if no list is stored meanwhile.
    pub(super) fn want(shared: &Arc<Shared>) -> Option<Waiter<()>> {
        let clock = &shared.clock;
        let known = lock(&shared.editions);
        let failed = known.failed.is_some_and(|at| at.age(clock) < RETRY);
        if failed || !known.due(clock) {
            return None;
        }
        let search = Arc::clone(shared);
        let waiter = known.in_flight.join(|| async move { search.list().await });
        known.stored(clock).is_none().then_some(waiter)
    }
}

impl Shared {
    async fn list(self: Arc<Self>) {
        let order: Vec<usize> = (0..self.sources.len()).collect();
        let ask = |shared: Arc<Self>, source: FetchUrl| async move {
            let parts = shared.client.editions(&source).await?;
            let list = shared.verified(&parts)?;
            Ok((list, parts))
        };
        let hedged = self.first_of(&order, ask).await;
        for (index, error) in &hedged.failures {
            if let Some(source) = self.sources.get(*index) {
                tracing::debug!(%source, %error, "list of editions not fetched");
            }
        }
        let at = Stamp::now(&self.clock);
        let mut known = lock(&self.editions);
        let Some((_, source, (list, parts))) = hedged.first else {
            known.failed = Some(at);
            return;
        };
        known.failed = None;
        known.list = Some((Arc::new(list), at));
        drop(known);
        if let Some(state) = &self.state {
            let body = parts.to_json().into_bytes();
            state.save(CacheFile::Editions, source.to_string(), at.wall(), body);
        }
    }

    fn verified(&self, parts: &EditionsParts) -> Result<Editions, SourceError> {
        Editions::verify(parts, &self.trust_anchors, self.clock.now())
            .map_err(|rejected| SourceError::Parts(Box::new(rejected)))
    }

    /// Loads the list on disk.
    pub(super) fn load_editions(&self) {
        let state = self.state.as_ref();
        let Some(cached) = state.and_then(|state| state.load(&CacheFile::Editions)) else {
            return;
        };
        let list = EditionsParts::from_json(&cached.body)
            .map_err(|rejected| SourceError::Parts(Box::new(rejected)))
            .and_then(|parts| self.verified(&parts));
        match list {
            Ok(list) => {
                let at = Stamp::remembered(cached.fetched_at, &self.clock);
                lock(&self.editions).list = Some((Arc::new(list), at));
            }
            Err(error) => {
                tracing::warn!(%error, "list of editions on disk not used; it will be fetched again");
            }
        }
    }
}
