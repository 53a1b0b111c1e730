//! The store of verdicts: records by (domain, TLS key, policy), and their reports.
//!
//! In memory only: after a restart backends are attested again.

mod key_lock;
mod refused;
mod report;
mod revocation;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use attest::{Domain, LeastLevels, PolicyDigest, Record, Spki};
use serde::Serialize;
use sources::backend::Backend;
use sources::clock::Clock;
use sources::lock::lock;
use sources::seldom::Seldom;
use tokio::sync::watch;

use crate::metrics::{Metrics, Now};

pub(crate) use self::key_lock::{KeyLock, Stage};
use self::refused::{FailedConnections, Refused};
pub use self::refused::{Refusal, hint};
pub(crate) use self::refused::{blames_collateral, blames_sources, blames_time};
use self::report::Line;
pub use self::report::{VerdictId, VerdictReport};
use self::revocation::VerdictState;
pub(crate) use self::revocation::{Revocation, VerdictUse};

/// Twenty times today's domains, each with several keys.
const MAX_RECORDS: usize = 1_000;
/// Backends that the next configuration verifies in advance: more than a client uses at a time.
const MAX_HANDED_ON: usize = 32;
/// Reports of refusals kept for people, newest first.
const MAX_REFUSALS: usize = 100;
/// Reports of replaced verdicts, newest first: answers that name them may still be read. Some
/// kilobytes each.
const MAX_REPLACED: usize = 200;

/// The part of its lifetime after which a used record is renewed in the background.
const RENEW_AFTER: f64 = 0.75;
/// The same, once, where a level is low because a source did not answer: requests may ask for
/// more, but a source that never answers must not cost an attestation each time.
const RISE_AFTER: f64 = 1.0 / 12.0;

/// The key of a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) domain: Domain,
    pub(crate) spki: Spki,
    pub(crate) policy: PolicyDigest,
}

impl Key {
    /// True for the same TLS key, perhaps under another domain: then it is the same machine.
    fn same_machine(&self, other: &Self) -> bool {
        self.spki == other.spki && self.policy == other.policy
    }
}

#[derive(Debug)]
struct Remembered {
    record: Arc<Record>,
    backend: Backend,
    made: Instant,
    /// When it is renewed, if it was used.
    renew: Instant,
    used: bool,
    report: VerdictReport,
}

/// The store.
#[derive(Debug)]
pub struct Verdicts {
    ttl: Duration,
    clock: Clock,
    metrics: Arc<Metrics>,
    seldom: Seldom,
    inner: Mutex<Inner>,
    /// Counts the changes that [`Verdicts::list`] shows.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    records: HashMap<Key, Remembered>,
    refused: HashMap<Key, Refused>,
    failed: HashMap<Domain, FailedConnections>,
    refusals: VecDeque<VerdictReport>,
    replaced: VecDeque<VerdictReport>,
    key_locks: HashMap<Key, Arc<KeyLock>>,
    /// A renewed verdict, or one made after the last had expired, takes over the answers that
    /// began under its predecessor.
    states: HashMap<Key, Arc<VerdictState>>,
    /// Of revoked verdicts, as long as an answer is under way.
    revoked: Vec<Arc<VerdictState>>,
    /// True once other rules have replaced those that these verdicts were made by.
    retired: bool,
    /// Those verdicts.
    before: Weak<Verdicts>,
}

impl Inner {
    /// Removes a record, and keeps its report.
    fn forget(&mut self, key: &Key) {
        if let Some(replaced) = self.records.remove(key) {
            self.keep_replaced(replaced.report);
        }
    }

    /// Removes a record, and revokes it for all requests that use it.
    fn revoke(&mut self, key: &Key, metrics: &Metrics, seldom: &Seldom) {
        self.forget(key);
        if let Some(state) = self.states.remove(key) {
            state.revoked.store(true, Ordering::Release);
            let answers = state.answers.load(Ordering::Relaxed);
            let Key { domain, spki, .. } = key;
            let subject = format_args!("{domain} {spki}");
            if let Some(more) = seldom.may_say(subject, "verdict_withdrawn") {
                tracing::warn!(%domain, %spki, answers, "a verdict was withdrawn{more}");
            }
            metrics.withdrawn(answers);
            self.revoked.push(state);
        }
    }

