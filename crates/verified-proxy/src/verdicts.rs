//! What is remembered of verdicts: records by (domain, TLS key, policy), and
//! the reports behind them.
//!
//! In memory only: after a restart every backend is attested anew.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use attest::{Domain, Nonce, PolicyDigest, Record, Report, Spki};
use http::HeaderValue;
use tokio::sync::MutexGuard as MutexGuardAsync;

use crate::upstream::WebPki;

/// Twenty times the domains served today, each with several keys.
const MAX_RECORDS: usize = 1_000;
/// Reports of refusals kept for their readers, newest first.
const MAX_REFUSALS: usize = 100;
/// Reports of verdicts that a newer one replaced, newest first: answers that
/// named them may still be read. Some kilobytes each.
const MAX_FORMER: usize = 200;

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
        Self(
            digest
                .as_ref()
                .iter()
                .take(8)
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        )
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
}

impl VerdictReport {
    pub(crate) fn new(
        id: VerdictId,
        domain: &Domain,
        spki: Spki,
        webpki: WebPki,
        report: &Report,
    ) -> Self {
        let mut json = serde_json::json!({
            "id": id.to_string(),
            "domain": domain.as_str(),
            "spki": spki.to_string(),
            "ca_chain": webpki.as_str(),
        });
        let appraisal = serde_json::to_value(report);
        if let (Some(object), Ok(serde_json::Value::Object(appraisal))) =
            (json.as_object_mut(), appraisal)
        {
            object.extend(appraisal);
        }
        Self {
            id,
            json: json.to_string().into(),
        }
    }
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
    /// By the monotonic clock; the record itself knows the wall clock's limit.
    /// Whichever comes first counts.
    made: Instant,
    report: VerdictReport,
}

/// Where those who would attest the same key queue: one of them does.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    leave: tokio::sync::Mutex<()>,
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
    refusals: VecDeque<VerdictReport>,
    former: VecDeque<VerdictReport>,
    lanes: HashMap<Key, Arc<Lane>>,
}

impl Inner {
    /// Drops a record, and keeps its report.
    fn forget(&mut self, key: &Key) {
        if let Some(former) = self.records.remove(key) {
            self.former.truncate(MAX_FORMER - 1);
            self.former.push_front(former.report);
        }
    }
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
        let inner = self.lock();
        let found = inner.records.get(key)?;
        (found.made.elapsed() < self.ttl).then(|| Arc::clone(&found.record))
    }

    /// The lane of this key; gone when nobody is in it.
    pub(crate) fn lane(&self, key: &Key) -> Arc<Lane> {
        let mut inner = self.lock();
        inner.lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        Arc::clone(inner.lanes.entry(key.clone()).or_default())
    }

    pub(crate) fn remember(&self, key: Key, record: Record, report: VerdictReport) {
        let mut inner = self.lock();
        if inner.records.len() >= MAX_RECORDS && !inner.records.contains_key(&key) {
            let oldest = inner
                .records
                .iter()
                .min_by_key(|(_, remembered)| remembered.made);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                inner.forget(&oldest);
            }
        }
        let remembered = Remembered {
            record: Arc::new(record),
            made: Instant::now(),
            report,
        };
        inner.forget(&key);
        inner.records.insert(key, remembered);
    }

    /// Keeps the report of a refusal, and drops what was remembered before.
    pub(crate) fn refuse(&self, key: &Key, report: VerdictReport) {
        let mut inner = self.lock();
        inner.forget(key);
        inner.refusals.truncate(MAX_REFUSALS - 1);
        inner.refusals.push_front(report);
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

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
