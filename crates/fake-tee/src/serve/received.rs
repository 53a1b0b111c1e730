//! Every byte that the backend got after TLS decryption, connection by connection.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::lock;

/// Kept of one connection; a test's largest upload fits.
const MAX_BYTES: usize = 32 << 20;
/// Connections kept; the oldest go first.
const MAX_KEPT: usize = 4096;

/// What one connection brought.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// Number of the connection, from 1 on, in the order of TLS handshakes.
    pub id: u64,
    /// The decrypted bytes.
    pub bytes: Vec<u8>,
    /// Whether more came than is kept.
    pub truncated: bool,
    /// `GET /v1/models HTTP/1.1`, one a request.
    pub request_lines: Vec<String>,
}

pub(super) type Shared = Arc<Mutex<Connection>>;

#[derive(Debug, Default)]
pub(super) struct Received(Mutex<(u64, VecDeque<Shared>)>);

impl Received {
    /// A new connection's record.
    pub(super) fn open(&self) -> Shared {
        let mut all = lock(&self.0);
        all.0 += 1;
        let record = Arc::new(Mutex::new(Connection {
            id: all.0,
            ..Connection::default()
        }));
        if all.1.len() >= MAX_KEPT {
            all.1.pop_front();
        }
        all.1.push_back(record.clone());
        record
    }

    pub(super) fn all(&self) -> Vec<Connection> {
        let records: Vec<Shared> = lock(&self.0).1.iter().cloned().collect();
        records.iter().map(|record| lock(record).clone()).collect()
    }

    pub(super) fn clear(&self) {
        // Open connections are kept, emptied: what comes later still counts.
        lock(&self.0).1.retain(|record| {
            let mut connection = lock(record);
            connection.bytes.clear();
            connection.request_lines.clear();
            connection.truncated = false;
            Arc::strong_count(record) > 1
        });
    }
}

/// A stream that notes what is read from it.
#[derive(Debug)]
pub(super) struct Recorded<S> {
    pub(super) stream: S,
    pub(super) record: Shared,
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
        if !new.is_empty() {
            let mut record = lock(&self.record);
            let room = MAX_BYTES.saturating_sub(record.bytes.len());
            record.truncated |= new.len() > room;
            record.bytes.extend(new.iter().take(room));
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

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
