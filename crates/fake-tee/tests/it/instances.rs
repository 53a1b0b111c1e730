//! Several machines behind one port: keys, rotation, restarts, balance, records, TLS.

use std::time::Duration;

use bytes::Bytes;
use fake_tee::hash::sha256;
use fake_tee::serve::{Options, Record, Transport};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::client::{
    ask, connect, control, dial, fake, get, instances, plain, request, spki, tls_config,
};

const REPORT: &str = "/v1/attestation/report?include_tls_fingerprint=true";

async fn reported(
    stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
) -> String {
    let report = ask(stream, &request("GET", REPORT, "", b"")).await.unwrap();
    report.json()["tls_cert_fingerprint"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_sibling_has_the_same_authorities_and_a_life_of_its_own() {
    let first = instances(1).await;
    let options = Options {
        dir: Some(first.dir.join("sibling")),
        ..Options::default()
    };
    let second = first.sibling(options).await.unwrap();
    assert_eq!(second.tdx_root_der, first.tdx_root_der);
    // It names the KMS's root key.
    assert_eq!(second.policy_toml, first.policy_toml);
    assert_ne!(second.tls_ca_pem, first.tls_ca_pem);
    second.tamper("garbage").unwrap();
    let report = |answer: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&answer);
    let mut answers = Vec::new();
    for fake in [&first, &second] {
        let answer = ask(&mut connect(fake).await, &request("GET", REPORT, "", b"")).await;
        answers.push(report(answer.unwrap().body.to_vec()).is_ok());
    }
    assert_eq!(answers, [true, false]);
}

#[tokio::test]
async fn connections_go_round_and_stick() {
    let fake = instances(3).await;
    let keys: Vec<_> = fake.instances().iter().map(|one| one.spki_sha256).collect();
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
    for turn in 0..6 {
        let mut stream = connect(&fake).await;
        assert_eq!(spki(&stream), keys[turn % 3]);
        for _ in 0..2 {
            assert_eq!(reported(&mut stream).await, hex::encode(keys[turn % 3]));
        }
    }
    fake.order_instances([2, 2, 0]);
    for expected in [2, 2, 0] {
        assert_eq!(spki(&connect(&fake).await), keys[expected]);
    }
    fake.pin(Some(1));
    for _ in 0..3 {
        assert_eq!(spki(&connect(&fake).await), keys[1]);
    }
    // The last handshake is noted a moment after its client has seen its end.
    while fake.received().len() < 12 {
        tokio::task::yield_now().await;
    }
    let instances: Vec<_> = fake.received().iter().map(|one| one.instance).collect();
    assert_eq!(instances, [0, 1, 2, 0, 1, 2, 2, 2, 0, 1, 1, 1]);
    assert_eq!(fake.instances()[1].accepted, 5);
    assert_eq!(fake.instances()[1].requests, 4);
}

#[tokio::test]
async fn a_key_can_be_shared() {
    let fake = fake(Options {
        instances: 2,
        shared_key: true,
        ..Options::default()
    })
    .await;
    assert_eq!(spki(&connect(&fake).await), spki(&connect(&fake).await));
    let ids: Vec<_> = fake.instances().iter().map(|one| one.accepted).collect();
    assert_eq!(ids, [1, 1]);
}

#[tokio::test]
async fn after_a_rotation_old_connections_report_the_new_key() {
    let fake = instances(2).await;
    let old = fake.spki_sha256();
    fake.pin(Some(0));
    let mut before = connect(&fake).await;
    let new = fake.rotate(0).unwrap();
    assert_ne!(old, new);
    assert_eq!(fake.spki_sha256(), new);
    assert_eq!(spki(&before), old);
    assert_eq!(reported(&mut before).await, hex::encode(new));
    let mut after = connect(&fake).await;
    assert_eq!(spki(&after), new);
    assert_eq!(reported(&mut after).await, hex::encode(new));
    let seen: Vec<_> = fake.received().iter().map(|one| one.spki_sha256).collect();
    assert_eq!(seen, [old, new]);
    // The other one kept its own.
    assert_ne!(fake.instances()[1].spki_sha256, new);
}

#[tokio::test]
async fn a_restart_ends_the_connections_of_one_instance() {
    let fake = instances(2).await;
    let (mut first, mut second) = (connect(&fake).await, connect(&fake).await);
    fake.restart(0).unwrap();
    let ended = timeout(Duration::from_secs(5), first.read(&mut [0; 1])).await;
    assert!(!matches!(ended.unwrap(), Ok(1)));
    reported(&mut second).await;
    fake.order_instances([0]);
    reported(&mut connect(&fake).await).await;
    let received = fake.received();
    assert!(received[0].closed.unwrap() >= received[0].opened);
    assert!(received[1].closed.is_none());
}

#[tokio::test]
async fn a_stopped_instance_is_left_out_or_refuses() {
    let fake = instances(2).await;
    fake.stop(0).unwrap();
    for _ in 0..3 {
        assert_eq!(spki(&connect(&fake).await), fake.instances()[1].spki_sha256);
    }
    let config = tls_config(&fake, &[]);
    fake.order_instances([0]);
    assert!(dial(&fake, config.clone()).await.is_err());
    fake.stop(1).unwrap();
    assert!(dial(&fake, config.clone()).await.is_err());
    fake.start(0).unwrap();
    assert_eq!(spki(&connect(&fake).await), fake.spki_sha256());
    assert!(
        fake.stop(2)
            .unwrap_err()
            .to_string()
            .contains("no instance 2")
    );
}

#[tokio::test]
async fn one_instance_is_tampered_with() {
    let fake = instances(2).await;
    control(
        &fake,
        "tamper",
        &json!({"instance": 1, "name": "wrong-model"}),
    )
    .await;
    for expected in ["fake/llama", "fake/another-model"] {
        assert_eq!(get(&fake, REPORT).await.json()["model_name"], expected);
    }
    fake.tamper("none").unwrap();
    for _ in 0..2 {
        assert_eq!(get(&fake, REPORT).await.json()["model_name"], "fake/llama");
    }
}

#[tokio::test]
async fn requests_are_recorded_one_by_one() {
    let fake = fake(Options {
        record: Record::Heads,
        ..Options::default()
    })
    .await;
    let mut stream = connect(&fake).await;
    let body = vec![7; 100_000];
    for path in ["/v1/fake/sink?1", "/v1/fake/sink?2"] {
        let answer = ask(&mut stream, &request("POST", path, "", &body))
            .await
            .unwrap();
        assert_eq!(answer.json()["bytes"], 100_000);
    }
    // Begun and not finished.
    let mut part = request("POST", "/v1/fake/sink?3", "", &body);
    part.truncate(part.len() - 1);
    tokio::io::AsyncWriteExt::write_all(&mut stream, &part)
        .await
        .unwrap();
    drop(stream);
    let connection = loop {
        let connection = fake.received().remove(0);
        if connection.closed.is_some() {
            break connection;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(connection.bytes.is_empty());
    assert_eq!(connection.requests.len(), 3);
    for (number, request) in connection.requests[..2].iter().enumerate() {
        assert_eq!(
            request.line,
            format!("POST /v1/fake/sink?{} HTTP/1.1", number + 1)
        );
        assert_eq!(request.body_len, 100_000);
        assert_eq!(request.body_sha256, sha256(&body));
        assert!(request.complete);
        assert!(request.at >= connection.opened);
    }
    assert!(!connection.requests[2].complete);
    assert_eq!(connection.requests[2].body_len, 99_999);
    let control = plain(fake.http, "GET", "/_fake/received", "")
        .await
        .unwrap()
        .json();
    assert_eq!(
        control[0]["requests"][1]["body_sha256"],
        hex::encode(sha256(&body))
    );
    fake.clear();
    assert!(fake.received().is_empty());
}

#[tokio::test]
async fn nothing_is_recorded_where_that_is_off() {
    let fake = fake(Options {
        record: Record::Off,
        ..Options::default()
    })
    .await;
    assert_eq!(
        get(&fake, "/v1/fake/json?size=100000").await.body.len(),
        100_000
    );
    assert!(fake.received().is_empty());
    assert_eq!(fake.instances()[0].requests, 1);
}

#[tokio::test]
async fn http2_is_offered_and_recorded() {
    let fake = instances(1).await;
    let stream = dial(&fake, tls_config(&fake, &["h2", "http/1.1"]))
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!("https://{}/v1/fake/echo", crate::client::DOMAIN))
        .body(Full::new(Bytes::from_static(b"abc")))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let echo: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(echo["version"], "HTTP/2.0");
    assert_eq!(echo["body_sha256"], hex::encode(sha256(b"abc")));
    let request = &fake.received()[0].requests[0];
    assert_eq!((request.body_len, request.complete), (3, true));
}

#[tokio::test]
async fn tls_12_and_no_http2() {
    let fake = fake(Options {
        transport: Transport {
            http2: false,
            tls12_only: true,
            ..Transport::default()
        },
        ..Options::default()
    })
    .await;
    let stream = dial(&fake, tls_config(&fake, &["h2", "http/1.1"]))
        .await
        .unwrap();
    let session = stream.get_ref().1;
    assert_eq!(
        session.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_2)
    );
    assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn sessions_can_be_resumed() {
    for (shared_tickets, instance, kind) in [
        (false, 0, rustls::HandshakeKind::Resumed),
        (false, 1, rustls::HandshakeKind::Full),
        (true, 1, rustls::HandshakeKind::Resumed),
    ] {
        let fake = fake(Options {
            instances: 2,
            transport: Transport {
                shared_tickets,
                ..Transport::default()
            },
            ..Options::default()
        })
        .await;
        let config = tls_config(&fake, &["http/1.1"]);
        fake.order_instances([0, instance]);
        let mut first = dial(&fake, config.clone()).await.unwrap();
        // Tickets come with the first answer at the latest.
        reported(&mut first).await;
        let second = dial(&fake, config).await.unwrap();
        assert_eq!(second.get_ref().1.handshake_kind(), Some(kind));
    }
}

#[tokio::test]
async fn a_stolen_certificate_fails_the_handshake() {
    let fake = instances(2).await;
    fake.steal(1, 0).unwrap();
    assert_eq!(fake.instances()[1].spki_sha256, fake.spki_sha256());
    fake.pin(Some(1));
    let error = dial(&fake, tls_config(&fake, &[])).await.unwrap_err();
    assert!(error.to_string().contains("BadSignature"), "{error}");
    assert!(fake.received().is_empty());
}