    fn keep_replaced(&mut self, report: VerdictReport) {
        self.replaced.truncate(MAX_REPLACED - 1);
        self.replaced.push_front(report);
    }
}

/// A record to be renewed.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) key: Key,
    pub(crate) backend: Backend,
    made: Instant,
}

impl Verdicts {
    pub fn new(ttl: Duration, clock: Clock, metrics: Arc<Metrics>, seldom: Seldom) -> Self {
        Self {
            ttl,
            clock,
            metrics,
            seldom,
            inner: Mutex::default(),
            changes: watch::Sender::default(),
        }
    }

    /// Changes whenever the list of verdicts does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes
            .send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Whether requests may use a verdict now: by the monotonic clock, and by the wall clock,
    /// which goes on while a laptop sleeps.
    fn stands(&self, remembered: &Remembered) -> bool {
        let by_wall = self.clock.now() < remembered.record.valid_until();
        by_wall && remembered.made.elapsed() < self.ttl
    }

    /// The record of a verdict that stands.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Record>> {
        let mut inner = lock(&self.inner);
        let Inner {
            records, failed, ..
        } = &mut *inner;
        let found = records.get_mut(key)?;
        found.used = true;
        let stands = self.stands(found);
        if stands && !failed.is_empty() {
            failed.remove(&key.domain);
        }
        stands.then(|| Arc::clone(&found.record))
    }

    /// A connection to `domain` did not reach a verified machine.
    pub(crate) fn connection_failed(&self, domain: &Domain) {
        let failed = &mut lock(&self.inner).failed;
        if failed.len() >= MAX_RECORDS {
            failed.retain(|_, connections| !connections.is_forgotten());
        }
        if failed.len() < MAX_RECORDS {
            let after = FailedConnections::after(failed.get(domain));
            failed.insert(domain.clone(), after);
        }
    }

    /// How many connections to `domain` failed since one reached a verified machine.
    pub(crate) fn failed_in_a_row(&self, domain: &Domain) -> usize {
        let inner = lock(&self.inner);
        let failed = inner.failed.get(domain);
        failed.map_or(0, FailedConnections::in_a_row)
    }

    /// Lets a request use the verdict on `key`, if it is valid now and reaches the `least`
    /// levels.
    pub(crate) fn begin_use(&self, key: &Key, least: LeastLevels) -> Option<VerdictUse> {
        let mut inner = lock(&self.inner);
        let remembered = inner.records.get(key)?;
        if inner.retired || !self.stands(remembered) {
            return None;
        }
        let levels = remembered.record.levels();
        let state = inner.states.entry(key.clone());
        let state =
            state.or_insert_with(|| Arc::new(VerdictState::new(levels, self.seldom.clone())));
        let verdict_use = VerdictUse::new(key.domain.clone(), Arc::clone(state), least);
        verdict_use.holds().then_some(verdict_use)
    }

    /// No further request may use a verdict from now on: other rules have replaced those that
    /// they were made by. Requests that are being sent go on.
    pub fn retire(&self) {
        lock(&self.inner).retired = true;
    }

    /// Takes the place of `before`, which retires: what this one refuses from now on also stops
    /// what is still being sent under verdicts of `before`.
    pub fn follow(&self, before: &Arc<Self>) {
        lock(&self.inner).before = Arc::downgrade(before);
    }

    /// Revokes the verdicts on a key, by whatever policy, also under other domains of its machine,
    /// and those that came before.
    fn revoke_all(&self, key: &Key, of_machine: bool) {
        let before = {
            let mut inner = lock(&self.inner);
            let keys = inner.records.keys().chain(inner.states.keys());
            let fits = |other: &&Key| {
                other.same_machine(key) && (of_machine || other.domain == key.domain)
            };
            let keys: Vec<_> = keys.filter(fits).cloned().collect();
            for key in &keys {
                inner.revoke(key, &self.metrics, &self.seldom);
            }
            inner.before.upgrade()
        };
        if let Some(before) = before {
            before.revoke_all(key, of_machine);
        }
    }

    /// The backends whose verdicts are valid, newest first, each once and 32 at most.
    pub fn backends(&self) -> Vec<Backend> {
        let inner = lock(&self.inner);
        let valid = |found: &&Remembered| self.stands(found);
        let mut valid: Vec<_> = inner.records.values().filter(valid).collect();
        valid.sort_by_key(|found| std::cmp::Reverse(found.made));
        let mut backends: Vec<Backend> = Vec::new();
        for Remembered { backend, .. } in valid {
            let known = backends
                .iter()
                .any(|other| other.domain() == backend.domain());
            if !known && backends.len() < MAX_HANDED_ON {
                backends.push(backend.clone());
            }
        }
        backends
    }

    /// The last refusal of this key and how long it still counts: a backend that was refused
    /// several times is not asked again with every request.
    pub(crate) fn refused(&self, key: &Key) -> Option<(Arc<Refusal>, Duration)> {
        let inner = lock(&self.inner);
        let refused = inner.refused.get(key)?;
        Some((Arc::clone(&refused.last), refused.pause()?))
    }

    /// The lock of this key. It is dropped when no task has it.
    pub(crate) fn key_lock(&self, key: &Key) -> Arc<KeyLock> {
        let mut inner = lock(&self.inner);
        inner
            .key_locks
            .retain(|_, key_lock| Arc::strong_count(key_lock) > 1);
        if let Some(key_lock) = inner.key_locks.get(key) {
            return Arc::clone(key_lock);
        }
        let neighbour = inner
            .key_locks
            .iter()
            .find(|(other, _)| other.domain == key.domain);
        let key_lock = Arc::new(neighbour.map_or_else(KeyLock::default, |(_, key_lock)| {
            KeyLock::of_same_domain(key_lock)
        }));
        inner.key_locks.insert(key.clone(), Arc::clone(&key_lock));
        key_lock
    }

    /// Stores the outcome of an attestation that began at `began`, unless the key was refused
    /// since: an older success does not outweigh a newer refusal.
    pub(crate) fn remember(
        &self,
        key: Key,
        backend: Backend,
        record: Record,
        began: Instant,
        report: VerdictReport,
    ) {
        let mut inner = lock(&self.inner);
        let newer = inner.refused.iter().any(|(other, refused)| {
            let of_machine = other.same_machine(&key) && refused.is_of_machine_since(began);
            of_machine || *other == key && refused.is_of_key_since(began)
        });
        if newer {
            let domain = &key.domain;
            if let Some(more) = self.seldom.may_say(domain, "verdict_came_late") {
                tracing::warn!(%domain, "a verdict came later than a newer refusal{more}");
            }
            inner.keep_replaced(report);
            drop(inner);
            self.changed();
            return;
        }
        inner.refused.remove(&key);
        inner.failed.remove(&key.domain);
        if let Some(oldest) = surplus(&inner.records, &key, |remembered| remembered.made) {
            inner.forget(&oldest);
        }
        let made = Instant::now();
        let left = record.valid_until().0.saturating_sub(self.clock.now().0);
        let lifetime = Duration::from_secs(left).min(self.ttl);
        let before = inner.records.get(&key);
        let again = before.is_some_and(|before| before.report.may_rise);
        let renew_after = if report.may_rise && !again {
            RISE_AFTER
        } else {
            RENEW_AFTER
        };
        if let Some(state) = inner.states.get(&key) {
            state.now_reaches(record.levels());
        }
        inner.forget(&key);
        let remembered = Remembered {
            record: Arc::new(record),
            backend,
            made,
            renew: made + lifetime.mul_f64(renew_after),
            used: false,
            report,
        };
        inner.records.insert(key, remembered);
        drop(inner);
        self.changed();
    }

    /// Stores a refusal. It first revokes the verdicts on the key, under every domain of its
    /// machine, unless the refusal is not about the machine or key.
    pub(crate) fn refuse(&self, key: &Key, refusal: Arc<Refusal>) {
        if !blames_sources(&refusal.rejected) {
            self.revoke_all(key, refusal.is_of_machine());
        }
        let mut inner = lock(&self.inner);
        inner.refusals.truncate(MAX_REFUSALS - 1);
        inner.refusals.push_front(refusal.report.clone());
        if let Some(oldest) = surplus(&inner.refused, key, |refused| refused.at) {
            inner.refused.remove(&oldest);
        }
        let refused = Refused::after(inner.refused.get(key), refusal);
        inner.refused.insert(key.clone(), refused);
        drop(inner);
        self.changed();
    }

    /// Records that were used since they were made and are near their end. They are due again
    /// after a pause, in case their renewal fails.
    pub(crate) fn due(&self) -> Vec<Due> {
        let now = Instant::now();
        let pause = self.ttl.mul_f64((1.0 - RENEW_AFTER) / 4.0);
        let mut inner = lock(&self.inner);
        let over = inner
            .records
            .iter()
            .filter(|(_, found)| found.made.elapsed() >= self.ttl);
        let over: Vec<_> = over.map(|(key, _)| key.clone()).collect();
        for key in &over {
            inner.forget(key);
        }
        if !over.is_empty() {
            self.changed();
        }
        let Inner {
            records,
            states,
            revoked,
            ..
        } = &mut *inner;
        states.retain(|key, state| records.contains_key(key) || Arc::strong_count(state) > 1);
        revoked.retain(|state| Arc::strong_count(state) > 1);
        let mut due = Vec::new();
        for (key, remembered) in records {
            if remembered.used && now >= remembered.renew {
                remembered.renew = now + pause;
                due.push(Due {
                    key: key.clone(),
                    backend: remembered.backend.clone(),
                    made: remembered.made,
                });
            }
        }
        due
    }

    /// The numbers of `/_proxy/metrics` that are about verdicts.
    pub fn now(&self) -> Now {
        let answers = |state: &Arc<VerdictState>| state.answers.load(Ordering::Relaxed);
        let inner = lock(&self.inner);
        let is_valid = |remembered: &&Remembered| self.stands(remembered);
        Now {
            verdicts: inner.records.values().filter(is_valid).count(),
            answers: inner.states.values().map(answers).sum(),
            withdrawn_answers: inner.revoked.iter().map(answers).sum(),
            ..Now::default()
        }
    }

    /// False if the record was renewed or dropped since.
    pub(crate) fn is_due(&self, due: &Due) -> bool {
        let inner = lock(&self.inner);
        let found = inner.records.get(&due.key);
        found.is_some_and(|remembered| remembered.made == due.made)
    }

    /// The report that an answer's `x-verified-proxy-verdict` names.
    pub fn report(&self, id: &str) -> Option<Arc<str>> {
        let inner = lock(&self.inner);
        let verified = inner.records.values().map(|remembered| &remembered.report);
        let found = verified
            .chain(&inner.refusals)
            .chain(&inner.replaced)
            .find(|report| report.id.as_str() == id);
        found.map(|report| Arc::clone(&report.json))
    }

    /// All stored reports as a list in JSON: first those of valid verdicts, then refusals and
    /// replaced verdicts, newest first.
    pub fn list(&self) -> String {
        #[derive(Serialize)]
        struct Entry<'a> {
            #[serde(flatten)]
            line: &'a Line,
            /// Whether requests may use it.
            stands: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            valid_until: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            answers_under_way: Option<usize>,
        }
        let inner = lock(&self.inner);
        let mut verified: Vec<_> = inner.records.iter().collect();
        verified.sort_by_key(|(_, remembered)| std::cmp::Reverse(remembered.made));
        let verified = verified.into_iter().map(|(key, remembered)| Entry {
            line: &remembered.report.line,
            stands: self.stands(remembered),
            valid_until: Some(remembered.record.valid_until().0),
            answers_under_way: Some(
                inner
                    .states
                    .get(key)
                    .map_or(0, |state| state.answers.load(Ordering::Relaxed)),
            ),
        });
        let others = inner
            .refusals
            .iter()
            .chain(&inner.replaced)
            .map(|report| Entry {
                line: &report.line,
                stands: false,
                valid_until: None,
                answers_under_way: None,
            });
        let entries: Vec<_> = verified.chain(others).collect();
        serde_json::json!({ "verdicts": entries }).to_string()
    }
}

/// The oldest entry of `map`, if it has no room for another at `key`.
fn surplus<V>(map: &HashMap<Key, V>, key: &Key, at: impl Fn(&V) -> Instant) -> Option<Key> {
    if map.len() < MAX_RECORDS || map.contains_key(key) {
        return None;
    }
    let oldest = map.iter().min_by_key(|(_, value)| at(value));
    oldest.map(|(key, _)| key.clone())
}
