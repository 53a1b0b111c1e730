//! A client's socket. It can be read, written and watched at the same time.

use std::io;
use std::net::{IpAddr, Shutdown};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt as _;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

/// A client's socket. Clones are the same one; it is closed with the last of them.
#[derive(Debug, Clone)]
pub(crate) struct ClientStream(Arc<Socket>);

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl From<TcpStream> for ClientStream {
    fn from(stream: TcpStream) -> Self {
        Self(Arc::new(Socket::Tcp(stream)))
    }
}

#[cfg(unix)]
impl From<UnixStream> for ClientStream {
    fn from(stream: UnixStream) -> Self {
        Self(Arc::new(Socket::Unix(stream)))
    }
}

/// Calls a method of the socket inside.
macro_rules! of {
    ($stream:expr, $socket:ident => $call:expr) => {
        match &*$stream.0 {
            Socket::Tcp($socket) => $call,
            #[cfg(unix)]
            Socket::Unix($socket) => $call,
        }
    };
}

impl ClientStream {
    /// The address that the client connected to.
    pub(crate) fn local_ip(&self) -> Option<IpAddr> {
        match &*self.0 {
            Socket::Tcp(stream) => stream.local_addr().ok().map(|address| address.ip()),
            #[cfg(unix)]
            Socket::Unix(_) => None,
        }
    }

    /// The client's address.
    pub(crate) fn peer_ip(&self) -> Option<IpAddr> {
        match &*self.0 {
            Socket::Tcp(stream) => stream.peer_addr().ok().map(|address| address.ip()),
            #[cfg(unix)]
            Socket::Unix(_) => None,
        }
    }

    /// True if the client has closed the connection, or the half of it that it writes to. Bytes
    /// that lie unread before the end do not hide it.
    pub(crate) fn is_closed_by_client(&self) -> bool {
        // The state that the runtime has seen last; no system call.
        let ready = of!(self, socket => socket.ready(Interest::READABLE).now_or_never());
        match ready {
            Some(Ok(ready)) => ready.is_read_closed(),
            Some(Err(_)) => true,
            None => false,
        }
    }

    /// Ends with a reset instead of the usual end, where there is such a thing.
    pub(crate) fn reset(&self) {
        match &*self.0 {
            Socket::Tcp(stream) => {
                let _ = stream.set_zero_linger();
            }
            #[cfg(unix)]
            Socket::Unix(_) => {}
        }
    }

    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(of!(self, socket => socket.poll_write_ready(cx)))?;
            match write() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(of!(self, socket => socket.poll_read_ready(cx)))?;
            match of!(self, socket => socket.try_read_buf(buffer)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(drop)),
            }
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, || of!(self, socket => socket.try_write(bytes)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(
            cx,
            || of!(self, socket => socket.try_write_vectored(slices)),
        )
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(of!(self, socket => SockRef::from(socket).shutdown(Shutdown::Write)))
    }
}
