//! The signal to stop, the signal to stop at once, and the answers under way.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use tokio::runtime::Builder;
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
#[cfg(windows)]
use tokio::signal::windows::{CtrlC, ctrl_c};
use tokio::sync::{Notify, watch};
use upstream::admission::Client;

/// Requests whose answer has not ended.
#[derive(Debug, Default, Clone)]
pub(crate) struct Running {
    shared: Arc<Shared>,
    /// True once a reload replaced the rules that this is a part of.
    retired: watch::Sender<bool>,
}

/// The last request that ends lowers the count, then reads `stopping`; [`Running::stop`]
/// sets `stopping`, then reads the count: so one of them sees the other.
#[derive(Debug, Default)]
struct Shared {
    count: AtomicUsize,
    ends_soon: AtomicBool,
    stopping: watch::Sender<bool>,
    ended: Notify,
}

impl Running {
    /// Counts a request of `client`. Call it before [`Running::is_stopping`] is read, so that
    /// [`Running::stop`] overlooks none.
    pub(crate) fn begin(&self, client: &Client) -> Ticket {
        self.shared.count.fetch_add(1, SeqCst);
        client.begin();
        Ticket(Arc::clone(&self.shared), client.clone())
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.shared.stopping.borrow()
    }

    /// The same count, for the rules that take the place of these.
    pub(crate) fn next(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            retired: watch::Sender::default(),
        }
    }

    /// A reload replaced these rules.
    pub(crate) fn retire(&self) {
        self.retired.send_replace(true);
    }

    /// Resolves when [`Running::is_stopping`] becomes true, or at a reload.
    pub(crate) fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.shared.stopping.subscribe();
        let mut retired = self.retired.subscribe();
        async move {
            // An error means that the sender was dropped, and with it all that runs.
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => {}
                _ = retired.wait_for(|retired| *retired) => {}
            }
        }
    }

    /// From now on each answer says that its connection ends.
    pub(crate) fn announce_end(&self) {
        self.shared.ends_soon.store(true, SeqCst);
    }

    /// True after [`Running::announce_end`].
    pub(crate) fn ends_soon(&self) -> bool {
        self.shared.ends_soon.load(SeqCst)
    }

    /// Makes [`Running::is_stopping`] true; resolves when no request is under way.
    pub(crate) async fn stop(&self) {
        self.shared.stopping.send_replace(true);
        while self.shared.count.load(SeqCst) > 0 {
            // `notify_one` stores a permit if the last request ends before this line.
            self.shared.ended.notified().await;
        }
    }
}

/// One request under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<Shared>, Client);

impl Ticket {
    /// Makes the request end with `body`.
    pub(crate) fn with<B>(self, body: B) -> UnderWay<B> {
        UnderWay::new(body, self)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.1.end();
        let was_last = self.0.count.fetch_sub(1, SeqCst) == 1;
        if was_last && *self.0.stopping.borrow() {
            self.0.ended.notify_one();
        }
    }
}

/// An answer's body, which is under way until it is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay<B, T = Ticket> {
    body: B,
    _ticket: T,
}

impl<B, T> UnderWay<B, T> {
    /// `ticket` is dropped with the body.
    pub(crate) fn new(body: B, ticket: T) -> Self {
        Self {
            body,
            _ticket: ticket,
        }
    }
}

impl<B: Body + Unpin, T: Unpin> Body for UnderWay<B, T> {
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

/// From the second signal until what still hangs is given up.
const PATIENCE: Duration = Duration::from_secs(1);

impl Signals {
    /// Catches signals from now on.
    ///
    /// If the process still runs a second after the second signal, or at the third, `give_up`
    /// is called, which has to end the process. Signals are heard and `give_up` is called on a
    /// thread of its own: each thread of the caller's runtime may hang.
    pub fn catch(give_up: impl FnOnce() + Send + 'static) -> Self {
        let (count, seen) = watch::channel(0);
        let (caught, are_caught) = mpsc::channel();
        let thread = thread::Builder::new().name("signals".to_owned());
        let started =
            thread.spawn(
                move || match Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime.block_on(count_signals(&count, caught, give_up)),
                    Err(error) => tracing::error!(%error, "signals cannot be caught"),
                },
            );
        if let Err(error) = started {
            tracing::error!(%error, "signals cannot be caught");
        }
        // An error comes at once if they cannot be caught, which the log says.
        let _ = are_caught.recv();
        Self(seen)
    }

    /// True once a signal has come.
    #[must_use]
    pub fn have_come(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Resolves when `times` signals have come.
    pub async fn came(mut self, times: u32) {
        if self.0.wait_for(|count| *count >= times).await.is_err() {
            // No signal can be caught, which the log says.
            std::future::pending::<()>().await;
        }
    }
}

async fn count_signals(
    count: &watch::Sender<u32>,
    caught: mpsc::Sender<()>,
    give_up: impl FnOnce(),
) {
    let Some(mut signals) = Caught::new() else {
        return;
    };
    let _ = caught.send(());
    for number in 1..=2 {
        signals.next().await;
        count.send_replace(number);
    }
    // An error: no third one came.
    let _ = tokio::time::timeout(PATIENCE, signals.next()).await;
    give_up();
}

/// The signals that ask this process to stop.
#[cfg(unix)]
struct Caught {
    interrupt: Signal,
    terminate: Signal,
}

#[cfg(unix)]
impl Caught {
    fn new() -> Option<Self> {
        let catch = |name, kind| {
            let caught = signal(kind);
            caught.inspect_err(|error| tracing::error!(%error, "{name} cannot be caught"))
        };
        Some(Self {
            interrupt: catch("Ctrl-C", SignalKind::interrupt()).ok()?,
            terminate: catch("SIGTERM", SignalKind::terminate()).ok()?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(windows)]
struct Caught(CtrlC);

#[cfg(windows)]
impl Caught {
    fn new() -> Option<Self> {
        let caught =
            ctrl_c().inspect_err(|error| tracing::error!(%error, "Ctrl-C cannot be caught"));
        caught.ok().map(Self)
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}
