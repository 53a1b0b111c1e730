//! Where a request names its model, and how its body goes on.

#![expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]

use std::time::Duration;

use aws_lc_rs::digest;
use fake_tee::serve::Running;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::*;

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

/// Answers with the digest of what it got.
async fn digesting(fake: &Running) -> Scripted {
    Scripted::start(fake, NO_ODDITIES, |request| {
        Response::new(Script::whole(sha256(request.body()).into_bytes()))
    })
    .await
}

fn asked(backend: &Scripted) -> usize {
    let lines = backend.lines();
    let probe = "GET /v1/attestation/report?";
    lines.iter().filter(|line| !line.starts_with(probe)).count()
}

async fn post(proxy: &Proxy, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut request = Request::post(target).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    proxy
        .request(request.body(Full::from(body.to_vec())).unwrap())
        .await
}

const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=\"b\"");
const GZIP: (&str, &str) = ("content-encoding", "gzip");
const HEAD: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n";

fn form(model: &str, first: bool) -> Vec<u8> {
    let model = format!("--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n");
    let mut file =
        b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n".to_vec();
    file.extend((0..300_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]));
    file.extend(b"\r\n");
    match first {
        true => [model.as_bytes(), &file, b"--b--\r\n"].concat(),
        false => [&file, model.as_bytes(), b"--b--\r\n"].concat(),
    }
}

