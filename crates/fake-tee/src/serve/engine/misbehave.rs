//! Answers that a backend should not give, on order: the request's header `x-fake`, its
//! query parameter of the same name, or [`Running::order`](super::Running::order).
//! The table is in the documentation of [`super`].

#[cfg(test)]
mod tests;

use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};

use super::{bad_request, usual};
use crate::Error;
use crate::serve::body::{Frames, Reply, error_reply, framed};
use crate::serve::faults::Act;
use crate::serve::link::Link;
use crate::serve::lock;
use crate::serve::query::parameter;
use crate::serve::raw::{Raw, Step};
use crate::serve::upload::Upload;

/// More than any client should read of it.
const ENDLESS: u64 = u64::MAX;
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
const BODY: &str = r#"{"id":"fake-1","object":"fake"}"#;

/// Every name, as in the table.
pub const MISBEHAVIOURS: &[&str] = &[
    "status",
    "html",
    "redirect",
    "gzip",
    "alt-svc",
    "forged-verdict",
    "header",
    "close",
    "1xx",
    "switch",
    "trailers",
    "two-lengths",
    "te-and-length",
    "te",
    "bad-chunk",
    "bad-length",
    "long",
    "http10",
    "header-flood",
    "header-long",
    "garbage",
    "drip",
    "drip-head",
    "hang",
    "hang-head",
    "hang-body",
    "no-answer",
    "reset",
    "cut-body",
    "cut-chunked",
    "cut-until-close",
    "until-close",
    "abrupt",
    "early",
    "early-close",
];

/// Behind an order: the connection stays open, and what still comes is recorded.
const OPEN: &str = ";open";

/// One misbehaviour.
#[derive(Debug, Clone)]
pub(in crate::serve) struct Order {
    name: String,
    arguments: Option<String>,
    stays_open: bool,
}

impl FromStr for Order {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let order = text.strip_suffix(OPEN);
        let (stays_open, text) = (order.is_some(), order.unwrap_or(text));
        let (name, arguments) = match text.split_once('=') {
            Some((name, arguments)) => (name, Some(arguments.to_owned())),
            None => (text, None),
        };
        let order = Self {
            name: name.to_owned(),
            arguments,
            stays_open,
        };
        let deed = order.deed()?;
        let known = MISBEHAVIOURS.contains(&name);
        // The others leave it open anyway, or end it themselves.
        let can_stay = matches!(&deed, Deed::Raw(raw) if raw.polite);
        if !known || (stays_open && !can_stay) {
            return Err(order.wrong());
        }
        Ok(order)
    }
}

/// Standing orders: for a path and all below, so many times.
#[derive(Debug, Default)]
pub(in crate::serve) struct Orders {
    any: AtomicBool,
    all: Mutex<Vec<(String, Order, u64)>>,
}

impl Orders {
    /// 0 times takes the path's orders back.
    pub(in crate::serve) fn add(&self, path: &str, order: Order, times: u64) {
        let mut all = lock(&self.all);
        if times == 0 {
            all.retain(|(of, _, _)| of != path);
        } else {
            all.push((path.to_owned(), order, times));
        }
        self.any.store(!all.is_empty(), Relaxed);
    }

    fn next(&self, path: &str) -> Option<Order> {
        // No lock where nothing is ordered.
        if !self.any.load(Relaxed) {
            return None;
        }
        let mut all = lock(&self.all);
        let at = all.iter().position(|(of, _, _)| path.starts_with(of))?;
        let (_, order, left) = all.get_mut(at)?;
        let order = order.clone();
        *left -= 1;
        if *left == 0 {
            all.remove(at);
            self.any.store(!all.is_empty(), Relaxed);
        }
        Some(order)
    }
}

/// What is ordered for a request.
pub(super) fn ordered(link: &Link, request: &Request<Upload>) -> Option<Result<Order, Error>> {
    let header = request.headers().get("x-fake");
    if let Some(text) = header.and_then(|value| value.to_str().ok()) {
        return Some(text.parse());
    }
    let query = request.uri().query().unwrap_or_default();
    if query.contains("x-fake=")
        && let Some(text) = parameter(query, "x-fake")
    {
        return Some(text.parse());
    }
    link.state.orders.next(request.uri().path()).map(Ok)
}

enum Deed {
    /// The usual answer with one more header.
    Header(HeaderName, HeaderValue),
    /// Another answer, once the body was read.
    Instead(Reply),
    /// Bytes, once the body was read.
    Raw(Raw),
    /// Bytes before any of the body is read.
    Early(Raw),
    Never,
}

