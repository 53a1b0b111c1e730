//! Intel's collateral: which platforms are trustworthy, from Intel's PCS or a cache of it (a
//! PCCS).
//!
//! Nothing here is trusted: `attest` judges signatures, validity and floors together with a
//! quote. So documents are stored byte for byte, and per source: one source that serves
//! documents below the floor does not displace another's.
//!
//! No timer runs: documents are refreshed when a verdict asks for them, so an idle proxy sends
//! nothing.

mod client;
mod editions;
mod entry;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use attest::{Collateral, CollateralKey, Editions, PckCa, TrustAnchors};
use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use self::client::Client;
pub use self::client::SourceError;
use self::editions::EditionsState;
use self::entry::Entry;
use crate::clock::{Clock, Stamp};
use crate::fetch::{FetchUrl, Fetcher};
use crate::lock::lock;
use crate::seldom::Seldom;
use crate::single_flight::Waiter;
use crate::state::{CacheFile, StateDir};

/// Collateral is valid for 30 days. A day bounds how long a newly published weakness stays
/// unknown.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Least pause between two successful fetches from one source: documents that have already
/// expired, whoever wrote them, must not cause a fetch with every request.
const MIN_AGE: Duration = Duration::from_secs(60);
/// How long a failure is reused, so that those who waited for one attempt do not repeat it one
/// after another.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// A source that has not answered by then is raced with the next. Real sources take tenths of a
/// second.
const HEDGE: Duration = Duration::from_secs(2);
/// How long a source that failed or was overtaken gets no head start.
const TROUBLE: Duration = Duration::from_secs(5 * 60);
/// Platform families behind one set of domains: a handful.
const MAX_KEYS: usize = 64;

/// No source gave collateral.
#[derive(Debug, Clone)]
pub struct CollateralError {
    pub failures: Vec<(String, SourceError)>,
}

impl CollateralError {
    /// True if every source answered that it has no documents about the family.
    pub fn is_unknown_family(&self) -> bool {
        let unknown =
            |error: &SourceError| matches!(error, SourceError::Status { status: 404, .. });
        !self.failures.is_empty() && self.failures.iter().all(|(_, error)| unknown(error))
    }

    /// True if a source's certificate is not valid at the time that this machine's clock shows.
    pub fn is_about_time(&self) -> bool {
        let about_time = |error: &SourceError| matches!(error, SourceError::Fetch { source, .. } if source.is_about_time());
        self.failures.iter().any(|(_, error)| about_time(error))
    }
}

