//! `POST /v1/images/generations`: one grey pixel. `POST /v1/images/edits`: the image as it came.

use hyper::Request;
use serde_json::{Value, json};

use super::form::Form;
use super::question::Question;
use super::{bad_request, id_for, padded, signed_json};
use crate::serve::body::{Frames, Reply};
use crate::serve::link::Link;
use crate::serve::upload::Upload;

const MAX_IMAGES: u64 = 10;

pub(super) async fn generate(link: &Link, request: Request<Upload>) -> Reply {
    let question = match Question::read(link, request).await {
        Ok(question) => question,
        Err(reply) => return *reply,
    };
    let Some(prompt) = question.json["prompt"].as_str() else {
        return bad_request("there is no prompt");
    };
    let count = question.json["n"].as_u64().unwrap_or(1).min(MAX_IMAGES);
    let id = question.id(link, "img");
    let frames = images(link, &id, PIXEL, prompt, count);
    question.json_reply(link, &id, frames)
}

pub(super) async fn edit(link: &Link, request: Request<Upload>) -> Reply {
    let form = match Form::read(link, request).await {
        Ok(form) => form,
        Err(reply) => return *reply,
    };
    let Some(image) = form.data("image") else {
        return bad_request("there is no image");
    };
    let id = id_for(&form.headers, link, "img");
    let frames = images(link, &id, image, &form.text("prompt"), 1);
    signed_json(link, frames, &id, &form.model, form.sha256())
}

fn images(link: &Link, id: &str, image: &[u8], prompt: &str, count: u64) -> Frames {
    let image = json!({"b64_json": crate::encode::base64(image), "revised_prompt": prompt});
    let data: Vec<_> = (0..count).map(|_| image.clone()).collect();
    let answer = format!(
        r#"{{"id":"{id}","created":{},"data":{}}}"#,
        link.state.base.now,
        Value::from(data),
    );
    padded(answer, String::new(), 0)
}

/// A PNG of 1 x 1.
const PIXEL: &[u8] = &[
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52,
    0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x00, 0x00, 0x00, 0x3a, 0x7e, 0x9b,
    0x55, 0x00, 0x00, 0x00, 0x0a, 0x49, 0x44, 0x41, 0x54, 0x78, 0xda, 0x63, 0x68, 0x00, 0x00, 0x00,
    0x82, 0x00, 0x81, 0xda, 0x45, 0x08, 0x3b, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae,
    0x42, 0x60, 0x82,
];
