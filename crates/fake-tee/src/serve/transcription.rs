//! `POST /v1/audio/transcriptions`: the model's name, and the file's length and SHA-256.

use bytes::Bytes;
use hyper::{Request, header};
use serde_json::{Value, json};

use super::backend::Link;
use super::body::Reply;
use super::engine::{bad_request, incomplete, new_id, no_such_model, padded, signed_json};
use super::upload::Upload;
use crate::hash::sha256;

/// Real backends take 100 MiB of audio.
const MAX_AUDIO: usize = 100 << 20;
const MAX_FIELDS: usize = 64;

pub(super) async fn answer(link: &Link, request: Request<Upload>) -> Reply {
    let (head, mut body) = request.into_parts();
    let boundary = head
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .filter(|value| value.starts_with("multipart/form-data"))
        .and_then(|value| value.split_once("boundary="))
        .map(|(_, rest)| {
            let end = rest.split(';').next().unwrap_or(rest);
            end.trim().trim_matches('"').to_owned()
        });
    let bytes = match body.whole(MAX_AUDIO).await {
        Ok(bytes) => bytes,
        Err(why) => return incomplete(&why),
    };
    let Some(fields) = boundary.and_then(|boundary| fields(&bytes, &boundary)) else {
        return bad_request("the body is no multipart/form-data");
    };
    let field = |name: &str| fields.iter().find(|field| field.name == name);
    let model = field("model").map_or_else(String::new, |field| {
        String::from_utf8_lossy(&field.data).into_owned()
    });
    if !link.state.serves(&model) {
        return no_such_model();
    }
    let Some(file) = field("file") else {
        return bad_request("there is no file");
    };
    let text = format!(
        "{} bytes, SHA-256 {}",
        file.data.len(),
        hex::encode(sha256(&file.data))
    );
    let id = new_id(link, "trans");
    let answer = format!(
        r#"{{"id":"{id}","model":{},"text":{},"usage":{}}}"#,
        Value::from(model.as_str()),
        Value::from(text),
        json!({"type": "duration", "seconds": 1}),
    );
    // protocol.md: over the fields' data only.
    let data: Vec<u8> = fields
        .iter()
        .flat_map(|field| field.data.iter().copied())
        .collect();
    let frames = padded(answer, String::new(), 0);
    signed_json(link, frames, &id, &model, sha256(&data))
}

struct Field {
    name: String,
    data: Bytes,
}

/// RFC 7578, as SDKs write it.
fn fields(body: &Bytes, boundary: &str) -> Option<Vec<Field>> {
    let delimiter = format!("\r\n--{boundary}");
    let mut at = delimiter.len() - 2;
    if !body.starts_with(delimiter.get(2..)?.as_bytes()) {
        return None;
    }
    let mut fields = Vec::new();
    while fields.len() < MAX_FIELDS {
        let rest = body.get(at..)?;
        if rest.starts_with(b"--") {
            return Some(fields);
        }
        let head_end = find(rest, b"\r\n\r\n")?;
        let head = std::str::from_utf8(rest.get(..head_end)?).ok()?;
        let name = head
            .split([';', '\r', '\n'])
            .find_map(|part| part.trim().strip_prefix("name="))?
            .trim_matches('"');
        let start = at + head_end + 4;
        let len = find(body.get(start..)?, delimiter.as_bytes())?;
        fields.push(Field {
            name: name.to_owned(),
            data: body.slice(start..start + len),
        });
        at = start + len + delimiter.len();
    }
    None
}

/// Where `what` begins; candidates by its first byte, which files seldom have.
fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    let first = *what.first()?;
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.iter().position(|byte| *byte == first)?;
        if text.get(at..)?.starts_with(what) {
            return Some(at);
        }
        from = at + 1;
    }
}
