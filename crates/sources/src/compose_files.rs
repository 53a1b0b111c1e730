//! Compose files that deployment logs name, from the repository where the fleet's operator
//! publishes them.
//!
//! Neither the repository nor the disk is trusted: a file is used only if it has the log's
//! digest. Each file is fetched once and stored, and only for a log that a machine vouches for.
//! Verdicts wait for a file until `DEADLINE` after it was first wanted for a backend; later
//! verdicts use what has come since. A file that could not be fetched is not asked for again
//! for `RETRY_PAUSE`. Each backend has permits of its own, so one backend's log cannot delay
//! another's.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use attest::{ComposeFile, Domain, FileDigest, FilesAtHand};
use bytes::Bytes;
use futures_util::future::join_all;
use http::StatusCode;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use crate::clock::{Clock, Stamp};
use crate::fetch::{FetchError, FetchUrl, Fetcher};
use crate::lock::lock;
use crate::single_flight::{SingleFlight, Waiter};
use crate::state::{CacheFile, StateDir};

/// Twice what `attest` reads, so that a file that is somewhat too large is refused for its hash
/// and not reported as missing. Real files have up to 100 KB.
const MAX_FILE_BYTES: usize = 512 << 10;
/// Files fetched for one verdict. Recorded logs name some twenty.
const MAX_PER_VERDICT: usize = 64;
/// Fetches at a time for one backend.
const MAX_CONCURRENT: usize = 4;
/// How long verdicts wait for a file, and how long its fetch may take once it has a permit. A
/// fetch takes tenths of a second.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a file that could not be fetched is not asked for again, from when it was wanted:
/// so all of one log are retried together, and delay one verdict of many.
const RETRY_PAUSE: Duration = Duration::from_secs(5 * 60);
/// Files in memory. Nothing is fetched for a log that names more. All files that the fleet's
/// operator published in half a year are 340, of which a log names some twenty.
const MAX_FILES: usize = 256;
const MAX_BYTES: usize = 16 << 20;
/// In flight, and failed, for one backend: what two verdicts want, and what eight did not get.
const MAX_IN_FLIGHT: usize = 2 * MAX_PER_VERDICT;
const MAX_FAILURES: usize = 8 * MAX_PER_VERDICT;
/// In flight for all backends together, and backends with a fetch in flight or a failure: five
/// times today's.
const MAX_ALL_IN_FLIGHT: usize = 8 * MAX_IN_FLIGHT;
const MAX_BACKENDS: usize = 256;

/// Where compose files are fetched from, or the tags of their repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComposeSource {
    /// Files: `<base>/<commit>/<file>`. Tags: `<base>/info/refs`.
    Repository(FetchUrl),
    /// Nowhere.
    Off,
}

impl FromStr for ComposeSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let base: FetchUrl = text
            .parse()
            .map_err(|why| format!("{why} (or \"off\" for none)"))?;
        if text.contains(['?', '#']) {
            return Err(format!("expected a URL without a query: {text:?}"));
        }
        Ok(Self::Repository(base))
    }
}

impl fmt::Display for ComposeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(base) => base.fmt(f),
            Self::Off => f.write_str("off"),
        }
    }
}

/// Why a file is not available.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("status {0}")]
    Status(StatusCode),
    #[error("the file has SHA-256 {got}, which is not the one in the deployment log")]
    OtherBytes { got: FileDigest },
    #[error("its name leads out of the repository")]
    Path,
    #[error("not received within {} s", DEADLINE.as_secs())]
    Timeout,
}

/// The repository, and the files fetched from it.
#[derive(Debug, Clone)]
pub struct ComposeFiles(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    source: ComposeSource,
    fetcher: Arc<Fetcher>,
    clock: Clock,
    state: Option<Arc<StateDir>>,
    stored: Mutex<Stored>,
    fetches: Mutex<HashMap<Domain, Fetches>>,
}

#[derive(Debug, Default)]
struct Stored {
    files: Arc<FilesAtHand>,
    sizes: HashMap<FileDigest, usize>,
}

/// Each backend has its own: a log that names hundreds of files, or wrong commits for another
/// log's files, delays only its own backend.
#[derive(Debug)]
struct Fetches {
    /// By file and commit, as are failures: a file may exist at one commit and not at another.
    in_flight: HashMap<ComposeFile, InFlight>,
    failures: HashMap<ComposeFile, Stamp>,
    permits: Arc<Semaphore>,
}

impl Default for Fetches {
    fn default() -> Self {
        Self {
            in_flight: HashMap::new(),
            failures: HashMap::new(),
            permits: Arc::new(Semaphore::new(MAX_CONCURRENT)),
        }
    }
}

/// A file that is being fetched, or waits for a permit.
#[derive(Debug)]
struct InFlight {
    /// True in the end if the file is stored.
    in_flight: SingleFlight<bool>,
    /// When verdicts stop waiting for it.
    until: Instant,
}

