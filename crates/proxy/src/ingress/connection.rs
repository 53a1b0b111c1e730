//! The task of one client's connection, and what ends it beside the client.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};
use upstream::admission::Client;

use crate::client_stream::ClientStream;

/// How often a client with a request under way is looked at. hyper itself notices the end of a
/// connection only when it reads, which it does not while bytes lie unread that it has no use
/// for yet: the rest of a body, a line end behind it (RFC 9112 §2.2), the next request.
const LOOK: Duration = Duration::from_millis(250);

/// Drives `inner`, hyper's connection. Ends it, and with it the request under way, when the
/// client has left or has to make room.
///
/// A client that closes the half of the connection that it writes to has left, as for hyper and
/// nginx: the kernel reports both alike.
pub(super) struct Connection<C> {
    inner: C,
    client: Client,
    stream: ClientStream,
    /// Runs from the first wait of a request to the next look.
    look: Option<Pin<Box<Sleep>>>,
    is_armed: bool,
}

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum End<T> {
    /// By itself.
    Inner(T),
    Left,
    MadeRoom,
}

impl<C> Connection<C> {
    pub(super) fn new(inner: C, client: Client, stream: ClientStream) -> Self {
        Self {
            inner,
            client,
            stream,
            look: None,
            is_armed: false,
        }
    }

    /// Ready when a client whose request is under way has left.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if !self.is_armed && !self.client.is_served() {
                return Poll::Pending;
            }
            let look = self.look.get_or_insert_with(|| Box::pin(sleep(LOOK)));
            if !self.is_armed {
                look.as_mut().reset(tokio::time::Instant::now() + LOOK);
                self.is_armed = true;
            }
            ready!(look.as_mut().poll(cx));
            self.is_armed = false;
            if self.client.is_served() && self.stream.is_closed_by_client() {
                return Poll::Ready(());
            }
        }
    }
}

impl<C: Future + Unpin> Future for Connection<C> {
    type Output = End<C::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Poll::Ready(ended) = Pin::new(&mut this.inner).poll(cx) {
            return Poll::Ready(End::Inner(ended));
        }
        this.client.wake_on_closing(cx.waker());
        if this.client.is_closing() {
            return Poll::Ready(End::MadeRoom);
        }
        this.poll_left(cx).map(|()| End::Left)
    }
}

impl<C> fmt::Debug for Connection<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection(..)")
    }
}
