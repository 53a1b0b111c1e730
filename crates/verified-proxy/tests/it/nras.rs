//! NVIDIA's attestation service beside a request: when it is asked, what it is
//! shown, and what comes of its answers.

mod unanswered;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use attest::{NrasAnchors, Policy, Spki, UnixTime};
use fake_tee::nras::NrasPki;
use fake_tee::refusing;
use fake_tee::serve::{Behaviour, NrasRoute, Running, unix_now};
use http::StatusCode;
use proxy::Config;
use proxy::config::Clock;
use serde_json::Value;

use crate::harness::*;
use crate::program::command;

/// What points a proxy at `fake`, under a policy that says `gpu.nras = mode`.
pub(crate) fn asking(fake: &Running, mode: &str) -> Config {
    let spki = Spki::of_der(&fake.nras_intermediate_spki_der().unwrap());
    let text = refusing(&fake.policy_toml, &format!("gpu.nras = \"{mode}\"\n"));
    Config {
        policy: Policy::from_toml(&text).unwrap(),
        trust_anchors: anchors(fake).with_nras(NrasAnchors::danger_nras_intermediates([spki])),
        ..config(fake)
    }
}

/// How often NVIDIA was asked for an opinion, and for its keys.
fn asked(fake: &Running) -> (u64, u64) {
    (
        fake.nras_fetches(NrasRoute::Attest),
        fake.nras_fetches(NrasRoute::Keys),
    )
}

/// The report behind an answer.
async fn report(proxy: &Proxy, answer: &Answer) -> Value {
    let id = answer.header("x-verified-proxy-verdict");
    proxy.get(&format!("/_proxy/verdicts/{id}")).await.json()
}

/// Status and detail of the check in it.
async fn check(proxy: &Proxy, answer: &Answer) -> (String, String) {
    let report = report(proxy, answer).await;
    let checks = report["checks"].as_array().unwrap();
    let nras = checks.iter().find(|check| check["id"] == "nras").unwrap();
    let text = |field: &str| nras[field].as_str().unwrap().to_owned();
    (text("status"), text("detail"))
}

/// A clock that a test puts forward.
fn stepped(config: &mut Config) -> Arc<AtomicU64> {
    let ahead = Arc::new(AtomicU64::new(0));
    let read = Arc::clone(&ahead);
    config.clock = Clock::from_fn(move || UnixTime(unix_now() + read.load(Ordering::SeqCst)));
    ahead
}

/// Head in lines, the first apart and the others in order, and body.
fn parts(request: &[u8]) -> (String, Vec<String>, String) {
    let text = String::from_utf8(request.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n").map(str::to_owned);
    let first = lines.next().unwrap();
    let mut lines: Vec<_> = lines.collect();
    lines.sort_unstable();
    (first, lines, body.to_owned())
}

#[tokio::test]
async fn nobody_is_asked_unless_the_policy_says_so() {
    let fake = fake().await;
    for config in [config(&fake), asking(&fake, "off")] {
        let proxy = Proxy::start(config).await;
        let answer = proxy.chat().await;
        assert_eq!(answer.status, StatusCode::OK);
        let (status, detail) = check(&proxy, &answer).await;
        assert_eq!(status, "not_proved", "{detail}");
        assert!(detail.contains("gpu.nras = \"off\""), "{detail}");
        assert_eq!(asked(&fake), (0, 0));
    }
}

#[tokio::test]
async fn an_opinion_is_asked_for_once_a_verdict() {
    for mode in ["report", "require"] {
        let fake = fake().await;
        let proxy = Proxy::start(asking(&fake, mode)).await;
        for _ in 0..3 {
            let answer = proxy.chat().await;
            assert_eq!(answer.status, StatusCode::OK, "{mode}");
            let (status, detail) = check(&proxy, &answer).await;
            assert_eq!(status, "pass", "{detail}");
            assert!(detail.starts_with("8 GPUs, looked at 20"), "{detail}");
        }
        assert_eq!(asked(&fake), (1, 1), "{mode}");
    }
}

#[tokio::test]
async fn nvidia_is_shown_the_gpus_evidence_and_nothing_else() {
    let fake = fake().await;
    let wire = wire(&fake).await;
    let payloads = Arc::new(Mutex::new(Vec::new()));
    let sent = Arc::clone(&payloads);
    fake.change(|spec| {
        spec.hooks.report.push(move |report| {
            let payload = report["nvidia_payload"].as_str().unwrap();
            sent.lock().unwrap().push(payload.to_owned());
        });
    })
    .unwrap();
    let mut config = asking(&fake, "require");
    config.nras_url = wire.url.parse().unwrap();
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);

    let payloads = payloads.lock().unwrap().clone();
    let [payload] = &payloads[..] else {
        panic!("{} reports", payloads.len());
    };
    let mut seen = wire.seen.lock().unwrap().clone();
    seen.sort();
    let [keys, attest] = &seen[..] else {
        panic!("{} connections", seen.len());
    };
    let mut common = vec![
        "accept-encoding: identity".to_owned(),
        format!("host: {}", wire.url.trim_start_matches("http://")),
        format!("user-agent: verified-proxy/{}", env!("CARGO_PKG_VERSION")),
    ];
    let (line, headers, body) = parts(keys);
    assert_eq!(line, "GET /.well-known/jwks.json HTTP/1.1");
    assert_eq!((headers, body.as_str()), (common.clone(), ""));
    let (line, headers, body) = parts(attest);
    assert_eq!(line, "POST /v3/attest/gpu HTTP/1.1");
    common.push(format!("content-length: {}", payload.len()));
    common.push("content-type: application/json".to_owned());
    common.sort_unstable();
    assert_eq!(headers, common);
    assert_eq!(body, *payload);
    for request in seen {
        let text = String::from_utf8(request).unwrap();
        for word in [CANARY, API_KEY, MODEL, DOMAIN] {
            assert!(!text.contains(word), "{word}");
        }
    }
}

