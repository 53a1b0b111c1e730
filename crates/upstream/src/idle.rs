//! A limit for the silence of the other side.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Runs from the first poll that finds nothing until data arrives. Time without polls, in which
/// this side was not ready, does not count.
pub struct IdleTimer {
    limit: Duration,
    /// When a poll first found nothing.
    since: Option<Instant>,
    /// Of this silence or an earlier one. Polling again when an old timer has expired is
    /// cheaper than a timer for each piece.
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

    /// Data arrived.
    pub fn reset(&mut self) {
        self.since = None;
    }

    /// No data: ready once the silence has reached the limit.
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
