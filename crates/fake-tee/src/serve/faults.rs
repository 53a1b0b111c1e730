//! Faults of the way between client and backend: a connection is cut or stalls after
//! an exact number of bytes, counted on TCP (so handshake and TLS records count) or in
//! the plaintext above TLS.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::lock;
use crate::Error;

/// After how many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The backend sent so many; the client gets exactly these.
    Sent(u64),
    /// The client sent so many; the backend reads these, no more, and answers nothing after.
    Received(u64),
}

/// What happens then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// FIN, without TLS's close_notify.
    Close,
    /// RST.
    Reset,
    /// Nothing, for as long as the client stays.
    Stall,
}

/// The fate of one connection.
///
/// As text: `none`, or `tcp-sent=N:ACT`, `tcp-received=N:ACT`, `plain-sent=N:ACT`,
/// `plain-received=N:ACT` with `close`, `reset` or `stall` as ACT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Left alone.
    #[default]
    None,
    /// Counted in bytes of the TCP stream.
    Tcp(Point, Act),
    /// Counted in plaintext bytes above TLS.
    Plain(Point, Act),
}

impl FromStr for Fault {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::Argument(format!(
                "\"{text}\" is no fault: expected none or \
                 tcp-sent|tcp-received|plain-sent|plain-received=N:close|reset|stall"
            ))
        };
        if text == "none" {
            return Ok(Self::None);
        }
        let (place, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (count, act) = rest.split_once(':').ok_or_else(wrong)?;
        let count = count.parse().map_err(|_| wrong())?;
        let act = match act {
            "close" => Act::Close,
            "reset" => Act::Reset,
            "stall" => Act::Stall,
            _ => return Err(wrong()),
        };
        Ok(match place {
            "tcp-sent" => Self::Tcp(Point::Sent(count), act),
            "tcp-received" => Self::Tcp(Point::Received(count), act),
            "plain-sent" => Self::Plain(Point::Sent(count), act),
            "plain-received" => Self::Plain(Point::Received(count), act),
            _ => return Err(wrong()),
        })
    }
}

type Always = Arc<dyn Fn(u64) -> Fault + Send + Sync>;

#[derive(Default)]
struct Ordered {
    queue: VecDeque<Fault>,
    always: Option<Always>,
    index: u64,
}

/// What connections to come will suffer.
#[derive(Default)]
pub(super) struct Plan(Mutex<Ordered>);

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Plan").field(&lock(&self.0).queue).finish()
    }
}

impl Plan {
    pub(super) fn queue(&self, faults: impl IntoIterator<Item = Fault>) {
        let mut plan = lock(&self.0);
        plan.queue = faults.into_iter().collect();
        plan.always = None;
    }

    pub(super) fn always(&self, fault: Always) {
        *lock(&self.0) = Ordered {
            always: Some(fault),
            ..Ordered::default()
        };
    }

    /// The fate of the next connection.
    pub(super) fn next(&self) -> Fault {
        let mut plan = lock(&self.0);
        if let Some(fault) = plan.queue.pop_front() {
            return fault;
        }
        let Some(always) = plan.always.clone() else {
            return Fault::None;
        };
        let index = plan.index;
        plan.index += 1;
        // A closure may ask the plan's owner something: not under the lock.
        drop(plan);
        always(index)
    }
}

/// Bytes that went through one layer, and where it ends.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    most_sent: u64,
    most_received: u64,
    reached: Arc<Notify>,
}

impl Meter {
    pub(super) fn new(point: Option<Point>, reached: Arc<Notify>) -> Arc<Self> {
        let (most_sent, most_received) = match point {
            None => (u64::MAX, u64::MAX),
            Some(Point::Sent(count)) => (count, u64::MAX),
            Some(Point::Received(count)) => (u64::MAX, count),
        };
        Arc::new(Self {
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            most_sent,
            most_received,
            reached,
        })
    }

