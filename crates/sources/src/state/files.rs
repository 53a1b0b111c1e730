//! Private folders, whole files.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::StateError;

/// Makes `path` if it is not there, and refuses it if anybody else could write
/// in it, or this user cannot.
pub(super) fn private_folder(path: &Path) -> Result<(), StateError> {
    let unusable = |source| StateError::Unusable {
        path: path.to_owned(),
        source,
    };
    make(path).map_err(unusable)?;
    // A link is followed (service managers make them); what counts is its target.
    let folder = fs::metadata(path).map_err(unusable)?;
    if !folder.is_dir() {
        return Err(unusable(io::ErrorKind::NotADirectory.into()));
    }
    refuse_shared(path, &folder)?;
    // Gone when it is dropped.
    let probe = partial(path).map_err(unusable)?;
    let own = probe.as_file().metadata().map_err(unusable)?;
    refuse_foreign(path, &folder, &own)
}

#[cfg(unix)]
fn make(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

#[cfg(not(unix))]
fn make(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

#[cfg(unix)]
fn refuse_shared(path: &Path, folder: &fs::Metadata) -> Result<(), StateError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = folder.permissions().mode() & 0o7777;
    if mode & 0o022 == 0 {
        return Ok(());
    }
    Err(StateError::NotPrivate {
        path: path.to_owned(),
        problem: format!("can be written by others (mode {mode:04o})"),
    })
}

/// A new file shows who this process is.
#[cfg(unix)]
fn refuse_foreign(
    path: &Path,
    folder: &fs::Metadata,
    own: &fs::Metadata,
) -> Result<(), StateError> {
    use std::os::unix::fs::MetadataExt;
    if folder.uid() == own.uid() {
        return Ok(());
    }
    Err(StateError::NotPrivate {
        path: path.to_owned(),
        problem: format!(
            "belongs to user {}, this process is user {}",
            folder.uid(),
            own.uid()
        ),
    })
}

/// Other systems' access lists are the user's business.
#[cfg(not(unix))]
fn refuse_shared(_: &Path, _: &fs::Metadata) -> Result<(), StateError> {
    Ok(())
}

#[cfg(not(unix))]
fn refuse_foreign(_: &Path, _: &fs::Metadata, _: &fs::Metadata) -> Result<(), StateError> {
    Ok(())
}

/// A process merges floors in milliseconds, a disk that stalls takes seconds.
/// One that was stopped meanwhile must not stop others, at start or at the end.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Excludes other processes until it is dropped.
pub(super) fn lock(folder: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let file = options.open(folder.join("lock"))?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other(format!(
                    "another process has held its lock for {} s",
                    LOCK_PATIENCE.as_secs()
                )));
            }
        }
    }
}

/// A regular file of at most `max` bytes.
pub(super) fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    // Opening a pipe could wait for ever.
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::other(format!("more than {max} bytes")));
    }
    Ok(bytes)
}

/// What the names of files begin with that are not whole yet.
const PARTIAL: &str = ".partial-";
/// Writing one takes seconds at most.
const PARTIAL_AGE: Duration = Duration::from_secs(60 * 60);
/// Looked at in one go.
const MAX_LISTED: usize = 10_000;

/// Removes what processes left that were killed while they wrote.
pub(super) fn sweep(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten();
    for entry in entries.take(MAX_LISTED).flatten() {
        let is_partial = entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PARTIAL.as_bytes());
        let modified = entry.metadata().and_then(|file| file.modified()).ok();
        let age = modified.and_then(|modified| modified.elapsed().ok());
        if is_partial && age > Some(PARTIAL_AGE) {
            // Nobody misses it, and nobody needs it gone.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Removes files whose names begin with `prefix`, the oldest first, until `max_files`
/// and `max_bytes` are left.
pub(super) fn trim(folder: &Path, prefix: &str, max_files: usize, max_bytes: u64) {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut found: Vec<_> = entries
        .take(MAX_LISTED)
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            name.as_encoded_bytes().starts_with(prefix.as_bytes())
        })
        .filter_map(|entry| {
            let file = entry.metadata().ok()?;
            Some((file.modified().ok()?, file.len(), entry.path()))
        })
        .collect();
    found.sort_by_key(|(modified, ..)| std::cmp::Reverse(*modified));
    let mut bytes: u64 = 0;
    for (index, (_, len, path)) in found.into_iter().enumerate() {
        bytes = bytes.saturating_add(len);
        if index >= max_files || bytes > max_bytes {
            // It can be fetched again; another process may have removed it.
            let _ = fs::remove_file(path);
        }
    }
}

fn partial(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    // Mode 0600.
    tempfile::Builder::new().prefix(PARTIAL).tempfile_in(folder)
}

/// Writes a whole file or nothing: whoever reads meanwhile, or after a power
/// failure, finds the old one or the new one.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = partial(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The new name lasts once the folder does.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_files_go() {
        let folder = tempfile::tempdir().unwrap();
        let names = || {
            let entries = fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let began = std::time::SystemTime::now() - Duration::from_secs(100);
        for (age, name) in ["b-3", "b-1", "b-2", "other"].iter().enumerate() {
            let path = folder.path().join(name);
            fs::write(&path, [0; 10]).unwrap();
            let at = began + Duration::from_secs(10 - age as u64);
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(at)
                .unwrap();
        }
        trim(folder.path(), "b-", 3, 30);
        assert_eq!(names(), ["b-1", "b-2", "b-3", "other"]);
        trim(folder.path(), "b-", 3, 29);
        assert_eq!(names(), ["b-1", "b-3", "other"]);
        trim(folder.path(), "b-", 1, 100);
        assert_eq!(names(), ["b-3", "other"]);
    }
}
