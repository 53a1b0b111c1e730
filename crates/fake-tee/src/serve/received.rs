//! What the backend got after TLS decryption, connection by connection.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::faults::Meter;
use super::lock;
use crate::Error;

/// Kept of one connection; a test's largest upload fits.
const MAX_BYTES: usize = 32 << 20;
/// Kept of all connections together.
const MAX_ALL_BYTES: usize = 1 << 30;
/// Connections kept; the oldest go first.
const MAX_KEPT: usize = 4096;
/// Requests kept of one connection: a run of 100,000 on a single one fits.
const MAX_REQUESTS: usize = 1 << 17;

/// How much is kept of what is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Record {
    /// Every byte, and a record of each request.
    #[default]
    Full,
    /// A record of each request, without its bytes.
    Heads,
    /// Nothing; no answer is signed either. For measurements.
    Off,
}

impl FromStr for Record {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "full" => Ok(Self::Full),
            "heads" => Ok(Self::Heads),
            "off" => Ok(Self::Off),
            _ => Err(Error::Argument(format!(
                "\"{text}\": expected full, heads or off"
            ))),
        }
    }
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// `GET /v1/models HTTP/1.1`.
    pub line: String,
    /// When its head was complete.
    pub at: SystemTime,
    /// Bytes of its body that were read, without any framing.
    pub body_len: u64,
    /// SHA-256 of these; of nothing until the body is complete.
    pub body_sha256: [u8; 32],
    /// Whether the body came to its end. A body that the answer did not wait for does not.
    pub complete: bool,
}

/// What one connection brought.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Number of the connection, from 1 on, in the order of TLS handshakes.
    pub id: u64,
    /// The instance that it reached, from 0 on.
    pub instance: usize,
    /// SHA-256 of the SubjectPublicKeyInfo of the key that its handshake used.
    pub spki_sha256: [u8; 32],
    /// When its handshake was complete.
    pub opened: SystemTime,
    /// When it ended.
    pub closed: Option<SystemTime>,
    /// The decrypted bytes.
    pub bytes: Vec<u8>,
    /// Whether more came than is kept.
    pub truncated: bool,
    /// `GET /v1/models HTTP/1.1`, one a request.
    pub request_lines: Vec<String>,
    /// The requests, in the order of their heads.
    pub requests: Vec<Received>,
    /// Bytes so far (sent by the backend, received from the client) on TCP.
    pub tcp_bytes: (u64, u64),
    /// The same in plaintext.
    pub plain_bytes: (u64, u64),
}

/// The record of an open connection.
#[derive(Debug)]
pub(super) struct Kept {
    connection: Mutex<Connection>,
    /// Requests that were forgotten: the number of the first that is kept.
    forgotten: AtomicUsize,
    tcp: Arc<Meter>,
    plain: Arc<Meter>,
    all_bytes: Arc<AtomicUsize>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all_bytes
            .fetch_sub(lock(&self.connection).bytes.len(), Relaxed);
    }
}

impl Kept {
    fn seen(&self) -> Connection {
        let count = |meter: &Meter| (meter.sent.load(Relaxed), meter.received.load(Relaxed));
        let mut connection = lock(&self.connection).clone();
        connection.tcp_bytes = count(&self.tcp);
        connection.plain_bytes = count(&self.plain);
        connection
    }

    pub(super) fn add_bytes(&self, new: &[u8]) {
        let mut connection = lock(&self.connection);
        let all = MAX_ALL_BYTES.saturating_sub(self.all_bytes.load(Relaxed));
        let room = MAX_BYTES.saturating_sub(connection.bytes.len()).min(all);
        connection.truncated |= new.len() > room;
        let kept = new.get(..room).unwrap_or(new);
        connection.bytes.extend_from_slice(kept);
        self.all_bytes.fetch_add(kept.len(), Relaxed);
    }

    /// Notes a head; the number is for [`Kept::body`].
    pub(super) fn head(&self, line: String) -> Option<usize> {
        let mut connection = lock(&self.connection);
        if connection.requests.len() >= MAX_REQUESTS {
            connection.truncated = true;
            return None;
        }
        connection.request_lines.push(line.clone());
        connection.requests.push(Received {
            line,
            at: SystemTime::now(),
            body_len: 0,
            body_sha256: [0; 32],
            complete: false,
        });
        Some(self.forgotten.load(Relaxed) + connection.requests.len() - 1)
    }

    pub(super) fn body(&self, number: usize, len: u64, sha256: Option<[u8; 32]>) {
        let mut connection = lock(&self.connection);
        let kept = number.checked_sub(self.forgotten.load(Relaxed));
        if let Some(request) = kept.and_then(|kept| connection.requests.get_mut(kept)) {
            request.body_len = len;
            request.complete = sha256.is_some();
            request.body_sha256 = sha256.unwrap_or_default();
        }
    }

    pub(super) fn close(&self) {
        lock(&self.connection).closed = Some(SystemTime::now());
    }
}

#[derive(Debug, Default)]
pub(super) struct Records {
    kept: Mutex<(u64, VecDeque<Arc<Kept>>)>,
    all_bytes: Arc<AtomicUsize>,
}

impl Records {
    /// A new connection's record.
    pub(super) fn open(
        &self,
        instance: usize,
        spki_sha256: [u8; 32],
        tcp: Arc<Meter>,
        plain: Arc<Meter>,
    ) -> Arc<Kept> {
        let mut all = lock(&self.kept);
        all.0 += 1;
        let record = Arc::new(Kept {
            connection: Mutex::new(Connection {
                id: all.0,
                instance,
                spki_sha256,
                opened: SystemTime::now(),
                closed: None,
                bytes: Vec::new(),
                truncated: false,
                request_lines: Vec::new(),
                requests: Vec::new(),
                tcp_bytes: (0, 0),
                plain_bytes: (0, 0),
            }),
            forgotten: AtomicUsize::new(0),
            tcp,
            plain,
            all_bytes: self.all_bytes.clone(),
        });
        if all.1.len() >= MAX_KEPT {
            all.1.pop_front();
        }
        all.1.push_back(record.clone());
        record
    }

    pub(super) fn all(&self) -> Vec<Connection> {
        let records: Vec<_> = lock(&self.kept).1.iter().cloned().collect();
        records.iter().map(|record| record.seen()).collect()
    }

    pub(super) fn clear(&self) {
        // Open connections are kept, emptied: what comes later still counts.
        lock(&self.kept).1.retain(|record| {
            let mut connection = lock(&record.connection);
            self.all_bytes.fetch_sub(connection.bytes.len(), Relaxed);
            connection.bytes.clear();
            connection.request_lines.clear();
            record
                .forgotten
                .fetch_add(connection.requests.len(), Relaxed);
            connection.requests.clear();
            connection.truncated = false;
            connection.closed.is_none()
        });
    }
}

/// A stream that notes what is read from it.
#[derive(Debug)]
pub(super) struct Recorded<S> {
    pub(super) stream: S,
    /// `None` keeps no bytes.
    pub(super) record: Option<Arc<Kept>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Recorded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let new = buffer.filled().get(before..).unwrap_or_default();
        if let Some(record) = &self.record
            && !new.is_empty()
        {
            record.add_bytes(new);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recorded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
