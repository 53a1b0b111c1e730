//! A genuine machine that misbehaves: its answers are passed on exactly, or
//! refused, or end as broken off as they came (threats.md B7, B8, B11).
//!
//! The misbehaviours are fake-tee's; a new one without a row here fails
//! [`every_misbehaviour_has_a_row`].

#![expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]

mod probes;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fake_tee::serve::{MISBEHAVIOURS, Running};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use proxy::Config;
use tokio::net::TcpStream;

use self::Seen::{Aborted, Error, Own, Usual, Whole};
use crate::harness::*;

/// What the fake's answers of its own have in their bodies.
const BODY: &str = r#"{"id":"fake-1","object":"fake"}"#;
const PAGE: &str = "<html><h1>502 Bad Gateway</h1></html>";
/// `{"fake":"gzip"}`.
const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xabVJK\xccNU\xb2RJ\xaf\xca,P\xaa\x05\0\xbd\xa9\xc9\xa7\x0f\0\0\0";
/// Beside what an answer brings.
const ALWAYS: [&str; 4] = [
    "date",
    "x-verified-proxy-levels",
    "x-verified-proxy-model",
    "x-verified-proxy-verdict",
];

/// What a client has to see.
#[derive(Clone, Copy)]
enum Seen {
    /// The answer that there is without misbehaviour.
    Usual,
    /// The backend's own error.
    Error(u16),
    /// An answer to its end: status, body, headers beside [`ALWAYS`] and the length.
    Whole(u16, &'static [u8], &'static [(&'static str, &'static str)]),
    /// An answer of status 200 that broke off behind this.
    Aborted(&'static str),
    /// The proxy's own words: status and code.
    Own(u16, &'static str),
}

/// Whether the next request may come on the same connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Kept,
    Left,
}
use Then::{Kept, Left};

type Row = (&'static str, Seen, Then);

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const HTML: &[(&str, &str)] = &[("content-type", "text/html")];
const BROKE_OFF: Seen = Own(502, "backend_broke_off");
const REDIRECT: Seen = Own(502, "backend_redirect");
const TIMEOUT: Seen = Own(504, "backend_timeout");

const fn ok(headers: &'static [(&'static str, &'static str)]) -> Seen {
    Whole(200, BODY.as_bytes(), headers)
}

/// Unusual answers, and headers that speak past the proxy.
const ANSWERS: &[Row] = &[
    ("status", Error(500), Kept),
    ("status=429", Error(429), Kept),
    ("html", Whole(502, PAGE.as_bytes(), HTML), Kept),
    ("html=200", Whole(200, PAGE.as_bytes(), HTML), Kept),
    ("redirect", REDIRECT, Left),
    ("redirect=308,//elsewhere.example/", REDIRECT, Left),
    ("redirect=302,/\\elsewhere.example/", REDIRECT, Left),
    (
        "redirect=301,https://elsewhere.completions.near.ai/",
        REDIRECT,
        Left,
    ),
    (
        "redirect=307,https://fake-llama.completions.near.ai/v1/y?z#f",
        Whole(307, b"", &[("location", "/v1/y?z#f")]),
        Kept,
    ),
    (
        "redirect=302,//FAKE-llama.completions.near.ai:443",
        Whole(302, b"", &[("location", "/")]),
        Kept,
    ),
    (
        "redirect=303,../y",
        Whole(303, b"", &[("location", "../y")]),
        Kept,
    ),
    // No redirect: only the way out is taken away.
    (
        "redirect=201,https://elsewhere.example/",
        Whole(201, b"", &[]),
        Kept,
    ),
    (
        "gzip",
        Whole(
            200,
            GZIP,
            &[
                ("content-encoding", "gzip"),
                ("content-type", "application/json"),
            ],
        ),
        Kept,
    ),
    ("alt-svc", Usual, Kept),
    ("forged-verdict", Usual, Kept),
    ("header=x-verified-proxy-model: forged", Usual, Kept),
    ("header=x-verified-proxy-levels: forged", Usual, Kept),
    ("header=proxy-authenticate: Basic", Usual, Kept),
    ("header=keep-alive: timeout=9", Usual, Kept),
    ("close", Usual, Left),
];

/// Where an answer begins and where it ends.
const FRAMING: &[Row] = &[
    ("1xx=103,16", ok(JSON), Left),
    ("1xx=102,17", BROKE_OFF, Left),
    ("1xx", BROKE_OFF, Left),
    ("1xx=103,1000000,20", BROKE_OFF, Left),
    ("switch", BROKE_OFF, Left),
    ("switch;open", BROKE_OFF, Left),
    (
        "trailers",
        ok(&[
            ("content-type", "application/json"),
            ("trailer", "x-fake-trailer"),
        ]),
        Left,
    ),
    ("two-lengths", BROKE_OFF, Left),
    ("two-lengths;open", BROKE_OFF, Left),
    ("te-and-length", ok(JSON), Left),
    ("te-and-length;open", ok(JSON), Left),
    ("te", BROKE_OFF, Left),
    ("te;open", BROKE_OFF, Left),
    ("te=gzip", BROKE_OFF, Left),
    ("te=chunked, chunked", BROKE_OFF, Left),
    ("te=identity;open", BROKE_OFF, Left),
    ("te=x", BROKE_OFF, Left),
    ("bad-chunk", Aborted(BODY), Left),
    ("bad-chunk;open", Aborted(BODY), Left),
    ("bad-chunk=-1", Aborted(BODY), Left),
    ("bad-chunk=fffffffffffffffff", Aborted(BODY), Left),
    ("bad-length", BROKE_OFF, Left),
    ("bad-length;open", BROKE_OFF, Left),
    ("bad-length=+31", BROKE_OFF, Left),
    ("bad-length=0x1f", BROKE_OFF, Left),
    ("bad-length=31, 32", BROKE_OFF, Left),
    ("bad-length=99999999999999999999999", BROKE_OFF, Left),
    ("long", ok(JSON), Left),
    ("long;open", ok(JSON), Left),
    ("http10", ok(JSON), Left),
    ("header-flood=50", ok(JSON), Left),
    ("header-flood", BROKE_OFF, Left),
    ("header-long=1000", ok(JSON), Left),
    ("header-long", BROKE_OFF, Left),
    ("garbage", BROKE_OFF, Left),
    ("garbage;open", BROKE_OFF, Left),
];

/// Connections that end early, or as they should.
const ENDS: &[Row] = &[
    ("drip=10,20,5", Whole(200, &[b'x'; 50], JSON), Left),
    ("no-answer", BROKE_OFF, Left),
    ("reset", BROKE_OFF, Left),
    ("cut-body", Aborted(BODY), Left),
    ("cut-chunked", Aborted(BODY), Left),
    // Truncation: without TLS's close_notify the end is not the backend's.
    ("cut-until-close", Aborted(BODY), Left),
    ("until-close", ok(JSON), Left),
    ("abrupt", ok(JSON), Left),
    ("early", Whole(413, BODY.as_bytes(), JSON), Left),
    ("early-close=401", Whole(401, BODY.as_bytes(), JSON), Left),
];

/// In front of a proxy that waits two seconds for a first byte, and for the next.
const SLOW: &[Row] = &[
    ("hang", TIMEOUT, Left),
    ("hang-head", TIMEOUT, Left),
    ("drip-head", TIMEOUT, Left),
    // Each comes in time; the answer does not.
    ("1xx=103,1000000,300", TIMEOUT, Left),
    ("hang-body", Aborted(BODY), Left),
];

fn name(order: &str) -> &str {
    order.split(['=', ';']).next().unwrap()
}

#[test]
fn every_misbehaviour_has_a_row() {
    for known in MISBEHAVIOURS {
        let mut rows = [ANSWERS, FRAMING, ENDS, SLOW].into_iter().flatten();
        assert!(rows.any(|(order, ..)| name(order) == *known), "{known}");
        let mut probes = probes::ROWS.iter().chain(probes::SLOW);
        assert!(probes.any(|(order, ..)| name(order) == *known), "{known}");
    }
}

/// One connection of a client.
struct Client(SendRequest<Full<Bytes>>);

struct Got {
    answer: Answer,
    /// Whether the body came to its end.
    whole: bool,
    trailers: HeaderMap,
}

impl Client {
    async fn new(proxy: &Proxy) -> Self {
        let stream = TcpStream::connect(proxy.address).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn ask(&mut self, request: Request<Full<Bytes>>) -> Got {
        let asked = async {
            let (head, mut body) = self.0.send_request(request).await.unwrap().into_parts();
            let (mut bytes, mut trailers) = (BytesMut::new(), HeaderMap::new());
            let whole = loop {
                match body.frame().await {
                    None => break true,
                    Some(Err(_)) => break false,
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => bytes.extend_from_slice(&data),
                        Err(frame) => trailers = frame.into_trailers().unwrap(),
                    },
                }
            };
            let answer = Answer {
                status: head.status,
                headers: head.headers,
                body: bytes.freeze(),
            };
            Got {
                answer,
                whole,
                trailers,
            }
        };
        let patience = Duration::from_secs(60);
        tokio::time::timeout(patience, asked).await.unwrap()
    }
}

fn request(marker: &str, order: Option<&str>, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::post(format!("/v1/fake/echo?{marker}"))
        .header("host", "localhost")
        .header("x-backend-domain", DOMAIN)
        .header("authorization", format!("Bearer {API_KEY}"))
        .header("te", "trailers");
    if let Some(order) = order {
        request = request.header("x-fake", order);
    }
    request.body(Full::new(body)).unwrap()
}

fn assert_seen(order: &str, got: &Got, seen: Seen) {
    let Got { answer, whole, .. } = got;
    let status = answer.status.as_u16();
    let verdict = answer.header("x-verified-proxy-verdict");
    let body = String::from_utf8_lossy(&answer.body);
    let context = format!("{order}: {status} {:?} {body}", answer.headers);
    for value in answer.headers.values() {
        assert!(!value.to_str().unwrap().contains("forged"), "{context}");
    }
    for header in ["alt-svc", "keep-alive", "proxy-authenticate"] {
        assert_eq!(answer.header(header), "", "{context}");
    }
    if let Own(status, code) = seen {
        assert_eq!(answer.code(), code, "{context}");
        assert_eq!(answer.status.as_u16(), status, "{context}");
        assert_eq!(answer.header("location"), "", "{context}");
        assert_eq!(answer.header("x-verified-proxy-model"), "", "{context}");
        assert!(*whole, "{context}");
        return;
    }
    // From a verified backend, once and by the proxy alone.
    assert!(verdict.len() == 16, "{context}");
    assert!(verdict.bytes().all(|b| b.is_ascii_hexdigit()), "{context}");
    assert_eq!(answer.header("x-verified-proxy-model"), MODEL, "{context}");
    for header in ALWAYS {
        let values = answer.headers.get_all(header).iter().count();
        assert_eq!(values, 1, "{header}: {context}");
    }
    match seen {
        Own(..) => unreachable!(),
        Usual => {
            assert!(*whole && status == 200, "{context}");
            assert_eq!(answer.json()["complete"], true, "{context}");
        }
        Error(expected) => {
            assert!(*whole && status == expected, "{context}");
            assert_eq!(answer.json()["error"]["message"], "on order", "{context}");
        }
        Aborted(begin) => {
            assert!(!whole, "{context}");
            assert_eq!((status, &*body), (200, begin), "{context}");
        }
        Whole(expected, bytes, headers) => {
            assert!(*whole, "{context}");
            assert_eq!(status, expected, "{context}");
            assert_eq!(&answer.body[..], bytes, "{context}");
            let framing = ["content-length", "transfer-encoding", "connection"];
            let mut others: Vec<_> = answer
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
                .filter(|(name, _)| !ALWAYS.contains(name) && !framing.contains(name))
                .filter(|(name, _)| !name.starts_with("x-fake-"))
                .collect();
            others.sort_unstable();
            assert_eq!(others, headers, "{context}");
            let length = answer.headers.get_all("content-length").iter().count();
            let chunked = answer.header("transfer-encoding") == "chunked";
            assert_eq!(length + usize::from(chunked), 1, "{context}");
        }
    }
}

/// Until every connection has ended, and a moment for the proxy to see it.
async fn closed(fake: &Running, order: &str) {
    let open = || fake.received().iter().any(|one| one.closed.is_none());
    for _ in 0..1_000 {
        if !open() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{order}: the connection is still open");
}

/// Each row twice over: what the client sees, and that its next request gets its
/// own answer, on another connection if this one cannot be trusted any more.
async fn misbehave(rows: &[Row], fake: &Running, mut config: Config) {
    // Who comes next waits until it is settled what becomes of the connection.
    config.pool.per_backend = 1;
    for (number, (order, seen, then)) in rows.iter().enumerate() {
        fake.clear();
        let proxy = Proxy::start(config.clone()).await;
        let mut client = Client::new(&proxy).await;
        let marker = format!("row-{number}-first");
        let got = client
            .ask(request(&marker, Some(order), CANARY.into()))
            .await;
        assert_seen(order, &got, *seen);
        assert!(
            got.trailers.is_empty() || *order == "trailers",
            "{order}: {:?}",
            got.trailers
        );

        if *then == Left && !order.ends_with(";open") {
            closed(fake, order).await;
        }
        // Whole answers leave the client's connection as it was.
        if !got.whole || got.answer.header("connection") == "close" {
            assert!(matches!(seen, Aborted(_) | Own(..)), "{order}");
            client = Client::new(&proxy).await;
        }
        let next = format!("row-{number}-next");
        let got = client.ask(request(&next, None, next.clone().into())).await;
        assert_seen(order, &got, Usual);
        let uri = got.answer.json()["uri"].as_str().unwrap().to_owned();
        assert!(uri.ends_with(&next), "{order}: {uri}");

        let received = fake.received();
        let line = |marker: &str| format!("POST /v1/fake/echo?{marker} ");
        let of = |marker: &str| {
            let text = line(marker);
            let mut got = received
                .iter()
                .filter(|connection| String::from_utf8_lossy(&connection.bytes).contains(&text));
            let first = got.next().unwrap();
            // Sent once, whatever became of it.
            assert!(got.next().is_none(), "{order}");
            let times = String::from_utf8_lossy(&first.bytes).matches(&text).count();
            assert_eq!(times, 1, "{order}");
            first
        };
        let (first, second) = (of(&marker), of(&next));
        assert_eq!(first.id == second.id, *then == Kept, "{order}");
        if *then == Left {
            let bytes = String::from_utf8_lossy(&first.bytes);
            let heads = bytes.matches(" HTTP/1.1\r\n").count();
            assert_eq!(heads, 2, "{order}: more than probe and request: {bytes}");
        }
    }
}

#[tokio::test]
async fn unusual_answers() {
    let fake = fake().await;
    let config = config(&fake);
    misbehave(ANSWERS, &fake, config).await;
}

#[tokio::test]
async fn answers_whose_end_is_in_doubt() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.backend_timeouts.first_byte = Duration::from_secs(20);
    misbehave(FRAMING, &fake, config).await;
}

#[tokio::test]
async fn answers_that_end_early() {
    let fake = fake().await;
    let config = config(&fake);
    misbehave(ENDS, &fake, config).await;
}

#[tokio::test]
async fn answers_that_do_not_come() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.backend_timeouts.first_byte = Duration::from_secs(2);
    config.backend_timeouts.idle = Duration::from_secs(2);
    misbehave(SLOW, &fake, config).await;
}

/// Byte for byte, as a client of HTTP/1.1 gets it.
#[tokio::test]
async fn nothing_stands_before_an_answer_or_behind_it() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let sized = format!("content-length: {}\r\n", BODY.len());
    let chunked = "transfer-encoding: chunked\r\n".to_owned();
    let whole = format!("\r\n\r\n{BODY}");
    let chunks = format!("\r\n\r\n{:X}\r\n{BODY}\r\n0\r\n", BODY.len());
    for (order, framing, end) in [
        ("1xx=103,16", &sized, whole.clone()),
        ("long", &sized, whole.clone()),
        ("abrupt", &sized, whole),
        ("te-and-length", &chunked, format!("{chunks}\r\n")),
        ("http10", &chunked, format!("{chunks}\r\n")),
        ("until-close", &chunked, format!("{chunks}\r\n")),
        (
            "trailers",
            &chunked,
            format!("{chunks}x-fake-trailer: one\r\n\r\n"),
        ),
    ] {
        let request = format!(
            "GET /v1/x HTTP/1.1\r\nhost: localhost\r\nx-backend-domain: {DOMAIN}\r\nx-fake: {order}\r\n\
             te: trailers\r\nconnection: te, close\r\n\r\n"
        );
        let answer = proxy.raw(request.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n"),
            "{order}: {answer}"
        );
        assert!(answer.ends_with(&end), "{order}: {answer}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{order}: {answer}");
        let lengths = ["content-length:", "transfer-encoding:"];
        let said = lengths.map(|name| answer.matches(name).count());
        assert_eq!(said[0] + said[1], 1, "{order}: {answer}");
        assert!(answer.contains(framing.as_str()), "{order}: {answer}");
    }
}

/// An answer that does not wait for the request's body, of which eight MiB are
/// on their way.
#[tokio::test]
async fn early_answers_to_long_bodies() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.max_body = 16 << 20;
    for order in ["early", "early-close"] {
        fake.clear();
        let proxy = Proxy::start(config.clone()).await;
        let body = Bytes::from(vec![b'x'; 8 << 20]);
        let mut client = Client::new(&proxy).await;
        let got = client.ask(request("long-body", Some(order), body)).await;
        assert_seen(order, &got, Whole(413, BODY.as_bytes(), JSON));
        let got = Client::new(&proxy)
            .await
            .ask(request("next", None, "next".into()))
            .await;
        assert_seen(order, &got, Usual);
        let lines: Vec<_> = fake
            .received()
            .into_iter()
            .flat_map(|connection| connection.request_lines)
            .filter(|line| line.contains("long-body"))
            .collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
    }
}
