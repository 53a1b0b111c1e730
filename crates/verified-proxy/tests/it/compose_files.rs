//! Compose files: fetched by commit and hash, kept, and judged before a byte of
//! a client leaves.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use attest::UnixTime;
use fake_tee::ComposeManager;
use fake_tee::compose_file::{FILE, PublishedFile, commit, compose_text};
use fake_tee::deployment::compose_up;
use fake_tee::hash::sha256;
use fake_tee::pki::Signer;
use fake_tee::serve::{Behaviour, Options, Running, unix_now};
use http::StatusCode;
use proxy::Config;
use proxy::config::{Clock, ComposeSource};

use crate::harness::*;

/// What a verdict says of the files: status and detail.
async fn files_check(proxy: &Proxy, answer: &Answer) -> (String, String) {
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    let id = answer.header("x-verified-proxy-verdict");
    let report = proxy.get(&format!("/_proxy/verdicts/{id}")).await.json();
    let checks = report["checks"].as_array().unwrap();
    let mut checks = checks.iter();
    let check = checks
        .find(|check| check["id"] == "deployment_files")
        .unwrap();
    let text = |field: &str| check[field].as_str().unwrap().to_owned();
    (text("status"), text("detail"))
}

async fn assert_all(proxy: &Proxy, count: usize) {
    let found = files_check(proxy, &proxy.chat().await).await;
    assert_eq!(found, ("pass".to_owned(), format!("all {count} files")));
}

async fn assert_missing(proxy: &Proxy, missing: usize, of: usize) {
    let (status, detail) = files_check(proxy, &proxy.chat().await).await;
    assert_eq!(status, "not_proved", "{detail}");
    let said = format!("{missing} of {of} files were not fetched, such as {FILE} at ");
    assert!(detail.starts_with(&said), "{detail}");
}

/// The fake's own two files, as they are asked for.
fn both() -> [String; 2] {
    ["v0.0.1", "v0.0.2"].map(|tag| format!("{}/{FILE}", commit(tag)))
}

fn fetched(fake: &Running) -> Vec<String> {
    let mut fetched = fake.compose_files_fetched();
    fetched.sort();
    fetched
}

fn assert_fetched_once(fake: &Running) {
    let mut expected = both();
    expected.sort();
    assert_eq!(fetched(fake), expected);
}

/// Changes what a file says, and with it the log.
fn publish(fake: &Running, tag: &str, text: &str) {
    let change = |manager: &mut ComposeManager| manager.publish(tag, text);
    fake.change(|spec| change(spec.compose_manager.as_mut().unwrap()))
        .unwrap();
}

/// `v0.0.1` with a helper that could start any container.
fn evil() -> String {
    let text = compose_text("v0.0.1");
    let helper = "\n  registrar:\n";
    assert!(text.contains(helper));
    let socket = "    volumes: [/var/run/docker.sock:/var/run/docker.sock]\n";
    text.replace(helper, &format!("{helper}{socket}"))
}

/// A configuration whose clock is set forward, and whose verdicts last a minute.
fn stepped(config: Config) -> (Config, Arc<AtomicU64>) {
    let ahead = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&ahead);
    let clock = Clock::from_fn(move || UnixTime(unix_now() + seen.load(Ordering::SeqCst)));
    let config = Config {
        clock,
        verdict_ttl: Duration::from_secs(60),
        ..config
    };
    (config, ahead)
}

#[tokio::test]
async fn files_are_fetched_once_and_judged() {
    let fake = fake().await;
    let (config, ahead) = stepped(config(&fake));
    let proxy = Proxy::start(config.clone()).await;
    assert_all(&proxy, 2).await;
    assert_fetched_once(&fake);
    ahead.store(61, Ordering::SeqCst);
    assert_all(&proxy, 2).await;
    assert_eq!(probes(&fake.received()), 2);
    assert_fetched_once(&fake);
    // The repository learns of nothing but them; without a folder they end with the process.
    assert_all(&Proxy::start(config).await, 2).await;
    assert_eq!(fetched(&fake).len(), 4);
}