    fn room_to_send(&self) -> u64 {
        self.most_sent.saturating_sub(self.sent.load(Relaxed))
    }

    fn room_to_receive(&self) -> u64 {
        self.most_received
            .saturating_sub(self.received.load(Relaxed))
    }

    fn is_over(&self) -> bool {
        self.room_to_send() == 0 || self.room_to_receive() == 0
    }
}

/// A stream with a [`Meter`].
///
/// Once a limit is reached it neither reads nor writes; whoever waits for the
/// [`Notify`] drops it and deals with the socket.
#[derive(Debug)]
pub(super) struct Metered<S> {
    pub(super) stream: S,
    pub(super) meter: Arc<Meter>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.meter.is_over() {
            ready!(self.poll_over(context))?;
        }
        let room = usize::try_from(self.meter.room_to_receive()).unwrap_or(usize::MAX);
        let got = if room >= buffer.remaining() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
            buffer.filled().len() - before
        } else {
            let mut part = buffer.take(room);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
            let new = part.filled().to_vec();
            buffer.put_slice(&new);
            new.len()
        };
        self.meter.received.fetch_add(got as u64, Relaxed);
        if self.meter.room_to_receive() == 0 {
            self.meter.reached.notify_one();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Metered<S> {
    /// All of the last bytes must be on their way before the connection ends.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.meter.room_to_receive() > 0 {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        }
        self.meter.reached.notify_one();
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let room = usize::try_from(self.meter.room_to_send()).unwrap_or(usize::MAX);
        if self.meter.is_over() {
            ready!(self.poll_over(context))?;
        }
        let part = data.get(..room).unwrap_or(data);
        let sent = ready!(Pin::new(&mut self.stream).poll_write(context, part))?;
        self.meter.sent.fetch_add(sent as u64, Relaxed);
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.meter.most_sent == u64::MAX && self.meter.room_to_receive() > 0 {
            let sent = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
            self.meter.sent.fetch_add(sent as u64, Relaxed);
            return Poll::Ready(Ok(sent));
        }
        let first = slices.iter().find(|slice| !slice.is_empty());
        self.poll_write(context, first.map_or(&[], |slice| slice))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.meter.is_over() {
            ready!(self.poll_over(context))?;
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.meter.is_over() {
            ready!(self.poll_over(context))?;
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A socket that outlives the TLS stream on it, so that a fault can end it.
#[derive(Debug, Clone)]
pub(super) struct Socket(pub(super) Arc<TcpStream>);

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Socket {
    fn poll_send(
        &self,
        context: &mut Context<'_>,
        send: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match send(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, |stream| stream.try_write(data))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The task that owns the connection sends the FIN, after all else is dropped.
        Poll::Ready(Ok(()))
    }
}

/// How long a closed connection still reads: closing a socket with unread bytes
/// sends RST, which can overtake what the client has not read.
const LINGER: Duration = Duration::from_millis(300);
/// A stalled connection looks this often whether its client left.
const STALL_LOOK: Duration = Duration::from_millis(50);

/// Ends a connection.
pub(super) async fn end(socket: Arc<TcpStream>, act: Act) {
    match act {
        Act::Reset => {
            let _ = socket.set_zero_linger();
        }
        Act::Close => {
            let Some(mut stream) = Arc::into_inner(socket) else {
                return;
            };
            let _ = stream.shutdown().await;
            let mut unread = [0; 4096];
            let drain = async {
                loop {
                    if stream.readable().await.is_err() {
                        return;
                    }
                    match stream.try_read(&mut unread) {
                        Ok(0) => return,
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(_) => return,
                    }
                }
            };
            let _ = tokio::time::timeout(LINGER, drain).await;
        }
        Act::Stall => loop {
            match socket.ready(Interest::READABLE | Interest::WRITABLE).await {
                Ok(ready) if !ready.is_read_closed() => sleep(STALL_LOOK).await,
                _ => return,
            }
        },
    }
}
