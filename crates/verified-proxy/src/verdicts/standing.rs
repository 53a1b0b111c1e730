//! Shares in a verdict: what a withdrawal stops, and what it lets run.
//!
//! Once a key is refused, no request is sent on its verdict, a body under way to
//! it ends in the middle, and connections are not kept. An answer under way was
//! asked for while the verdict stood, and runs on, marked in log and metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use attest::Domain;

/// Whether the verdict that answers stand on still stands, and how many do.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) answers: AtomicUsize,
    pub(super) withdrawn: AtomicBool,
}

/// Tells whether a verdict was withdrawn since.
#[derive(Debug, Clone)]
pub(crate) struct Withdrawal(Arc<Shared>);

impl Withdrawal {
    pub(crate) fn has_come(&self) -> bool {
        self.0.withdrawn.load(Ordering::Acquire)
    }
}

/// A request's share in a verdict, from before it is sent until its answer has
/// ended.
#[derive(Debug)]
pub(crate) struct Standing {
    domain: Domain,
    shared: Arc<Shared>,
}

impl Standing {
    pub(super) fn new(domain: Domain, shared: Arc<Shared>) -> Self {
        shared.answers.fetch_add(1, Ordering::Relaxed);
        Self { domain, shared }
    }

    pub(crate) fn domain(&self) -> &Domain {
        &self.domain
    }

    /// False once the key was refused.
    pub(crate) fn holds(&self) -> bool {
        !self.withdrawal().has_come()
    }

    /// For who needs to know and has no share.
    pub(crate) fn withdrawal(&self) -> Withdrawal {
        Withdrawal(Arc::clone(&self.shared))
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