impl ComposeFiles {
    pub fn new(
        source: ComposeSource,
        fetcher: Arc<Fetcher>,
        clock: Clock,
        state: Option<Arc<StateDir>>,
    ) -> Self {
        Self(Arc::new(Shared {
            source,
            fetcher,
            clock,
            state,
            stored: Mutex::default(),
            fetches: Mutex::default(),
        }))
    }

    /// The configured source.
    pub fn source(&self) -> &ComposeSource {
        &self.0.source
    }

    /// The files that are stored now.
    ///
    /// # Errors
    ///
    /// No files are ever fetched, for this reason.
    pub fn stored(&self) -> Result<Arc<FilesAtHand>, &'static str> {
        match self.0.source {
            ComposeSource::Repository(_) => Ok(Arc::clone(&lock(&self.0.stored).files)),
            ComposeSource::Off => Err("files are not fetched (--compose-files-url off)"),
        }
    }

    /// Fetches what is missing of `wanted`; true if any file came. `named` are all files of the
    /// same log of `backend`: they are not evicted.
    pub async fn get(
        &self,
        backend: &Domain,
        wanted: &[ComposeFile],
        named: &[&ComposeFile],
    ) -> bool {
        let ComposeSource::Repository(base) = &self.0.source else {
            return false;
        };
        if wanted.is_empty() {
            return false;
        }
        if !lock(&self.0.stored).make_room(named) {
            tracing::warn!(
                missing = wanted.len(),
                "a deployment log names more compose files than are held in memory"
            );
            return false;
        }
        let Begun { came, waiters } = self.0.begin(base, backend, wanted);
        let waiters = waiters.into_iter();
        let waiters = waiters.map(|(waiter, until)| timeout_at(until, waiter.outcome()));
        let outcomes = join_all(waiters).await;
        came || outcomes
            .into_iter()
            .any(|outcomes| outcomes == Ok(Some(true)))
    }

    /// Fetches `file` even if it is stored, or without one tests that the repository answers:
    /// for `verified-proxy doctor`.
    pub async fn check(
        &self,
        base: &FetchUrl,
        file: Option<&ComposeFile>,
    ) -> Result<(), FileError> {
        match file {
            Some(file) => self.0.fetch(base, file).await.map(drop),
            // Only paths below the base (COMMIT/FILE) must exist; this tests that it answers.
            None => Ok(self.0.fetcher.get(base, MAX_FILE_BYTES).await.map(drop)?),
        }
    }
}

/// What a verdict waits for.
#[derive(Debug, Default)]
struct Begun {
    /// A file came since the verdict began.
    came: bool,
    /// Each with the time until which it is waited for.
    waiters: Vec<(Waiter<bool>, Instant)>,
}

impl Fetches {
    /// Drops old failures. False if nothing is left.
    fn is_needed(&mut self, clock: &Clock) -> bool {
        self.failures
            .retain(|_, since| since.age(clock) < RETRY_PAUSE);
        !self.in_flight.is_empty() || !self.failures.is_empty()
    }
}

impl Stored {
    /// Evicts files that the log in question does not name, if memory is full. If there is no
    /// room even so, nothing is evicted and the result is false.
    fn make_room(&mut self, named: &[&ComposeFile]) -> bool {
        if !self.is_full() {
            return true;
        }
        let named: HashSet<_> = named.iter().map(|file| file.sha256).collect();
        let own = self
            .sizes
            .iter()
            .filter(|(digest, _)| named.contains(*digest));
        if named.len() > MAX_FILES || own.map(|(_, size)| size).sum::<usize>() > MAX_BYTES {
            return false;
        }
        Arc::make_mut(&mut self.files).retain(|digest| named.contains(digest));
        self.sizes.retain(|digest, _| named.contains(digest));
        true
    }

    fn is_full(&self) -> bool {
        self.sizes.len() > MAX_FILES || self.sizes.values().sum::<usize>() > MAX_BYTES
    }
}

impl Shared {
    /// Starts one fetch per file, each in a task of its own.
    fn begin(self: &Arc<Self>, base: &FetchUrl, backend: &Domain, wanted: &[ComposeFile]) -> Begun {
        let mut all = lock(&self.fetches);
        all.retain(|_, fetches| fetches.is_needed(&self.clock));
        if all.len() >= MAX_BACKENDS && !all.contains_key(backend) {
            return Begun::default();
        }
        let mut under_way: usize = all.values().map(|fetches| fetches.in_flight.len()).sum();
        let fetches = all.entry(backend.clone()).or_default();
        let mut digests = HashSet::new();
        let mut begun = Begun::default();
        // Read under the lock that finished fetches take: a file that is neither stored nor in
        // flight has to be fetched.
        let stored = Arc::clone(&lock(&self.stored).files);
        for file in wanted {
            if stored.contains(&file.sha256) {
                begun.came = true;
                continue;
            }
            let over = fetches.failures.len() >= MAX_FAILURES || digests.len() >= MAX_PER_VERDICT;
            if over || fetches.failures.contains_key(file) || !digests.insert(file.sha256) {
                continue;
            }
            if !fetches.in_flight.contains_key(file) {
                if fetches.in_flight.len() >= MAX_IN_FLIGHT || under_way >= MAX_ALL_IN_FLIGHT {
                    continue;
                }
                under_way += 1;
            }
            let of_file = fetches.in_flight.entry(file.clone());
            let of_file = of_file.or_insert_with(|| InFlight {
                in_flight: SingleFlight::default(),
                until: Instant::now() + DEADLINE,
            });
            let waiter = of_file.in_flight.join(|| {
                let (shared, base) = (Arc::clone(self), base.clone());
                let (backend, file) = (backend.clone(), file.clone());
                let permits = Arc::clone(&fetches.permits);
                let since = Stamp::now(&self.clock);
                async move {
                    shared
                        .fetch_and_store(&base, backend, file, &permits, since)
                        .await
                }
            });
            begun.waiters.push((waiter, of_file.until));
        }
        begun
    }

