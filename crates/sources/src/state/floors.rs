//! The newest collateral seen, by this process and those before it.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use attest::{FloorSeen, Floors};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{StateDir, StateError, files};

/// Some hundred bytes a platform family.
const MAX_FLOORS_BYTES: u64 = 1 << 20;
/// Of the file's layout. A newer one is not understood, and not replaced. In layout 1
/// floors were by the channel that was asked; it is read, and written anew with the
/// next floor that rises.
const FLOORS_VERSION: u32 = 2;

/// Floors in memory, and on disk if there is a state directory.
#[derive(Debug)]
pub struct FloorKeeper(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    floors: Mutex<Floors>,
    /// What the file holds. Its lock is held while the file is written.
    saved: Mutex<Floors>,
    state: Option<Arc<StateDir>>,
}

impl FloorKeeper {
    /// Floors of earlier processes; none if there were none.
    pub(crate) fn load(state: Option<Arc<StateDir>>) -> Result<Self, StateError> {
        let floors = match &state {
            Some(state) => read(state).map_err(|detail| StateError::Floors {
                path: path(state),
                detail,
            })?,
            None => Floors::default(),
        };
        Ok(Self(Arc::new(Kept {
            saved: Mutex::new(floors.clone()),
            floors: Mutex::new(floors),
            state,
        })))
    }

    /// The floors, to judge by; not to be held for long.
    pub fn floors(&self) -> MutexGuard<'_, Floors> {
        lock(&self.0.floors)
    }

    /// Holds in memory at once; written soon, by a thread of its own.
    pub fn raise(&self, seen: &FloorSeen) {
        let changed = self.floors().raise(seen);
        if changed && self.0.state.is_some() {
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

/// A process that ends without [`FloorKeeper::flush`] forgets nothing either.
impl Drop for Kept {
    fn drop(&mut self) {
        self.save();
    }
}

impl Kept {
    /// Reads, raises and writes the file as one step for all processes.
    fn save(&self) {
        let Some(state) = &self.state else {
            return;
        };
        let mut saved = lock(&self.saved);
        if *saved == *lock(&self.floors) {
            return;
        }
        match self.merge(state) {
            Ok(merged) => *saved = merged,
            Err(detail) => state.warn_unwritten(&path(state), &detail),
        }
    }

    fn merge(&self, state: &StateDir) -> Result<Floors, String> {
        let _others_wait = files::lock(&state.path).map_err(|error| error.to_string())?;
        // One that can no longer be read is left as it is: the next start says so.
        let on_disk = read(state)?;
        let merged = {
            let mut floors = lock(&self.floors);
            floors.merge(&on_disk);
            floors.clone()
        };
        if merged != on_disk {
            let text = format!(
                "{{\"version\": {FLOORS_VERSION}, \"floors\": {}}}\n",
                merged.to_json()
            );
            files::write(&path(state), text.as_bytes()).map_err(|error| error.to_string())?;
        }
        Ok(merged)
    }
}

fn path(state: &StateDir) -> PathBuf {
    state.by_root.join("floors.json")
}

fn read(state: &StateDir) -> Result<Floors, String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File<'a> {
        #[serde(rename = "version")]
        _version: u32,
        #[serde(borrow)]
        floors: &'a RawValue,
    }
    let bytes = match files::read(&path(state), MAX_FLOORS_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Floors::default()),
        Err(error) => return Err(error.to_string()),
    };
    let Version { version } = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if !(1..=FLOORS_VERSION).contains(&version) {
        return Err(format!(
            "it has layout {version}, this program reads 1 to {FLOORS_VERSION}; use the program that wrote it"
        ));
    }
    let file: File<'_> = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    Floors::from_json(file.floors.get().as_bytes())
}

/// A poisoned lock guards numbers that are whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
