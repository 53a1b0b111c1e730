//! Revocation of a verdict that requests use. Log and metrics call it "withdrawn".
//!
//! Once a key is refused, no request is sent on its verdict, a request body that is being sent
//! to it stops in the middle, and its connections are not kept. The same holds for a request
//! that demands more than a renewed verdict reaches. An answer under way was requested while
//! the verdict was valid: it continues, marked in log and metrics.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use attest::{Domain, LeastLevels, Levels};
use sources::lock::lock;
use sources::seldom::Seldom;

/// State of a verdict that its requests share: its levels, whether it is revoked, and the
/// number of answers under way.
#[derive(Debug)]
pub(super) struct VerdictState {
    pub(super) answers: AtomicUsize,
    pub(super) revoked: AtomicBool,
    levels: Mutex<Levels>,
    seldom: Seldom,
}

impl VerdictState {
    pub(super) fn new(levels: Levels, seldom: Seldom) -> Self {
        Self {
            answers: AtomicUsize::new(0),
            revoked: AtomicBool::new(false),
            levels: Mutex::new(levels),
            seldom,
        }
    }

    /// The verdict was renewed.
    pub(super) fn now_reaches(&self, levels: Levels) {
        *lock(&self.levels) = levels;
    }
}

/// Tells whether the verdict was revoked, or fell below a request's demand.
#[derive(Debug, Clone)]
pub(crate) struct Revocation {
    state: Arc<VerdictState>,
    least: LeastLevels,
}

impl Revocation {
    pub(crate) fn has_happened(&self) -> bool {
        let levels = *lock(&self.state.levels);
        self.state.revoked.load(Ordering::Acquire) || self.least.shortfall(&levels).is_some()
    }
}

/// A request's use of a verdict, from before it is sent until its answer has ended.
#[derive(Debug)]
pub(crate) struct VerdictUse {
    domain: Domain,
    revocation: Revocation,
}

impl VerdictUse {
    pub(super) fn new(domain: Domain, state: Arc<VerdictState>, least: LeastLevels) -> Self {
        state.answers.fetch_add(1, Ordering::Relaxed);
        let revocation = Revocation { state, least };
        Self { domain, revocation }
    }

    pub(crate) fn domain(&self) -> &Domain {
        &self.domain
    }

    /// False once the key is refused, or its verdict is below the request's demand.
    pub(crate) fn holds(&self) -> bool {
        !self.revocation.has_happened()
    }

    /// For the request's body, which has to stop but does not count as an answer.
    pub(crate) fn revocation(&self) -> Revocation {
        self.revocation.clone()
    }
}

impl Drop for VerdictUse {
    fn drop(&mut self) {
        let state = &self.revocation.state;
        state.answers.fetch_sub(1, Ordering::Relaxed);
        let domain = &self.domain;
        if state.revoked.load(Ordering::Acquire)
            && let Some(more) = state.seldom.may_say(domain, "withdrawn_answer_ended")
        {
            tracing::warn!(%domain, "an answer ended after its verdict was withdrawn{more}");
        }
    }
}
