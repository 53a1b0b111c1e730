//! The signal to stop, the signal to stop at once, and the answers under way.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use tokio::sync::{Notify, watch};
use upstream::admission::Client;

/// Requests whose answer has not ended.
#[derive(Debug, Default, Clone)]
pub(crate) struct Running(Arc<Shared>);

/// The last request that ends lowers the count, then reads `stopping`; [`Running::stop`]
/// sets `stopping`, then reads the count: so one of them sees the other.
#[derive(Debug, Default)]
struct Shared {
    count: AtomicUsize,
    stopping: watch::Sender<bool>,
    ended: Notify,
}

impl Running {
    /// Counts a request of `client`. Call it before [`Running::is_stopping`] is read, so that
    /// [`Running::stop`] overlooks none.
    pub(crate) fn begin(&self, client: &Client) -> Ticket {
        self.0.count.fetch_add(1, SeqCst);
        client.begin();
        Ticket(self.clone(), client.clone())
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.0.stopping.borrow()
    }

    /// Resolves when [`Running::is_stopping`] becomes true.
    pub(crate) fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.0.stopping.subscribe();
        async move {
            // An error means that the sender was dropped, and with it all that runs.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }
    }

    /// Makes [`Running::is_stopping`] true; resolves when no request is under way.
    pub(crate) async fn stop(&self) {
        self.0.stopping.send_replace(true);
        while self.0.count.load(SeqCst) > 0 {
            // `notify_one` stores a permit if the last request ends before this line.
            self.0.ended.notified().await;
        }
    }
}

/// One request under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket(Running, Client);

impl Ticket {
    /// Makes the request end with `body`.
    pub(crate) fn with<B>(self, body: B) -> UnderWay<B> {
        UnderWay {
            body,
            _ticket: self,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.1.end();
        let was_last = self.0.0.count.fetch_sub(1, SeqCst) == 1;
        if was_last && self.0.is_stopping() {
            self.0.0.ended.notify_one();
        }
    }
}

/// An answer's body, which is under way until it is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay<B> {
    body: B,
    _ticket: Ticket,
}

impl<B: Body + Unpin> Body for UnderWay<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Counts Ctrl-C, and SIGTERM where the system has it.
#[derive(Debug, Clone)]
pub struct Signals(watch::Receiver<u32>);

impl Signals {
    /// Catches signals from now on.
    pub fn catch() -> Self {
        let (count, seen) = watch::channel(0);
        spawn_counters(&count);
        Self(seen)
    }

    /// Resolves when `times` signals have come.
    pub async fn came(mut self, times: u32) {
        if self.0.wait_for(|count| *count >= times).await.is_err() {
            // No signal can be caught, which the log says.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
fn spawn_counters(count: &watch::Sender<u32>) {
    use tokio::signal::unix::{SignalKind, signal};
    for (name, kind) in [
        ("Ctrl-C", SignalKind::interrupt()),
        ("SIGTERM", SignalKind::terminate()),
    ] {
        let count = count.clone();
        match signal(kind) {
            Ok(mut stream) => {
                tokio::spawn(async move {
                    while stream.recv().await.is_some() {
                        count.send_modify(|count| *count += 1);
                    }
                });
            }
            Err(error) => tracing::error!(%error, "{name} cannot be caught"),
        }
    }
}

#[cfg(not(unix))]
fn spawn_counters(count: &watch::Sender<u32>) {
    let count = count.clone();
    tokio::spawn(async move {
        loop {
            match tokio::signal::ctrl_c().await {
                Ok(()) => count.send_modify(|count| *count += 1),
                Err(error) => {
                    tracing::error!(%error, "Ctrl-C cannot be caught");
                    return;
                }
            }
        }
    });
}
