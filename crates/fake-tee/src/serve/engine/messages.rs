//! `POST /v1/messages`, Anthropic's shape.

use hyper::Request;
use serde_json::{Value, json};

use super::question::{Question, last_text, tokens, words};
use super::{bad_request, padded};
use crate::serve::body::Reply;
use crate::serve::link::Link;
use crate::serve::upload::Upload;

pub(super) async fn answer(link: &Link, request: Request<Upload>) -> Reply {
    let question = match Question::read(link, request).await {
        Ok(question) => question,
        Err(reply) => return *reply,
    };
    let Some(prompt) = last_text(&question.json["messages"]) else {
        return bad_request("messages hold no text");
    };
    let words = words(&prompt);
    let id = question.id(link, "msg");
    let message = |content: Value, stop: Value, output_tokens: usize| {
        json!({
            "id": id,
            "type": "message",
            "role": "assistant",
            "model": question.model,
            "content": content,
            "stop_reason": stop,
            "stop_sequence": null,
            "usage": {"input_tokens": tokens(&prompt), "output_tokens": output_tokens},
        })
    };
    if !question.streams() {
        let content = json!([{"type": "text", "text": words.concat()}]);
        let answer = message(content, "end_turn".into(), words.len()).to_string();
        return question.json_reply(link, &id, padded(answer, String::new(), 0));
    }
    let block = json!({"type": "text", "text": ""});
    let mut events = vec![
        json!({"type": "message_start", "message": message(json!([]), Value::Null, 1)}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "ping"}),
    ];
    events.extend(words.iter().map(|word| {
        let delta = json!({"type": "text_delta", "text": word});
        json!({"type": "content_block_delta", "index": 0, "delta": delta})
    }));
    events.extend([
        json!({"type": "content_block_stop", "index": 0}),
        json!({
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": null},
            "usage": {"output_tokens": words.len()},
        }),
        json!({"type": "message_stop"}),
    ]);
    question.events_reply(link, &id, &events)
}
