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
//! the folder. A cache file that cannot be read is fetched again. Floors that cannot be read
//! stop the start: without them older collateral would be accepted silently. So does an
//! unreadable history under a policy with `hold = true`.

mod files;
mod floors;
mod history;
pub mod keeper;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use attest::{Floors, History, TrustAnchors, UnixTime};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use self::keeper::{Keeper, path, read};
use crate::lock::lock;
use crate::seldom::Seldom;

/// Compose files on disk. All that the fleet's operator published in half a year are 340, some
/// 10 MB.
const MAX_COMPOSE_FILES: usize = 1_024;
const MAX_COMPOSE_BYTES: u64 = 64 << 20;
/// Of a cache file. Collateral as JSON with hexadecimal fields has 2 MiB at most, and so has a
/// list.
const MAX_CACHE_BYTES: u64 = 3 << 20;
/// Cache files that are being written, each by a thread, since look-ups need threads too. A
/// deployment names some ten files at once. On a disk that stalls further ones are not written.
const MAX_WRITERS: usize = 64;
/// Files listed in the folder; it holds 64 platform families at most.
const MAX_LISTED: usize = 1_000;
/// The layout of cache files. No other is read.
const CACHE_VERSION: u32 = 1;

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
}

/// What was seen before. Evidence is compared with it.
#[derive(Debug, Clone)]
pub struct Memory {
    /// The newest collateral seen.
    pub floors: Keeper<Floors>,
    /// What was seen of backends.
    pub history: Keeper<History>,
}

impl Memory {
    /// Reads what earlier processes saw: nothing without a state directory. Where the history
    /// cannot be read, one change of a backend is not noticed, and the file is replaced; if the
    /// policy `holds` backends to it, that is an error.
    pub fn load(state: Option<Arc<StateDir>>, holds: bool) -> Result<Self, StateError> {
        let (mut floors, mut history) = (Floors::default(), History::default());
        if let Some(state) = &state {
            floors = read(state).map_err(|detail| StateError::Floors {
                path: path::<Floors>(state),
                detail,
            })?;
            match read(state) {
                Ok(read) => history = read,
                Err(detail) if holds => {
                    let path = path::<History>(state);
                    return Err(StateError::History { path, detail });
                }
                Err(detail) => history::warn_unread(state, &detail),
            }
        }
        Ok(Self {
            floors: Keeper::new(floors, state.clone()),
            history: Keeper::new(history, state),
        })
    }

    /// Resolves when the files hold everything that was seen.
    pub async fn flush(&self) {
        self.floors.flush().await;
        self.history.flush().await;
    }
}

/// A document from the disk. It can be fetched again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cached {
    /// The address that it came from.
    pub(crate) source: String,
    pub(crate) fetched_at: UnixTime,
    /// The document, byte for byte.
    pub(crate) body: Vec<u8>,
}

/// The first line of a cache file. The document follows.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    source: String,
    fetched_at: UnixTime,
}

/// The member that every layout of a file has.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// The state directory.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    by_root: PathBuf,
    seldom: Seldom,
    /// Writes that run.
    writers: Mutex<Vec<JoinHandle<()>>>,
}

impl StateDir {
    /// Creates the folder if it is missing, and checks that it is private and writable.
    pub fn open(path: &Path, anchors: &TrustAnchors) -> Result<Arc<Self>, StateError> {
        let root = hex::encode(anchors.tdx_root_sha256());
        let state = Self {
            path: path.to_owned(),
            // Half of the digest: 128 bits, in which nobody finds a collision.
            by_root: path.join(format!("tdx-root-{}", root.get(..32).unwrap_or(&root))),
            seldom: Seldom::default(),
            writers: Mutex::default(),
        };
        for folder in [&state.path, &state.by_root] {
            files::private_folder(folder)?;
            files::sweep(folder);
        }
        files::lock(&state.path).map_err(|source| StateError::Unusable {
            path: state.path.clone(),
            source,
        })?;
        Ok(Arc::new(state))
    }

