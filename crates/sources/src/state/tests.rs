//! What may lie in a file's place, and what a disk may do.
#![cfg(unix)]

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tempfile::TempDir;

use super::cache::Cached;
use super::*;

/// What takes a second at most here.
const SOON: Duration = Duration::from_secs(5);
const WHILE: Duration = Duration::from_millis(50);

fn anchors() -> TrustAnchors {
    TrustAnchors::intel()
}

fn opened() -> (TempDir, Arc<StateDir>) {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::open(folder.path(), &anchors()).unwrap();
    (folder, state)
}

fn editions() -> (CacheFile, &'static str) {
    (CacheFile::Editions, "editions")
}

fn cached(body: &[u8]) -> Cached {
    Cached {
        source: "https://a.example/".to_owned(),
        fetched_at: attest::UnixTime(1_795_348_800),
        body: body.to_vec(),
    }
}

async fn saved(state: &Arc<StateDir>, file: &CacheFile, body: &[u8]) {
    let Cached {
        source, fetched_at, ..
    } = cached(body);
    state.save(file.clone(), source, fetched_at, body.to_vec());
    timeout(SOON, state.caches.is_idle()).await.unwrap();
}

fn pipe(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

/// Opens the directory in a thread: `None` if that hangs.
fn open_in_time(path: &Path) -> Option<Result<Arc<StateDir>, StateError>> {
    let (report, opened) = channel();
    let path = path.to_owned();
    std::thread::spawn(move || report.send(StateDir::open(&path, &anchors())));
    opened.recv_timeout(SOON).ok()
}

#[tokio::test]
async fn whatever_lies_in_a_caches_place_is_replaced() {
    let (folder, state) = opened();
    let files = [
        editions(),
        (
            CacheFile::Collateral {
                family: "00906ed50000-platform".to_owned(),
            },
            "collateral-00906ed50000-platform",
        ),
        (
            CacheFile::ComposeFile {
                sha256: "ab".repeat(32),
            },
            "",
        ),
    ];
    let elsewhere = folder.path().join("elsewhere");
    for (file, name) in files {
        let path = match name {
            "" => state.path.join(format!("compose-{}", "ab".repeat(32))),
            name => state.by_root.join(name),
        };
        type Put<'a> = &'a dyn Fn(&Path);
        let whole = b"{\"version\":1,\"source\":\"x\",\"fetched_at\":1}\nbody";
        let put: [(&str, Put<'_>); 8] = [
            ("nothing", &|_| ()),
            ("an empty file", &|path| fs::write(path, "").unwrap()),
            ("a file that breaks off", &|path| {
                fs::write(path, &whole[..30]).unwrap();
            }),
            ("an earlier layout", &|path| {
                fs::write(path, "{\"version\":0,\"source\":\"x\"}\n").unwrap();
            }),
            ("a file that is too long", &|path| {
                fs::write(path, vec![b' '; 4 << 20]).unwrap();
            }),
            ("a folder", &|path| {
                fs::create_dir(path).unwrap();
                fs::write(path.join("inner"), "").unwrap();
            }),
            ("a named pipe", &|path| pipe(path)),
            ("a link", &|path| {
                fs::write(&elsewhere, whole).unwrap();
                symlink(&elsewhere, path).unwrap();
            }),
        ];
        for (what, put) in put {
            let _ = fs::remove_file(&path);
            put(&path);
            assert_eq!(state.load(&file), None, "{what}");
            saved(&state, &file, b"new").await;
            assert_eq!(state.load(&file), Some(cached(b"new")), "{what}");
            assert!(fs::symlink_metadata(&path).unwrap().is_file(), "{what}");
        }
        // A link's target is none of this program's files.
        assert_eq!(fs::read(&elsewhere).unwrap(), whole);
        let aside = path.with_file_name(format!(
            "{}.damaged",
            path.file_name().unwrap().to_str().unwrap()
        ));
        assert!(aside.join("inner").exists());
    }
}

#[tokio::test]
async fn a_newer_versions_cache_is_neither_read_nor_replaced_nor_removed() {
    let (_folder, state) = opened();
    let (file, name) = editions();
    let path = state.by_root.join(name);
    for newer in [
        &b"{\"version\":2,\"source\":\"x\",\"fetched_at\":1}\nbody"[..],
        b"{\"version\":7,\"origin\":[\"x\"]}",
        b"{\"version\": 40}\n",
        // Longer than this version reads.
        &[&b"{\"version\":2}\n"[..], &[b' '; 4 << 20]].concat(),
    ] {
        fs::write(&path, newer).unwrap();
        assert_eq!(state.load(&file), None);
        saved(&state, &file, b"new").await;
        assert_eq!(fs::read(&path).unwrap(), newer);
    }
    // Compose files are removed when there are too many: the oldest first, and no newer version's.
    let compose = |number: u32| CacheFile::ComposeFile {
        sha256: format!("{number:064x}"),
    };
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    let put = |name: String, content: &str| {
        let path = state.path.join(name);
        fs::write(&path, content).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(long_ago).unwrap();
        path
    };
    let newer = put(format!("compose-{:064x}", 9_000), "{\"version\":2}\n");
    let other = put("compose-index".to_owned(), "");
    let old = put(format!("compose-{:064x}", 9_001), "{\"version\":1}\n");
    for number in 0..1_024 {
        fs::write(state.path.join(format!("compose-{number:064x}")), "").unwrap();
    }
    saved(&state, &compose(1_024), b"new").await;
    assert!(newer.exists() && other.exists() && !old.exists());
}

#[test]
fn a_lock_that_is_no_file_stops_the_start_with_a_word() {
    type Put<'a> = &'a dyn Fn(&Path);
    let (folder, state) = opened();
    drop(state);
    let lock = folder.path().join("lock");
    let elsewhere = folder.path().join("elsewhere");
    let put: [Put<'_>; 3] = [
        &|lock| pipe(lock),
        &|lock| fs::create_dir(lock).unwrap(),
        &|lock| {
            fs::write(&elsewhere, "").unwrap();
            symlink(&elsewhere, lock).unwrap();
        },
    ];
    for put in put {
        let _ = fs::remove_file(&lock);
        let _ = fs::remove_dir(&lock);
        put(&lock);
        let error = open_in_time(folder.path()).unwrap().unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("its file \"lock\": not a regular file") && said.contains("--state-dir"),
            "{said}"
        );
    }
    fs::remove_file(&lock).unwrap();
    open_in_time(folder.path()).unwrap().unwrap();
}

#[test]
fn whoever_can_exchange_the_directory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let parent = folder.path().join("parent");
    let inner = parent.join("inner");
    fs::create_dir_all(&inner).unwrap();
    mode(&inner, 0o755);
    let path = inner.join("state");
    let said = || match StateDir::open(&path, &anchors()) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    for (bits, word) in [
        (0o755, ""),
        // As /tmp: nobody else can rename what is this user's.
        (0o1777, ""),
        // A group is often one user's own: a warning.
        (0o775, ""),
        (0o777, "which all users can write to (mode 0777)"),
        (0o757, "which all users can write to (mode 0757)"),
        (0o2777, "which all users can write to (mode 2777)"),
    ] {
        mode(&parent, bits);
        let said = said();
        assert_eq!(said.is_empty(), word.is_empty(), "{bits:o}: {said}");
        assert!(said.contains(word), "{bits:o}: {said}");
        let names_it = said.contains(parent.to_str().unwrap());
        assert!(word.is_empty() || names_it, "{said}");
    }
    mode(&parent, 0o755);

    // By way of a link that lies where all can exchange it.
    let open = folder.path().join("open");
    fs::create_dir(&open).unwrap();
    mode(&open, 0o777);
    let link = open.join("link");
    symlink(&inner, &link).unwrap();
    let linked = |path: &Path| StateDir::open(&path.join("state"), &anchors());
    let error = linked(&link).unwrap_err();
    assert!(error.to_string().contains("open"), "{error}");
    mode(&open, 0o1777);
    linked(&link).unwrap();

    // In a folder as /tmp, but what lies there is another user's.
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can give a folder away");
        return;
    }
    mode(&parent, 0o1777);
    chown(&inner, Some(12_345), None).unwrap();
    assert!(said().contains("belongs to user 12345"), "{}", said());
    // Elsewhere its owner is warned of: in a container it may be the host's root.
    mode(&parent, 0o755);
    assert_eq!(said(), "");
}

