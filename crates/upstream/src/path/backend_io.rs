//! The stream to a backend, on which a failed write does not hide an answer.
//!
//! A backend may answer before it has read the request, and close: what is still on its way to
//! it is then answered with a reset (RFC 9112 §9.6). hyper ends a connection at the first write
//! that fails, with the answer unread in the socket. So a failed write waits here until the
//! stream was read to its end.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose writes fail only once it was read to its end.
#[derive(Debug)]
pub(in crate::path) struct BackendIo<S> {
    stream: S,
    /// A write that failed.
    failed: Option<io::Error>,
    is_read: bool,
}

impl<S> BackendIo<S> {
    pub(in crate::path) fn new(stream: S) -> Self {
        Self {
            stream,
            failed: None,
            is_read: false,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> BackendIo<S> {
    /// Pending without a waker while the failure waits: whoever drives the connection reads
    /// from it too, and a connection whose writes fail in this way soon has no more to read.
    fn unless_failed<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.failed.is_none() {
            match ready!(write(Pin::new(&mut self.stream), cx)) {
                Err(error) if !self.is_read && is_the_end(error.kind()) => {
                    self.failed = Some(error);
                }
                outcome => return Poll::Ready(outcome),
            }
            // What was written last may have been answered: the task reads once more.
            cx.waker().wake_by_ref();
        }
        match self.failed.take_if(|_| self.is_read) {
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Pending,
        }
    }
}

/// Errors of a socket that ends in both directions: what has arrived can be read, and then its
/// end.
fn is_the_end(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::TimedOut
    )
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for BackendIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let outcome = ready!(Pin::new(&mut this.stream).poll_read(cx, buffer));
        this.is_read |= outcome.is_err() || buffer.filled().len() == before;
        Poll::Ready(outcome)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for BackendIo<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .unless_failed(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .unless_failed(cx, |stream, cx| stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut()
            .unless_failed(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.failed.is_some() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Every write fails in this way; there is something to read, and then the end.
    struct Broken {
        kind: ErrorKind,
        unread: &'static [u8],
    }

    impl AsyncRead for Broken {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let (now, later) = self.unread.split_at(self.unread.len().min(4));
            buffer.put_slice(now);
            self.unread = later;
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Broken {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(self.kind.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(self.kind.into()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn write(io: &mut BackendIo<Broken>) -> Option<ErrorKind> {
        tokio::select! {
            biased;
            outcome = io.write(b"more") => outcome.err().map(|error| error.kind()),
            () = tokio::task::yield_now() => None,
        }
    }

    #[tokio::test]
    async fn a_failed_write_waits_for_the_end_of_what_arrived() {
        for kind in [
            ErrorKind::BrokenPipe,
            ErrorKind::ConnectionReset,
            ErrorKind::ConnectionAborted,
            ErrorKind::TimedOut,
        ] {
            let unread = b"HTTP/1.1 413";
            let mut io = BackendIo::new(Broken { kind, unread });
            let mut arrived = [0; 4];
            for _ in 0..3 {
                assert_eq!(write(&mut io).await, None, "{kind}");
                io.read_exact(&mut arrived).await.unwrap();
            }
            assert_eq!(&arrived, b" 413");
            assert_eq!(write(&mut io).await, None, "{kind}");
            assert_eq!(io.read(&mut arrived).await.unwrap(), 0);
            assert_eq!(write(&mut io).await, Some(kind));
            assert!(io.shutdown().await.is_ok());
        }
        // Nothing says that such a stream has an end.
        let kind = ErrorKind::InvalidData;
        let mut io = BackendIo::new(Broken { kind, unread: b"x" });
        assert_eq!(write(&mut io).await, Some(kind));
    }
}
