//! What a newcomer meets, and what it says to do next.

#![expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use attest::UnixTime;
use fake_tee::serve::{Behaviour, Options, Running};
use http::StatusCode;
use proxy::config::Clock;
use serde_json::json;

use crate::harness::*;
use crate::program::{arguments, command, program};

#[tokio::test]
async fn models_are_listed_with_their_domains() {
    let fake = fake_with(Options {
        also: vec![(
            "b.completions.near.ai".to_owned(),
            vec![MODEL.to_owned(), "fake/second-model".to_owned()],
        )],
        ..Options::default()
    })
    .await;
    let said = command(&fake, "models", &[]).await;
    assert_eq!((said.0, said.2.as_str()), (Some(0), ""));
    assert_eq!(
        said.1,
        format!(
            "{MODEL}         {DOMAIN} b.completions.near.ai\nfake/second-model  b.completions.near.ai\n"
        )
    );
    let said = command(&fake, "models", &["--json"]).await;
    let second = json!(["b.completions.near.ai"]);
    let expected = json!({
        "source": "fetched",
        "fetched_at": null,
        "models": [
            {"model": MODEL, "domains": [DOMAIN, second[0]]},
            {"model": "fake/second-model", "domains": second},
        ],
    });
    assert_eq!((said.0, said.json()), (Some(0), expected));
    assert!(fake.received().is_empty(), "nobody was dialled");
    assert_eq!(command(&fake, "models", &["--unknown"]).await.0, Some(2));
}

#[tokio::test]
async fn without_a_network_the_models_on_disk_are_listed() {
    let fake = fake().await;
    let state = fake.dir.join("models-state");
    let _ = std::fs::remove_dir_all(&state);
    let state = ["--state-dir", &state.display().to_string()];
    fake.endpoints(Behaviour::Html);
    let said = command(&fake, "models", &state).await;
    assert_eq!((said.0, said.1.as_str()), (Some(3), ""));
    assert!(
        said.2.starts_with("error: endpoints_unavailable: "),
        "{}",
        said.2
    );
    assert!(
        said.2.ends_with(
            "\nhint: check --endpoints-url, and whether a network's login page answers in its place; `verified-proxy doctor` finds out why\n"
        ),
        "{}",
        said.2
    );

    fake.endpoints(Behaviour::Normal);
    assert_eq!(command(&fake, "models", &state).await.0, Some(0));
    fake.endpoints(Behaviour::Status(503));
    let said = command(&fake, "models", &state).await;
    assert_eq!((said.0, said.1), (Some(0), format!("{MODEL}  {DOMAIN}\n")));
    assert!(
        said.2.starts_with("note: this is the list of 20"),
        "{}",
        said.2
    );
    assert!(
        said.2
            .contains("Z, from disk; a newer one cannot be fetched: "),
        "{}",
        said.2
    );
    let json = command(&fake, "models", &[&state[..], &["--json"]].concat())
        .await
        .json();
    assert_eq!(json["source"], "disk");
    assert!(
        json["fetched_at"].as_str().unwrap().starts_with("20"),
        "{json}"
    );
}

/// A clock that is ahead of everybody's by so many seconds.
fn ahead(seconds: i64) -> Clock {
    Clock::from_fn(move || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        UnixTime(now.as_secs().saturating_add_signed(seconds))
    })
}

#[tokio::test]
async fn a_refusal_for_the_time_says_how_wrong_the_clock_is() {
    const DAY: i64 = 86_400;
    let fake = fake().await;
    for (seconds, code, skew) in [
        (
            60 * DAY,
            "rejected_collateral_expired",
            "about 60 days ahead",
        ),
        (
            -60 * DAY,
            "rejected_collateral_not_yet_valid",
            "about 60 days behind",
        ),
    ] {
        let mut config = config(&fake);
        config.clock = ahead(seconds);
        let answer = Proxy::start(config).await.chat().await;
        assert_eq!(answer.code(), code);
        let hint = format!(
            "\nhint: this machine's clock is {skew}, as public servers tell the time: set it. Check the clock"
        );
        assert!(answer.message().contains(&hint), "{}", answer.message());
    }
    // Where the clock is right the documents are to blame.
    fake.tamper("collateral-expired").unwrap();
    let answer = Proxy::in_front_of(&fake).await.chat().await;
    assert_eq!(answer.code(), "rejected_collateral_expired");
    assert!(
        !answer.message().contains("clock is about"),
        "{}",
        answer.message()
    );
    // Another refusal has nothing to do with it.
    fake.tamper("other-os-image").unwrap();
    fake.endpoints(Behaviour::Dated(10 * DAY));
    fake.pcs(0, &[], &Behaviour::Dated(10 * DAY)).unwrap();
    let answer = Proxy::in_front_of(&fake).await.chat().await;
    assert_eq!(answer.code(), "rejected_os_image");
    assert!(!answer.message().contains("clock"), "{}", answer.message());
    assert_only_probes(&fake.received());
}