#[test]
fn what_cannot_be_made_stops_the_start() {
    for path in ["/proc/verified-proxy", "/proc/self/fd/state"] {
        let error = StateDir::open(Path::new(path), &anchors()).unwrap_err();
        assert!(matches!(error, StateError::Unusable { .. }), "{error}");
        assert!(error.to_string().contains(path), "{error}");
    }
}

/// Has a worker's thread hang until what is returned is dropped.
fn hung(worker: &Worker) -> Sender<()> {
    let (hang, hangs) = channel::<()>();
    let (begin, begun): (Sender<()>, Receiver<()>) = channel();
    assert!(worker.run(move || {
        begin.send(()).unwrap();
        let _ = hangs.recv();
    }));
    begun.recv().unwrap();
    hang
}

#[tokio::test]
async fn a_disk_that_hangs_holds_up_no_end() {
    for (memory, caches) in [(true, false), (false, true), (true, true)] {
        let (_folder, state) = opened();
        let kept = Memory::load(Some(Arc::clone(&state)), false).unwrap();
        kept.flush().await;
        let hangs = [
            memory.then(|| hung(&state.memory)),
            caches.then(|| hung(&state.caches)),
        ];
        let began = Instant::now();
        kept.flush_within(WHILE).await;
        assert!(began.elapsed() >= WHILE && began.elapsed() < SOON);
        let began = Instant::now();
        drop((kept, state));
        assert!(began.elapsed() < SOON);
        drop(hangs);
    }
}

