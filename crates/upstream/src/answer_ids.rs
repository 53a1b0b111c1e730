//! Which instance gave which answer, by the answer's id: that instance has the answer's
//! signature.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use attest::{Domain, Spki};
use http::{HeaderMap, Method, StatusCode, header};
use sources::lock::lock;
use tokio::time::Instant;

use crate::json_member::JsonMember;

/// vLLM's ids have some 40 bytes.
const MAX_ID_BYTES: usize = 200;
/// The fleet keeps signatures for 20 minutes.
const TTL: Duration = Duration::from_secs(20 * 60);
/// 40 answers per second for that long; with domain and key some 20 MB.
const MAX_IDS: usize = 50_000;
/// Bytes of an answer. Its id is near the beginning.
const MAX_SCANNED: usize = 4 << 10;
/// The path of signatures.
const PREFIX: &str = "/v1/signature/";

/// The id in a signature's path, not decoded.
pub fn signature_id(path: &str) -> Option<&str> {
    path.strip_prefix(PREFIX)
        .filter(|id| !id.is_empty() && !id.contains('/'))
}

/// The instance that gave an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub domain: Domain,
    pub spki: Spki,
}

/// The ids of the last minutes. If there are too many, the oldest is dropped.
#[derive(Debug, Default, Clone)]
pub struct AnswerIds(Arc<Mutex<Ids>>);

#[derive(Default)]
struct Ids {
    /// The number tells an id's latest answer from an earlier answer with the same id.
    known: HashMap<Arc<str>, (u64, Instance)>,
    oldest: VecDeque<(Arc<str>, u64, Instant)>,
    count: u64,
}

/// Ids tell which answers a client got, so they are not printed.
impl std::fmt::Debug for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ids", self.known.len())
    }
}

impl AnswerIds {
    /// A scan of the answer's first bytes, if the answer may have an id. `method` and `path`
    /// are the request's, the other arguments the answer's.
    pub(crate) fn id_scan(
        &self,
        method: &Method,
        path: &str,
        status: StatusCode,
        headers: &HeaderMap,
        instance: Instance,
    ) -> Option<IdScan> {
        if method != Method::POST || status != StatusCode::OK || !path.starts_with("/v1/") {
            return None;
        }
        let encoded =
            |value: &http::HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
        if headers
            .get_all(header::CONTENT_ENCODING)
            .iter()
            .any(encoded)
        {
            return None;
        }
        let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        let reader = if media_type.eq_ignore_ascii_case("text/event-stream") {
            Reader::Events(Line::Field(Vec::new()))
        } else if media_type.eq_ignore_ascii_case("application/json") {
            Reader::Json(member())
        } else {
            return None;
        };
        Some(IdScan(Some(Scan {
            answer_ids: self.clone(),
            instance,
            reader,
            left: MAX_SCANNED,
        })))
    }

    /// The instance that gave the answer with this id, which may be percent-encoded.
    pub fn instance(&self, id: &str) -> Option<Instance> {
        if id.len() > 3 * MAX_ID_BYTES {
            return None;
        }
        let id = percent_encoding::percent_decode_str(id)
            .decode_utf8()
            .ok()?;
        let mut ids = lock(&self.0);
        ids.forget_before(Instant::now());
        ids.known.get(&*id).map(|(_, instance)| instance.clone())
    }

    fn remember(&self, id: &str, instance: Instance) {
        let now = Instant::now();
        let mut ids = lock(&self.0);
        ids.forget_before(now);
        if ids.oldest.len() >= MAX_IDS {
            ids.forget_oldest();
        }
        ids.count += 1;
        let (id, number) = (Arc::<str>::from(id), ids.count);
        ids.known.insert(Arc::clone(&id), (number, instance));
        ids.oldest.push_back((id, number, now));
    }
}

impl Ids {
    fn forget_before(&mut self, now: Instant) {
        while let Some((_, _, since)) = self.oldest.front() {
            if now.duration_since(*since) < TTL {
                break;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((id, number, _)) = self.oldest.pop_front() {
            let is_same = |(known, _): &(u64, Instance)| *known == number;
            if self.known.get(&id).is_some_and(is_same) {
                self.known.remove(&id);
            }
        }
    }
}

/// Scans an answer until it has the id, or until there can be none.
pub(crate) struct IdScan(Option<Scan>);

struct Scan {
    answer_ids: AnswerIds,
    instance: Instance,
    reader: Reader,
    left: usize,
}

enum Reader {
    Json(Box<JsonMember>),
    Events(Line),
}

/// A line of an event stream (WHATWG HTML §9.2.6).
enum Line {
    /// The field's name, up to the colon.
    Field(Vec<u8>),
    /// The value of `data`, a JSON object in one line.
    Data(Box<JsonMember>),
    /// Another field, or a comment.
    Other,
}

/// Prints nothing of the answer.
impl std::fmt::Debug for IdScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdScan(..)")
    }
}

fn member() -> Box<JsonMember> {
    Box::new(JsonMember::new("id", MAX_ID_BYTES))
}

impl IdScan {
    /// The next bytes of the answer.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let Some(scan) = &mut self.0 else {
            return;
        };
        let now = bytes.get(..scan.left).unwrap_or(bytes);
        scan.left -= now.len();
        let outcome = scan.reader.feed(now);
        if let Ok(Some(id)) = outcome {
            scan.answer_ids.remember(id, scan.instance.clone());
        }
        if !matches!(outcome, Ok(None)) || scan.left == 0 {
            self.0 = None;
        }
    }
}

/// The answer has not the form of answers with ids.
struct NoId;

impl Reader {
    fn feed(&mut self, bytes: &[u8]) -> Result<Option<&str>, NoId> {
        let line = match self {
            // What follows the id does not matter.
            Self::Json(member) => return member.find(bytes).map_err(|_| NoId),
            Self::Events(line) => line,
        };
        for byte in bytes {
            let is_end = matches!(byte, b'\r' | b'\n');
            match line {
                _ if is_end => *line = Line::Field(Vec::new()),
                Line::Field(name) if *byte == b':' => {
                    *line = match name.as_slice() {
                        b"data" => Line::Data(member()),
                        _ => Line::Other,
                    };
                }
                Line::Field(name) => name.push(*byte),
                Line::Data(member) => match member.find(std::slice::from_ref(byte)) {
                    Ok(None) => {}
                    Ok(Some(_)) => break,
                    Err(_) => return Err(NoId),
                },
                Line::Other => {}
            }
        }
        match line {
            Line::Data(member) => Ok(member.value()),
            Line::Field(_) | Line::Other => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