#[tokio::test]
async fn a_restart_finds_them_on_disk() {
    let (fake, state) = (fake().await, place());
    let proxy = Proxy::start(with_state(&fake, &state)).await;
    assert_all(&proxy, 2).await;
    stop(proxy).await;
    let kept = files(&state).into_iter().filter(|path| is_compose(path));
    assert_eq!(kept.count(), 2);
    fake.compose_files(Behaviour::Gone);
    assert_all(&Proxy::start(with_state(&fake, &state)).await, 2).await;
    assert_fetched_once(&fake);
}

fn is_compose(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.starts_with("compose-")
}

#[tokio::test]
async fn many_who_ask_at_once_have_them_fetched_once() {
    let fake = fake_with(Options {
        instances: 3,
        ..Options::default()
    })
    .await;
    let slow = Duration::from_millis(500);
    fake.compose_files(Behaviour::Slow(slow));
    let proxy = Arc::new(Proxy::in_front_of(&fake).await);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..9 {
        let proxy = Arc::clone(&proxy);
        requests.spawn(async move { assert_all(&proxy, 2).await });
    }
    requests.join_all().await;
    assert_fetched_once(&fake);
}

#[tokio::test]
async fn who_is_refused_has_nothing_fetched() {
    type Change = fn(&mut fake_tee::Spec);
    let manager: &[(&str, Change)] = &[
        ("rejected_deployment_quote", |spec| {
            spec.compose_manager.as_mut().unwrap().signer = Signer::Stranger;
        }),
        ("rejected_deployment_tag", |spec| {
            let up = compose_up(spec.now, "main", &[]);
            spec.compose_manager.as_mut().unwrap().actions.push(up);
        }),
        ("evidence_deployment_action", |spec| {
            let mut up = compose_up(spec.now, "v0.0.3", &[]);
            for (key, value) in &mut up {
                if key == "file" {
                    *value = "../../../somebody/else/main/x.yaml".into();
                }
            }
            spec.compose_manager.as_mut().unwrap().actions.push(up);
        }),
        ("rejected_td_debug", |spec| spec.td.td_attributes[0] |= 1),
        // Whatever its log says.
        ("rejected_gpu_missing", |spec| spec.gpus = None),
    ];
    let fake = fake().await;
    for (code, change) in manager {
        fake.change(change).unwrap();
        let answer = Proxy::in_front_of(&fake).await.chat().await;
        assert_eq!(answer.code(), *code, "{}", answer.message());
        assert_eq!(fake.compose_files_fetched(), [""; 0], "{code}");
    }
}

#[tokio::test]
async fn what_does_not_come_is_reported_and_left_alone_for_a_while() {
    let other = compose_text("v0.0.9");
    for behaviour in [
        Behaviour::Status(404),
        Behaviour::Status(302),
        Behaviour::Gone,
        Behaviour::Html,
        Behaviour::Body(other),
        Behaviour::Huge(64 << 20),
    ] {
        let fake = fake().await;
        let (config, ahead) = stepped(config(&fake));
        fake.compose_files(behaviour.clone());
        let proxy = Proxy::start(config).await;
        assert_missing(&proxy, 2, 2).await;
        assert_fetched_once(&fake);
        for second in [61, 122] {
            ahead.store(second, Ordering::SeqCst);
            assert_missing(&proxy, 2, 2).await;
        }
        assert_eq!(probes(&fake.received()), 3);
        assert_fetched_once(&fake);
        // They come in the end.
        fake.compose_files(Behaviour::Normal);
        ahead.store(301, Ordering::SeqCst);
        assert_all(&proxy, 2).await;
        assert_eq!(fetched(&fake).len(), 4, "{behaviour:?}");
    }
}

#[tokio::test]
async fn one_that_is_missing_hides_no_other() {
    let fake = fake().await;
    let evil = evil();
    fake.change(|spec| {
        let manager = spec.compose_manager.as_mut().unwrap();
        manager.publish("v0.0.1", &evil);
        manager.files.retain(|file| file.commit == commit("v0.0.1"));
    })
    .unwrap();
    let answer = Proxy::in_front_of(&fake).await.chat().await;
    assert_eq!(answer.code(), "rejected_compose_docker_socket");
    assert_only_probes(&fake.received());
}

