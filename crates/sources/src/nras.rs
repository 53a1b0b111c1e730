//! NVIDIA's attestation service (NRAS), version 3: its result about a backend's GPUs, where the
//! policy asks for one.
//!
//! The service gets the GPU evidence of a backend's report, byte for byte, and nothing else.
//! `attest` judges its answer and its keys, together with the evidence.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use attest::{KeySet, MAX_NRAS_ANSWER_BYTES, MAX_NRAS_KEY_SET_BYTES, NrasRejected, Spki};
use bytes::Bytes;
use http::StatusCode;

use crate::clock::{Clock, Stamp};
use crate::fetch::{FetchError, FetchUrl, Fetched, Fetcher};
use crate::lock::lock;
use crate::retry_after::retry_after;
use crate::single_flight::{SingleFlight, Waiter};

const ATTEST: &str = "/v3/attest/gpu";
const KEYS: &str = "/.well-known/jwks.json";

/// NVIDIA signs with a key some hours old and certifies it for two days. An hour bounds how
/// long a key that NVIDIA withdrew still counts.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);
/// Least pause between two fetches of the key set because of an unknown key: answers that name
/// such keys, whoever wrote them, must not cause a fetch each.
const MIN_AGE: Duration = Duration::from_secs(60);
/// How long a failure is reused, so that those who wait for one attempt do not repeat it one
/// after another.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// The longest `Retry-After` that is followed: a server that answers in NVIDIA's name could
/// otherwise withhold results for as long as it likes.
const MAX_PAUSE: Duration = Duration::from_secs(5 * 60);
/// Machines whose evidence failed in the last minutes: more than are behind today's domains.
const MAX_MACHINES: usize = 256;

/// The document that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    Answer,
    KeySet,
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answer => "the answer",
            Self::KeySet => "the key set",
        })
    }
}

/// Why there is no result of NRAS.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NrasError {
    #[error("{document}: {source}")]
    Fetch {
        document: Document,
        source: FetchError,
    },
    #[error("{document}: status {status}{}", retry_pause(*.pause))]
    Status {
        document: Document,
        status: u16,
        /// The pause that the service asks for.
        pause: Option<Duration>,
    },
    #[error(transparent)]
    KeySet(Arc<NrasRejected>),
    #[error("the program is ending")]
    Lost,
}

fn retry_pause(pause: Option<Duration>) -> String {
    pause.map_or(String::new(), |pause| {
        format!(", not asked again for {} s", pause.as_secs())
    })
}

/// What a failure is about, and so what is not asked again for a while.
enum Blames {
    Service,
    /// One machine's evidence may be the cause: other machines' evidence is still sent.
    Evidence,
    Nothing,
}

impl NrasError {
    fn blames(&self) -> Blames {
        match self {
            // The service was reachable, and broke off over this evidence.
            Self::Fetch {
                document: Document::Answer,
                source: FetchError::Http(_) | FetchError::TooLarge { .. },
            } => Blames::Evidence,
            Self::Fetch { .. }
            | Self::KeySet(_)
            | Self::Status {
                document: Document::KeySet,
                ..
            }
            // The service is overloaded or down.
            | Self::Status {
                status: 429 | 503, ..
            } => Blames::Service,
            Self::Status { .. } => Blames::Evidence,
            Self::Lost => Blames::Nothing,
        }
    }

    fn pause(&self) -> Duration {
        match self {
            Self::Status {
                pause: Some(pause), ..
            } => *pause,
            _ => RETRY_PAUSE,
        }
    }
}

/// NVIDIA's answer, and the keys that may have signed it.
#[derive(Debug)]
pub struct Opinion {
    pub answer: Bytes,
    pub keys: Arc<KeySet>,
}

/// The service and its keys.
#[derive(Debug, Clone)]
pub struct Nras(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    fetcher: Arc<Fetcher>,
    base: FetchUrl,
    clock: Clock,
    known: Mutex<Known>,
    in_flight: SingleFlight<Result<Arc<KeySet>, NrasError>>,
}

