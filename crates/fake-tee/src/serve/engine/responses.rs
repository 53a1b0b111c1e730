//! `POST /v1/responses`, OpenAI's shape: one message of one text.

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
    let input = &question.json["input"];
    let Some(prompt) = input
        .as_str()
        .map(str::to_owned)
        .or_else(|| last_text(input))
    else {
        return bad_request("there is no input");
    };
    let words = words(&prompt);
    let text = words.concat();
    let id = question.id(link, "resp");
    let item_id = format!("msg_{id}");
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": []});
    let item = |status: &str, content: Value| {
        json!({
            "id": item_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        })
    };
    let response = |status: &str, output: Value, usage: Value| {
        json!({
            "id": id,
            "object": "response",
            "created_at": link.state.base.now,
            "status": status,
            "error": null,
            "incomplete_details": null,
            "instructions": null,
            "metadata": {},
            "model": question.model,
            "output": output,
            "parallel_tool_calls": true,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "usage": usage,
        })
    };
    let usage = json!({
        "input_tokens": tokens(&prompt),
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": words.len(),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens(&prompt) + words.len(),
    });
    let whole = item("completed", json!([part(&text)]));
    let completed = response("completed", json!([whole]), usage);
    if !question.streams() {
        return question.json_reply(link, &id, padded(completed.to_string(), String::new(), 0));
    }

    let begun = response("in_progress", json!([]), Value::Null);
    let of_item = |kind: &str, more: Value| {
        let mut event = json!({"type": kind, "output_index": 0});
        merge(&mut event, more);
        event
    };
    let of_part = |kind: &str, more: Value| {
        let mut event = json!({
            "type": kind,
            "item_id": item_id,
            "output_index": 0,
            "content_index": 0,
        });
        merge(&mut event, more);
        event
    };
    let mut events = vec![
        json!({"type": "response.created", "response": begun}),
        json!({"type": "response.in_progress", "response": begun}),
        of_item(
            "response.output_item.added",
            json!({"item": item("in_progress", json!([]))}),
        ),
        of_part("response.content_part.added", json!({"part": part("")})),
    ];
    events.extend(words.iter().map(|word| {
        let more = json!({"delta": word, "logprobs": []});
        of_part("response.output_text.delta", more)
    }));
    events.extend([
        of_part(
            "response.output_text.done",
            json!({"text": text, "logprobs": []}),
        ),
        of_part("response.content_part.done", json!({"part": part(&text)})),
        of_item("response.output_item.done", json!({"item": whole})),
        json!({"type": "response.completed", "response": completed}),
    ]);
    for (number, event) in events.iter_mut().enumerate() {
        event["sequence_number"] = number.into();
    }
    question.events_reply(link, &id, &events)
}

fn merge(event: &mut Value, more: Value) {
    if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
        event.extend(more);
    }
}
