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
        use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
        // The file gets this name later, which a socket is not limited in by then;
        // clients are.
        std::os::unix::net::SocketAddr::from_pathname(path)?;
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(found) if !found.file_type().is_socket() => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "something that is no socket lies there",
                ));
            }
            Ok(_) => {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "whether another program listens here; nothing is written"
                )]
                let other = UnixStream::connect(path).await;
                match other.map_err(|error| error.kind()) {
                    Err(io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {}
                    // Somebody listens whose queue is full.
                    Ok(_) | Err(io::ErrorKind::WouldBlock) => {
                        return Err(io::ErrorKind::AddrInUse.into());
                    }
                    // Another user's, say.
                    Err(kind) => return Err(kind.into()),
                }
            }
        }
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
        std::fs::rename(&made, path)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            file,
        })
    }
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
