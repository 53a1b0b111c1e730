//! What is remembered of verdicts: records by (domain, TLS key, policy), and
//! the reports behind them.
//!
//! In memory only: after a restart every backend is attested anew.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use attest::{Appraisal, Domain, Nonce, PolicyDigest, Record, Rejected, Spki, UnixTime};
use http::HeaderValue;
use serde::Serialize;
use tokio::sync::MutexGuard as MutexGuardAsync;

use crate::backend::Backend;
use crate::upstream::WebPki;

/// Twenty times the domains served today, each with several keys.
const MAX_RECORDS: usize = 1_000;
/// Reports of refusals kept for their readers, newest first.
const MAX_REFUSALS: usize = 100;
/// Reports of verdicts that a newer one replaced, newest first: answers that
/// named them may still be read. Some kilobytes each.
const MAX_FORMER: usize = 200;

/// Refusals of a key that are followed by another try at once: a request tries
/// three connections, and one of them may be in the middle of a rotation.
const FREE_REFUSALS: u32 = 3;
/// After those, doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// The part of its lifetime after which a record is made anew in the background.
const RENEW_AFTER: f64 = 0.75;

/// Names one verdict: 64 bits of a digest over what it is about. The nonce in
/// it is fresh, so no two verdicts share a name by chance.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct VerdictId(String);

impl VerdictId {
    pub(crate) fn of(domain: &Domain, spki: Spki, policy: PolicyDigest, nonce: Nonce) -> Self {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        context.update(domain.as_str().as_bytes());
        context.update(&[0]);
        context.update(spki.as_bytes());
        context.update(policy.as_bytes());
        context.update(nonce.as_bytes());
        let digest = context.finish();
        Self(hex::encode(digest.as_ref().get(..8).unwrap_or_default()))
    }

    pub(crate) fn header_value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).unwrap_or_else(|_| HeaderValue::from_static("?"))
    }
}

impl fmt::Display for VerdictId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A verdict for people, as JSON.
#[derive(Debug, Clone)]
pub(crate) struct VerdictReport {
    pub(crate) id: VerdictId,
    pub(crate) json: Arc<str>,
    line: Arc<Line>,
}

/// The report in one line.
#[derive(Debug, Serialize)]
struct Line {
    id: String,
    domain: Domain,
    spki: Spki,
    /// "verified" or "rejected".
    verdict: &'static str,
    /// Of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// Seconds since 1970.
    judged_at: u64,
}

impl VerdictReport {
    pub(crate) fn new(
        id: VerdictId,
        domain: &Domain,
        spki: Spki,
        webpki: WebPki,
        judged_at: UnixTime,
        appraisal: &Appraisal,
    ) -> Self {
        let line = Line {
            id: id.to_string(),
            domain: domain.clone(),
            spki,
            verdict: match appraisal.outcome {
                Ok(_) => "verified",
                Err(_) => "rejected",
            },
            code: appraisal.outcome.as_ref().err().map(Rejected::code),
            judged_at: judged_at.0,
        };
        let mut json = serde_json::json!({
            "id": line.id,
            "domain": domain.as_str(),
            "spki": spki.to_string(),
            "ca_chain": webpki.as_str(),
        });
        let report = serde_json::to_value(&appraisal.report);
        if let (Some(object), Ok(serde_json::Value::Object(report))) =
            (json.as_object_mut(), report)
        {
            object.extend(report);
        }
        Self {
            id,
            json: json.to_string().into(),
            line: Arc::new(line),
        }
    }
}

/// What evidence was refused for.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) rejected: Rejected,
    pub(crate) report: VerdictReport,
}

/// What a record is found by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) domain: Domain,
    pub(crate) spki: Spki,
    pub(crate) policy: PolicyDigest,
}

#[derive(Debug)]
struct Remembered {
    record: Arc<Record>,
    backend: Backend,
    /// By the monotonic clock; the record itself knows the wall clock's limit.
    /// Whichever comes first counts.
    made: Instant,
    /// When it is to be made anew, if somebody uses it.
    renew: Instant,
    used: bool,
    report: VerdictReport,
}

/// Refusals of one key, one after another.
#[derive(Debug)]
struct Refused {
    last: Arc<Refusal>,
    at: Instant,
    in_a_row: u32,
}

impl Refused {
    /// For how long the last refusal still speaks for the key.
    fn pause(&self) -> Option<Duration> {
        let doublings = self.in_a_row.checked_sub(FREE_REFUSALS)?;
        let pause = FIRST_PAUSE
            .saturating_mul(1 << doublings.min(8))
            .min(LAST_PAUSE);
        pause
            .checked_sub(self.at.elapsed())
            .filter(|left| !left.is_zero())
    }
}

/// Whether the verdict that answers stand on still stands, and how many do.
#[derive(Debug, Default)]
struct Shared {
    answers: AtomicUsize,
    withdrawn: AtomicBool,
}

/// A request's share in a verdict, from before it is sent until its answer has
/// ended.
#[derive(Debug)]
pub(crate) struct Standing {
    domain: Domain,
    shared: Arc<Shared>,
}