pub(super) async fn answer(link: &Link, mut request: Request<Upload>, order: Order) -> Reply {
    let raw = match order.deed() {
        Err(error) => return bad_request(&error.to_string()),
        Ok(Deed::Header(name, value)) => {
            let mut reply = usual(link, request).await;
            reply.headers_mut().append(name, value);
            return reply;
        }
        Ok(Deed::Instead(reply)) => {
            let _ = request.body_mut().drain().await;
            return reply;
        }
        Ok(Deed::Never) => {
            let _ = request.body_mut().drain().await;
            return std::future::pending().await;
        }
        Ok(Deed::Raw(mut raw)) => {
            let _ = request.body_mut().drain().await;
            if order.stays_open {
                raw.steps.push(Step::Drain);
            }
            raw
        }
        Ok(Deed::Early(raw)) => raw,
    };
    link.play(raw).await;
    error_reply(
        StatusCode::NOT_IMPLEMENTED,
        "not_implemented",
        "this misbehaviour needs HTTP/1.1",
    )
}

impl Order {
    fn wrong(&self) -> Error {
        Error::Argument(format!(
            "\"{}\" with {:?} is no misbehaviour; the list is in the documentation of \
             fake_tee::serve",
            self.name, self.arguments
        ))
    }

    /// The comma-separated argument number `at`, or a default.
    fn number(&self, at: usize, default: u64) -> Result<u64, Error> {
        let arguments = self.arguments.as_deref().unwrap_or_default();
        match arguments.split(',').nth(at).filter(|text| !text.is_empty()) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| self.wrong()),
        }
    }

    fn text<'a>(&'a self, default: &'a str) -> &'a str {
        self.arguments.as_deref().unwrap_or(default)
    }

    fn status(&self, default: u64) -> Result<StatusCode, Error> {
        u16::try_from(self.number(0, default)?)
            .ok()
            .and_then(|status| StatusCode::from_u16(status).ok())
            .ok_or_else(|| self.wrong())
    }

    fn header(&self, name: &str, value: &str) -> Result<Deed, Error> {
        Ok(Deed::Header(
            name.parse().map_err(|_| self.wrong())?,
            value.parse().map_err(|_| self.wrong())?,
        ))
    }

    fn deed(&self) -> Result<Deed, Error> {
        let whole = |head: &str, body: &str| Deed::Raw(Raw::bytes(format!("{OK}{head}\r\n{body}")));
        let length = BODY.len();
        let chunk = format!("{length:x}\r\n{BODY}\r\n");
        Ok(match self.name.as_str() {
            // Other answers.
            "status" => {
                let status = self.status(500)?;
                Deed::Instead(error_reply(status, "server_error", "on order"))
            }
            "html" => Deed::Instead(framed(
                self.status(502)?,
                "text/html",
                Frames::sized(
                    Bytes::from_static(b"<html><h1>502 Bad Gateway</h1></html>"),
                    Bytes::new(),
                    0,
                    Bytes::new(),
                ),
            )),
            "redirect" => {
                let location = self
                    .arguments
                    .as_deref()
                    .and_then(|text| text.split_once(','))
                    .map_or("https://elsewhere.example/", |(_, location)| location);
                let mut reply = Response::new(Frames::default());
                *reply.status_mut() = self.status(307)?;
                let location = location.parse().map_err(|_| self.wrong())?;
                reply.headers_mut().insert("location", location);
                Deed::Instead(reply)
            }
            // A gzip member that a client gets byte for byte.
            "gzip" => {
                let frames = Frames::sized(GZIP.into(), Bytes::new(), 0, Bytes::new());
                let mut reply = framed(StatusCode::OK, "application/json", frames);
                let coding = HeaderValue::from_static("gzip");
                reply.headers_mut().insert("content-encoding", coding);
                Deed::Instead(reply)
            }
            // The usual answer with a header.
            "alt-svc" => self.header("alt-svc", self.text("h3=\"elsewhere.example:443\""))?,
            "forged-verdict" => self.header("x-verified-proxy-verdict", self.text("forged"))?,
            "header" => {
                let (name, value) = self.text("").split_once(':').ok_or_else(|| self.wrong())?;
                self.header(name, value.trim())?
            }
            "close" => self.header("connection", "close")?,
            // Interim answers.
            "1xx" => {
                let status = self.number(0, 103)?;
                let interim = format!("HTTP/1.1 {status} Interim\r\nlink: </x>\r\n\r\n");
                let times = self.number(1, ENDLESS)?;
                let pause = Duration::from_millis(self.number(2, 0)?);
                let last = format!("{OK}content-length: {length}\r\n\r\n{BODY}");
                Deed::Raw(Raw::steps(vec![
                    Step::Repeat(interim.into(), times, pause),
                    Step::Send(last.into()),
                ]))
            }
            "switch" => Deed::Raw(Raw::bytes(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: fake\r\n\
                 connection: upgrade\r\n\r\nno longer HTTP",
            )),
            // Framing.
            "trailers" => whole(
                "transfer-encoding: chunked\r\ntrailer: x-fake-trailer\r\n",
                &format!("{chunk}0\r\nx-fake-trailer: one\r\nx-fake-undeclared: two\r\n\r\n"),
            ),
            "two-lengths" => whole(
                &format!(
                    "content-length: {length}\r\ncontent-length: {}\r\n",
                    length + 1
                ),
                BODY,
            ),
            "te-and-length" => whole(
                &format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
                &format!("{chunk}0\r\n\r\n"),
            ),
            "te" => whole(
                &format!("transfer-encoding: {}\r\n", self.text("gzip, chunked")),
                &format!("{chunk}0\r\n\r\n"),
            ),
            "bad-chunk" => whole(
                "transfer-encoding: chunked\r\n",
                &format!("{chunk}{}\r\n{BODY}\r\n0\r\n\r\n", self.text("zz")),
            ),
            "bad-length" => whole(&format!("content-length: {}\r\n", self.text("-1")), BODY),
            "long" => whole(
                &format!("content-length: {length}\r\n"),
                &format!("{BODY}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"),
            ),
            "http10" => Deed::Raw(Raw::bytes(format!(
                "HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{BODY}"
            ))),
            "header-flood" => {
                let line = format!("x-fake-flood: {}\r\n", "x".repeat(64));
                Deed::Raw(Raw::steps(vec![
                    Step::Send(OK.into()),
                    Step::Repeat(line.into(), self.number(0, ENDLESS)?, Duration::ZERO),
                    Step::Send(format!("content-length: {length}\r\n\r\n{BODY}").into()),
                ]))
            }
            "header-long" => {
                let count = self.number(0, ENDLESS)?;
                Deed::Raw(Raw::steps(vec![
                    Step::Send(format!("{OK}x-fake-long: ").into()),
                    Step::Repeat("x".into(), count, Duration::ZERO),
                    Step::Send(format!("\r\ncontent-length: {length}\r\n\r\n{BODY}").into()),
                ]))
            }
            "garbage" => Deed::Raw(Raw::bytes("\u{0}\u{1}SSH-2.0-fake\r\n\r\n")),
            // Time.
            "drip" => {
                let bytes = self.number(0, 1)?.clamp(1, 1 << 16);
                let pause = Duration::from_millis(self.number(1, 100)?);
                let times = self.number(2, 100)?;
                let head = format!(
                    "{OK}content-length: {}\r\n\r\n",
                    bytes.saturating_mul(times)
                );
                Deed::Raw(Raw::steps(vec![
                    Step::Send(head.into()),
                    Step::Repeat("x".repeat(bytes as usize).into(), times, pause),
                ]))
            }
            "drip-head" => Deed::Raw(Raw::steps(vec![
                Step::Send(format!("{OK}x-fake-drip: ").into()),
                Step::Repeat(
                    "x".into(),
                    ENDLESS,
                    Duration::from_millis(self.number(0, 100)?),
                ),
            ])),
            "hang" => Deed::Never,
            "hang-head" => Deed::Raw(Raw::cut("HTTP/1.1 200 OK\r\nconte", Act::Stall)),
            "hang-body" => Deed::Raw(Raw::cut(
                format!("{OK}content-length: {}\r\n\r\n{BODY}", length + 1),
                Act::Stall,
            )),
            // Ends.
            "no-answer" => Deed::Raw(Raw::cut("", Act::Close)),
            "reset" => Deed::Raw(Raw::cut("", Act::Reset)),
            "cut-body" => Deed::Raw(Raw::cut(
                format!("{OK}content-length: {}\r\n\r\n{BODY}", length + 1),
                Act::Close,
            )),
            "cut-chunked" => Deed::Raw(Raw::cut(
                format!("{OK}transfer-encoding: chunked\r\n\r\n{chunk}"),
                Act::Close,
            )),
            "cut-until-close" => Deed::Raw(Raw::cut(
                format!("{OK}connection: close\r\n\r\n{BODY}"),
                Act::Close,
            )),
            "until-close" => whole("connection: close\r\n", BODY),
            "abrupt" => Deed::Raw(Raw::cut(
                format!("{OK}content-length: {length}\r\n\r\n{BODY}"),
                Act::Close,
            )),
            // Before the body is read: and then it is, or is not.
            "early" => {
                let mut raw = self.early()?;
                raw.steps.push(Step::Drain);
                Deed::Early(raw)
            }
            "early-close" => Deed::Early(self.early()?),
            _ => return Err(self.wrong()),
        })
    }

    fn early(&self) -> Result<Raw, Error> {
        let status = self.status(413)?.as_u16();
        Ok(Raw::bytes(format!(
            "HTTP/1.1 {status} Early\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{BODY}",
            BODY.len()
        )))
    }
}

/// `printf '{"fake":"gzip"}' | gzip -n`.
const GZIP: &[u8] = &[
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xab, 0x56, 0x4a, 0x4b, 0xcc, 0x4e,
    0x55, 0xb2, 0x52, 0x4a, 0xaf, 0xca, 0x2c, 0x50, 0xaa, 0x05, 0x00, 0xbd, 0xa9, 0xc9, 0xa7, 0x0f,
    0x00, 0x00, 0x00,
];
