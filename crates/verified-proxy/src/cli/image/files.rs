//! The files of a release, from a folder that may come from anywhere.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use attest::image::FileList;

use super::super::read_files::Failure;

/// The list alone, to know which files it names.
pub(super) fn list(folder: &Path) -> Result<Vec<u8>, Failure> {
    let list = regular(&folder.join(FileList::NAME), FileList::LIMIT)?;
    list.ok_or_else(|| {
        Failure::Unreadable(format!(
            "{}: no such file\nhint: expected the folder of an unpacked release, such as dstack-nvidia-0.5.11",
            folder.join(FileList::NAME).display()
        ))
    })
}

/// The files that the list names, as far as they are there.
pub(super) fn listed(folder: &Path, list: &FileList) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut files = BTreeMap::new();
    for (name, limit) in list.names() {
        if let Some(content) = regular(&folder.join(name), limit)? {
            files.insert(name.to_owned(), content);
        }
    }
    Ok(files)
}

/// A file of at most `limit` bytes; none if there is none. Links are not followed: an
/// archive can have one that leads out of its folder, and a pipe would not end.
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
            "no regular file"
        };
        return Err(Failure::Unreadable(format!("{}: {what}", path.display())));
    }
    let file = File::open(path).map_err(unreadable)?;
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    let mut content = Vec::new();
    file.take(most.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(unreadable)?;
    if content.len() > limit {
        return Err(Failure::Unreadable(format!(
            "{}: more than {limit} bytes",
            path.display()
        )));
    }
    Ok(Some(content))
}
