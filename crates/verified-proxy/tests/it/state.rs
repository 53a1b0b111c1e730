//! What outlives a process, and fetches that outlive their clients.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use attest::{TrustAnchors, UnixTime};
use fake_tee::serve::{Options, Running, unix_now};
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use verified_proxy::config::{Clock, FetchUrl};
use verified_proxy::{Config, Server};

use crate::harness::*;

/// In front of a fake's plain-HTTP port: counts connections, and while it is
/// told to takes them without a word or says what it said before.
struct Front {
    url: String,
    asked: Arc<AtomicUsize>,
    silent: Arc<AtomicBool>,
    stale: Arc<AtomicBool>,
}

/// Answers by request line.
type Said = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// Relays one request, and remembers its answer or repeats the one remembered.
#[expect(clippy::disallowed_methods, reason = "a relay of a test's own")]
async fn relay(mut client: TcpStream, target: SocketAddr, said: Said, stale: bool) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let line = String::from_utf8_lossy(&request)
        .lines()
        .next()
        .unwrap()
        .to_owned();
    if stale {
        let answer = said.lock().unwrap().get(&line).cloned().unwrap_or_default();
        let _ = client.write_all(&answer).await;
        return;
    }
    let mut server = TcpStream::connect(target).await.unwrap();
    server.write_all(&request).await.unwrap();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = tokio::select! {
            read = server.read(&mut buffer) => read.unwrap_or(0),
            // The client has what it wanted.
            _ = client.read_u8() => return,
        };
        if read == 0 {
            return;
        }
        let answer = buffer.get(..read).unwrap();
        said.lock()
            .unwrap()
            .entry(line.clone())
            .or_default()
            .extend_from_slice(answer);
        if client.write_all(answer).await.is_err() {
            return;
        }
    }
}

async fn front(of: &Running) -> Front {
    let target = of.http;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, silent) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (count, mute) = (Arc::clone(&asked), Arc::clone(&silent));
    let stale = Arc::new(AtomicBool::new(false));
    let repeat = Arc::clone(&stale);
    let said = Said::default();
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let (client, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            if mute.load(Ordering::SeqCst) {
                held.push(client);
                continue;
            }
            let stale = repeat.load(Ordering::SeqCst);
            tokio::spawn(relay(client, target, Arc::clone(&said), stale));
        }
    });
    Front {
        url,
        asked,
        silent,
        stale,
    }
}

impl Front {
    fn url(&self) -> FetchUrl {
        self.url.parse().unwrap()
    }

    fn list(&self) -> FetchUrl {
        format!("{}/endpoints", self.url).parse().unwrap()
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// An empty place for a state directory, which is not made yet.
fn place() -> PathBuf {
    let thread = std::thread::current();
    let test = thread.name().unwrap().replace("::", "-");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kept-{test}"));
    let _ = std::fs::remove_dir_all(&path);
    path
}

fn with_state(fake: &Running, state: &Path) -> Config {
    Config {
        state_dir: Some(state.to_owned()),
        ..config(fake)
    }
}

/// Lets a proxy end as on a signal.
async fn stop(mut proxy: Proxy) {
    let _ = proxy.stop.take().unwrap().send(());
    (&mut proxy.task).await.unwrap();
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..200 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
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

fn file(state: &Path, beginning: &str) -> Option<PathBuf> {
    let mut all = files(state).into_iter();
    all.find(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(beginning)
    })
}

/// A proxy has attested and stopped; its state is here.
async fn after_one_run(fake: &Running, state: &Path) {
    let proxy = Proxy::start(with_state(fake, state)).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    until("list and collateral are written", || {
        file(state, "endpoints-").is_some() && file(state, "collateral-").is_some()
    })
    .await;
    stop(proxy).await;
    assert!(file(state, "floors.json").is_some());
}

/// Takes the collateral away, which is written a moment after it was used.
async fn without_collateral(state: &Path) {
    until("written", || file(state, "collateral-").is_some()).await;
    std::fs::remove_file(file(state, "collateral-").unwrap()).unwrap();
}

fn refusal(config: Config) -> String {
    Server::new(config).unwrap_err().to_string()
}

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
            .any(|path| path.to_string_lossy().contains(".tmp")),
        "{names:?}"
    );
}

