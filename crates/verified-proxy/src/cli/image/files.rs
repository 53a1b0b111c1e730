//! The files of a release, from a folder that is not trusted.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use attest::image::FileList;

use crate::cli::read_files::{Failure, read_at_most};

/// The list of files.
pub(super) fn list(folder: &Path) -> Result<Vec<u8>, Failure> {
    let list = regular(&folder.join(FileList::NAME), FileList::LIMIT)?;
    list.ok_or_else(|| {
        Failure::Unreadable(format!(
            "{}: no such file\nhint: expected the folder of an unpacked release, such as dstack-nvidia-0.5.11",
            folder.join(FileList::NAME).display()
        ))
    })
}

/// Those files of the list that the folder has.
pub(super) fn listed(folder: &Path, list: &FileList) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut files = BTreeMap::new();
    for (name, limit) in list.names() {
        if let Some(content) = regular(&folder.join(name), limit)? {
            files.insert(name.to_owned(), content);
        }
    }
    Ok(files)
}

/// A file of at most `limit` bytes; none if it does not exist. An archive can have a link
/// out of its folder, which is not followed, and a pipe, which would not end.
fn regular(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, Failure> {
    let unreadable =
        |error: std::io::Error| Failure::Unreadable(format!("{}: {error}", path.display()));
    let found = match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        found => found.map_err(unreadable)?,
    };
    if !found.is_file() {
        let what = if found.is_symlink() {
            "a link, which is not followed"
        } else {
            "not a regular file"
        };
        return Err(Failure::Unreadable(format!("{}: {what}", path.display())));
    }
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    read_at_most(path, limit).map(Some)
}
