//! What is known about one platform family.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use attest::CollateralKey;

use super::{CollateralError, Fetched, MAX_KEYS, RETRY_PAUSE};
use crate::clock::Clock;
use crate::refresh::{Flight, Stamp};

#[derive(Debug)]
pub(super) struct Slot {
    /// By source.
    documents: BTreeMap<usize, Arc<Fetched>>,
    failed: Option<(CollateralError, Stamp)>,
    pub(super) flight: Flight<Result<Arc<Fetched>, CollateralError>>,
    /// Genuine documents were about it. Until then anybody's evidence could have
    /// made up this family.
    pub(super) seen: bool,
    used: Stamp,
    /// What is on disk.
    saved: Option<Arc<Fetched>>,
}

/// The slot of `key`. A new one may take the place of another: of families that
/// nothing genuine was about first, then of the one unused for longest.
pub(super) fn of<'a>(
    slots: &'a mut HashMap<CollateralKey, Slot>,
    key: CollateralKey,
    clock: &Clock,
) -> &'a mut Slot {
    if slots.len() >= MAX_KEYS && !slots.contains_key(&key) {
        let worst = slots
            .iter()
            .min_by_key(|(_, slot)| (slot.seen, std::cmp::Reverse(slot.used.age(clock))))
            .map(|(key, _)| *key);
        if let Some(worst) = worst {
            slots.remove(&worst);
        }
    }
    let slot = slots.entry(key).or_insert_with(|| Slot {
        documents: BTreeMap::new(),
        failed: None,
        flight: Flight::default(),
        seen: false,
        used: Stamp::now(clock),
        saved: None,
    });
    slot.used = Stamp::now(clock);
    slot
}

impl Slot {
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

    /// A failure that is still answered for.
    pub(super) fn failed(&self, clock: &Clock) -> Option<&CollateralError> {
        let (error, since) = self.failed.as_ref()?;
        (since.age(clock) < RETRY_PAUSE).then_some(error)
    }

    /// True if these documents are not on disk yet, and from now on they are.
    pub(super) fn saves(&mut self, fetched: &Arc<Fetched>) -> bool {
        let known = self.saved.as_ref();
        if known.is_some_and(|saved| Arc::ptr_eq(saved, fetched)) {
            return false;
        }
        self.saved = Some(Arc::clone(fetched));
        true
    }
}
