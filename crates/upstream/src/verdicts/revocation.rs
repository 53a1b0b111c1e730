//! Shares in a verdict: what a withdrawal stops, and what it lets run.
//!
//! Once a key is refused, no request is sent on its verdict, a body under way to
//! it ends in the middle, and connections are not kept. The same holds for a request
//! that asks for more than a renewed verdict reaches. An answer under way was
//! asked for while the verdict stood, and runs on, marked in log and metrics.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use attest::{Domain, LeastLevels, Levels};
use sources::lock::lock;

/// Whether the verdict that answers stand on still stands, what it reaches, and how many
/// they are.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) answers: AtomicUsize,
    pub(super) withdrawn: AtomicBool,
    levels: Mutex<Levels>,
}

impl Shared {
    pub(super) fn new(levels: Levels) -> Self {
        Self {
            answers: AtomicUsize::new(0),
            withdrawn: AtomicBool::new(false),
            levels: Mutex::new(levels),
        }
    }

    /// The verdict was made anew.
    pub(super) fn now_reaches(&self, levels: Levels) {
        *lock(&self.levels) = levels;
    }
}

/// Tells whether a verdict was withdrawn since, or fell below what a request asks for.
#[derive(Debug, Clone)]
pub(crate) struct Revocation {
    shared: Arc<Shared>,
    least: LeastLevels,
}

impl Revocation {
    pub(crate) fn has_happened(&self) -> bool {
        let levels = *lock(&self.shared.levels);
        self.shared.withdrawn.load(Ordering::Acquire) || self.least.shortfall(&levels).is_some()
    }
}

/// A request's share in a verdict, from before it is sent until its answer has
/// ended.
#[derive(Debug)]
pub(crate) struct VerdictUse {
    domain: Domain,
    revocation: Revocation,
}

impl VerdictUse {
    pub(super) fn new(domain: Domain, shared: Arc<Shared>, least: LeastLevels) -> Self {
        shared.answers.fetch_add(1, Ordering::Relaxed);
        let revocation = Revocation { shared, least };
        Self { domain, revocation }
    }

    pub(crate) fn domain(&self) -> &Domain {
        &self.domain
    }

    /// False once the key was refused, or its verdict is less than the request asks for.
    pub(crate) fn holds(&self) -> bool {
        !self.revocation.has_happened()
    }

    /// For who needs to know and has no share.
    pub(crate) fn revocation(&self) -> Revocation {
        self.revocation.clone()
    }
}

impl Drop for VerdictUse {
    fn drop(&mut self) {
        let shared = &self.revocation.shared;
        shared.answers.fetch_sub(1, Ordering::Relaxed);
        if shared.withdrawn.load(Ordering::Acquire) {
            tracing::warn!(domain = %self.domain, "an answer ended after its verdict was withdrawn");
        }
    }
}
