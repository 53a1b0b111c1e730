//! The signal to stop, and the one to stop at once.

use tokio::sync::watch;

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
