//! `verified-proxy doctor`: one thing is wrong, one line and its fix say so.

mod machine;
mod workload;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use fake_tee::serve::{Behaviour, Options, Route, Running};
use serde_json::Value;

use crate::harness::*;
use crate::program::{Said, arguments, command, program, run};

const DAY: u64 = 86_400;

async fn doctor(fake: &Running, more: &[&str]) -> Said {
    // A port of this test's own, unless it names one.
    let port = dead_port().await.to_string();
    let port = if more.contains(&"--port") {
        &[][..]
    } else {
        &["--port", &port]
    };
    command(fake, "doctor", &[more, port].concat()).await
}

/// The line of `check` and the fix below it, if there is one.
fn found(said: &Said, check: &str) -> String {
    let mut lines = said.1.lines();
    let line = lines
        .by_ref()
        .find(|line| {
            line.get(9..)
                .is_some_and(|line| line.starts_with(&format!("{check}:")))
        })
        .unwrap_or_else(|| panic!("no {check} in {}{}", said.1, said.2));
    match lines
        .next()
        .filter(|line| line.starts_with("         fix: "))
    {
        Some(fix) => format!("{line}\n{}", fix.trim_start()),
        None => line.to_owned(),
    }
}

/// Exit code and line of one check.
fn assert_found(said: &Said, code: i32, check: &str, expected: &str) {
    assert_eq!(said.0, Some(code), "{}{}", said.1, said.2);
    assert_eq!(found(said, check), expected);
}

fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// The fake's policy as if it were of so many days ago.
fn policy_of(fake: &Running, days_ago: u64) -> (String, String) {
    let date = attest::UnixTime(unix_now() - days_ago * DAY).to_string()[..10].to_owned();
    let text = fake.policy_toml.replace("2026-11-22", &date);
    assert!(text.contains(&date));
    let path = fake.dir.join(format!("policy-{days_ago}.toml"));
    std::fs::write(&path, text).unwrap();
    (path.display().to_string(), date)
}

/// A folder of a test's own that is not there yet.
fn state(fake: &Running) -> PathBuf {
    let path = fake.dir.join("doctor-state");
    let _ = std::fs::remove_dir_all(&path);
    path
}

const CLOCK_FIX: &str = "fix: set this machine's clock, and let the network keep it right (`timedatectl set-ntp true`, or the system's settings)";

#[tokio::test]
async fn all_is_well() {
    let fake = fake().await;
    let (policy, date) = policy_of(&fake, 0);
    let (state, port) = (state(&fake).display().to_string(), dead_port().await);
    let list = fake.endpoints_url().replace("127.0.0.1", "localhost");
    let mut command = program(env!("CARGO_BIN_EXE_verified-proxy"));
    let more = [
        "--policy",
        &policy,
        "--state-dir",
        &state,
        "--endpoints-url",
        &list,
    ];
    command
        .arg("doctor")
        .args(arguments(&fake, &more))
        .args(["--port", &port.to_string()])
        .env("VERIFIED_PROXY_API_KEY", API_KEY)
        .env("OPENAI_BASE_URL", format!("http://localhost:{port}/v1"));
    let said = run(command).await;
    let Said(code, out, err) = &said;
    assert_eq!((*code, err.as_str()), (Some(0), ""), "{out}");
    let pcs = format!("Intel's collateral from {}/", fake.http_url());
    for (check, line) in [
        ("endpoint list", "ok       endpoint list: models: 1, domains: 1".to_owned()),
        (
            "clock",
            format!(
                "ok       clock: right to the minute, by {}, {}",
                fake.http,
                list.trim_start_matches("http://").trim_end_matches("/endpoints")
            ),
        ),
        (
            "state directory",
            format!("ok       state directory: {state} can be written by this user only"),
        ),
        (
            "port",
            match localhost(port).as_slice() {
                [one] => format!("ok       port: {one} is free"),
                all => format!("ok       port: {} and {} are free", all[0], all[1]),
            },
        ),
        ("API key", "ok       API key: from VERIFIED_PROXY_API_KEY".to_owned()),
        ("proxy variables", "ok       proxy variables: none is set".to_owned()),
        ("base URL", "ok       base URL: OPENAI_BASE_URL points here".to_owned()),
        (
            "trust root",
            "warning  trust root: DANGER: not Intel's for machines, not NVIDIA's for GPUs; verdicts say nothing about real hardware\nfix: remove --danger-tdx-root and --danger-gpu-root, unless this is a test or a demonstration".to_owned(),
        ),
    ] {
        assert_eq!(found(&said, check), line);
    }
    for (check, beginning) in [
        ("DNS", "ok       DNS: localhost is ".to_owned()),
        (
            "backend",
            format!(
                "ok       backend: {DOMAIN}: verified, it serves {MODEL} (hardware=current, boot=named, identity=expected, deployment=tagged, gpu=genuine). This says nothing about real hardware: its trust root is not Intel's. Your connection ends inside a sealed Intel TDX machine (fake image) that Fake AI's key service accepted. "
            ),
        ),
        (
            &pcs,
            format!("ok       {pcs}: genuine, as new as any seen, valid until 20"),
        ),
        (
            "policy",
            format!("ok       policy: \"fake\" of {date}, digest "),
        ),
        (
            "file descriptors",
            "ok       file descriptors: at most ".to_owned(),
        ),
    ] {
        let line = found(&said, check);
        assert!(line.starts_with(&beginning), "{line}");
    }
    assert!(
        out.ends_with("\n\n0 failed, 1 with a warning, 14 ok, 0 skipped\n"),
        "{out}"
    );
    assert!(!out.contains(API_KEY), "{out}");
    let received = fake.received();
    assert_only_probes(&received);
    assert_eq!(probes(&received), 1);
}

