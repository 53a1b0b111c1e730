//! The signal to stop, the one to stop at once, and what is under way meanwhile.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use tokio::sync::watch;

/// Requests whose answer has not ended.
#[derive(Debug, Default)]
pub(crate) struct Running {
    count: Arc<watch::Sender<usize>>,
    stopping: watch::Sender<bool>,
}

impl Running {
    /// A request has come. Counted before it is asked whether it may go on, so
    /// [`Running::stop`] overlooks none.
    pub(crate) fn begin(&self) -> Ticket {
        self.count.send_modify(|count| *count += 1);
        Ticket(Arc::clone(&self.count))
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Resolves when [`Running::is_stopping`] becomes true.
    pub(crate) fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.stopping.subscribe();
        async move {
            // An error: the sender is gone, and so is all that runs.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }
    }

    /// From now on [`Running::is_stopping`]; resolves when nothing is under way.
    pub(crate) async fn stop(&self) {
        self.stopping.send_replace(true);
        // The sender is this value's own, so it cannot be gone.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// One request under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<watch::Sender<usize>>);

impl Ticket {
    /// `body`, with which it ends.
    pub(crate) fn with<B>(self, body: B) -> UnderWay<B> {
        UnderWay {
            body,
            _ticket: self,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
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

/// Counts Ctrl-C, and where the system has it SIGTERM.
#[derive(Debug, Clone)]
pub(crate) struct Signals(watch::Receiver<u32>);

impl Signals {
    /// Catches signals from now on.
    pub(crate) fn catch() -> Self {
        let (count, seen) = watch::channel(0);
        spawn_counters(&count);
        Self(seen)
    }

    /// Resolves when `times` signals have come.
    pub(crate) async fn came(mut self, times: u32) {
        if self.0.wait_for(|count| *count >= times).await.is_err() {
            // Nothing can be caught; it has been said.
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
