//! Where a request names its model: in its body, or else in its query.

use http::{HeaderMap, Uri, header};
use sources::backend::MAX_MODEL_BYTES;

use super::form::{Content, Form};
use super::framing::is_encoded;
use super::parameters::{has_ascii_charset, main_value};
use crate::json_member::{Fault, JsonMember};

const MODEL: &str = "model";

const URL_ENCODED: &str = "its Content-Type is that of a URL-encoded form (the default of curl -d), from which no model is read: send application/json, or name a backend in the header X-Backend-Domain";

/// The model that a request names, or why none is known.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum ModelField {
    Named(String),
    Absent(&'static str),
    /// Absent elsewhere, and the body has a content-coding.
    Encoded,
    Malformed(&'static str),
}

impl ModelField {
    /// The model of the body, or else of the query. Two different ones are refused: the backend
    /// would choose one of them itself.
    pub(super) fn or_query(self, query: Self) -> Self {
        match (self, query) {
            (Self::Named(body), Self::Named(query)) if body != query => {
                Self::Malformed("the body names one model, the query (?model=) another")
            }
            // The proxy does not parse URL-encoded fields but a backend might, and would
            // see another model than the query's: refuse.
            (Self::Absent(URL_ENCODED), Self::Named(_)) => Self::Malformed(URL_ENCODED),
            (Self::Absent(_) | Self::Encoded, query @ Self::Named(_)) => query,
            (body, query @ Self::Malformed(_)) if !matches!(body, Self::Malformed(_)) => query,
            (body, _) => body,
        }
    }
}

/// Scans a body to its end: if the model is given a second time, another parser could use that
/// one.
pub(super) enum BodyScan {
    Json(Box<JsonMember>),
    Form(Box<Form>),
    /// No model is read from it. It must not look like JSON: a backend may ignore the
    /// Content-Type.
    Opaque {
        begun: bool,
    },
}

impl BodyScan {
    /// The scan for a body with these headers; or why no model is looked for. Headers that
    /// parsers read differently are malformed.
    pub(super) fn new(headers: &HeaderMap) -> Result<Self, ModelField> {
        if is_encoded(headers) {
            return Err(ModelField::Encoded);
        }
        let json = || Self::Json(Box::new(JsonMember::new(MODEL, MAX_MODEL_BYTES)));
        let mut content_types = headers.get_all(header::CONTENT_TYPE).iter();
        let text = match (content_types.next(), content_types.next()) {
            (None, _) => "",
            (Some(one), None) => one.to_str().map_err(|_| ModelField::Malformed(NOT_TEXT))?,
            (Some(_), Some(_)) => return Err(ModelField::Malformed(TWO_TYPES)),
        };
        let media_type = main_value(text);
        let is_json = media_type == "application/json" || media_type.ends_with("+json");
        if (is_json || media_type == "multipart/form-data") && !has_ascii_charset(text) {
            return Err(ModelField::Malformed(OTHER_CHARSET));
        }
        // FastAPI treats an empty header as none.
        if is_json || text.is_empty() {
            return Ok(json());
        }
        if media_type == "multipart/form-data" {
            return match Form::new(text) {
                Ok(form) => Ok(Self::Form(Box::new(form))),
                Err(Content(why)) => Err(ModelField::Malformed(why)),
            };
        }
        if media_type == "application/x-www-form-urlencoded" {
            return Err(ModelField::Absent(URL_ENCODED));
        }
        Err(ModelField::Absent(
            "its body is neither JSON nor a form (Content-Type: application/json or multipart/form-data)",
        ))
    }

    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<(), Content> {
        match self {
            Self::Json(member) => member.feed(piece).map_err(said_of_json),
            Self::Form(form) => form.feed(piece),
            Self::Opaque { begun: true } => Ok(()),
            Self::Opaque { begun } => {
                let first = piece.iter().find(|byte| !may_come_before(**byte));
                *begun = first.is_some();
                match first {
                    Some(b'{') => Err(Content(
                        "the body looks like JSON, its Content-Type or Content-Encoding says otherwise",
                    )),
                    _ => Ok(()),
                }
            }
        }
    }

    pub(super) fn model(&self) -> Option<&str> {
        match self {
            Self::Json(member) => member.value(),
            Self::Form(form) => form.model(),
            Self::Opaque { .. } => None,
        }
    }

    /// Checks that the body may end here.
    pub(super) fn end(&self) -> Result<(), Content> {
        match self {
            Self::Json(member) => member.end().map_err(said_of_json),
            Self::Form(form) => form.end(),
            Self::Opaque { .. } => Ok(()),
        }
    }

    /// Why a valid body names no model.
    pub(super) fn why_absent(&self) -> &'static str {
        match self {
            Self::Json(_) => "its JSON body has no top-level \"model\"",
            Self::Form(_) => "its form has no field \"model\"",
            Self::Opaque { .. } => "no model is read from its body",
        }
    }
}

/// White space, and byte order marks of UTF-8, UTF-16 and UTF-32: Python accepts them all.
fn may_come_before(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, 0 | 0xef | 0xbb | 0xbf | 0xfe | 0xff)
}

const NOT_TEXT: &str = "the Content-Type is not text";
const TWO_TYPES: &str = "the request has two headers Content-Type";
const OTHER_CHARSET: &str = "the charset in the Content-Type is not UTF-8, US-ASCII or ISO-8859-1";

fn said_of_json(fault: Fault) -> Content {
    Content(match fault {
        Fault::Syntax => "the body is not valid JSON",
        Fault::NotAnObject => "the body is not a JSON object",
        Fault::NotUtf8 => {
            "the JSON body is in UTF-16 or UTF-32: send it in UTF-8 (PowerShell: -Encoding utf8)"
        }
        Fault::TooDeep => "the JSON body nests deeper than 1024",
        Fault::Twice => "the body's top-level \"model\" is given twice",
        Fault::NotAString => "the body's top-level \"model\" is not a string",
        Fault::TooLong => "the name in \"model\" has more than 200 bytes",
    })
}

