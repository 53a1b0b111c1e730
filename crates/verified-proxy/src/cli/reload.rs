//! SIGHUP: what files and options say is read again, and counts from then on.
#![cfg(unix)]

use std::io::IsTerminal as _;
use std::net::IpAddr;

use proxy::Reloader;
use proxy::config::Config;
use proxy::shutdown::Signals;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::effective_options::Settings;
use super::listening::spendable;
use super::read_files::Failure;
use super::{serve_again, service_manager};

/// Options that are read at the start only: the process has their sockets, folder and log open.
const FIXED: [&str; 7] = [
    "host",
    "port",
    "listen",
    "metrics-listen",
    "state-dir",
    "log",
    "log-format",
];

/// SIGHUP, caught.
#[derive(Debug)]
pub(super) struct Hangups {
    signal: Signal,
    /// Whether a terminal was there at the start: closing it sends the signal too.
    terminal: bool,
}

impl Hangups {
    /// Catches the signal from now on. None if that is not possible, which the log says.
    pub(super) fn catch() -> Option<Self> {
        match signal(SignalKind::hangup()) {
            Ok(signal) => Some(Self {
                signal,
                terminal: std::io::stdin().is_terminal(),
            }),
            Err(error) => {
                tracing::error!(%error, "SIGHUP cannot be caught");
                None
            }
        }
    }

    /// False if the terminal of the program was closed.
    async fn asks_to_reload(&mut self) -> bool {
        if self.signal.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        !self.terminal || std::io::stdin().is_terminal()
    }
}

/// What a reload is compared with and leaves as it is.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) ips: Vec<IpAddr>,
    pub(super) settings: Settings,
    /// Where it listens, in words.
    pub(super) place: String,
}

/// Reloads at each SIGHUP, one after the other: signals that come during a reload are one more.
/// Uses `stop` if the program's terminal was closed.
pub(super) async fn at_hangups(
    mut hangups: Hangups,
    reloader: Reloader,
    started: Started,
    signals: Signals,
    stop: oneshot::Sender<()>,
) {
    while hangups.asks_to_reload().await {
        if signals.have_come() {
            tracing::warn!("not reloaded: the proxy is stopping");
            continue;
        }
        service_manager::reloading();
        let status = match reload(&reloader, &started).await {
            Ok(options) => {
                tracing::info!(options, "reloaded");
                format!("serving on {}", started.place)
            }
            Err(failure) => {
                tracing::error!("not reloaded, and nothing has changed: {failure}");
                format!(
                    "serving on {} as before; not reloaded: {failure}",
                    started.place
                )
            }
        };
        service_manager::ready(&status);
    }
    tracing::info!("the terminal was closed");
    let _ = stop.send(());
}

/// Gives the options that are no defaults.
async fn reload(reloader: &Reloader, started: &Started) -> Result<String, Failure> {
    // Files are read: a disk may stall.
    let ips = started.ips.clone();
    let read = tokio::task::spawn_blocking(move || read(&ips));
    let (config, settings) = read
        .await
        .map_err(|error| Failure::Unreadable(error.to_string()))??;
    let fixed: Vec<_> = FIXED
        .iter()
        .filter(|option| settings.of_option(option) != started.settings.of_option(option))
        .map(|option| format!("--{option}"))
        .collect();
    if !fixed.is_empty() {
        tracing::warn!(
            "a reload does not change {}: restart the proxy for it",
            fixed.join(", ")
        );
    }
    reloader
        .reload(config)
        .await
        .map_err(|error| Failure::Unreadable(error.to_string()))?;
    Ok(settings.chosen.join("; "))
}

fn read(ips: &[IpAddr]) -> Result<(Config, Settings), Failure> {
    let (args, settings) = serve_again()?;
    let config = args.config()?;
    match spendable(ips, &config.guard, config.api_key.is_some()) {
        Some((what, hint)) => Err(Failure::Usage(format!("{what}\nhint: {hint}"))),
        None => Ok((config, settings)),
    }
}
