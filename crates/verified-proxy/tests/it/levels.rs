//! What a verdict shows, and what requests, tokens and models ask of it: nothing of a
//! request leaves where its verdict does not reach what is asked for.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use verified_proxy::config::ClientTokens;

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
    assert_eq!(
        (fake.received().len(), after),
        (sent, before),
        "nothing was sent"
    );
    // The connection is as good as before for a request that asks for less.
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    assert_eq!(fake.received().len(), sent);
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
