//! Public documents on disk. Each can be fetched again, so none is worth a start or a request.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use attest::UnixTime;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::layout::Unread;
use super::{StateDir, files, layout};

/// Compose files on disk. All that the fleet's operator published in half a year are 340, some
/// 10 MB.
const MAX_COMPOSE_FILES: usize = 1_024;
const MAX_COMPOSE_BYTES: u64 = 64 << 20;
/// Of a cache file. Collateral as JSON with hexadecimal fields has 2 MiB at most, and so has a
/// list.
const MAX_CACHE_BYTES: u64 = 3 << 20;
/// Files listed in the folder; it holds 64 platform families at most.
const MAX_LISTED: usize = 1_000;
/// The layout of cache files. Earlier ones are fetched again.
const LAYOUT: u32 = 1;
/// How long a request waits for a file of the disk before it is fetched instead. Reading takes
/// milliseconds, fetching tenths of a second.
const READ_PATIENCE: Duration = Duration::from_secs(1);

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

impl StateDir {
    /// Reads a cache file. `None` if there is none, or, with a warning, if it cannot be read.
    pub(crate) fn load(&self, file: &CacheFile) -> Option<Cached> {
        let path = self.path_of(file);
        let read = files::read(&path, MAX_CACHE_BYTES);
        let detail = match read {
            Ok(bytes) => match parse(&bytes) {
                Ok(cached) => return Some(cached),
                Err(detail) => detail,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => error.to_string(),
        };
        if !self.is_newer(&path) {
            tracing::warn!(path = %path.display(), detail, "not read; it will be fetched again");
        }
        None
    }

    /// The same for a request, which a disk that stalls must not hold up.
    pub(crate) async fn load_in_time(self: &Arc<Self>, file: CacheFile) -> Option<Cached> {
        if self.reads_stall.load(Ordering::SeqCst) {
            return None;
        }
        let (report, loaded) = oneshot::channel();
        let state = Arc::clone(self);
        self.reads.run(move || {
            // An error: the request no longer waits for it.
            let _ = report.send(state.load(&file));
            state.reads_stall.store(false, Ordering::SeqCst);
        });
        match timeout(READ_PATIENCE, loaded).await {
            Ok(loaded) => loaded.ok().flatten(),
            Err(_) => {
                self.reads_stall.store(true, Ordering::SeqCst);
                // Should the read have ended just now. If no more jobs are taken, others wait
                // that do the same.
                let state = Arc::clone(self);
                self.reads
                    .run(move || state.reads_stall.store(false, Ordering::SeqCst));
                None
            }
        }
    }

    /// Has a cache file written.
    pub(crate) fn save(
        self: &Arc<Self>,
        file: CacheFile,
        source: String,
        fetched_at: UnixTime,
        body: Vec<u8>,
    ) {
        let (state, path) = (Arc::clone(self), self.path_of(&file));
        let header = Header {
            version: LAYOUT,
            source,
            fetched_at,
        };
        let is_queued = self.caches.run(move || {
            let path = state.path_of(&file);
            if state.is_newer(&path) {
                return;
            }
            // Serialising strings and numbers cannot fail.
            let mut bytes = serde_json::to_vec(&header).unwrap_or_default();
            bytes.push(b'\n');
            bytes.extend_from_slice(&body);
            if let Err(error) = files::write(&path, &bytes) {
                state.warn_unwritten(&path, &error);
            }
            if let CacheFile::ComposeFile { .. } = file {
                let (files, bytes) = (MAX_COMPOSE_FILES, MAX_COMPOSE_BYTES);
                let is_newer = |path: &Path| newer(path).is_some();
                files::trim(&state.path, is_compose_file, files, bytes, is_newer);
            }
        });
        if !is_queued {
            self.warn_unwritten(&path, &"earlier writes have not ended");
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

    /// True, which is logged once, if a newer version of this program wrote the file.
    fn is_newer(&self, path: &Path) -> bool {
        let Some(layout) = newer(path) else {
            return false;
        };
        if !self.told_newer.swap(true, Ordering::Relaxed) {
            let detail = Unread::Newer {
                layout,
                known: LAYOUT,
            };
            tracing::warn!(
                path = %path.display(), %detail,
                "this file, and others like it, are left as they are: the documents are fetched again by each run"
            );
        }
        true
    }
}

/// The layout of a file that a newer version of this program wrote.
fn newer(path: &Path) -> Option<u64> {
    files::layout(path).filter(|&layout| layout > u64::from(LAYOUT))
}

fn is_compose_file(name: &str) -> bool {
    let digest = name.strip_prefix(COMPOSE);
    digest.is_some_and(|digest| {
        digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn parse(bytes: &[u8]) -> Result<Cached, String> {
    let end = bytes.iter().position(|&byte| byte == b'\n');
    let (header, body) = end
        .and_then(|end| Some((bytes.get(..end)?, bytes.get(end.saturating_add(1)..)?)))
        .ok_or("it has no header")?;
    let unreadable = |detail| format!("its header: {detail}");
    let layout = layout::stated(header).map_err(unreadable)?;
    if layout != Some(LAYOUT.into()) {
        return Err(unreadable(format!("{layout:?} is not layout {LAYOUT}")));
    }
    let header: Header =
        serde_json::from_slice(header).map_err(|error| unreadable(error.to_string()))?;
    Ok(Cached {
        source: header.source,
        fetched_at: header.fetched_at,
        body: body.to_vec(),
    })
}
