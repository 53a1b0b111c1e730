//! A state directory under processes that are killed, that share it, and that
//! can no longer write there.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use attest::UnixTime;
use fake_tee::serve::{Running, unix_now};
use http::StatusCode;
use proxy::config::Clock;
use proxy::{Config, Server};
use serde_json::Value;

use crate::harness::*;

/// A machine of another family, whose collateral has this number, under a key
/// that nobody knows: a proxy has to attest it and to learn of the collateral.
fn another_machine(fake: &Running, family: u8, number: u32) {
    fake.change(|spec| {
        spec.platform.fmspc[5] = family;
        spec.tcb_info.fmspc = hex::encode(spec.platform.fmspc);
        spec.tcb_info.tcb_evaluation_data_number = number;
    })
    .unwrap();
    fake.rotate(0).unwrap();
}

/// No connection is used twice: none is left that knows another machine.
fn options(state: &str) -> [(&'static str, &str); 2] {
    [("--state-dir", state), ("--pool-requests", "1")]
}

/// The numbers in the file, each by its key and, of one edition, by the edition.
fn floors(state: &Path) -> BTreeMap<String, u64> {
    let Some(path) = file(state, "floors.json") else {
        return BTreeMap::new();
    };
    let json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut numbers = BTreeMap::new();
    for (key, floor) in json["floors"].as_object().unwrap() {
        let all = Some((String::new(), floor)).into_iter();
        let editions = floor["editions"].as_object().unwrap();
        let of_edition = |(edition, floor)| (format!(" {edition}"), floor);
        for (edition, floor) in all.chain(editions.iter().map(of_edition)) {
            for (name, number) in floor.as_object().unwrap() {
                if let Some(number) = number.as_u64() {
                    numbers.insert(format!("{key}{edition} {name}"), number);
                }
            }
        }
    }
    numbers
}

/// Files whose names begin like this.
fn named(state: &Path, beginning: &str) -> Vec<PathBuf> {
    let mut all = files(state);
    all.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(beginning)
    });
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_moment_leaves_a_directory_that_loads() {
    const KILLS: u32 = 20;
    const FAMILIES: u32 = 6;
    let (fake, state) = (fake().await, place());
    let path = state.display().to_string();
    let (mut known, mut rises, mut left) = (BTreeMap::new(), 0, 0);
    for kill in 0..KILLS {
        // What is kept is not fetched again, and teaches nothing new.
        for path in named(&state, "collateral-") {
            std::fs::remove_file(path).unwrap();
        }
        let mut program = Program::start(&fake, &options(&path));
        // At another moment each time: after so many answers, in the middle of the
        // next, whose verdict and the last one's are being written.
        for family in 0..=kill % FAMILIES {
            another_machine(&fake, u8::try_from(family).unwrap(), 20 + kill);
            assert_eq!(program.proxy.chat().await.status, StatusCode::OK);
        }
        if kill % 2 == 0 {
            until("written", || floors(&state) != known).await;
        }
        another_machine(&fake, 0xff, 20 + kill);
        let moment = Duration::from_micros(u64::from(kill) * 1_700);
        let _ = tokio::time::timeout(moment, program.proxy.chat()).await;
        program.kill();

        let now = floors(&state);
        for (key, number) in &known {
            assert!(now[key] >= *number, "{key} fell from {number}");
        }
        rises += u32::from(now != known);
        known = now;
        for path in [named(&state, "endpoints-"), named(&state, "collateral-")].concat() {
            let text = std::fs::read_to_string(&path).unwrap();
            let (_, body) = text.split_once('\n').unwrap();
            let whole: Result<Value, _> = serde_json::from_str(body);
            assert!(whole.is_ok(), "{}", path.display());
        }
        Server::new(with_state(&fake, &state)).unwrap();
        left = named(&state, ".").len();
    }
    assert!(rises >= KILLS / 2, "written {rises} times");
    println!("{KILLS} kills, floors rose {rises} times, {left} files left over");
}

/// Makes a folder anew where something may be.
fn mend(folder: &Path) {
    let _ = std::fs::remove_file(folder);
    let _ = std::fs::remove_dir_all(folder);
    DirBuilder::new().mode(0o700).create(folder).unwrap();
}

