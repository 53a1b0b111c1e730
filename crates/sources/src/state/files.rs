//! Files that are written whole or not at all, and the lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::layout;

/// Merging takes milliseconds, on a disk that stalls seconds. A process that was suspended
/// while it held the lock must not stop other processes' starts and ends.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Keeps other processes out until the file is dropped. In this process one thread at a time
/// asks for it.
pub(super) fn lock(folder: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let file = open(&folder.join("lock"), &mut options)
        .map_err(|error| io::Error::new(error.kind(), format!("its file \"lock\": {error}")))?;
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

/// Opens a regular file. Opening a named pipe could block for ever, and a link leads out of the
/// folder.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let no_file = || io::Error::other("not a regular file");
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => return Err(no_file()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // It may be another one by now.
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
    }
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(no_file());
    }
    Ok(file)
}

/// Reads a regular file of at most `max` bytes.
pub(super) fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = open(path, File::options().read(true))?;
    file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::other(format!("more than {max} bytes")));
    }
    Ok(bytes)
}

/// The layout that a file states at its beginning. `None` also if it cannot be read.
pub(super) fn layout(path: &Path) -> Option<u64> {
    let mut head = Vec::new();
    let file = open(path, File::options().read(true)).ok()?;
    file.take(layout::HEAD).read_to_end(&mut head).ok()?;
    layout::begun(&head)
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

/// Removes the oldest of those files whose names are `wanted`, until at most `max_files` and
/// `max_bytes` are left.
pub(super) fn trim(
    folder: &Path,
    wanted: impl Fn(&str) -> bool,
    max_files: usize,
    max_bytes: u64,
    is_kept: impl Fn(&Path) -> bool,
) {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut found: Vec<_> = entries
        .take(MAX_LISTED)
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(&wanted))
        .filter_map(|entry| {
            let file = entry.metadata().ok()?;
            Some((file.modified().ok()?, file.len(), entry.path()))
        })
        .collect();
    found.sort_by_key(|(modified, ..)| std::cmp::Reverse(*modified));
    let mut bytes: u64 = 0;
    for (index, (_, len, path)) in found.into_iter().enumerate() {
        bytes = bytes.saturating_add(len);
        if (index >= max_files || bytes > max_bytes) && !is_kept(&path) {
            // The file can be fetched again. An error: another process has removed it.
            let _ = fs::remove_file(path);
        }
    }
}

pub(super) fn partial(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    // tempfile creates it with mode 0600.
    tempfile::Builder::new().prefix(PARTIAL).tempfile_in(folder)
}

/// Writes a whole file or nothing: a reader, also after a power failure, finds the old file or
/// the new one. A folder in the file's place is moved aside; anything else there is replaced.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = partial(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    if let Err(failed) = file.persist(path) {
        if !fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
            return Err(failed.error);
        }
        let aside = aside(path);
        fs::rename(path, &aside)?;
        tracing::warn!(path = %path.display(), aside = %aside.display(), "a folder in a file's place was moved aside");
        failed.file.persist(path)?;
    }
    // The rename survives a power failure once the folder is synced.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// Where what cannot be read is kept.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".damaged");
    path.with_file_name(name)
}

/// Gives a file that is about to be replaced a second name, under which it stays.
pub(super) fn keep_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = aside(path);
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::hard_link(path, &aside)?,
    }
    Ok(aside)
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
        let trim = |files, bytes, kept: &str| {
            let wanted = |name: &str| name.starts_with("b-");
            trim(folder.path(), wanted, files, bytes, |path| {
                path.ends_with(kept)
            });
        };
        trim(3, 30, "none");
        assert_eq!(names(), ["b-1", "b-2", "b-3", "other"]);
        trim(3, 29, "b-2");
        assert_eq!(names(), ["b-1", "b-2", "b-3", "other"]);
        trim(3, 29, "none");
        assert_eq!(names(), ["b-1", "b-3", "other"]);
        trim(1, 100, "none");
        assert_eq!(names(), ["b-3", "other"]);
    }
}
