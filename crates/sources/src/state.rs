//! What outlives the process: public documents, and what was seen of collateral and backends.
//!
//! ```text
//! STATE-DIR/                  0700; files 0600
//!   lock                      held while the JSON files are merged
//!   .partial-*                being written; left by a killed process: removed later
//!   endpoints-<URL>           the endpoint list
//!   compose-<SHA-256>         compose files, by what they are
//!   tdx-root-<root>/          what depends on the trust root: another root, another folder
//!     floors.json             the newest collateral seen
//!     history.json            what was last seen of each domain, and of each deployment log
//!     collateral-<family>-<CA>
//!     editions                which edition of it is standard
//! ```
//!
//! No client's data is written here: no request reaches this module. Verdicts are not stored
//! either; after a restart backends are attested again. The history names the domains that were
//! verified and the days, which tells which models were used.
//!
//! Whoever can write here can undo the protection against rollback, so only this user may write
//! the folder, and no other can exchange it. A cache file that cannot be read is fetched again.
//! Floors that cannot be read stop the start: without them older collateral would be accepted
//! silently. So does an unreadable history under a policy with `hold = true`. A file that a newer
//! version of this program wrote is never replaced (`layout`).
//!
//! After the start threads of this module alone use the disk, and each wait for one has a limit.

mod cache;
mod files;
mod floors;
mod folder;
mod history;
pub mod keeper;
mod layout;
mod worker;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use attest::{Floors, History, TrustAnchors};
use tokio::time::timeout;

pub(crate) use self::cache::CacheFile;
use self::keeper::{Keeper, Kept, path, read};
use self::layout::Unread;
use self::worker::Worker;

/// How long the end of the program waits for the disk. Writing takes tenths of a second; another
/// process may hold the lock for three seconds.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);
const FLUSH_PAUSE: Duration = Duration::from_millis(2);

/// Why the state directory cannot be used. Occurs at the start only.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be created, read or written.
    #[error(
        "the state directory {path} cannot be used: {source}; name another with --state-dir",
        path = path.display()
    )]
    Unusable { path: PathBuf, source: io::Error },
    /// Another user could change its content.
    #[error(
        "the state directory {path} {problem}: anyone who can write there can undo the protection against old collateral; \
         `chmod 700` it and give it to the user that runs verified-proxy, or name another with --state-dir",
        path = path.display()
    )]
    NotPrivate { path: PathBuf, problem: String },
    /// Another user could put another folder in its place.
    #[error(
        "the state directory {path} lies in {parent}, {problem}: another folder in its place would undo the protection against old collateral; \
         let nobody else write to {parent}, or name another state directory with --state-dir",
        path = path.display(), parent = parent.display()
    )]
    Exchangeable {
        path: PathBuf,
        parent: PathBuf,
        problem: String,
    },
    /// The history cannot be read, and the policy holds backends to it.
    #[error(
        "{path}: {detail}; it remembers what was seen of backends, and the policy holds that (hold = true). \
         Restore the file from a backup; or remove it, which accepts what each backend shows next",
        path = path.display()
    )]
    History { path: PathBuf, detail: String },
    /// The floors cannot be read.
    #[error(
        "{path}: {detail}; it remembers how new Intel's collateral has to be, so it is not overwritten. \
         Restore it from a backup; or delete it; older collateral than already seen will then be accepted again",
        path = path.display()
    )]
    Floors { path: PathBuf, detail: String },
    /// Floors, or a history that the policy holds, of a newer version of this program.
    #[error(
        "{path}: {detail}, so it is left as it is. Use that version; \
         or give this one a folder of its own with --state-dir: then it {cost}",
        path = path.display()
    )]
    Newer {
        path: PathBuf,
        detail: String,
        /// What a new folder costs.
        cost: &'static str,
    },
}

/// What was seen before. Evidence is compared with it.
#[derive(Debug, Clone)]
pub struct Memory {
    /// The newest collateral seen.
    pub floors: Keeper<Floors>,
    /// What was seen of backends.
    pub history: Keeper<History>,
    /// False if there is a history that could not be read.
    history_is_known: bool,
    state: Option<Arc<StateDir>>,
}

impl Memory {
    /// Reads what earlier processes saw: nothing without a state directory. Where the history
    /// cannot be read, one change of a backend is not noticed, and the file is replaced; if the
    /// policy `holds` backends to it, that is an error.
    pub fn load(state: Option<Arc<StateDir>>, holds: bool) -> Result<Self, StateError> {
        let (mut floors, mut history) = (Floors::default(), History::default());
        let mut history_state = state.clone();
        let mut history_is_known = true;
        if let Some(state) = &state {
            floors = read(state).map_err(|unread| {
                let cost = "accepts older collateral than already seen";
                stops::<Floors>(state, unread, cost, |path, detail| StateError::Floors {
                    path,
                    detail,
                })
            })?;
            match read(state) {
                Ok(read) => history = read,
                Err(unread) if holds => {
                    let cost = "accepts what each backend shows next";
                    let error = |path, detail| StateError::History { path, detail };
                    return Err(stops::<History>(state, unread, cost, error));
                }
                Err(Unread::Damaged(detail)) => {
                    tracing::warn!(
                        path = %path::<History>(state).display(), detail,
                        "not read; what changed at a backend since will not be noticed"
                    );
                    history_is_known = false;
                }
                Err(unread @ Unread::Newer { .. }) => {
                    tracing::warn!(
                        path = %path::<History>(state).display(), detail = %unread,
                        "left as it is: what changed at a backend since will not be noticed, and what this process sees of backends is lost when it ends"
                    );
                    history_state = None;
                    history_is_known = false;
                }
            }
        }
        Ok(Self {
            floors: Keeper::new(floors, state.clone()),
            history: Keeper::new(history, history_state),
            history_is_known,
            state,
        })
    }

