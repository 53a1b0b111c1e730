//! A thread that uses the disk for all others.
//!
//! Disks stall, and a network's disk that has gone blocks fsync(2) for ever; no other thread can
//! end such a call. So no request, no lookup and no end of the program waits for one without a
//! limit: jobs are queued here, and those who wait for one wait for a while. These threads are
//! none of the runtime's, which also looks up names in its blocking threads and waits for them
//! at its end.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use tokio::sync::watch;

/// Jobs that wait. Two verdicts fetch as many compose files, of 100 KB at most.
const MAX_QUEUED: usize = 128;

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs one after another. A job that blocks holds up those behind it.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: SyncSender<Job>,
    /// Jobs that wait or run.
    left: Arc<watch::Sender<usize>>,
}

impl Worker {
    pub(super) fn start(name: &str) -> io::Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(MAX_QUEUED);
        let left = Arc::new(watch::Sender::new(0_usize));
        let count = Arc::clone(&left);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // It ends once the worker is dropped and the queue is empty.
                for job in queue {
                    // An error: the job panicked, which is printed.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                    count.send_modify(|left| *left = left.saturating_sub(1));
                }
            })?;
        Ok(Self { jobs, left })
    }

    /// Queues a job; false, and it is dropped, if too many wait.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) -> bool {
        self.left.send_modify(|left| *left = left.saturating_add(1));
        let is_queued = self.jobs.try_send(Box::new(job)).is_ok();
        if !is_queued {
            self.left.send_modify(|left| *left = left.saturating_sub(1));
        }
        is_queued
    }

    /// Jobs that wait or run.
    pub(super) fn left(&self) -> usize {
        *self.left.borrow()
    }

    /// Resolves when no job waits or runs.
    pub(super) async fn is_idle(&self) {
        // An error: the thread has ended, which it does not while `self` exists.
        let _ = self.left.subscribe().wait_for(|left| *left == 0).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);
    const WHILE: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn jobs_run_in_order_and_a_panic_ends_one_only() {
        let worker = Worker::start("test").unwrap();
        let done = Arc::new(Mutex::new(Vec::new()));
        for number in 0..5 {
            let done = Arc::clone(&done);
            let queued = worker.run(move || {
                assert_ne!(number, 2, "on purpose");
                done.lock().unwrap().push(number);
            });
            assert!(queued);
        }
        timeout(SOON, worker.is_idle()).await.unwrap();
        assert_eq!(*done.lock().unwrap(), [0, 1, 3, 4]);
    }

    #[tokio::test]
    async fn a_job_that_hangs_holds_up_nobody_who_queues_or_waits_with_a_limit() {
        let worker = Worker::start("test").unwrap();
        let (hang, hung) = channel::<()>();
        let (begun, begins) = channel();
        assert!(worker.run(move || {
            begun.send(()).unwrap();
            let _ = hung.recv();
        }));
        begins.recv().unwrap();
        let queued = (0..MAX_QUEUED + 10).filter(|_| worker.run(|| ())).count();
        assert_eq!(queued, MAX_QUEUED);
        assert!(timeout(WHILE, worker.is_idle()).await.is_err());
        drop(hang);
        timeout(SOON, worker.is_idle()).await.unwrap();
        // Those that were dropped do not count.
        assert_eq!(worker.left(), 0);
    }
}
