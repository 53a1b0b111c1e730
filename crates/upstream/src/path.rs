//! Finds a verified connection for a request, and sends it there.
//!
//! ```text
//!   dial                       recall(record)
//!    |                     +------------------------+
//!    v                     |                        v
//!  TCP, TLS -> Unverified -+                     Verified -- forward(ClientRequest) -> answer
//!                          |                        ^
//!                          +-- attest: Probe -------+
//!                                |     Evidence, collateral, appraise
//!                                v
//!                             refused: the connection is gone
//! ```
//!
//! Only `Verified::forward` opens a `ClientRequest`, and it needs a `ProvedLink`. That is made
//! of a proof about a TLS key and the `Link` that ends at this key; a `Link` can write nothing
//! but a probe, and is consumed.

mod answer;
mod attempt_error;
mod backend_io;
mod dial;
mod headers;
mod link;
mod pool;
mod request;
mod search;
mod unverified;
mod verified;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use attest::{Appraisal, Domain, LeastLevels, Policy, Spki, UnixTime};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Response;
use sources::backend::Backend;
use sources::lock::lock;
use sources::net::LookupCounts;
use tokio::time::{Instant, MissedTickBehavior};

use self::attempt_error::another_may_succeed;
use self::pool::{Pool, PoolPermit};
use self::request::Link;
use self::search::Search;
use self::unverified::Unverified;
use crate::admission::{Client, What};
use crate::answer_ids::AnswerIds;
use crate::judge::{Judge, SourceFinding};
use crate::least::Demand;
use crate::settings::UpstreamSettings;
use crate::verdicts::{Due, Key, KeyLock, Stage, Verdicts};

pub use self::answer::{AnswerBody, AnswerError};
pub use self::attempt_error::{AttemptError, WaitedFor};
pub use self::dial::{DialError, Dialer};
pub use self::link::SendError;
pub use self::pool::{PoolLimits, QueueFull};
pub use self::request::{
    BODY_SLACK, BodyBudget, BodyError, ClientRequest, Content, Framing, Model, SealError,
    SingleHeader, View,
};
pub use self::unverified::{AttestError, Examined};
pub use self::verified::{ForwardError, Unsent, VERDICT, Verified};

/// How often idle connections and verdicts are looked through.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// Stands for a deadline too far away for the clock.
const AGES: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// How far an attempt has got.
#[derive(Debug, Default)]
enum Position {
    #[default]
    Queue,
    Dial,
    Attestation {
        lock: Arc<KeyLock>,
        /// None if only one connection is made.
        key: Option<Spki>,
    },
}

/// Every attempt of a request that got no verified connection, or none that reaches the levels
/// that it asks for.
#[derive(Debug)]
pub struct PathError {
    /// What the same machine showed once more in its handshake is left out.
    pub attempts: Vec<(Domain, AttemptError)>,
    /// How many connections were tried.
    pub connections: usize,
}

/// Makes verified connections.
#[derive(Debug)]
pub struct Upstream {
    dialer: Dialer,
    pool: Pool,
    judge: Judge,
    verdicts: Arc<Verdicts>,
    attest_timeout: Duration,
    settings: Arc<UpstreamSettings>,
}

impl Upstream {
    pub fn new(
        dialer: Dialer,
        pool: PoolLimits,
        judge: Judge,
        verdicts: Arc<Verdicts>,
        attest_timeout: Duration,
        settings: Arc<UpstreamSettings>,
    ) -> Self {
        Self {
            dialer,
            pool: Pool::new(pool, settings.clock.clone(), settings.metrics.counts()),
            judge,
            verdicts,
            attest_timeout,
            settings,
        }
    }