/// NVIDIA has no business with a machine that is refused, and whoever is no
/// genuine machine gets nothing shown to NVIDIA.
#[tokio::test]
async fn evidence_that_is_refused_is_not_shown_to_nvidia() {
    for mode in ["report", "require"] {
        let fake = fake().await;
        for (code, change) in [
            (
                "rejected_os_image",
                (|s: &mut fake_tee::Spec| s.hooks.td_report.push(|td| td.mr_td[0] ^= 1))
                    as fn(&mut fake_tee::Spec),
            ),
            ("rejected_gpu_nonce", |s| {
                s.gpus.as_mut().unwrap().gpus[5]
                    .message
                    .push(|message| message.nonce = [9; 32]);
            }),
            ("evidence_gpu_payload", |s| {
                s.hooks
                    .report
                    .push(|report| report["nvidia_payload"] = "GET / HTTP/1.1".into());
            }),
        ] {
            fake.change(change).unwrap();
            let answer = Proxy::start(asking(&fake, mode)).await.chat().await;
            assert_eq!(answer.code(), code, "{}", answer.message());
        }
        assert_eq!(asked(&fake), (0, 0), "{mode}");
    }
}

/// What NVIDIA signs of a failure, and what nobody vouches for.
#[tokio::test]
async fn a_bad_opinion_is_a_refusal_or_a_remark() {
    let fake = fake().await;
    for code in ["rejected_nras_failed", "rejected_nras_authority"] {
        fake.change_nras(|spec| {
            *spec = fake_tee::nras::NrasSpec::new(unix_now()).unwrap();
            match code {
                "rejected_nras_failed" => spec
                    .overall
                    .claims
                    .push(|claims| claims["x-nvidia-overall-att-result"] = false.into()),
                _ => spec.pki = NrasPki::other().unwrap(),
            }
        })
        .unwrap();
        // The pin is of before the change.
        let pinned = NrasPki::shared().unwrap().intermediate_spki_der();
        let trust = |config: Config| Config {
            trust_anchors: anchors(&fake).with_nras(NrasAnchors::danger_nras_intermediates([
                Spki::of_der(&pinned),
            ])),
            ..config
        };
        fake.clear();
        let answer = Proxy::start(trust(asking(&fake, "require")))
            .await
            .chat()
            .await;
        assert_eq!(answer.code(), code, "{}", answer.message());
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert_only_probes(&fake.received());

        let proxy = Proxy::start(trust(asking(&fake, "report"))).await;
        let answer = proxy.chat().await;
        assert_eq!(answer.status, StatusCode::OK);
        let (status, detail) = check(&proxy, &answer).await;
        assert_eq!(status, "not_proved");
        let reason = match code {
            "rejected_nras_failed" => "says that attestation failed",
            _ => "which is not pinned",
        };
        assert!(detail.contains(reason), "{detail}");
        assert!(detail.contains("the policy only reports it"), "{detail}");
    }
}

#[tokio::test]
async fn a_slow_service_is_waited_for() {
    let fake = fake().await;
    fake.nras(&[], &Behaviour::Slow(Duration::from_millis(700)));
    let proxy = Proxy::start(asking(&fake, "require")).await;
    let answers = futures_util::future::join_all((0..8).map(|_| proxy.chat())).await;
    for answer in answers {
        assert_eq!(answer.status, StatusCode::OK);
    }
    assert_eq!(asked(&fake), (1, 1));
}

