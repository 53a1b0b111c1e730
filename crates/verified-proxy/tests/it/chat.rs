//! The main job.

use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};

use crate::harness::*;

#[tokio::test]
async fn an_answer_comes_back_with_its_verdict() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let answer = proxy.chat().await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    let content = answer.json()["choices"][0]["message"]["content"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(content.contains(CANARY), "{content}");
    assert_eq!(answer.header("x-verified-proxy-model"), MODEL);

    let id = answer.header("x-verified-proxy-verdict").to_owned();
    assert!(
        id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        "{id}"
    );
    let report = proxy.get(&format!("/_proxy/verdicts/{id}")).await.json();
    assert_eq!(report["verdict"], "verified");
    assert_eq!(report["domain"], DOMAIN);
    assert_eq!(report["spki"], hex::encode(fake.spki_sha256()));
    assert_eq!(report["ca_chain"], "required");
}

#[tokio::test]
async fn the_probe_comes_first_and_on_the_same_connection() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    let received = fake.received();
    assert_eq!(received.len(), 1);
    let text = String::from_utf8_lossy(&received[0].bytes).into_owned();
    let (probe, rest) = text.split_once("POST ").unwrap();
    assert_probe_only(probe);
    assert!(
        rest.starts_with("/v1/chat/completions HTTP/1.1\r\n"),
        "{rest}"
    );
    assert!(rest.contains(API_KEY) && rest.contains(CANARY));

    // The second request recalls the verdict: no probe on its connection.
    fake.clear();
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    assert_eq!(probes(&fake.received()), 0);
}

#[tokio::test]
async fn a_stream_arrives_piece_by_piece() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let response = proxy.send(chat_request(true)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let mut pieces = Vec::new();
    while let Some(frame) = body.frame().await {
        pieces.push(frame.unwrap().into_data().unwrap());
    }
    assert!(pieces.len() > 2, "{} pieces", pieces.len());
    let text = String::from_utf8(pieces.concat()).unwrap();
    assert!(
        text.ends_with("data: [DONE]\n\n") && text.contains(CANARY),
        "{text}"
    );
}

#[tokio::test]
async fn pieces_that_come_together_go_out_together_and_wait_for_none() {
    let fake = fake().await;
    let mut sent: Vec<_> = (0..100).map(|n| format!("data: {n}\n\n")).collect();
    sent.insert(50, "x".repeat(5_000));
    let pieces = sent.clone();
    let backend = Scripted::start(&fake, NO_ODDITIES, move |_| {
        let pieces: Vec<_> = pieces.iter().map(String::as_str).collect();
        Response::new(Script::new(&pieces, End::Never))
    })
    .await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let mut body = proxy.send(chat_request(true)).await.into_body();
    let (mut text, mut frames) = (Vec::new(), 0);
    // The answer does not end, so what is there has to come by itself.
    while text.len() < sent.concat().len() {
        let frame = tokio::time::timeout(Duration::from_secs(20), body.frame());
        let frame = frame.await.unwrap().unwrap().unwrap();
        text.extend_from_slice(&frame.into_data().unwrap());
        frames += 1;
    }
    assert_eq!(String::from_utf8(text).unwrap(), sent.concat());
    assert!(frames < sent.len() / 2, "{frames} pieces");
}

#[tokio::test]
async fn a_body_that_is_not_json_streams_to_a_named_backend() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, |request| {
        Response::new(Script::whole(request.body().len().to_string().into_bytes()))
    })
    .await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let request = Request::post("/v1/audio/transcriptions?x=%20y")
        .header("host", "localhost")
        .header("content-type", "application/octet-stream")
        .header("x-backend-domain", DOMAIN)
        .body(Full::from(vec![b'z'; 300_000]))
        .unwrap();
    let answer = proxy.request(request).await;
    assert_eq!(answer.body, "300000");
    let lines = backend.lines();
    let request = lines.last().unwrap();
    assert!(
        request.starts_with("POST /v1/audio/transcriptions?x=%20y "),
        "{request}"
    );
    assert!(!request.contains("x-backend-domain"));
}

#[tokio::test]
async fn ed25519_and_no_ca_chain() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.signing_algo = attest::SigningAlgo::Ed25519;
    config.webpki = proxy::config::WebPki::Off;
    let proxy = Proxy::start(config).await;
    let answer = proxy.chat().await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    let id = answer.header("x-verified-proxy-verdict").to_owned();
    let report = proxy.get(&format!("/_proxy/verdicts/{id}")).await.json();
    assert_eq!(report["ca_chain"], "not required");
}