#[tokio::test]
async fn json_has_stable_names_and_says_the_same() {
    let fake = fake().await;
    fake.endpoints(Behaviour::Gone);
    let said = doctor(&fake, &["--json", "--policy", &policy_of(&fake, 0).0]).await;
    assert_eq!(said.0, Some(1), "{}", said.2);
    let json = said.json();
    assert_eq!(json["verdict"], "failed");
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    let checks = json["checks"].as_array().unwrap();
    let all: Vec<_> = checks
        .iter()
        .map(|check| {
            let text = |field: &str| check[field].as_str().unwrap().to_owned();
            assert_eq!(check.as_object().unwrap().len(), 5, "{check}");
            assert_ne!(check["detail"], "");
            let needs_fix = ["warning", "failed"].contains(&text("status").as_str());
            assert_eq!(check["fix"].is_string(), needs_fix, "{check}");
            format!("{} {}", text("check"), text("status"))
        })
        .collect();
    assert_eq!(
        all,
        [
            "dns skipped",
            "endpoint_list failed",
            "pcs skipped",
            "compose_files skipped",
            "compose_tags ok",
            "clock ok",
            "backend skipped",
            "policy ok",
            "trust_root warning",
            "state_dir skipped",
            "descriptors ok",
            "port ok",
            "api_key skipped",
            "proxy_variables ok",
            "base_url skipped",
        ]
    );
    assert_eq!(checks[2]["subject"], format!("{}/", fake.http_url()));
    assert_eq!(checks[0]["subject"], Value::Null);

    fake.endpoints(Behaviour::Normal);
    let said = doctor(&fake, &["--json", "--policy", &policy_of(&fake, 0).0]).await;
    assert_eq!(
        (said.0, &said.json()["verdict"]),
        (Some(0), &"warning".into())
    );
}

#[tokio::test]
async fn a_clock_that_is_off_is_told_by_dates() {
    let fake = fake().await;
    let dated = |seconds: i64| {
        fake.endpoints(Behaviour::Dated(seconds));
        fake.pcs(0, &[], &Behaviour::Dated(seconds)).unwrap();
        fake.compose_tags(Behaviour::Dated(seconds));
    };
    for (seconds, skew) in [
        (3 * 3_600, "about 3 h behind"),
        (-600, "about 10 min ahead"),
    ] {
        dated(seconds);
        let said = doctor(&fake, &[]).await;
        let at = fake.http;
        let line = format!("warning  clock: {skew}, by the time of {at}\n{CLOCK_FIX}");
        assert_found(&said, 0, "clock", &line);
    }
    // One source that is right clears it.
    fake.endpoints(Behaviour::Normal);
    let list = fake.endpoints_url().replace("127.0.0.1", "localhost");
    let said = doctor(&fake, &["--endpoints-url", &list]).await;
    assert!(
        found(&said, "clock").starts_with("ok       clock: right to the minute, by "),
        "{}",
        said.1
    );
}