/// A client's connection after these bytes.
async fn begun(proxy: &Proxy, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

async fn rest_of(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(20), read).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Whether a backend gets `needle` soon.
async fn gets(fake: &Running, needle: &str) -> bool {
    for _ in 0..200 {
        let received = fake.received();
        let mut bytes = received.iter().map(|connection| &connection.bytes);
        if bytes.any(|bytes| String::from_utf8_lossy(bytes).contains(needle)) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

#[tokio::test]
async fn a_model_is_found_in_body_form_or_query() {
    let fake = fake().await;
    let backend = digesting(&fake).await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let late = format!(
        r#"{{"messages":["{}"],"model":"fake\u002fllama"}}"#,
        "\\n prompt".repeat(100_000)
    );
    // As Retrofit and Go write a form.
    let of_java = [
        b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: binary\r\nContent-Type: text/plain; charset=ISO-8859-1\r\nContent-Length: 10\r\n\r\nfake/llama\r\n".as_slice(),
        b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\"; name=c.wav\"\r\n\r\nx\r\n--b--\r\n",
    ]
    .concat();
    let named = "/v1/x?a=b&model=fake%2Fllama";
    for (target, headers, body) in [
        ("/v1/x", &[JSON][..], br#"{"model":"fake/llama"}"#.to_vec()),
        ("/v1/x", &[], br#"{"model":"fake/llama"}"#.to_vec()),
        ("/v1/x", &[JSON], late.into_bytes()),
        (
            "/v1/x",
            &[JSON],
            b"\xef\xbb\xbf{\"model\":\"fake/llama\"}".to_vec(),
        ),
        (
            "/v1/x",
            &[JSON, ("content-encoding", "")],
            br#"{"model":"fake/llama"}"#.to_vec(),
        ),
        ("/v1/x", &[FORM], of_java.clone()),
        ("/v1/x", &[FORM], form(MODEL, true)),
        ("/v1/x", &[FORM], form(MODEL, false)),
        (named, &[JSON], br#"{"model":"fake/llama"}"#.to_vec()),
        (named, &[JSON], b"{}".to_vec()),
        (named, &[FORM], b"--b--".to_vec()),
        (named, &[JSON, GZIP], b"\x1f\x8b".to_vec()),
        (named, &[("content-type", "audio/wav")], b"RIFF".to_vec()),
        (named, &[], Vec::new()),
    ] {
        let answer = post(&proxy, target, headers, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{target} {headers:?}");
        assert_eq!(answer.body, sha256(&body), "{target} {headers:?}");
    }
    let answer = proxy.get(named).await;
    assert_eq!(answer.status, StatusCode::OK);
    let lines = backend.lines();
    let line = lines.last().unwrap();
    assert!(line.starts_with(&format!("GET {named} ")), "{line}");
}

#[tokio::test]
async fn two_models_are_refused_and_none_is_named() {
    let fake = fake().await;
    let backend = digesting(&fake).await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let two_fields = [
        &form(MODEL, true)[..form(MODEL, true).len() - 7],
        &form(MODEL, true),
    ]
    .concat();
    let other = "/v1/x?model=other";
    for (target, headers, body, code) in [
        (
            other,
            &[JSON][..],
            br#"{"model":"fake/llama"}"#.to_vec(),
            "bad_request",
        ),
        (other, &[FORM], form(MODEL, true), "bad_request"),
        (
            "/v1/x?model=a&model=a",
            &[JSON],
            b"{}".to_vec(),
            "bad_request",
        ),
        (
            "/v1/x?model=fake/llama",
            &[JSON],
            b"{".to_vec(),
            "bad_request",
        ),
        ("/v1/x", &[FORM], two_fields, "bad_request"),
        (
            "/v1/x",
            &[FORM],
            form(&"m".repeat(201), false),
            "bad_request",
        ),
        ("/v1/x", &[FORM], b"no form".to_vec(), "bad_request"),
        (
            "/v1/x",
            &[("content-type", "multipart/form-data")],
            b"--b--".to_vec(),
            "bad_request",
        ),
        ("/v1/x", &[FORM], b"--b--".to_vec(), "no_backend"),
        (
            "/v1/x",
            &[JSON, GZIP],
            b"\x1f\x8b".to_vec(),
            "body_compressed",
        ),
        (
            "/v1/x?model=a&model=a",
            &[JSON, GZIP],
            b"\x1f\x8b".to_vec(),
            "bad_request",
        ),
        ("/v1/x", &[JSON], b"\xff\xfe{\0}\0".to_vec(), "bad_request"),
        (other, &[JSON], b"{}".to_vec(), "model_not_found"),
    ] {
        let answer = post(&proxy, target, headers, &body).await;
        assert_eq!(answer.code(), code, "{target} {headers:?}");
    }
    assert_eq!(asked(&backend), 0);
}

/// Each names one model in the query; a reader that goes by the bytes alone, or by
/// another header, would find another one in the body.
#[tokio::test]
async fn a_body_said_to_be_something_else_hides_no_model() {
    let fake = fake().await;
    let backend = digesting(&fake).await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let named = "/v1/x?model=fake%2Fllama";
    let other = br#"{"model":"other"}"#;
    let utf16: Vec<u8> = [&b"\xff\xfe"[..], &other.map(|byte| [byte, 0]).concat()].concat();
    let hop = |header| ("connection", header);
    let text = ("content-type", "text/plain");
    let url = ("content-type", "application/x-www-form-urlencoded");
    for (headers, body) in [
        (&[JSON, GZIP][..], &other[..]),
        (&[JSON, GZIP, hop("content-encoding")], other),
        (&[text], other),
        (&[text, hop("content-type")], other),
        (&[text], b"\xef\xbb\xbf \n{}"),
        (&[text], &utf16),
        (&[text, JSON], other),
        (&[("content-type", "")], other),
        (&[url], b"model=other"),
    ] {
        let answer = post(&proxy, named, headers, body).await;
        assert_eq!(answer.code(), "bad_request", "{headers:?} {body:?}");
    }
    assert_eq!(asked(&backend), 0);
}

#[tokio::test]
async fn a_named_backend_wins_over_every_model() {
    let fake = fake().await;
    let backend = digesting(&fake).await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let domain = ("x-backend-domain", DOMAIN);
    for body in [&br#"{"model":"x","model":"y"}"#[..], b"not JSON"] {
        let answer = post(&proxy, "/v1/x?model=z", &[JSON, domain], body).await;
        assert_eq!(answer.body, sha256(body));
    }
}

#[tokio::test]
async fn a_body_streams_on_once_its_model_is_known() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let chunk = format!(r#"{{"model":"{MODEL}","x":"{CANARY}"#);
    let head = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
    let mut stream = begun(&proxy, head.as_bytes()).await;
    let sent = format!("{:x}\r\n{chunk}\r\n", chunk.len());
    stream.write_all(sent.as_bytes()).await.unwrap();
    assert!(gets(&fake, CANARY).await);
    // And so does every later piece, while there is no end.
    for piece in ["first-piece", "second-piece"] {
        let sent = format!("{:x}\r\n{piece}\r\n", piece.len());
        stream.write_all(sent.as_bytes()).await.unwrap();
        assert!(gets(&fake, piece).await, "{piece}");
    }
}

#[tokio::test]
async fn nothing_streams_before_the_model_is_known() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.client_timeouts.body_idle = Duration::from_millis(500);
    let proxy = Proxy::start(config).await;
    let head = format!("{HEAD}Content-Length: 100\r\n\r\n{{\"x\":\"{CANARY}\",\"model\":\"fake");
    let answer = rest_of(begun(&proxy, head.as_bytes()).await).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(fake.received().is_empty());
}

#[tokio::test]
async fn a_late_fault_is_never_part_of_a_whole_request() {
    let fake = fake().await;
    let backend = digesting(&fake).await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let first = format!(r#"{{"model":"{MODEL}","x":["#);
    for last in [
        r#"],"model":"fake/llama"}"#,
        r#"],"m\u006fdel":"other"}"#,
        r#"]} {"#,
        r#"]"#,
    ] {
        for chunked in [true, false] {
            let length = first.len() + last.len();
            let (head, first, last) = match chunked {
                true => (
                    "Transfer-Encoding: chunked".to_owned(),
                    format!("{:x}\r\n{first}\r\n", first.len()),
                    format!("{:x}\r\n{last}\r\n0\r\n\r\n", last.len()),
                ),
                false => (
                    format!("Content-Length: {length}"),
                    first.clone(),
                    last.to_owned(),
                ),
            };
            let head = format!("{HEAD}{head}\r\n\r\n{first}");
            let mut stream = begun(&proxy, head.as_bytes()).await;
            // The first piece is on its way, or there already.
            tokio::time::sleep(Duration::from_millis(400)).await;
            stream.write_all(last.as_bytes()).await.unwrap();
            let answer = rest_of(stream).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{last}: {answer}");
            assert!(answer.contains("bad_request"), "{last}: {answer}");
        }
    }
    assert_eq!(asked(&backend), 0);
}

#[tokio::test]
async fn uploads_arrive_as_they_were_whatever_their_pieces() {
    let fake = fake().await;
    let backend = digesting(&fake).await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap()
    };
    for round in 0..12 {
        let before = "a".repeat(random(900 << 10));
        let after = "\\u00e9 \\\"".repeat(random(4 << 10));
        let body = match round % 3 {
            0 => form(MODEL, random(2) == 0),
            _ => format!(r#"{{"x":"{before}","model":"{MODEL}","y":"{after}"}}"#).into_bytes(),
        };
        let kind = if round % 3 == 0 { FORM.1 } else { JSON.1 };
        let mut request = format!(
            "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        .into_bytes();
        let mut rest = &body[..];
        while !rest.is_empty() {
            let most = if round % 2 == 0 { 64 << 10 } else { 700 };
            let (piece, later) = rest.split_at((1 + random(most)).min(rest.len()));
            request.extend(format!("{:x}\r\n", piece.len()).bytes());
            request.extend(piece);
            request.extend(b"\r\n");
            rest = later;
        }
        request.extend(b"0\r\n\r\n");
        let answer = rest_of(begun(&proxy, &request).await).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains(&sha256(&body)), "{round}");
    }
}

#[tokio::test]
async fn the_memory_for_bodies_is_bounded_and_comes_back() {
    let fake = fake().await;
    let backend = digesting(&fake).await;
    let mut config = backend.config(&fake);
    config.body_memory = 4 << 20;
    let proxy = Proxy::start(config).await;
    // The model comes last, so that 600 KiB of each are held.
    let begin = format!("{{\"x\":\"{}\"", "x".repeat(600 << 10));
    let end = format!(",\"model\":\"{MODEL}\"}}");
    let head = format!(
        "{HEAD}Content-Length: {}\r\n\r\n{begin}",
        begin.len() + end.len()
    );
    let mut clients = tokio::task::JoinSet::new();
    let all_begun = std::sync::Arc::new(tokio::sync::Barrier::new(50));
    for _ in 0..50 {
        let (address, head, end) = (proxy.address, head.clone(), end.clone());
        let all_begun = std::sync::Arc::clone(&all_begun);
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let _ = stream.write_all(head.as_bytes()).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            all_begun.wait().await;
            let _ = stream.write_all(end.as_bytes()).await;
            rest_of(stream).await
        });
    }
    let (mut served, mut busy) = (0, 0);
    while let Some(answer) = clients.join_next().await {
        let answer = answer.unwrap();
        if answer.starts_with("HTTP/1.1 200 ") {
            served += 1;
        } else {
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(
                answer.contains("\"busy\"") && answer.contains("retry-after: 2"),
                "{answer}"
            );
            busy += 1;
        }
    }
    assert_eq!(served + busy, 50);
    assert!((1..=6).contains(&served), "{served}");
    for _ in 0..8 {
        let answer = post(&proxy, "/v1/x", &[JSON], format!("{begin}{end}").as_bytes()).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_body_that_drips_without_a_model_does_not_hold_memory_for_ever() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let fake = fake().await;
    let mut config = config(&fake);
    config.client_timeouts.body_idle = Duration::from_millis(300);
    let proxy = Proxy::start(config).await;
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"messages\":\"";
    write.write_all(head.as_bytes()).await.unwrap();
    let drip = tokio::spawn(async move {
        // Never a pause that is too long.
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut answer = Vec::new();
    let reading = read.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(30), reading)
        .await
        .expect("it drips on");
    drip.abort();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(
        answer.contains("no model was found in the first 3 s of the body"),
        "{answer}"
    );
    assert!(fake.received().is_empty());
}
