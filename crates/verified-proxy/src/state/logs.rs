//! The deployment log of each instance as it was last seen, by this process and
//! those before it.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use attest::{InstanceLog, Logs};

use super::{StateDir, files};

/// A hundred and fifty bytes an instance, of which ten thousand are kept.
const MAX_LOGS_BYTES: u64 = 4 << 20;

/// Logs in memory, and on disk if there is a state directory.
#[derive(Debug)]
pub(crate) struct LogKeeper(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    logs: Mutex<Arc<Logs>>,
    /// What the file does not hold yet. Its lock is held while the file is written.
    unsaved: Mutex<Vec<InstanceLog>>,
    state: Option<Arc<StateDir>>,
}

impl LogKeeper {
    /// Logs of earlier processes. A file that cannot be read costs no proof: it
    /// only keeps one change from being noticed, and is written anew.
    pub(crate) fn load(state: Option<Arc<StateDir>>) -> Self {
        let logs = state.as_deref().map(read_or_warn).unwrap_or_default();
        Self(Arc::new(Kept {
            logs: Mutex::new(Arc::new(logs)),
            unsaved: Mutex::default(),
            state,
        }))
    }

    /// The logs, to judge by.
    pub(crate) fn logs(&self) -> Arc<Logs> {
        Arc::clone(&lock(&self.0.logs))
    }

    /// Holds in memory at once; written soon, by a thread of its own.
    pub(crate) fn remember(&self, seen: &InstanceLog) {
        let changed = Arc::make_mut(&mut lock(&self.0.logs)).remember(seen);
        if changed && self.0.state.is_some() {
            lock(&self.0.unsaved).push(seen.clone());
            let kept = Arc::clone(&self.0);
            tokio::task::spawn_blocking(move || kept.save());
        }
    }

    /// Resolves when the file holds all that has been seen.
    pub(crate) async fn flush(&self) {
        let kept = Arc::clone(&self.0);
        // An error: the runtime is shutting down, and `drop` does it.
        let _ = tokio::task::spawn_blocking(move || kept.save()).await;
    }
}

/// A process that ends without [`LogKeeper::flush`] forgets nothing either.
impl Drop for Kept {
    fn drop(&mut self) {
        self.save();
    }
}

impl Kept {
    /// Reads, adds to and writes the file as one step for all processes.
    fn save(&self) {
        let Some(state) = &self.state else {
            return;
        };
        let mut unsaved = lock(&self.unsaved);
        if unsaved.is_empty() {
            return;
        }
        let written = files::lock(&state.path).and_then(|_others_wait| {
            let mut on_disk = read_or_warn(state);
            for seen in unsaved.iter() {
                on_disk.remember(seen);
            }
            files::write(&path(state), on_disk.to_json().as_bytes())
        });
        match written {
            Ok(()) => unsaved.clear(),
            Err(error) => state.not_written(&path(state), &error),
        }
    }
}

fn path(state: &StateDir) -> PathBuf {
    state.by_root.join("deployment-logs.json")
}

fn read_or_warn(state: &StateDir) -> Logs {
    let path = path(state);
    let read = match files::read(&path, MAX_LOGS_BYTES) {
        Ok(bytes) => Logs::from_json(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Logs::default(),
        Err(error) => Err(error.to_string()),
    };
    read.unwrap_or_else(|detail| {
        tracing::warn!(
            path = %path.display(), detail,
            "not read; a deployment log that changed since will not be noticed"
        );
        Logs::default()
    })
}

/// A poisoned lock guards logs that are whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
