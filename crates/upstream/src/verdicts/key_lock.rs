//! Queues of those who would attest.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sources::lock::lock;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard};

/// Where those who would attest the same key queue: one of them does.
#[derive(Debug, Default)]
pub(crate) struct KeyLock {
    permit: AsyncMutex<()>,
    /// Shared by all keys of a domain: a machine that collects evidence is slow,
    /// and several keys may be one machine's.
    probing: Arc<AsyncMutex<()>>,
    stage: Mutex<Stage>,
    /// Attestations of this key that gave no report in time.
    timeouts: AtomicUsize,
}

/// How far the first in a key_lock has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Stage {
    /// It asks for the backend's report.
    #[default]
    Report,
    /// It has the report and asks for Intel's collateral.
    Collateral,
    /// It asks for compose files that the deployment log names, and their tags.
    ComposeFiles,
    /// It asks for NVIDIA's opinion of the GPUs.
    Opinion,
}

impl KeyLock {
    /// Of another key of the same domain.
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

    /// Who queued while the key's machine hung would find it hanging still, one
    /// after another, each with a place among the connections.
    pub(crate) fn timeouts(&self) -> usize {
        self.timeouts.load(Ordering::Relaxed)
    }

    pub(crate) fn timed_out(&self) {
        self.timeouts.fetch_add(1, Ordering::Relaxed);
    }

    /// The same for somebody who does not wait.
    pub(crate) fn try_permit(&self) -> Option<MutexGuard<'_, ()>> {
        self.permit.try_lock().ok()
    }

    /// Waits until nobody asks the domain for evidence; nobody else may until
    /// this is dropped.
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
