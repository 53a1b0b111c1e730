//! What is stored about one platform family.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use attest::CollateralKey;

use super::{CollateralError, Fetched, MAX_KEYS, RETRY_PAUSE};
use crate::clock::{Clock, Stamp};
use crate::single_flight::SingleFlight;

#[derive(Debug)]
pub(super) struct Entry {
    /// By the source's index.
    documents: BTreeMap<usize, Arc<Fetched>>,
    failed: Option<(CollateralError, Stamp)>,
    pub(super) in_flight: SingleFlight<Result<Arc<Fetched>, CollateralError>>,
    /// True once genuine documents were about it. Until then any backend's evidence could have
    /// invented this family.
    pub(super) seen: bool,
    used: Stamp,
    /// The documents on disk.
    saved: Option<Arc<Fetched>>,
}

/// The entry of `key`. If there are too many, a new one replaces another: first a family
/// without genuine documents, then the one that was unused for longest.
pub(super) fn of<'a>(
    entries: &'a mut HashMap<CollateralKey, Entry>,
    key: CollateralKey,
    clock: &Clock,
) -> &'a mut Entry {
    if entries.len() >= MAX_KEYS && !entries.contains_key(&key) {
        let worst = entries
            .iter()
            .min_by_key(|(_, entry)| (entry.seen, std::cmp::Reverse(entry.used.age(clock))))
            .map(|(key, _)| *key);
        if let Some(worst) = worst {
            entries.remove(&worst);
        }
    }
    let entry = entries.entry(key).or_insert_with(|| Entry {
        documents: BTreeMap::new(),
        failed: None,
        in_flight: SingleFlight::default(),
        seen: false,
        used: Stamp::now(clock),
        saved: None,
    });
    entry.used = Stamp::now(clock);
    entry
}

impl Entry {
    /// In the order of the sources.
    pub(super) fn documents(&self) -> impl Iterator<Item = &Arc<Fetched>> {
        self.documents.values()
    }

    pub(super) fn of_source(&self, index: usize) -> Option<&Arc<Fetched>> {
        self.documents.get(&index)
    }

    pub(super) fn put(&mut self, fetched: Arc<Fetched>) {
        self.failed = None;
        self.documents.insert(fetched.index, fetched);
    }

    pub(super) fn fail(&mut self, error: CollateralError, at: Stamp) {
        self.failed = Some((error, at));
    }

    /// The last failure, while it is reused.
    pub(super) fn failed(&self, clock: &Clock) -> Option<&CollateralError> {
        let (error, since) = self.failed.as_ref()?;
        (since.age(clock) < RETRY_PAUSE).then_some(error)
    }

    /// Marks these documents as saved. False if they were already.
    pub(super) fn saves(&mut self, fetched: &Arc<Fetched>) -> bool {
        let known = self.saved.as_ref();
        if known.is_some_and(|saved| Arc::ptr_eq(saved, fetched)) {
            return false;
        }
        self.saved = Some(Arc::clone(fetched));
        true
    }
}