    /// False if what earlier processes saw of backends could not be read: a policy that holds
    /// backends to it has nothing to hold them to.
    pub fn history_is_known(&self) -> bool {
        self.history_is_known
    }

    /// Resolves when the files hold everything that was seen and fetched, or, with a warning,
    /// after five seconds: disks can stall. Dropping the future loses nothing as long as the
    /// process runs on.
    pub async fn flush(&self) {
        self.flush_within(FLUSH_PATIENCE).await;
    }

    async fn flush_within(&self, limit: Duration) {
        if let Some(state) = self.write() {
            let idle = async {
                state.memory.is_idle().await;
                state.caches.is_idle().await;
            };
            if timeout(limit, idle).await.is_err() {
                state.warn_unfinished();
            }
        }
    }

    /// The same for a thread that may block.
    pub fn flush_blocking(&self) {
        let Some(state) = self.write() else { return };
        let began = Instant::now();
        while state.memory.left() > 0 || state.caches.left() > 0 {
            if began.elapsed() >= FLUSH_PATIENCE {
                return state.warn_unfinished();
            }
            std::thread::sleep(FLUSH_PAUSE);
        }
    }

    /// Has written what is not.
    fn write(&self) -> Option<&StateDir> {
        self.floors.save();
        self.history.save();
        self.state.as_deref()
    }
}

/// The error for a file without which there is no start.
fn stops<T: Kept>(
    state: &StateDir,
    unread: Unread,
    cost: &'static str,
    damaged: impl FnOnce(PathBuf, String) -> StateError,
) -> StateError {
    let (path, detail) = (path::<T>(state), unread.to_string());
    match unread {
        Unread::Newer { .. } => StateError::Newer { path, detail, cost },
        Unread::Damaged(_) => damaged(path, detail),
    }
}

/// The state directory.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    by_root: PathBuf,
    /// True once a failure to write has been logged.
    warned: AtomicBool,
    /// True once a newer version's file has been logged.
    told_newer: AtomicBool,
    /// True while a file that a request waited for has not been read.
    reads_stall: AtomicBool,
    /// Writes the floors and the history. Caches have a thread of their own, so that they hold
    /// up nothing that cannot be fetched again; and reads have one, since a request waits.
    memory: Worker,
    caches: Worker,
    reads: Worker,
}

impl StateDir {
    /// Creates the folder if it is missing, and checks that it is private and writable.
    pub fn open(path: &Path, anchors: &TrustAnchors) -> Result<Arc<Self>, StateError> {
        let root = hex::encode(anchors.tdx_root_sha256());
        // Half of the digest: 128 bits, in which nobody finds a collision.
        let by_root = path.join(format!("tdx-root-{}", root.get(..32).unwrap_or(&root)));
        let mut full = None;
        for folder in [path, &by_root] {
            full = folder::private(folder)?.or(full);
            files::sweep(folder);
        }
        if let Some(error) = &full {
            tracing::warn!(
                path = %path.display(), %error,
                "nothing can be written to the state directory: what this process sees from now on may be lost when it ends"
            );
        }
        folder::check_parents(path)?;
        let unusable = |source| StateError::Unusable {
            path: path.to_owned(),
            source,
        };
        files::lock(path).map_err(unusable)?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            by_root,
            warned: AtomicBool::new(false),
            told_newer: AtomicBool::new(false),
            reads_stall: AtomicBool::new(false),
            memory: Worker::start("state-memory").map_err(unusable)?,
            caches: Worker::start("state-caches").map_err(unusable)?,
            reads: Worker::start("state-reads").map_err(unusable)?,
        }))
    }

    fn warn_unfinished(&self) {
        tracing::warn!(
            path = %self.path.display(),
            "the state directory's disk did not finish in {} s: what this process saw last may be lost",
            FLUSH_PATIENCE.as_secs()
        );
    }

    /// Logs the first failure to write only. From then on this process relies on memory.
    fn warn_unwritten(&self, path: &Path, error: &dyn std::fmt::Display) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                path = %path.display(), %error,
                "not written: what this process sees from now on may be lost when it ends"
            );
        }
    }
}

#[cfg(test)]
mod tests;