#[tokio::test]
async fn a_restart_does_not_forget_floors() {
    let (fake, state) = (fake().await, place());
    after_one_run(&fake, &state).await;
    std::fs::remove_file(file(&state, "collateral-").unwrap()).unwrap();
    fake.change(|spec| spec.tcb_info.tcb_evaluation_data_number -= 1)
        .unwrap();
    fake.clear();
    let answer = Proxy::start(with_state(&fake, &state)).await.chat().await;
    assert_eq!(answer.code(), "rejected_collateral_rollback");
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
        for level in &mut spec.tcb_info.tcb_levels {
            level.tcb_status = "Revoked".to_owned();
        }
    })
    .unwrap();
    let proxy = Proxy::start(with_state(&fake, &state)).await;
    assert_eq!(proxy.chat().await.code(), "rejected_tcb_platform");
    stop(proxy).await;
    fake.change(|_| {}).unwrap();
    without_collateral(&state).await;
    let answer = Proxy::start(with_state(&fake, &state)).await.chat().await;
    assert_eq!(answer.code(), "rejected_collateral_rollback");
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
    // A lower edition under another root: there it is the first.
    other
        .change(|spec| spec.tcb_info.tcb_evaluation_data_number -= 1)
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
        b"{\"version\":2,\"source\":\"x\",\"fetched_at\":1}\n{}",
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
    let newer = good.replace("\"version\": 1", "\"version\": 2");
    assert_ne!(newer, good);
    for (damaged, word) in [
        ("", "EOF"),
        (&good[..good.len() / 2], "EOF"),
        (
            &good.replace("standard", "sub-standard"),
            "not a floor's key",
        ),
        (&good.replace("\"floors\"", "\"flaws\""), "flaws"),
        (&newer, "layout 2"),
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
    // Both read the empty state; they learn different things.
    let one = Proxy::start(with_state(&fake, &state)).await;
    let two = Proxy::start(with_state(&fake, &state)).await;
    fake.change(|spec| spec.tcb_info.tcb_evaluation_data_number += 5)
        .unwrap();
    assert_eq!(one.chat().await.status, StatusCode::OK);
    fake.change(|spec| spec.qe_identity.tcb_evaluation_data_number += 5)
        .unwrap();
    assert_eq!(two.chat().await.status, StatusCode::OK);
    stop(one).await;
    stop(two).await;
    let text = std::fs::read_to_string(file(&state, "floors.json").unwrap()).unwrap();
    let highest = 20 + 5;
    assert!(text.contains(&format!("\"tcb_info\": {highest}")), "{text}");
    assert!(
        text.contains(&format!("\"qe_identity\": {highest}")),
        "{text}"
    );
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
    // Somebody sees the next edition.
    fake.change(|spec| spec.tcb_info.tcb_evaluation_data_number += 1)
        .unwrap();
    without_collateral(&state).await;
    let proxy = Proxy::start(with_state(&fake, &state)).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    stop(proxy).await;
    without_collateral(&state).await;
    // Alone the old source is refused; beside another it is passed over.
    let answer = Proxy::start(first_only).await.chat().await;
    assert_eq!(answer.code(), "rejected_collateral_rollback");
    let asked = old.asked();
    let answer = Proxy::start(config).await.chat().await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(old.asked() > asked, "the first source was asked first");
}

#[tokio::test]
async fn a_client_that_leaves_does_not_stop_a_fetch() {
    let fake = fake().await;
    let front = front(&fake).await;
    front.silent.store(true, Ordering::SeqCst);
    let mut config = config(&fake);
    config.collateral_sources = vec![front.url(), fake.http_url().parse().unwrap()];
    let proxy = Proxy::start(config).await;
    // Each is gone long before the silent source has had its head start.
    for _ in 0..12 {
        let patience = Duration::from_millis(300);
        if let Ok(answer) = tokio::time::timeout(patience, proxy.chat()).await {
            assert_eq!(answer.status, StatusCode::OK);
            return;
        }
    }
    panic!("the second source was never reached");
}

