//! A proxy whose configuration changes while it serves: which requests go by which rules.

#![expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]

use std::time::Duration;

use attest::Policy;
use bytes::Bytes;
use fake_tee::serve::{Behaviour, Running};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use proxy::config::{ApiKey, ClientTokens};
use proxy::{Config, ReloadError, Reloader, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::drain::kept;
use crate::harness::*;

const ANN: &str = "token-of-ann-0123456789";
const BOB: &str = "token-of-bob-0123456789";

async fn serving(config: Config) -> (Proxy, Reloader) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::new(config).unwrap();
    let reloader = server.reloader();
    let task = tokio::spawn(server.serve(listener, async {
        let _ = stopped.await;
    }));
    let stop = Some(stop);
    let proxy = Proxy {
        address,
        stop,
        task,
    };
    (proxy, reloader)
}

fn tokens(text: &str) -> Option<ClientTokens> {
    Some(ClientTokens::parse(text).unwrap())
}

/// The fake's policy with other digits in one of its values.
fn policy_with_other(fake: &Running, key: &str) -> Policy {
    let text = fake_tee::refusing(&fake.policy_toml, "");
    let at = text.find(&format!(" {key} = \"")).unwrap() + key.len() + 5;
    let digits = if text[at..].starts_with("00000000") {
        "11111111"
    } else {
        "00000000"
    };
    let text = format!("{}{digits}{}", &text[..at], &text[at + 8..]);
    Policy::from_toml(&text).unwrap()
}

/// All that backends got.
fn sent(fake: &Running) -> String {
    let bytes = fake.received().into_iter().flat_map(|seen| seen.bytes);
    String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
}

/// A prompt on a connection that stays open.
async fn ask(client: &mut SendRequest<Full<Bytes>>, token: Option<&str>) -> Answer {
    let mut request = chat_request(false);
    if let Some(token) = token {
        let token = token.parse().unwrap();
        request
            .headers_mut()
            .insert("x-verified-proxy-token", token);
    }
    client.ready().await.unwrap();
    let (head, body) = client.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: head.status,
        headers: head.headers,
        body,
    }
}

