//! Answers: one buffer, or frames with a pause between them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::{Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::{Sleep, sleep};

use super::signatures::Signatures;

/// What an instance remembers of an answer once its last byte is on its way.
#[derive(Debug)]
pub(super) struct Receipt {
    pub(super) signatures: Signatures,
    pub(super) id: String,
    /// Model name and hash of the request.
    pub(super) prefix: String,
}

/// A running SHA-256, which hides what it has seen.
#[derive(Clone)]
pub(super) struct Hashing(digest::Context);

impl Default for Hashing {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl std::fmt::Debug for Hashing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hashing")
    }
}

impl Hashing {
    pub(super) fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    pub(super) fn finish(self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(self.0.finish().as_ref());
        out
    }
}

/// A response body: `first`, then `repeated` so many times, then `last`.
#[derive(Debug, Default)]
pub(super) struct Frames {
    first: VecDeque<Bytes>,
    repeated: Option<(Bytes, u64)>,
    last: VecDeque<Bytes>,
    /// Whether the length is said.
    sized: bool,
    /// Between two frames; none: as many at a time as there is room for.
    pause: Option<Duration>,
    sleeping: Option<Pin<Box<Sleep>>>,
    yielding: bool,
    receipt: Option<Box<(Receipt, Hashing)>>,
}

impl Frames {
    fn whole(bytes: Bytes) -> Self {
        Self {
            first: [bytes]
                .into_iter()
                .filter(|frame| !frame.is_empty())
                .collect(),
            sized: true,
            ..Self::default()
        }
    }

    /// An answer of a known length in chunks.
    pub(super) fn sized(first: Bytes, repeated: Bytes, times: u64, last: Bytes) -> Self {
        let some = |bytes: Bytes| Some(bytes).filter(|bytes| !bytes.is_empty());
        Self {
            first: some(first).into_iter().collect(),
            repeated: Some((repeated, times)),
            last: some(last).into_iter().collect(),
            sized: true,
            ..Self::default()
        }
    }

    /// A stream. Its frames are written one by one, also where `pause` is zero.
    pub(super) fn stream(
        first: Vec<Bytes>,
        repeated: Bytes,
        times: u64,
        last: Vec<Bytes>,
        pause: Duration,
    ) -> Self {
        Self {
            first: first.into(),
            repeated: Some((repeated, times)),
            last: last.into(),
            pause: Some(pause),
            ..Self::default()
        }
    }

    /// Cuts what is not repeated into pieces of so many bytes, wherever characters end.
    pub(super) fn cut(&mut self, size: usize) {
        for frames in [&mut self.first, &mut self.last] {
            let whole = std::mem::take(frames);
            let pieces = whole.iter().flat_map(|frame| frame.chunks(size.max(1)));
            *frames = pieces.map(Bytes::copy_from_slice).collect();
        }
    }

    /// Signs what is sent.
    pub(super) fn sign(&mut self, receipt: Receipt) {
        self.receipt = Some(Box::new((receipt, Hashing::default())));
    }

    fn take(&mut self) -> Option<Bytes> {
        if let Some(bytes) = self.first.pop_front() {
            return Some(bytes);
        }
        if let Some((bytes, left)) = &mut self.repeated
            && *left > 0
        {
            *left -= 1;
            return Some(bytes.clone());
        }
        self.last.pop_front()
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(sleeping) = &mut self.sleeping {
            if sleeping.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.sleeping = None;
        }
        if std::mem::take(&mut self.yielding) {
            // hyper writes what it has when a body makes it wait.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(bytes) = self.take() else {
            return Poll::Ready(None);
        };
        let over = self.is_end_stream();
        if let Some(receipt) = &mut self.receipt {
            receipt.1.update(&bytes);
        }
        if over {
            // Before the client can see the end: it may ask for the signature at once.
            if let Some(receipt) = self.receipt.take() {
                let (receipt, hash) = *receipt;
                let text = format!("{}:{}", receipt.prefix, hex::encode(hash.finish()));
                receipt.signatures.keep(&receipt.id, text);
            }
        } else if let Some(pause) = self.pause {
            self.yielding = pause.is_zero();
            self.sleeping = (!pause.is_zero()).then(|| Box::pin(sleep(pause)));
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty()
            && self.repeated.as_ref().is_none_or(|(_, left)| *left == 0)
            && self.last.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if !self.sized {
            return SizeHint::default();
        }
        let parts = self.first.iter().chain(&self.last);
        let repeated = self
            .repeated
            .as_ref()
            .map_or(0, |(bytes, left)| bytes.len() as u64 * left);
        SizeHint::with_exact(parts.map(|part| part.len() as u64).sum::<u64>() + repeated)
    }
}

pub(super) type Reply = Response<Frames>;

/// An answer in one piece.
pub(super) fn reply(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Reply {
    framed(status, content_type, Frames::whole(body.into()))
}

pub(super) fn framed(status: StatusCode, content_type: &'static str, frames: Frames) -> Reply {
    let mut response = Response::new(frames);
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    response
}

/// A JSON answer.
pub(super) fn json_reply(status: StatusCode, value: &Value) -> Reply {
    reply(status, "application/json", value.to_string())
}

/// An error in the shape that backends use everywhere.
pub(super) fn error_reply(status: StatusCode, kind: &str, message: &str) -> Reply {
    json_reply(
        status,
        &json!({"error": {"message": message, "type": kind, "param": null, "code": null}}),
    )
}
