//! `POST /v1/embeddings`: eight numbers of a text's SHA-256.

use hyper::Request;
use serde_json::{Value, json};

use super::question::{Question, tokens};
use super::{asked, bad_request, padded};
use crate::hash::sha256;
use crate::serve::body::Reply;
use crate::serve::link::Link;
use crate::serve::upload::Upload;

pub(super) async fn answer(link: &Link, request: Request<Upload>) -> Reply {
    let question = match Question::read(link, request).await {
        Ok(question) => question,
        Err(reply) => return *reply,
    };
    let inputs: Vec<&str> = match &question.json["input"] {
        Value::String(text) => vec![text],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => return bad_request("there is no input"),
    };
    // What OpenAI's SDKs ask for: little-endian floats.
    let is_base64 = question.json["encoding_format"] == "base64";
    let data: Vec<_> = inputs
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let vector: Vec<f32> = sha256(text.as_bytes())
                .iter()
                .take(8)
                .map(|byte| f32::from(*byte) / 256.0)
                .collect();
            let vector = if is_base64 {
                let bytes = vector.iter().flat_map(|number| number.to_le_bytes());
                crate::encode::base64(&bytes.collect::<Vec<u8>>()).into()
            } else {
                json!(vector)
            };
            json!({"object": "embedding", "index": index, "embedding": vector})
        })
        .collect();
    let tokens: usize = inputs.iter().map(|text| tokens(text)).sum();
    let id = question.id(link, "emb");
    let first = format!(
        r#"{{"id":"{id}","object":"list","model":{},"data":{},"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}},"padding":""#,
        Value::from(question.model.as_str()),
        Value::from(data),
    );
    let size = asked(&question.headers, "x-fake-size").unwrap_or_default();
    question.json_reply(link, &id, padded(first, "\"}".to_owned(), size))
}
