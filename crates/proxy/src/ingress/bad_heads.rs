//! Answers to heads that hyper refuses. It writes a status without a body by itself, and no
//! service sees the request; here its answer gets the body, code and hint that all others have.
//!
//! hyper writes either an answer to a request that it handed over or such a refusal, one after
//! the other. So what it writes while no request is under way is a refusal.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use upstream::metrics::Metrics;

use super::client_io::Ending;
use crate::respond::{self, BadHead, Failure};

/// Requests of one connection that hyper handed over.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Their answers have not ended.
    open: AtomicUsize,
    /// Part of an answer may still be in hyper's buffer.
    busy: AtomicBool,
}

/// One request, until it is dropped with the body of its answer.
#[derive(Debug)]
pub(super) struct Turn(Arc<Turns>);

impl Turns {
    pub(super) fn begin(self: &Arc<Self>) -> Turn {
        self.open.fetch_add(1, Relaxed);
        self.busy.store(true, Relaxed);
        Turn(Arc::clone(self))
    }

    /// hyper has written all that it had.
    fn flushed(&self) {
        if self.open.load(Relaxed) == 0 {
            self.busy.store(false, Relaxed);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// A client's socket, as hyper sees it.
#[derive(Debug)]
pub(super) struct BadHeads<I> {
    io: I,
    turns: Arc<Turns>,
    ending: Arc<Ending>,
    metrics: Arc<Metrics>,
    /// What is still to be written in place of hyper's refusal.
    refusal: Option<Bytes>,
}

impl<I: AsyncWrite + Unpin> BadHeads<I> {
    pub(super) fn new(
        io: I,
        turns: Arc<Turns>,
        ending: Arc<Ending>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            io,
            turns,
            ending,
            metrics,
            refusal: None,
        }
    }

    /// Writes the whole answer, if `theirs` is a refusal of hyper's.
    fn poll_refuse(&mut self, cx: &mut Context<'_>, theirs: &[u8]) -> Poll<Option<io::Result<()>>> {
        if self.turns.busy.load(Relaxed) {
            return Poll::Ready(None);
        }
        let rest = match &mut self.refusal {
            Some(rest) => rest,
            None => {
                let Some(head) = refused(theirs) else {
                    return Poll::Ready(None);
                };
                // The client may still be sending the head.
                self.ending.linger();
                let answer = respond::written(&Failure::Head(head), &self.metrics);
                self.refusal.insert(answer.into())
            }
        };
        while !rest.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest)) {
                Ok(0) => return Poll::Ready(Some(Err(io::ErrorKind::WriteZero.into()))),
                Ok(count) => rest.advance(count),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        Poll::Ready(Some(Ok(())))
    }
}

/// What hyper refuses with these bytes.
fn refused(head: &[u8]) -> Option<BadHead> {
    let status = head.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    match StatusCode::from_bytes(status).ok()? {
        StatusCode::BAD_REQUEST => Some(BadHead::Malformed),
        StatusCode::URI_TOO_LONG => Some(BadHead::TargetTooLong),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Some(BadHead::TooLarge),
        _ => None,
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for BadHeads<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for BadHeads<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match ready!(self.poll_refuse(cx, bytes)) {
            Some(refused) => Poll::Ready(refused.map(|()| bytes.len())),
            None => Pin::new(&mut self.io).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // The head is in one piece.
        let first = slices.iter().find(|slice| !slice.is_empty());
        match ready!(self.poll_refuse(cx, first.map_or(&[], |slice| &**slice))) {
            Some(refused) => {
                let all = slices.iter().map(|slice| slice.len()).sum();
                Poll::Ready(refused.map(|()| all))
            }
            None => Pin::new(&mut self.io).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when its own buffer is empty.
        self.turns.flushed();
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attest::{Policy, TrustAnchors};
    use sources::webpki::WebPki;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn only_a_write_without_a_request_is_a_refusal() {
        const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
        let (ours, mut theirs) = tokio::io::duplex(64);
        let turns = Arc::new(Turns::default());
        let (policy, anchors) = (Policy::hardware(), TrustAnchors::intel());
        let metrics = Metrics::new(
            &policy,
            &anchors,
            WebPki::Require,
            Default::default(),
            Default::default(),
        );
        let ending = Arc::new(Ending::default());
        let mut io = BadHeads::new(ours, Arc::clone(&turns), ending, metrics);
        let write = tokio::spawn(async move {
            // An answer with the same bytes, in whose middle hyper flushes; then its end.
            let turn = turns.begin();
            io.write_all(REFUSAL).await.unwrap();
            io.flush().await.unwrap();
            io.write_all(REFUSAL).await.unwrap();
            drop(turn);
            io.write_all(REFUSAL).await.unwrap();
            io.flush().await.unwrap();
            // A refusal, and one of another kind, which is left alone.
            io.write_all(b"HTTP/1.1 500 x\r\n\r\n").await.unwrap();
            io.write_all(REFUSAL).await.unwrap();
            io.shutdown().await.unwrap();
        });
        let mut written = String::new();
        theirs.read_to_string(&mut written).await.unwrap();
        write.await.unwrap();
        let three = String::from_utf8(REFUSAL.repeat(3)).unwrap();
        let rest = written.strip_prefix(&three).unwrap();
        let rest = rest.strip_prefix("HTTP/1.1 500 x\r\n\r\n").unwrap();
        assert!(rest.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{rest}");
        let (head, body) = rest.split_once("\r\n\r\n").unwrap();
        for line in [
            format!("content-length: {}", body.len()),
            "connection: close".to_owned(),
            "content-type: application/json".to_owned(),
            "x-verified-proxy-verdict: none; bad_request".to_owned(),
        ] {
            assert!(
                head.split("\r\n").any(|other| other == line),
                "{line} {head}"
            );
        }
        assert!(body.contains("hint: use http://"), "{body}");
    }
}
