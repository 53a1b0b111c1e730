//! A request's body: the part that was held, then the rest as it arrives.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use sources::lock::lock;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::form::Content;
use super::model::BodyScan;
use crate::admission::Client;
use crate::idle::{IdleTimer, LEAST_RATE};
use crate::path::headers;
use crate::verdicts::Revocation;

/// A request's body. It cannot be printed.
#[derive(Default)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every body is the large variant; a box would be an allocation for each"
)]
pub(in crate::path) enum RequestBody {
    /// The body of a probe, and of a request that has none and is repeated.
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
    upload: Option<Uploading>,
}

/// A body's end of an [`Upload`].
struct Uploading {
    backend_since: Arc<Mutex<Option<Instant>>>,
    whole: oneshot::Sender<()>,
}

/// How far a body has got that is being sent.
pub(in crate::path) struct Upload {
    /// Since when a piece waits for the backend to take it. None: the client's next piece is
    /// waited for.
    backend_since: Arc<Mutex<Option<Instant>>>,
    ended: oneshot::Receiver<()>,
    is_whole: bool,
}

impl Upload {
    /// True if the client has sent all, and the backend taken it.
    pub(in crate::path) fn is_whole(&mut self) -> bool {
        self.is_whole |= self.ended.try_recv().is_ok();
        self.is_whole
    }

    /// True at the body's end, or when it was given up; false once the backend took nothing for
    /// `limit`.
    pub(in crate::path) async fn is_taken(&mut self, limit: Duration) -> bool {
        loop {
            let since = *lock(&self.backend_since);
            let waited = since.map_or(Duration::ZERO, |since| since.elapsed());
            if since.is_some() && waited >= limit {
                return false;
            }
            tokio::select! {
                biased;
                whole = &mut self.ended => {
                    self.is_whole = whole.is_ok();
                    return true;
                }
                () = sleep(limit.saturating_sub(waited)) => {}
            }
        }
    }
}

/// How long a body may take up to its model, and how long a client may keep it waiting in all
/// while it sends less than [`LEAST_RATE`], in multiples of the longest pause between pieces: ten
/// minutes by default. What arrived before the model occupies memory that all requests share,
/// and what is sent a connection to the backend: a few slow clients must not occupy all of it.
pub(super) const MAX_PAUSES: u32 = 10;

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
    #[error("the client sent less than {LEAST_RATE} bytes of its body a second, for {} s", .limit.as_secs())]
    TooSlow { limit: Duration },
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
            upload: None,
            rest: Rest {
                body,
                left: max,
                max,
                idle: IdleTimer::with_rate(idle, MAX_PAUSES),
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
                self.client.moves(0);
                return Poll::Ready(self.ends().err().map(Err));
            }
            Poll::Pending => {
                self.client.stalls();
                ready!(self.idle.poll(cx));
                let idle = self.idle.limit();
                return Poll::Ready(Some(Err(match self.idle.was_slow() {
                    true => BodyError::TooSlow {
                        limit: idle.saturating_mul(MAX_PAUSES),
                    },
                    false => BodyError::Stalled { idle },
                })));
            }
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        self.client.moves(bytes);
        self.idle.progress(bytes);
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

    /// Follows the body while it is sent. None if there is nothing to send.
    pub(in crate::path) fn upload(&mut self) -> Option<Upload> {
        if self.is_end_stream() {
            return None;
        }
        let Self::Sent(sent) = self else {
            return None;
        };
        let backend_since = Arc::default();
        let (whole, ended) = oneshot::channel();
        sent.upload = Some(Uploading {
            backend_since: Arc::clone(&backend_since),
            whole,
        });
        Some(Upload {
            backend_since,
            ended,
            is_whole: false,
        })
    }
}

impl Sent {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match self.held.pop_front() {
            Some(frame) => Some(Ok(frame)),
            None => ready!(self.rest.poll_frame(cx)),
        };
        let withdrawn = self
            .revocation
            .as_ref()
            .is_some_and(Revocation::has_happened);
        Poll::Ready(match frame {
            Some(Ok(_)) if withdrawn => Some(Err(BodyError::Withdrawn)),
            frame => frame,
        })
    }

    fn is_at_end(&self) -> bool {
        self.held.is_empty() && self.rest.is_empty()
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
        let polled = sent.poll_next(cx);
        let is_whole = match &polled {
            Poll::Ready(Some(Err(_))) => false,
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) | Poll::Pending => sent.is_at_end(),
        };
        if let Some(upload) = &sent.upload {
            *lock(&upload.backend_since) = polled.is_ready().then(Instant::now);
        }
        if let Some(upload) = sent.upload.take_if(|_| is_whole) {
            // An error: the request is over.
            let _ = upload.whole.send(());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Sent(sent) => sent.is_at_end(),
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
