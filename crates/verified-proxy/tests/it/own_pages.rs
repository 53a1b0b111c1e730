//! What the proxy answers by itself.

use http::StatusCode;

use crate::harness::*;

#[tokio::test]
async fn models_come_from_the_list() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let list = proxy.get("/v1/models").await;
    assert_eq!(list.status, StatusCode::OK);
    assert_eq!(list.json()["object"], "list");
    assert_eq!(list.json()["data"][0]["id"], MODEL);
    for path in ["/v1/models/fake/llama", "/v1/models/fake%2Fllama"] {
        assert_eq!(proxy.get(path).await.json()["id"], MODEL, "{path}");
    }
    assert_eq!(
        proxy.get("/v1/models/other").await.code(),
        "model_not_found"
    );
    assert!(fake.received().is_empty());
}

#[tokio::test]
async fn health_and_unknown_pages() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    assert_eq!(proxy.get("/_proxy/live").await.status, StatusCode::OK);
    assert_eq!(proxy.get("/_proxy/ready").await.status, StatusCode::OK);
    for page in [
        "/_proxy/x",
        "/_proxy/page.js",
        "/_proxy/verdicts/0123456789abcdef",
    ] {
        let answer = proxy.get(page).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{page}");
        assert_eq!(answer.code(), "not_found", "{page}");
    }
    assert!(fake.received().is_empty());
}

#[tokio::test]
async fn without_a_list_the_proxy_lives_but_is_not_ready() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.endpoints_url = format!("{}/nothing-here", fake.http_url()).parse().unwrap();
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.get("/_proxy/live").await.status, StatusCode::OK);
    for answer in [
        proxy.get("/_proxy/ready").await,
        proxy.get("/v1/models").await,
        proxy.chat().await,
    ] {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.code(), "endpoints_unavailable");
        assert_eq!(answer.header("x-should-retry"), "");
    }
}

#[tokio::test]
async fn a_report_outlives_its_verdict() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.verdict_ttl = std::time::Duration::from_secs(1);
    let proxy = Proxy::start(config).await;
    let verdict = async || {
        let answer = proxy.chat().await;
        assert_eq!(answer.status, StatusCode::OK);
        answer.header("x-verified-proxy-verdict").to_owned()
    };
    let first = verdict().await;
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let second = verdict().await;
    assert_ne!(first, second);
    fake.tamper("report-data").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    assert_eq!(proxy.chat().await.code(), "rejected_report_data");
    for id in [first, second] {
        let report = proxy.get(&format!("/_proxy/verdicts/{id}")).await;
        assert_eq!(report.status, StatusCode::OK);
        assert_eq!(report.json()["id"], id);
        assert_eq!(report.json()["verdict"], "verified");
    }
}
