//! threats.md B: what can happen to the connection.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Response, StatusCode};
use http_body_util::BodyExt;
use proxy::config::WebPki;
use tokio::sync::oneshot;

use crate::harness::*;

fn ok(_: &http::Request<bytes::Bytes>) -> Response<Script> {
    Response::new(Script::whole(b"{}".to_vec()))
}

#[tokio::test]
async fn a_certificate_without_its_key_proves_nothing() {
    let fake = fake().await;
    let oddities = Oddities {
        stolen_certificate: true,
        ..NO_ODDITIES
    };
    let backend = Scripted::start(&fake, oddities, ok).await;
    for webpki in [WebPki::Require, WebPki::Off] {
        let mut config = backend.config(&fake);
        config.webpki = webpki;
        let answer = Proxy::start(config).await.chat().await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert_eq!(answer.code(), "backend_certificate");
        assert!(
            answer.message().contains("does not hold the key"),
            "{}",
            answer.message()
        );
    }
    assert!(backend.lines().is_empty());
}

/// By a wrong clock a certificate is not valid. Then no hint has the user switch a check off.
#[tokio::test]
async fn a_certificate_of_another_time_may_be_a_matter_of_the_clock() {
    let fake = fake().await;
    for years in [(2000, 2001), (2001, 2026), (3000, 3001)] {
        let oddities = Oddities {
            years: Some(years),
            ..NO_ODDITIES
        };
        let backend = Scripted::start(&fake, oddities, ok).await;
        let answer = Proxy::start(backend.config(&fake)).await.chat().await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert_eq!(answer.code(), "backend_certificate");
        let message = answer.message();
        assert!(
            message.contains("\nhint: set this machine's clock: by it the backend's certificate")
                && !message.contains("--webpki")
                && !message.contains("--extra-ca"),
            "{message}"
        );
        assert!(backend.lines().is_empty());
    }
    let oddities = Oddities {
        years: Some((2000, 3000)),
        ..NO_ODDITIES
    };
    let backend = Scripted::start(&fake, oddities, ok).await;
    let answer = Proxy::start(backend.config(&fake)).await.chat().await;
    assert_eq!(answer.status, StatusCode::OK);
    // Another authority has nothing to do with the clock.
    let mut config = backend.config(&fake);
    config.extra_ca.clear();
    let message = Proxy::start(config).await.chat().await.message();
    assert!(
        message.contains("--extra-ca") && !message.contains("clock"),
        "{message}"
    );
}

#[tokio::test]
async fn every_handshake_is_a_full_one() {
    let fake = fake().await;
    // It offers tickets and early data; see what is made of them.
    let backend = Scripted::start(&fake, NO_ODDITIES, ok).await;
    let mut config = backend.config(&fake);
    config.pool.requests = 1;
    let proxy = Proxy::start(config).await;
    for _ in 0..3 {
        assert_eq!(proxy.chat().await.status, StatusCode::OK);
    }
    let expected = format!("Full TLSv1_3 X25519MLKEM768 {DOMAIN:?} http/1.1");
    assert_eq!(*backend.handshakes.lock().unwrap(), vec![expected; 3]);
}

#[tokio::test]
async fn concurrent_first_requests_share_one_attestation() {
    let fake = fake().await;
    let proxy = Arc::new(Proxy::in_front_of(&fake).await);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let proxy = Arc::clone(&proxy);
        requests.spawn(async move { proxy.chat().await.status });
    }
    let statuses = requests.join_all().await;
    assert_eq!(statuses, [StatusCode::OK; 64]);
    let received = fake.received();
    assert_eq!(probes(&received), 1);
    assert!(received.len() <= 64);
}

#[tokio::test]
async fn a_failed_leader_does_not_fail_those_who_wait() {
    let fake = fake().await;
    fake.tamper("report-data").unwrap();
    let proxy = Arc::new(Proxy::in_front_of(&fake).await);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let proxy = Arc::clone(&proxy);
        requests.spawn(async move { proxy.chat().await.status });
    }
    // The machine is repaired as soon as somebody was refused.
    while probes(&fake.received()) == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    fake.tamper("none").unwrap();
    assert_eq!(requests.join_all().await, [StatusCode::OK; 8]);
}