#[derive(Debug, Default)]
struct Known {
    keys: Option<(Arc<KeySet>, Stamp)>,
    /// When the keys were last asked for, and the outcome.
    asked: Option<(Stamp, Result<(), NrasError>)>,
    service_failure: Option<Failure>,
    /// By the machine's TLS key.
    machines: HashMap<Spki, Failure>,
}

/// A failure, while it is reused.
#[derive(Debug)]
struct Failure {
    error: NrasError,
    since: Stamp,
}

impl Failure {
    fn holds(&self, clock: &Clock) -> bool {
        !self.left(clock).is_zero()
    }

    fn left(&self, clock: &Clock) -> Duration {
        self.error.pause().saturating_sub(self.since.age(clock))
    }

    /// The failure that holds for longer.
    fn longer(self, other: Option<Self>, clock: &Clock) -> Self {
        match other {
            Some(other) if other.left(clock) > self.left(clock) => other,
            _ => self,
        }
    }
}

impl Known {
    fn keys(&self, clock: &Clock) -> Option<&Arc<KeySet>> {
        let (keys, since) = self.keys.as_ref()?;
        (since.age(clock) < MAX_AGE).then_some(keys)
    }

    /// Why `machine`'s evidence is not sent now.
    fn failed(&self, machine: Spki, clock: &Clock) -> Option<&NrasError> {
        let failures = self
            .service_failure
            .iter()
            .chain(self.machines.get(&machine));
        let mut held = failures.filter(|failure| failure.holds(clock));
        held.next().map(|failure| &failure.error)
    }

    fn fail(&mut self, machine: Option<Spki>, error: &NrasError, clock: &Clock) {
        let failure = Failure {
            error: error.clone(),
            since: Stamp::now(clock),
        };
        match (error.blames(), machine) {
            (Blames::Service, _) => {
                self.service_failure = Some(failure.longer(self.service_failure.take(), clock))
            }
            (Blames::Evidence, Some(machine)) => {
                self.machines.retain(|_, failure| failure.holds(clock));
                let failure = failure.longer(self.machines.remove(&machine), clock);
                if self.machines.len() < MAX_MACHINES {
                    self.machines.insert(machine, failure);
                }
            }
            (Blames::Evidence, None) | (Blames::Nothing, _) => {}
        }
    }
}

impl Nras {
    pub fn new(fetcher: Arc<Fetcher>, base: FetchUrl, clock: Clock) -> Self {
        Self(Arc::new(Shared {
            fetcher,
            base,
            clock,
            known: Mutex::default(),
            in_flight: SingleFlight::default(),
        }))
    }

    /// The service's address.
    pub fn service(&self) -> &FetchUrl {
        &self.0.base
    }

    /// Sends `payload`, the `nvidia_payload` of `machine`'s report, to NVIDIA.
    pub async fn ask(&self, payload: &str, machine: Spki) -> Result<Opinion, NrasError> {
        if let Some(error) = lock(&self.0.known).failed(machine, &self.0.clock) {
            return Err(error.clone());
        }
        let (nras, payload) = (self.clone(), Bytes::copy_from_slice(payload.as_bytes()));
        // In a task of its own: else, if clients leave before a silent service has failed, each
        // new client would wait for it again.
        let asked = tokio::spawn(async move {
            let answer = nras.0.answer(payload, machine);
            tokio::try_join!(answer, nras.keys())
        });
        let (answer, keys) = asked.await.unwrap_or(Err(NrasError::Lost))?;
        Ok(Opinion { answer, keys })
    }

    /// Fails if the keys cannot be fetched: for `verified-proxy doctor`.
    pub async fn answers(&self) -> Result<(), NrasError> {
        self.0.key_set().await.map(drop)
    }

