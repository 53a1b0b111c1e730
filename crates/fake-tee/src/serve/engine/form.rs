//! Files that come in a form.

use bytes::Bytes;
use hyper::{HeaderMap, Request, header};

use super::{bad_request, incomplete, no_such_model};
use crate::hash::sha256;
use crate::serve::body::Reply;
use crate::serve::link::Link;
use crate::serve::upload::Upload;

/// Real backends take 100 MiB of audio.
const MAX_FORM: usize = 100 << 20;
const MAX_FIELDS: usize = 64;

/// A form for a model that is served.
pub(super) struct Form {
    pub(super) headers: HeaderMap,
    pub(super) model: String,
    fields: Vec<Field>,
}

impl Form {
    pub(super) async fn read(link: &Link, request: Request<Upload>) -> Result<Self, Box<Reply>> {
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
        let bytes = body.whole(MAX_FORM).await.map_err(|why| incomplete(&why))?;
        let Some(fields) = boundary.and_then(|boundary| fields(&bytes, &boundary)) else {
            return Err(bad_request("the body is no multipart/form-data").into());
        };
        let mut form = Self {
            headers: head.headers,
            model: String::new(),
            fields,
        };
        form.model = form.text("model");
        if !link.state.serves(&form.model) {
            return Err(no_such_model().into());
        }
        Ok(form)
    }

    pub(super) fn data(&self, name: &str) -> Option<&Bytes> {
        let field = self.fields.iter().find(|field| field.name == name)?;
        Some(&field.data)
    }

    /// Empty, if there is none.
    pub(super) fn text(&self, name: &str) -> String {
        let data = self.data(name).map(Bytes::as_ref).unwrap_or_default();
        String::from_utf8_lossy(data).into_owned()
    }

    /// protocol.md: over the fields' data only.
    pub(super) fn sha256(&self) -> [u8; 32] {
        let data = self.fields.iter().flat_map(|field| field.data.iter());
        sha256(&data.copied().collect::<Vec<u8>>())
    }
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
