//! A value that grows with what appraisals see: in memory, and in a file that all
//! processes of the state directory share.

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::layout::{self, Unread};
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
    /// The version of the file's layout that this program writes. It reads all before it.
    const LAYOUT: u32;
    /// True if a damaged file is replaced, and kept under another name.
    const REPLACES_DAMAGED: bool;

    /// True if `seen` is news.
    fn add(&mut self, seen: &Self::Seen) -> bool;

    /// Reads the file's content, which states this layout, or none.
    fn parse(bytes: &[u8], layout: Option<u64>) -> Result<Self, String>;

    /// What the folder holds without the file.
    fn without_file(state: &StateDir) -> Result<Self, String>;

    /// What the file is to hold, if it holds `on_disk` and lacks `unsaved`. `None`: it was
    /// damaged.
    fn merge(memory: &Mutex<Arc<Self>>, on_disk: Option<Self>, unsaved: &[Self::Seen]) -> Self;

    /// The file's content, in the layout [`Kept::LAYOUT`].
    fn to_file(&self) -> String;
}

/// Keeps a value in memory, and on disk if there is a state directory.
#[derive(Debug, Clone)]
pub struct Keeper<T: Kept>(Arc<Inner<T>>);

#[derive(Debug)]
struct Inner<T: Kept> {
    value: Mutex<Arc<T>>,
    /// What the file lacks. Never locked while the disk is used: disks can stall, and
    /// requests wait for `add`.
    unsaved: Mutex<Vec<T::Seen>>,
    /// True while a write is queued that has not begun.
    is_queued: AtomicBool,
    state: Option<Arc<StateDir>>,
}

impl<T: Kept> Keeper<T> {
    pub(super) fn new(value: T, state: Option<Arc<StateDir>>) -> Self {
        Self(Arc::new(Inner {
            value: Mutex::new(Arc::new(value)),
            unsaved: Mutex::default(),
            is_queued: AtomicBool::new(false),
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
            self.save();
        }
    }

    /// Has the file written if it lacks anything.
    pub(super) fn save(&self) {
        let Some(state) = &self.0.state else {
            return;
        };
        if lock(&self.0.unsaved).is_empty() || self.0.is_queued.swap(true, Ordering::SeqCst) {
            return;
        }
        let inner = Arc::clone(&self.0);
        let is_taken = state.memory.run(move || {
            inner.is_queued.store(false, Ordering::SeqCst);
            if let Some(state) = &inner.state {
                inner.write(state);
            }
        });
        if !is_taken {
            self.0.is_queued.store(false, Ordering::SeqCst);
        }
    }
}

impl<T: Kept> Inner<T> {
    /// Reads, merges and writes the file as one step for all processes.
    fn write(&self, state: &StateDir) {
        let unsaved = std::mem::take(&mut *lock(&self.unsaved));
        let written = files::lock(&state.path).and_then(|_other_processes_wait| {
            let on_disk = match read::<T>(state) {
                Ok(on_disk) => Some(on_disk),
                Err(Unread::Damaged(detail)) if T::REPLACES_DAMAGED => {
                    replace_damaged::<T>(state, &detail);
                    None
                }
                Err(unread) => return Err(io::Error::other(unread.to_string())),
            };
            let merged = T::merge(&self.value, on_disk, &unsaved);
            files::write(&path::<T>(state), merged.to_file().as_bytes())
        });
        if let Err(error) = written {
            // What was added in the meantime is newer.
            lock(&self.unsaved).splice(..0, unsaved);
            state.warn_unwritten(&path::<T>(state), &error);
        }
    }
}

fn replace_damaged<T: Kept>(state: &StateDir, detail: &str) {
    let path = path::<T>(state);
    let kept = match files::keep_aside(&path) {
        Ok(kept) => kept.display().to_string(),
        Err(error) => format!("nowhere ({error})"),
    };
    tracing::warn!(
        path = %path.display(), detail, kept,
        "damaged, and replaced by what this process saw"
    );
}

pub(super) fn path<T: Kept>(state: &StateDir) -> PathBuf {
    state.by_root.join(T::FILE)
}

pub(super) fn read<T: Kept>(state: &StateDir) -> Result<T, Unread> {
    let path = path::<T>(state);
    let bytes = match files::read(&path, T::MAX_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return T::without_file(state).map_err(Unread::Damaged);
        }
        read => read.map_err(|error| error.to_string()),
    };
    let newer = |layout: &u64| *layout > u64::from(T::LAYOUT);
    let unread = |layout| Unread::Newer {
        layout,
        known: T::LAYOUT,
    };
    let stated = bytes.and_then(|bytes| Ok((layout::stated(&bytes)?, bytes)));
    match stated {
        Ok((Some(layout), _)) if newer(&layout) => Err(unread(layout)),
        Ok((layout, bytes)) => T::parse(&bytes, layout).map_err(Unread::Damaged),
        // Too long for this version, or broken off: still another version's.
        Err(detail) => Err(files::layout(&path)
            .filter(newer)
            .map_or(Unread::Damaged(detail), unread)),
    }
}
