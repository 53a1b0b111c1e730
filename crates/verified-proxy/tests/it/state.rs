//! What outlives a process.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::Ordering;

use attest::TrustAnchors;
use fake_tee::compose_file::{PublishedFile, commit, compose_text};
use fake_tee::deployment::{action, compose_up};
use fake_tee::serve::{Behaviour, Options, Route};
use http::StatusCode;
use proxy::config::ComposeSource;
use proxy::{Config, Server};

use crate::harness::*;

const DAY: u64 = 86_400;

#[tokio::test]
async fn a_restart_finds_list_and_collateral_on_disk() {
    let (fake, state) = (fake().await, place());
    let front = front(&fake).await;
    let config = Config {
        endpoints_url: front.list(),
        collateral_sources: vec![front.url()],
        ..with_state(&fake, &state)
    };
    let proxy = Proxy::start(config.clone()).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    until("both are written", || {
        file(&state, "endpoints-").is_some() && file(&state, "collateral-").is_some()
    })
    .await;
    stop(proxy).await;
    let asked = front.asked();

    front.silent.store(true, Ordering::SeqCst);
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    assert_eq!(front.asked(), asked, "nothing was old enough to be fetched");
    stop(proxy).await;

    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    for path in files(&state) {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        let bytes = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for secret in [CANARY, API_KEY] {
            assert!(!text.contains(secret), "{}", path.display());
        }
    }
    let names = files(&state);
    assert!(
        !names
            .iter()
            .any(|path| path.to_string_lossy().contains("/.")),
        "{names:?}"
    );
}