impl Standing {
    fn new(domain: Domain, shared: Arc<Shared>) -> Self {
        shared.answers.fetch_add(1, Ordering::Relaxed);
        Self { domain, shared }
    }

    pub(crate) fn domain(&self) -> &Domain {
        &self.domain
    }

    /// False once the key was refused.
    pub(crate) fn holds(&self) -> bool {
        !self.shared.withdrawn.load(Ordering::Acquire)
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.shared.answers.fetch_sub(1, Ordering::Relaxed);
        if !self.holds() {
            tracing::warn!(domain = %self.domain, "an answer ended after its verdict was withdrawn");
        }
    }
}

/// Where those who would attest the same key queue: one of them does.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    leave: tokio::sync::Mutex<()>,
    /// Shared by all keys of a domain: a machine that collects evidence is slow,
    /// and several keys may be one machine's.
    probing: Arc<tokio::sync::Mutex<()>>,
    stage: Mutex<Stage>,
}

/// How far the first in a lane has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Stage {
    /// It asks for the backend's report.
    #[default]
    Report,
    /// It has the report and asks for Intel's collateral.
    Collateral,
}

impl Lane {
    /// Waits for leave to attest, which ends when it is dropped. Who gets it
    /// looks for a record first; a leader that failed leaves none, and the next
    /// one tries on its own connection.
    pub(crate) async fn leave(&self) -> MutexGuardAsync<'_, ()> {
        self.leave.lock().await
    }

    /// The same for somebody who does not wait.
    pub(crate) fn try_leave(&self) -> Option<MutexGuardAsync<'_, ()>> {
        self.leave.try_lock().ok()
    }

    /// Waits until nobody asks the domain for evidence; nobody else may until
    /// this is dropped.
    pub(crate) async fn probing(&self) -> MutexGuardAsync<'_, ()> {
        self.probing.lock().await
    }

    pub(crate) fn reach(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    pub(crate) fn stage(&self) -> Stage {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The store.
#[derive(Debug)]
pub(crate) struct Verdicts {
    ttl: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    records: HashMap<Key, Remembered>,
    refused: HashMap<Key, Refused>,
    refusals: VecDeque<VerdictReport>,
    former: VecDeque<VerdictReport>,
    lanes: HashMap<Key, Arc<Lane>>,
    /// A renewed verdict, and one made after the last had expired, have the
    /// answers that stood on the one before.
    shared: HashMap<Key, Arc<Shared>>,
}

impl Inner {
    /// Drops a record, and keeps its report.
    fn forget(&mut self, key: &Key) {
        if let Some(former) = self.records.remove(key) {
            self.keep_former(former.report);
        }
    }

    fn keep_former(&mut self, report: VerdictReport) {
        self.former.truncate(MAX_FORMER - 1);
        self.former.push_front(report);
    }
}

/// A record that is to be made anew.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) key: Key,
    pub(crate) backend: Backend,
}

impl Verdicts {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            inner: Mutex::default(),
        }
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// A record that may still hold: the caller recalls it.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Record>> {
        let mut inner = self.lock();
        let found = inner.records.get_mut(key)?;
        found.used = true;
        (found.made.elapsed() < self.ttl).then(|| Arc::clone(&found.record))
    }

    /// A share in the verdict on `key`, if it stands at this moment.
    pub(crate) fn standing(&self, key: &Key) -> Option<Standing> {
        let mut inner = self.lock();
        if inner.records.get(key)?.made.elapsed() >= self.ttl {
            return None;
        }
        let shared = match inner.shared.get(key) {
            Some(shared) => Arc::clone(shared),
            None => Arc::clone(inner.shared.entry(key.clone()).or_default()),
        };
        Some(Standing::new(key.domain.clone(), shared))
    }

    /// The last refusal of this key and how long it speaks for it: a backend
    /// that was refused several times is not asked again with every request.
    pub(crate) fn refused(&self, key: &Key) -> Option<(Arc<Refusal>, Duration)> {
        let inner = self.lock();
        let refused = inner.refused.get(key)?;
        Some((Arc::clone(&refused.last), refused.pause()?))
    }

    /// The lane of this key; gone when nobody is in it.
    pub(crate) fn lane(&self, key: &Key) -> Arc<Lane> {
        let mut inner = self.lock();
        inner.lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        if let Some(lane) = inner.lanes.get(key) {
            return Arc::clone(lane);
        }
        let neighbour = inner
            .lanes
            .iter()
            .find(|(other, _)| other.domain == key.domain);
        let lane = Arc::new(Lane {
            probing: neighbour.map_or_else(Arc::default, |(_, lane)| Arc::clone(&lane.probing)),
            ..Lane::default()
        });
        inner.lanes.insert(key.clone(), Arc::clone(&lane));
        lane
    }

    /// Keeps what an attestation that began at `began` has shown, unless the key
    /// was refused since: an older success says nothing against that.
    pub(crate) fn remember(
        &self,
        key: Key,
        backend: Backend,
        record: Record,
        now: UnixTime,
        began: Instant,
        report: VerdictReport,
    ) {
        let mut inner = self.lock();
        if inner
            .refused
            .get(&key)
            .is_some_and(|refused| refused.at > began)
        {
            tracing::warn!(domain = %key.domain, "a verdict came later than a newer refusal");
            inner.keep_former(report);
            return;
        }
        inner.refused.remove(&key);
        if inner.records.len() >= MAX_RECORDS && !inner.records.contains_key(&key) {
            let oldest = inner
                .records
                .iter()
                .min_by_key(|(_, remembered)| remembered.made);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                inner.forget(&oldest);
            }
        }
        let made = Instant::now();
        let left = record.valid_until().0.saturating_sub(now.0);
        let lifetime = Duration::from_secs(left).min(self.ttl);
        inner.forget(&key);
        let remembered = Remembered {
            record: Arc::new(record),
            backend,
            made,
            renew: made + lifetime.mul_f64(RENEW_AFTER),
            used: false,
            report,
        };
        inner.records.insert(key, remembered);
    }

    /// Notes a refusal. What was remembered of the key goes first.
    pub(crate) fn refuse(&self, key: &Key, refusal: Arc<Refusal>) {
        let mut inner = self.lock();
        inner.forget(key);
        if let Some(shared) = inner.shared.remove(key) {
            shared.withdrawn.store(true, Ordering::Release);
            let answers = shared.answers.load(Ordering::Relaxed);
            tracing::warn!(domain = %key.domain, spki = %key.spki, answers, "a verdict was withdrawn");
        }
        inner.refusals.truncate(MAX_REFUSALS - 1);
        inner.refusals.push_front(refusal.report.clone());
        if inner.refused.len() >= MAX_RECORDS && !inner.refused.contains_key(key) {
            let oldest = inner.refused.iter().min_by_key(|(_, refused)| refused.at);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                inner.refused.remove(&oldest);
            }
        }
        let before = inner.refused.get(key);
        let in_a_row = before
            .filter(|refused| refused.at.elapsed() < 2 * LAST_PAUSE)
            .map_or(0, |refused| refused.in_a_row);
        let refused = Refused {
            last: refusal,
            at: Instant::now(),
            in_a_row: in_a_row.saturating_add(1),
        };
        inner.refused.insert(key.clone(), refused);
    }

    /// The records that were used since they were made and are near their end.
    /// They are due again after a pause, in case nothing comes of it.
    pub(crate) fn due(&self) -> Vec<Due> {
        let now = Instant::now();
        let pause = self.ttl.mul_f64((1.0 - RENEW_AFTER) / 4.0);
        let mut inner = self.lock();
        let over = inner
            .records
            .iter()
            .filter(|(_, found)| found.made.elapsed() >= self.ttl);
        for key in over.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            inner.forget(&key);
        }
        let Inner {
            records, shared, ..
        } = &mut *inner;
        shared.retain(|key, shared| records.contains_key(key) || Arc::strong_count(shared) > 1);
        let mut due = Vec::new();
        for (key, remembered) in records {
            if remembered.used && now >= remembered.renew {
                remembered.renew = now + pause;
                due.push(Due {
                    key: key.clone(),
                    backend: remembered.backend.clone(),
                });
            }
        }
        due
    }

    /// The report behind an `x-verified-proxy-verdict`.
    pub(crate) fn report(&self, id: &str) -> Option<Arc<str>> {
        let inner = self.lock();
        let verified = inner.records.values().map(|remembered| &remembered.report);
        let found = verified
            .chain(&inner.refusals)
            .chain(&inner.former)
            .find(|report| report.id.0 == id);
        found.map(|report| Arc::clone(&report.json))
    }

    /// All verdicts whose reports are there, as JSON: those that stand, then
    /// refusals and those that were replaced, newest first.
    pub(crate) fn list(&self) -> String {
        #[derive(Serialize)]
        struct Entry<'a> {
            #[serde(flatten)]
            line: &'a Line,
            /// Whether requests are sent on it.
            stands: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            valid_until: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            answers_under_way: Option<usize>,
        }
        let inner = self.lock();
        let mut standing: Vec<_> = inner.records.iter().collect();
        standing.sort_by_key(|(_, remembered)| std::cmp::Reverse(remembered.made));
        let standing = standing.into_iter().map(|(key, remembered)| Entry {
            line: &remembered.report.line,
            stands: remembered.made.elapsed() < self.ttl,
            valid_until: Some(remembered.record.valid_until().0),
            answers_under_way: Some(
                inner
                    .shared
                    .get(key)
                    .map_or(0, |shared| shared.answers.load(Ordering::Relaxed)),
            ),
        });
        let others = inner
            .refusals
            .iter()
            .chain(&inner.former)
            .map(|report| Entry {
                line: &report.line,
                stands: false,
                valid_until: None,
                answers_under_way: None,
            });
        let entries: Vec<_> = standing.chain(others).collect();
        serde_json::json!({ "verdicts": entries }).to_string()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