#[tokio::test]
async fn a_token_ends_with_the_reload() {
    let fake = fake().await;
    let with = |guard: Option<ClientTokens>| {
        let mut config = config(&fake);
        config.guard.tokens = guard;
        config
    };
    let (proxy, reloader) = serving(with(tokens(&format!("ann {ANN}")))).await;
    let (mut old, mut idle) = (kept(&proxy).await, kept(&proxy).await);
    assert_eq!(ask(&mut old, Some(ANN)).await.status, StatusCode::OK);
    assert_eq!(
        ask(&mut old, Some(BOB)).await.status,
        StatusCode::UNAUTHORIZED
    );

    let next = with(tokens(&format!("bob {BOB}")));
    reloader.reload(next).await.unwrap();
    fake.clear();
    let mut new = kept(&proxy).await;
    for client in [&mut idle, &mut new] {
        let answer = ask(client, Some(ANN)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.code(), "client_token_required");
        // An answer before the body was read ends its connection.
    }
    assert_eq!(sent(&fake), "");
    assert_eq!(
        ask(&mut kept(&proxy).await, Some(BOB)).await.status,
        StatusCode::OK
    );

    reloader.reload(with(None)).await.unwrap();
    assert_eq!(
        ask(&mut kept(&proxy).await, None).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_stricter_policy_counts_on_every_connection() {
    let fake = fake().await;
    let (proxy, reloader) = serving(config(&fake)).await;
    let built_in = |name| Policy::built_in(name).unwrap();
    for policy in [
        policy_with_other(&fake, "mrtd"),
        built_in("near"),
        built_in("near-strict"),
    ] {
        let stricter = Config {
            policy,
            ..config(&fake)
        };
        let code = Proxy::start(stricter.clone()).await.chat().await.code();
        assert!(code.starts_with("rejected_"), "{code}");
        let mut open = [kept(&proxy).await, kept(&proxy).await];
        assert_eq!(ask(&mut open[0], None).await.status, StatusCode::OK);
        fake.clear();
        reloader.reload(stricter).await.unwrap();
        for client in &mut open {
            assert_eq!(ask(client, None).await.code(), code);
        }
        assert_eq!(proxy.chat().await.code(), code);
        assert_only_probes(&fake.received());
        // The honest neighbour: what the machine is.
        reloader.reload(config(&fake)).await.unwrap();
        assert_eq!(proxy.chat().await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn each_part_of_the_configuration_is_the_new_one() {
    let fake = fake().await;
    let with = |change: &dyn Fn(&mut Config)| {
        let mut config = config(&fake);
        change(&mut config);
        config
    };
    let (proxy, reloader) = serving(with(&|config| {
        config.api_key = Some(ApiKey::new("sk-before").unwrap());
    }))
    .await;
    let chat = || async {
        let mut request = chat_request(false);
        request.headers_mut().remove("authorization");
        proxy.request(request).await
    };
    assert_eq!(chat().await.status, StatusCode::OK);
    assert!(sent(&fake).contains("Bearer sk-before"));
    fake.clear();
    let key = |config: &mut Config| config.api_key = Some(ApiKey::new("sk-after").unwrap());
    reloader.reload(with(&key)).await.unwrap();
    assert_eq!(chat().await.status, StatusCode::OK);
    let all = sent(&fake);
    assert!(
        all.contains("Bearer sk-after") && !all.contains("sk-before"),
        "{all}"
    );

    fake.clear();
    type Change = fn(&mut Config);
    let changes: [(Change, &str); 4] = [
        (|config| config.extra_ca.clear(), "backend_certificate"),
        (
            |config| {
                config.allow = proxy::config::AllowList::new(vec!["other.example".parse().unwrap()])
            },
            "endpoints_unavailable",
        ),
        (|config| config.max_body = 16, "body_too_large"),
        // The honest neighbour.
        (|_| {}, ""),
    ];
    for (change, code) in changes {
        reloader.reload(with(&change)).await.unwrap();
        let answer = chat().await;
        match code {
            "" => assert_eq!(answer.status, StatusCode::OK),
            code => assert_eq!(answer.code(), code),
        }
        let all = sent(&fake);
        assert!(code.is_empty() || !all.contains(CANARY), "{code}: {all}");
    }
}

/// A prompt of which the end is missing.
async fn half(proxy: &Proxy, token: &str) -> (TcpStream, Vec<u8>) {
    let request = chat_request(false);
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-Verified-Proxy-Token: {token}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&body[..10]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    (client, body[10..].to_vec())
}

async fn rest(mut client: TcpStream, rest: &[u8]) -> String {
    client.write_all(rest).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn what_was_not_sent_is_sent_under_the_new_policy() {
    let fake = fake().await;
    let stricter = || Config {
        policy: policy_with_other(&fake, "mrtd"),
        ..config(&fake)
    };
    let (proxy, reloader) = serving(config(&fake)).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    // It waits for the client.
    let (client, end) = half(&proxy, "").await;
    reloader.reload(config(&fake)).await.unwrap();
    let answer = rest(client, &end).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (client, end) = half(&proxy, "").await;
    fake.clear();
    reloader.reload(stricter()).await.unwrap();
    let answer = rest(client, &end).await;
    assert!(answer.contains("rejected_os_image"), "{answer}");
    assert_only_probes(&fake.received());
    drop(proxy);

    // It waits for Intel's collateral.
    let (proxy, reloader) = serving(config(&fake)).await;
    let slow = Behaviour::Slow(Duration::from_secs(1));
    fake.pcs(0, &[], &slow).unwrap();
    fake.clear();
    let reload = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        reloader.reload(stricter()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(proxy.chat(), reload);
    assert_eq!(answer.code(), "rejected_os_image");
    assert_only_probes(&fake.received());
    fake.pcs(0, &[], &Behaviour::Normal).unwrap();

    // It waits for a connection that another one has.
    let mut one_at_a_time = config(&fake);
    one_at_a_time.pool.per_backend = 1;
    let (proxy, reloader) = serving(one_at_a_time).await;
    let mut first = chat_request(true);
    for (name, value) in [("x-fake-chunks", "8"), ("x-fake-delay-ms", "200")] {
        first.headers_mut().insert(name, value.parse().unwrap());
    }
    let first = proxy.send(first).await;
    assert_eq!(first.status(), StatusCode::OK);
    fake.clear();
    let reload = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        reloader.reload(stricter()).await.unwrap();
        let all = first.into_body().collect().await.unwrap().to_bytes();
        assert!(all.ends_with(b"data: [DONE]\n\n"), "{all:?}");
    };
    let (answer, ()) = tokio::join!(proxy.chat(), reload);
    assert_eq!(answer.code(), "rejected_os_image");
    assert_only_probes(&fake.received());
}

#[tokio::test]
async fn an_answer_under_way_goes_on_and_events_begin_anew() {
    let fake = fake().await;
    let (proxy, reloader) = serving(config(&fake)).await;
    let mut request = chat_request(true);
    for (name, value) in [("x-fake-chunks", "8"), ("x-fake-delay-ms", "100")] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = proxy.send(request).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let events = Request::get("/_proxy/events").header("host", "localhost");
    let mut events = proxy.send(events.body(Full::default()).unwrap()).await;
    assert!(events.frame().await.unwrap().is_ok());

    let stricter = Config {
        policy: policy_with_other(&fake, "mrtd"),
        ..config(&fake)
    };
    reloader.reload(stricter).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, events.into_body().collect()).await;
    assert!(ended.unwrap().is_ok(), "a clean end: the page asks again");
    let all = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(all.ends_with(b"data: [DONE]\n\n"), "{all:?}");
}

#[tokio::test]
async fn backends_in_use_are_verified_before_requests_need_it() {
    let fake = fake().await;
    let (proxy, reloader) = serving(config(&fake)).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    // No list can be fetched: the one that is known is kept.
    fake.endpoints(Behaviour::Status(500));
    let fetched = fake.endpoints_fetches();
    fake.clear();
    reloader.reload(config(&fake)).await.unwrap();
    assert_eq!(probes(&fake.received()), 1);
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    assert_eq!(probes(&fake.received()), 1);
    assert_eq!(fake.endpoints_fetches(), fetched);
}

#[tokio::test]
async fn reloads_go_one_after_the_other() {
    let fake = fake().await;
    let with = |token: &str| {
        let mut config = config(&fake);
        config.guard.tokens = tokens(&format!("one {token}"));
        config
    };
    let (mut proxy, reloader) = serving(with(ANN)).await;
    assert_eq!(
        ask(&mut kept(&proxy).await, Some(ANN)).await.status,
        StatusCode::OK
    );
    let (first, second, third) = tokio::join!(
        reloader.reload(with(BOB)),
        reloader.reload(with(ANN)),
        reloader.reload(with(BOB))
    );
    for outcome in [first, second, third] {
        outcome.unwrap();
    }
    let status = async |token| ask(&mut kept(&proxy).await, Some(token)).await.status;
    assert_eq!(status(ANN).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(BOB).await, StatusCode::OK);

    // What cannot be used changes nothing.
    let mut roots = with(ANN);
    roots.trust_anchors = attest::TrustAnchors::intel();
    let refused = reloader.reload(roots).await;
    assert!(
        matches!(refused, Err(ReloadError::TrustAnchors)),
        "{refused:?}"
    );
    assert_eq!(status(ANN).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(BOB).await, StatusCode::OK);

    // Nor does a reload hold up the end, or undo it.
    let mut late = kept(&proxy).await;
    let (_client, _end) = half(&proxy, BOB).await;
    proxy.stop.take().unwrap().send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    let _ = reloader.reload(with(BOB)).await;
    let answer = ask(&mut late, Some(BOB)).await;
    assert_eq!(answer.code(), "shutting_down");
}

/// By the signal, with the program's own files.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_again_at_the_signal() {
    let fake = fake().await;
    let file = |name: &str| fake.dir.join(format!("reload-{name}"));
    let write = |name: &str, text: &str| std::fs::write(file(name), text).unwrap();
    let policy = std::fs::read_to_string(fake.dir.join("policy.toml"));
    let policy = policy.unwrap_or_else(|_| fake.policy_toml.clone());
    let options = format!(
        "client-token-file = {:?}\nmodel-levels = [\"a:gpu=genuine\"]\n",
        file("tokens").display().to_string()
    );
    write("options", &options);
    write("tokens", &format!("ann {ANN}\n"));
    write("policy", &policy);
    write("ca", &fake.tls_ca_pem);
    let path = |name: &str| file(name).display().to_string();
    let mut program = Program::start(
        &fake,
        &[
            ("--config", &path("options")),
            ("--policy", &path("policy")),
            ("--extra-ca", &path("ca")),
        ],
    );
    let status = async |token: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("x-verified-proxy-token", token.parse().unwrap());
        let mut request = chat_request(false);
        request.headers_mut().extend(headers);
        program.proxy.request(request).await.status.as_u16()
    };
    assert_eq!((status(ANN).await, status(BOB).await), (200, 401));

    // What is wrong with a file is said, and everything goes on as before.
    let wrong = [
        (
            "tokens",
            "ann short\n",
            "reload-tokens: line 1: the token can be guessed",
        ),
        ("tokens", "\nann a b c\n", "reload-tokens: line 2: "),
        ("policy", "name = \n", "line 1"),
        ("policy", "surprise = 1\n", "surprise"),
        ("options", "surprise = 1\n", "unknown key \"surprise\""),
        ("options", "a\n", "line 1"),
        (
            "ca",
            "no certificate\n",
            "reload-ca: no certificate in this file",
        ),
    ];
    for (number, (name, text, why)) in wrong.into_iter().enumerate() {
        let before = std::fs::read_to_string(file(name)).unwrap();
        write(name, text);
        program.signal("-HUP");
        let log = program.log_with("not reloaded, and nothing has changed", number + 1);
        let (_, said) = log.rsplit_once("nothing has changed: ").unwrap();
        assert!(said.contains(why), "{why} is not in {said}");
        assert!(!said.contains("short"), "{said}");
        write(name, &before);
        assert_eq!((status(ANN).await, status(BOB).await), (200, 401));
    }

    // What is right counts; what cannot be changed is said.
    write("tokens", &format!("bob {BOB}\n"));
    write("options", &format!("{options}log = \"debug\"\n"));
    program.signal("-HUP");
    let log = program.log_with("reloaded options=", 1);
    assert!(
        log.contains("a reload does not change --log: restart the proxy for it"),
        "{log}"
    );
    assert_eq!((status(ANN).await, status(BOB).await), (401, 200));
    program.terminate();
}
