//! `POST /v1/audio/transcriptions`: the model's name, and the file's length and SHA-256.

use hyper::Request;
use serde_json::{Value, json};

use super::form::Form;
use super::{bad_request, id_for, padded, signed_json};
use crate::hash::sha256;
use crate::serve::body::Reply;
use crate::serve::link::Link;
use crate::serve::upload::Upload;

pub(super) async fn answer(link: &Link, request: Request<Upload>) -> Reply {
    let form = match Form::read(link, request).await {
        Ok(form) => form,
        Err(reply) => return *reply,
    };
    let Some(file) = form.data("file") else {
        return bad_request("there is no file");
    };
    let text = format!(
        "{} bytes, SHA-256 {}",
        file.len(),
        hex::encode(sha256(file))
    );
    let id = id_for(&form.headers, link, "trans");
    let answer = format!(
        r#"{{"id":"{id}","model":{},"text":{},"usage":{}}}"#,
        Value::from(form.model.as_str()),
        Value::from(text),
        json!({"type": "duration", "seconds": 1}),
    );
    let frames = padded(answer, String::new(), 0);
    signed_json(link, frames, &id, &form.model, form.sha256())
}