    async fn fetch_and_store(
        self: &Arc<Self>,
        base: &FetchUrl,
        backend: Domain,
        file: ComposeFile,
        permits: &Semaphore,
        since: Stamp,
    ) -> bool {
        let outcome = {
            // Waiting for a permit does not count against the file's deadline. The wait
            // is bounded, since each holder is.
            let _permit = permits.acquire().await;
            let came = lock(&self.stored).files.contains(&file.sha256);
            if came {
                // Another backend's fetch, or one at another commit, has stored it.
                None
            } else {
                let found = timeout(DEADLINE, self.find(base, &file)).await;
                Some(found.unwrap_or(Err(FileError::Timeout)))
            }
        };
        if let Some(Ok(bytes)) = &outcome {
            self.store(&file, bytes);
        }
        let mut all = lock(&self.fetches);
        let fetches = all.entry(backend).or_default();
        fetches.in_flight.remove(&file);
        match outcome {
            None | Some(Ok(_)) => true,
            Some(Err(error)) => {
                tracing::warn!(
                    file = %file.file, commit = %file.commit, sha256 = %file.sha256, %error,
                    "compose file not fetched"
                );
                fetches.failures.insert(file, since);
                false
            }
        }
    }

    /// The file from the disk, or else from the repository.
    async fn find(
        self: &Arc<Self>,
        base: &FetchUrl,
        file: &ComposeFile,
    ) -> Result<Bytes, FileError> {
        if let Some(kept) = self.kept(file).await {
            return Ok(kept);
        }
        let (url, body) = self.fetch(base, file).await?;
        if let Some(state) = &self.state {
            let file = CacheFile::ComposeFile {
                sha256: file.sha256.to_string(),
            };
            state.save(file, url.to_string(), self.clock.now(), body.to_vec());
        }
        Ok(body)
    }

    async fn fetch(
        &self,
        base: &FetchUrl,
        file: &ComposeFile,
    ) -> Result<(FetchUrl, Bytes), FileError> {
        let url = url_of(base, file).ok_or(FileError::Path)?;
        let fetched = self.fetcher.get(&url, MAX_FILE_BYTES).await?;
        if fetched.status != StatusCode::OK {
            return Err(FileError::Status(fetched.status));
        }
        let got = digest_of(&fetched.body);
        if got != file.sha256 {
            return Err(FileError::OtherBytes { got });
        }
        Ok((url, fetched.body))
    }

    /// The file that an earlier process stored, if its bytes are unchanged.
    async fn kept(&self, file: &ComposeFile) -> Option<Bytes> {
        let cache_file = CacheFile::ComposeFile {
            sha256: file.sha256.to_string(),
        };
        let cached = self.state.as_ref()?.load_in_time(cache_file).await?;
        let got = digest_of(&cached.body);
        if got != file.sha256 {
            tracing::warn!(
                sha256 = %file.sha256, %got,
                "a compose file in the state directory has been changed; it will be fetched again"
            );
            return None;
        }
        Some(cached.body.into())
    }

    fn store(&self, file: &ComposeFile, bytes: &[u8]) {
        let mut stored = lock(&self.stored);
        let files = Arc::make_mut(&mut stored.files);
        // Stored under the digest of these bytes, whatever their source.
        let digest = files.insert(&file.file, bytes);
        stored.sizes.insert(digest, bytes.len());
    }
}

/// The file's address, if it is below `base`. `attest` admits no other names into a log; this
/// does not rely on it.
fn url_of(base: &FetchUrl, file: &ComposeFile) -> Option<FetchUrl> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    let mut parts = file.file.split('/');
    let stays = parts
        .all(|part| !part.is_empty() && part != "." && part != ".." && part.bytes().all(plain));
    stays.then(|| base.join(&format!("/{}/{}", file.commit, file.file)))
}

fn digest_of(bytes: &[u8]) -> FileDigest {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut value = [0; 32];
    value.copy_from_slice(digest.as_ref());
    FileDigest::from_bytes(value)
}

#[cfg(test)]
mod tests;
