//! Sockets that a launcher opened, what a service manager is told, and the listener of
//! `--metrics-listen`.

#![expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::harness::*;

/// Shell that turns its standard input into the first descriptor that is handed over.
pub(crate) const HAND_OVER: &str = "exec 3<&0 0</dev/null && export LISTEN_FDS=1 LISTEN_PID=$$";

fn ask(mut client: impl Read + Write, target: &str, host: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_of_the_launcher_takes_the_place_of_a_port() {
    let fake = fake().await;
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    // A client that comes before the program does not have to come again.
    let early = TcpStream::connect(address).unwrap();
    let stdin = Stdio::from(OwnedFd::from(held.try_clone().unwrap()));
    let mut program = Program::start_from(HAND_OVER, stdin, &fake, &[]);
    assert_eq!(program.proxy.address, address);
    let answer = ask(early, "/_proxy/live", "localhost");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(program.proxy.chat().await.status, 200);
    program.terminate();
    // The launcher has it still.
    TcpStream::connect(address).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_of_the_launcher_stays_where_it_is() {
    let fake = fake().await;
    let path = fake.dir.join("handed.sock");
    let _ = std::fs::remove_file(&path);
    let held = UnixListener::bind(&path).unwrap();
    let mut program = Launched::start(&fake, OwnedFd::from(held));
    assert!(
        program
            .line()
            .starts_with(&format!("verified-proxy on unix:{} (", path.display())),
        "{}",
        program.line()
    );
    let answer = ask(
        UnixStream::connect(&path).unwrap(),
        "/_proxy/live",
        "localhost",
    );
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    program.end();
    assert!(path.exists(), "another program's file");
}

/// The program with a descriptor handed over, and its first line.
struct Launched {
    child: std::process::Child,
    line: String,
}

impl Launched {
    fn start(fake: &fake_tee::serve::Running, handed: OwnedFd) -> Self {
        use std::io::{BufRead, BufReader};
        let mut child = launcher(HAND_OVER)
            .args(crate::serve::arguments(fake))
            .stdin(handed)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        Self { child, line }
    }

    fn line(&self) -> &str {
        &self.line
    }

    fn end(&mut self) {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launcher(line: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{line} && exec \"$0\" \"$@\"")])
        .arg(env!("CARGO_BIN_EXE_verified-proxy"))
        .arg("serve")
        .env("VERIFIED_PROXY_STATE_DIR", "none")
        // No authority: where it listens, the start ends later.
        .env("SSL_CERT_FILE", "/dev/null")
        .env("SSL_CERT_DIR", "/nonexistent");
    command
}

#[test]
fn what_is_no_listening_socket_is_refused() {
    let run = |line: &str, stdin: Stdio| -> (Option<i32>, String) {
        let Output { status, stderr, .. } = launcher(line).stdin(stdin).output().unwrap();
        (status.code(), String::from_utf8(stderr).unwrap())
    };
    let file = std::fs::File::open("/dev/null").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagrams = UnixDatagram::unbound().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let (stream, _peer) = UnixStream::pair().unwrap();
    let wrong = "LISTEN_FDS=1: descriptor 3 is not a listening stream socket (TCP or Unix)";
    for (what, descriptor) in [
        ("a file", OwnedFd::from(file)),
        ("UDP", udp.into()),
        ("Unix datagrams", datagrams.into()),
        ("a connection", connection.into()),
        ("a Unix connection", stream.into()),
    ] {
        let (code, said) = run(HAND_OVER, descriptor.into());
        assert_eq!(code, Some(2), "{what}: {said}");
        assert!(said.contains(wrong), "{what}: {said}");
        assert!(said.contains("hint: let the launcher open"), "{said}");
    }
    let held = || Stdio::from(OwnedFd::from(tcp.try_clone().unwrap()));
    for count in ["2", "16"] {
        let line = HAND_OVER.replace("FDS=1", &format!("FDS={count}"));
        let (code, said) = run(&line, held());
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains(&format!("LISTEN_FDS={count}: descriptor ")),
            "{said}"
        );
    }
    for count in ["17", "-1", "two", "99999999999999999999"] {
        let line = HAND_OVER.replace("FDS=1", &format!("FDS={count}"));
        let (code, said) = run(&line, held());
        assert_eq!(code, Some(2), "{said}");
        let expected = format!("LISTEN_FDS={count:?}: expected a number of sockets, from 1 to 16");
        assert!(said.contains(&expected), "{said}");
    }
    // Whoever reaches it could spend the key, as with --host.
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let line = format!("export VERIFIED_PROXY_API_KEY=sk-x && {HAND_OVER}");
    let (code, said) = run(&line, OwnedFd::from(everywhere.try_clone().unwrap()).into());
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("could spend your API key"), "{said}");
    // The honest neighbours: a socket that is one, and variables for another process.
    let (code, said) = run(HAND_OVER, held());
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("listening on the sockets that were handed over"),
        "{said}"
    );
    let other = HAND_OVER.replace("PID=$$", "PID=1") + " VERIFIED_PROXY_PORT=0";
    let (code, said) = run(&other, held());
    assert_eq!(code, Some(3), "{said}");
    assert!(!said.contains("handed over"), "{said}");
    // Each start says what the network sees.
    let (_, said) = run(HAND_OVER, OwnedFd::from(everywhere).into());
    assert!(said.contains("cross the network in clear"), "{said}");
}

