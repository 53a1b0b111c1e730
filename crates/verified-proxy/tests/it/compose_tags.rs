//! The tags of the repository of compose files: asked for seldom, and held against a
//! log before a byte of a client leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use attest::{Policy, UnixTime};
use fake_tee::ComposeManager;
use fake_tee::compose_file::{PublishedFile, commit, compose_text};
use fake_tee::deployment::{action, compose_up};
use fake_tee::pki::Signer;
use fake_tee::refusing;
use fake_tee::serve::{Behaviour, NrasRoute, Options, Running, unix_now};
use fake_tee::tags::{PublishedTag, advertisement};
use http::StatusCode;
use proxy::Config;
use proxy::config::{Clock, ComposeSource};

use crate::harness::*;
use crate::program::command;

const UNKNOWN: &str = "rejected_deployment_tag_unknown";
const MOVED: &str = "rejected_deployment_tag_moved";
const NO_TAGS: &str = "deployment_tags_unavailable";
const NO_FILES: &str = "deployment_files_unavailable";

/// What a verdict says of the tags: status and detail.
async fn tags_check(proxy: &Proxy, answer: &Answer) -> (String, String) {
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    let id = answer.header("x-verified-proxy-verdict");
    let report = proxy.get(&format!("/_proxy/verdicts/{id}")).await.json();
    let mut checks = report["checks"].as_array().unwrap().iter();
    let check = checks.find(|check| check["id"] == "deployment_tags");
    let text = |field: &str| check.unwrap()[field].as_str().unwrap().to_owned();
    (text("status"), text("detail"))
}

async fn assert_compared(proxy: &Proxy) {
    let (status, detail) = tags_check(proxy, &proxy.chat().await).await;
    assert_eq!(status, "pass", "{detail}");
}

async fn assert_not_compared(proxy: &Proxy, reason: &str) {
    let (status, detail) = tags_check(proxy, &proxy.chat().await).await;
    assert_eq!(status, "not_proved", "{detail}");
    assert!(detail.starts_with("not compared: "), "{detail}");
    assert!(detail.contains(reason), "{reason}: {detail}");
}

async fn assert_refused(proxy: &Proxy, code: &str) -> String {
    let answer = proxy.chat().await;
    assert_eq!(answer.code(), code, "{}", answer.message());
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    answer.message()
}

/// A key that was refused three times is left alone for a second.
async fn pause() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}

fn change(fake: &Running, change: impl Fn(&mut ComposeManager)) {
    fake.change(|spec| change(spec.compose_manager.as_mut().unwrap()))
        .unwrap();
}

/// Changes what the repository has, and not the log.
fn upstream(fake: &Running, to: impl Fn(&mut Vec<PublishedTag>) + Send + Sync + Clone + 'static) {
    change(fake, |manager| manager.tags.push(to.clone()));
}

/// A start of a new release, as the repository has it.
fn release(fake: &Running) {
    change(fake, |manager| {
        let mut up = compose_up(unix_now() - 30, "v0.0.3", &[]);
        up.retain(|(key, _)| key != "file_sha256");
        let old = manager.actions[1].iter();
        up.extend(old.filter(|(key, _)| key == "file_sha256").cloned());
        manager.actions.push(up);
        let file = manager.files[0].clone();
        manager.files.push(PublishedFile {
            commit: commit("v0.0.3"),
            ..file
        });
    });
}

fn required(fake: &Running) -> Config {
    let text = refusing(&fake.policy_toml, "deployment.sources = \"required\"\n");
    Config {
        policy: Policy::from_toml(&text).unwrap(),
        ..config(fake)
    }
}

/// A configuration whose clock is set forward, and whose verdicts last for this time.
fn stepped(config: Config, verdict_ttl: u64) -> (Config, Arc<AtomicU64>) {
    let ahead = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&ahead);
    let clock = Clock::from_fn(move || UnixTime(unix_now() + seen.load(Ordering::SeqCst)));
    let config = Config {
        clock,
        verdict_ttl: Duration::from_secs(verdict_ttl),
        ..config
    };
    (config, ahead)
}

#[tokio::test]
async fn tags_are_asked_for_once_an_hour() {
    for config_of in [config, required] {
        let fake = fake().await;
        let (config, ahead) = stepped(config_of(&fake), 60);
        let proxy = Proxy::start(config).await;
        for (second, fetches) in [(0, 1), (61, 1), (3_000, 1), (3_601, 2), (7_000, 2)] {
            ahead.store(second, Ordering::SeqCst);
            assert_compared(&proxy).await;
            assert_eq!(fake.compose_tags_fetches(), fetches, "{second}");
        }
        assert_eq!(probes(&fake.received()), 5);
    }
}

