//! `POST /v1/chat/completions` and `/v1/completions` in OpenAI's shape; the answer
//! repeats the prompt.
//!
//! Headers of the request: `x-fake-chunks` so many chunks of text in a stream,
//! `x-fake-delay-ms` between two of them, `x-fake-size` bytes in each; or, of an answer
//! that is no stream, `x-fake-size` bytes in all and `x-fake-delay-ms` before it.
//! `x-fake-cut` cuts a stream into pieces of so many bytes; `x-fake-id` is the answer's id.

use std::time::Duration;

use bytes::Bytes;
use hyper::{HeaderMap, Request};
use serde_json::{Value, json};

use super::question::{Question, last_text, tokens, words};
use super::tools::Call;
use super::{asked, bad_request, padded};
use crate::serve::body::{Frames, Reply};
use crate::serve::link::Link;
use crate::serve::upload::Upload;

/// Of one chunk.
const MAX_CHUNK: u64 = 1 << 20;

pub(super) async fn answer(link: &Link, request: Request<Upload>, chat: bool) -> Reply {
    let question = match Question::read(link, request).await {
        Ok(question) => question,
        Err(reply) => return *reply,
    };
    let (prompt, without) = if chat {
        let prompt = last_text(&question.json["messages"]);
        (prompt, "messages hold no text")
    } else {
        let prompt = question.json["prompt"].as_str().map(str::to_owned);
        (prompt, "there is no prompt")
    };
    let Some(prompt) = prompt else {
        return bad_request(without);
    };
    let id = question.id(link, if chat { "chatcmpl" } else { "cmpl" });
    let written = Written {
        created: link.state.base.now,
        model: &question.model,
        chat,
        words: words(&prompt),
        prompt_tokens: tokens(&prompt),
        call: Call::wanted(&question.json, &prompt, &id).filter(|_| chat),
        id,
    };
    if question.streams() {
        let usage = question.json["stream_options"]["include_usage"].as_bool() == Some(true);
        let frames = written.stream(&question.headers, usage, question.pause());
        return question.stream_reply(link, &written.id, frames);
    }
    if let Some(delay) = asked(&question.headers, "x-fake-delay-ms") {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let size = asked(&question.headers, "x-fake-size").unwrap_or_default();
    question.json_reply(link, &written.id, written.whole(size))
}

struct Written<'a> {
    id: String,
    created: u64,
    model: &'a str,
    chat: bool,
    words: Vec<String>,
    prompt_tokens: usize,
    /// In place of the words.
    call: Option<Call>,
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
        if let Some(call) = &self.call {
            let choice =
                json!({"index": 0, "message": call.message(), "finish_reason": "tool_calls"});
            let begin = self.begin("chat.completion");
            let usage = self.usage(1);
            let answer = format!(r#"{begin},"choices":[{choice}],"usage":{usage}}}"#);
            return padded(answer, String::new(), 0);
        }
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

    fn delta(&self, delta: &Value) -> Bytes {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": null});
        self.chunk(&json!([choice]), None)
    }

    fn stream(&self, headers: &HeaderMap, usage: bool, pause: Duration) -> Frames {
        let mut first = Vec::new();
        if self.chat {
            first.push(self.delta(&json!({"role": "assistant", "content": ""})));
        }
        let mut repeated = (Bytes::new(), 0);
        let mut tokens = self.words.len();
        let mut finish = "stop";
        if let Some(call) = &self.call {
            first.extend(call.deltas().iter().map(|delta| self.delta(delta)));
            (finish, tokens) = ("tool_calls", 1);
        } else if let Some(chunks) = asked(headers, "x-fake-chunks") {
            let size = asked(headers, "x-fake-size").unwrap_or(5).min(MAX_CHUNK);
            repeated = (self.text(&"x".repeat(size as usize), &Value::Null), chunks);
            tokens = chunks as usize;
        } else {
            first.extend(self.words.iter().map(|word| self.text(word, &Value::Null)));
        }
        let mut last = vec![self.text("", &finish.into())];
        if usage {
            last.push(self.chunk(&json!([]), Some(self.usage(tokens))));
        }
        last.push(Bytes::from_static(b"data: [DONE]\n\n"));
        Frames::stream(first, repeated.0, repeated.1, last, pause)
    }
}
