//! A folder that no other user can change, or exchange.

use std::fs;
use std::io;
use std::path::Path;

use super::{StateError, files};

/// Creates `path` if it is missing. Refuses it if another user could write to it, or if this
/// user cannot. The error of a disk that is full refuses nothing, and is returned: what is there
/// can be read, and the disk may have room again before long.
pub(super) fn private(path: &Path) -> Result<Option<io::Error>, StateError> {
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
    let (own, full) = match files::partial(path).and_then(|probe| probe.as_file().metadata()) {
        Ok(own) => (Some(own), None),
        Err(error) if is_full(&error) => (None, Some(error)),
        Err(error) => return Err(unusable(error)),
    };
    refuse_foreign(path, &folder, own.as_ref())?;
    Ok(full)
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
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
    own: Option<&fs::Metadata>,
) -> Result<(), StateError> {
    use std::os::unix::fs::MetadataExt;
    let own = own.map_or_else(|| rustix::process::geteuid().as_raw(), MetadataExt::uid);
    if folder.uid() == own {
        return Ok(());
    }
    Err(StateError::NotPrivate {
        path: path.to_owned(),
        problem: format!(
            "belongs to user {}, this process is user {own}",
            folder.uid()
        ),
    })
}

/// Refuses a folder that any user of this machine could exchange for another one, and warns of
/// one that some could.
///
/// Who may write to a folder may rename what lies in it. In a folder with the sticky bit, as /tmp
/// has it, only an entry's owner may: there the entry counts. A group is often one user's own, so
/// it is warned of; and so is another owner, who in a container may be the host's root.
#[cfg(unix)]
pub(super) fn check_parents(path: &Path) -> Result<(), StateError> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let unusable = |source| StateError::Unusable {
        path: path.to_owned(),
        source,
    };
    let own = fs::metadata(path).map_err(unusable)?.uid();
    // The links on the way, and the folders that they lead through.
    let ways = [std::path::absolute(path), fs::canonicalize(path)];
    let mut warned = false;
    for way in ways {
        let way = way.map_err(unusable)?;
        for entry in way.ancestors() {
            let Some(parent) = entry.parent() else { break };
            let folder = fs::metadata(parent).map_err(unusable)?;
            let owner = fs::symlink_metadata(entry).map_err(unusable)?.uid();
            let is_trusted = |user| user == own || user == 0;
            let mode = folder.permissions().mode() & 0o7777;
            let is_sticky = mode & 0o1000 != 0;
            let problem = if mode & 0o002 != 0 && !is_sticky {
                format!("which all users can write to (mode {mode:04o})")
            } else if mode & 0o022 != 0 && is_sticky && !is_trusted(owner) {
                format!(
                    "where {} belongs to user {owner}, who can exchange it",
                    entry.display()
                )
            } else {
                let some = if mode & 0o020 != 0 && !is_sticky {
                    "its group"
                } else if !is_trusted(folder.uid()) {
                    "its owner"
                } else {
                    continue;
                };
                if !std::mem::replace(&mut warned, true) {
                    tracing::warn!(
                        path = %path.display(), parent = %parent.display(), mode = format!("{mode:04o}"), owner = folder.uid(),
                        "{some} can put another folder in the state directory's place, and so undo the protection against old collateral"
                    );
                }
                continue;
            };
            return Err(StateError::Exchangeable {
                path: path.to_owned(),
                parent: parent.to_owned(),
                problem,
            });
        }
    }
    Ok(())
}

/// On other systems the user manages the access lists.
#[cfg(not(unix))]
fn refuse_shared(_: &Path, _: &fs::Metadata) -> Result<(), StateError> {
    Ok(())
}

#[cfg(not(unix))]
fn refuse_foreign(_: &Path, _: &fs::Metadata, _: Option<&fs::Metadata>) -> Result<(), StateError> {
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn check_parents(_: &Path) -> Result<(), StateError> {
    Ok(())
}