/// Who has the repository learns that somebody looks at tags, and no more.
#[tokio::test]
async fn a_question_says_nothing_of_a_client() {
    let fake = fake().await;
    let wire = wire(&fake).await;
    let config = Config {
        compose_tags_source: format!("{}/compose.git/", wire.url).parse().unwrap(),
        ..config(&fake)
    };
    assert_compared(&Proxy::start(config).await).await;
    let seen = wire.seen.lock().unwrap().clone();
    let [question] = &seen[..] else {
        panic!("{} connections", seen.len());
    };
    let text = String::from_utf8(question.clone()).unwrap();
    let mut lines: Vec<_> = text.trim_end().split("\r\n").map(str::to_owned).collect();
    lines[1..].sort_unstable();
    let expected = [
        "GET /compose.git/info/refs?service=git-upload-pack HTTP/1.1".to_owned(),
        "accept-encoding: identity".to_owned(),
        format!("host: {}", wire.url.trim_start_matches("http://")),
        format!("user-agent: verified-proxy/{}", env!("CARGO_PKG_VERSION")),
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn who_is_refused_has_no_tags_fetched() {
    type Change = fn(&mut fake_tee::Spec);
    let changes: [(&str, Change); 5] = [
        ("rejected_deployment_quote", |spec| {
            spec.compose_manager.as_mut().unwrap().signer = Signer::Stranger;
        }),
        ("rejected_deployment_tag", |spec| {
            let up = compose_up(spec.now, "main", &[]);
            spec.compose_manager.as_mut().unwrap().actions.push(up);
        }),
        ("deployment_missing", |spec| spec.compose_manager = None),
        ("rejected_td_debug", |spec| spec.td.td_attributes[0] |= 1),
        // Whatever its log says, and whatever is missing.
        ("rejected_gpu_missing", |spec| spec.gpus = None),
    ];
    let fake = fake().await;
    for config_of in [config, required] {
        for (code, change) in changes {
            fake.change(change).unwrap();
            assert_refused(&Proxy::start(config_of(&fake)).await, code).await;
            assert_eq!(fake.compose_tags_fetches(), 0, "{code}");
            assert_eq!(fake.compose_files_fetched(), [""; 0], "{code}");
        }
    }
}

#[tokio::test]
async fn a_tag_that_is_not_there_or_another_refuses_before_a_byte_leaves() {
    for config_of in [config, required] {
        let fake = fake().await;
        upstream(&fake, |tags| tags.retain(|tag| tag.name != "v0.0.1"));
        let said = assert_refused(&Proxy::start(config_of(&fake)).await, UNKNOWN).await;
        assert!(said.contains("\"v0.0.1\""), "{said}");
        assert!(said.contains("none of the 1 tags"), "{said}");
        // One list is newest for all three instances that were tried.
        assert_eq!(fake.compose_tags_fetches(), 1);
        fake.change(|_| {}).unwrap();
        upstream(&fake, |tags| tags[1].commit = commit("elsewhere"));
        let said = assert_refused(&Proxy::start(config_of(&fake)).await, MOVED).await;
        for named in ["\"v0.0.2\"", &commit("v0.0.2"), &commit("elsewhere")] {
            assert!(said.contains(named), "{said}");
        }
        assert_eq!(fake.compose_tags_fetches(), 2);
        assert_only_probes(&fake.received());
    }
}

#[tokio::test]
async fn an_annotated_tag_is_the_commit_that_it_is_about() {
    let fake = fake().await;
    upstream(&fake, |tags| {
        for tag in tags {
            tag.object = Some(commit("an object"));
        }
    });
    assert_compared(&Proxy::in_front_of(&fake).await).await;
}

/// A release that is newer than the list is looked up in a newer list, at most once
/// a minute.
#[tokio::test]
async fn a_new_release_has_the_list_fetched_anew() {
    let fake = fake().await;
    let (config, ahead) = stepped(config(&fake), 20);
    let proxy = Proxy::start(config).await;
    assert_compared(&proxy).await;
    release(&fake);
    ahead.store(30, Ordering::SeqCst);
    // The list is half a minute old.
    assert_refused(&proxy, UNKNOWN).await;
    assert_eq!(fake.compose_tags_fetches(), 1);
    pause().await;
    ahead.store(61, Ordering::SeqCst);
    assert_compared(&proxy).await;
    assert_eq!(fake.compose_tags_fetches(), 2);
    // The same where nothing is at hand that could be compared.
    assert_compared(&Proxy::in_front_of(&fake).await).await;
    assert_eq!(fake.compose_tags_fetches(), 3);
}

/// A release that is newer than the list at hand lowers the level where tags are only
/// reported: a newer list is asked for before the machine is refused for it.
#[tokio::test]
async fn a_new_release_is_found_where_only_its_level_refuses() {
    for (line, code) in [
        (
            "deployment.sources = \"required\"\nleast.deployment = \"tagged\"",
            "rejected_deployment_level",
        ),
        (
            "deployment.sources = \"required\"\nhold = true",
            "rejected_went_down",
        ),
    ] {
        let fake = fake().await;
        let lines = format!("deployment.tags = \"report\"\n{line}\n");
        let config = Config {
            policy: Policy::from_toml(&refusing(&fake.policy_toml, &lines)).unwrap(),
            ..config(&fake)
        };
        let (config, ahead) = stepped(config, 20);
        let proxy = Proxy::start(config).await;
        assert_compared(&proxy).await;
        release(&fake);
        ahead.store(61, Ordering::SeqCst);
        assert_compared(&proxy).await;
        assert_eq!(fake.compose_tags_fetches(), 2);
        fake.change(|spec| {
            let unknown = action(unix_now() - 20, "dance", &[]);
            spec.compose_manager.as_mut().unwrap().actions.push(unknown);
        })
        .unwrap();
        ahead.store(122, Ordering::SeqCst);
        assert_refused(&proxy, code).await;
    }
}

/// The list at hand speaks for an hour; a new process asks anew.
#[tokio::test]
async fn a_tag_that_was_moved_is_noticed_within_an_hour_and_after_a_restart() {
    let fake = fake().await;
    let (config, ahead) = stepped(config(&fake), 20);
    let proxy = Proxy::start(config.clone()).await;
    assert_compared(&proxy).await;
    upstream(&fake, |tags| tags[0].commit = commit("elsewhere"));
    ahead.store(3_500, Ordering::SeqCst);
    assert_compared(&proxy).await;
    assert_eq!(fake.compose_tags_fetches(), 1);
    ahead.store(3_601, Ordering::SeqCst);
    assert_refused(&proxy, MOVED).await;
    assert_eq!(fake.compose_tags_fetches(), 2);
    assert_refused(&Proxy::start(config).await, MOVED).await;
    assert_eq!(fake.compose_tags_fetches(), 3);
}

/// Every way of not answering: reported or refused, as the policy says, and never a pass.
#[tokio::test]
async fn what_is_no_list_compares_nothing() {
    let tags = ComposeManager::new(unix_now()).published_tags();
    let whole = advertisement(&tags);
    let cut = whole[..whole.len() - 4].to_owned();
    let twice = whole.replacen("v0.0.2", "v0.0.1", 1);
    for (behaviour, reason) in [
        (Behaviour::Status(500), "status 500"),
        (Behaviour::Status(302), "status 302"),
        (Behaviour::Status(404), "status 404"),
        (Behaviour::Gone, "broke off"),
        (Behaviour::Html, "a packet has no length"),
        (Behaviour::Body(String::new()), "ends too early"),
        (Behaviour::Body(cut), "ends too early"),
        (Behaviour::Body(twice), "twice"),
        (Behaviour::Huge(64 << 20), "more than 4194304 bytes"),
    ] {
        let fake = fake().await;
        fake.compose_tags(behaviour.clone());
        let (config, ahead) = stepped(config(&fake), 20);
        let proxy = Proxy::start(config).await;
        let (required, required_ahead) = stepped(required(&fake), 20);
        let strict = Proxy::start(required).await;
        for second in [0, 21, 42] {
            ahead.store(second, Ordering::SeqCst);
            assert_not_compared(&proxy, reason).await;
        }
        assert_eq!(fake.compose_tags_fetches(), 1, "{behaviour:?}");
        fake.clear();
        let said = assert_refused(&strict, NO_TAGS).await;
        assert!(said.contains(reason), "{said}");
        assert!(said.contains("--compose-tags-url"), "{said}");
        assert_only_probes(&fake.received());
        // Another instance would fare the same.
        assert_eq!(probes(&fake.received()), 1, "{behaviour:?}");
        assert_eq!(fake.compose_tags_fetches(), 2, "{behaviour:?}");
        // It comes in the end.
        fake.compose_tags(Behaviour::Normal);
        for ahead in [&ahead, &required_ahead] {
            ahead.store(63, Ordering::SeqCst);
        }
        assert_compared(&proxy).await;
        assert_compared(&strict).await;
        assert_eq!(fake.compose_tags_fetches(), 4, "{behaviour:?}");
    }
}

/// A list that came serves until its end, though no newer one does; then nothing is
/// compared, and what it refused is refused as long.
#[tokio::test]
async fn a_list_outlives_a_fetch_in_vain() {
    let fake = fake().await;
    let (config, ahead) = stepped(config(&fake), 20);
    let proxy = Proxy::start(config).await;
    assert_compared(&proxy).await;
    fake.compose_tags(Behaviour::Status(500));
    release(&fake);
    ahead.store(61, Ordering::SeqCst);
    assert_refused(&proxy, UNKNOWN).await;
    assert_eq!(fake.compose_tags_fetches(), 2);
    fake.change(|_| {}).unwrap();
    pause().await;
    ahead.store(3_500, Ordering::SeqCst);
    assert_compared(&proxy).await;
    ahead.store(3_601, Ordering::SeqCst);
    assert_not_compared(&proxy, "status 500").await;
    assert_eq!(fake.compose_tags_fetches(), 3);
}

/// A list that ends while a verdict is made serves this verdict to its end: neither
/// does what it refuses pass for its age, nor is it missed where it fits.
#[tokio::test]
async fn a_list_serves_the_verdict_that_it_began() {
    type Slow = fn(&Running);
    type Count = fn(&Running) -> usize;
    let slow = Behaviour::Slow(Duration::from_millis(1_500));
    let cases: [(Slow, Count, Option<&str>); 2] = [
        // A newer list that does not come.
        (
            |fake| {
                fake.compose_tags(Behaviour::Hang);
                release(fake);
            },
            |fake| fake.compose_tags_fetches(),
            Some(UNKNOWN),
        ),
        // A file that takes a while.
        (
            |fake| {
                let text = compose_text("v0.0.1") + "# reviewed\n";
                change(fake, |manager| manager.publish("v0.0.1", &text));
            },
            |fake| fake.compose_files_fetched().len(),
            None,
        ),
    ];
    for (slowly, count, refused) in cases {
        let fake = fake().await;
        let (config, ahead) = stepped(required(&fake), 20);
        let proxy = Arc::new(Proxy::start(config).await);
        assert_compared(&proxy).await;
        fake.compose_files(slow.clone());
        slowly(&fake);
        let before = count(&fake);
        ahead.store(3_598, Ordering::SeqCst);
        let asking = Arc::clone(&proxy);
        let asked = tokio::spawn(async move { asking.chat().await });
        until("it is in the middle", || count(&fake) > before).await;
        ahead.store(3_602, Ordering::SeqCst);
        let answer = asked.await.unwrap();
        match refused {
            Some(code) => assert_eq!(answer.code(), code, "{}", answer.message()),
            None => assert_eq!(tags_check(&proxy, &answer).await.0, "pass"),
        }
    }
}

#[tokio::test]
async fn many_who_ask_at_once_have_it_fetched_once() {
    let fake = fake_with(Options {
        instances: 3,
        ..Options::default()
    })
    .await;
    fake.compose_tags(Behaviour::Slow(Duration::from_millis(700)));
    let proxy = Arc::new(Proxy::start(required(&fake)).await);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..9 {
        let proxy = Arc::clone(&proxy);
        requests.spawn(async move { assert_compared(&proxy).await });
    }
    requests.join_all().await;
    assert_eq!(fake.compose_tags_fetches(), 1);
}

#[tokio::test]
async fn a_silent_repository_costs_its_deadline_once_a_minute() {
    let fake = fake().await;
    let (config, ahead) = stepped(config(&fake), 20);
    fake.compose_tags(Behaviour::Hang);
    let proxy = Proxy::start(config).await;
    let began = Instant::now();
    assert_not_compared(&proxy, "not received within 5 s").await;
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(5), "{waited:?}");
    assert!(waited < Duration::from_secs(9), "{waited:?}");
    ahead.store(30, Ordering::SeqCst);
    let began = Instant::now();
    assert_not_compared(&proxy, "not received within 5 s").await;
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(4), "{waited:?}");
    assert_eq!(fake.compose_tags_fetches(), 1);
}

