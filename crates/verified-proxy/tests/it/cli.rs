//! The program's surface: options and where they come from, files, logs, help.

#![expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]

mod image;
mod listening;
mod logs;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::harness::*;

fn program(arguments: &[String], environment: &[(String, String)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_verified-proxy"))
        .args(arguments)
        .envs(environment.iter().cloned())
        // No authority, so that "serve" ends where it would begin to listen.
        .env("SSL_CERT_FILE", "/dev/null")
        .env("SSL_CERT_DIR", "/nonexistent")
        .output()
        .unwrap()
}

fn run(arguments: &[&str]) -> Output {
    let arguments: Vec<_> = arguments.iter().map(|&text| text.to_owned()).collect();
    program(&arguments, &[])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A folder of a test's own, empty.
fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{name}"));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// As in `verified-proxy | head -0`.
#[test]
fn a_reader_that_is_gone_stops_nothing() {
    let (reader, stdout) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = Command::new(env!("CARGO_BIN_EXE_verified-proxy"))
        .args(["--port=0", "--state-dir=none", "--drain-timeout=0"])
        .env("NO_COLOR", "1")
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let said = lines.find_map(|line| {
        let line = line.unwrap();
        let (_, address) = line.split_once("verified-proxy on http://")?;
        Some(address.split(' ').next().unwrap().to_owned())
    });
    // It says so on stderr, and listens.
    let connected = TcpStream::connect(said.unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    connected.unwrap();
}

/// A value for the flag, one for the variable and one for the file.
const SAMPLES: &[(&str, [&str; 3])] = &[
    ("host", ["127.0.0.2", "127.0.0.3", "127.0.0.4"]),
    ("port", ["0", "00", "000"]),
    (
        "metrics-listen",
        ["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"],
    ),
    ("api-key-file", ["/flag.key", "/env.key", "/file.key"]),
    (
        "client-token-file",
        ["/flag.tokens", "/env.tokens", "/file.tokens"],
    ),
    (
        "allow-host",
        ["flag.host.example", "env.host.example", "file.host.example"],
    ),
    (
        "allow-origin",
        ["https://flag.page", "https://env.page", "https://file.page"],
    ),
    ("max-body", ["1MiB", "2MiB", "3MiB"]),
    ("body-memory", ["4MiB", "5MiB", "6MiB"]),
    ("client-idle-timeout", ["1s", "2s", "3s"]),
    ("client-unread-timeout", ["4s", "5s", "6s"]),
    ("drain-timeout", ["7s", "8s", "9s"]),
    ("policy", ["hardware", "near", "/file.toml"]),
    (
        "accept-tcb",
        [
            "OutOfDate:INTEL-SA-00001@2027-02-28",
            "OutOfDate:INTEL-SA-00002@2027-02-28",
            "OutOfDate:INTEL-SA-00003@2027-02-28",
        ],
    ),
    (
        "accept-change",
        ["flag.near.ai", "env.near.ai", "file.near.ai"],
    ),
    ("signing-algo", ["ed25519", "ecdsa", "ed25519"]),
    ("webpki", ["off", "require", "off"]),
    ("attest-timeout", ["11s", "12s", "13s"]),
    ("danger-tdx-root", ["/flag.der", "/env.der", "/file.der"]),
    ("danger-gpu-root", ["/flag.gpu", "/env.gpu", "/file.gpu"]),
    (
        "danger-nras-intermediate",
        ["/flag.nras", "/env.nras", "/file.nras"],
    ),
    ("verdict-ttl", ["14s", "15s", "16s"]),
    (
        "endpoints-url",
        ["https://flag/", "https://env/", "https://file/"],
    ),
    (
        "pccs-url",
        [
            "https://flag.pccs/",
            "https://env.pccs/",
            "https://file.pccs/",
        ],
    ),
    (
        "nras-url",
        [
            "https://flag.nras/",
            "https://env.nras/",
            "https://file.nras/",
        ],
    ),
    (
        "compose-files-url",
        ["https://flag.files/", "off", "https://file.files/"],
    ),
    (
        "compose-tags-url",
        ["https://flag.git/", "off", "https://file.git/"],
    ),
    (
        "allow-domain",
        ["flag.example", "env.example", "file.example"],
    ),
    ("extra-ca", ["/flag.pem", "/env.pem", "/file.pem"]),
    ("connect-to", ["a:1:b:1", "a:2:b:2", "a:3:b:3"]),
    (
        "proxy",
        [
            "http://flag.example:3128",
            "http://env.example:3128",
            "http://file.example:3128",
        ],
    ),
    ("connect-timeout", ["17s", "18s", "19s"]),
    (
        "model-levels",
        ["a:gpu=genuine", "b:gpu=genuine", "c:gpu=genuine"],
    ),
    ("unread-timeout", ["34s", "35s", "36s"]),
    ("first-byte-timeout", ["21s", "22s", "23s"]),
    ("idle-timeout", ["24s", "25s", "26s"]),
    ("max-connections", ["1", "2", "3"]),
    ("pool-idle", ["27s", "28s", "29s"]),
    ("pool-age", ["31s", "32s", "33s"]),
    ("pool-requests", ["4", "5", "6"]),
    ("state-dir", ["/flag", "/env", "/file"]),
    ("log", ["debug", "trace", "verified_proxy=debug"]),
    ("log-format", ["text", "text", "text"]),
];

#[test]
fn flag_before_environment_before_file_before_default() {
    let command = verified_proxy::cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    let options: Vec<_> = serve
        .get_arguments()
        // "listen" takes the place of "host" and "port".
        .filter(|option| {
            !["help", "version", "config", "listen"].contains(&option.get_id().as_str())
        })
        .collect();
    let samples = |long: &str| {
        let found = SAMPLES.iter().find(|(name, _)| *name == long);
        found.unwrap_or_else(|| panic!("no samples for --{long}")).1
    };
    let (mut flags, mut variables, mut file) =
        (vec!["serve".to_owned()], Vec::new(), String::new());
    for option in &options {
        let long = option.get_long().unwrap();
        // One rule makes the names of all.
        let variable = format!("VERIFIED_PROXY_{}", long.replace('-', "_").to_uppercase());
        assert_eq!(option.get_env().unwrap(), variable.as_str(), "--{long}");
        let [flag, of_variable, of_file] = samples(long);
        flags.push(format!("--{long}={flag}"));
        variables.push((variable, of_variable.to_owned()));
        file.push_str(&format!("{long} = {of_file:?}\n"));
    }
    let path = folder("precedence").join("all.toml");
    std::fs::write(&path, file).unwrap();
    let config = (
        "VERIFIED_PROXY_CONFIG".to_owned(),
        path.display().to_string(),
    );
    let from_file = vec![config.clone()];
    let all = [variables, vec![config]].concat();

    let said = |output: Output| {
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        said
    };
    let serve_only = ["serve".to_owned()];
    let expect = |said: &str, index: usize, source: &str| {
        for option in &options {
            let long = option.get_long().unwrap();
            let line = format!("{long}={} ({source})", samples(long)[index]);
            assert!(said.contains(&line), "{line} is not in {said}");
        }
    };
    expect(&said(program(&flags, &all)), 0, "flag");
    expect(&said(program(&serve_only, &all)), 1, "environment");
    expect(&said(program(&serve_only, &from_file)), 2, "file");

    let debug = [("VERIFIED_PROXY_LOG".to_owned(), "debug".to_owned())];
    let said = said(program(&["--port=0".to_owned()], &debug));
    for option in options {
        let long = option.get_long().unwrap();
        let defaults: Vec<_> = option
            .get_default_values()
            .iter()
            .map(|value| value.to_str().unwrap())
            .collect();
        if defaults.is_empty() {
            assert!(!said.contains(&format!("{long}=")), "{long}: {said}");
        } else if !["log", "port"].contains(&long) {
            let line = format!("{long}={} (default)", defaults.join(","));
            assert!(said.contains(&line), "{line} is not in {said}");
        }
    }
}

/// What `serve --config` says about this file.
fn config_error(name: &str, content: &[u8]) -> (Option<i32>, String) {
    let path = folder(&format!("error-{name}")).join("config.toml");
    std::fs::write(&path, content).unwrap();
    let output = run(&["--config", &path.display().to_string()]);
    assert_eq!(text(&output.stdout), "");
    (output.status.code(), text(&output.stderr))
}

#[test]
fn a_file_that_is_wrong_is_refused_by_key() {
    for (name, content, why) in [
        (
            "unknown",
            "prot = 1",
            r#"unknown key "prot"; did you mean "port"?"#,
        ),
        (
            "underscore",
            "endpoints_url = \"https://a/\"",
            r#"did you mean "endpoints-url"?"#,
        ),
        (
            "alien",
            "zzz = 1",
            "unknown key \"zzz\"; keys are the long names",
        ),
        (
            "itself",
            "config = \"other.toml\"",
            "unknown key \"config\"",
        ),
        ("help", "help = \"yes\"", "unknown key \"help\""),
        ("table", "[pool]\nidle = 1", "unknown key \"pool\""),
        (
            "nested",
            "[port]\nnumber = 1",
            "key \"port\": expected a string or a whole number, found a table",
        ),
        (
            "boolean",
            "port = true",
            "key \"port\": expected a string or a whole number, found a boolean",
        ),
        (
            "fraction",
            "idle-timeout = 1.5",
            "key \"idle-timeout\": expected a string or a whole number, found a fraction",
        ),
        (
            "array",
            "port = [1, 2]",
            "key \"port\": expected a string or a whole number, found an array",
        ),
        (
            "deep",
            "pccs-url = [[\"https://a/\"]]",
            "key \"pccs-url\": expected a string, or an array of strings, found an array",
        ),
        (
            "empty",
            "pccs-url = []",
            "key \"pccs-url\": the array is empty",
        ),
        (
            "range",
            "port = 99999",
            "key \"port\": invalid value \"99999\": 99999 is not in 0..=65535",
        ),
        (
            "negative",
            "port = -1",
            "key \"port\": invalid value \"-1\"",
        ),
        (
            "zero",
            "pool-idle = 0",
            "key \"pool-idle\": invalid value \"0\": expected 1s to 1day",
        ),
        (
            "enum",
            "webpki = \"maybe\"",
            "key \"webpki\": invalid value \"maybe\"; expected one of require, off",
        ),
        (
            "url",
            "endpoints-url = \"http://example.org/\"",
            "key \"endpoints-url\": invalid value",
        ),
        (
            "injection",
            "host = \"127.0.0.1 --port 1\"",
            "key \"host\": invalid value",
        ),
        (
            "log",
            "log = \"loud\"",
            "key \"log\": invalid value \"loud\"",
        ),
        ("twice", "port = 1\nport = 2", "duplicate key"),
        ("syntax", "port = ", "not TOML in line 1"),
    ] {
        let (code, said) = config_error(name, content.as_bytes());
        assert_eq!(code, Some(2), "{name}: {said}");
        assert!(
            said.starts_with("error: ") && said.contains("config.toml: "),
            "{name}: {said}"
        );
        assert!(said.contains(why), "{name}: {said}");
    }
    let (code, said) = config_error("utf8", b"port = \"\xff\"");
    assert_eq!(
        (code, said.contains("not UTF-8")),
        (Some(2), true),
        "{said}"
    );
    let (code, said) = config_error("large", &vec![b'\n'; (8 << 20) + 1]);
    assert_eq!(
        (code, said.contains("more than 8388608 bytes")),
        (Some(3), true),
        "{said}"
    );
    let output = run(&["--config", "/no/such/file.toml"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("--config /no/such/file.toml: "));
    // A deep one is refused before it overflows a stack.
    let (code, _) = config_error("bomb", format!("a = {}", "[".repeat(100_000)).as_bytes());
    assert_eq!(code, Some(2));
}

#[test]
fn paths_in_a_file_are_beside_it_and_arrays_repeat() {
    let dir = folder("beside");
    let path = dir.join("config.toml");
    let content = r#"
        extra-ca = ["one.pem", "/two.pem"]
        policy = "hardware"
        state-dir = "none"
        danger-tdx-root = "sub/root.der"
        pccs-url = ["https://one/", "https://two/"]
        verdict-ttl = 90
    "#;
    std::fs::write(&path, content).unwrap();
    let output = run(&["serve", "--config", &path.display().to_string()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    let dir = dir.display();
    for line in [
        &format!("extra-ca={dir}/one.pem,/two.pem (file)"),
        "policy=hardware (file)",
        "state-dir=none (file)",
        &format!("danger-tdx-root={dir}/sub/root.der (file)"),
        "pccs-url=https://one/,https://two/ (file)",
        "verdict-ttl=90 (file)",
    ] {
        assert!(said.contains(line), "{line} is not in {said}");
    }
    // A value on the command line takes the place of the whole array.
    let output = run(&[
        "serve",
        "--config",
        &path.display().to_string(),
        "--pccs-url",
        "https://three/",
    ]);
    assert!(text(&output.stderr).contains("pccs-url=https://three/ (flag)"));
}

#[test]
fn a_file_for_serve_is_one_for_verify() {
    let path = folder("for-verify").join("config.toml");
    std::fs::write(
        &path,
        "port = 1\nendpoints-url = \"http://127.0.0.1:9/\"\nextra-ca = \"no.pem\"\n",
    )
    .unwrap();
    let output = run(&[
        "verify",
        "some/model",
        "--config",
        &path.display().to_string(),
    ]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        text(&output.stderr).contains("for-verify/no.pem: "),
        "{}",
        text(&output.stderr)
    );
    std::fs::write(&path, "port = -1\n").unwrap();
    let output = run(&[
        "verify",
        "some/model",
        "--config",
        &path.display().to_string(),
    ]);
    assert_eq!(
        output.status.code(),
        Some(2),
        "also of options that verify does not have"
    );
}

#[test]
fn values_out_of_range_and_useless_combinations_are_wrong_usage() {
    for wrong in [
        &["--pool-idle", "0"][..],
        &["--attest-timeout", "2h"],
        &["--attest-timeout", "0"],
        &["--max-connections", "0"],
        &["--pool-requests", "0"],
        &["--connect-timeout", "10 parsecs"],
        &["--state-dir", ""],
        &["--log", "loud"],
        &["--log-format", "xml"],
        &["--max-body", "2GiB"],
        &["--unknown"],
    ] {
        let output = run(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn help_is_grouped_and_fits() {
    let long = text(&run(&["--help"]).stdout);
    let mut at = 0;
    for heading in [
        "Commands:",
        "Listening:",
        "What is proved:",
        "Network:",
        "Files:",
        "Logs:",
        "Connections to backends:",
    ] {
        let found = long
            .find(&format!("\n{heading}\n"))
            .unwrap_or_else(|| panic!("{heading}: {long}"));
        assert!(found > at, "{heading} in its place");
        at = found;
    }
    assert!(long.contains("[default: 8080]"));
    assert!(long.contains("[env: VERIFIED_PROXY_PORT="));
    for help in [
        &["--help"][..],
        &["-h"],
        &["serve", "--help"],
        &["verify", "--help"],
        &["verify", "-h"],
        &["policy", "-h"],
    ] {
        let output = run(help);
        assert_eq!(output.status.code(), Some(0));
        for line in text(&output.stdout).lines() {
            assert!(line.chars().count() <= 100, "{help:?}: {line}");
        }
    }
    let short = text(&run(&["-h"]).stdout);
    assert!(short.lines().count() < long.lines().count());
    let verify = text(&run(&["verify", "--help"]).stdout);
    assert!(verify.contains("\nA recorded report:\n"), "{verify}");
    assert!(!verify.contains("--port"), "{verify}");
}

#[test]
fn the_version_is_the_packages() {
    let output = run(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        text(&output.stdout),
        format!("verified-proxy {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn the_options_are_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/options.md");
    let text = verified_proxy::cli::document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == text,
        "docs/options.md is out of date: run scripts/docs"
    );
}