#[tokio::test]
async fn a_restart_does_not_forget_floors() {
    let (fake, state) = (fake().await, place());
    after_one_run(&fake, &state).await;
    // The list of editions is not had again: what it said is remembered.
    for name in ["collateral-", "editions"] {
        std::fs::remove_file(file(&state, name).unwrap()).unwrap();
    }
    let no_list = Behaviour::Status(404);
    fake.pcs(0, &[Route::EvaluationNumbers], &no_list).unwrap();
    fake.change(|spec| spec.tcb_info.tcb_evaluation_data_number -= 1)
        .unwrap();
    fake.clear();
    let answer = Proxy::start(with_state(&fake, &state)).await.chat().await;
    assert_eq!(answer.code(), "rejected_collateral_rollback");
    let message = answer.message();
    assert!(message.contains("floors.json"), "{message}");
    assert_only_probes(&fake.received());
    // Without that memory it is admitted: the floors are what refused it.
    let answer = Proxy::start(config(&fake)).await.chat().await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn what_a_refusal_saw_is_not_forgotten_either() {
    let (fake, state) = (fake().await, place());
    // The edition that revokes the platform, and then the one before.
    fake.change(|spec| {
        spec.tcb_info.tcb_evaluation_data_number += 1;
        spec.qe_identity.tcb_evaluation_data_number += 1;
        spec.evaluation_numbers.set(21, spec.now - 400 * DAY);
        for level in &mut spec.tcb_info.tcb_levels {
            level.tcb_status = "Revoked".to_owned();
        }
    })
    .unwrap();
    let proxy = Proxy::start(with_state(&fake, &state)).await;
    assert_eq!(proxy.chat().await.code(), "rejected_tcb_platform");
    stop(proxy).await;
    fake.change(|_| {}).unwrap();
    let no_list = Behaviour::Status(404);
    fake.pcs(0, &[Route::EvaluationNumbers], &no_list).unwrap();
    for name in ["collateral-", "editions"] {
        let _ = file(&state, name).map(std::fs::remove_file);
    }
    let answer = Proxy::start(with_state(&fake, &state)).await.chat().await;
    assert_eq!(answer.code(), "rejected_collateral_rollback");
}

/// What a source has is not what it was asked for.
#[tokio::test]
async fn early_documents_for_standard_ones_lock_nobody_out() {
    let (fake, state) = (fake().await, place());
    fake.change(|spec| {
        spec.tcb_info.tcb_evaluation_data_number += 1;
        spec.qe_identity.tcb_evaluation_data_number += 1;
    })
    .unwrap();
    after_one_run(&fake, &state).await;
    fake.change(|_| {}).unwrap();
    // Also where Intel's list is not had any more.
    for list in [Behaviour::Normal, Behaviour::Status(404)] {
        for name in ["collateral-", "editions"] {
            std::fs::remove_file(file(&state, name).unwrap()).unwrap();
        }
        fake.pcs(0, &[Route::EvaluationNumbers], &list).unwrap();
        after_one_run(&fake, &state).await;
    }
}

/// A list that is missing, forged or late refuses nothing, and proves nothing.
#[tokio::test]
async fn without_a_list_of_editions_there_is_a_verdict() {
    let fake = fake().await;
    let wrong = [
        Behaviour::Status(404),
        Behaviour::Gone,
        Behaviour::Html,
        Behaviour::Huge(2 << 20),
        Behaviour::Expired,
        Behaviour::Hang,
        Behaviour::Body("{}".to_owned()),
        Behaviour::Body("{\"tcbEvaluationDataNumbers\":{},\"signature\":\"00\"}".to_owned()),
    ];
    for behaviour in wrong {
        fake.change(|spec| {
            spec.tcb_info.tcb_evaluation_data_number -= 1;
            spec.qe_identity.tcb_evaluation_data_number -= 1;
        })
        .unwrap();
        fake.pcs(0, &[Route::EvaluationNumbers], &behaviour)
            .unwrap();
        let answer = Proxy::start(config(&fake)).await.chat().await;
        assert_eq!(answer.status, StatusCode::OK, "{behaviour:?}");
    }
    // With it the same edition is refused at first sight.
    fake.pcs(0, &[], &Behaviour::Normal).unwrap();
    let answer = Proxy::start(config(&fake)).await.chat().await;
    assert_eq!(answer.code(), "rejected_collateral_rollback");
}

/// Another source's list is as good: it is signed.
#[tokio::test]
async fn the_list_of_editions_is_had_from_whoever_has_a_genuine_one() {
    let fake = fake_with(Options {
        more_sources: vec![true],
        ..Options::default()
    })
    .await;
    let sources = [0, 1].map(|index| fake.source_url(index).unwrap().parse().unwrap());
    let config = Config {
        collateral_sources: sources.to_vec(),
        ..config(&fake)
    };
    fake.change(|spec| {
        spec.tcb_info.tcb_evaluation_data_number -= 1;
        spec.qe_identity.tcb_evaluation_data_number -= 1;
    })
    .unwrap();
    for behaviour in [Behaviour::Status(404), Behaviour::Hang] {
        fake.pcs(0, &[Route::EvaluationNumbers], &behaviour)
            .unwrap();
        let answer = Proxy::start(config.clone()).await.chat().await;
        assert_eq!(answer.code(), "rejected_collateral_rollback");
    }
    assert!(fake.pcs_fetches(1, Route::EvaluationNumbers) >= 2);
}

/// Floors of the layout before load, and do not sink.
#[tokio::test]
async fn floors_of_an_earlier_program_hold() {
    let (fake, state) = (fake().await, place());
    after_one_run(&fake, &state).await;
    let path = file(&state, "floors.json").unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["version"] = 1.into();
    let floors = json["floors"].as_object_mut().unwrap();
    let (key, mut floor) = floors
        .iter()
        .next()
        .map(|(k, v)| (k.clone(), v.clone()))
        .unwrap();
    floors.clear();
    floor.as_object_mut().unwrap().remove("editions");
    floor["tcb_info"] = 21.into();
    floors.insert(format!("{key}/standard"), floor);
    std::fs::write(&path, json.to_string()).unwrap();
    let answer = Proxy::start(with_state(&fake, &state)).await.chat().await;
    assert_eq!(answer.code(), "rejected_collateral_rollback");
}

/// An action that is not known lowers the deployment's level. Under `hold` it refuses across
/// a restart, until the user accepts it once.
#[tokio::test]
async fn what_went_down_since_the_last_run_is_held() {
    let (fake, state) = (fake().await, place());
    let report = "deployment.tags = \"report\"\ndeployment.files = \"report\"\n";
    let policy = |hold| {
        let required = "deployment.sources = \"required\"\n";
        let text = format!("{}{report}{required}hold = {hold}\n", fake.policy_toml);
        attest::Policy::from_toml(&text).unwrap()
    };
    let held = Config {
        policy: policy(true),
        ..with_state(&fake, &state)
    };
    let proxy = Proxy::start(held.clone()).await;
    let answer = proxy.chat().await;
    assert!(
        answer
            .header("x-verified-proxy-levels")
            .contains("deployment=tagged")
    );
    stop(proxy).await;

    fake.change(|spec| {
        let unknown = action(spec.now - 60, "dance", &[]);
        spec.compose_manager.as_mut().unwrap().actions.push(unknown);
    })
    .unwrap();
    fake.clear();
    let proxy = Proxy::start(held.clone()).await;
    let answer = proxy.chat().await;
    assert_eq!(answer.code(), "rejected_went_down");
    let message = answer.message();
    assert!(
        message.contains("deployment=declared, never below tagged before")
            && message.contains("--accept-change"),
        "{message}"
    );
    assert_only_probes(&fake.received());
    stop(proxy).await;

    // Another policy's verdict accepts nothing for this one.
    let free = Config {
        policy: policy(false),
        ..held.clone()
    };
    for (config, status) in [(free, 200), (held.clone(), 502)] {
        let proxy = Proxy::start(config).await;
        assert_eq!(proxy.chat().await.status.as_u16(), status);
        stop(proxy).await;
    }

    let accepting = Config {
        accept_change: vec![DOMAIN.parse().unwrap()],
        ..held.clone()
    };
    let proxy = Proxy::start(accepting).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    let list = proxy.get("/_proxy/verdicts").await.json();
    let changes = list["verdicts"][0]["changes"].to_string();
    assert!(changes.contains("never below tagged before"), "{changes}");
    let metrics = proxy.get("/_proxy/metrics").await.body;
    let metrics = String::from_utf8_lossy(&metrics);
    for expected in [
        "verified_proxy_changes_total{kind=\"level\",down=\"yes\"} 1",
        "verified_proxy_findings_total{topic=\"deployment_unknown_action\",severity=\"warning\"} 1",
    ] {
        assert!(metrics.contains(expected), "{expected}: {metrics}");
    }
    let log = Log::captured().text();
    assert!(log.contains("went down since it was last seen: deployment=declared"));
    stop(proxy).await;

    // Seen, and so no change any more; nor would another policy's verdict be one.
    for config in [
        held.clone(),
        Config {
            policy: policy(false),
            ..held.clone()
        },
    ] {
        let proxy = Proxy::start(config).await;
        assert_eq!(proxy.chat().await.status, StatusCode::OK);
        stop(proxy).await;
    }

    // What was seen cannot be read: only who holds it has to know.
    let path = file(&state, "history.json").unwrap();
    std::fs::write(&path, "{").unwrap();
    let message = refusal(held);
    assert!(
        message.contains("history.json") && message.contains("hold = true"),
        "{message}"
    );
    Server::new(with_state(&fake, &state)).unwrap();
}

/// What was started before and after a boot is known by its files alone: a level that is
/// refused without them has them fetched, also by a new process.
#[tokio::test]
async fn a_level_is_not_refused_before_its_files_are_read() {
    for line in ["hold = true", "least.deployment = \"tagged\""] {
        let (fake, state) = (fake().await, place());
        fake.change(|spec| {
            let now = spec.now;
            spec.app.boot_time = now - 10 * 3_600;
            let manager = spec.compose_manager.as_mut().unwrap();
            for (hours, tag) in [(40, "main"), (39, "v0.0.2"), (2, "v0.0.2")] {
                let start = compose_up(now - hours * 3_600, tag, &[]);
                manager.actions.push(start);
            }
            manager.files.push(PublishedFile {
                commit: commit("main"),
                text: compose_text("main"),
                ..manager.files[0].clone()
            });
        })
        .unwrap();
        let text = format!(
            "{}deployment.tags = \"report\"\ndeployment.files = \"report\"\ndeployment.sources = \"required\"\n{line}\n",
            fake.policy_toml
        );
        let config = Config {
            policy: attest::Policy::from_toml(&text).unwrap(),
            ..with_state(&fake, &state)
        };
        for _ in 0..2 {
            let proxy = Proxy::start(config.clone()).await;
            let answer = proxy.chat().await;
            assert_eq!(answer.status, StatusCode::OK, "{line}: {:?}", answer.body);
            assert!(
                answer
                    .header("x-verified-proxy-levels")
                    .contains("deployment=tagged")
            );
            stop(proxy).await;
        }
    }
}

#[tokio::test]
async fn another_root_shares_nothing() {
    let (one, other, state) = (fake().await, fake().await, place());
    after_one_run(&one, &state).await;
    let folders = || {
        let entries = std::fs::read_dir(&state).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("tdx-root-")).count()
    };
    assert_eq!(folders(), 1);
    // A lower edition under another root: there it is the first, and standard.
    other
        .change(|spec| {
            spec.tcb_info.tcb_evaluation_data_number -= 1;
            spec.evaluation_numbers.set(20, spec.now - DAY);
        })
        .unwrap();
    let answer = Proxy::start(with_state(&other, &state)).await.chat().await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    assert_eq!(folders(), 2);
    let mut intel = with_state(&one, &state);
    intel.trust_anchors = TrustAnchors::intel();
    Server::new(intel).unwrap();
    assert_eq!(folders(), 3);
}

