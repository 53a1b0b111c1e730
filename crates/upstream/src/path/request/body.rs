//! A request's body: the part that was held, then the rest as it arrives.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::form::Content;
use super::model::BodyScan;
use crate::admission::Client;
use crate::idle::IdleTimer;
use crate::path::headers;
use crate::verdicts::Revocation;

/// A request's body. It cannot be printed.
#[derive(Default)]
pub(in crate::path) enum RequestBody {
    /// The body of a probe.
    #[default]
    Empty,
    Sent(Sent),
}

/// A client's body.
pub(in crate::path) struct Sent {
    held: VecDeque<Frame<Bytes>>,
    rest: Rest,
    /// Tells whether the verdict that the body is sent under is revoked.
    revocation: Option<Revocation>,
}

/// The part that has not been read yet.
pub(super) struct Rest {
    body: Incoming,
    left: u64,
    max: u64,
    idle: IdleTimer,
    scan: Option<BodyScan>,
    client: Client,
}

/// Why a body stopped in the middle.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub enum BodyError {
    #[error("the body has more than {max} bytes")]
    TooLarge { max: u64 },
    #[error("the client broke off its request")]
    BrokenOff,
    #[error("the body is not in valid chunks")]
    Malformed,
    #[error("{}", .0.0)]
    Content(Content),
    #[error("the client sent nothing of its body for {} s", .idle.as_secs())]
    Stalled { idle: Duration },
    #[error("no model was found in the first {} s of the body", .limit.as_secs())]
    Slow { limit: Duration },
    /// Sending a long body may outlive its verdict. Nothing more is sent to a machine that was
    /// refused meanwhile.
    #[error("the backend was refused while the body was on its way to it")]
    Withdrawn,
}

impl BodyError {
    /// hyper states what it cannot decode as the kind of an I/O error.
    fn of(error: &hyper::Error) -> Self {
        use std::io::ErrorKind;
        let source = std::error::Error::source(error);
        let kind = source
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .map(std::io::Error::kind);
        match kind {
            Some(ErrorKind::InvalidInput | ErrorKind::InvalidData) => Self::Malformed,
            _ => Self::BrokenOff,
        }
    }
}

impl Sent {
    pub(super) fn new(body: Incoming, max: u64, idle: Duration, client: Client) -> Self {
        Self {
            held: VecDeque::new(),
            revocation: None,
            rest: Rest {
                body,
                left: max,
                max,
                idle: IdleTimer::new(idle),
                scan: None,
                client,
            },
        }
    }

    /// The part that was not read yet.
    pub(super) fn rest(&mut self) -> &mut Rest {
        &mut self.rest
    }

    /// Puts back what was read.
    pub(super) fn hold(&mut self, frames: VecDeque<Frame<Bytes>>) {
        self.held = frames;
    }
}

impl Rest {
    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// The longest pause that the client may make.
    pub(super) fn pause(&self) -> Duration {
        self.idle.limit()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.body.is_end_stream()
    }

    /// Scans the body from here on. Each piece is scanned before it is passed on.
    pub(super) fn scan(&mut self, scan: BodyScan) {
        self.scan = Some(scan);
    }

    /// The model, once it has arrived.
    pub(super) fn model(&self) -> Option<&str> {
        self.scan.as_ref()?.model()
    }

    pub(super) async fn frame(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        std::future::poll_fn(|cx| self.poll_frame(cx)).await
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(error))) => {
                return Poll::Ready(Some(Err(BodyError::of(&error))));
            }
            Poll::Ready(None) => {
                self.client.moves();
                return Poll::Ready(self.ends().err().map(Err));
            }
            Poll::Pending => {
                self.client.stalls();
                ready!(self.idle.poll(cx));
                let idle = self.idle.limit();
                return Poll::Ready(Some(Err(BodyError::Stalled { idle })));
            }
        };
        self.idle.reset();
        self.client.moves();
        Poll::Ready(Some(self.checked(frame)))
    }

    fn checked(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        let frame = match frame.into_trailers() {
            Ok(mut trailers) => {
                self.ends()?;
                headers::strip_request(&mut trailers);
                return Ok(Frame::trailers(trailers));
            }
            Err(frame) => frame,
        };
        let data = frame.data_ref().map_or(&[][..], |data| data);
        let max = self.max;
        let left = self.left.checked_sub(data.len() as u64);
        self.left = left.ok_or(BodyError::TooLarge { max })?;
        if let Some(scan) = &mut self.scan {
            scan.feed(data).map_err(BodyError::Content)?;
        }
        // These are the last bytes of a known length: check the end before they are sent, since
        // a complete request cannot be recalled.
        if self.body.is_end_stream() {
            self.ends()?;
        }
        Ok(frame)
    }

    /// Checks that the body may end here.
    fn ends(&mut self) -> Result<(), BodyError> {
        match self.scan.as_ref().map(BodyScan::end) {
            Some(Err(content)) => Err(BodyError::Content(content)),
            Some(Ok(())) | None => Ok(()),
        }
    }
}

impl RequestBody {
    /// Stops the body in the middle if the verdict that it is sent under is revoked.
    pub(in crate::path) fn stop_on(&mut self, revocation: Revocation) {
        if let Self::Sent(sent) = self {
            sent.revocation = Some(revocation);
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self::Sent(sent) = self.get_mut() else {
            return Poll::Ready(None);
        };
        let frame = match sent.held.pop_front() {
            Some(frame) => Some(Ok(frame)),
            None => ready!(sent.rest.poll_frame(cx)),
        };
        let withdrawn = sent
            .revocation
            .as_ref()
            .is_some_and(Revocation::has_happened);
        Poll::Ready(match frame {
            Some(Ok(_)) if withdrawn => Some(Err(BodyError::Withdrawn)),
            frame => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Sent(sent) => sent.held.is_empty() && sent.rest.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let Self::Sent(sent) = self else {
            return SizeHint::with_exact(0);
        };
        let held = sent.held.iter().filter_map(Frame::data_ref);
        let held = held.map(|data| data.len() as u64).sum::<u64>();
        let rest = sent.rest.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(held));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint
    }
}
