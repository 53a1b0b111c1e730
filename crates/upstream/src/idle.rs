//! A limit for the silence of the other side, and for its slowness.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes that pay for a second of waiting. Below this rate the other side uses up its patience:
/// IIS and Kestrel ask for as many (minBytesPerSecond, MinDataRate), Apache's mod_reqtimeout for
/// 500.
pub const LEAST_RATE: u32 = 240;

/// Stands for a time too far away for the clock.
const AGES: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Runs from the first poll that finds nothing until data arrives. Time without polls, in which
/// this side was not ready, does not count.
pub struct IdleTimer {
    limit: Duration,
    /// How often this side waits for so long in all, while the other side is slower than
    /// [`LEAST_RATE`].
    pauses: u32,
    /// What is left of that time.
    left: Duration,
    /// When a poll first found nothing.
    since: Option<Instant>,
    /// Of this silence or an earlier one. Polling again when an old timer has expired is
    /// cheaper than a timer for each piece.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    /// For the silence alone.
    pub fn new(limit: Duration) -> Self {
        Self::with_rate(limit, u32::MAX)
    }

    /// Runs out as well when this side has waited for `pauses` times the limit in all. Data gives
    /// time back.
    pub fn with_rate(limit: Duration, pauses: u32) -> Self {
        Self {
            limit,
            pauses,
            left: limit.saturating_mul(pauses),
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

    /// So many bytes arrived, or were taken.
    pub fn progress(&mut self, bytes: usize) {
        let waited = self
            .since
            .take()
            .map_or(Duration::ZERO, |since| since.elapsed());
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let paid = Duration::from_secs(1) * bytes / LEAST_RATE;
        let left = self.left.saturating_sub(waited).saturating_add(paid);
        self.left = left.min(self.limit.saturating_mul(self.pauses));
    }

    /// True if the other side was too slow before it was silent for too long.
    pub fn was_slow(&self) -> bool {
        self.left < self.limit
    }

    /// No data: ready once the silence has reached the limit.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let limit = self.limit.min(self.left).min(AGES);
        let end = since + limit;
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// How often `bytes` can come after `pause` each, of at most a thousand times, and whether it
    /// was the rate that ended it.
    async fn pieces(timer: &mut IdleTimer, pause: Duration, bytes: usize) -> (usize, bool) {
        for number in 0..1_000 {
            let late = poll_fn(|cx| timer.poll(cx));
            if tokio::time::timeout(pause, late).await.is_ok() {
                return (number, timer.was_slow());
            }
            timer.progress(bytes);
        }
        (1_000, false)
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_and_slowness_does() {
        let new = || IdleTimer::with_rate(60 * SECOND, 10);
        // A pause that is too long; the rate says nothing.
        assert_eq!(pieces(&mut new(), 61 * SECOND, 1 << 20).await, (0, false));
        // A byte before each minute is over: ten of them and a bit.
        assert_eq!(pieces(&mut new(), 59 * SECOND, 1).await, (10, true));
        assert_eq!(pieces(&mut new(), SECOND, 1).await, (602, true));
        assert_eq!(pieces(&mut new(), SECOND, 120).await, (1_000, false));
        // At the rate and above it goes on for ever, whatever the pauses.
        assert_eq!(pieces(&mut new(), SECOND, 240).await.0, 1_000);
        assert_eq!(pieces(&mut new(), 59 * SECOND, 59 * 240).await.0, 1_000);
    }

    /// What came fast does not pay for an hour of silence later.
    #[tokio::test(start_paused = true)]
    async fn speed_is_not_saved_up() {
        let mut timer = IdleTimer::with_rate(60 * SECOND, 10);
        timer.progress(100 << 20);
        assert_eq!(pieces(&mut timer, 59 * SECOND, 1).await, (10, true));
    }

    #[tokio::test(start_paused = true)]
    async fn time_without_polls_is_this_sides() {
        let mut timer = IdleTimer::with_rate(SECOND, 1);
        advance(3_600 * SECOND).await;
        assert_eq!(pieces(&mut timer, SECOND / 2, 1_000).await.0, 1_000);
        // Without a limit it waits for ever.
        let mut timer = IdleTimer::new(Duration::MAX);
        assert_eq!(pieces(&mut timer, 86_400 * SECOND, 1).await.0, 1_000);
    }
}
