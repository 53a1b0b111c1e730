//! The program itself, as a service manager sees it.
#![cfg(unix)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::*;

/// A running program, killed in the end.
struct Program {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// Under `limit` file descriptors.
    fn start(limit: u32, arguments: &[&str]) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")])
            .arg(env!("CARGO_BIN_EXE_verified-proxy"))
            .args(["serve", "--port", "0"])
            .args(arguments)
            .env("SSL_CERT_FILE", "/dev/null")
            .env("SSL_CERT_DIR", "/nonexistent")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// Where it says that it listens.
    fn address(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let rest = line.strip_prefix("verified-proxy on http://").unwrap();
        rest.split(' ').next().unwrap().to_owned()
    }

    fn terminate(&self) {
        let status = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }
}

/// What points the program at `fake`, with nothing remembered.
pub(crate) fn arguments(fake: &fake_tee::serve::Running) -> Vec<String> {
    let write = |name: &str, bytes: &[u8]| {
        let path = fake.dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let options = [
        (
            "--extra-ca",
            write("test-ca.pem", fake.tls_ca_pem.as_bytes()),
        ),
        (
            "--danger-tdx-root",
            write("test-root.der", &fake.tdx_root_der),
        ),
        (
            "--danger-gpu-root",
            write("test-gpu-root.der", &fake.gpu_root_der),
        ),
        (
            "--policy",
            write("test-policy.toml", fake.policy_toml.as_bytes()),
        ),
        ("--endpoints-url", fake.endpoints_url()),
        ("--pccs-url", fake.http_url()),
        ("--compose-files-url", fake.compose_files_url()),
        ("--compose-tags-url", fake.compose_tags_url()),
        ("--connect-to", fake.connect_to()),
        ("--state-dir", "none".to_owned()),
    ];
    options
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
}

fn authority(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.pem"));
    let certificate = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
    std::fs::write(&path, certificate.cert.pem()).unwrap();
    path.display().to_string()
}

#[test]
fn nothing_is_announced_that_cannot_start() {
    let mut program = Program::start(1_024, &["--state-dir", "none"]);
    let mut said = String::new();
    program.output.read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
    assert_eq!(program.child.wait().unwrap().code(), Some(3));
}

#[test]
fn a_second_signal_ends_the_drain() {
    let ca = authority("second-signal");
    let arguments = [
        "--extra-ca",
        &ca,
        "--endpoints-url",
        "http://127.0.0.1:9/",
        "--state-dir",
        "none",
    ];
    let mut program = Program::start(1_024, &arguments);
    let mut client = TcpStream::connect(program.address()).unwrap();
    // A request under way: its body never comes.
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
    client.write_all(head.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    program.terminate();
    std::thread::sleep(Duration::from_millis(500));
    assert!(program.child.try_wait().unwrap().is_none(), "did not drain");
    program.terminate();
    let began = Instant::now();
    assert!(program.child.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn clients_leave_descriptors_for_backends() {
    let fake = fake().await;
    let arguments = arguments(&fake);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let mut program = Program::start(64, &arguments);
    let address = program.address();
    let asked = tokio::task::spawn_blocking(move || {
        let _idle: Vec<_> = (0..100)
            .map(|_| TcpStream::connect(&address).unwrap())
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        let request = format!(
            "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Backend-Domain: {DOMAIN}\r\nConnection: close\r\n\r\n"
        );
        let mut client = TcpStream::connect(&address).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = asked.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
