//! A backend's answer on its way to the client, frame by frame.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::answer_ids::IdScan;
use crate::headers::{self, Stated};
use crate::idle::IdleTimer;
use crate::metrics::Cut;
use crate::pool::PoolPermit;
use crate::request::Link;
use crate::settings::UpstreamSettings;
use crate::verdicts::VerdictUse;

/// Pieces below this are joined with those that follow them at once: each would
/// be a packet and wake the client.
const SMALL_PIECE: usize = 2 << 10;
/// Until they are as long as a TLS record, which is as much as comes at a time.
const FULL_PIECE: usize = 16 << 10;
/// Looks at a body that has nothing ready in one turn of hyper's: before and
/// after it flushes.
const EMPTY_POLLS: u8 = 2;

/// An answer on its way. It owns the connection: one that is dropped before its
/// end, since the client went or the backend broke off, closes the backend's
/// socket at once. After its end the connection is kept, if the end is beyond
/// doubt.
pub struct AnswerBody {
    body: Incoming,
    ended: bool,
    joined: BytesMut,
    /// Looks that found nothing behind `joined`.
    empty_polls: u8,
    /// What came behind `joined` and is not joined with it.
    next: Option<Piece>,
    idle: IdleTimer,
    settings: Arc<UpstreamSettings>,
    standing: VerdictUse,
    stated: Stated,
    /// Reads along until it has the answer's id.
    id_scan: Option<IdScan>,
    /// Taken when it is dropped.
    connection: Option<(Link, PoolPermit)>,
}

impl AnswerBody {
    pub(crate) fn new(
        body: Incoming,
        settings: Arc<UpstreamSettings>,
        link: Link,
        permit: PoolPermit,
        standing: VerdictUse,
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
            standing,
            stated,
            id_scan,
            connection: Some((link, permit)),
        }
    }
}

/// Why an answer stopped in the middle. hyper then aborts the client's
/// connection, so that the client never takes it for the end.
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
    /// The next piece as it comes.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        let error = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.idle.reset();
                // Trailers are headers that come late.
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
            // It is not silence while there is something to give out.
            Poll::Pending if !self.joined.is_empty() => return Poll::Pending,
            Poll::Pending => {
                ready!(self.idle.poll(cx));
                AnswerError::Idle(self.idle.limit())
            }
        };
        let cut = match error {
            AnswerError::BrokenOff(_) => Cut::BrokenOff,
            AnswerError::Idle(_) => Cut::Idle,
        };
        self.settings.metrics.cut(cut);
        tracing::warn!(domain = %self.standing.domain(), %error, "answer aborted");
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
                // hyper drops what it has not written when it hears of an error; the
                // client gets what there was of the answer first.
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
                // hyper gives out one chunk at a time: the connection's task has to
                // have its turn before it is known whether there are more.
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

    /// Asked for before the first piece is taken: hyper writes it into the head.
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
            && self.standing.holds()
        {
            permit.release(link);
        }
    }
}