#[tokio::test]
async fn a_verdict_expires() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.verdict_ttl = Duration::from_secs(1);
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    fake.tamper("report-data").unwrap();
    assert_eq!(proxy.chat().await.code(), "rejected_report_data");
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, |_| {
        Response::new(Script::new(&["data: 1\n\n", "data: 2\n\n"], End::BreaksOff))
    })
    .await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let response = proxy.send(chat_request(true)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_backends_work() {
    let fake = fake().await;
    let (gone, left) = oneshot::channel();
    let gone = Mutex::new(Some(gone));
    let backend = Scripted::start(&fake, NO_ODDITIES, move |_| {
        let mut script = Script::new(&["data: 1\n\n"], End::Never);
        script.dropped = gone.lock().unwrap().take();
        Response::new(script)
    })
    .await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let mut response = proxy.send(chat_request(true)).await;
    assert!(response.frame().await.unwrap().is_ok());
    drop(response);
    // The sender is dropped with the backend's body.
    let outcome = tokio::time::timeout(Duration::from_secs(3), left).await;
    assert!(outcome.is_ok_and(|dropped| dropped.is_err()));
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_ends_it_too() {
    let fake = fake().await;
    let backend = Scripted::start(&fake, NO_ODDITIES, ok).await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let request = http::Request::get("/hang")
        .header("host", "localhost")
        .header("x-backend-domain", DOMAIN);
    let asked = proxy.send(request.body(Default::default()).unwrap());
    assert!(
        tokio::time::timeout(Duration::from_millis(500), asked)
            .await
            .is_err()
    );
    assert_eq!(backend.lines().len(), 2);
    for _ in 0..300 {
        if backend.hung_up.load(Ordering::SeqCst) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the backend still works for nobody");
}

#[tokio::test]
async fn a_broken_instance_is_left_for_another() {
    let fake = fake().await;
    let oddities = Oddities {
        drop_first: 2,
        ..NO_ODDITIES
    };
    let backend = Scripted::start(&fake, oddities, ok).await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);

    let oddities = Oddities {
        drop_first: 3,
        ..NO_ODDITIES
    };
    let backend = Scripted::start(&fake, oddities, ok).await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    let answer = proxy.chat().await;
    assert_eq!(answer.code(), "backend_unreachable");
    assert_eq!(
        answer
            .message()
            .matches(&format!("\n- {DOMAIN}: backend_unreachable ("))
            .count(),
        3,
        "{}",
        answer.message()
    );
    assert!(backend.lines().is_empty());
}

#[tokio::test]
async fn a_backend_that_closes_after_its_report_gets_the_request_on_a_new_connection() {
    let fake = fake().await;
    let oddities = Oddities {
        close_after_each: true,
        ..NO_ODDITIES
    };
    let backend = Scripted::start(&fake, oddities, ok).await;
    let proxy = Proxy::start(backend.config(&fake)).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    let lines = backend.lines();
    let posts = lines
        .iter()
        .filter(|line| line.starts_with("POST "))
        .count();
    assert_eq!((lines.len(), posts), (2, 1), "{lines:?}");
}

#[tokio::test]
async fn answers_end_before_the_proxy_does() {
    let fake = fake().await;
    let mut proxy = Proxy::in_front_of(&fake).await;
    let response = proxy.send(chat_request(true)).await;
    proxy.stop.take().unwrap().send(()).unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.ends_with(b"data: [DONE]\n\n"));
    let ended = tokio::time::timeout(Duration::from_secs(5), &mut proxy.task).await;
    assert!(ended.is_ok_and(|joined| joined.is_ok()));
}

#[tokio::test]
async fn every_domain_of_a_model_is_tried_in_order() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.endpoints_url = endpoint_list(serde_json::json!({"endpoints": [
        {"domain": "evil.example", "models": [MODEL]},
        {"domain": "dead.completions.near.ai", "models": [MODEL]},
        {"domain": DOMAIN, "models": [MODEL]},
    ]}))
    .await
    .parse()
    .unwrap();
    let dead = format!(
        "dead.completions.near.ai:443:127.0.0.1:{}",
        dead_port().await
    );
    config.connect_to.push(dead.parse().unwrap());
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_list_that_names_another_model_is_contradicted_by_the_evidence() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.endpoints_url = endpoint_list(serde_json::json!({"endpoints": [
        {"domain": DOMAIN, "models": ["another/model"]},
    ]}))
    .await
    .parse()
    .unwrap();
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.chat().await.code(), "model_not_found");
    let body = serde_json::json!({"model": "another/model", "messages": []}).to_string();
    let request = http::Request::post("/v1/chat/completions")
        .header("host", "localhost")
        .header("content-type", "application/json");
    let answer = proxy.request(request.body(body.into()).unwrap()).await;
    assert_eq!(answer.code(), "rejected_model");
    assert_only_probes(&fake.received());
}
