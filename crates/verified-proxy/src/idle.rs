//! How long somebody may let another wait.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

/// Runs from the first look that found nothing until something comes. Time in
/// which nobody looked, since the other side was not ready, does not count.
pub(crate) struct IdleTimer {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, sleep: None }
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Something came.
    pub(crate) fn reset(&mut self) {
        self.sleep = None;
    }

    /// Nothing came: ready when that has gone on for too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        self.sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)))
            .as_mut()
            .poll(cx)
    }
}

impl fmt::Debug for IdleTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdleTimer({:?})", self.limit)
    }
}