#[tokio::test]
async fn a_clock_by_which_nothing_is_valid_fails() {
    let fake = fake().await;
    let now = unix_now();
    fake.change(|spec| spec.tcb_info.set_validity(now + 5 * DAY, now + 35 * DAY))
        .unwrap();
    let said = doctor(&fake, &[]).await;
    let line = format!(
        "FAILED   clock: about 5 days behind: Intel's documents are not valid yet\n{CLOCK_FIX}"
    );
    assert_found(&said, 1, "clock", &line);

    // Everybody else lives in the days when these were valid.
    fake.tamper("collateral-expired").unwrap();
    let then = -(39 * DAY as i64);
    fake.endpoints(Behaviour::Dated(then));
    fake.pcs(0, &[], &Behaviour::Dated(then)).unwrap();
    fake.compose_tags(Behaviour::Dated(then));
    let said = doctor(&fake, &[]).await;
    let line = format!(
        "FAILED   clock: about 39 days ahead: Intel's documents are expired by this clock, and would not be if it were right\n{CLOCK_FIX}"
    );
    assert_found(&said, 1, "clock", &line);
    let backend = found(&said, "backend");
    assert!(
        backend.contains("\nfix: this machine's clock is about 39 days ahead, as public servers tell the time: set it. "),
        "{backend}"
    );
}

#[tokio::test]
async fn an_endpoint_list_that_is_none_fails_or_the_one_on_disk_serves() {
    let fake = fake().await;
    let url = fake.endpoints_url();
    let state = state(&fake).display().to_string();
    let login =
        "fix: check --endpoints-url, and whether a network's login page answers in its place";
    for (behaviour, line) in [
        (
            Behaviour::Html,
            format!(
                "FAILED   endpoint list: {url} answered with something other than an endpoint list: expected value at line 1 column 1\n{login}"
            ),
        ),
        (
            Behaviour::Status(503),
            format!("FAILED   endpoint list: {url} answered with status 503\n{login}"),
        ),
    ] {
        fake.endpoints(behaviour);
        let said = doctor(&fake, &[]).await;
        assert_found(&said, 1, "endpoint list", &line);
        assert_eq!(
            found(&said, "backend"),
            "skipped  backend: without the endpoint list no backend is known"
        );
        let pcs = format!("Intel's collateral from {}/", fake.http_url());
        assert_eq!(
            found(&said, &pcs),
            format!(
                "skipped  {pcs}: it answers; no backend's report was available, so its documents were not checked"
            )
        );
    }
    assert!(fake.received().is_empty());
    let gone = format!("http://127.0.0.1:{}/", dead_port().await);
    let said = doctor(&fake, &["--endpoints-url", &gone]).await;
    let line = format!(
        "FAILED   endpoint list: {gone}: no connection to 127.0.0.1: Connection refused (os error 111)\nfix: check the network and --endpoints-url; behind a company proxy name it with --proxy or HTTPS_PROXY"
    );
    assert_found(&said, 1, "endpoint list", &line);

    fake.endpoints(Behaviour::Normal);
    let state = ["--state-dir", &state];
    assert_eq!(doctor(&fake, &state).await.0, Some(0));
    fake.endpoints(Behaviour::Status(500));
    let said = doctor(&fake, &state).await;
    assert_eq!(said.0, Some(0), "{}", said.1);
    let line = found(&said, "endpoint list");
    assert!(
        line.starts_with(&format!(
            "warning  endpoint list: {url} answered with status 500; the one of 20"
        )) && line.ends_with(&format!("Z is on disk and is used\n{login}")),
        "{line}"
    );
    assert!(found(&said, "backend").starts_with("ok "), "{}", said.1);
}

#[tokio::test]
async fn a_name_that_nobody_knows_fails() {
    let fake = fake().await;
    // Too long for any resolver, so that none is asked.
    let list = format!("https://{}.example/endpoints", "x".repeat(64));
    let said = doctor(&fake, &["--endpoints-url", &list]).await;
    assert_eq!(said.0, Some(1));
    let line = found(&said, "DNS");
    assert!(
        line.starts_with(&format!("FAILED   DNS: {}.example: ", "x".repeat(64))),
        "{line}"
    );
    assert!(line.ends_with("\nfix: check that this machine is online, and its resolver (/etc/resolv.conf); a VPN or a network's login page may block it"), "{line}");
}

