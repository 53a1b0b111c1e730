//! A client's socket, and how it is closed, which hyper does not do.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};
use upstream::admission::{Client, Hold};
use upstream::idle::IdleTimer;

use crate::client_stream::ClientStream;

/// After an answer to a request that was not read to its end, the rest is read
/// and thrown away, so that a client that writes before it reads gets to see
/// the answer (RFC 9112 §9.6). nginx does the same for 30 s (lingering_time) and
/// 5 s of silence (lingering_timeout); a client on the same machine needs less.
const LINGER: Duration = Duration::from_secs(10);
const LINGER_IDLE: Duration = Duration::from_secs(2);

/// How a socket has to be closed, after the requests on it.
#[derive(Debug, Default)]
pub(super) struct Ending {
    linger: AtomicBool,
    reset: AtomicBool,
}

impl Ending {
    /// A request was answered before it was read.
    pub(super) fn linger(&self) {
        self.linger.store(true, Ordering::Relaxed);
    }

    /// The client takes the connection's end for the answer's end (HTTP/1.0): a connection
    /// whose answer is cut off must not end like one whose answer is complete.
    pub(super) fn reset_if_cut_off(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }
}

/// A client's socket.
#[derive(Debug)]
pub(super) struct ClientIo {
    /// None after the drop.
    stream: Option<ClientStream>,
    /// Held for as long as the socket is open.
    place: Option<Hold>,
    client: Client,
    ending: Arc<Ending>,
    unread: IdleTimer,
    closing: Closing,
}

#[derive(Debug)]
enum Closing {
    NotYet,
    Lingering { until: Instant, silence: IdleTimer },
    Done,
}

impl ClientIo {
    /// Fails a write that makes no progress for `unread`, or waits for as long in all at less
    /// than the least rate: a client that does not read, or a byte now and then, would occupy a
    /// backend for ever.
    pub(super) fn new(
        stream: ClientStream,
        place: Hold,
        client: Client,
        ending: Arc<Ending>,
        unread: Duration,
    ) -> Self {
        Self {
            stream: Some(stream),
            place: Some(place),
            client,
            ending,
            unread: IdleTimer::with_rate(unread, 1),
            closing: Closing::NotYet,
        }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut ClientStream>> {
        let stream = self.stream.as_mut().map(Pin::new);
        stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn progress(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(outcome) => {
                let bytes = *outcome.as_ref().unwrap_or(&0);
                self.unread.progress(bytes);
                self.client.moves(bytes);
                Poll::Ready(outcome)
            }
            Poll::Pending => {
                self.client.stalls();
                self.unread.poll(cx).map(|()| {
                    Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the client does not read",
                    ))
                })
            }
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().stream()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = this.stream()?.poll_write(cx, bytes);
        this.progress(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = this.stream()?.poll_write_vectored(cx, slices);
        this.progress(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        let stream = self.stream.as_ref();
        stream.is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Closing::NotYet = this.closing {
            ready!(this.stream()?.poll_shutdown(cx))?;
            this.closing = if this.ending.linger.load(Ordering::Relaxed) {
                Closing::Lingering {
                    until: Instant::now() + LINGER,
                    silence: IdleTimer::new(LINGER_IDLE),
                }
            } else {
                Closing::Done
            };
        }
        if let (Closing::Lingering { until, silence }, Some(stream)) =
            (&mut this.closing, &mut this.stream)
        {
            let mut rest = [0; 16 << 10];
            while Instant::now() < *until {
                let mut buffer = ReadBuf::new(&mut rest);
                match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(())) if !buffer.filled().is_empty() => silence.reset(),
                    Poll::Ready(_) => break,
                    Poll::Pending => {
                        ready!(silence.poll(cx));
                        break;
                    }
                }
            }
            this.closing = Closing::Done;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for ClientIo {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else {
            return;
        };
        match self.closing {
            Closing::Done => {}
            _ if self.ending.reset.load(Ordering::Relaxed) => {
                stream.reset();
            }
            Closing::NotYet if self.ending.linger.load(Ordering::Relaxed) => {
                if let Ok(runtime) = Handle::try_current() {
                    runtime.spawn(read_rest_and_close(stream, self.place.take()));
                }
            }
            Closing::NotYet | Closing::Lingering { .. } => {}
        }
    }
}

/// If a request asked for an upgrade, hyper does not shut the socket down but leaves it
/// to the upgrade, which never comes. Closing it with unread bytes would be a reset.
async fn read_rest_and_close(mut stream: ClientStream, _place: Option<Hold>) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let read_rest = async {
        let mut rest = vec![0; 16 << 10];
        while let Ok(Ok(1..)) = timeout(LINGER_IDLE, stream.read(&mut rest)).await {}
    };
    let _ = timeout(LINGER, read_rest).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpStream};
    use upstream::admission::{Counts, Pot, What};

    #[tokio::test]
    async fn a_socket_has_its_place_until_it_is_closed() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        #[expect(clippy::disallowed_methods, reason = "the test plays the client")]
        let peer = TcpStream::connect(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let places = Pot::new(What::Connections, 1, 1, Counts::default());
        let client = Client::new(None);
        let place = places.take(&client, 1).unwrap();
        let ending = Arc::new(Ending::default());
        let io = ClientIo::new(
            stream.into(),
            place,
            client,
            Arc::clone(&ending),
            Duration::from_secs(60),
        );
        ending.linger();
        drop(io);
        tokio::task::yield_now().await;
        assert_eq!(places.held(), 1);
        drop(peer);
        let freed = async {
            while places.held() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(timeout(Duration::from_secs(20), freed).await.is_ok());
    }
}
