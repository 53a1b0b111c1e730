//! A backend's answer on its way to the client, frame by frame.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::Terms;
use super::headers::{self, Stated};
use super::link::Link;
use super::pool::Place;
use crate::idle::IdleTimer;
use crate::metrics::Cut;
use crate::served::Sniffer;
use crate::verdicts::Standing;

/// An answer on its way. It owns the connection: one that is dropped before its
/// end, since the client went or the backend broke off, closes the backend's
/// socket at once. After its end the connection is kept, if the end is beyond
/// doubt.
pub(crate) struct AnswerBody {
    body: Incoming,
    ended: bool,
    idle: IdleTimer,
    terms: Arc<Terms>,
    standing: Standing,
    stated: Stated,
    /// Reads along until it has the answer's id.
    sniffer: Option<Sniffer>,
    /// Taken when it is dropped.
    connection: Option<(Link, Place)>,
}

impl AnswerBody {
    pub(super) fn new(
        body: Incoming,
        terms: Arc<Terms>,
        link: Link,
        place: Place,
        standing: Standing,
        stated: Stated,
        sniffer: Option<Sniffer>,
    ) -> Self {
        Self {
            body,
            ended: false,
            idle: IdleTimer::new(terms.timeouts.idle),
            terms,
            standing,
            stated,
            sniffer,
            connection: Some((link, place)),
        }
    }
}

/// Why an answer stopped in the middle. hyper then aborts the client's
/// connection, so that the client never takes it for the end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
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

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let this = self.get_mut();
        let error = match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.idle.reset();
                // Trailers are headers that come late.
                let frame = match frame.into_trailers() {
                    Ok(mut trailers) => {
                        this.ended = true;
                        headers::strip_response(&mut trailers);
                        Frame::trailers(trailers)
                    }
                    Err(frame) => {
                        if let (Some(sniffer), Some(data)) = (&mut this.sniffer, frame.data_ref()) {
                            sniffer.feed(data);
                        }
                        frame
                    }
                };
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(None) => {
                this.ended = true;
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => AnswerError::BrokenOff(error),
            Poll::Pending => match this.idle.poll(cx) {
                Poll::Ready(()) => AnswerError::Idle(this.idle.limit()),
                Poll::Pending => return Poll::Pending,
            },
        };
        let cut = match error {
            AnswerError::BrokenOff(_) => Cut::BrokenOff,
            AnswerError::Idle(_) => Cut::Idle,
        };
        this.terms.metrics.cut(cut);
        tracing::warn!(domain = %this.standing.domain(), %error, "answer aborted");
        Poll::Ready(Some(Err(error)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        let ended = self.ended || self.body.is_end_stream();
        if let Some((link, place)) = self.connection.take()
            && ended
            && self.stated == Stated::Once
            && self.standing.holds()
        {
            place.put(link);
        }
    }
}
