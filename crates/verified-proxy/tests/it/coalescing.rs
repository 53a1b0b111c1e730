//! Small pieces of an answer go on joined: not a byte is lost, doubled or moved by
//! that, none waits for the next, and an answer that breaks off is never whole.

use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config as Runs, TestRunner};

use crate::harness::*;

/// Pieces as they are sent: how long to wait, and how many bytes.
type Pieces = Vec<(u64, usize)>;

fn pieces() -> impl Strategy<Value = Pieces> {
    let pause = prop_oneof![6 => Just(0), 1 => 1_u64..4];
    // About the limits: 2 KiB is small, 16 KiB are as much as is joined.
    let size = prop_oneof![
        8 => 1_usize..200,
        2 => 2_040_usize..2_056,
        1 => 16_380_usize..16_390,
        1 => 1_usize..40_000,
    ];
    vec((pause, size), 0..40)
}

/// Bytes that show by themselves where they belong.
fn content(pieces: &Pieces) -> Vec<String> {
    let mut at = 0_usize;
    let mut piece = |size: usize| {
        let end = at + size;
        let text: String = (at..end)
            .map(|at| char::from(b'!' + (at.wrapping_mul(2_654_435_761) >> 13) as u8 % 90))
            .collect();
        at = end;
        text
    };
    pieces.iter().map(|(_, size)| piece(*size)).collect()
}

fn script(pieces: &Pieces, end: End) -> Script {
    let content = content(pieces);
    let content: Vec<_> = content.iter().map(String::as_str).collect();
    let mut script = Script::new(&content, end);
    let pauses: Vec<_> = pieces
        .iter()
        .map(|(pause, _)| Duration::from_millis(*pause))
        .collect();
    script.pauses = pauses.into_iter();
    script
}

fn ask(number: usize) -> Request<Full<bytes::Bytes>> {
    Request::get(format!("/{number}?model={MODEL}"))
        .header("host", "localhost")
        .body(Full::default())
        .unwrap()
}

#[tokio::test]
async fn joined_pieces_are_the_same_bytes() {
    let fake = fake().await;
    let mut runner = TestRunner::new(Runs::default());
    let mut cases = Vec::new();
    for number in 0..120 {
        let case = pieces().new_tree(&mut runner).unwrap().current();
        let end = if number % 4 == 3 {
            End::BreaksOff
        } else {
            End::Clean
        };
        cases.push((case, end));
    }
    let served = cases.clone();
    let backend = Scripted::start(&fake, NO_ODDITIES, move |request| {
        let number: usize = request.uri().path()[1..].parse().unwrap();
        let (pieces, end) = &served[number];
        Response::new(script(pieces, *end))
    })
    .await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    for (number, (pieces, end)) in cases.iter().enumerate() {
        let expected = content(pieces).concat();
        let mut body = proxy.send(ask(number)).await.into_body();
        let (mut got, mut broken) = (Vec::new(), false);
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => got.extend_from_slice(&frame.into_data().unwrap()),
                Err(_) => {
                    broken = true;
                    break;
                }
            }
        }
        let what = format!(
            "{number} {pieces:?}: {} of {} bytes",
            got.len(),
            expected.len()
        );
        assert_eq!(broken, matches!(end, End::BreaksOff), "{what}");
        // Also of an answer that breaks off, what had come goes on.
        assert!(got == expected.as_bytes(), "{what}");
    }
}

/// An event of a stream is not kept until the next one comes.
#[tokio::test]
async fn a_small_piece_does_not_wait_for_another() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, |_| {
        Response::new(Script::new(&["data: one\n\n", "data: two\n\n"], End::Never))
    })
    .await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let mut body = proxy.send(ask(0)).await.into_body();
    let mut got = Vec::new();
    while got.len() < 22 {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await;
        got.extend_from_slice(&frame.unwrap().unwrap().unwrap().into_data().unwrap());
    }
    assert_eq!(got, b"data: one\n\ndata: two\n\n");
}

/// What comes in one go with the backend's mistake goes on before the mistake does.
#[tokio::test]
async fn what_came_before_a_mistake_goes_on() {
    let fake = fake().await;
    for sizes in [&[10][..], &[5_000], &[10, 5_000], &[5_000, 10], &[10; 50]] {
        let (mut answer, mut expected) = (String::new(), String::new());
        answer.push_str("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        for size in sizes {
            answer.push_str(&format!("{size:x}\r\n{}\r\n", "x".repeat(*size)));
            expected.push_str(&"x".repeat(*size));
        }
        answer.push_str("no size\r\n");
        let oddities = Oddities {
            raw_answer: Some(answer.leak()),
            ..NO_ODDITIES
        };
        let backend = Scripted::start(&fake, oddities, |_| unreachable!()).await;
        let proxy = Proxy::start(backend.config(&fake)).await;
        let mut body = proxy.send(ask(0)).await.into_body();
        let mut got = Vec::new();
        let broken = loop {
            match body.frame().await {
                Some(Ok(frame)) => got.extend_from_slice(&frame.into_data().unwrap()),
                Some(Err(_)) => break true,
                None => break false,
            }
        };
        assert!(broken, "{sizes:?}");
        assert_eq!(got.len(), expected.len(), "{sizes:?}");
    }
}
