//! How long somebody may let another wait.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Runs from the first look that found nothing until something comes. Time in
/// which nobody looked, since the other side was not ready, does not count.
pub struct IdleTimer {
    limit: Duration,
    /// When somebody looked in vain for the first time.
    since: Option<Instant>,
    /// Of this silence or an earlier one: a timer for each piece of an answer
    /// would cost more than to look again when an old one is over.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            since: None,
            sleep: None,
        }
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Something came.
    pub fn reset(&mut self) {
        self.since = None;
    }

    /// Nothing came: ready when that has gone on for too long.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let end = *self.since.get_or_insert_with(Instant::now) + self.limit;
        let mut sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(end)))
            .as_mut();
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= end {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(end);
        }
        Poll::Pending
    }
}

impl fmt::Debug for IdleTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdleTimer({:?})", self.limit)
    }
}
