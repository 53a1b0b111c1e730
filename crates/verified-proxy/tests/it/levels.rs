//! What a verdict shows, and what requests, tokens and models ask of it: nothing of a
//! request leaves where its verdict does not reach what is asked for.

#![expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use attest::{Policy, UnixTime};
use bytes::Bytes;
use fake_tee::deployment::action;
use fake_tee::serve::{Behaviour, Connection, Options, Running, unix_now};
use http::{Request, StatusCode};
use http_body_util::Full;
use proxy::Config;
use proxy::config::{ClientTokens, Clock};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::*;

const TOKEN: &str = "0123456789abcdef";

fn asking(header: (&str, &str), domain: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = chat_request(false);
    let headers = request.headers_mut();
    let name: http::HeaderName = header.0.parse().unwrap();
    headers.append(name, header.1.parse().unwrap());
    if let Some(domain) = domain {
        headers.insert("x-backend-domain", domain.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn each_answer_says_what_its_verdict_shows() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    for _ in 0..2 {
        let answer = proxy.chat().await;
        assert_eq!(answer.status, StatusCode::OK);
        let levels = answer.header("x-verified-proxy-levels");
        let (levels, age) = levels.rsplit_once(", age=").unwrap();
        assert!(age.parse::<u64>().unwrap() < 60, "{age}");
        let axes: Vec<_> = levels
            .split(", ")
            .map(|part| part.split_once('=').unwrap())
            .collect();
        assert_eq!(
            axes[..3],
            [
                ("hardware", "current"),
                ("boot", "named"),
                ("identity", "expected"),
            ]
        );
        let names: Vec<_> = axes.iter().map(|(axis, _)| *axis).collect();
        assert_eq!(names[3..], ["deployment", "gpu"]);
    }
    let list = proxy.get("/_proxy/verdicts").await.json();
    let first = &list["verdicts"][0];
    assert_eq!(first["levels"]["boot"], "named");
    let sentence = first["sentence"].as_str().unwrap();
    assert!(
        sentence.contains("its trust root is not Intel's"),
        "{sentence}"
    );
    assert!(
        sentence.contains("decides what runs inside and could read your prompts"),
        "{sentence}"
    );
}

#[tokio::test]
async fn a_request_that_asks_for_more_is_not_sent() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let name = "x-verified-proxy-require";
    for asked in [
        "boot=named",
        "deployment=declared, gpu=genuine",
        "hardware=current,gpu=none",
    ] {
        let answer = proxy.request(asking((name, asked), None)).await;
        assert_eq!(answer.status, StatusCode::OK, "{asked}");
    }
    let sent = fake.received().len();
    // The demand is between the client and the proxy.
    for connection in fake.received() {
        let text = String::from_utf8_lossy(&connection.bytes).to_lowercase();
        assert!(!text.contains("x-verified-proxy"), "{text}");
    }
    let before: usize = fake
        .received()
        .iter()
        .map(|connection| connection.bytes.len())
        .sum();
    for asked in ["gpu=measured", "hardware=current, gpu=measured"] {
        let answer = proxy.request(asking((name, asked), None)).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{asked}");
        assert_eq!(answer.code(), "level_not_reached");
        assert_eq!(answer.header("x-should-retry"), "false");
        assert!(
            answer.message().contains("gpu=genuine"),
            "{}",
            answer.message()
        );
        assert!(
            answer.message().contains("asks for gpu=measured"),
            "{}",
            answer.message()
        );
    }
    for asked in [
        "",
        "gpu=best",
        "tagged",
        "answer=signed",
        "gpu=genuine;boot=named",
    ] {
        let answer = proxy.request(asking((name, asked), None)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{asked}");
        assert_eq!(answer.code(), "bad_request");
        assert!(
            answer.message().contains("AXIS=LEVEL"),
            "{}",
            answer.message()
        );
    }
    let after: usize = fake
        .received()
        .iter()
        .map(|connection| connection.bytes.len())
        .sum();
    assert_eq!(after, before, "nothing was sent");
    // Other connections could have reached another instance.
    let tried = fake.received().len();
    assert_eq!(tried, sent + 2 * 2);
    let metrics = proxy.get("/_proxy/metrics").await.body;
    let metrics = String::from_utf8_lossy(&metrics);
    assert!(
        metrics.contains("verified_proxy_backend_connections_idle 1\n"),
        "{metrics}"
    );
    // The first one is as good as before for a request that asks for less.
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    let received = fake.received();
    assert_eq!(received.len(), tried);
    assert!(received.iter().skip(1).all(|one| one.bytes.is_empty()));
}

const REQUIRE: &str = "x-verified-proxy-require";
const OTHER: &str = "other-llama.completions.near.ai";

/// Machines without a deployment log are accepted, for requests that do not ask for one.
fn any_log(fake: &Running) -> Config {
    let policy = fake_tee::refusing(&fake.policy_toml, "deployment.mode = \"if-present\"\n");
    Config {
        policy: Policy::from_toml(&policy).unwrap(),
        ..config(fake)
    }
}

/// Two backends of one model under their names; the first has no log.
async fn two_backends() -> (Running, Running, Config) {
    let first = fake().await;
    let options = Options {
        dir: Some(first.dir.join("other")),
        domain: OTHER.to_owned(),
        ..Options::default()
    };
    let second = first.sibling(options).await.unwrap();
    first.change(|spec| spec.compose_manager = None).unwrap();
    let mut config = any_log(&first);
    config.extra_ca.push(ca(&second.tls_ca_pem));
    config.connect_to.push(second.connect_to().parse().unwrap());
    // The fake's repository has what its own machine started.
    let (files, tags) = (second.compose_files_url(), second.compose_tags_url());
    config.compose_source = files.parse().unwrap();
    config.compose_tags_source = tags.parse().unwrap();
    let list = serde_json::json!({"endpoints": [
        {"domain": DOMAIN, "models": [MODEL]},
        {"domain": OTHER, "models": [MODEL]},
    ]});
    config.endpoints_url = endpoint_list(list).await.parse().unwrap();
    (first, second, config)
}

fn prompts(received: &[Connection]) -> usize {
    let lines = received.iter().flat_map(|one| &one.request_lines);
    lines.filter(|line| line.starts_with("POST ")).count()
}

/// Nothing but evidence was asked for, under whatever name.
fn assert_nothing_sent(received: &[Connection]) {
    for connection in received {
        let text = String::from_utf8_lossy(&connection.bytes);
        assert!(!text.contains(CANARY) && !text.contains(API_KEY), "{text}");
        for line in &connection.request_lines {
            assert!(line.starts_with("GET /v1/attestation/report?"), "{line}");
        }
    }
}

#[tokio::test]
async fn another_backend_of_the_model_may_reach_the_level() {
    let (first, second, config) = two_backends().await;
    let proxy = Proxy::start(config.clone()).await;
    let declared = || asking((REQUIRE, "deployment=declared"), None);
    for _ in 0..2 {
        let answer = proxy.request(declared()).await;
        assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
        let levels = answer.header("x-verified-proxy-levels");
        assert!(!levels.contains("deployment=none"), "{levels}");
    }
    assert_only_probes(&first.received());
    assert_eq!(probes(&first.received()), 1);
    assert_eq!(prompts(&second.received()), 2);
    // Who asks for less goes where the list says, on the connection that fell short.
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    assert_eq!(first.received().len(), 1);
    assert_eq!(prompts(&first.received()), 1);
    // A model's level does the same.
    first.clear();
    let proxy = Proxy::start(Config {
        model_levels: vec![format!("{MODEL}:deployment=declared").parse().unwrap()],
        ..config
    })
    .await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    assert_eq!(prompts(&second.received()), 3);
    // By its own name the first one is asked for alone.
    let named = asking((REQUIRE, "boot=named"), Some(DOMAIN));
    assert_eq!(proxy.request(named).await.code(), "level_not_reached");
    assert_nothing_sent(&first.received());
}

#[tokio::test]
async fn where_no_backend_reaches_the_level_none_gets_the_request() {
    let (first, second, config) = two_backends().await;
    let proxy = Proxy::start(config.clone()).await;
    for _ in 0..2 {
        let answer = proxy
            .request(asking((REQUIRE, "deployment=declared, gpu=measured"), None))
            .await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert_eq!(answer.code(), "level_not_reached");
        assert_eq!(answer.header("x-should-retry"), "false");
        let said = answer.message();
        for part in [
            "3 connections were tried".to_owned(),
            format!(
                "- {DOMAIN}: level_not_reached (the backend's verdict reaches deployment=none, this request asks for deployment=declared)"
            ),
            format!(
                "- {OTHER}: level_not_reached (the backend's verdict reaches gpu=genuine, this request asks for gpu=measured)"
            ),
        ] {
            assert!(said.contains(&part), "{part}: {said}");
        }
    }
    for fake in [&first, &second] {
        assert_nothing_sent(&fake.received());
        assert_eq!(probes(&fake.received()), 1);
    }
    // A refusal is not hidden behind the level of another backend, nor that by it.
    second.tamper("debug-td").unwrap();
    let proxy = Proxy::start(config.clone()).await;
    let answer = proxy
        .request(asking((REQUIRE, "deployment=declared"), None))
        .await;
    assert_eq!(answer.code(), "rejected_td_debug");
    let said = answer.message();
    assert!(
        said.starts_with(&format!("{OTHER} was not verified")),
        "{said}"
    );
    assert!(
        said.contains(&format!("- {DOMAIN}: level_not_reached")),
        "{said}"
    );
    // One that cannot be reached says less than a level.
    second.stop(0).unwrap();
    let proxy = Proxy::start(config).await;
    let answer = proxy
        .request(asking((REQUIRE, "deployment=declared"), None))
        .await;
    assert_eq!(answer.code(), "level_not_reached");
    let said = answer.message();
    assert!(said.starts_with(&format!("{DOMAIN} is verified")), "{said}");
    assert!(
        said.contains(&format!("- {OTHER}: backend_unreachable")),
        "{said}"
    );
    assert_nothing_sent(&first.received());
    assert_nothing_sent(&second.received());
}

#[tokio::test]
async fn another_instance_behind_the_name_may_reach_the_level() {
    let fake = fake_with(Options {
        instances: 2,
        ..Options::default()
    })
    .await;
    fake.change_instance(0, |spec| spec.compose_manager = None)
        .unwrap();
    fake.order_instances([0, 0, 1]);
    let proxy = Proxy::start(any_log(&fake)).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    // The connection that lies idle falls short, and so does the first new one.
    let declared = || asking((REQUIRE, "deployment=declared"), None);
    let answer = proxy.request(declared()).await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    let of = |instance| {
        let received = fake.received().into_iter();
        let received = received.filter(move |one| one.instance == instance);
        received.collect::<Vec<_>>()
    };
    assert_eq!((prompts(&of(0)), prompts(&of(1))), (1, 1));
    assert_eq!((of(0).len(), of(1).len()), (2, 1));
    // An idle one that reaches it is taken, whichever was used last.
    fake.order_instances([0, 0, 0]);
    for _ in 0..3 {
        assert_eq!(proxy.request(declared()).await.status, StatusCode::OK);
    }
    assert_eq!((prompts(&of(0)), prompts(&of(1))), (1, 4));
    assert_eq!((of(0).len(), of(1).len()), (2, 1));
}

#[tokio::test]
async fn the_one_instance_that_is_asked_for_has_no_stand_in() {
    let fake = fake_with(Options {
        instances: 2,
        ..Options::default()
    })
    .await;
    fake.change_instance(0, |spec| spec.compose_manager = None)
        .unwrap();
    fake.order_instances([0]);
    let proxy = Proxy::start(any_log(&fake)).await;
    let answer = proxy.chat().await;
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let before = fake.received().len();
    let request = Request::get(format!("/v1/signature/{id}"))
        .header("host", "localhost")
        .header(REQUIRE, "deployment=declared");
    let answer = proxy.request(request.body(Full::default()).unwrap()).await;
    assert_eq!(answer.code(), "level_not_reached");
    assert!(!answer.message().contains("connections were tried"));
    assert_eq!(fake.received().len(), before);
}

#[tokio::test]
async fn a_token_or_a_model_may_ask_for_more_than_the_policy() {
    let fake = fake().await;
    let other = "fedcba9876543210";
    let mut config = config(&fake);
    let tokens = format!("ann {TOKEN}\nbob {other} gpu=measured\n");
    config.guard.tokens = Some(ClientTokens::parse(&tokens).unwrap());
    let proxy = Proxy::start(config.clone()).await;
    let of = |token: &'static str| asking(("x-verified-proxy-token", token), None);
    assert_eq!(proxy.request(of(TOKEN)).await.status, StatusCode::OK);
    let refused = proxy.request(of(other)).await;
    assert_eq!(refused.code(), "level_not_reached");

    config.guard.tokens = None;
    config.model_levels = vec![format!("{MODEL}:gpu=measured").parse().unwrap()];
    let proxy = Proxy::start(config.clone()).await;
    assert_eq!(proxy.chat().await.code(), "level_not_reached");
    // By the domain, without the model's name: the attested name counts as well.
    let request = Request::get("/v1/anything")
        .header("host", "localhost")
        .header("x-backend-domain", DOMAIN);
    let answer = proxy.request(request.body(Full::default()).unwrap()).await;
    assert_eq!(answer.code(), "level_not_reached");
    config.model_levels = vec!["another/model:gpu=measured".parse().unwrap()];
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
}

/// A level that is low because a source did not answer does not stay so for the verdict's
/// whole life: a twelfth of it later the verdict is made anew.
#[tokio::test]
async fn a_verdict_that_lacks_a_source_is_made_anew_soon() {
    let fake = fake().await;
    fake.compose_tags(Behaviour::Status(500));
    let ahead = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&ahead);
    let proxy = Proxy::start(Config {
        clock: Clock::from_fn(move || UnixTime(unix_now() + seen.load(Ordering::SeqCst))),
        verdict_ttl: Duration::from_secs(80),
        ..config(&fake)
    })
    .await;
    let tagged = || {
        proxy.request(asking(
            ("x-verified-proxy-require", "deployment=tagged"),
            None,
        ))
    };
    assert_eq!(tagged().await.code(), "level_not_reached");
    fake.compose_tags(Behaviour::Normal);
    assert_eq!(tagged().await.code(), "level_not_reached");
    // The list of tags is asked for once a minute.
    ahead.store(61, Ordering::SeqCst);
    let until = Instant::now() + Duration::from_secs(15);
    while tagged().await.status != StatusCode::OK {
        assert!(Instant::now() < until, "the verdict is not made anew");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A body under way stops where the renewed verdict reaches less than its request asks
/// for; one that asks for nothing runs on.
#[tokio::test]
async fn a_body_stops_where_a_renewed_verdict_reaches_less() {
    let fake = fake().await;
    let lines = "deployment.tags = \"report\"\ndeployment.files = \"report\"\n";
    let proxy = Proxy::start(Config {
        policy: Policy::from_toml(&format!("{}{lines}", fake.policy_toml)).unwrap(),
        verdict_ttl: Duration::from_secs(4),
        ..config(&fake)
    })
    .await;
    let warm = asking(("x-verified-proxy-require", "deployment=tagged"), None);
    let warm = proxy.request(warm).await;
    assert_eq!(warm.status, StatusCode::OK, "{:?}", warm.body);
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let begin = async |asks: &str, name: &str| {
        let mut upload = TcpStream::connect(proxy.address).await.unwrap();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n{asks}content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let body = chunk(&format!(
            "{{\"model\":\"{MODEL}\",\"messages\":[\"{name}-first"
        ));
        upload.write_all((head + &body).as_bytes()).await.unwrap();
        upload
    };
    let mut asking = begin("x-verified-proxy-require: deployment=tagged\r\n", "asking").await;
    let mut other = begin("", "other").await;
    let got = |what: &str| {
        let received = fake.received();
        let mut bytes = received
            .iter()
            .map(|one| String::from_utf8_lossy(&one.bytes));
        bytes.any(|text| text.contains(what))
    };
    until("both have begun", || {
        got("asking-first") && got("other-first")
    })
    .await;
    let before = probes(&fake.received());
    fake.change(|spec| {
        let unknown = action(spec.now - 60, "dance", &[]);
        spec.compose_manager.as_mut().unwrap().actions.push(unknown);
    })
    .unwrap();
    until("a renewal", || probes(&fake.received()) > before).await;
    let is_lower = async || {
        let list = proxy.get("/_proxy/verdicts").await.json();
        list["verdicts"][0]["levels"]["deployment"] == "declared"
    };
    while !is_lower().await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (upload, name) in [(&mut asking, "asking"), (&mut other, "other")] {
        let _ = upload
            .write_all(chunk(&format!("{name}-second")).as_bytes())
            .await;
    }
    until("the other goes on", || got("other-second")).await;
    assert!(!got("asking-second"));
}
