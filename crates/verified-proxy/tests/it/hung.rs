//! What hangs outside of the program holds up neither requests nor its end (threats.md C11):
//! stderr and stdout that nobody reads, look-ups, the disk, the program's own threads.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::io::{self, ErrorKind, PipeReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fake_tee::serve::Running;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::Value;

use crate::harness::*;

const SECOND: Duration = Duration::from_secs(1);

/// A pipe that takes no further byte.
fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, writer) = io::pipe().unwrap();
    // Its usual size is 64 KiB; a system may give less.
    let (mut filler, filled) = (writer.try_clone().unwrap(), Arc::new(Mutex::new(0)));
    let count = Arc::clone(&filled);
    std::thread::spawn(move || {
        while filler.write_all(&[b'x'; 1_024]).is_ok() {
            *count.lock().unwrap() += 1;
            if *count.lock().unwrap() == 64 {
                return;
            }
        }
    });
    let mut before = 0;
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = *filled.lock().unwrap();
        if now == before && now > 0 {
            return (reader, writer.into());
        }
        before = now;
    }
}

/// The same of a socket, which is left in the mode that does not block, or in the usual one.
fn full_socket(blocks: bool) -> (UnixStream, Stdio) {
    let (reader, mut writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    let full = loop {
        if let Err(error) = writer.write(&[b'x'; 1_024]) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    writer.set_nonblocking(!blocks).unwrap();
    (reader, std::os::fd::OwnedFd::from(writer).into())
}

/// A backend that nobody listens for.
const NOWHERE: &str = "nowhere.completions.near.ai";

fn ask(backend: &str) -> Request<Full<bytes::Bytes>> {
    Request::get("/v1/models")
        .header("host", "localhost")
        .header("x-backend-domain", backend)
        .body(Full::default())
        .unwrap()
}

async fn nowhere() -> String {
    format!("{NOWHERE}:443:127.0.0.1:{}", dead_port().await)
}

/// In front of `fake`, beside a backend that nobody listens for.
async fn command(line: &str, fake: &Running, more: &[(&str, &str)]) -> Command {
    let mut command = Program::command(line, fake, more);
    command.args(["--connect-to", &nowhere().await]);
    command
}

/// Serves proved and failing requests, then ends in time.
async fn serves_and_ends(mut program: Program, what: &str) {
    for _ in 0..10 {
        let chat = program.proxy.chat().await;
        assert_eq!(chat.status, StatusCode::OK, "{what}");
        let answer = program.proxy.request(ask(NOWHERE)).await;
        assert_eq!(answer.code(), "backend_unreachable", "{what}");
        let live = program.proxy.get("/_proxy/live").await;
        assert_eq!(live.status, StatusCode::OK, "{what}");
    }
    program.signal("-TERM");
    assert_eq!(program.ends_within(5 * SECOND), Some(0), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_holds_up_nothing() {
    let fake = fake().await;
    let (pipe, full) = full_pipe();
    let (socket, blocking) = full_socket(true);
    let (other, at_once) = full_socket(false);
    let (gone, unread) = io::pipe().unwrap();
    drop(gone);
    for (what, stderr) in [
        ("a full pipe", full),
        ("a full socket", blocking),
        ("one that does not block", at_once),
        ("no reader", unread.into()),
    ] {
        let mut command = command(":", &fake, &[("--log", "debug")]).await;
        command.stderr(stderr);
        serves_and_ends(Program::run(command), what).await;
    }
    drop((pipe, socket, other));
    for (what, line) in [("closed", "exec 2>&-"), ("a full disk", "exec 2>/dev/full")] {
        let command = command(line, &fake, &[("--log", "debug")]).await;
        serves_and_ends(Program::run(command), what).await;
    }
}

/// What the metrics say that the log lost.
async fn dropped(program: &Program) -> u64 {
    let metrics = program.proxy.get("/_proxy/metrics").await.body;
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("verified_proxy_log_lines_dropped_total "));
    line.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_resumes_is_told_how_many_lines_it_missed() {
    let fake = fake().await;
    let (reader, writer) = io::pipe().unwrap();
    let options = [("--log", "debug"), ("--log-format", "json")];
    let mut command = Program::command(":", &fake, &options);
    command.stderr(writer);
    let mut program = Program::run(command);
    assert_eq!(dropped(&program).await, 0);
    // Each is refused, with a line.
    let request = "GET /v1/files HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let last = request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let many = request.repeat(199) + &last;
    for _ in 0..100 {
        program.proxy.raw(many.as_bytes()).await;
        if dropped(&program).await > 100 {
            break;
        }
    }
    let lost = dropped(&program).await;
    assert!(lost > 100, "{lost}");
    let log = Arc::new(Mutex::new(String::new()));
    keep(reader, &log);
    let began = Instant::now();
    let told = |log: &str| -> Vec<u64> {
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let counts = lines.filter_map(|line: Value| line["lines"].as_u64());
        counts.collect()
    };
    while told(&log.lock().unwrap()).is_empty() {
        assert!(began.elapsed() < 10 * SECOND, "{}", log.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(dropped(&program).await, lost, "it flows again");
    program.signal("-TERM");
    assert_eq!(program.ends_within(5 * SECOND), Some(0));
    std::thread::sleep(Duration::from_millis(100));
    let log = log.lock().unwrap();
    assert_eq!(told(&log), [lost], "{log}");
    // Whole lines, up to the last.
    for line in log.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
    assert!(log.lines().last().unwrap().contains("stopping"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stdout_holds_up_nothing() {
    let fake = fake().await;
    let (_reader, full) = full_pipe();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], dead_port().await));
    let port = address.port().to_string();
    let mut command = command(":", &fake, &[("--port", &port)]).await;
    command.stdout(full).stderr(Stdio::null());
    let program = Program::run_at(command, address);
    serves_and_ends(program, "stdout").await;
}

/// The library of `hung/preload.c`, compiled by what links Rust's own programs.
fn preload() -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/hung/preload.c");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let library = folder.keep().join("preload.so");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(source)
        .arg("-ldl")
        .status();
    assert!(compiled.unwrap().success());
    library
}

/// A program whose calls hang as the variables say, which ends answers at once.
fn hanging(fake: &Running, state: &str, variables: &[(&str, &str)]) -> Program {
    let options = [("--drain-timeout", "0"), ("--state-dir", state)];
    let mut command = Program::command(":", fake, &options);
    command
        .env("LD_PRELOAD", preload())
        .envs(variables.iter().copied())
        .stderr(Stdio::piped());
    Program::run(command)
}

/// Sends signals until it ends; its exit code and how long it took from the last one.
fn ends_after(program: &mut Program, signals: u32) -> (Option<i32>, Duration) {
    for number in 1..=signals {
        if number > 1 {
            std::thread::sleep(SECOND / 2);
        }
        program.signal("-TERM");
    }
    let began = Instant::now();
    let code = program.ends_within(20 * SECOND);
    (code, began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_that_hangs_does_not_hold_up_the_end() {
    let fake = fake().await;
    for (signals, limit) in [(1, 3 * SECOND), (2, 2 * SECOND)] {
        let mut program = hanging(&fake, "none", &[]);
        let proxy = program.proxy.address;
        // Its client leaves.
        let asking = tokio::spawn(async move {
            let asking = Proxy::at(proxy);
            asking.request(ask("hang.completions.near.ai")).await
        });
        tokio::time::sleep(SECOND / 2).await;
        asking.abort();
        assert_eq!(program.proxy.chat().await.status, StatusCode::OK);
        let (code, took) = ends_after(&mut program, signals);
        assert_eq!(code, Some(0), "{signals}");
        assert!(took < limit, "{signals}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_does_not_hold_up_the_end() {
    let fake = fake().await;
    for (signals, limit) in [(1, 12 * SECOND), (2, 2 * SECOND)] {
        let state = tempfile::tempdir().unwrap();
        let state = state.path().display().to_string();
        let mut program = hanging(&fake, &state, &[("HANG_DISK", "1")]);
        assert_eq!(program.proxy.chat().await.status, StatusCode::OK);
        let (code, took) = ends_after(&mut program, signals);
        assert_eq!(code, Some(0), "{signals}");
        assert!(took < limit, "{signals}: {took:?}");
        let said = program.log().contains("disk did not finish in 5 s");
        assert_eq!(said, signals == 1, "{}", program.log());
    }
}

/// All that a process needs to hear a signal hangs: the runtime's workers, or its first thread.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_process_that_hangs() {
    let fake = fake().await;
    for (variable, expected, limit) in [
        ("HANG_SEND", Some(0), 2 * SECOND),
        ("HANG_ACCEPT", Some(4), 3 * SECOND),
    ] {
        let file = fake.dir.join(variable);
        let _ = std::fs::remove_file(&file);
        let name = file.display().to_string();
        let mut program = hanging(&fake, "none", &[(variable, &name)]);
        assert_eq!(program.proxy.chat().await.status, StatusCode::OK);
        std::fs::write(&file, "").unwrap();
        // More than there are workers.
        let mut clients = Vec::new();
        for _ in 0..64 {
            let address = program.proxy.address;
            let client = Proxy::at(address);
            clients.push(tokio::spawn(
                async move { client.get("/_proxy/live").await },
            ));
        }
        tokio::time::sleep(SECOND / 2).await;
        assert!(clients.iter().all(|client| !client.is_finished()));
        for client in clients {
            client.abort();
        }
        let (code, took) = ends_after(&mut program, 2);
        assert_eq!(code, expected, "{variable}: {}", program.log());
        assert!(took < limit, "{variable}: {took:?}");
    }
}
