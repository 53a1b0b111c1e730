//! What this machine, its user and its clients bring.

use std::process::Command;

use fake_tee::serve::Running;
use proxy::config::ClientTokens;

use super::*;

#[tokio::test]
async fn a_port_is_taken_by_one_of_us_or_by_another() {
    let fake = fake().await;
    let proxy = Proxy::in_front_of(&fake).await;
    let guarded = Proxy::start({
        let mut config = config(&fake);
        config.guard.tokens = Some(ClientTokens::parse("ann token-of-ann-0123456789").unwrap());
        config
    })
    .await;
    for address in [proxy.address, guarded.address] {
        let said = doctor(&fake, &["--port", &address.port().to_string()]).await;
        let line = format!(
            "warning  port: {address}: a verified-proxy listens there already\nfix: to use it, point clients to http://{address}/v1; to start another one, choose another --port"
        );
        assert_found(&said, 0, "port", &line);
    }
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // The fake answers, but not as a verified-proxy does.
    for address in [silent.local_addr().unwrap(), fake.http] {
        let said = doctor(&fake, &["--port", &address.port().to_string()]).await;
        let line = format!(
            "FAILED   port: {address}: another program listens there\nfix: stop that program, or choose another port with --port"
        );
        assert_found(&said, 1, "port", &line);
    }
    // One of the two addresses is enough.
    if let Ok(v6) = std::net::TcpListener::bind(("::1", 0)) {
        let address = v6.local_addr().unwrap();
        let said = doctor(&fake, &["--port", &address.port().to_string()]).await;
        let line = format!(
            "FAILED   port: {address}: another program listens there\nfix: stop that program, or choose another port with --port"
        );
        assert_found(&said, 1, "port", &line);
    }
    let said = doctor(&fake, &["--port", "0"]).await;
    let line = "skipped  port: --port 0 takes any free port";
    assert_found(&said, 0, "port", line);
    let said = doctor(&fake, &["--host", "192.0.2.1"]).await;
    assert_eq!(said.0, Some(1));
    assert!(
        found(&said, "port").ends_with("\nfix: give --host an address of this machine"),
        "{}",
        said.1
    );
}

#[cfg(unix)]
#[tokio::test]
async fn a_state_directory_has_to_be_writable_and_private() {
    use std::os::unix::fs::PermissionsExt;
    let fake = fake().await;
    let file = fake.dir.join("a-file");
    std::fs::write(&file, "x").unwrap();
    let under = file.join("state").display().to_string();
    let said = doctor(&fake, &["--state-dir", &under]).await;
    let line = format!(
        "FAILED   state directory: {under} cannot be used: Not a directory (os error 20)\nfix: let this user write there, or name another folder with --state-dir"
    );
    assert_found(&said, 1, "state directory", &line);
    // The rest is looked at all the same.
    assert!(found(&said, "backend").starts_with("ok "), "{}", said.1);

    let shared = state(&fake);
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o777)).unwrap();
    let path = shared.display().to_string();
    let said = doctor(&fake, &["--state-dir", &path]).await;
    let line = format!(
        "FAILED   state directory: {path} can be written by others (mode 0777); a user who writes there can undo the protection against old collateral\nfix: `chmod 700 {path}` and give it to the user that runs verified-proxy, or name another folder with --state-dir"
    );
    assert_found(&said, 1, "state directory", &line);
}

#[cfg(unix)]
#[tokio::test]
async fn few_descriptors_are_few_clients() {
    let fake = fake().await;
    let mut command = program("sh");
    let script = "ulimit -n 128 && exec \"$0\" \"$@\"";
    command
        .args([
            "-c",
            script,
            env!("CARGO_BIN_EXE_verified-proxy"),
            "doctor",
            "--port",
            "0",
        ])
        .args(arguments(&fake, &[]));
    let said = run(command).await;
    let line = "warning  file descriptors: at most 128, for 48 clients at a time\nfix: raise the hard limit: `ulimit -Hn` of the shell, or LimitNOFILE= of a systemd unit";
    assert_found(&said, 0, "file descriptors", line);
}

fn with_variables(fake: &Running, variables: &[(&str, &str)]) -> Command {
    let mut command = program(env!("CARGO_BIN_EXE_verified-proxy"));
    command
        .args(["doctor", "--port", "0"])
        .args(arguments(fake, &[]))
        .envs(variables.iter().copied());
    command
}