/// Servers told the time before the step.
#[tokio::test]
async fn a_clock_that_is_set_while_the_proxy_runs_is_told_as_it_is() {
    const DAY: i64 = 86_400;
    for (step, skew) in [
        (2 * 3_600, ""),
        (-3 * DAY, "about 3 days behind"),
        (60 * DAY, "about 60 days ahead"),
        (-3_650 * DAY, "about 3650 days behind"),
        (36_525 * DAY, "about 36525 days ahead"),
    ] {
        let fake = fake().await;
        let ahead = Arc::new(AtomicI64::new(0));
        let seen = Arc::clone(&ahead);
        let mut config = config(&fake);
        config.clock = Clock::from_fn(move || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            UnixTime(
                now.as_secs()
                    .saturating_add_signed(seen.load(Ordering::SeqCst)),
            )
        });
        let proxy = Proxy::start(config).await;
        assert_eq!(proxy.chat().await.status, StatusCode::OK);
        ahead.store(step, Ordering::SeqCst);
        fake.clear();
        let answer = proxy.chat().await;
        if skew.is_empty() {
            assert_eq!(answer.status, StatusCode::OK);
            continue;
        }
        let (code, message) = (answer.code(), answer.message());
        assert!(code.starts_with("rejected_"), "{skew}: {code}");
        let hint = format!("\nhint: this machine's clock is {skew}, as public servers");
        assert!(message.contains(&hint), "{skew}: {message}");
        assert_only_probes(&fake.received());
    }
}

#[tokio::test]
async fn no_list_says_who_finds_out_why() {
    let fake = fake().await;
    let mut config = config(&fake);
    config.endpoints_url = format!("http://127.0.0.1:{}/", dead_port().await)
        .parse()
        .unwrap();
    let answer = Proxy::start(config).await.chat().await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.code(), "endpoints_unavailable");
    assert!(
        answer.message().ends_with(
            "\nhint: check the network and --endpoints-url; behind a company proxy name it with --proxy or HTTPS_PROXY; `verified-proxy doctor` finds out why"
        ),
        "{}",
        answer.message()
    );
}