#[tokio::test]
async fn a_silent_source_costs_its_head_start_once() {
    let (fake, silent) = (fake().await, fake().await);
    let silent = front(&silent).await;
    silent.silent.store(true, Ordering::SeqCst);
    let time = Arc::new(AtomicU64::new(unix_now()));
    let read = Arc::clone(&time);
    let mut config = config(&fake);
    config.clock = Clock::from_fn(move || UnixTime(read.load(Ordering::SeqCst)));
    config.collateral_sources = vec![silent.url(), fake.http_url().parse().unwrap()];
    config.verdict_ttl = Duration::from_secs(1);
    let proxy = Proxy::start(config).await;
    let timed = async || {
        let began = std::time::Instant::now();
        assert_eq!(proxy.chat().await.status, StatusCode::OK);
        began.elapsed()
    };
    assert!(timed().await >= Duration::from_secs(2));
    // Nearly a day later the documents are fetched anew; the silent source is
    // remembered to be silent, but not for so long.
    time.fetch_add(60 + 24 * 3600, Ordering::SeqCst);
    assert!(timed().await < Duration::from_secs(4));
}

#[tokio::test]
async fn documents_that_ended_are_not_fetched_without_pause() {
    let fake = fake().await;
    let front = front(&fake).await;
    fake.change(|spec| {
        spec.tcb_info.next_update = UnixTime(unix_now() - 60).to_string();
    })
    .unwrap();
    let time = Arc::new(AtomicU64::new(unix_now()));
    let read = Arc::clone(&time);
    let mut config = config(&fake);
    config.clock = Clock::from_fn(move || UnixTime(read.load(Ordering::SeqCst)));
    config.collateral_sources = vec![front.url()];
    let proxy = Proxy::start(config).await;
    // Fewer than make the proxy leave the backend alone for a while.
    for _ in 0..2 {
        assert_eq!(proxy.chat().await.code(), "rejected_collateral_expired");
    }
    let once = front.asked();
    assert_eq!(once, 4);
    time.fetch_add(61, Ordering::SeqCst);
    fake.change(|_| {}).unwrap();
    assert_eq!(proxy.chat().await.status, StatusCode::OK, "mended");
    assert_eq!(front.asked(), 2 * once);
}

#[tokio::test]
async fn an_old_list_is_answered_with_at_once() {
    let fake = fake().await;
    let front = front(&fake).await;
    let time = Arc::new(AtomicU64::new(unix_now()));
    let read = Arc::clone(&time);
    let mut config = config(&fake);
    config.clock = Clock::from_fn(move || UnixTime(read.load(Ordering::SeqCst)));
    config.endpoints_url = front.list();
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.get("/v1/models").await.status, StatusCode::OK);
    assert_eq!(front.asked(), 1);
    // As after a sleep.
    time.fetch_add(301, Ordering::SeqCst);
    front.silent.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        let answer = tokio::time::timeout(Duration::from_secs(1), proxy.get("/v1/models")).await;
        assert_eq!(answer.unwrap().status, StatusCode::OK);
    }
    until("one fetch in the background", || front.asked() == 2).await;
}

#[tokio::test]
async fn collateral_is_renewed_in_the_background_before_it_runs_out() {
    let (fake, state) = (
        fake_with(Options {
            pccs: true,
            ..Options::default()
        })
        .await,
        place(),
    );
    let front = front(&fake).await;
    let time = Arc::new(AtomicU64::new(unix_now()));
    let read = Arc::clone(&time);
    let config = Config {
        clock: Clock::from_fn(move || UnixTime(read.load(Ordering::SeqCst))),
        collateral_sources: vec![front.url()],
        ..with_state(&fake, &state)
    };
    let proxy = Proxy::start(config.clone()).await;
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    assert_eq!(front.asked(), 4);
    until("written", || file(&state, "collateral-").is_some()).await;
    // Nineteen hours of twenty-four; the verdict has ended as well.
    time.fetch_add(19 * 3600, Ordering::SeqCst);
    assert_eq!(proxy.chat().await.status, StatusCode::OK);
    until("four documents anew", || front.asked() == 8).await;
    stop(proxy).await;
    // Two days later: fetched at start, before anybody asks.
    time.fetch_add(2 * 24 * 3600, Ordering::SeqCst);
    let _proxy = Proxy::start(config).await;
    until("prewarmed", || front.asked() == 12).await;
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
