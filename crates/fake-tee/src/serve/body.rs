//! Answers: one buffer, or frames with a pause between them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::{Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::{Sleep, sleep};

/// A response body.
#[derive(Debug)]
pub(super) struct Frames {
    frames: VecDeque<Bytes>,
    pause: Option<Duration>,
    sleeping: Option<Pin<Box<Sleep>>>,
}

impl Frames {
    fn whole(bytes: Bytes) -> Self {
        Self {
            frames: [bytes]
                .into_iter()
                .filter(|frame| !frame.is_empty())
                .collect(),
            pause: None,
            sleeping: None,
        }
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
        let next = self.frames.pop_front();
        if !self.frames.is_empty() {
            self.sleeping = self.pause.map(|pause| Box::pin(sleep(pause)));
        }
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match self.pause {
            None => SizeHint::with_exact(self.frames.iter().map(|frame| frame.len() as u64).sum()),
            Some(_) => SizeHint::default(),
        }
    }
}

pub(super) type Reply = Response<Frames>;

/// An answer in one piece.
pub(super) fn reply(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Reply {
    let mut response = Response::new(Frames::whole(body.into()));
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

/// A stream of frames.
pub(super) fn stream_reply(frames: Vec<String>, pause: Duration) -> Reply {
    let mut response = reply(StatusCode::OK, "text/event-stream", Bytes::new());
    *response.body_mut() = Frames {
        frames: frames.into_iter().map(Bytes::from).collect(),
        pause: Some(pause),
        sleeping: None,
    };
    response
}