/// The program, serving; killed in the end.
struct Serving {
    child: Child,
    first_line: String,
    log: std::path::PathBuf,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    fn start(fake: &Running, more: &[&str], variables: &[(&str, &str)]) -> Self {
        let log = fake.dir.join("serving.log");
        let mut child = program(env!("CARGO_BIN_EXE_verified-proxy"))
            .args(["serve", "--port", "0"])
            .args(arguments(fake, more))
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut first_line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut first_line)
            .unwrap();
        Self {
            child,
            first_line,
            log,
        }
    }

    fn address(&self) -> &str {
        let (_, rest) = self.first_line.split_once("http://").unwrap();
        rest.split(' ').next().unwrap()
    }

    /// The status line and all that follows.
    fn ask(&self, request: &str) -> String {
        let mut client = TcpStream::connect(self.address()).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// What the log says once it has these words.
    fn log_with(&self, words: &str) -> String {
        let began = Instant::now();
        while !self.log().contains(words) {
            assert!(began.elapsed() < Duration::from_secs(60), "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.log()
    }
}

fn chat(authorization: &str) -> String {
    let body = json!({"model": MODEL, "messages": []}).to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n{authorization}Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_backend_refuses_is_told_by_its_owner_once_a_minute() {
    let fake = fake().await;
    let injected = [("VERIFIED_PROXY_API_KEY", "sk-injected-77aa01")];
    let own = format!("Authorization: Bearer {API_KEY}\r\n");
    for (variables, header, whose) in [
        (
            &injected[..],
            "",
            "it was the proxy's own: look at --api-key-file or VERIFIED_PROXY_API_KEY",
        ),
        (
            &injected,
            own.as_str(),
            "it was the client's own: correct it there, or let the client send a placeholder",
        ),
        (
            &[],
            "",
            "there was none: give the client a key, or the proxy",
        ),
    ] {
        fake.order("/v1/chat/completions", "status=401", 3).unwrap();
        let serving = Serving::start(&fake, &[], variables);
        for _ in 0..3 {
            let answer = serving.ask(&chat(header));
            // As the backend said it.
            assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
            assert!(answer.contains("\"on order\""), "{answer}");
        }
        let log = serving.log_with("does not accept the API key (401)");
        assert_eq!(
            log.matches("does not accept the API key").count(),
            1,
            "{log}"
        );
        assert!(log.contains(whose), "{whose} is not in {log}");
        assert!(log.contains(DOMAIN), "{log}");
        for secret in [API_KEY, "sk-injected"] {
            assert!(!log.contains(secret), "{log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_a_list_says_so_before_any_request() {
    let fake = fake().await;
    fake.endpoints(Behaviour::Status(500));
    let serving = Serving::start(&fake, &[], &[]);
    serving.log_with(
        "self-check: the endpoint list was not fetched, so no request can be answered; check --endpoints-url, and whether a network's login page answers in its place; `verified-proxy doctor` finds out why",
    );
    assert_eq!(fake.endpoints_fetches(), 1);
    drop(serving);

    fake.endpoints(Behaviour::Normal);
    let serving = Serving::start(&fake, &[], &[]);
    let began = Instant::now();
    while fake.endpoints_fetches() < 2 {
        assert!(began.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let answer =
        serving.ask("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(answer.contains(MODEL), "{answer}");
    assert_eq!(fake.endpoints_fetches(), 2, "fetched before anybody asked");
    assert!(!serving.log().contains("self-check"), "{}", serving.log());
    assert!(fake.received().is_empty(), "nobody was dialled");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_line_names_url_policy_and_page() {
    let fake = fake().await;
    let serving = Serving::start(&fake, &["--host", "localhost"], &[]);
    let address = serving.address();
    let port = address.strip_prefix("127.0.0.1:").unwrap();
    let urls: Vec<_> = localhost(port.parse().unwrap())
        .iter()
        .map(|address| format!("http://{address}"))
        .collect();
    let page = serving.ask("GET /_proxy/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    let policy = attest::Policy::from_toml(&fake.policy_toml).unwrap();
    assert_eq!(
        serving.first_line,
        format!(
            "verified-proxy on {} (policy fake, digest {}); web page at http://{address}/_proxy/\n",
            urls.join(" and "),
            policy.digest()
        )
    );
}

#[test]
fn a_host_is_an_address_of_this_machine() {
    let output = program(env!("CARGO_BIN_EXE_verified-proxy"))
        .args(["--host", "my-laptop.local"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("expected an address of this machine, such as 127.0.0.1, ::1 or 0.0.0.0, or \"localhost\""),
        "{said}"
    );
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_named() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let no_text = OsStr::from_bytes(b"\xff\xfe");
    for (name, command) in [
        ("VERIFIED_PROXY_PORT", "serve"),
        ("VERIFIED_PROXY_ALLOW_DOMAIN", "models"),
        ("VERIFIED_PROXY_STATE_DIR", "doctor"),
        ("VERIFIED_PROXY_POLICY", "verify"),
    ] {
        let output = program(env!("CARGO_BIN_EXE_verified-proxy"))
            .arg(command)
            .env(name, no_text)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said, format!("error: the variable {name}: not UTF-8\n"));
    }
    // A path may be any bytes.
    let output = program(env!("CARGO_BIN_EXE_verified-proxy"))
        .args(["models", "--state-dir", "none"])
        .env("VERIFIED_PROXY_EXTRA_CA", no_text)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("UTF-8"));
}