/// What a service manager hears.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_service_manager_is_told() {
    let fake = fake().await;
    let path = fake.dir.join("notify.sock");
    let _ = std::fs::remove_file(&path);
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut bytes = [0; 4_096];
        let count = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    };
    let tokens = fake.dir.join("notify-tokens");
    std::fs::write(&tokens, "ann token-of-ann-0123456789\n").unwrap();
    let line = format!("export NOTIFY_SOCKET='{}'", path.display());
    let options = [("--client-token-file", tokens.to_str().unwrap())];
    let mut program = Program::start_in(&line, &fake, &options);
    let serving = format!("STATUS=serving on http://{}", program.proxy.address);
    let said = hear();
    assert!(said.starts_with("READY=1\n"), "{said}");
    assert!(said.contains(&serving), "{said}");

    program.signal("-HUP");
    let said = hear();
    let now = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    let now: u64 = now
        .unwrap_or_else(|| panic!("{said}"))
        .trim()
        .parse()
        .unwrap();
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    let uptime = Duration::from_secs_f64(uptime);
    assert!(
        uptime.abs_diff(Duration::from_micros(now)) < PATIENCE,
        "{now}"
    );
    let said = hear();
    assert!(
        said.starts_with("READY=1\n") && said.contains(&serving),
        "{said}"
    );

    std::fs::write(&tokens, "ann short\n").unwrap();
    program.signal("-HUP");
    assert!(hear().starts_with("RELOADING=1\n"));
    let said = hear();
    assert!(said.starts_with("READY=1\n"), "{said}");
    assert!(said.contains(" as before; not reloaded: "), "{said}");
    assert!(said.contains("line 1: the token can be guessed"), "{said}");
    assert_eq!(said.trim_end().lines().count(), 2, "{said}");

    program.terminate();
    assert!(hear().starts_with("STOPPING=1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_a_listener_of_their_own() {
    let fake = fake().await;
    let tokens = fake.dir.join("metrics-tokens");
    std::fs::write(&tokens, "ann token-of-ann-0123456789\n").unwrap();
    let options = [
        ("--client-token-file", tokens.to_str().unwrap()),
        ("--metrics-listen", "127.0.0.1:0"),
    ];
    let program = Program::start(&fake, &options);
    let log = program.log_with("/_proxy/metrics\n", 1);
    let (_, rest) = log.split_once("metrics at http://").unwrap();
    let address: SocketAddr = rest.split('/').next().unwrap().parse().unwrap();
    let of = |address: SocketAddr, target: &str, host: &str| {
        let answer = ask(TcpStream::connect(address).unwrap(), target, host);
        let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
        (status, answer)
    };
    // Whatever its name is: a pod's address, a balancer's.
    for host in ["localhost", "10.1.2.3:9090", "[fd00::2]"] {
        for (page, part) in [
            ("live", r#"{"status":"live"}"#),
            ("ready", r#"{"status":"ready"}"#),
            ("metrics", "# EOF"),
        ] {
            let (status, answer) = of(address, &format!("/_proxy/{page}"), host);
            assert_eq!(status, "200", "{page} {host}: {answer}");
            assert!(answer.contains(part), "{answer}");
        }
    }
    for (target, host, expected) in [
        ("/_proxy/metrics", "evil.example", "403"),
        ("/_proxy/live", "evil.example", "403"),
        ("/_proxy/", "localhost", "404"),
        ("/_proxy/about", "localhost", "404"),
        ("/_proxy/verdicts", "localhost", "404"),
        ("/_proxy/events", "localhost", "404"),
        ("/v1/models", "localhost", "404"),
        ("/v1/models?model=fake/llama", "localhost", "404"),
        ("/", "localhost", "404"),
    ] {
        let (status, answer) = of(address, target, host);
        assert_eq!(status, expected, "{target} {host}: {answer}");
    }
    // The clients' port has its tokens still.
    let port = program.proxy.address;
    for (target, expected) in [
        ("/_proxy/metrics", "401"),
        ("/v1/models", "401"),
        ("/_proxy/live", "200"),
        ("/_proxy/ready", "200"),
    ] {
        let (status, answer) = of(port, target, "127.0.0.1");
        assert_eq!(status, expected, "{target}: {answer}");
    }
    assert!(fake.received().is_empty(), "nobody was dialled");
}
