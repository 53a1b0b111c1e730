//! `POST /v1/chat/completions` in OpenAI's shape; the answer repeats the prompt.

use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde_json::{Value, json};

use super::State;
use super::backend::MAX_BODY;
use super::body::{Reply, error_reply, json_reply, stream_reply};
use crate::hash::sha256;

/// Between two chunks of a stream, so that a client that buffers shows it.
const PAUSE: Duration = Duration::from_millis(5);
/// Of the prompt that is repeated.
const MAX_WORDS: usize = 512;

pub(super) async fn answer(state: &State, request: Request<Incoming>) -> Reply {
    let bad =
        |message: &str| error_reply(StatusCode::BAD_REQUEST, "invalid_request_error", message);
    let body = match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return error_reply(
                StatusCode::PAYLOAD_TOO_LARGE,
                "invalid_request_error",
                "Request body too large",
            );
        }
        Err(_) => return bad("the body broke off"),
    };
    let Ok(asked) = serde_json::from_slice::<Value>(&body) else {
        return bad("the body is not JSON");
    };
    let model = asked["model"].as_str().unwrap_or_default();
    if model != state.options.model {
        return error_reply(
            StatusCode::NOT_FOUND,
            "NotFoundError",
            "The model does not exist",
        );
    }
    let Some(prompt) = asked["messages"].as_array().and_then(|all| last_text(all)) else {
        return bad("messages hold no text");
    };
    let prompt_tokens = prompt.split_whitespace().count();
    let mut words = vec!["You".to_owned(), " said:".to_owned()];
    words.extend(
        prompt
            .split_whitespace()
            .take(MAX_WORDS)
            .map(|word| format!(" {word}")),
    );
    let usage = json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": words.len(),
        "total_tokens": prompt_tokens + words.len(),
    });
    let id = format!("chatcmpl-{}", &hex::encode(sha256(&body))[..24]);
    let created = state.base.now;

    if asked["stream"].as_bool() != Some(true) {
        return json_reply(
            StatusCode::OK,
            &json!({
                "id": id,
                "object": "chat.completion",
                "created": created,
                "model": model,
                "choices": [{
                    "index": 0,
                    "message": {"role": "assistant", "content": words.concat()},
                    "finish_reason": "stop",
                }],
                "usage": usage,
            }),
        );
    }

    let chunk = |choices: Value, usage: Option<&Value>| {
        let mut chunk = json!({
            "id": id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "choices": choices,
        });
        if let Some(usage) = usage {
            chunk["usage"] = usage.clone();
        }
        format!("data: {chunk}\n\n")
    };
    let delta = |delta: Value, finish: Value| {
        chunk(
            json!([{"index": 0, "delta": delta, "finish_reason": finish}]),
            None,
        )
    };
    let mut frames = vec![delta(
        json!({"role": "assistant", "content": ""}),
        Value::Null,
    )];
    for word in &words {
        frames.push(delta(json!({"content": word}), Value::Null));
    }
    frames.push(delta(json!({}), "stop".into()));
    if asked["stream_options"]["include_usage"].as_bool() == Some(true) {
        frames.push(chunk(json!([]), Some(&usage)));
    }
    frames.push("data: [DONE]\n\n".to_owned());
    stream_reply(frames, PAUSE)
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