    /// The time by which a request that begins now must have its connection.
    pub fn deadline(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.attest_timeout).unwrap_or(now + AGES)
    }

    /// A verified connection to one of `candidates`, tried in order, whose verdict reaches the
    /// demanded levels; to one instance, if its key is given. The first that it tries is a
    /// `fresh` one or, if there is one, an idle one.
    pub async fn verified(
        &self,
        candidates: &[Backend],
        instance: Option<Spki>,
        demand: Demand<'_>,
        client: &Client,
        fresh: bool,
        deadline: Instant,
    ) -> Result<Verified, PathError> {
        let mut search = Search::default();
        let mut turns = candidates.iter().cycle();
        loop {
            let goes_on = |backend: &&Backend| {
                search.goes_on(|| self.verdicts.failed_in_a_row(backend.domain()))
            };
            let Some(backend) = turns.by_ref().take(candidates.len()).find(goes_on) else {
                return Err(search.into_error());
            };
            let domain = backend.domain();
            let position = Mutex::default();
            let suits = |spki| {
                let is_wanted = instance.is_none_or(|instance| instance == spki);
                is_wanted && search.suits(spki) && !fresh
            };
            let attempt = self.attempt(backend, instance, suits, &search, Some(client), &position);
            let outcome = tokio::time::timeout_at(deadline, attempt).await;
            let error = match outcome {
                Ok(Ok(Some(verified))) => match verified.shortfall(demand) {
                    None => return Ok(verified),
                    Some(shortfall) => {
                        let spki = verified.key().spki;
                        if search.falls_short(spki) {
                            verified.release();
                        }
                        if instance == Some(spki) {
                            search.is_over();
                        }
                        AttemptError::BelowLevel(shortfall)
                    }
                },
                Ok(Ok(None)) => {
                    self.verdicts.connection_failed(domain);
                    search.passed_over();
                    continue;
                }
                Ok(Err(error)) => error,
                Err(_) => self.deadline_passed(&position),
            };
            match &error {
                AttemptError::QueueFull(full) => {
                    tracing::debug!(domain = %backend.domain(), %full, "no place at the backend");
                    if candidates.len() == 1 {
                        search.is_over();
                    }
                }
                AttemptError::BelowLevel(shortfall) => {
                    tracing::debug!(%domain, %shortfall, "backend passed over");
                }
                error if search::shown_by_handshake(error) => {
                    self.verdicts.connection_failed(domain);
                    tracing::debug!(%domain, %error, "backend not verified");
                }
                error => {
                    if error.is_about_connection() {
                        self.verdicts.connection_failed(domain);
                    }
                    if let Some(more) = self.settings.seldom.may_say(domain, error.code()) {
                        tracing::warn!(%domain, %error, "backend not verified{more}");
                    }
                }
            }
            if !another_may_succeed(&error) {
                search.is_over();
            }
            search.failed(domain, error, &lock(&position));
        }
    }

    /// No further request comes: idle connections are closed, and none is kept.
    pub fn retire(&self) {
        self.pool.retire();
    }

    /// Verifies a connection to each of `backends`, and keeps it for requests to come.
    pub async fn prepare(&self, backends: &[Backend]) {
        let search = Search::default();
        let mut attempts: FuturesUnordered<_> = backends
            .iter()
            .map(async |backend| {
                let position = Mutex::default();
                match self
                    .attempt(backend, None, |_| true, &search, None, &position)
                    .await
                {
                    Ok(verified) => verified.map_or((), Verified::release),
                    Err(error) => {
                        tracing::warn!(domain = %backend.domain(), %error, "backend not verified");
                    }
                }
            })
            .collect();
        while attempts.next().await.is_some() {}
    }

    /// Sends a request on a connection whose verdict is valid now and reaches the levels that
    /// are `asked` for.
    pub async fn forward(
        &self,
        verified: Verified,
        request: ClientRequest,
        asked: LeastLevels,
        answer_ids: &AnswerIds,
    ) -> Result<Response<AnswerBody>, ForwardError> {
        let demand = Demand::of(request.view().model.name(), asked);
        let least = verified.least(demand);
        if let Some(shortfall) = verified.shortfall(demand) {
            verified.release();
            return Err(ForwardError::BelowLevel(shortfall));
        }
        match self.verdicts.begin_use(&verified.key(), least) {
            Some(verdict_use) => verified.forward(request, verdict_use, answer_ids).await,
            None => Err(ForwardError::unsent(request, Unsent::Expired)),
        }
    }

    /// Examines one connection to `backend` without sending: for `verified-proxy verify`.
    pub async fn examine(&self, backend: &Backend) -> Result<Examined, AttemptError> {
        let key_lock = Arc::new(KeyLock::default());
        let position = Mutex::new(Position::Attestation {
            lock: Arc::clone(&key_lock),
            key: None,
        });
        let attempt = async {
            let permit = self.pool.acquire(backend.domain(), None).await?;
            let mut unverified = self.unverified(self.dial(backend).await?, backend, permit);
            Ok(unverified.examine(&self.judge, &key_lock).await?)
        };
        match tokio::time::timeout_at(self.deadline(), attempt).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.deadline_passed(&position)),
        }
    }

    /// Appraises the evidence of `examined` again under another policy. Nothing is sent.
    pub async fn again(
        &self,
        backend: &Backend,
        examined: &Examined,
        policy: &Policy,
    ) -> Option<Appraisal> {
        let evidence = examined.evidence.as_ref()?;
        let (spki, nonce, key_lock) = (examined.spki, examined.nonce, KeyLock::default());
        let judged = self
            .judge
            .appraise_under(policy, evidence, backend, spki, nonce, &key_lock);
        judged.await.ok()
    }

    /// What each source of collateral gives for the evidence of `examined`.
    pub async fn by_source(&self, backend: &Backend, examined: &Examined) -> Vec<SourceFinding> {
        let Some(evidence) = &examined.evidence else {
            return Vec::new();
        };
        let subject = backend.subject();
        let (spki, nonce) = (examined.spki, examined.nonce);
        self.judge.by_source(evidence, &subject, spki, nonce).await
    }

    /// The time by which verdicts are judged.
    pub fn now(&self) -> UnixTime {
        self.settings.clock.now()
    }

    /// The number of idle connections to backends, and what requests hold of backends.
    pub fn use_now(&self) -> (usize, (What, u64, u64)) {
        let (idle, requests) = self.pool.use_now();
        let limit = self.pool.requests_per_backend();
        (idle, (What::Backend, requests as u64, limit as u64))
    }

    /// The lookups of names under way.
    pub fn lookups(&self) -> LookupCounts {
        self.dialer.lookups()
    }

    /// Closes connections that were idle for too long, and renews verdicts that are in use and
    /// near their end. Never returns.
    pub async fn maintain(&self) {
        let mut tick = tokio::time::interval(HOUSEKEEPING);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renewals = FuturesUnordered::new();
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    self.pool.evict();
                    self.settings.seldom.say_held_back();
                    renewals.extend(self.verdicts.due().into_iter().map(|due| self.renew(due)));
                }
                Some(()) = renewals.next() => {}
            }
        }
    }

    /// Attests a key again while its verdict is still valid, on an idle connection or a new
    /// one.
    async fn renew(&self, due: Due) {
        let Due { key, backend, .. } = &due;
        let key_lock = self.verdicts.key_lock(key);
        let renewal = async {
            let unverified = self
                .connection(backend, |spki| spki == key.spki, None, &Mutex::default())
                .await?;
            if unverified.spki() != key.spki {
                return Err(self.other_instance(unverified));
            }
            // Taken last: a task that waits for a pool permit must not keep others, which have
            // one, from attesting.
            let permit = key_lock.try_permit();
            if permit.is_none() || !self.verdicts.is_due(&due) {
                // Another task attests the key, or has done so.
                unverified.release();
                return Ok(None);
            }
            Ok(Some(self.attest(unverified, key.clone(), &key_lock).await?))
        };
        match tokio::time::timeout(self.attest_timeout, renewal).await {
            Ok(Ok(verified)) => {
                if let Some(verified) = verified {
                    verified.release();
                }
            }
            Ok(Err(error)) => {
                let domain = backend.domain();
                if let Some(more) = self.settings.seldom.may_say(domain, "not_renewed") {
                    tracing::warn!(%domain, %error, "verdict not renewed{more}");
                }
            }
            Err(_) => {
                let domain = backend.domain();
                if let Some(more) = self.settings.seldom.may_say(domain, "not_renewed_in_time") {
                    tracing::warn!(%domain, "verdict not renewed in time{more}");
                }
            }
        }
    }

    fn deadline_passed(&self, position: &Mutex<Position>) -> AttemptError {
        let waited_for = match &*lock(position) {
            Position::Queue => WaitedFor::Permit,
            Position::Dial => WaitedFor::Connection,
            Position::Attestation { lock, .. } => match lock.stage() {
                Stage::Report => WaitedFor::Report,
                Stage::Collateral => WaitedFor::Collateral(self.judge.collateral_sources()),
                Stage::ComposeFiles => WaitedFor::ComposeFiles(self.judge.compose_source()),
                Stage::Opinion => WaitedFor::Opinion(self.judge.nras_service()),
            },
        };
        AttemptError::Deadline {
            limit: self.attest_timeout,
            waited_for,
        }
    }

    /// None if the connection reached a machine that the request may not ask again.
    async fn attempt(
        &self,
        backend: &Backend,
        instance: Option<Spki>,
        suits: impl Fn(Spki) -> bool,
        search: &Search,
        client: Option<&Client>,
        position: &Mutex<Position>,
    ) -> Result<Option<Verified>, AttemptError> {
        let unverified = self.connection(backend, suits, client, position).await?;
        if instance.is_some_and(|instance| instance != unverified.spki()) {
            return Err(self.other_instance(unverified));
        }
        let key = self.key(&unverified);
        match self.recall(unverified, &key)? {
            Ok(verified) => Ok(Some(verified)),
            Err(_) if !search.may_ask(key.spki) => Ok(None),
            // Boxed: it is rare and large, and would enlarge every request's future.
            Err(unverified) => Box::pin(self.first(unverified, key, position))
                .await
                .map(Some),
        }
    }

    /// The connection serves other requests, unless its machine was refused.
    fn other_instance(&self, unverified: Unverified) -> AttemptError {
        if self.verdicts.refused(&self.key(&unverified)).is_none() {
            unverified.release();
        }
        AttemptError::OtherInstance
    }

    fn key(&self, unverified: &Unverified) -> Key {
        Key {
            domain: unverified.backend().domain().clone(),
            spki: unverified.spki(),
            policy: self.judge.policy_digest(),
        }
    }

    /// Attests a key, or waits while another task does.
    async fn first(
        &self,
        unverified: Unverified,
        key: Key,
        position: &Mutex<Position>,
    ) -> Result<Verified, AttemptError> {
        let key_lock = self.verdicts.key_lock(&key);
        let asks = Position::Attestation {
            lock: Arc::clone(&key_lock),
            key: Some(key.spki),
        };
        set_position(position, asks);
        let timeouts = key_lock.timeouts();
        let _permit = key_lock.permit().await;
        if key_lock.timeouts() != timeouts {
            return Err(AttestError::Timeout(self.settings.timeouts.report).into());
        }
        // Another task may have attested this key while this one waited.
        let unverified = match self.recall(unverified, &key)? {
            Ok(verified) => return Ok(verified),
            Err(unverified) => unverified,
        };
        let outcome = self.attest(unverified, key, &key_lock).await;
        // Skipped if the deadline drops this future: the lock then still shows the stage that
        // hung, for the next waiter's message.
        key_lock.set_stage(Stage::Report);
        let verified = outcome?;
        verified
            .still_open()
            .await
            .map_err(AttemptError::ClosedAfterProbe)
    }

    /// An idle connection on a key that suits, or a new one on whatever key.
    async fn connection(
        &self,
        backend: &Backend,
        suits: impl Fn(Spki) -> bool,
        client: Option<&Client>,
        position: &Mutex<Position>,
    ) -> Result<Unverified, AttemptError> {
        let permit = self.pool.acquire(backend.domain(), client).await?;
        let link = match permit.take(suits) {
            Some(link) => link,
            None => {
                set_position(position, Position::Dial);
                // Boxed for the same reason.
                Box::pin(self.dial(backend)).await?
            }
        };
        Ok(self.unverified(link, backend, permit))
    }

    async fn dial(&self, backend: &Backend) -> Result<Link, DialError> {
        let link = match self.dialer.dial(backend).await {
            // An idle connection holds the descriptor that this one needs.
            Err(error) if error.lacks_descriptors() && self.pool.close_longest_idle() => {
                // Its socket is closed by a task of its own.
                tokio::task::yield_now().await;
                self.dialer.dial(backend).await?
            }
            dialled => dialled?,
        };
        self.settings.metrics.connected();
        Ok(link)
    }

    fn unverified(&self, link: Link, backend: &Backend, permit: PoolPermit) -> Unverified {
        Unverified::new(link, backend.clone(), permit, Arc::clone(&self.settings))
    }

    /// Verified by the stored verdict on the key; handed back if there is none; an error if the
    /// key was refused a moment ago.
    fn recall(
        &self,
        unverified: Unverified,
        key: &Key,
    ) -> Result<Result<Verified, Unverified>, AttestError> {
        if let Some(record) = self.verdicts.get(key) {
            let now = self.settings.clock.now();
            return Ok(unverified.recall(&record, key.policy, now));
        }
        match self.verdicts.refused(key) {
            Some((refusal, pause)) => Err(AttestError::RefusedBefore { refusal, pause }),
            None => Ok(Err(unverified)),
        }
    }

    async fn attest(
        &self,
        unverified: Unverified,
        key: Key,
        key_lock: &KeyLock,
    ) -> Result<Verified, AttestError> {
        let began = std::time::Instant::now();
        let backend = unverified.backend().clone();
        let outcome = unverified.attest(&self.judge, key_lock).await;
        let outcome_name = match &outcome {
            Ok(_) => "verified",
            Err(error) => error
                .refusal()
                .map_or("no_evidence", |refusal| refusal.rejected.code()),
        };
        self.settings
            .metrics
            .attested(outcome_name, began.elapsed());
        match &outcome {
            Err(AttestError::Rejected(refusal)) => {
                self.verdicts.refuse(&key, Arc::clone(refusal));
                self.pool.close(key.spki);
            }
            Err(AttestError::Timeout(_)) => key_lock.timed_out(),
            _ => {}
        }
        let (verified, report) = outcome?;
        let Key { domain, spki, .. } = &key;
        let subject = format_args!("{domain} {spki}");
        if let Some(more) = self.settings.seldom.may_say(subject, "attested") {
            let meaning = report.meaning();
            tracing::info!(%domain, %spki, verdict = %report.id, "attested: {meaning}{more}");
        }
        let now = self.settings.clock.now();
        match verified.record(now, self.verdicts.ttl()) {
            Ok(record) => {
                self.verdicts.remember(key, backend, record, began, report);
            }
            Err(error) => tracing::error!(%error, "a verdict cannot be remembered"),
        }
        Ok(verified)
    }
}

fn set_position(position: &Mutex<Position>, to: Position) {
    *lock(position) = to;
}
