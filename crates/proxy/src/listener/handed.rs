//! Sockets that the process was started with, in place of those that it would open itself.
//!
//! systemd and other launchers open them, and hold them while the program is replaced: clients
//! that connect meanwhile wait, and are not refused (sd_listen_fds(3)).

use std::io;

use listenfd::ListenFd;
use socket2::SockRef;
use tokio::net::{TcpListener, UnixListener};

use super::{Listener, ListeningSocket};

/// More than anybody has addresses: each costs a system call a client.
const MAX_SOCKETS: usize = 16;

/// Sockets of the launcher, not in use yet.
#[derive(Debug)]
pub struct HandedOver(Vec<Handed>);

#[derive(Debug)]
enum Handed {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// Why they cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NotUsable {
    /// `LISTEN_FDS` is not a number that makes sense.
    #[error("LISTEN_FDS={given:?}: expected a number of sockets, from 1 to {MAX_SOCKETS}")]
    Count {
        /// The variable.
        given: String,
    },
    /// One of them is a file, a datagram socket or a connection, or not open.
    #[error(
        "LISTEN_FDS={count}: descriptor {descriptor} is not a listening stream socket (TCP or Unix)"
    )]
    Kind {
        /// How many were announced.
        count: usize,
        /// Which of them.
        descriptor: usize,
    },
    /// The system refused.
    #[error("the sockets that the launcher opened: {0}")]
    Io(#[from] io::Error),
}

impl HandedOver {
    /// The sockets that the variables `LISTEN_FDS` and `LISTEN_PID` announce to this process,
    /// if any. Removes the variables: it has to be called before threads are started.
    ///
    /// # Errors
    /// If what was announced is not a few listening sockets. A launcher that meant to hand
    /// them over must not find another port in use instead.
    pub fn take() -> Result<Option<Self>, NotUsable> {
        let Ok(given) = std::env::var("LISTEN_FDS") else {
            return Ok(None);
        };
        let for_us = match std::env::var("LISTEN_PID") {
            Ok(process) => process.is_empty() || process == std::process::id().to_string(),
            Err(_) => true,
        };
        if !for_us || given == "0" {
            return Ok(None);
        }
        let is_count = |count: &usize| (1..=MAX_SOCKETS).contains(count);
        let Some(count) = given.parse().ok().filter(is_count) else {
            return Err(NotUsable::Count { given });
        };
        let mut handed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..count {
            let kind = || NotUsable::Kind {
                count,
                // SD_LISTEN_FDS_START
                descriptor: index + 3,
            };
            let socket = if let Ok(Some(tcp)) = handed.take_tcp_listener(index) {
                Handed::Tcp(tcp)
            } else if let Ok(Some(unix)) = handed.take_unix_listener(index) {
                Handed::Unix(unix)
            } else {
                return Err(kind());
            };
            let listens = match &socket {
                Handed::Tcp(tcp) => SockRef::from(tcp).is_listener(),
                Handed::Unix(unix) => SockRef::from(unix).is_listener(),
            };
            // Not every system tells.
            if matches!(listens, Ok(false)) {
                return Err(kind());
            }
            sockets.push(socket);
        }
        Ok(Some(Self(sockets)))
    }

    /// The addresses of those that are TCP sockets.
    #[must_use]
    pub fn addresses(&self) -> Vec<std::net::SocketAddr> {
        let address = |socket: &Handed| match socket {
            Handed::Tcp(tcp) => tcp.local_addr().ok(),
            Handed::Unix(_) => None,
        };
        self.0.iter().filter_map(address).collect()
    }

    /// The path of the first that is a Unix socket and has one.
    #[must_use]
    pub fn path(&self) -> Option<std::path::PathBuf> {
        let path = |socket: &Handed| match socket {
            Handed::Unix(unix) => Some(unix.local_addr().ok()?.as_pathname()?.to_owned()),
            Handed::Tcp(_) => None,
        };
        self.0.iter().find_map(path)
    }

    /// Listens on them. Has to be called in a Tokio runtime.
    ///
    /// # Errors
    /// If the system refuses it.
    pub fn listen(self) -> Result<Listener, NotUsable> {
        let sockets = self.0.into_iter().map(|socket| match socket {
            Handed::Tcp(tcp) => {
                tcp.set_nonblocking(true)?;
                TcpListener::from_std(tcp).map(ListeningSocket::Tcp)
            }
            Handed::Unix(unix) => {
                unix.set_nonblocking(true)?;
                UnixListener::from_std(unix).map(ListeningSocket::HandedUnix)
            }
        });
        Ok(Listener::of(sockets.collect::<io::Result<_>>()?))
    }
}
