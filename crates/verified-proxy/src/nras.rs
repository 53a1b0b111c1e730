//! NVIDIA's attestation service (NRAS), version 3: a second opinion on a
//! backend's GPUs, where the policy asks for one.
//!
//! It is shown one thing: the GPU evidence of a backend's report, byte for byte.
//! Its answer and its keys are judged by `attest`, together with the evidence.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attest::{KeySet, MAX_NRAS_ANSWER_BYTES, MAX_NRAS_KEY_SET_BYTES, NrasRejected};
use bytes::Bytes;
use http::StatusCode;

use crate::clock::Clock;
use crate::fetch::{FetchError, FetchUrl, Fetched, Fetcher};
use crate::refresh::{Flight, Landing, Stamp};

const ATTEST: &str = "/v3/attest/gpu";
const KEYS: &str = "/.well-known/jwks.json";

/// NVIDIA signs with a key some hours old and certifies it for two days; an hour
/// bounds how long one that it took back still counts.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);
/// Between two fetches of the key set for the sake of an unknown key: an answer
/// that names one, whoever wrote it, is no reason to knock without pause.
const MIN_AGE: Duration = Duration::from_secs(60);
/// How long a service that cannot be reached is left alone, so that those who
/// wait for one attempt do not repeat it one after another.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Why there is no second opinion.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum NrasError {
    #[error("{document}: {source}")]
    Fetch {
        document: &'static str,
        source: FetchError,
    },
    #[error("{document}: status {status}")]
    Status { document: &'static str, status: u16 },
    #[error(transparent)]
    KeySet(Arc<NrasRejected>),
    #[error("the program is ending")]
    Lost,
}

/// What NVIDIA said, and the keys that it may be signed with.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) answer: Bytes,
    pub(crate) keys: Arc<KeySet>,
}

/// The service and its keys.
#[derive(Debug, Clone)]
pub(crate) struct Nras(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    fetcher: Arc<Fetcher>,
    base: FetchUrl,
    clock: Clock,
    known: Mutex<Known>,
    flight: Flight<Result<Arc<KeySet>, NrasError>>,
}

#[derive(Debug, Default)]
struct Known {
    keys: Option<(Arc<KeySet>, Stamp)>,
    /// When keys were last asked for, whatever came of it.
    asked: Option<Stamp>,
    failed: Option<(NrasError, Stamp)>,
}

impl Known {
    fn keys(&self, clock: &Clock) -> Option<&Arc<KeySet>> {
        let (keys, since) = self.keys.as_ref()?;
        (since.age(clock) < MAX_AGE).then_some(keys)
    }

    /// A failure that is still answered for.
    fn failed(&self, clock: &Clock) -> Option<&NrasError> {
        let (error, since) = self.failed.as_ref()?;
        (since.age(clock) < RETRY_PAUSE).then_some(error)
    }
}

impl Nras {
    pub(crate) fn new(fetcher: Arc<Fetcher>, base: FetchUrl, clock: Clock) -> Self {
        Self(Arc::new(Shared {
            fetcher,
            base,
            clock,
            known: Mutex::default(),
            flight: Flight::default(),
        }))
    }

    /// Where it is asked.
    pub(crate) fn service(&self) -> &FetchUrl {
        &self.0.base
    }

    /// Shows NVIDIA `payload`, the `nvidia_payload` of a report.
    pub(crate) async fn ask(&self, payload: &str) -> Result<Said, NrasError> {
        if let Some(error) = self.0.known().failed(&self.0.clock) {
            return Err(error.clone());
        }
        let (nras, payload) = (self.clone(), Bytes::copy_from_slice(payload.as_bytes()));
        // A task of its own: clients that leave before a silent service has failed
        // would have each of them wait for it anew.
        let asked = tokio::spawn(async move {
            let asked = tokio::try_join!(nras.0.answer(payload), nras.keys());
            if let Err(error) = &asked {
                nras.0.failed(error);
            }
            asked
        });
        let (answer, keys) = asked.await.unwrap_or(Err(NrasError::Lost))?;
        Ok(Said { answer, keys })
    }

    async fn keys(&self) -> Result<Arc<KeySet>, NrasError> {
        let landing = {
            let known = self.0.known();
            if let Some(keys) = known.keys(&self.0.clock) {
                return Ok(Arc::clone(keys));
            }
            self.fetch_keys(known)
        };
        landing.outcome().await.unwrap_or(Err(NrasError::Lost))
    }

    /// Keys that came after `old`, for an answer that is signed with none of
    /// those. `None` if there are none, or it is too early to ask again.
    pub(crate) async fn keys_after(&self, old: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        let landing = {
            let known = self.0.known();
            if let Some(keys) = known.keys(&self.0.clock)
                && !Arc::ptr_eq(keys, old)
            {
                return Some(Arc::clone(keys));
            }
            let just_asked = |asked: &Stamp| asked.age(&self.0.clock) < MIN_AGE;
            match self.0.flight.under_way() {
                Some(landing) => landing,
                None if known.asked.as_ref().is_some_and(just_asked) => return None,
                None => self.fetch_keys(known),
            }
        };
        match landing.outcome().await? {
            Ok(keys) => Some(keys),
            Err(error) => {
                tracing::warn!(%error, "NVIDIA's keys were not fetched again");
                None
            }
        }
    }

    /// One fetch at a time, in a task of its own.
    fn fetch_keys(
        &self,
        mut known: MutexGuard<'_, Known>,
    ) -> Landing<Result<Arc<KeySet>, NrasError>> {
        let shared = &self.0;
        shared.flight.join(|| {
            let shared = Arc::clone(shared);
            let asked = Stamp::now(&shared.clock);
            known.asked = Some(asked);
            async move {
                let keys = Arc::new(shared.key_set().await?);
                shared.known().keys = Some((Arc::clone(&keys), asked));
                Ok(keys)
            }
        })
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a service alone that is not there, or says that it is asked too
    /// much. Of other statuses one machine's evidence may be the reason, which is
    /// none for another's.
    fn failed(&self, error: &NrasError) {
        let is_away = match error {
            NrasError::Fetch { .. } | NrasError::KeySet(_) => true,
            NrasError::Status { status, .. } => matches!(status, 429 | 503),
            NrasError::Lost => false,
        };
        if is_away {
            self.known().failed = Some((error.clone(), Stamp::now(&self.clock)));
        }
    }

    async fn answer(&self, payload: Bytes) -> Result<Bytes, NrasError> {
        let url = self.base.join(ATTEST);
        let fetched = self
            .fetcher
            .post_json(&url, payload, MAX_NRAS_ANSWER_BYTES)
            .await;
        body("the answer", fetched)
    }

    async fn key_set(&self) -> Result<KeySet, NrasError> {
        let url = self.base.join(KEYS);
        let fetched = self.fetcher.get(&url, MAX_NRAS_KEY_SET_BYTES).await;
        KeySet::parse(&body("the key set", fetched)?)
            .map_err(|rejected| NrasError::KeySet(Arc::new(rejected)))
    }
}

/// NVIDIA answers 200 also where attestation failed.
fn body(document: &'static str, fetched: Result<Fetched, FetchError>) -> Result<Bytes, NrasError> {
    match fetched {
        Ok(fetched) if fetched.status == StatusCode::OK => Ok(fetched.body),
        Ok(fetched) => Err(NrasError::Status {
            document,
            status: fetched.status.as_u16(),
        }),
        Err(source) => Err(NrasError::Fetch { document, source }),
    }
}
