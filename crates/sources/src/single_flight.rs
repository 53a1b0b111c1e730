//! Work that runs once for all who wait for it, in a task of its own.
//!
//! A fetch inside a request's future is dropped with its client: if clients are less patient
//! than a silent source is slow, no fetch would ever reach the next source.

use std::sync::Mutex;

use tokio::sync::watch;

use crate::lock::lock;

/// Runs at most one future at a time. The future runs on if nobody waits any more, so it has to
/// end by itself.
#[derive(Debug)]
pub(crate) struct SingleFlight<T>(Mutex<Option<watch::Receiver<Option<T>>>>);

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// Joins the run in flight, or begins one.
    pub(crate) fn join<F>(&self, begin: impl FnOnce() -> F) -> Waiter<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut current = lock(&self.0);
        if let Some(waiter) = in_flight(&current) {
            return waiter;
        }
        let (report, waiter) = watch::channel(None);
        let run = begin();
        tokio::spawn(async move {
            let outcome = run.await;
            report.send_replace(Some(outcome));
        });
        *current = Some(waiter.clone());
        Waiter(waiter)
    }

    /// The run in flight.
    pub(crate) fn in_flight(&self) -> Option<Waiter<T>> {
        in_flight(&lock(&self.0))
    }
}

fn in_flight<T>(current: &Option<watch::Receiver<Option<T>>>) -> Option<Waiter<T>> {
    let run = current.as_ref()?;
    // An error: its task has ended, perhaps by a panic.
    let is_running = run.has_changed().is_ok() && run.borrow().is_none();
    is_running.then(|| Waiter(run.clone()))
}

/// Waits for the outcome of a run.
#[derive(Debug)]
pub(crate) struct Waiter<T>(watch::Receiver<Option<T>>);

impl<T: Clone> Waiter<T> {
    /// `None` if the run was lost: it panicked, or the runtime is shutting down.
    pub(crate) async fn outcome(mut self) -> Option<T> {
        let outcome = self.0.wait_for(Option::is_some).await.ok()?;
        outcome.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test]
    async fn one_run_serves_all_and_outlives_them() {
        let in_flight = SingleFlight::<u64>::default();
        let runs = Arc::new(AtomicU64::new(0));
        let (go, gone) = watch::channel(false);
        let begin = || {
            let (runs, mut gone) = (Arc::clone(&runs), gone.clone());
            async move {
                let _ = gone.wait_for(|gone| *gone).await;
                runs.fetch_add(1, Ordering::SeqCst) + 1
            }
        };
        let impatient = in_flight.join(begin);
        let (one, two) = (in_flight.join(begin), in_flight.join(begin));
        drop(impatient);
        assert!(in_flight.in_flight().is_some());
        go.send_replace(true);
        assert_eq!(one.outcome().await, Some(1));
        assert_eq!(two.outcome().await, Some(1));
        assert!(in_flight.in_flight().is_none());
        // The next one is new.
        assert_eq!(in_flight.join(begin).outcome().await, Some(2));
    }

    #[tokio::test]
    async fn a_lost_run_does_not_block_the_next() {
        let in_flight = SingleFlight::<u64>::default();
        let lost = in_flight.join(|| async { panic!("on purpose") });
        assert_eq!(lost.outcome().await, None);
        assert_eq!(in_flight.join(|| async { 1 }).outcome().await, Some(1));
    }
}
