//! Locks by which one task at a time attests a key.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sources::lock::lock;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard};

/// The lock of one key. Tasks that want to attest the key queue for it.
#[derive(Debug, Default)]
pub(crate) struct KeyLock {
    permit: AsyncMutex<()>,
    /// Shared by all keys of a domain: collecting evidence is slow, and several keys may belong
    /// to one machine.
    probing: Arc<AsyncMutex<()>>,
    stage: Mutex<Stage>,
    /// How many attestations of this key had no report in time.
    timeouts: AtomicUsize,
}

/// How far the holder of a lock has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Stage {
    /// It waits for the backend's report.
    #[default]
    Report,
    /// It has the report and waits for Intel's collateral.
    Collateral,
    /// It waits for the deployment log's compose files and their tags.
    ComposeFiles,
    /// It waits for NVIDIA's result about the GPUs.
    Opinion,
}

impl KeyLock {
    /// The lock of another key of the same domain.
    pub(super) fn of_same_domain(other: &Self) -> Self {
        Self {
            probing: Arc::clone(&other.probing),
            ..Self::default()
        }
    }

    /// Waits until this task may attest the key; dropping the guard admits the next.
    /// Look for a record first: the previous holder may have made one. If it failed there
    /// is none, and the next tries on its own connection.
    pub(crate) async fn permit(&self) -> MutexGuard<'_, ()> {
        self.permit.lock().await
    }

    /// A waiter compares this before and after its wait. If the key's machine hangs, each
    /// waiter in turn would find it hanging, and occupy a pool permit meanwhile.
    pub(crate) fn timeouts(&self) -> usize {
        self.timeouts.load(Ordering::Relaxed)
    }

    pub(crate) fn timed_out(&self) {
        self.timeouts.fetch_add(1, Ordering::Relaxed);
    }

    /// The permit, if it is free.
    pub(crate) fn try_permit(&self) -> Option<MutexGuard<'_, ()>> {
        self.permit.try_lock().ok()
    }

    /// Waits until no other task asks the domain for evidence. None can until the guard is
    /// dropped.
    pub(crate) async fn probing(&self) -> MutexGuard<'_, ()> {
        self.probing.lock().await
    }

    pub(crate) fn set_stage(&self, stage: Stage) {
        *lock(&self.stage) = stage;
    }

    pub(crate) fn stage(&self) -> Stage {
        *lock(&self.stage)
    }
}
