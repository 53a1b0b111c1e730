//! What was seen of backends, by this process and those before it.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use attest::{History, Sighting};

use super::{StateDir, StateError, files};

/// Two hundred bytes an instance, of which ten thousand are kept; of each of a hundred
/// domains 40 KB at most.
const MAX_HISTORY_BYTES: u64 = 8 << 20;

/// What waits for the disk: 30 KB each at most.
const MAX_UNSAVED: usize = 256;

/// A history in memory, and on disk if there is a state directory.
#[derive(Debug)]
pub struct HistoryKeeper(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    history: Mutex<Arc<History>>,
    /// What the file does not hold yet. Its lock is never held for long: who
    /// remembers serves requests, and disks can stall.
    unsaved: Mutex<Vec<Sighting>>,
    /// Held while the file is written.
    saving: Mutex<()>,
    state: Option<Arc<StateDir>>,
}

impl HistoryKeeper {
    /// That of earlier processes. A file that cannot be read costs no proof: it only
    /// keeps one change from being noticed, and is written anew; unless the policy
    /// `holds` what was seen.
    pub(crate) fn load(state: Option<Arc<StateDir>>, holds: bool) -> Result<Self, StateError> {
        let history = match &state {
            None => History::default(),
            Some(state) => match read(state) {
                Ok(history) => history,
                Err(detail) if holds => {
                    return Err(StateError::History {
                        path: path(state),
                        detail,
                    });
                }
                Err(detail) => {
                    warn_unread(state, &detail);
                    History::default()
                }
            },
        };
        Ok(Self(Arc::new(Kept {
            history: Mutex::new(Arc::new(history)),
            unsaved: Mutex::default(),
            saving: Mutex::default(),
            state,
        })))
    }

    /// The history, to judge by.
    pub fn history(&self) -> Arc<History> {
        Arc::clone(&lock(&self.0.history))
    }

    /// Holds in memory at once; written soon, by a thread of its own.
    pub fn remember(&self, seen: &Sighting) {
        let changed = Arc::make_mut(&mut lock(&self.0.history)).remember(seen);
        if changed && self.0.state.is_some() {
            let mut unsaved = lock(&self.0.unsaved);
            if unsaved.len() >= MAX_UNSAVED {
                unsaved.remove(0);
            }
            unsaved.push(seen.clone());
            drop(unsaved);
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

/// A process that ends without [`HistoryKeeper::flush`] forgets nothing either.
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
        let _one_at_a_time = lock(&self.saving);
        let unsaved = std::mem::take(&mut *lock(&self.unsaved));
        if unsaved.is_empty() {
            return;
        }
        let written = files::lock(&state.path).and_then(|_others_wait| {
            // What this process knows is better than nothing.
            let mut on_disk = read(state).unwrap_or_else(|detail| {
                warn_unread(state, &detail);
                History::clone(&lock(&self.history))
            });
            for seen in &unsaved {
                on_disk.remember(seen);
            }
            files::write(&path(state), on_disk.to_json().as_bytes())
        });
        if let Err(error) = written {
            // What came meanwhile is newer.
            lock(&self.unsaved).splice(..0, unsaved);
            state.warn_unwritten(&path(state), &error);
        }
    }
}

fn path(state: &StateDir) -> PathBuf {
    state.by_root.join("history.json")
}

fn read(state: &StateDir) -> Result<History, String> {
    match files::read(&path(state), MAX_HISTORY_BYTES) {
        Ok(bytes) => History::from_json(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(of_version_0_1(state)),
        Err(error) => Err(error.to_string()),
    }
}

/// The deployment logs, which is all that was kept. What cannot be read keeps one change
/// from being noticed.
fn of_version_0_1(state: &StateDir) -> History {
    let path = state.by_root.join("deployment-logs.json");
    let bytes = files::read(&path, MAX_HISTORY_BYTES).unwrap_or_default();
    History::from_json_of_logs(&bytes).unwrap_or_default()
}

fn warn_unread(state: &StateDir, detail: &str) {
    tracing::warn!(
        path = %path(state).display(), detail,
        "not read; what changed at a backend since will not be noticed"
    );
}

/// A poisoned lock guards logs that are whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use attest::{
        Appraise, Collateral, Context, Evidence, Expected, GpuAnchors, HistoryCheck, Nonce, Policy,
        Spki, Subject, TrustAnchors, UnixTime, appraise,
    };
    use fake_tee::{Challenge, Spec};

    use super::*;

    const NOW: u64 = 1_795_348_800;

    fn anchors(spec: &Spec) -> TrustAnchors {
        TrustAnchors::danger_tdx_root(spec.pki.root_der().to_vec())
            .with_gpus(GpuAnchors::danger_gpu_root(spec.gpu_root_der()))
    }

    /// The log of an instance that holds.
    fn seen(instance: u8) -> Sighting {
        let mut spec = Spec::new(NOW).unwrap();
        spec.app.instance_id = vec![instance; 20];
        let challenge = Challenge {
            nonce: [1; 32],
            spki_sha256: [2; 32],
        };
        let built = spec.forge(&challenge).unwrap();
        let appraisal = appraise(&Appraise {
            evidence: &Evidence::parse(&built.report_bytes).unwrap(),
            subject: &Subject {
                domain: Expected::NotChecked("a test"),
                models: Expected::NotChecked("a test"),
            },
            live_spki: Spki::from_bytes([2; 32]),
            nonce: Nonce::from_bytes([1; 32]),
            collateral: &Collateral::from_json(built.collateral_json.as_bytes()).unwrap(),
            policy: &Policy::from_toml(&spec.policy_toml()).unwrap(),
            trust_anchors: &anchors(&spec),
            context: Context {
                history: HistoryCheck::Kept(&History::default()),
                ..Context::none("a test")
            },
            now: UnixTime(NOW),
        });
        appraisal.sighting.unwrap()
    }

    #[tokio::test]
    async fn who_remembers_does_not_wait_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let anchors = anchors(&Spec::new(NOW).unwrap());
        let state = StateDir::open(folder.path(), &anchors).unwrap();
        let keeper = HistoryKeeper::load(Some(Arc::clone(&state)), false).unwrap();
        let (first, second) = (seen(1), seen(2));
        let other_process = files::lock(&state.path).unwrap();
        keeper.remember(&first);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let began = Instant::now();
        keeper.remember(&second);
        let waited = began.elapsed();
        assert!(waited < Duration::from_secs(1), "{waited:?}");
        drop(other_process);
        keeper.flush().await;
        let mut both = History::default();
        assert!(both.remember(&first) && both.remember(&second));
        assert_eq!(read(&state).unwrap(), both);
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let anchors = anchors(&Spec::new(NOW).unwrap());
        let state = StateDir::open(folder.path(), &anchors).unwrap();
        let keeper = HistoryKeeper::load(Some(Arc::clone(&state)), false).unwrap();
        let other_process = files::lock(&state.path).unwrap();
        let seen = seen(1);
        keeper.remember(&seen);
        keeper.flush().await;
        assert_eq!(read(&state).unwrap(), History::default());
        drop(other_process);
        keeper.flush().await;
        let mut kept = History::default();
        assert!(kept.remember(&seen));
        assert_eq!(read(&state).unwrap(), kept);
    }
}