    async fn keys(&self) -> Result<Arc<KeySet>, NrasError> {
        let waiter = {
            let known = lock(&self.0.known);
            if let Some(keys) = known.keys(&self.0.clock) {
                return Ok(Arc::clone(keys));
            }
            self.fetch_keys(known)
        };
        waiter.outcome().await.unwrap_or(Err(NrasError::Lost))
    }

    /// Keys newer than `old`, for an answer that none of those has signed. `None` if `old` was
    /// fetched a moment ago.
    ///
    /// # Errors
    ///
    /// The newer keys could not be fetched, so the key is neither known nor unknown.
    pub async fn keys_after(&self, old: &Arc<KeySet>) -> Result<Option<Arc<KeySet>>, NrasError> {
        let waiter = {
            let known = lock(&self.0.known);
            if let Some(keys) = known.keys(&self.0.clock)
                && !Arc::ptr_eq(keys, old)
            {
                return Ok(Some(Arc::clone(keys)));
            }
            let pause = |outcome: &Result<_, NrasError>| match outcome {
                Ok(()) => MIN_AGE,
                Err(error) => error.pause(),
            };
            let just_asked = known.asked.as_ref();
            let just_asked =
                just_asked.filter(|(at, outcome)| at.age(&self.0.clock) < pause(outcome));
            match (self.0.in_flight.in_flight(), just_asked) {
                (Some(waiter), _) => waiter,
                (None, Some((_, outcome))) => return outcome.clone().map(|()| None),
                (None, None) => self.fetch_keys(known),
            }
        };
        waiter
            .outcome()
            .await
            .unwrap_or(Err(NrasError::Lost))
            .map(Some)
    }

    /// Runs one fetch at a time, in a task of its own.
    fn fetch_keys(
        &self,
        mut known: MutexGuard<'_, Known>,
    ) -> Waiter<Result<Arc<KeySet>, NrasError>> {
        let shared = &self.0;
        shared.in_flight.join(|| {
            let shared = Arc::clone(shared);
            let asked = Stamp::now(&shared.clock);
            known.asked = Some((asked, Err(NrasError::Lost)));
            async move {
                let fetched = shared.key_set().await.map(Arc::new);
                let mut known = lock(&shared.known);
                known.asked = Some((asked, fetched.as_ref().map(|_| ()).map_err(Clone::clone)));
                match &fetched {
                    Ok(keys) => known.keys = Some((Arc::clone(keys), asked)),
                    Err(error) => known.fail(None, error, &shared.clock),
                }
                fetched
            }
        })
    }
}

impl Shared {
    async fn answer(&self, payload: Bytes, machine: Spki) -> Result<Bytes, NrasError> {
        let url = self.base.join(ATTEST);
        let fetched = self
            .fetcher
            .post_json(&url, payload, MAX_NRAS_ANSWER_BYTES)
            .await;
        let answer = self.body(Document::Answer, fetched);
        if let Err(error) = &answer {
            lock(&self.known).fail(Some(machine), error, &self.clock);
        }
        answer
    }

    async fn key_set(&self) -> Result<KeySet, NrasError> {
        let url = self.base.join(KEYS);
        let fetched = self.fetcher.get(&url, MAX_NRAS_KEY_SET_BYTES).await;
        KeySet::parse(&self.body(Document::KeySet, fetched)?)
            .map_err(|rejected| NrasError::KeySet(Arc::new(rejected)))
    }

    /// NVIDIA answers with 200 even where attestation failed.
    fn body(
        &self,
        document: Document,
        fetched: Result<Fetched, FetchError>,
    ) -> Result<Bytes, NrasError> {
        match fetched {
            Ok(fetched) if fetched.status == StatusCode::OK => Ok(fetched.body),
            Ok(fetched) => Err(NrasError::Status {
                document,
                status: fetched.status.as_u16(),
                pause: retry_after(&fetched.headers, self.clock.now())
                    .map(|after| after.clamp(RETRY_PAUSE, MAX_PAUSE)),
            }),
            Err(source) => Err(NrasError::Fetch { document, source }),
        }
    }
}

#[cfg(test)]
mod tests;