    /// Reads a cache file. `None` if there is none, or, with a warning, if it cannot be read.
    pub(crate) fn load(&self, file: &CacheFile) -> Option<Cached> {
        let path = self.path_of(file);
        let detail = match files::read(&path, MAX_CACHE_BYTES) {
            Ok(bytes) => match parse(&bytes) {
                Ok(cached) => return Some(cached),
                Err(detail) => detail,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => error.to_string(),
        };
        tracing::warn!(path = %path.display(), detail, "not read; it will be fetched again");
        None
    }

    /// Writes a cache file in a thread of its own, since disks can stall.
    pub(crate) fn save(
        self: &Arc<Self>,
        file: CacheFile,
        source: String,
        fetched_at: UnixTime,
        body: Vec<u8>,
    ) {
        let state = Arc::clone(self);
        let header = Header {
            version: CACHE_VERSION,
            source,
            fetched_at,
        };
        let mut writers = lock(&self.writers);
        writers.retain(|writer| !writer.is_finished());
        if writers.len() >= MAX_WRITERS {
            let stalls = format!("{MAX_WRITERS} files before it are not written yet");
            self.warn_unwritten(&self.path_of(&file), &stalls);
            return;
        }
        writers.push(tokio::task::spawn_blocking(move || {
            // Serialising strings and numbers cannot fail.
            let mut bytes = serde_json::to_vec(&header).unwrap_or_default();
            bytes.push(b'\n');
            bytes.extend_from_slice(&body);
            let path = state.path_of(&file);
            if let Err(error) = files::write(&path, &bytes) {
                state.warn_unwritten(&path, &error);
            }
            if let CacheFile::ComposeFile { .. } = file {
                files::trim(&state.path, COMPOSE, MAX_COMPOSE_FILES, MAX_COMPOSE_BYTES);
            }
        }));
    }

    /// Waits for the writes that run.
    pub async fn flush(&self) {
        let writers = std::mem::take(&mut *lock(&self.writers));
        for writer in writers {
            // An error: the write panicked, which tokio has logged.
            let _ = writer.await;
        }
    }

    /// The platform families whose collateral is here: the suffixes of their files' names.
    pub(crate) fn families(&self) -> Vec<String> {
        let entries = match std::fs::read_dir(&self.by_root) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(path = %self.by_root.display(), %error, "not read");
                return Vec::new();
            }
        };
        let names = entries.take(MAX_LISTED).filter_map(|entry| {
            let name = entry.ok()?.file_name();
            Some(name.to_str()?.strip_prefix(COLLATERAL)?.to_owned())
        });
        names.collect()
    }

    fn path_of(&self, file: &CacheFile) -> PathBuf {
        match file {
            CacheFile::Endpoints { url } => {
                let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, url.as_bytes());
                let digest = hex::encode(digest);
                let short = digest.get(..16).unwrap_or(&digest);
                self.path.join(format!("endpoints-{short}"))
            }
            CacheFile::ComposeFile { sha256 } => self.path.join(format!("{COMPOSE}{sha256}")),
            CacheFile::Editions => self.by_root.join("editions"),
            CacheFile::Collateral { family } => self.by_root.join(format!("{COLLATERAL}{family}")),
        }
    }

    /// From the first failure on this process relies on memory.
    fn warn_unwritten(&self, path: &Path, error: &dyn std::fmt::Display) {
        if let Some(more) = self.seldom.may_say(self.path.display(), "not_written") {
            tracing::warn!(
                path = %path.display(), %error,
                "not written: what this process sees from now on may be lost when it ends{more}"
            );
        }
    }
}

const COLLATERAL: &str = "collateral-";
const COMPOSE: &str = "compose-";

/// A cache file.
#[derive(Debug, Clone)]
pub(crate) enum CacheFile {
    /// The endpoint list of one address.
    Endpoints { url: String },
    /// A compose file, named by 64 hex digits. Its content has to be hashed again.
    ComposeFile { sha256: String },
    /// Intel's list of editions.
    Editions,
    /// Collateral of one platform family, which is named by letters, digits and "-".
    Collateral { family: String },
}

fn parse(bytes: &[u8]) -> Result<Cached, String> {
    let end = bytes.iter().position(|&byte| byte == b'\n');
    let (header, body) = end
        .and_then(|end| Some((bytes.get(..end)?, bytes.get(end + 1..)?)))
        .ok_or("it has no header")?;
    let unreadable = |error: serde_json::Error| format!("its header: {error}");
    let Version { version } = serde_json::from_slice(header).map_err(unreadable)?;
    if version != CACHE_VERSION {
        return Err(format!(
            "it has layout {version}, this program reads {CACHE_VERSION}"
        ));
    }
    let header: Header = serde_json::from_slice(header).map_err(unreadable)?;
    Ok(Cached {
        source: header.source,
        fetched_at: header.fetched_at,
        body: body.to_vec(),
    })
}
