//! Where an accepted line is written: into the file of --policy, or into a new file.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::cli::read_files::{self, Failure};

/// A file that may be written.
#[derive(Debug)]
pub(super) enum Target {
    /// There is no file of this name yet.
    New(PathBuf),
    /// The file of --policy, with its text when it was read.
    Own(PathBuf, String),
}

impl Target {
    /// `to`, if it may be written: `own`, which is the name and the text of the file of
    /// --policy, or a file that does not exist.
    pub(super) fn of(to: &Path, own: Option<(&str, &str)>) -> Result<Self, Failure> {
        let Ok(path) = fs::canonicalize(to) else {
            return Ok(Self::New(to.to_owned()));
        };
        match own {
            Some((name, text)) if fs::canonicalize(name).is_ok_and(|own| own == path) => {
                Ok(Self::Own(path, text.to_owned()))
            }
            _ => Err(Failure::Usage(format!(
                "--to {}: the file exists and is not the file of --policy\nhint: name the file of --policy, or a new file",
                to.display()
            ))),
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::New(path) | Self::Own(path, _) => path,
        }
    }

    pub(super) fn write(&self, text: &str) -> Result<(), Failure> {
        let written = match self {
            Self::New(path) => {
                File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()))
            }
            Self::Own(path, read) => {
                if read_files::read(path)? != read.as_bytes() {
                    return Err(Failure::Unreadable(format!(
                        "--to {}: another program changed the file in the meantime; nothing was written",
                        path.display()
                    )));
                }
                replace(path, text)
            }
        };
        written.map_err(|error| {
            Failure::Unreadable(format!("--to {}: {error}", self.path().display()))
        })
    }
}

/// Replaces the file by a rename: it has the old text or the new one, never half of it.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = File::create_new(&beside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        let known = fs::metadata(path)?;
        // Users that could read the policy have to be able to read it afterwards.
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            std::os::unix::fs::fchown(&file, Some(known.uid()), Some(known.gid()))?;
        }
        file.set_permissions(known.permissions())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}