/// An unknown key has the keys fetched again, at most once a minute, whoever
/// wrote its name.
#[tokio::test]
async fn new_keys_are_fetched_once_a_minute_at_most() {
    let fake = fake().await;
    let mut config = asking(&fake, "require");
    config.verdict_ttl = Duration::from_secs(1);
    let ahead = stepped(&mut config);
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    assert_eq!(asked(&fake), (1, 1));

    // NVIDIA's new key, a minute and a verdict later.
    fake.rotate_nras().unwrap();
    ahead.fetch_add(61, Ordering::SeqCst);
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    assert_eq!(asked(&fake), (2, 2));

    // A moment later an answer names a key that nobody has: not one fetch more,
    // however often.
    fake.change_nras(|spec| {
        spec.overall
            .header
            .push(|header| header["kid"] = "nv-eat-kid-prod-1".into());
    })
    .unwrap();
    ahead.fetch_add(2, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(proxy.chat().await.code(), "rejected_nras_unknown_key");
    }
    assert_eq!(fake.nras_fetches(NrasRoute::Keys), 2);
    // After a minute one, in vain; the key was left alone for a second.
    ahead.fetch_add(61, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(proxy.chat().await.code(), "rejected_nras_unknown_key");
    assert_eq!(fake.nras_fetches(NrasRoute::Keys), 3);
}

/// Keys serve for an hour, also those that still fit.
#[tokio::test]
async fn keys_are_kept_for_an_hour() {
    let fake = fake().await;
    let mut config = asking(&fake, "require");
    config.verdict_ttl = Duration::from_secs(1);
    let ahead = stepped(&mut config);
    let proxy = Proxy::start(config).await;
    for (step, keys) in [(0, 1), (3_000, 1), (660, 2)] {
        let now = ahead.fetch_add(step, Ordering::SeqCst) + step;
        // NVIDIA's clock goes with ours.
        fake.change_nras(|spec| {
            spec.overall.claims = Default::default();
            spec.gpus.clear();
            for gpu in 0..9 {
                let hooks = match gpu {
                    8 => &mut spec.overall,
                    gpu => spec.gpu(gpu),
                };
                hooks.claims.push(move |claims| {
                    for time in ["iat", "nbf", "exp"] {
                        claims[time] = (claims[time].as_u64().unwrap() + now).into();
                    }
                });
            }
        })
        .unwrap();
        let answer = proxy.chat().await;
        assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
        assert_eq!(fake.nras_fetches(NrasRoute::Keys), keys, "{now}");
    }
    assert_eq!(fake.nras_fetches(NrasRoute::Attest), 3);
}

#[tokio::test]
async fn another_authority_than_nvidias_is_shown() {
    let fake = fake().await;
    for (config, shown, label) in [
        (config(&fake), "nvidia", "nras_root=\"nvidia\""),
        (
            asking(&fake, "report"),
            "DANGER: not NVIDIA's",
            "nras_root=\"DANGER\"",
        ),
    ] {
        let proxy = Proxy::start(config).await;
        let about = proxy.get("/_proxy/about").await.json();
        assert_eq!(about["nras_root"], shown);
        let metrics = proxy.get("/_proxy/metrics").await;
        let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
        assert!(metrics.contains(label), "{metrics}");
        let answer = proxy.chat().await;
        assert_eq!(report(&proxy, &answer).await["nras_root"], shown);
    }
}

/// The command line's authority is a certificate.
#[tokio::test]
async fn an_authority_is_read_from_its_certificate() {
    let fake = fake().await;
    let der = Arc::new(Mutex::new(Vec::new()));
    fake.change_nras(|spec| {
        let seen = Arc::clone(&der);
        spec.x5c
            .push(move |chain| *seen.lock().unwrap() = chain[1].clone());
        spec.key_set().unwrap();
    })
    .unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = fake.dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let authority = write("nras-intermediate.der", &der.lock().unwrap());
    let policy = format!("{}gpu.nras = \"require\"\n", fake.policy_toml);
    let policy = write("nras-policy.toml", policy.as_bytes());
    let url = fake.nras_url();
    let options = [
        DOMAIN,
        "--policy",
        &policy,
        "--nras-url",
        &url,
        "--danger-nras-intermediate",
    ];
    // The pinned key is the one that certifies: it is verified under it.
    let said = command(&fake, "verify", &[&options[..], &[&authority]].concat()).await;
    assert_eq!(said.0, Some(0), "{}{}", said.1, said.2);
    let warning =
        "DANGER: NVIDIA's attestation service trusted under an authority that is not NVIDIA's";
    assert!(said.1.contains(warning), "{}", said.1);
    let said = command(&fake, "doctor", &[&options[..], &[&authority]].concat()).await;
    let warning = "DANGER: not Intel's for machines, not NVIDIA's for GPUs, not NVIDIA's for its attestation service;";
    assert!(said.1.contains(warning), "{}{}", said.1, said.2);
    // Without it NVIDIA's own is.
    let said = command(&fake, "verify", &options[..5]).await;
    assert_eq!(said.0, Some(1), "{}{}", said.1, said.2);
    assert!(said.1.contains("rejected_nras_authority"), "{}", said.1);

    let other = write("no-certificate", b"no certificate");
    let said = command(&fake, "verify", &[&options[..], &[&other]].concat()).await;
    assert_eq!(said.0, Some(3), "{}{}", said.1, said.2);
    assert!(said.2.contains("not a certificate"), "{}", said.2);
}
