//! A Unix socket that only its owner can open (threats.md C3).

use std::io;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// A Unix socket of mode 0600. Dropping it removes its file.
#[derive(Debug)]
pub struct UnixSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Device and inode: by the end another process may have put its socket at `path`.
    file: (u64, u64),
}

impl UnixSocket {
    /// Listens at `path`, and replaces a socket at which no process listens any more.
    ///
    /// # Errors
    /// If another program listens at `path`, if it is another kind of file, or if the
    /// folder cannot be written.
    pub async fn bind(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        // The socket is bound under another name and renamed to `path`. A path longer
        // than a socket's address would then be one that no client can connect to.
        std::os::unix::net::SocketAddr::from_pathname(path)?;
        // Bound in a private folder: at no time can another user open it.
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let private = tempfile::Builder::new()
            .prefix(".vp")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(folder)?;
        let made = private.path().join("s");
        let listener = UnixListener::bind(&made)?;
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o600))?;
        let file = file_at(&made)?;
        // Two processes may start together: exactly one gets the path.
        for _ in 0..MAX_ATTEMPTS {
            match move_to_free(&made, path) {
                Ok(()) => {
                    return Ok(Self {
                        listener,
                        path: path.to_owned(),
                        file,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            set_stale_aside(path, &private.path().join("stale")).await?;
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

/// Another process may take or leave the path between two attempts.
const MAX_ATTEMPTS: usize = 3;

/// Fails if `to` exists.
fn move_to_free(from: &Path, to: &Path) -> io::Result<()> {
    let from = tempfile::TempPath::try_from_path(from)?;
    from.persist_noclobber(to).map_err(|failed| {
        // Dropping the TempPath would remove the file.
        let _ = failed.path.keep();
        failed.error
    })
}

/// Moves the socket at `path` to `aside`, if no process listens at it any more.
async fn set_stale_aside(path: &Path, aside: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    let found = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the file there is not a socket",
        ));
    }
    let found = file_at(path)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "tests whether another program listens here; nothing is written"
    )]
    let other = UnixStream::connect(path).await;
    match other.map_err(|error| error.kind()) {
        Err(io::ErrorKind::ConnectionRefused) => {}
        Err(io::ErrorKind::NotFound) => return Ok(()),
        // A process listens, perhaps with a full queue.
        Ok(_) | Err(io::ErrorKind::WouldBlock) => return Err(io::ErrorKind::AddrInUse.into()),
        // Another user's socket, for example.
        Err(kind) => return Err(kind.into()),
    }
    match std::fs::rename(path, aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        moved => moved?,
    }
    if file_at(aside)? == found {
        return Ok(());
    }
    // Another process has put a live socket here in the meantime: put it back and give up.
    move_to_free(aside, path)?;
    Err(io::ErrorKind::AddrInUse.into())
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let removed = match file_at(&self.path) {
            Ok(file) if file == self.file => std::fs::remove_file(&self.path),
            Ok(_) => Err(io::Error::other("the file is another process's")),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::debug!(%error, "the socket's file was not removed");
        }
    }
}

fn file_at(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}
