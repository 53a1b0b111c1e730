//! Where clients come in: a TCP port, or a Unix socket that only its owner can
//! open (threats.md C3).

use std::io;
use std::net::IpAddr;
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};

/// A place that clients connect to.
#[derive(Debug)]
pub enum Listener {
    /// A port.
    Tcp(TcpListener),
    /// A file.
    #[cfg(unix)]
    Unix(UnixSocket),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

#[cfg(unix)]
impl From<UnixSocket> for Listener {
    fn from(listener: UnixSocket) -> Self {
        Self::Unix(listener)
    }
}

impl Listener {
    /// The next client.
    pub(crate) async fn accept(&self) -> io::Result<ClientStream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                if let Err(error) = stream.set_nodelay(true) {
                    // It is gone already, which is no trouble of the listener's.
                    tracing::debug!(%error, "client connection without TCP_NODELAY");
                }
                Ok(ClientStream::Tcp(stream))
            }
            #[cfg(unix)]
            Self::Unix(socket) => {
                let (stream, _) = socket.listener.accept().await?;
                Ok(ClientStream::Unix(stream))
            }
        }
    }
}

/// A Unix socket of mode 0600. Its file goes when this is dropped.
#[cfg(unix)]
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: what lies at `path` may be a successor's by the end.
    file: (u64, u64),
}

#[cfg(unix)]
impl UnixSocket {
    /// Listens at `path`, in the place of a socket that nobody listens at any
    /// more.
    ///
    /// # Errors
    /// If another program listens there, something else lies there, or the folder
    /// cannot be written.
    pub async fn bind(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        // The file is renamed to this, which may be longer than a socket's name;
        // clients cannot connect to that.
        std::os::unix::net::SocketAddr::from_pathname(path)?;
        // Made where nobody else can look, so that it is never open to others.
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
        // Of two that start together one gets the place; it is never taken twice.
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

/// Others may come in between, a few times.
#[cfg(unix)]
const MAX_ATTEMPTS: usize = 3;

/// Fails if something lies at `to`.
#[cfg(unix)]
fn move_to_free(from: &Path, to: &Path) -> io::Result<()> {
    let from = tempfile::TempPath::try_from_path(from)?;
    from.persist_noclobber(to).map_err(|failed| {
        // It would be removed when it is dropped.
        let _ = failed.path.keep();
        failed.error
    })
}

/// Moves the socket at `path`, at which nobody listens any more, to `aside`.
#[cfg(unix)]
async fn set_stale_aside(path: &Path, aside: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    let found = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "something that is no socket lies there",
        ));
    }
    let found = file_at(path)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "whether another program listens here; nothing is written"
    )]
    let other = UnixStream::connect(path).await;
    match other.map_err(|error| error.kind()) {
        Err(io::ErrorKind::ConnectionRefused) => {}
        Err(io::ErrorKind::NotFound) => return Ok(()),
        // Somebody listens, perhaps with a full queue.
        Ok(_) | Err(io::ErrorKind::WouldBlock) => return Err(io::ErrorKind::AddrInUse.into()),
        // Another user's, say.
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

#[cfg(unix)]
impl Drop for UnixSocket {
    fn drop(&mut self) {
        let removed = match file_at(&self.path) {
            Ok(file) if file == self.file => std::fs::remove_file(&self.path),
            Ok(_) => Err(io::Error::other("it is another one's")),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::debug!(%error, "the socket's file was not removed");
        }
    }
}

#[cfg(unix)]
fn file_at(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// A client's connection.
#[derive(Debug)]
pub(crate) enum ClientStream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl ClientStream {
    /// The address that the client connected to.
    pub(crate) fn local_ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok().map(|address| address.ip()),
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }

    /// Ends with a reset in place of the usual end, where there is such a thing.
    pub(crate) fn reset(&self) {
        match self {
            Self::Tcp(stream) => {
                let _ = stream.set_zero_linger();
            }
            #[cfg(unix)]
            Self::Unix(_) => {}
        }
    }
}

/// The same for each kind.
macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            ClientStream::Tcp($inner) => $call,
            #[cfg(unix)]
            ClientStream::Unix($inner) => $call,
        }
    };
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}
