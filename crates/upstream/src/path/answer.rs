//! A backend's answer, passed to the client frame by frame.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::answer_ids::IdScan;
use crate::idle::IdleTimer;
use crate::metrics::Cut;
use crate::path::headers::{self, Stated};
use crate::path::pool::PoolPermit;
use crate::path::request::Link;
use crate::settings::UpstreamSettings;
use crate::verdicts::VerdictUse;

/// Smaller pieces are joined with pieces that follow at once: each would be a packet and wake
/// the client.
const SMALL_PIECE: usize = 2 << 10;
/// Pieces are joined up to the size of a TLS record, which is what hyper reads at a time.
const FULL_PIECE: usize = 16 << 10;
/// Polls without a result in one turn of hyper: before and after it flushes.
const EMPTY_POLLS: u8 = 2;

/// The body of an answer. It owns the connection: if it is dropped before its end, because the
/// client left or the backend broke off, the backend's socket is closed at once. After its end
/// the connection is kept, if its framing leaves no doubt about the end.
pub struct AnswerBody {
    body: Incoming,
    ended: bool,
    joined: BytesMut,
    /// Polls that found nothing to add to `joined`.
    empty_polls: u8,
    /// The piece after `joined`, if it cannot be joined.
    next: Option<Piece>,
    idle: IdleTimer,
    settings: Arc<UpstreamSettings>,
    verdict_use: VerdictUse,
    stated: Stated,
    /// Scans the answer for its id.
    id_scan: Option<IdScan>,
    /// Taken on drop.
    connection: Option<(Link, PoolPermit)>,
}

impl AnswerBody {
    pub(in crate::path) fn new(
        body: Incoming,
        settings: Arc<UpstreamSettings>,
        link: Link,
        permit: PoolPermit,
        verdict_use: VerdictUse,
        stated: Stated,
        id_scan: Option<IdScan>,
    ) -> Self {
        Self {
            body,
            ended: false,
            joined: BytesMut::new(),
            empty_polls: 0,
            next: None,
            idle: IdleTimer::new(settings.timeouts.idle),
            settings,
            verdict_use,
            stated,
            id_scan,
            connection: Some((link, permit)),
        }
    }
}

/// Why an answer stopped in the middle. hyper then aborts the client's connection, so that the
/// client does not take it for the end.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error("the backend broke off its answer: {0}")]
    BrokenOff(#[source] hyper::Error),
    #[error("the backend sent nothing for {} s", .0.as_secs())]
    Idle(Duration),
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerBody(..)")
    }
}

type Piece = Result<Frame<Bytes>, AnswerError>;

impl AnswerBody {
    /// The next piece, unjoined.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        let error = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.idle.reset();
                // Trailers are filtered like headers.
                let frame = match frame.into_trailers() {
                    Ok(mut trailers) => {
                        self.ended = true;
                        headers::strip_response(&mut trailers);
                        Frame::trailers(trailers)
                    }
                    Err(frame) => {
                        if let (Some(id_scan), Some(data)) = (&mut self.id_scan, frame.data_ref()) {
                            id_scan.feed(data);
                        }
                        frame
                    }
                };
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(None) => {
                self.ended = true;
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => AnswerError::BrokenOff(error),
            // Not idle while joined bytes wait to be passed on.
            Poll::Pending if !self.joined.is_empty() => return Poll::Pending,
            Poll::Pending => {
                ready!(self.idle.poll(cx));
                AnswerError::Idle(self.idle.limit())
            }
        };
        let (cut, code) = match error {
            AnswerError::BrokenOff(_) => (Cut::BrokenOff, "answer_broken_off"),
            AnswerError::Idle(_) => (Cut::Idle, "answer_idle"),
        };
        self.settings.metrics.cut(cut);
        let domain = self.verdict_use.domain();
        if let Some(more) = self.settings.seldom.may_say(domain, code) {
            tracing::warn!(%domain, %error, "answer aborted{more}");
        }
        Poll::Ready(Some(Err(error)))
    }

    fn take_joined(&mut self) -> Option<Piece> {
        self.empty_polls = 0;
        let joined = self.joined.split();
        (!joined.is_empty()).then(|| Ok(Frame::data(joined.freeze())))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        let this = self.get_mut();
        if let Some(piece) = this.next.take() {
            if piece.is_err() && this.empty_polls < EMPTY_POLLS {
                // hyper drops unwritten bytes when a body fails. The client first gets what
                // there was of the answer.
                this.empty_polls += 1;
                this.next = Some(piece);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(Some(piece));
        }
        loop {
            match this.poll_piece(cx) {
                Poll::Ready(Some(Ok(frame))) if is_small(&frame) => {
                    if let Some(data) = frame.data_ref() {
                        this.joined.extend_from_slice(data);
                    }
                    this.empty_polls = 0;
                    if this.joined.len() >= FULL_PIECE || this.body.is_end_stream() {
                        return Poll::Ready(this.take_joined());
                    }
                }
                Poll::Ready(piece) => {
                    this.next = piece;
                    let joined = this.take_joined();
                    return Poll::Ready(joined.or_else(|| this.next.take()));
                }
                Poll::Pending if this.joined.is_empty() => return Poll::Pending,
                // hyper yields one chunk at a time: its connection task has to run before the
                // next is seen.
                Poll::Pending if this.empty_polls < EMPTY_POLLS => {
                    this.empty_polls += 1;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Ready(this.take_joined()),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.joined.is_empty() && self.next.is_none() && self.body.is_end_stream()
    }

    /// hyper asks for it before the first piece and writes it into the head.
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn is_small(frame: &Frame<Bytes>) -> bool {
    frame
        .data_ref()
        .is_some_and(|data| data.len() < SMALL_PIECE)
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        let ended = self.ended || self.body.is_end_stream();
        if let Some((link, permit)) = self.connection.take()
            && ended
            && self.stated == Stated::Once
            && self.verdict_use.holds()
        {
            permit.release(link);
        }
    }
}
