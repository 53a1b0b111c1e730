//! Private folders, and files that are written whole or not at all.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::StateError;

/// Creates `path` if it is missing. Refuses it if another user could write to it, or if this
/// user cannot.
pub(super) fn private_folder(path: &Path) -> Result<(), StateError> {
    let unusable = |source| StateError::Unusable {
        path: path.to_owned(),
        source,
    };
    make(path).map_err(unusable)?;
    // A symbolic link is followed (service managers create them): its target counts.
    let folder = fs::metadata(path).map_err(unusable)?;
    if !folder.is_dir() {
        return Err(unusable(io::ErrorKind::NotADirectory.into()));
    }
    refuse_shared(path, &folder)?;
    // The probe file is removed when it is dropped.
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

/// The owner of a new file is this process's user.
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

/// On other systems the user manages the access lists.
#[cfg(not(unix))]
fn refuse_shared(_: &Path, _: &fs::Metadata) -> Result<(), StateError> {
    Ok(())
}

#[cfg(not(unix))]
fn refuse_foreign(_: &Path, _: &fs::Metadata, _: &fs::Metadata) -> Result<(), StateError> {
    Ok(())
}

/// Merging takes milliseconds, on a disk that stalls seconds. A process that was suspended
/// while it held the lock must not stop other processes' starts and ends.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Keeps other processes out until the file is dropped.
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

/// Reads a regular file of at most `max` bytes.
pub(super) fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    // Opening a named pipe could block for ever.
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

/// Prefix of files that are still being written.
const PARTIAL: &str = ".partial-";
/// Writing a file takes seconds at most.
const PARTIAL_AGE: Duration = Duration::from_secs(60 * 60);
/// Files listed at a time.
const MAX_LISTED: usize = 10_000;

/// Removes unfinished files of processes that were killed while they wrote.
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
            // A file that cannot be removed does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Removes the oldest files whose names begin with `prefix`, until at most `max_files` and
/// `max_bytes` are left.
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
            // The file can be fetched again. An error: another process has removed it.
            let _ = fs::remove_file(path);
        }
    }
}

fn partial(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    // tempfile creates it with mode 0600.
    tempfile::Builder::new().prefix(PARTIAL).tempfile_in(folder)
}

/// Writes a whole file or nothing: a reader, also after a power failure, finds the old file or
/// the new one.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = partial(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The rename survives a power failure once the folder is synced.
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