/// Nothing was found out about the machine: its verdict stands to its end. One that
/// a tag speaks against is withdrawn.
#[tokio::test]
async fn a_renewal_without_a_file_withdraws_nothing() {
    let fake = fake().await;
    let config = Config {
        verdict_ttl: Duration::from_secs(12),
        ..required(&fake)
    };
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    // A file that nobody has.
    change(&fake, |manager| {
        let mut up = compose_up(unix_now() - 30, "v0.0.2", &[]);
        for (key, value) in &mut up {
            match key.as_str() {
                "file" => *value = "other.yaml".into(),
                "file_sha256" => *value = "42".repeat(32).into(),
                _ => {}
            }
        }
        manager.actions.push(up);
    });
    let first = proxy.chat().await;
    until("probed again", || probes(&fake.received()) == 2).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let second = proxy.chat().await;
    assert_eq!(second.status, StatusCode::OK);
    let verdict = |answer: &Answer| answer.header("x-verified-proxy-verdict").to_owned();
    assert_eq!(verdict(&first), verdict(&second));
    // At its end nothing more goes.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let said = assert_refused(&proxy, NO_FILES).await;
    assert!(said.contains("1 of 3 files were not fetched"), "{said}");
}

#[tokio::test]
async fn off_asks_nobody() {
    let fake = fake().await;
    let off = |config: Config| Config {
        compose_tags_source: ComposeSource::Off,
        ..config
    };
    let said = "tags are not fetched (--compose-tags-url off)";
    assert_not_compared(&Proxy::start(off(config(&fake))).await, said).await;
    let strict = Proxy::start(off(required(&fake))).await;
    assert!(assert_refused(&strict, NO_TAGS).await.contains(said));
    assert_eq!(fake.compose_tags_fetches(), 0);
    let no_files = Config {
        compose_source: ComposeSource::Off,
        ..required(&fake)
    };
    let said = assert_refused(&Proxy::start(no_files).await, NO_FILES).await;
    assert!(said.contains("(--compose-files-url off)"), "{said}");

    // The command line notices before any backend is asked.
    let policy = |name: &str, more: &str| {
        let path = fake.dir.join(name);
        std::fs::write(&path, refusing(&fake.policy_toml, more)).unwrap();
        path.display().to_string()
    };
    let strict = policy("strict.toml", "deployment.sources = \"required\"\n");
    let any = "deployment.sources = \"required\"\ndeployment.tags = \"any\"\n";
    let any = policy("any.toml", any);
    fake.clear();
    for option in ["--compose-files-url", "--compose-tags-url"] {
        let said = command(
            &fake,
            "verify",
            &[DOMAIN, "--policy", &strict, option, "off"],
        )
        .await;
        assert_eq!(said.0, Some(2), "{}{}", said.1, said.2);
        assert!(said.2.contains(&format!("{option} off")), "{}", said.2);
    }
    assert_eq!(fake.received().len(), 0);
    let tags_off = ["--compose-tags-url", "off"];
    let said = command(
        &fake,
        "verify",
        &[&[DOMAIN, "--policy", &any], &tags_off[..]].concat(),
    )
    .await;
    assert_eq!(said.0, Some(0), "{}{}", said.1, said.2);
}

