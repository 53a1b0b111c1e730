//! The same misbehaviours on the attestation route: each is refused by name, and
//! nothing of the client is sent.

use std::time::Duration;

use fake_tee::serve::Running;
use http::StatusCode;
use proxy::Config;

use crate::harness::*;

/// Status and code, or nothing where the report comes.
pub(super) type Row = (&'static str, Option<(u16, &'static str)>);

const UNREACHABLE: Option<(u16, &str)> = Some((502, "backend_unreachable"));
const UNAVAILABLE: Option<(u16, &str)> = Some((502, "evidence_unavailable"));
const NOT_JSON: Option<(u16, &str)> = Some((502, "evidence_not_json"));
/// It is JSON.
const NO_REPORT: Option<(u16, &str)> = Some((502, "evidence_missing_field"));
const NO_TIME: Option<(u16, &str)> = Some((504, "backend_timeout"));

pub(super) const ROWS: &[Row] = &[
    ("status", UNAVAILABLE),
    ("status=401", UNAVAILABLE),
    ("status=204", UNAVAILABLE),
    ("html", UNAVAILABLE),
    ("html=200", NOT_JSON),
    ("redirect", UNAVAILABLE),
    ("redirect=302,/v1/attestation/report", UNAVAILABLE),
    // It was asked for as it is.
    ("gzip", NOT_JSON),
    ("alt-svc", None),
    ("forged-verdict", None),
    ("header=x-verified-proxy-verdict: forged", None),
    ("close", None),
    ("1xx", UNREACHABLE),
    ("1xx=103,17,20", UNREACHABLE),
    ("1xx=103,16", NO_REPORT),
    ("switch", UNAVAILABLE),
    ("trailers", NO_REPORT),
    ("two-lengths", UNREACHABLE),
    ("te-and-length", NO_REPORT),
    ("te", NO_REPORT),
    ("te=gzip", NOT_JSON),
    ("bad-chunk", UNREACHABLE),
    ("bad-length", UNREACHABLE),
    ("long", NO_REPORT),
    ("long;open", NO_REPORT),
    ("http10", UNREACHABLE),
    ("header-flood", UNREACHABLE),
    ("header-long", UNREACHABLE),
    ("garbage", UNREACHABLE),
    ("drip=10,20,5", NOT_JSON),
    ("no-answer", UNREACHABLE),
    ("reset", UNREACHABLE),
    ("cut-body", UNREACHABLE),
    ("cut-chunked", UNREACHABLE),
    ("cut-until-close", UNREACHABLE),
    ("until-close", NO_REPORT),
    ("abrupt", NO_REPORT),
    ("early", UNAVAILABLE),
    ("early-close", UNAVAILABLE),
];

/// In front of a proxy that gives a request two seconds to find a connection.
pub(super) const SLOW: &[Row] = &[
    ("hang", NO_TIME),
    ("hang-head", NO_TIME),
    ("hang-body", NO_TIME),
    ("drip=1,100,1000", NO_TIME),
    ("drip-head", NO_TIME),
    ("1xx=103,1000000,200", NO_TIME),
];

async fn misbehave(rows: &[Row], config: Config, fake: &Running) {
    const REPORT: &str = "/v1/attestation/report";
    for (order, refused) in rows {
        fake.clear();
        fake.order(REPORT, order, u64::MAX).unwrap();
        let answer = Proxy::start(config.clone()).await.chat().await;
        fake.order(REPORT, order, 0).unwrap();
        let received = fake.received();
        assert!(probes(&received) > 0, "{order}");
        let Some((status, code)) = refused else {
            assert_eq!(answer.status, StatusCode::OK, "{order}");
            continue;
        };
        assert_eq!(answer.code(), *code, "{order}: {}", answer.message());
        assert_eq!(answer.status.as_u16(), *status, "{order}");
        let message = answer.message();
        assert!(
            message.contains("nothing of the request was sent"),
            "{message}"
        );
        assert!(message.contains("\nhint: "), "{message}");
        assert_only_probes(&received);
    }
}

#[tokio::test]
async fn evidence_that_comes_in_odd_ways() {
    let fake = fake().await;
    misbehave(ROWS, config(&fake), &fake).await;
}

#[tokio::test]
async fn evidence_that_does_not_come() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.attest_timeout = Duration::from_secs(2);
    misbehave(SLOW, config, &fake).await;
}

/// A report without the deployment log is asked for again: who does not answer
/// then is refused for what it showed, and keeps no verdict.
#[tokio::test]
async fn a_missing_log_is_refused_though_asking_again_gives_nothing() {
    const REPORT: &str = "/v1/attestation/report";
    let fake = fake().await;
    let mut config = config(&fake);
    config.verdict_ttl = Duration::from_secs(8);
    let proxy = Proxy::start(config.clone()).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    // Used, so that it is renewed.
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    fake.change(|spec| spec.compose_manager = None).unwrap();
    fake.order(REPORT, "close", u64::MAX).unwrap();
    let renewed = || probes(&fake.received()) > 1;
    until("renewed", renewed).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let answer = proxy.chat().await;
    assert_eq!(answer.code(), "deployment_missing", "{}", answer.message());

    fake.clear();
    let answer = Proxy::start(config).await.chat().await;
    assert_eq!(answer.code(), "deployment_missing", "{}", answer.message());
    assert_only_probes(&fake.received());
}
