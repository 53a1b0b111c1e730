//! The field `model` of a `multipart/form-data` body (RFC 7578), found while the body arrives
//! in pieces of any size. The body is not changed.
//!
//! A form that another parser could split into other parts is refused.

use std::mem;

use memchr::memmem::Finder;
use sources::backend::MAX_MODEL_BYTES;

use super::parameters::{Ambiguous, has_ascii_charset, main_value, may_spell, parameter};

/// What is wrong with a body's content. It contains nothing of the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content(pub(super) &'static str);

/// The field's name.
const FIELD: &str = "model";
/// RFC 2046 §5.1.1.
const MAX_BOUNDARY: usize = 70;
/// Of one part's header. Its longest item is the file name.
const MAX_PART_HEADER: usize = 4 << 10;
/// Lines of a part's header: `Content-Disposition` and a few more.
const MAX_PART_HEADERS: usize = 16;
/// White space after a boundary.
const MAX_PADDING: usize = 128;

/// The search for the field.
pub(super) struct Form {
    /// CRLF, `--` and the boundary.
    delimiter: Vec<u8>,
    /// The same without CRLF.
    dashes: Finder<'static>,
    state: State,
    /// The end of what arrived, where a delimiter may have begun, or all of a text that is
    /// being collected.
    pending: Vec<u8>,
    seen: bool,
    model: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a delimiter: the preamble, or a part that is not the model.
    Skipped,
    /// After a delimiter, up to the line's end.
    DelimiterLine,
    Header,
    Model,
    /// After the last delimiter.
    Epilogue,
}

impl Form {
    /// For this `Content-Type`.
    pub(super) fn new(content_type: &str) -> Result<Self, Content> {
        let boundary = parameter(content_type, "boundary").map_err(|Ambiguous| NO_BOUNDARY)?;
        let boundary = boundary.ok_or(NO_BOUNDARY)?;
        if boundary.is_empty() || boundary.len() > MAX_BOUNDARY {
            return Err(NO_BOUNDARY);
        }
        Ok(Self {
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            dashes: Finder::new(&format!("--{boundary}")).into_owned(),
            state: State::Skipped,
            // The first delimiter may be at the very beginning.
            pending: b"\r\n".to_vec(),
            seen: false,
            model: None,
        })
    }

    /// The next piece of the body.
    pub(super) fn feed(&mut self, mut piece: &[u8]) -> Result<(), Content> {
        while !piece.is_empty() {
            match self.state {
                State::Skipped => {
                    if self.skip(&mut piece)? {
                        self.state = State::DelimiterLine;
                    }
                }
                State::DelimiterLine => {
                    let line = match self.keep(&mut piece, b"\r\n", MAX_PADDING) {
                        Ok(Some(line)) => line,
                        // The close delimiter. The epilogue after it is ignored and need not be
                        // a line.
                        Ok(None) | Err(_) if self.pending.starts_with(b"--") => {
                            self.state = State::Epilogue;
                            continue;
                        }
                        Ok(None) => continue,
                        Err(too_long) => return Err(too_long),
                    };
                    self.state = match line.strip_prefix(b"--") {
                        Some(_) => State::Epilogue,
                        None if line.iter().all(|b| matches!(b, b' ' | b'\t')) => State::Header,
                        // A longer boundary with this one as its prefix.
                        None => return Err(NOT_A_FORM),
                    };
                    // The part's header may be empty: then the blank line is all of it.
                    self.pending.extend_from_slice(b"\r\n");
                }
                State::Header => {
                    let Some(header) = self.keep(&mut piece, b"\r\n\r\n", MAX_PART_HEADER)? else {
                        continue;
                    };
                    let is_model = names_model(header.strip_prefix(b"\r\n").unwrap_or_default())?;
                    if is_model && mem::replace(&mut self.seen, true) {
                        return Err(TWICE);
                    }
                    self.state = match is_model {
                        true => State::Model,
                        false => State::Skipped,
                    };
                }
                State::Model => {
                    let delimiter = self.delimiter.clone();
                    let Some(value) = self.keep(&mut piece, &delimiter, MAX_MODEL_BYTES)? else {
                        continue;
                    };
                    self.model = Some(String::from_utf8(value).map_err(|_| NOT_TEXT)?);
                    self.state = State::DelimiterLine;
                }
                State::Epilogue => return Ok(()),
            }
        }
        Ok(())
    }

    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Checks that the body may end here.
    pub(super) fn end(&self) -> Result<(), Content> {
        match self.state {
            State::Epilogue => Ok(()),
            _ => Err(NOT_A_FORM),
        }
    }

    /// Moves behind the next delimiter, or to the piece's end. Some parsers take a boundary
    /// without CRLF before it for a delimiter (werkzeug accepts a bare LF), and RFC 2046 §5.1.1
    /// forbids it inside parts: refused.
    fn skip(&mut self, piece: &mut &[u8]) -> Result<bool, Content> {
        let overlap = self.delimiter.len() - 1;
        let had = self.pending.len();
        if had > 0 {
            let (head, rest) = piece.split_at(overlap.min(piece.len()));
            self.pending.extend_from_slice(head);
            if let Some(end) = self.delimiter_in(&self.pending)? {
                *piece = piece.get(end.saturating_sub(had)..).unwrap_or_default();
                self.pending.clear();
                return Ok(true);
            }
            if rest.is_empty() {
                let excess = self.pending.len().saturating_sub(overlap);
                self.pending.drain(..excess);
                *piece = rest;
                return Ok(false);
            }
            self.pending.clear();
        }
        if let Some(end) = self.delimiter_in(piece)? {
            *piece = piece.get(end..).unwrap_or_default();
            return Ok(true);
        }
        let tail = piece.get(piece.len().saturating_sub(overlap)..);
        self.pending.extend_from_slice(tail.unwrap_or_default());
        *piece = &[];
        Ok(false)
    }