/// The repository's word is not taken for a file's.
#[tokio::test]
async fn tags_excuse_no_file() {
    let fake = fake().await;
    let text = compose_text("v0.0.1");
    let evil = text.replace("ipc: host", "pid: host");
    assert_ne!(text, evil);
    change(&fake, |manager| manager.publish("v0.0.1", &evil));
    assert_refused(
        &Proxy::start(required(&fake)).await,
        "rejected_compose_namespace",
    )
    .await;
    assert_only_probes(&fake.received());
}

/// What is missing on one side keeps nobody from getting the other; but NVIDIA is
/// not asked about a machine that is refused all the same.
#[tokio::test]
async fn sources_and_an_opinion_may_both_be_required() {
    let fake = fake().await;
    let both = || {
        let more = "gpu.nras = \"require\"\ndeployment.sources = \"required\"\n";
        Config {
            policy: Policy::from_toml(&refusing(&fake.policy_toml, more)).unwrap(),
            ..crate::nras::asking(&fake, "require")
        }
    };
    let asked = || fake.nras_fetches(NrasRoute::Attest);
    fake.compose_tags(Behaviour::Status(500));
    assert_refused(&Proxy::start(both()).await, NO_TAGS).await;
    fake.compose_tags(Behaviour::Normal);
    fake.compose_files(Behaviour::Gone);
    assert_refused(&Proxy::start(both()).await, NO_FILES).await;
    assert_eq!(asked(), 0);
    fake.compose_files(Behaviour::Normal);
    assert_compared(&Proxy::start(both()).await).await;
    assert_eq!(asked(), 1);
    fake.nras(&[], &Behaviour::Gone);
    assert_refused(&Proxy::start(both()).await, "nras_unavailable").await;
    assert_eq!(asked(), 2);
}
