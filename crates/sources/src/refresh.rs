//! Work that several wait for, done once, in a task of its own; and how old
//! something is.
//!
//! A fetch inside a request's future dies with its client: with impatient
//! clients in front of a silent source nobody would ever get to the next one.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use attest::UnixTime;
use tokio::sync::watch;

use crate::clock::Clock;

/// At most one run at a time. It goes on whether or not anybody still waits,
/// so what is run has to end by itself.
#[derive(Debug)]
pub(crate) struct Flight<T>(Mutex<Option<watch::Receiver<Option<T>>>>);

impl<T> Default for Flight<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone + Send + Sync + 'static> Flight<T> {
    /// Joins the run that is under way, or begins one.
    pub(crate) fn join<F>(&self, begin: impl FnOnce() -> F) -> Landing<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(landing) = under_way(&current) {
            return landing;
        }
        let (report, landing) = watch::channel(None);
        let run = begin();
        tokio::spawn(async move {
            let outcome = run.await;
            report.send_replace(Some(outcome));
        });
        *current = Some(landing.clone());
        Landing(landing)
    }

    /// The run that is under way.
    pub(crate) fn under_way(&self) -> Option<Landing<T>> {
        under_way(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn under_way<T>(current: &Option<watch::Receiver<Option<T>>>) -> Option<Landing<T>> {
    let running = current.as_ref()?;
    // An error: its task has ended, perhaps by a panic.
    let under_way = running.has_changed().is_ok() && running.borrow().is_none();
    under_way.then(|| Landing(running.clone()))
}

/// The outcome of a run, for one of those who wait.
#[derive(Debug)]
pub(crate) struct Landing<T>(watch::Receiver<Option<T>>);

impl<T: Clone> Landing<T> {
    /// `None` if the run was lost: it panicked, or the runtime is shutting down.
    pub(crate) async fn outcome(mut self) -> Option<T> {
        let landed = self.0.wait_for(Option::is_some).await.ok()?;
        landed.clone()
    }
}

/// A moment by both clocks. A laptop that sleeps stops the monotonic one, and
/// the wall clock can be set back; an age is the larger of the two.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    wall: UnixTime,
    monotonic: Instant,
    /// How old it was at `monotonic`.
    before: Duration,
}

impl Stamp {
    pub fn now(clock: &Clock) -> Self {
        Self {
            wall: clock.now(),
            monotonic: Instant::now(),
            before: Duration::ZERO,
        }
    }

    /// A moment of an earlier process, by the wall clock alone. One in the future
    /// says nothing about an age, so it counts as long past.
    pub(crate) fn remembered(wall: UnixTime, clock: &Clock) -> Self {
        let before = clock.now().0.checked_sub(wall.0);
        Self {
            wall,
            monotonic: Instant::now(),
            before: before.map_or(Duration::MAX, Duration::from_secs),
        }
    }

    pub(crate) fn wall(&self) -> UnixTime {
        self.wall
    }

    pub fn age(&self, clock: &Clock) -> Duration {
        let by_wall = Duration::from_secs(clock.now().0.saturating_sub(self.wall.0));
        by_wall.max(self.before.saturating_add(self.monotonic.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test]
    async fn one_run_serves_all_and_outlives_them() {
        let flight = Flight::<u64>::default();
        let runs = Arc::new(AtomicU64::new(0));
        let (go, gone) = watch::channel(false);
        let begin = || {
            let (runs, mut gone) = (Arc::clone(&runs), gone.clone());
            async move {
                let _ = gone.wait_for(|gone| *gone).await;
                runs.fetch_add(1, Ordering::SeqCst) + 1
            }
        };
        let impatient = flight.join(begin);
        let (one, two) = (flight.join(begin), flight.join(begin));
        drop(impatient);
        assert!(flight.under_way().is_some());
        go.send_replace(true);
        assert_eq!(one.outcome().await, Some(1));
        assert_eq!(two.outcome().await, Some(1));
        assert!(flight.under_way().is_none());
        // The next one is new.
        assert_eq!(flight.join(begin).outcome().await, Some(2));
    }

    #[tokio::test]
    async fn a_lost_run_does_not_block_the_next() {
        let flight = Flight::<u64>::default();
        let lost = flight.join(|| async { panic!("on purpose") });
        assert_eq!(lost.outcome().await, None);
        assert_eq!(flight.join(|| async { 1 }).outcome().await, Some(1));
    }

    #[test]
    fn ages_by_the_clock_that_went_further() {
        let time = Arc::new(AtomicU64::new(1_000));
        let read = Arc::clone(&time);
        let clock = Clock::from_fn(move || UnixTime(read.load(Ordering::SeqCst)));
        let stamp = Stamp::now(&clock);
        let young = Duration::from_secs(5);
        assert!(stamp.age(&clock) < young);
        time.store(1_100, Ordering::SeqCst);
        assert_eq!(stamp.age(&clock), Duration::from_secs(100));
        // Set back: what the monotonic clock saw remains.
        time.store(500, Ordering::SeqCst);
        assert!(stamp.age(&clock) < young);

        let kept = Stamp::remembered(UnixTime(400), &clock);
        time.store(300, Ordering::SeqCst);
        assert!(kept.age(&clock) >= Duration::from_secs(100));
        assert_eq!(
            Stamp::remembered(UnixTime(301), &clock).age(&clock),
            Duration::MAX
        );
    }
}