    /// Where the first delimiter ends.
    fn delimiter_in(&self, text: &[u8]) -> Result<Option<usize>, Content> {
        let Some(at) = self.dashes.find(text) else {
            return Ok(None);
        };
        let end = at + self.dashes.needle().len();
        match text.get(..end) {
            Some(text) if text.ends_with(&self.delimiter) => Ok(Some(end)),
            _ => Err(NOT_A_FORM),
        }
    }

    /// Collects everything up to `end`, which has to come within `max` bytes.
    fn keep(
        &mut self,
        piece: &mut &[u8],
        end: &[u8],
        max: usize,
    ) -> Result<Option<Vec<u8>>, Content> {
        let had = self.pending.len();
        let room = (max + end.len()).saturating_sub(had);
        let (head, rest) = piece.split_at(room.min(piece.len()));
        self.pending.extend_from_slice(head);
        let from = had.saturating_sub(end.len() - 1);
        let searched = self.pending.get(from..).unwrap_or_default();
        if let Some(at) = memchr::memmem::find(searched, end) {
            let mut kept = mem::take(&mut self.pending);
            let used = (from + at + end.len()).saturating_sub(had);
            *piece = piece.get(used..).unwrap_or_default();
            kept.truncate(from + at);
            return Ok(Some(kept));
        }
        *piece = rest;
        if self.pending.len() >= max + end.len() {
            return Err(TOO_LONG);
        }
        Ok(None)
    }
}

const NO_BOUNDARY: Content =
    Content("the Content-Type of its multipart body has no boundary of 1 to 70 characters");
const NOT_A_FORM: Content = Content("the body is not valid multipart/form-data");
const TWO_NAMES: Content = Content(
    "a part's Content-Disposition can be read in two ways, in one of which the part may be the field \"model\"; a file with a plainer name has no such header",
);
const TWICE: Content = Content("the form has two fields \"model\"");
const NOT_TEXT: Content = Content(
    "the form's field \"model\" is not plain text: it is a file, or has an encoding or charset that changes it",
);
const TOO_LONG: Content = Content(
    "the form's field \"model\" has more than 200 bytes, or a part's header more than 4096",
);

/// True if the part is the field: it has one header with one name, `model`.
fn names_model(header: &[u8]) -> Result<bool, Content> {
    // Only some parsers take a bare LF for the end of a line, or of the header.
    let mut before = 0;
    for at in memchr::memchr_iter(b'\n', header) {
        if header.get(before..at).and_then(<[u8]>::last) != Some(&b'\r') {
            return Err(NOT_A_FORM);
        }
        before = at + 1;
    }
    let mut text = header.to_vec();
    // What httparse expects at a header's end.
    text.extend_from_slice(b"\r\n\r\n");
    let mut lines = [httparse::EMPTY_HEADER; MAX_PART_HEADERS];
    let parsed = match header {
        [] => &mut [],
        _ => match httparse::parse_headers(&text, &mut lines) {
            Ok(httparse::Status::Complete((_, parsed))) => parsed,
            _ => return Err(NOT_A_FORM),
        },
    };
    let of = |name: &str| {
        let mut found = parsed
            .iter()
            .filter(|line| line.name.eq_ignore_ascii_case(name));
        (found.next(), found.next())
    };
    let disposition = match of("content-disposition") {
        (Some(line), None) => String::from_utf8_lossy(line.value),
        (None, _) => return Ok(false),
        (Some(_), Some(_)) => return Err(NOT_A_FORM),
    };
    // A file's name may contain all that parsers disagree about (RFC 7578 §4.2, RFC 6266), and
    // parsers that ignore the type still use the name. Where none can find the word, all
    // agree.
    let name = match main_value(&disposition).as_str() {
        "form-data" => parameter(&disposition, "name"),
        _ => Err(Ambiguous),
    };
    match name {
        Ok(Some(name)) if name == FIELD => {}
        Err(Ambiguous) if may_spell(&disposition, FIELD) => return Err(TWO_NAMES),
        Ok(_) | Err(Ambiguous) => return Ok(false),
    }
    // Another parser would see a file, or other text.
    let is_text = parameter(&disposition, "filename") == Ok(None)
        && is_as_it_stands(of("content-transfer-encoding"))
        && is_in_ascii_charset(of("content-type"));
    match is_text {
        true => Ok(true),
        false => Err(NOT_TEXT),
    }
}

/// One line of a header, and a second one.
type Lines<'a> = (
    Option<&'a httparse::Header<'a>>,
    Option<&'a httparse::Header<'a>>,
);

/// True if a part has no transfer-encoding (RFC 2045 §6.2: three names for none). Retrofit and
/// Apache's HttpClient name one.
fn is_as_it_stands(encoding: Lines<'_>) -> bool {
    match encoding {
        (None, _) => true,
        (Some(line), None) => ["", "7bit", "8bit", "binary"].iter().any(|none| {
            line.value
                .trim_ascii()
                .eq_ignore_ascii_case(none.as_bytes())
        }),
        (Some(_), Some(_)) => false,
    }
}

fn is_in_ascii_charset(content_type: Lines<'_>) -> bool {
    match content_type {
        (None, _) => true,
        (Some(line), None) => std::str::from_utf8(line.value).is_ok_and(has_ascii_charset),
        (Some(_), Some(_)) => false,
    }
}

#[cfg(test)]
mod tests;
