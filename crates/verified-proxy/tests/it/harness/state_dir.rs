//! A state directory of a test's own.

use std::path::{Path, PathBuf};

use fake_tee::serve::Running;
use http::StatusCode;
use proxy::{Config, Server};

use super::{Proxy, config, until};

/// An empty place for a state directory, which is not made yet.
pub(crate) fn place() -> PathBuf {
    let thread = std::thread::current();
    let test = thread.name().unwrap().replace("::", "-");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kept-{test}"));
    let _ = std::fs::remove_dir_all(&path);
    path
}

pub(crate) fn with_state(fake: &Running, state: &Path) -> Config {
    Config {
        state_dir: Some(state.to_owned()),
        ..config(fake)
    }
}

/// Lets a proxy end as on a signal.
pub(crate) async fn stop(mut proxy: Proxy) {
    let _ = proxy.stop.take().unwrap().send(());
    (&mut proxy.task).await.unwrap();
}

/// Every file below `folder`.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

pub(crate) fn file(state: &Path, beginning: &str) -> Option<PathBuf> {
    let mut all = files(state).into_iter();
    all.find(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(beginning)
    })
}

/// A proxy has attested and stopped; its state is here.
pub(crate) async fn after_one_run(fake: &Running, state: &Path) {
    let proxy = Proxy::start(with_state(fake, state)).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    until("list and collateral are written", || {
        file(state, "endpoints-").is_some() && file(state, "collateral-").is_some()
    })
    .await;
    stop(proxy).await;
    assert!(file(state, "floors.json").is_some());
}

pub(crate) fn refusal(config: Config) -> String {
    Server::new(config).unwrap_err().to_string()
}
