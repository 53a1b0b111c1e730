//! The program as a newcomer runs it.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set its scene up has failed; clippy knows tests, not their helpers"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// The program, with a temporary folder of its own.
struct Demo {
    command: Command,
    temporary: PathBuf,
}

impl Demo {
    fn new(test: &str, arguments: &[&str]) -> Self {
        let temporary = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("demo-{test}"));
        let _ = std::fs::remove_dir_all(&temporary);
        std::fs::create_dir_all(&temporary).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
        command
            .args(arguments)
            .env("TMPDIR", &temporary)
            .env_remove("NO_COLOR")
            .env_remove("VERIFIED_PROXY_PORT");
        Self { command, temporary }
    }

    /// Exit code, standard output and standard error.
    fn run(mut self) -> (Option<i32>, String, String) {
        let output = self.command.output().unwrap();
        self.assert_nothing_left();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    fn assert_nothing_left(&self) {
        assert_eq!(std::fs::read_dir(&self.temporary).unwrap().count(), 0);
    }
}

/// What stands between two lines.
fn between<'a>(text: &'a str, after: &str, before: &str) -> &'a str {
    let (_, rest) = text.split_once(after).unwrap_or_else(|| panic!("{text}"));
    rest.split_once(before)
        .unwrap_or_else(|| panic!("{text}"))
        .0
}

#[test]
fn once_shows_a_verified_answer_and_a_refusal() {
    let (code, out, err) = Demo::new("once", &["--once"]).run();
    assert_eq!((code, &*err), (Some(0), ""), "{out}");
    assert!(out.starts_with("SIMULATED: "), "{out}");
    assert!(out.contains("is not Intel's"), "{out}");
    for heading in out.lines().filter(|line| line.starts_with("== ")) {
        assert!(heading.ends_with("(SIMULATED)"), "{heading}");
    }
    assert!(!out.contains('\u{1b}'), "no colour into a pipe: {out}");

    for (what, aim) in [("listening", 50), ("the first verified word", 1000)] {
        let time = between(&out, &format!("\nStart to {what}: "), " ms (");
        assert!(time.parse::<u32>().is_ok_and(|time| time > 0), "{out}");
        assert!(
            out.contains(&format!("{time} ms (aim: under {aim} ms")),
            "{out}"
        );
    }
    let chat = between(&out, "== 1. ", "== 2. ");
    assert!(chat.contains("\nanswer: You said: Where does"), "{chat}");
    let lines: Vec<_> = between(chat, "The backend saw:\n", "\n\n")
        .lines()
        .collect();
    let [probe, question] = lines.as_slice() else {
        panic!("{chat}");
    };
    assert!(
        probe.starts_with("  connection 1: GET /v1/attestation/report?"),
        "{probe}"
    );
    assert!(
        question.starts_with("  connection 1: POST /v1/chat/completions"),
        "{question}"
    );

    let proof = between(&out, "== 2. ", "== 3. ");
    assert!(proof.contains("\n  VERIFIED at 20"), "{proof}");
    assert!(
        proof.contains("DANGER: judged under a root that is not Intel's"),
        "{proof}"
    );
    assert!(
        proof.contains("pass  the attested TLS key is the live one"),
        "{proof}"
    );
    assert!(proof.contains("\n  Not proved\n"), "{proof}");
    assert!(!proof.contains("FAIL"), "{proof}");

    let (_, refusal) = out.split_once("== 3. ").unwrap();
    assert!(refusal.contains("\nanswer: HTTP 502 "), "{refusal}");
    assert!(
        refusal.contains("\ncode:   rejected_td_debug\n"),
        "{refusal}"
    );
    assert!(
        refusal.contains("\nwhy:    fake-tampered.completions.near.ai was not verified"),
        "{refusal}"
    );
    assert!(!refusal.contains("\nhint:   \n"), "{refusal}");
    let seen = between(refusal, "over all attempts:\n", "REFUSED: ");
    // A refused instance is left for two further connections.
    assert_eq!(seen.lines().count(), 3, "{seen}");
    for (number, line) in (1..).zip(seen.lines()) {
        let probe = format!("  connection {number}: GET /v1/attestation/report?");
        assert!(line.starts_with(&probe), "{line}");
    }
    assert!(
        out.ends_with("\nEverything was as expected (SIMULATED).\n"),
        "{out}"
    );
}

#[test]
fn a_port_that_is_taken_names_the_option() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for arguments in [&["--port", &port][..], &["--once", "--port", &port]] {
        let (code, out, err) = Demo::new("taken", arguments).run();
        assert_eq!((code, &*out), (Some(3), ""), "{err}");
        assert!(
            err.starts_with(&format!("error: cannot listen on 127.0.0.1 port {port}: ")),
            "{err}"
        );
        assert!(err.contains("\nhint: "), "{err}");
        assert!(err.contains("--port"), "{err}");
    }
}

#[test]
fn a_reader_that_is_gone_ends_it_in_order() {
    let (reader, stdout) = std::io::pipe().unwrap();
    drop(reader);
    let mut demo = Demo::new("gone", &["--once"]);
    let child = demo.command.stdout(stdout).stderr(Stdio::piped()).spawn();
    let output = child.unwrap().wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.starts_with("error: standard output: "), "{err}");
    demo.assert_nothing_left();
}

/// A demonstration that goes on to serve; gone with the test.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Serving {
    /// As Ctrl-C does, or a supervisor.
    fn end(mut self, signal: &str) -> ExitStatus {
        let id = self.0.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
        self.0.wait().unwrap()
    }
}

#[cfg(unix)]
#[test]
fn it_goes_on_to_serve_until_it_is_told_to_stop() {
    for signal in ["-INT", "-TERM"] {
        let mut demo = Demo::new("serves", &["--port", "0"]);
        let child = demo.command.stdout(Stdio::piped()).spawn().unwrap();
        let mut serving = Serving(child);
        let mut lines = BufReader::new(serving.0.stdout.take().unwrap()).lines();
        let mut next = |what: &str| {
            let line = lines.find(|line| line.as_ref().unwrap().contains(what));
            line.unwrap().unwrap()
        };
        let curl = next("curl -N http://");
        let body = next("-d '{");
        assert!(next("base_url=").contains("/v1"));
        next("print(");
        let address = between(&curl, "http://", "/v1/chat/completions");
        // The line's own body, for either backend.
        let body = between(&body, "'", "'");
        for (model, status, word) in [
            ("fake/llama", "HTTP/1.1 200 ", "data: [DONE]"),
            ("fake/tampered", "HTTP/1.1 502 ", "rejected_td_debug"),
        ] {
            let body = body.replace("fake/llama", model);
            let answer = post(address, &body);
            assert!(answer.starts_with(status), "{answer}");
            assert!(answer.contains(word), "{answer}");
        }
        assert_eq!(serving.end(signal).code(), Some(0), "{signal}");
        demo.assert_nothing_left();
    }
}

fn post(address: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