/// One of them hangs, and the others go on.
#[tokio::test]
async fn a_write_that_hangs_holds_up_no_other_kind() {
    let (_folder, state) = opened();
    let (file, _) = editions();
    let hang = hung(&state.memory);
    saved(&state, &file, b"new").await;
    assert_eq!(state.load_in_time(file.clone()).await, Some(cached(b"new")));
    drop(hang);

    let hang = hung(&state.caches);
    // More than are queued.
    for _ in 0..1_000 {
        let Cached {
            source, fetched_at, ..
        } = cached(b"");
        state.save(file.clone(), source, fetched_at, b"newer".to_vec());
    }
    assert!(state.memory.run(|| ()));
    timeout(SOON, state.memory.is_idle()).await.unwrap();
    assert_eq!(state.load_in_time(file.clone()).await, Some(cached(b"new")));
    drop(hang);
    timeout(SOON, state.caches.is_idle()).await.unwrap();
    assert_eq!(state.load(&file), Some(cached(b"newer")));
}

#[tokio::test]
async fn a_read_that_hangs_is_waited_for_once() {
    let (_folder, state) = opened();
    let (file, _) = editions();
    saved(&state, &file, b"body").await;
    let hang = hung(&state.reads);
    for (least, most) in [(0.9, 5.0), (0.0, 0.5), (0.0, 0.5)] {
        let began = Instant::now();
        assert_eq!(state.load_in_time(file.clone()).await, None);
        let took = began.elapsed().as_secs_f64();
        assert!((least..most).contains(&took), "{took}");
    }
    drop(hang);
    timeout(SOON, state.reads.is_idle()).await.unwrap();
    assert_eq!(state.load_in_time(file).await, Some(cached(b"body")));
}