#[tokio::test]
async fn a_silent_repository_costs_its_deadline_once() {
    let fake = fake().await;
    let (config, ahead) = stepped(config(&fake));
    fake.compose_files(Behaviour::Hang);
    let proxy = Proxy::start(config).await;
    let began = Instant::now();
    assert_missing(&proxy, 2, 2).await;
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(5), "{waited:?}");
    assert!(waited < Duration::from_secs(9), "{waited:?}");
    ahead.store(61, Ordering::SeqCst);
    let began = Instant::now();
    assert_missing(&proxy, 2, 2).await;
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(4), "{waited:?}");
    assert_eq!(probes(&fake.received()), 2);
    assert_fetched_once(&fake);
}

/// A slow repository has not failed a file that waited for its turn: it comes, and
/// counts for who asks next.
#[tokio::test]
async fn who_waits_for_a_turn_has_not_failed() {
    let fake = fake().await;
    fake.change(|spec| of_many(spec, 20)).unwrap();
    fake.compose_files(Behaviour::Slow(Duration::from_millis(1_500)));
    let (config, ahead) = stepped(config(&fake));
    let proxy = Proxy::start(config).await;
    let began = Instant::now();
    let (status, detail) = files_check(&proxy, &proxy.chat().await).await;
    assert_eq!(status, "not_proved", "{detail}");
    assert!(began.elapsed() < Duration::from_secs(9));
    // Four at a time: the last have their turn after six seconds.
    until("all were asked for", || fetched(&fake).len() == 20).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    ahead.store(61, Ordering::SeqCst);
    assert_all(&proxy, 20).await;
    assert_eq!(fetched(&fake).len(), 20);
}

/// Neither does a silent one delay one verdict after another, however many files
/// wait for their turn.
#[tokio::test]
async fn a_silent_repository_delays_one_verdict() {
    let fake = fake().await;
    fake.change(|spec| of_many(spec, 20)).unwrap();
    fake.compose_files(Behaviour::Hang);
    let (config, ahead) = stepped(config(&fake));
    let proxy = Proxy::start(config).await;
    let timed = async |second: u64| {
        ahead.store(second, Ordering::SeqCst);
        let began = Instant::now();
        assert_missing(&proxy, 20, 20).await;
        began.elapsed()
    };
    let waited = timed(0).await;
    assert!(waited >= Duration::from_secs(5), "{waited:?}");
    assert!(waited < Duration::from_secs(9), "{waited:?}");
    for second in [61, 122] {
        let waited = timed(second).await;
        assert!(waited < Duration::from_secs(4), "{waited:?}");
    }
    // Each failed in a turn of its own.
    until("all had their turn", || fetched(&fake).len() == 20).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let waited = timed(183).await;
    assert!(waited < Duration::from_secs(4), "{waited:?}");
    assert_eq!(fetched(&fake).len(), 20);
    // After five minutes they are asked for again, all at once.
    let waited = timed(310).await;
    assert!(waited >= Duration::from_secs(5), "{waited:?}");
}

#[tokio::test]
async fn a_file_that_breaks_a_rule_refuses_before_a_byte_leaves() {
    let fake = fake().await;
    publish(&fake, "v0.0.1", &evil());
    let proxy = Proxy::in_front_of(&fake).await;
    for _ in 0..2 {
        let answer = proxy.chat().await;
        assert_eq!(answer.code(), "rejected_compose_docker_socket");
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    }
    assert_only_probes(&fake.received());
    assert_fetched_once(&fake);
}

#[tokio::test]
async fn other_bytes_do_not_pass_for_the_log_s() {
    let fake = fake().await;
    // The log names what breaks a rule, the repository shows what was there before.
    fake.change(|spec| {
        let manager = spec.compose_manager.as_mut().unwrap();
        manager.publish("v0.0.1", &evil());
        for file in &mut manager.files {
            if file.commit == commit("v0.0.1") {
                file.text = compose_text("v0.0.1");
            }
        }
    })
    .unwrap();
    let proxy = Proxy::in_front_of(&fake).await;
    assert_missing(&proxy, 1, 2).await;
    let warned = Log::captured().text();
    assert!(warned.contains("which is not the one in the deployment log"));
}