#[tokio::test]
async fn what_can_no_longer_be_written_is_kept_in_memory() {
    let fake = fake().await;
    for damage in ["removed", "a file", "half removed"] {
        fake.change(|_| {}).unwrap();
        let state = place().with_file_name(format!("kept-{}", damage.replace(' ', "-")));
        let _ = std::fs::remove_dir_all(&state);
        let time = Arc::new(AtomicU64::new(unix_now()));
        let read = Arc::clone(&time);
        let config = Config {
            clock: Clock::from_fn(move || UnixTime(read.load(Ordering::SeqCst))),
            ..with_state(&fake, &state)
        };
        let proxy = Proxy::start(config).await;
        let by_root = || -> PathBuf {
            let mut entries = std::fs::read_dir(&state).unwrap().flatten();
            let entry = entries.find(|entry| entry.path().is_dir());
            entry.unwrap().path()
        };
        assert_eq!(proxy.get("/_proxy/live").await.status, StatusCode::OK);
        let by_root = by_root();
        match damage {
            "half removed" => std::fs::remove_dir_all(&by_root).unwrap(),
            _ => std::fs::remove_dir_all(&state).unwrap(),
        }
        if damage == "a file" {
            std::fs::write(&state, "").unwrap();
        }
        assert_eq!(proxy.chat().await.status, StatusCode::OK, "{damage}");
        until("a warning", || {
            let said = Log::captured().text();
            let mut lines = said.lines();
            let name = state.display().to_string();
            lines.any(|line| {
                line.contains("WARN") && line.contains("not written") && line.contains(&name)
            })
        })
        .await;
        // It knows what it saw: two days later, with the edition before.
        fake.change(|spec| spec.tcb_info.tcb_evaluation_data_number -= 1)
            .unwrap();
        time.fetch_add(2 * 24 * 3600, Ordering::SeqCst);
        let answer = proxy.chat().await;
        assert_eq!(answer.code(), "rejected_collateral_rollback", "{damage}");
        // Mended, it holds all that was learned meanwhile.
        if damage != "half removed" {
            mend(&state);
        }
        mend(&by_root);
        stop(proxy).await;
        let known = floors(&state);
        let seen = known.keys().any(|name| name.ends_with(" 20 tcb_info"));
        assert!(seen, "{damage}: {known:?}");
    }
}

#[tokio::test]
async fn a_full_disk_costs_a_warning() {
    let (fake, state) = (fake().await, place());
    let path = state.display().to_string();
    // Files can be made, and not a byte be written.
    let full = "trap '' XFSZ && ulimit -f 0";
    let mut program = Program::start_in(full, &fake, &options(&path));
    for family in 0..3 {
        another_machine(&fake, family, 20);
        assert_eq!(program.proxy.chat().await.status, StatusCode::OK);
    }
    until("a warning", || program.log().contains("not written")).await;
    program.terminate();
    // Said once.
    assert_eq!(program.log().matches("not written").count(), 1);
    assert!(floors(&state).is_empty());
    Server::new(with_state(&fake, &state)).unwrap();
}

#[tokio::test]
async fn two_processes_share_a_directory() {
    let (fake, state) = (fake().await, place());
    let path = state.display().to_string();
    let options = options(&path);
    // Both read the empty state; they learn different things.
    let mut one = Program::start(&fake, &options);
    let mut two = Program::start(&fake, &options);
    for (program, family, number) in [(&one, 1, 21), (&two, 1, 22), (&one, 2, 23), (&two, 3, 24)] {
        another_machine(&fake, family, number);
        assert_eq!(program.proxy.chat().await.status, StatusCode::OK);
    }
    one.terminate();
    two.terminate();
    let known = floors(&state);
    for (family, number) in [(1, 21), (1, 22), (2, 23), (3, 24)] {
        let end = format!("fa4e6f0000{family:02x} {number} tcb_info");
        let seen = known.iter().find(|(name, _)| name.ends_with(&end));
        assert!(seen.is_some_and(|(_, date)| *date > 0), "{end}: {known:?}");
    }
}

#[tokio::test]
async fn a_process_that_keeps_the_lock_stops_nobody() {
    let (fake, state) = (fake().await, place());
    after_one_run(&fake, &state).await;
    let path = state.display().to_string();
    let mut program = Program::start(&fake, &options(&path));
    let lock = File::options()
        .write(true)
        .open(state.join("lock"))
        .unwrap();
    lock.lock().unwrap();
    // One that runs goes on, and ends when it is told to.
    another_machine(&fake, 1, 30);
    assert_eq!(program.proxy.chat().await.status, StatusCode::OK);
    // One that starts says why it does not.
    let message = refusal(with_state(&fake, &state));
    assert!(
        message.contains(&path) && message.contains("another process has held its lock"),
        "{message}"
    );
    let began = Instant::now();
    program.terminate();
    assert!(began.elapsed() < Duration::from_secs(30));
    let said = program.log();
    assert!(
        said.contains("not written") && said.contains("another process has held its lock"),
        "{said}"
    );
}

#[tokio::test]
async fn what_a_killed_process_left_is_removed_in_time() {
    let (fake, state) = (fake().await, place());
    after_one_run(&fake, &state).await;
    let floors = file(&state, "floors.json").unwrap();
    let hour = Duration::from_secs(60 * 60);
    for folder in [state.as_path(), floors.parent().unwrap()] {
        for (name, age) in [
            (".partial-old", hour + PATIENCE),
            (".partial-new", hour - PATIENCE),
            ("other-old", 2 * hour),
        ] {
            let file = File::create(folder.join(name)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
    }
    Server::new(with_state(&fake, &state)).unwrap();
    assert_eq!(named(&state, ".partial-old").len(), 0);
    assert_eq!(named(&state, ".partial-new").len(), 2);
    assert_eq!(named(&state, "other-old").len(), 2);
}
