//! A state directory that another version of this program wrote.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use http::StatusCode;
use proxy::{Config, Server};

use crate::harness::*;

/// Each file with its content, but for the lock.
fn contents(state: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = files(state);
    all.retain(|path| !path.ends_with("lock"));
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).unwrap();
        (path, bytes)
    };
    all.into_iter().map(read).collect()
}

/// The same file, as a later version of this program would have written it.
fn later(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let (head, rest) = text.split_once(':').unwrap();
    assert_eq!(head.trim_matches('{'), "\"version\"");
    let rest = rest.trim_start_matches([' ', '1', '2']);
    format!("{head}: 40, \"new\": true{rest}").into_bytes()
}

#[tokio::test]
async fn a_later_versions_files_stay_as_they_are() {
    let (fake, state) = (fake().await, place());
    after_one_run(&fake, &state).await;
    let mut kinds = Vec::new();
    for (path, bytes) in contents(&state) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        kinds.push(name.split(['-', '.']).next().unwrap().to_owned());
        // Floors stop the start, below.
        if name != "floors.json" {
            std::fs::write(&path, later(&bytes)).unwrap();
        }
    }
    kinds.sort();
    kinds.dedup();
    let expected = [
        "collateral",
        "compose",
        "editions",
        "endpoints",
        "floors",
        "history",
    ];
    assert_eq!(kinds, expected);
    let before = contents(&state);

    let path = state.display().to_string();
    let mut program = Program::start(&fake, &[("--state-dir", &path)]);
    for _ in 0..2 {
        assert_eq!(program.proxy.chat().await.status, StatusCode::OK);
    }
    // Another key: the proxy learns something.
    fake.rotate(0).unwrap();
    assert_eq!(program.proxy.chat().await.status, StatusCode::OK);
    program.terminate();
    let mut after = contents(&state);
    after.retain(|path, _| before.contains_key(path));
    assert!(after == before, "{:?}", after.keys());
    // Said once for the history and once for what is fetched again, with the path and the cost.
    let log = program.log();
    let said: Vec<_> = log
        .lines()
        .filter(|line| line.contains("a newer version of verified-proxy wrote it (layout 40"))
        .collect();
    assert_eq!(said.len(), 2, "{log}");
    let of = |word: &str| {
        said.iter()
            .any(|line| line.contains(word) && line.contains(&path))
    };
    assert!(
        of("what this process sees of backends is lost when it ends")
            && of("the documents are fetched again by each run"),
        "{said:?}"
    );
    assert!(!log.contains("not written"), "{log}");
}

/// Without the floors older collateral would be accepted, and without the history a change.
#[tokio::test]
async fn what_cannot_be_fetched_again_stops_an_earlier_versions_start() {
    let (fake, state) = (fake().await, place());
    let held = {
        let more = "deployment.sources = \"required\"\nhold = true\n";
        let policy = format!("{}{more}", fake.policy_toml);
        Config {
            policy: attest::Policy::from_toml(&policy).unwrap(),
            ..with_state(&fake, &state)
        }
    };
    let free = with_state(&fake, &state);
    after_one_run(&fake, &state).await;
    for (name, cost, stopped, started) in [
        (
            "floors.json",
            "accepts older collateral than already seen",
            &[&free, &held][..],
            &[][..],
        ),
        (
            "history.json",
            "accepts what each backend shows next",
            &[&held][..],
            &[&free][..],
        ),
    ] {
        let path = file(&state, name).unwrap();
        let good = std::fs::read(&path).unwrap();
        let whole = later(&good);
        for bytes in [&whole[..], &whole[..whole.len() / 2]] {
            std::fs::write(&path, bytes).unwrap();
            for config in stopped {
                let said = refusal(Config::clone(config));
                for word in [path.to_str().unwrap(), "layout 40", "--state-dir", cost] {
                    assert!(said.contains(word), "{word}: {said}");
                }
            }
            for config in started {
                Server::new(Config::clone(config)).unwrap();
            }
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        std::fs::write(&path, &good).unwrap();
    }
    for config in [free, held] {
        Server::new(config).unwrap();
    }
}
