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