#[tokio::test]
async fn broken_caches_are_fetched_again() {
    let (fake, state) = (fake().await, place());
    for damage in [
        &b""[..],
        b"\xff\n",
        b"{\"version\":1}\n{}",
        b"{\"version\":0,\"source\":\"x\",\"fetched_at\":1}\n{}",
    ] {
        after_one_run(&fake, &state).await;
        for name in ["endpoints-", "collateral-"] {
            std::fs::write(file(&state, name).unwrap(), damage).unwrap();
        }
    }
    // A good header, half a body.
    after_one_run(&fake, &state).await;
    for name in ["endpoints-", "collateral-"] {
        let path = file(&state, name).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    }
    after_one_run(&fake, &state).await;
}

#[tokio::test]
async fn floors_that_cannot_be_read_stop_the_start() {
    let (fake, state) = (fake().await, place());
    after_one_run(&fake, &state).await;
    let path = file(&state, "floors.json").unwrap();
    let good = std::fs::read_to_string(&path).unwrap();
    for (damaged, word) in [
        ("", "EOF"),
        (&good[..good.len() / 2], "EOF"),
        (
            &good.replace(
                "\": {\n    \"tcb_info",
                "/sub-standard\": {\n    \"tcb_info",
            ),
            "not a floor's key",
        ),
        (&good.replace("\"floors\"", "\"flaws\""), "flaws"),
        (
            &good.replace("\"version\": 2", "\"version\": 0"),
            "layout 0",
        ),
        (&" ".repeat((1 << 20) + 1), "more than"),
    ] {
        std::fs::write(&path, damaged).unwrap();
        let message = refusal(with_state(&fake, &state));
        assert!(
            message.contains(word)
                && message.contains(path.to_str().unwrap())
                && message.contains("Restore it from a backup"),
            "{word}: {message}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged, "{word}");
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(refusal(with_state(&fake, &state)).contains("not a regular file"));
}

#[tokio::test]
async fn a_folder_that_others_can_write_is_refused() {
    let (fake, state) = (fake().await, place());
    for mode in [0o777, 0o770, 0o722] {
        let _ = std::fs::remove_dir_all(&state);
        std::fs::DirBuilder::new().create(&state).unwrap();
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(mode)).unwrap();
        let message = refusal(with_state(&fake, &state));
        assert!(
            message.contains("can be written by others") && message.contains("chmod 700"),
            "{mode:o}: {message}"
        );
    }
    let _ = std::fs::remove_dir_all(&state);
    std::fs::DirBuilder::new()
        .mode(0o755)
        .create(&state)
        .unwrap();
    Server::new(with_state(&fake, &state)).unwrap();
    // A file in its place, and a place that cannot be.
    let path = state.join("file");
    std::fs::write(&path, "").unwrap();
    for bad in [path.clone(), path.join("below")] {
        let message = refusal(with_state(&fake, &bad));
        assert!(
            message.contains(bad.to_str().unwrap()) && message.contains("--state-dir"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn two_proxies_merge_their_floors() {
    let (fake, state) = (fake().await, place());
    // Both read the empty state; they learn different things. What is fetched has a
    // verdict made once more, and by then the second may know what the first learnt.
    let config = Config {
        compose_source: ComposeSource::Off,
        compose_tags_source: ComposeSource::Off,
        ..with_state(&fake, &state)
    };
    let one = Proxy::start(config.clone()).await;
    let two = Proxy::start(config).await;
    fake.change(|spec| spec.tcb_info.tcb_evaluation_data_number += 5)
        .unwrap();
    assert_eq!(one.chat().await.status, StatusCode::OK);
    fake.change(|spec| spec.qe_identity.tcb_evaluation_data_number += 5)
        .unwrap();
    assert_eq!(two.chat().await.status, StatusCode::OK);
    stop(one).await;
    stop(two).await;
    let text = std::fs::read_to_string(file(&state, "floors.json").unwrap()).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let floor = json["floors"].as_object().unwrap().values().next().unwrap();
    let newest = &floor["editions"]["25"];
    for document in ["tcb_info", "qe_identity"] {
        assert!(newest[document].as_u64().unwrap() > 0, "{text}");
    }
}

#[tokio::test]
async fn a_source_below_the_floor_is_skipped() {
    let (fake, state) = (fake().await, place());
    let old = front(&fake).await;
    let config = Config {
        collateral_sources: vec![old.url(), fake.http_url().parse().unwrap()],
        ..with_state(&fake, &state)
    };
    // The first source has this edition and will never have another.
    let first_only = Config {
        collateral_sources: vec![old.url()],
        ..config.clone()
    };
    let proxy = Proxy::start(first_only.clone()).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    stop(proxy).await;
    old.stale.store(true, Ordering::SeqCst);
    // Somebody sees the next edition, and that it is standard.
    fake.change(|spec| {
        spec.tcb_info.tcb_evaluation_data_number += 1;
        spec.qe_identity.tcb_evaluation_data_number += 1;
        spec.evaluation_numbers.set(21, spec.now - 400 * DAY);
    })
    .unwrap();
    let _ = file(&state, "editions").map(std::fs::remove_file);
    let _ = file(&state, "collateral-").map(std::fs::remove_file);
    let proxy = Proxy::start(with_state(&fake, &state)).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    stop(proxy).await;
    let _ = file(&state, "collateral-").map(std::fs::remove_file);
    // Alone the old source is refused; beside another it is passed over.
    let answer = Proxy::start(first_only).await.chat().await;
    assert_eq!(answer.code(), "rejected_collateral_rollback");
    let asked = old.asked();
    let answer = Proxy::start(config).await.chat().await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(old.asked() > asked, "the first source was asked first");
}

#[tokio::test]
async fn nothing_of_a_client_is_kept() {
    let (fake, state) = (fake().await, place());
    let proxy = Proxy::start(with_state(&fake, &state)).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    fake.tamper("debug-td").unwrap();
    fake.restart(0).unwrap();
    let path = format!("/v1/{CANARY}?model={CANARY}");
    assert_eq!(proxy.get(&path).await.code(), "model_not_found");
    until("both are written", || {
        file(&state, "endpoints-").is_some() && file(&state, "collateral-").is_some()
    })
    .await;
    stop(proxy).await;
    let kept = files(&state);
    assert!(kept.len() >= 3, "{kept:?}");
    for path in kept {
        let bytes = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for secret in [CANARY, API_KEY, "Bearer", "chatcmpl"] {
            assert!(!text.contains(secret), "{secret} in {}", path.display());
        }
    }
}
