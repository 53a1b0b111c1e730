//! The tags of the repository that deployment logs name, as its server lists them.
//!
//! One small request gets all of them, and only a log that a machine vouches for causes it. The
//! list is stored in memory for an hour, and fetched again, once a minute at most, where a log
//! names a tag that it lacks. It is the server's word and can only refuse: without a list
//! nothing is compared.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use attest::{MAX_TAGS_BYTES, TagsError, UpstreamTags};
use http::StatusCode;

use crate::clock::{Clock, Stamp};
use crate::compose_files::ComposeSource;
use crate::fetch::{FetchError, FetchUrl, Fetcher};
use crate::lock::lock;
use crate::single_flight::SingleFlight;

/// Git's smart protocol over HTTP, version 0, where one answer has all references.
const REFERENCES: &str = "/info/refs?service=git-upload-pack";

/// How long a list is used. A tag that was moved or deleted is noticed after that.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);
/// Least pause between two fetches, whatever the outcome of the first: neither a server that is
/// down nor a log that names an unknown tag may cause a fetch each time.
const MIN_AGE: Duration = Duration::from_secs(60);
/// A fetch takes tenths of a second.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why there is no list.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ListError {
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("status {0}")]
    Status(StatusCode),
    #[error("{0}")]
    Unreadable(#[from] TagsError),
    #[error("not received within {} s", DEADLINE.as_secs())]
    Timeout,
}

/// A list, or why there is none.
pub type StoredTags = Result<Arc<UpstreamTags>, String>;

/// The repository's tags.
#[derive(Debug, Clone)]
pub struct ComposeTags(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    source: ComposeSource,
    fetcher: Arc<Fetcher>,
    clock: Clock,
    known: Mutex<Known>,
    in_flight: SingleFlight<()>,
}

#[derive(Debug, Default)]
struct Known {
    list: Option<(Arc<UpstreamTags>, Stamp)>,
    /// When a list was last asked for, whatever the outcome.
    asked: Option<Stamp>,
    /// Why the last fetch failed.
    error: Option<ListError>,
}

impl ComposeTags {
    pub fn new(source: ComposeSource, fetcher: Arc<Fetcher>, clock: Clock) -> Self {
        Self(Arc::new(Shared {
            source,
            fetcher,
            clock,
            known: Mutex::default(),
            in_flight: SingleFlight::default(),
        }))
    }

    /// The configured source.
    pub fn source(&self) -> &ComposeSource {
        &self.0.source
    }

    /// The stored list.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn stored(&self) -> StoredTags {
        if self.0.source == ComposeSource::Off {
            return Err("tags are not fetched (--compose-tags-url off)".to_owned());
        }
        let known = lock(&self.0.known);
        match (known.list(&self.0.clock), &known.error) {
            (Some(list), _) => Ok(Arc::clone(list)),
            (None, Some(error)) => Err(format!("the list of tags was not fetched: {error}")),
            (None, None) => Err("the list of tags was not fetched yet".to_owned()),
        }
    }

    /// Replaces the list that a verdict uses by a newer one. If there is no newer one, the
    /// verdict keeps the list that it began with: what a list refuses must not pass because the
    /// list expired meanwhile.
    pub fn renew(&self, tags: &mut StoredTags) {
        let now = self.stored();
        if now.is_ok() || tags.is_err() {
            *tags = now;
        }
    }

    /// Fetches another list than `had`; true if there may be one.
    pub async fn get(&self, had: Option<&Arc<UpstreamTags>>) -> bool {
        let ComposeSource::Repository(base) = &self.0.source else {
            return false;
        };
        let waiter = {
            let mut known = lock(&self.0.known);
            if let Some(list) = known.list(&self.0.clock)
                && !had.is_some_and(|had| Arc::ptr_eq(had, list))
            {
                return true;
            }
            let just_asked = |asked: &Stamp| asked.age(&self.0.clock) < MIN_AGE;
            match self.0.in_flight.in_flight() {
                Some(waiter) => waiter,
                None if known.asked.as_ref().is_some_and(just_asked) => return false,
                None => self.0.in_flight.join(|| {
                    let (shared, base) = (Arc::clone(&self.0), base.clone());
                    let asked = Stamp::now(&shared.clock);
                    known.asked = Some(asked);
                    async move { shared.fetch_and_store(&base, asked).await }
                }),
            }
        };
        waiter.outcome().await.is_some()
    }

    /// The list as the server gives it now, which is not stored: for `verified-proxy doctor`.
    pub async fn fetch(&self, base: &FetchUrl) -> Result<UpstreamTags, ListError> {
        self.0.fetch_in_time(base).await
    }
}

impl Known {
    fn list(&self, clock: &Clock) -> Option<&Arc<UpstreamTags>> {
        let (list, since) = self.list.as_ref()?;
        (since.age(clock) < MAX_AGE).then_some(list)
    }
}

impl Shared {
    async fn fetch_and_store(&self, base: &FetchUrl, asked: Stamp) {
        let outcome = self.fetch_in_time(base).await;
        let mut known = lock(&self.known);
        match outcome {
            Ok(list) => {
                known.list = Some((Arc::new(list), asked));
                known.error = None;
            }
            Err(error) => {
                tracing::warn!(repository = %base, %error, "tags of compose files not fetched");
                // An earlier list is used until it expires.
                known.error = Some(error);
            }
        }
    }

    async fn fetch_in_time(&self, base: &FetchUrl) -> Result<UpstreamTags, ListError> {
        let fetched = tokio::time::timeout(DEADLINE, self.fetch(base)).await;
        fetched.unwrap_or(Err(ListError::Timeout))
    }

    async fn fetch(&self, base: &FetchUrl) -> Result<UpstreamTags, ListError> {
        let url = base.join(REFERENCES);
        let fetched = self.fetcher.get(&url, MAX_TAGS_BYTES).await?;
        if fetched.status != StatusCode::OK {
            return Err(ListError::Status(fetched.status));
        }
        Ok(UpstreamTags::from_advertisement(&fetched.body)?)
    }
}