#[tokio::test]
async fn a_changed_folder_is_noticed() {
    let (fake, state) = (fake().await, place());
    let proxy = Proxy::start(with_state(&fake, &state)).await;
    assert_all(&proxy, 2).await;
    stop(proxy).await;
    // Somebody puts the harmless file where the other one would be.
    let evil = evil();
    let kept = |text: &str| state.join(format!("compose-{}", hex::encode(sha256(text.as_bytes()))));
    let harmless = kept(&compose_text("v0.0.1"));
    std::fs::copy(&harmless, kept(&evil)).unwrap();
    publish(&fake, "v0.0.1", &evil);
    fake.clear();
    let answer = Proxy::start(with_state(&fake, &state)).await.chat().await;
    assert_eq!(answer.code(), "rejected_compose_docker_socket");
    assert_only_probes(&fake.received());
    let warned = Log::captured().text();
    assert!(warned.contains("a compose file in the state directory has been changed"));

    // What is damaged is fetched again, and mended.
    fake.change(|_| {}).unwrap();
    for damage in [
        "",
        "{}",
        "{\"version\":1,\"source\":\"x\",\"fetched_at\":1}\nservices: {}\n",
    ] {
        let before = fetched(&fake).len();
        std::fs::write(&harmless, damage).unwrap();
        let proxy = Proxy::start(with_state(&fake, &state)).await;
        assert_all(&proxy, 2).await;
        stop(proxy).await;
        assert_eq!(fetched(&fake).len(), before + 1, "{damage:?}");
    }
    let proxy = Proxy::start(with_state(&fake, &state)).await;
    let before = fetched(&fake).len();
    assert_all(&proxy, 2).await;
    assert_eq!(fetched(&fake).len(), before);
}

#[tokio::test]
async fn off_fetches_nothing() {
    let (fake, state) = (fake().await, place());
    // Not even what is on disk is looked at.
    let proxy = Proxy::start(with_state(&fake, &state)).await;
    assert_all(&proxy, 2).await;
    stop(proxy).await;
    let config = Config {
        compose_source: ComposeSource::Off,
        ..with_state(&fake, &state)
    };
    let proxy = Proxy::start(config).await;
    let (status, detail) = files_check(&proxy, &proxy.chat().await).await;
    assert_eq!(status, "not_proved");
    assert_eq!(detail, "files are not fetched (--compose-files-url off)");
    assert_fetched_once(&fake);
}

/// A log of so many different files.
fn of_many(spec: &mut fake_tee::Spec, count: u64) {
    let now = spec.now;
    let manager = spec.compose_manager.as_mut().unwrap();
    manager.actions.clear();
    manager.files.clear();
    for number in 0..count {
        let tag = format!("v0.1.{number}");
        manager
            .actions
            .push(compose_up(now - count + number, &tag, &[]));
        manager.files.push(PublishedFile {
            commit: commit(&tag),
            file: FILE.to_owned(),
            text: compose_text(&tag),
        });
    }
}

#[tokio::test]
async fn a_verdict_has_64_fetched_at_most() {
    let fake = fake().await;
    fake.change(|spec| of_many(spec, 100)).unwrap();
    let (config, ahead) = stepped(config(&fake));
    let proxy = Proxy::start(config).await;
    assert_missing(&proxy, 36, 100).await;
    assert_eq!(fetched(&fake).len(), 64);
    ahead.store(61, Ordering::SeqCst);
    assert_all(&proxy, 100).await;
    assert_eq!(fetched(&fake).len(), 100);
}

/// The same file at two commits is fetched once; where one commit has it no
/// more, the other is asked the next time.
#[tokio::test]
async fn one_hash_at_two_commits() {
    for gone in [None, Some("v0.0.1")] {
        let fake = fake().await;
        fake.change(|spec| {
            let manager = spec.compose_manager.as_mut().unwrap();
            manager.publish("v0.0.2", &compose_text("v0.0.1"));
            manager
                .files
                .retain(|file| gone.is_none_or(|tag| file.commit != commit(tag)));
        })
        .unwrap();
        let (config, ahead) = stepped(config(&fake));
        let proxy = Proxy::start(config).await;
        let [first, second] = both();
        if gone.is_some() {
            assert_missing(&proxy, 2, 2).await;
            assert_eq!(fake.compose_files_fetched(), *std::slice::from_ref(&first));
            ahead.store(61, Ordering::SeqCst);
            assert_all(&proxy, 2).await;
            assert_eq!(fake.compose_files_fetched(), [first, second]);
        } else {
            assert_all(&proxy, 2).await;
            assert_eq!(fake.compose_files_fetched(), [first]);
        }
    }
}
