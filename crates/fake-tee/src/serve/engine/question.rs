//! A question in JSON to a model that is served, and what all answers to it have in common.

use std::time::Duration;

use bytes::Bytes;
use hyper::{HeaderMap, Request, StatusCode};
use serde_json::Value;

use super::{
    MAX_JSON, asked, bad_request, id_for, incomplete, no_such_model, receipt, signed_json,
};
use crate::serve::body::{Frames, Reply, framed};
use crate::serve::link::Link;
use crate::serve::upload::Upload;

/// Between two chunks of a stream, so that a client that buffers shows it.
const PAUSE: Duration = Duration::from_millis(5);
/// Of the prompt that is repeated.
const MAX_WORDS: usize = 512;

pub(super) struct Question {
    pub(super) headers: HeaderMap,
    pub(super) json: Value,
    pub(super) model: String,
    sha256: [u8; 32],
}

impl Question {
    pub(super) async fn read(link: &Link, request: Request<Upload>) -> Result<Self, Box<Reply>> {
        let (head, mut body) = request.into_parts();
        let bytes = body.whole(MAX_JSON).await.map_err(|why| incomplete(&why))?;
        // As Python's json, which vLLM reads bodies with.
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let Ok(json) = serde_json::from_slice::<Value>(text) else {
            return Err(bad_request("the body is not JSON").into());
        };
        let model = json["model"].as_str().unwrap_or_default().to_owned();
        if !link.state.serves(&model) {
            return Err(no_such_model().into());
        }
        Ok(Self {
            headers: head.headers,
            json,
            model,
            sha256: body.sha256(),
        })
    }

    pub(super) fn streams(&self) -> bool {
        self.json["stream"].as_bool() == Some(true)
    }

    pub(super) fn id(&self, link: &Link, prefix: &str) -> String {
        id_for(&self.headers, link, prefix)
    }

    pub(super) fn pause(&self) -> Duration {
        asked(&self.headers, "x-fake-delay-ms").map_or(PAUSE, Duration::from_millis)
    }

    pub(super) fn json_reply(&self, link: &Link, id: &str, frames: Frames) -> Reply {
        signed_json(link, frames, id, &self.model, self.sha256)
    }

    pub(super) fn stream_reply(&self, link: &Link, id: &str, mut frames: Frames) -> Reply {
        if let Some(size) = asked(&self.headers, "x-fake-cut") {
            frames.cut(size as usize);
        }
        if link.signs() {
            frames.sign(receipt(link, id, &self.model, self.sha256));
        }
        framed(StatusCode::OK, "text/event-stream", frames)
    }

    /// Events that are named by the type in their data.
    pub(super) fn events_reply(&self, link: &Link, id: &str, events: &[Value]) -> Reply {
        let events = events.iter().map(|event| {
            let name = event["type"].as_str().unwrap_or_default();
            Bytes::from(format!("event: {name}\ndata: {event}\n\n"))
        });
        let frames = Frames::stream(events.collect(), Bytes::new(), 0, Vec::new(), self.pause());
        self.stream_reply(link, id, frames)
    }
}

pub(super) fn tokens(text: &str) -> usize {
    text.split_whitespace().count()
}

/// What is answered to a prompt, in pieces.
pub(super) fn words(prompt: &str) -> Vec<String> {
    let mut words = vec!["You".to_owned(), " said:".to_owned()];
    let said = prompt.split_whitespace().take(MAX_WORDS);
    words.extend(said.map(|word| format!(" {word}")));
    words
}

/// The text of the last message of a user or a tool.
pub(super) fn last_text(messages: &Value) -> Option<String> {
    let mut all = messages.as_array()?.iter().rev();
    text_of(&all.find(|message| message["role"] == "user" || message["role"] == "tool")?["content"])
}

/// A string, or the text parts of an array.
fn text_of(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part["text"].as_str());
            Some(texts.collect::<Vec<_>>().join(" "))
        }
        _ => None,
    }
}
