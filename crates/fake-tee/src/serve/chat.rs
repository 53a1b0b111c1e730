//! `POST /v1/chat/completions` and `/v1/completions` in OpenAI's shape; the answer
//! repeats the prompt.
//!
//! Headers of the request: `x-fake-chunks` so many chunks of text in a stream,
//! `x-fake-delay-ms` between two of them, `x-fake-size` bytes in each; or, of an answer
//! that is no stream, `x-fake-size` bytes in all and `x-fake-delay-ms` before it.

use std::time::Duration;

use bytes::Bytes;
use hyper::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};

use super::backend::Link;
use super::body::{Frames, Reply, framed};
use super::engine::{
    MAX_JSON, asked, bad_request, incomplete, new_id, no_such_model, padded, receipt, signed_json,
};
use super::upload::Upload;

/// Between two chunks of a stream, so that a client that buffers shows it.
const PAUSE: Duration = Duration::from_millis(5);
/// Of the prompt that is repeated.
const MAX_WORDS: usize = 512;
/// Of one chunk.
const MAX_CHUNK: u64 = 1 << 20;

pub(super) async fn answer(link: &Link, request: Request<Upload>, chat: bool) -> Reply {
    let (head, mut body) = request.into_parts();
    let bytes = match body.whole(MAX_JSON).await {
        Ok(bytes) => bytes,
        Err(why) => return incomplete(&why),
    };
    let Ok(question) = serde_json::from_slice::<Value>(&bytes) else {
        return bad_request("the body is not JSON");
    };
    let model = question["model"].as_str().unwrap_or_default();
    if !link.state.serves(model) {
        return no_such_model();
    }
    let prompt = if chat {
        question["messages"]
            .as_array()
            .and_then(|all| last_text(all))
    } else {
        question["prompt"].as_str().map(str::to_owned)
    };
    let Some(prompt) = prompt else {
        return bad_request(if chat {
            "messages hold no text"
        } else {
            "there is no prompt"
        });
    };
    let prompt_tokens = prompt.split_whitespace().count();
    let mut words = vec!["You".to_owned(), " said:".to_owned()];
    words.extend(
        prompt
            .split_whitespace()
            .take(MAX_WORDS)
            .map(|word| format!(" {word}")),
    );
    let written = Written {
        id: new_id(link, if chat { "chatcmpl" } else { "cmpl" }),
        created: link.state.base.now,
        model,
        chat,
        words,
        prompt_tokens,
    };
    let sha256 = body.sha256();
    if question["stream"].as_bool() == Some(true) {
        let usage = question["stream_options"]["include_usage"].as_bool() == Some(true);
        let mut frames = written.stream(&head.headers, usage);
        if link.signs() {
            frames.sign(receipt(link, &written.id, model, sha256));
        }
        return framed(StatusCode::OK, "text/event-stream", frames);
    }
    if let Some(delay) = asked(&head.headers, "x-fake-delay-ms") {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let size = asked(&head.headers, "x-fake-size").unwrap_or_default();
    signed_json(link, written.whole(size), &written.id, model, sha256)
}

struct Written<'a> {
    id: String,
    created: u64,
    model: &'a str,
    chat: bool,
    words: Vec<String>,
    prompt_tokens: usize,
}

impl Written<'_> {
    /// `id` first, as engines write it.
    fn begin(&self, object: &str) -> String {
        format!(
            r#"{{"id":"{}","object":"{object}","created":{},"model":{}"#,
            self.id,
            self.created,
            Value::from(self.model)
        )
    }

    fn usage(&self, completion_tokens: usize) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
        })
    }

    fn whole(&self, size: u64) -> Frames {
        let text = Value::from(self.words.concat()).to_string();
        let text = text.strip_suffix('"').unwrap_or(&text);
        let (object, before, after) = if self.chat {
            let before = r#"{"index":0,"message":{"role":"assistant","content":"#;
            ("chat.completion", before, r#""},"#)
        } else {
            ("text_completion", r#"{"index":0,"text":"#, r#"","#)
        };
        let first = format!("{},\"choices\":[{before}{text}", self.begin(object));
        let last = format!(
            r#"{after}"finish_reason":"stop"}}],"usage":{}}}"#,
            self.usage(self.words.len())
        );
        padded(first, last, size)
    }

    fn chunk(&self, choices: &Value, usage: Option<Value>) -> Bytes {
        let object = if self.chat {
            "chat.completion.chunk"
        } else {
            "text_completion"
        };
        let usage = usage.map_or_else(String::new, |usage| format!(r#","usage":{usage}"#));
        let begin = self.begin(object);
        format!("data: {begin},\"choices\":{choices}{usage}}}\n\n").into()
    }

    fn text(&self, text: &str, finish: &Value) -> Bytes {
        let choice = match (self.chat, finish.is_null()) {
            (false, _) => json!({"index": 0, "text": text, "finish_reason": finish}),
            (true, true) => {
                json!({"index": 0, "delta": {"content": text}, "finish_reason": finish})
            }
            (true, false) => json!({"index": 0, "delta": {}, "finish_reason": finish}),
        };
        self.chunk(&json!([choice]), None)
    }

    fn stream(&self, headers: &HeaderMap, usage: bool) -> Frames {
        let pause = asked(headers, "x-fake-delay-ms").map_or(PAUSE, Duration::from_millis);
        let mut first = Vec::new();
        if self.chat {
            let delta = json!({"role": "assistant", "content": ""});
            first.push(self.chunk(
                &json!([{"index": 0, "delta": delta, "finish_reason": null}]),
                None,
            ));
        }
        let mut repeated = (Bytes::new(), 0);
        let mut tokens = self.words.len();
        if let Some(chunks) = asked(headers, "x-fake-chunks") {
            let size = asked(headers, "x-fake-size").unwrap_or(5).min(MAX_CHUNK);
            repeated = (self.text(&"x".repeat(size as usize), &Value::Null), chunks);
            tokens = chunks as usize;
        } else {
            first.extend(self.words.iter().map(|word| self.text(word, &Value::Null)));
        }
        let mut last = vec![self.text("", &"stop".into())];
        if usage {
            last.push(self.chunk(&json!([]), Some(self.usage(tokens))));
        }
        last.push(Bytes::from_static(b"data: [DONE]\n\n"));
        Frames::stream(first, repeated.0, repeated.1, last, pause)
    }
}

/// The text of the last user message: a string, or the text parts of an array.
fn last_text(messages: &[Value]) -> Option<String> {
    let content = &messages
        .iter()
        .rev()
        .find(|message| message["role"] == "user")?["content"];
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => Some(
            parts
                .iter()
                .filter_map(|part| part["text"].as_str())
                .collect::<Vec<_>>()
                .join(" "),
        ),
        _ => None,
    }
}