#[tokio::test]
async fn each_source_of_collateral_is_judged_by_itself() {
    let fake = fake_with(Options {
        more_sources: vec![true],
        ..Options::default()
    })
    .await;
    let [first, second] = [0, 1].map(|index| fake.source_url(index).unwrap());
    let [of_first, of_second] =
        [&first, &second].map(|url| format!("Intel's collateral from {url}/"));
    let both = ["--pccs-url", &format!("{first},{second}")];

    // Older than what the other has, in whichever order they are asked.
    for (stale, order) in [(0, [&first, &second]), (1, [&first, &second])] {
        fake.pcs(stale, &[], &Behaviour::Stale).unwrap();
        let sources = format!("{},{}", order[0], order[1]);
        let said = doctor(&fake, &["--pccs-url", &sources]).await;
        assert_eq!(said.0, Some(0), "{}", said.1);
        let (bad, good) = if stale == 0 {
            (&of_first, &of_second)
        } else {
            (&of_second, &of_first)
        };
        let line = found(&said, bad);
        assert!(
            line.starts_with(&format!("warning  {bad}: rejected_collateral_rollback: ")),
            "{line}"
        );
        assert!(
            line.ends_with(
                "\nfix: this source lags behind what was seen before: name another with --pccs-url"
            ),
            "{line}"
        );
        assert!(found(&said, good).starts_with(&format!("ok       {good}: genuine")));
        fake.pcs(stale, &[], &Behaviour::Normal).unwrap();
    }

    fake.pcs(0, &[Route::Tcb], &Behaviour::Status(500)).unwrap();
    let said = doctor(&fake, &both).await;
    let line = format!(
        "warning  {of_first}: TCB info: status 500\nfix: name another source with --pccs-url"
    );
    assert_found(&said, 0, &of_first, &line);

    fake.pcs(1, &[], &Behaviour::Status(503)).unwrap();
    let said = doctor(&fake, &both).await;
    let line = format!(
        "FAILED   {of_second}: TCB info: status 503\nfix: name another source with --pccs-url"
    );
    assert_found(&said, 1, &of_second, &line);
    assert!(found(&said, &of_first).starts_with("FAILED "), "{}", said.1);
    let backend = found(&said, "backend");
    assert!(
        backend.starts_with(&format!(
            "FAILED   backend: {DOMAIN}: collateral_unavailable: "
        )),
        "{backend}"
    );
}

#[tokio::test]
async fn expired_collateral_fails() {
    let fake = fake().await;
    fake.pcs(0, &[], &Behaviour::Expired).unwrap();
    let said = doctor(&fake, &[]).await;
    assert_eq!(said.0, Some(1));
    let pcs = format!("Intel's collateral from {}/", fake.http_url());
    let line = found(&said, &pcs);
    assert!(
        line.starts_with(&format!("FAILED   {pcs}: rejected_collateral_expired: ")),
        "{line}"
    );
    assert!(
        line.ends_with("\nfix: if the clock is right, this source keeps documents for too long: name another with --pccs-url"),
        "{line}"
    );
    let backend = found(&said, "backend");
    assert!(
        backend.contains(": rejected_collateral_expired: "),
        "{backend}"
    );
    // The clock is right, and nobody says otherwise.
    assert!(found(&said, "clock").starts_with("ok "), "{}", said.1);
    assert!(!backend.contains("this machine's clock is"), "{backend}");
}

#[tokio::test]
async fn a_backend_that_is_refused_fails_with_its_code_and_hint() {
    let fake = fake().await;
    fake.tamper("tcb-out-of-date").unwrap();
    let said = doctor(&fake, &[MODEL]).await;
    assert_eq!(said.0, Some(1));
    let line = found(&said, "backend");
    assert!(
        line.starts_with(&format!(
            "FAILED   backend: {DOMAIN}: rejected_tcb_platform: the platform's TCB is OutOfDate "
        )),
        "{line}"
    );
    let (_, option) = line
        .split_once("The option that would accept it: --accept-tcb ")
        .unwrap();
    let (option, _) = option.split_once(' ').unwrap();
    assert!(option.starts_with("OutOfDate:FAKE-SA-00002@"), "{line}");
    // And it does.
    let said = doctor(&fake, &[MODEL, "--accept-tcb", option]).await;
    assert_eq!(said.0, Some(0), "{}", said.1);

    fake.tamper("none").unwrap();
    let said = doctor(&fake, &["fake/lama"]).await;
    let line = "FAILED   backend: model_not_found: the model \"fake/lama\" is not in the endpoint list\nfix: close matches: fake/llama; GET /v1/models lists all";
    assert_found(&said, 1, "backend", line);
    assert_only_probes(&fake.received());
}
