//! NVIDIA's attestation service: its routes, its keys, its failures.
#![allow(
    clippy::disallowed_methods,
    reason = "a test client for the fake's own ports"
)]

use std::time::{Duration, Instant};

use fake_tee::gpu::GpuSpec;
use fake_tee::serve::{Behaviour, NrasRoute, Options};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{Fake, fake};

const ATTEST: (&str, &str) = ("POST", "/v3/attest/gpu");
const KEYS: (&str, &str) = ("GET", "/.well-known/jwks.json");

/// Status and body.
async fn ask(fake: &Fake, (method, path): (&str, &str), body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(fake.http).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: fake\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    let text = String::from_utf8(all).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.get(9..12).map_or(0, |code| code.parse().unwrap());
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// The names of a set's keys, or of the key behind an overall token.
fn kids(keys: &Value) -> Vec<String> {
    let keys = keys["keys"].as_array().unwrap();
    let names = keys.iter().map(|key| key["kid"].as_str().unwrap());
    names.map(str::to_owned).collect()
}

fn signer(answer: &Value) -> String {
    let token = answer[0][1].as_str().unwrap();
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for c in token.split('.').next().unwrap().bytes() {
        let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        bits = bits << 6 | digits.iter().position(|digit| *digit == c).unwrap() as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    let header: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(header["alg"], "ES384");
    header["kid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn it_answers_a_payload_with_a_key_of_its_set() {
    let fake = fake(Options::default()).await;
    let payload = GpuSpec::new(2).unwrap().forge(&[7; 32]).unwrap();
    let (status, answer) = ask(&fake, ATTEST, &payload).await;
    assert_eq!(status, 200);
    assert_eq!(answer[0][0], "JWT");
    let names: Vec<_> = answer[1].as_object().unwrap().keys().collect();
    assert_eq!(names, ["GPU-0", "GPU-1"]);
    let (status, before) = ask(&fake, KEYS, "").await;
    assert_eq!(status, 200);
    assert!(kids(&before).contains(&signer(&answer)));

    // A new key: the set of before does not have it, that of now has both.
    fake.rotate_nras().unwrap();
    let (_, answer) = ask(&fake, ATTEST, &payload).await;
    assert!(!kids(&before).contains(&signer(&answer)));
    let (_, after) = ask(&fake, KEYS, "").await;
    assert!(kids(&after).contains(&signer(&answer)));
    assert!(kids(&before).iter().all(|kid| kids(&after).contains(kid)));
    assert_eq!(fake.nras_fetches(NrasRoute::Attest), 2);
    assert_eq!(fake.nras_fetches(NrasRoute::Keys), 2);
}

#[tokio::test]
async fn it_fails_on_order() {
    let fake = fake(Options::default()).await;
    let payload = GpuSpec::new(1).unwrap().forge(&[7; 32]).unwrap();
    for status in [400, 429, 500, 503] {
        fake.nras(&[NrasRoute::Attest], &Behaviour::Status(status));
        assert_eq!(ask(&fake, ATTEST, &payload).await.0, status);
        assert_eq!(ask(&fake, KEYS, "").await.0, 200);
    }
    fake.nras(&[], &Behaviour::Gone);
    assert_eq!(ask(&fake, ATTEST, &payload).await.0, 0);
    assert_eq!(ask(&fake, KEYS, "").await.0, 0);
    let pause = Duration::from_millis(300);
    fake.nras(&[], &Behaviour::Slow(pause));
    let start = Instant::now();
    assert_eq!(ask(&fake, ATTEST, &payload).await.0, 200);
    assert!(start.elapsed() >= pause);

    fake.nras(&[], &Behaviour::Normal);
    for (route, body, status) in [
        (ATTEST, "no payload", 400),
        (ATTEST, r#"{"nonce":"00","evidence_list":[{}]}"#, 400),
        (("GET", ATTEST.1), "", 405),
        (("POST", KEYS.1), "", 405),
    ] {
        assert_eq!(ask(&fake, route, body).await.0, status, "{route:?} {body}");
    }
}

#[tokio::test]
async fn its_claims_can_be_changed() {
    let fake = fake(Options::default()).await;
    let payload = GpuSpec::new(1).unwrap().forge(&[7; 32]).unwrap();
    let (_, good) = ask(&fake, ATTEST, &payload).await;
    fake.change_nras(|spec| {
        let claims = &mut spec.gpu(0).claims;
        claims.push(|claims| claims["measres"] = json!("fail"));
    })
    .unwrap();
    let (status, bad) = ask(&fake, ATTEST, &payload).await;
    assert_eq!(status, 200);
    let payload_of = |answer: &Value| {
        let token = answer[1]["GPU-0"].as_str().unwrap();
        token.split('.').nth(1).unwrap().to_owned()
    };
    assert_ne!(payload_of(&good), payload_of(&bad));
}