impl fmt::Display for CollateralError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no source gave Intel's collateral")?;
        for (index, (source, error)) in self.failures.iter().enumerate() {
            let separator = if index == 0 { ": " } else { "; " };
            write!(f, "{separator}{source}: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for CollateralError {}

/// Collateral and its source.
#[derive(Debug)]
pub struct Fetched {
    collateral: Collateral,
    source: FetchUrl,
    index: usize,
    at: Stamp,
    /// How long it may be used, from `at`.
    life: Duration,
}

impl Fetched {
    fn new(collateral: Collateral, index: usize, source: FetchUrl, at: Stamp) -> Self {
        // Unreadable documents are kept for MIN_AGE only, so that a repaired source is
        // soon asked again. The appraisal refuses them.
        let next_update = collateral.next_update().unwrap_or_default();
        let left = Duration::from_secs(next_update.0.saturating_sub(at.wall().0));
        Self {
            collateral,
            source,
            index,
            at,
            life: left.clamp(MIN_AGE, MAX_AGE),
        }
    }

    pub fn collateral(&self) -> &Collateral {
        &self.collateral
    }

    pub fn source(&self) -> &FetchUrl {
        &self.source
    }

    fn usable(&self, clock: &Clock) -> bool {
        self.at.age(clock) < self.life
    }

    /// True if a quarter of its life or less is left, in which to fetch its successor.
    fn due(&self, clock: &Clock) -> bool {
        self.at.age(clock) >= (self.life / 4 * 3).max(MIN_AGE)
    }

    /// True if its source would give the same again.
    fn young(&self, clock: &Clock) -> bool {
        self.at.age(clock) < MIN_AGE
    }
}

/// Which sources a search asks.
#[derive(Debug, Clone, Copy)]
enum Search {
    /// Those whose documents expire soon, or that have given none.
    Renewal,
    /// All but those that were asked less than [`MIN_AGE`] ago.
    Others,
}

/// The sources and their documents.
#[derive(Debug, Clone)]
pub struct Collaterals(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: Client,
    sources: Vec<FetchUrl>,
    clock: Clock,
    state: Option<Arc<StateDir>>,
    trust_anchors: TrustAnchors,
    entries: Mutex<HashMap<CollateralKey, Entry>>,
    editions: Mutex<EditionsState>,
    /// By source: when it last failed or was overtaken.
    trouble: Mutex<Vec<Option<Stamp>>>,
    seldom: Seldom,
}

impl Collaterals {
    /// Begins with the documents on disk. Damaged files are fetched again.
    pub fn new(
        fetcher: Arc<Fetcher>,
        sources: Vec<FetchUrl>,
        trust_anchors: &TrustAnchors,
        clock: Clock,
        state: Option<Arc<StateDir>>,
    ) -> Self {
        let shared = Shared {
            client: Client::new(fetcher, trust_anchors),
            trouble: Mutex::new(vec![None; sources.len()]),
            seldom: Seldom::default(),
            sources,
            clock,
            state,
            trust_anchors: trust_anchors.clone(),
            entries: Mutex::default(),
            editions: Mutex::default(),
        };
        shared.load();
        shared.load_editions();
        Self(Arc::new(shared))
    }

    /// All sources, for messages.
    pub fn sources(&self) -> String {
        let sources: Vec<_> = self.0.sources.iter().map(ToString::to_string).collect();
        sources.join(", ")
    }

    pub fn source_count(&self) -> usize {
        self.0.sources.len()
    }

    /// What each source gives now, regardless of what is stored.
    pub async fn each(
        &self,
        key: CollateralKey,
    ) -> Vec<(FetchUrl, Result<Arc<Fetched>, SourceError>)> {
        let shared = &self.0;
        let sources = shared.sources.iter().enumerate();
        let fetches = sources.map(|(index, source)| async move {
            let found = shared.client.fetch(source, key).await;
            let at = Stamp::now(&shared.clock);
            let found = found
                .map(|collateral| Arc::new(Fetched::new(collateral, index, source.clone(), at)));
            (source.clone(), found)
        });
        join_all(fetches).await
    }

    /// Whether each source answers, where no platform family is known to ask it for.
    pub async fn each_answers(&self) -> Vec<(FetchUrl, Result<(), SourceError>)> {
        let sources = self.0.sources.iter();
        join_all(
            sources
                .map(|source| async move { (source.clone(), self.0.client.answers(source).await) }),
        )
        .await
    }

    /// Intel's list of editions, if it is stored.
    pub fn editions(&self) -> Option<Arc<Editions>> {
        lock(&self.0.editions).stored(&self.0.clock)
    }

    /// Resolves when the list is stored, or after `editions::PATIENCE`: a verdict is possible
    /// without it.
    pub async fn want_editions(&self) {
        let wanted = EditionsState::want(&self.0);
        if let Some(waiter) = wanted {
            let _ = timeout(editions::PATIENCE, waiter.outcome()).await;
        }
    }

    /// The fetcher that collateral and the endpoint list share.
    pub fn fetcher(&self) -> &Fetcher {
        self.0.client.fetcher()
    }

    /// Renews what expires soon of every platform family seen before. Returns at once.
    pub fn prewarm(&self) {
        let clock = &self.0.clock;
        for (key, entry) in lock(&self.0.entries).iter() {
            let renewed = entry.documents().any(|found| !found.due(clock));
            if entry.seen && !renewed && entry.failed(clock).is_none() {
                self.search(*key, entry, Search::Renewal);
            }
        }
    }

    /// Documents that are not `set_aside`: stored ones, in the order of the sources, or those
    /// of the first source that answers.
    pub async fn get(
        &self,
        key: CollateralKey,
        set_aside: &[Arc<Fetched>],
    ) -> Result<Arc<Fetched>, CollateralError> {
        let waiter = {
            let clock = &self.0.clock;
            let mut entries = lock(&self.0.entries);
            let entry = entry::of(&mut entries, key, clock);
            let blamed = |found: &Arc<Fetched>| set_aside.iter().any(|bad| Arc::ptr_eq(bad, found));
            let kept = entry
                .documents()
                .find(|found| found.usable(clock) && !blamed(found));
            let failed = entry.failed(clock);
            if let Some(kept) = kept {
                if kept.due(clock) && failed.is_none() {
                    self.search(key, entry, Search::Renewal);
                }
                return Ok(Arc::clone(kept));
            }
            if let Some(error) = failed {
                return Err(error.clone());
            }
            self.search(key, entry, Search::Others)
        };
        let lost = CollateralError {
            failures: Vec::new(),
        };
        waiter.outcome().await.unwrap_or(Err(lost))
    }

    /// Writes documents that proved to be genuine to disk, once.
    pub fn keep(&self, key: CollateralKey, genuine: &Arc<Fetched>) {
        let mut entries = lock(&self.0.entries);
        let entry = entry::of(&mut entries, key, &self.0.clock);
        entry.seen = true;
        if !entry.saves(genuine) {
            return;
        }
        if let Some(state) = &self.0.state {
            let file = CacheFile::Collateral {
                family: family(key),
            };
            let body = genuine.collateral.to_json().into_bytes();
            state.save(file, genuine.source.to_string(), genuine.at.wall(), body);
        }
    }

    /// Runs one search per family at a time, in a task of its own. It ends, since each fetch
    /// has a time limit.
    fn search(
        &self,
        key: CollateralKey,
        entry: &Entry,
        search: Search,
    ) -> Waiter<Result<Arc<Fetched>, CollateralError>> {
        entry.in_flight.join(|| {
            let shared = Arc::clone(&self.0);
            let clock = &shared.clock;
            let order: Vec<usize> = (0..shared.sources.len())
                .filter(|&index| {
                    entry.of_source(index).is_none_or(|found| match search {
                        Search::Renewal => found.due(clock),
                        Search::Others => !found.young(clock),
                    })
                })
                .collect();
            async move {
                let outcome = shared.collateral_of(key, &order).await;
                let mut entries = lock(&shared.entries);
                let entry = entry::of(&mut entries, key, &shared.clock);
                match &outcome {
                    Ok(fetched) => entry.put(Arc::clone(fetched)),
                    // No source could be asked, so none has failed.
                    Err(error) if error.failures.is_empty() => {}
                    Err(error) => entry.fail(error.clone(), Stamp::now(&shared.clock)),
                }
                drop(entries);
                outcome
            }
        })
    }
}

/// The outcome of a hedged search.
struct Hedged<T> {
    /// The index, the source and its answer.
    first: Option<(usize, FetchUrl, T)>,
    /// Sources that were asked before it and had not answered.
    overtaken: Vec<usize>,
    failures: Vec<(usize, SourceError)>,
}

impl Shared {
    /// The documents of the first of these sources that answers.
    async fn collateral_of(
        self: &Arc<Self>,
        key: CollateralKey,
        order: &[usize],
    ) -> Result<Arc<Fetched>, CollateralError> {
        let ask = |shared: Arc<Self>, source: FetchUrl| async move {
            shared.client.fetch(&source, key).await
        };
        let mut hedged = self.first_of(order, ask).await;
        hedged.failures.sort_by_key(|(index, _)| *index);
        for (index, error) in &hedged.failures {
            if let Some(source) = self.sources.get(*index) {
                let subject = format_args!("{source} {error}");
                if let Some(more) = self.seldom.may_say(subject, "collateral_not_fetched") {
                    tracing::warn!(%source, %error, "collateral not fetched{more}");
                }
            }
            self.mark(*index, true);
        }
        for overtaken in hedged.overtaken {
            self.mark(overtaken, true);
        }
        if let Some((index, source, collateral)) = hedged.first {
            self.mark(index, false);
            let at = Stamp::now(&self.clock);
            return Ok(Arc::new(Fetched::new(collateral, index, source, at)));
        }
        let failures = hedged.failures.into_iter().filter_map(|(index, error)| {
            let source = self.sources.get(index)?;
            Some((source.to_string(), error))
        });
        Err(CollateralError {
            failures: failures.collect(),
        })
    }

    /// The first of these sources that answers `ask`. Each gets a head start of [`HEDGE`]
    /// before the next, unless it failed or was overtaken lately.
    async fn first_of<T, F>(
        self: &Arc<Self>,
        order: &[usize],
        ask: impl Fn(Arc<Self>, FetchUrl) -> F,
    ) -> Hedged<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, SourceError>> + Send + 'static,
    {
        let mut failures: Vec<(usize, SourceError)> = Vec::new();
        // Dropping the set aborts requests to the slower sources.
        let mut asked = JoinSet::new();
        let mut waiting = HashSet::new();
        let mut next = order.iter().copied().peekable();
        loop {
            if let Some(index) = next.next()
                && let Some(source) = self.sources.get(index).cloned()
            {
                waiting.insert(index);
                let answer = ask(Arc::clone(self), source.clone());
                asked.spawn(async move { (index, source, answer.await) });
                if next.peek().is_some() && self.in_trouble(index) {
                    continue;
                }
            }
            let head_start = next.peek().map(|_| Instant::now() + HEDGE);
            while !asked.is_empty() {
                let joined = match head_start {
                    Some(end) => match timeout_at(end, asked.join_next()).await {
                        Ok(joined) => joined,
                        Err(_) => break,
                    },
                    None => asked.join_next().await,
                };
                // An error: the task panicked or the runtime is shutting down.
                let Some(Ok((index, source, answer))) = joined else {
                    continue;
                };
                waiting.remove(&index);
                match answer {
                    Ok(document) => {
                        let overtaken = waiting.into_iter().filter(|&other| other < index);
                        return Hedged {
                            first: Some((index, source, document)),
                            overtaken: overtaken.collect(),
                            failures,
                        };
                    }
                    Err(error) => failures.push((index, error)),
                }
            }
            if asked.is_empty() && next.peek().is_none() {
                break;
            }
        }
        Hedged {
            first: None,
            overtaken: Vec::new(),
            failures,
        }
    }

    fn in_trouble(&self, index: usize) -> bool {
        let trouble = lock(&self.trouble);
        let since = trouble.get(index).copied().flatten();
        since.is_some_and(|since| since.age(&self.clock) < TROUBLE)
    }

    fn mark(&self, index: usize, trouble: bool) {
        let mut all = lock(&self.trouble);
        if let Some(source) = all.get_mut(index) {
            *source = trouble.then(|| Stamp::now(&self.clock));
        }
    }

    fn load(&self) {
        let Some(state) = &self.state else {
            return;
        };
        let mut entries = lock(&self.entries);
        for name in state.families() {
            let Some(key) = key_of(&name) else {
                continue;
            };
            if entries.len() >= MAX_KEYS {
                break;
            }
            let entry = entry::of(&mut entries, key, &self.clock);
            // The family is renewed even if its file cannot be used.
            entry.seen = true;
            let Some(cached) = state.load(&CacheFile::Collateral { family: name }) else {
                continue;
            };
            // Documents of a source that is no longer configured are not used.
            let mut sources = self.sources.iter().enumerate();
            let Some((index, source)) =
                sources.find(|(_, source)| source.to_string() == cached.source)
            else {
                continue;
            };
            match Collateral::from_json(&cached.body) {
                Ok(collateral) => {
                    let at = Stamp::remembered(cached.fetched_at, &self.clock);
                    let fetched = Arc::new(Fetched::new(collateral, index, source.clone(), at));
                    entry.saves(&fetched);
                    entry.put(fetched);
                }
                Err(rejected) => {
                    tracing::warn!(
                        family = family(key), %rejected,
                        "collateral on disk not read; it will be fetched again"
                    );
                }
            }
        }
    }
}

/// The family's part of a file's name: hex digits, letters and "-".
fn family(key: CollateralKey) -> String {
    format!("{}-{}", key.fmspc, key.ca.as_str())
}

fn key_of(family: &str) -> Option<CollateralKey> {
    let (fmspc, ca) = family.split_once('-')?;
    let ca = [PckCa::Platform, PckCa::Processor]
        .into_iter()
        .find(|known| known.as_str() == ca)?;
    Some(CollateralKey {
        fmspc: fmspc.parse().ok()?,
        ca,
    })
}
