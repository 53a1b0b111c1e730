//! A value that grows with what appraisals see: in memory, and in a file that all
//! processes of the state directory share.

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::{StateDir, files};
use crate::lock::lock;

/// Observations that wait for the disk: 30 KB each at most.
const MAX_UNSAVED: usize = 256;

/// What a [`Keeper`] keeps.
pub trait Kept: Clone + Debug + Default + Send + Sync + 'static {
    /// What one appraisal adds.
    type Seen: Clone + Debug + Send + 'static;

    /// The file's name.
    const FILE: &'static str;
    /// Of the file.
    const MAX_BYTES: u64;

    /// True if `seen` is news.
    fn add(&mut self, seen: &Self::Seen) -> bool;

    /// Reads the file's content. Without a file: what this folder's earlier files hold.
    fn parse(bytes: Option<&[u8]>, state: &StateDir) -> Result<Self, String>;

    /// What the file is to hold, if it holds `on_disk` and lacks `unsaved`.
    fn merge(
        memory: &Mutex<Arc<Self>>,
        on_disk: Result<Self, String>,
        unsaved: &[Self::Seen],
        state: &StateDir,
    ) -> Result<Self, String>;

    /// The file's content.
    fn to_file(&self) -> String;
}

/// Keeps a value in memory, and on disk if there is a state directory. The last copy
/// that is dropped writes what is not written yet.
#[derive(Debug, Clone)]
pub struct Keeper<T: Kept>(Arc<Inner<T>>);

#[derive(Debug)]
struct Inner<T: Kept> {
    value: Mutex<Arc<T>>,
    /// What the file lacks. Never locked while the disk is used: disks can stall, and
    /// requests wait for `add`.
    unsaved: Mutex<Vec<T::Seen>>,
    /// Held while the file is written.
    saving: Mutex<()>,
    /// A thread will take what is unsaved: a disk that stalls holds that one and the one that
    /// writes, however much is added.
    is_asked: AtomicBool,
    state: Option<Arc<StateDir>>,
}

impl<T: Kept> Keeper<T> {
    pub(super) fn new(value: T, state: Option<Arc<StateDir>>) -> Self {
        Self(Arc::new(Inner {
            value: Mutex::new(Arc::new(value)),
            unsaved: Mutex::default(),
            saving: Mutex::default(),
            is_asked: AtomicBool::new(false),
            state,
        }))
    }

    /// The value, to judge by.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&lock(&self.0.value))
    }

    /// Adds to the value in memory at once; a thread of its own writes the file.
    pub fn add(&self, seen: &T::Seen) {
        let is_new = Arc::make_mut(&mut lock(&self.0.value)).add(seen);
        if is_new && self.0.state.is_some() {
            let mut unsaved = lock(&self.0.unsaved);
            if unsaved.len() >= MAX_UNSAVED {
                unsaved.remove(0);
            }
            unsaved.push(seen.clone());
            drop(unsaved);
            if !self.0.is_asked.swap(true, Ordering::SeqCst) {
                let inner = Arc::clone(&self.0);
                tokio::task::spawn_blocking(move || inner.save());
            }
        }
    }

    /// Threads that write, or wait to.
    #[cfg(test)]
    pub(super) fn savers(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }

    /// Resolves when the file holds all that has been added.
    pub(super) async fn flush(&self) {
        let inner = Arc::clone(&self.0);
        // An error: the runtime is shutting down, and `drop` writes the file.
        let _ = tokio::task::spawn_blocking(move || inner.save()).await;
    }
}

impl<T: Kept> Drop for Inner<T> {
    fn drop(&mut self) {
        self.save();
    }
}

impl<T: Kept> Inner<T> {
    /// Reads, merges and writes the file as one step for all processes.
    fn save(&self) {
        let Some(state) = &self.state else {
            return;
        };
        let _one_at_a_time = lock(&self.saving);
        self.is_asked.store(false, Ordering::SeqCst);
        let unsaved = std::mem::take(&mut *lock(&self.unsaved));
        if unsaved.is_empty() {
            return;
        }
        let written = files::lock(&state.path).and_then(|_other_processes_wait| {
            let merged = T::merge(&self.value, read(state), &unsaved, state);
            let merged = merged.map_err(io::Error::other)?;
            files::write(&path::<T>(state), merged.to_file().as_bytes())
        });
        if let Err(error) = written {
            // What was added in the meantime is newer.
            lock(&self.unsaved).splice(..0, unsaved);
            state.warn_unwritten(&path::<T>(state), &error);
        }
    }
}

pub(super) fn path<T: Kept>(state: &StateDir) -> PathBuf {
    state.by_root.join(T::FILE)
}

pub(super) fn read<T: Kept>(state: &StateDir) -> Result<T, String> {
    match files::read(&path::<T>(state), T::MAX_BYTES) {
        Ok(bytes) => T::parse(Some(&bytes), state),
        Err(error) if error.kind() == io::ErrorKind::NotFound => T::parse(None, state),
        Err(error) => Err(error.to_string()),
    }
}