/// `?model=`.
pub(super) fn in_query(target: &Uri) -> ModelField {
    let query = target.query().unwrap_or_default();
    let mut models = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == MODEL);
    match (models.next(), models.next()) {
        (None, _) => ModelField::Absent("its query has no \"model\""),
        (Some((_, model)), None) if model.is_empty() => {
            ModelField::Malformed("the query's \"model\" is empty")
        }
        (Some((_, model)), None) if model.len() > MAX_MODEL_BYTES => {
            ModelField::Malformed("the name in the query's \"model\" has more than 200 bytes")
        }
        (Some((_, model)), None) => ModelField::Named(model.into_owned()),
        (Some(_), Some(_)) => ModelField::Malformed("the query's \"model\" is given twice"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(found: ModelField) -> String {
        match found {
            ModelField::Named(model) => model,
            ModelField::Absent(_) => "absent".to_owned(),
            ModelField::Encoded => "encoded".to_owned(),
            ModelField::Malformed(_) => "malformed".to_owned(),
        }
    }

    fn scanned_as(headers: &HeaderMap) -> String {
        match BodyScan::new(headers) {
            Ok(BodyScan::Json(_)) => "json".to_owned(),
            Ok(BodyScan::Form(_)) => "form".to_owned(),
            Ok(BodyScan::Opaque { .. }) => "opaque".to_owned(),
            Err(found) => show(found),
        }
    }

    #[test]
    fn a_query_names_one_model() {
        for (target, expected) in [
            ("/x?model=a%2fb", "a/b"),
            ("/x?a=b&model=a+b&c", "a b"),
            ("/x?%6dodel=a", "a"),
            ("/x?models=a", "absent"),
            ("/x", "absent"),
            ("/x?model=", "malformed"),
            ("/x?model", "malformed"),
            ("/x?model=a&model=a", "malformed"),
        ] {
            assert_eq!(
                show(in_query(&target.parse().unwrap())),
                expected,
                "{target}"
            );
        }
        let long = format!("/x?model={}", "a".repeat(201)).parse().unwrap();
        assert_eq!(show(in_query(&long)), "malformed");
    }

    #[test]
    fn the_body_goes_before_the_query() {
        let named = |name: &str| ModelField::Named(name.to_owned());
        let (absent, malformed) = (ModelField::Absent("x"), ModelField::Malformed("x"));
        for (body, query, expected) in [
            (named("a"), named("a"), "a"),
            (named("a"), named("b"), "malformed"),
            (named("a"), absent.clone(), "a"),
            (named("a"), malformed.clone(), "malformed"),
            (absent.clone(), named("b"), "b"),
            (absent.clone(), absent.clone(), "absent"),
            (ModelField::Absent(URL_ENCODED), absent.clone(), "absent"),
            (ModelField::Absent(URL_ENCODED), named("b"), "malformed"),
            (absent.clone(), malformed.clone(), "malformed"),
            (ModelField::Encoded, named("b"), "b"),
            (ModelField::Encoded, absent.clone(), "encoded"),
            (ModelField::Encoded, malformed.clone(), "malformed"),
            (malformed.clone(), named("b"), "malformed"),
        ] {
            assert_eq!(show(body.or_query(query)), expected);
        }
    }

    #[test]
    fn what_a_body_is_said_to_be_decides() {
        let kind = |pairs: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                let name: http::HeaderName = name.parse().unwrap();
                headers.append(name, value.parse().unwrap());
            }
            scanned_as(&headers)
        };
        let typed = |value: &str| kind(&[("content-type", value)]);
        assert_eq!(kind(&[]), "json");
        assert_eq!(typed("Application/JSON; charset=utf-8"), "json");
        assert_eq!(typed("application/problem+json"), "json");
        assert_eq!(typed("multipart/form-data; boundary=x"), "form");
        assert_eq!(typed("multipart/form-data"), "malformed");
        assert_eq!(
            typed("multipart/form-data; boundary=x; boundary=y"),
            "malformed"
        );
        assert_eq!(
            typed("multipart/form-data; boundary=x; charset=UTF-8"),
            "form"
        );
        assert_eq!(typed("text/plain"), "absent");
        assert_eq!(typed("application/json; charset=ISO-8859-1"), "json");
        assert_eq!(kind(&[("content-encoding", "gzip")]), "encoded");
        assert_eq!(kind(&[("content-encoding", "")]), "json");
    }

    #[test]
    fn a_content_type_that_readers_take_for_different_ones_is_refused() {
        let kind = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                let value = http::HeaderValue::from_bytes(value).unwrap();
                headers.append(header::CONTENT_TYPE, value);
            }
            scanned_as(&headers)
        };
        for values in [
            &[&b"text/plain"[..], b"application/json"][..],
            &[
                b"multipart/form-data; boundary=x",
                b"multipart/form-data; boundary=y",
            ],
            &[b"application/json", b"application/json"],
            // The boundary would be searched for as U+FFFD.
            &[b"multipart/form-data; boundary=\xff"],
            &[b"multipart/form-data; boundary=x; charset=utf-7"],
            &[b"application/json; charset=UTF-7"],
            &[b"application/json; charset=utf-8; charset=utf-7"],
        ] {
            assert_eq!(kind(values), "malformed", "{values:?}");
        }
        // FastAPI treats it as none, and none as JSON.
        assert_eq!(kind(&[b""]), "json");
    }
}
