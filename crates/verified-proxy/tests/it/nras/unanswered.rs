//! What comes of it when NVIDIA's attestation service gives no opinion, and how
//! long it is left alone.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use fake_tee::serve::{Behaviour, NrasRoute, Options};
use http::StatusCode;

use super::{asked, asking, check, stepped};
use crate::harness::*;

/// Every way of not answering: "require" refuses and says what to do, once for
/// all instances; "report" goes on.
#[tokio::test]
async fn a_service_that_does_not_answer() {
    let fake = fake().await;
    let text = |text: &str| Behaviour::Body(text.to_owned());
    for (routes, behaviour, reason) in [
        (&NrasRoute::ALL[..], Behaviour::Gone, "broke off"),
        (
            &NrasRoute::ALL[..1],
            Behaviour::Status(302),
            "the answer: status 302",
        ),
        (
            &NrasRoute::ALL[..1],
            Behaviour::Status(400),
            "the answer: status 400",
        ),
        (
            &NrasRoute::ALL[1..],
            Behaviour::Status(503),
            "the key set: status 503",
        ),
        (
            &NrasRoute::ALL[..1],
            Behaviour::Huge(64 << 20),
            "the answer: the answer has more than 131072 bytes",
        ),
        (
            &NrasRoute::ALL[1..],
            Behaviour::Huge(64 << 20),
            "the key set: the answer has more than 524288 bytes",
        ),
        (&NrasRoute::ALL[1..], Behaviour::Html, "key set"),
        (&NrasRoute::ALL[1..], text(r#"{"keys":1}"#), "key set"),
        (
            &NrasRoute::ALL[..1],
            Behaviour::Hang,
            "the server did not send a complete answer within 10 s",
        ),
    ] {
        fake.nras(&NrasRoute::ALL, &Behaviour::Normal);
        fake.nras(routes, &behaviour);
        fake.clear();
        let before = asked(&fake);
        let proxy = Proxy::start(asking(&fake, "require")).await;
        let began = Instant::now();
        let answer = proxy.chat().await;
        assert!(began.elapsed() < Duration::from_secs(19), "{behaviour:?}");
        assert_eq!(answer.code(), "nras_unavailable", "{behaviour:?}");
        let message = answer.message();
        assert!(message.contains(reason), "{behaviour:?}: {message}");
        assert!(message.contains("--nras-url"), "{message}");
        // Another instance would fare the same.
        let received = fake.received();
        assert_eq!(probes(&received), 1);
        assert_only_probes(&received);
        let after = asked(&fake);
        assert!(after.0 - before.0 <= 1 && after.1 - before.1 <= 1);

        if behaviour == Behaviour::Hang {
            // Who comes next does not wait as long again.
            let began = Instant::now();
            assert_eq!(proxy.chat().await.code(), "nras_unavailable");
            assert!(began.elapsed() < Duration::from_secs(5));
            assert_eq!(asked(&fake), after);
            continue;
        }
        let proxy = Proxy::start(asking(&fake, "report")).await;
        let answer = proxy.chat().await;
        assert_eq!(answer.status, StatusCode::OK, "{behaviour:?}");
        let (status, detail) = check(&proxy, &answer).await;
        assert_eq!(status, "not_proved");
        assert!(detail.contains(reason), "{behaviour:?}: {detail}");
    }

    // Nobody there at all.
    let mut config = asking(&fake, "require");
    config.nras_url = format!("http://127.0.0.1:{}", dead_port().await)
        .parse()
        .unwrap();
    let answer = Proxy::start(config).await.chat().await;
    assert_eq!(answer.code(), "nras_unavailable");
    assert!(answer.message().contains("no connection to 127.0.0.1"));
}

/// Clients that leave early do not have a silent service waited for again and
/// again: it is noticed, and a policy that only reports its opinion goes on.
#[tokio::test]
async fn a_silent_service_is_noticed_though_clients_leave() {
    let fake = fake().await;
    fake.nras(&NrasRoute::ALL[..1], &Behaviour::Hang);
    let proxy = Proxy::start(asking(&fake, "report")).await;
    tokio::select! {
        _ = proxy.chat() => panic!("it was answered"),
        () = until("asked", || asked(&fake).0 == 1) => {}
    }
    tokio::time::sleep(Duration::from_secs(11)).await;
    let patience = Duration::from_secs(8);
    let second = tokio::time::timeout(patience, proxy.chat()).await.unwrap();
    let (status, detail) = check(&proxy, &second).await;
    assert_eq!(status, "not_proved");
    assert!(
        detail.contains("the server did not send a complete answer within 10 s"),
        "{detail}"
    );
    assert_eq!(asked(&fake).0, 1);
}

/// A verdict stands until its end, though nobody can renew it; nothing was found
/// out about the machine. One that NVIDIA speaks against is withdrawn.
#[tokio::test]
async fn a_renewal_without_an_opinion_withdraws_nothing() {
    let fake = fake().await;
    let mut config = asking(&fake, "require");
    config.verdict_ttl = Duration::from_secs(8);
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    fake.nras(&[], &Behaviour::Status(503));
    // Used, so that it is renewed.
    let first = proxy.chat().await;
    until("asked again", || fake.nras_fetches(NrasRoute::Attest) == 2).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let second = proxy.chat().await;
    assert_eq!(second.status, StatusCode::OK);
    let verdict = |answer: &Answer| answer.header("x-verified-proxy-verdict").to_owned();
    assert_eq!(verdict(&first), verdict(&second));
    // At its end nothing more goes.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(proxy.chat().await.code(), "nras_unavailable");
}

/// A status that may be one machine's evidence's fault has that machine's shown no
/// more for a while, whoever asks; its neighbour has its own turn. The same where the
/// service hangs up over it, or says too much.
#[tokio::test]
async fn a_failure_over_evidence_is_left_alone_a_machine_at_a_time() {
    let status = |status| {
        let said = format!("the answer: status {status}");
        (Behaviour::Status(status), said)
    };
    for (behaviour, said) in [
        status(400),
        status(500),
        status(502),
        status(504),
        (
            Behaviour::Gone,
            "the answer: the exchange broke off".to_owned(),
        ),
        (
            Behaviour::Huge(1 << 20),
            "more than 131072 bytes".to_owned(),
        ),
    ] {
        let fake = fake_with(Options {
            instances: 2,
            ..Options::default()
        })
        .await;
        fake.nras(&NrasRoute::ALL[..1], &behaviour);
        let mut config = asking(&fake, "require");
        let ahead = stepped(&mut config);
        let proxy = Proxy::start(config).await;
        for _ in 0..4 {
            let answer = proxy.chat().await;
            assert_eq!(answer.code(), "nras_unavailable");
            assert!(answer.message().contains(&said), "{}", answer.message());
        }
        assert_eq!(probes(&fake.received()), 4);
        assert_eq!(asked(&fake).0, 2, "{behaviour:?}");
        // Not for long.
        fake.nras(&[], &Behaviour::Normal);
        ahead.fetch_add(6, Ordering::SeqCst);
        assert_eq!(proxy.chat().await.status, StatusCode::OK);
    }
}

/// It is left alone for as long as it asks (RFC 9110 section 10.2.3), within
/// bounds: whoever answers in its place could ask for years.
#[tokio::test]
async fn it_is_left_alone_for_as_long_as_it_asks() {
    let date = |seconds| {
        let then = SystemTime::now() + Duration::from_secs(seconds);
        httpdate::fmt_http_date(then)
    };
    let [answer, keys] = [&NrasRoute::ALL[..1], &NrasRoute::ALL[1..]];
    for (route, status, after, pause) in [
        (answer, 429, "120".to_owned(), 120),
        (answer, 503, date(90), 90),
        (answer, 500, "60".to_owned(), 60),
        (keys, 429, "60".to_owned(), 60),
        (answer, 429, "31536000".to_owned(), 300),
        (answer, 503, date(31_536_000), 300),
        (answer, 503, "0".to_owned(), 5),
        (answer, 503, date(0), 5),
        (answer, 429, "soon".to_owned(), 5),
    ] {
        let fake = fake().await;
        fake.nras(route, &Behaviour::Later(status, after.clone()));
        let mut config = asking(&fake, "require");
        let ahead = stepped(&mut config);
        let proxy = Proxy::start(config).await;
        assert_eq!(proxy.chat().await.code(), "nras_unavailable", "{after}");
        let before = asked(&fake);
        // It would answer, and is not asked yet.
        fake.nras(&[], &Behaviour::Normal);
        if pause > 5 {
            ahead.store(pause - 30, Ordering::SeqCst);
        }
        let again = proxy.chat().await;
        assert_eq!(again.code(), "nras_unavailable", "{after}");
        let said = format!("status {status}");
        assert!(again.message().contains(&said), "{}", again.message());
        assert_eq!(asked(&fake), before, "{after}");
        ahead.store(pause + 1, Ordering::SeqCst);
        assert_eq!(proxy.chat().await.status, StatusCode::OK, "{after}");
    }
}

/// Nobody knows whether a key is NVIDIA's new one while the keys cannot be
/// fetched again: that speaks against nobody.
#[tokio::test]
async fn a_key_that_cannot_be_looked_up_is_no_refusal_of_the_machine() {
    let fake = fake().await;
    for mode in ["require", "report"] {
        fake.nras(&[], &Behaviour::Normal);
        let mut config = asking(&fake, mode);
        config.verdict_ttl = Duration::from_secs(2);
        let ahead = stepped(&mut config);
        let proxy = Proxy::start(config).await;
        assert_eq!(proxy.chat().await.status, StatusCode::OK);

        fake.rotate_nras().unwrap();
        fake.nras(&NrasRoute::ALL[1..], &Behaviour::Status(502));
        let before = asked(&fake);
        ahead.fetch_add(61, Ordering::SeqCst);
        let answer = proxy.chat().await;
        let why = if mode == "require" {
            assert_eq!(answer.code(), "nras_unavailable", "{}", answer.message());
            // And is not asked for another opinion that could not be read.
            let again = proxy.chat().await;
            assert_eq!(again.code(), "nras_unavailable", "{}", again.message());
            answer.message()
        } else {
            let (status, detail) = check(&proxy, &answer).await;
            assert_eq!(status, "not_proved");
            detail
        };
        for words in ["a key that is not known yet", "the key set: status 502"] {
            assert!(why.contains(words), "{why}");
        }
        assert_eq!(asked(&fake), (before.0 + 1, before.1 + 1));

        // With the keys the same opinion counts.
        fake.nras(&[], &Behaviour::Normal);
        ahead.fetch_add(6, Ordering::SeqCst);
        let answer = proxy.chat().await;
        assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
        let (status, detail) = check(&proxy, &answer).await;
        assert_eq!(status, "pass", "{detail}");
        assert_eq!(asked(&fake), (before.0 + 2, before.1 + 2));
    }
}