#[tokio::test]
async fn keys_and_proxies_of_the_environment_are_told_without_their_values() {
    let fake = fake().await;
    let detail = "HTTPS_PROXY, all_proxy: verified-proxy connects through HTTPS_PROXY, or else ALL_PROXY, unless --proxy is given";
    let proxies = [
        ("HTTPS_PROXY", "http://me:secret@proxy.example"),
        ("all_proxy", "socks5://me:secret@proxy.example"),
    ];
    let said = run(with_variables(&fake, &proxies)).await;
    let line = format!(
        "warning  proxy variables: {detail}; clients may send requests for localhost to them\nfix: export NO_PROXY=localhost,127.0.0.1,::1 for the clients"
    );
    assert_found(&said, 0, "proxy variables", &line);
    assert!(!said.1.contains("secret"), "{}", said.1);
    let exempt = [&proxies[..], &[("no_proxy", "localhost,127.0.0.1")]].concat();
    let said = run(with_variables(&fake, &exempt)).await;
    let line = format!(
        "ok       proxy variables: {detail}; NO_PROXY keeps clients' requests to it on this machine"
    );
    assert_found(&said, 0, "proxy variables", &line);

    let said = run(with_variables(&fake, &[])).await;
    let line = "skipped  API key: the proxy has none (--api-key-file, VERIFIED_PROXY_API_KEY): clients have to send their own";
    assert_found(&said, 0, "API key", line);
    let said = run(with_variables(
        &fake,
        &[("VERIFIED_PROXY_API_KEY", "sk-dummy")],
    ))
    .await;
    let line = "warning  API key: from VERIFIED_PROXY_API_KEY: it is a placeholder, not a key\nfix: write your key of NEAR AI there";
    assert_found(&said, 0, "API key", line);
    let said = run(with_variables(
        &fake,
        &[("VERIFIED_PROXY_API_KEY", "two words")],
    ))
    .await;
    let line = "FAILED   API key: VERIFIED_PROXY_API_KEY: not an API key: it is not one word of printable ASCII\nfix: write the key, one word, into the file of --api-key-file or into VERIFIED_PROXY_API_KEY";
    assert_found(&said, 1, "API key", line);
    assert!(!said.1.contains("two words"), "{}", said.1);
}

#[cfg(unix)]
#[tokio::test]
async fn a_key_that_others_can_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let fake = fake().await;
    let file = fake.dir.join("key");
    std::fs::write(&file, API_KEY).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let path = file.display().to_string();
    let said = doctor(&fake, &["--api-key-file", &path]).await;
    let line = format!(
        "warning  API key: from {path}, which other users can read\nfix: `chmod 600 {path}`"
    );
    assert_found(&said, 0, "API key", &line);
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let said = doctor(&fake, &["--api-key-file", &path]).await;
    assert_found(
        &said,
        0,
        "API key",
        &format!("ok       API key: from {path}"),
    );
    assert!(!said.1.contains(API_KEY), "{}", said.1);
}

#[tokio::test]
async fn a_policy_is_old_after_ninety_days() {
    let fake = fake().await;
    let said = doctor(&fake, &["--policy", &policy_of(&fake, 90).0]).await;
    assert!(found(&said, "policy").starts_with("ok "), "{}", said.1);
    let (path, date) = policy_of(&fake, 91);
    let said = doctor(&fake, &["--policy", &path]).await;
    assert_eq!(said.0, Some(0));
    let line = found(&said, "policy");
    assert!(
        line.starts_with(&format!("warning  policy: \"fake\" of {date}, digest ")),
        "{line}"
    );
    assert!(
        line.ends_with("; it is 91 days old, and NEAR AI may have deployed a new image since\nfix: look for a newer verified-proxy; until then backends with a new image are refused, which is safe"),
        "{line}"
    );
    let said = doctor(&fake, &["--policy", "hardware"]).await;
    let line = found(&said, "policy");
    assert!(
        line.ends_with("; ANY software on a genuine TDX machine passes it\nfix: use --policy near, unless you do not need to know which software runs"),
        "{line}"
    );
}

#[tokio::test]
async fn what_cannot_begin_is_no_finding() {
    let fake = fake().await;
    assert_eq!(doctor(&fake, &["--unknown"]).await.0, Some(2));
    let said = doctor(&fake, &["--policy", "no-such-file.toml"]).await;
    assert_eq!((said.0, said.1.as_str()), (Some(3), ""), "{}", said.2);
    // No authorities are a finding, and what needs them was not looked at.
    let mut command = program(env!("CARGO_BIN_EXE_verified-proxy"));
    let state = ["--state-dir", "none", "--port", "0"];
    let list = "http://127.0.0.1:9/";
    command
        .arg("doctor")
        .args(state)
        .args(["--endpoints-url", list, "--pccs-url", list]);
    let said = run(command).await;
    let line = "FAILED   certificate authorities: no certificate authorities found on this system; install them or name some with --extra-ca\nfix: install the system's certificate authorities (the package ca-certificates), or name a file with --extra-ca";
    assert_found(&said, 1, "certificate authorities", line);
    for check in ["endpoint list", "Intel's collateral", "clock", "backend"] {
        let line = format!("skipped  {check}: it needs the check that failed above");
        assert_eq!(found(&said, check), line);
    }
}

/// What `serve` refuses to start with is not ok.
#[tokio::test]
async fn a_key_that_others_could_spend_is_told() {
    let fake = fake().await;
    let port = dead_port().await.to_string();
    let asked = |variables: &[(&str, &str)]| {
        let mut command = program(env!("CARGO_BIN_EXE_verified-proxy"));
        command
            .arg("doctor")
            .args(arguments(&fake, &[]))
            .args(["--host", "0.0.0.0", "--port", &port])
            .envs(variables.iter().copied());
        run(command)
    };
    let said = asked(&[("VERIFIED_PROXY_API_KEY", API_KEY)]).await;
    let line = "FAILED   port: other machines can reach 0.0.0.0, and could spend your API key\nfix: give clients tokens with --client-token-file, or listen on 127.0.0.1 only";
    assert_found(&said, 1, "port", line);
    let said = asked(&[]).await;
    let line = format!("ok       port: 0.0.0.0:{port} is free");
    assert_found(&said, 0, "port", &line);
}
