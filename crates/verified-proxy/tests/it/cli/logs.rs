//! Lines on the log, and what is never in them.

use super::*;

/// The program in front of `fake`, which is asked `requests` one after
/// another; what it logged.
async fn logged(
    fake: &fake_tee::serve::Running,
    options: &[&str],
    requests: Vec<String>,
) -> String {
    let file = fake.dir.join("stderr.log");
    let mut child = Command::new(env!("CARGO_BIN_EXE_verified-proxy"))
        .args(["serve", "--port", "0"])
        .args(crate::serve::arguments(fake))
        .args(options)
        .env("SSL_CERT_FILE", "/dev/null")
        .env("SSL_CERT_DIR", "/nonexistent")
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&file).unwrap())
        .spawn()
        .unwrap();
    tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .strip_prefix("verified-proxy on http://")
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned();
        for request in requests {
            let mut client = TcpStream::connect(&address).unwrap();
            client.write_all(request.as_bytes()).unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 "));
        }
        let stop = Command::new("kill")
            .args(["-TERM", &child.id().to_string()])
            .status();
        assert!(stop.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(0), "a drained stop");
    })
    .await
    .unwrap();
    std::fs::read_to_string(file).unwrap()
}

/// How much is logged is not up to a client.
#[tokio::test]
async fn what_happens_again_and_again_is_said_once() {
    let fake = fake().await;
    let names = ["one", "two", "three"].map(|name| format!("{name}.completions.near.ai"));
    let dead = dead_port().await;
    let mut nowhere = Vec::new();
    let mut requests = Vec::new();
    for name in &names {
        nowhere.push(format!("{name}:443:127.0.0.1:{dead}"));
        let request = format!(
            "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Backend-Domain: {name}\r\nConnection: close\r\n\r\n"
        );
        requests.extend(vec![request; 50]);
    }
    // The backend that is there, as one that does not attest.
    fake.tamper("debug-td").unwrap();
    requests.extend(vec![chat(&json!({"model": MODEL, "messages": []})); 50]);
    let options: Vec<_> = nowhere
        .iter()
        .flat_map(|nowhere| ["--connect-to", nowhere])
        .collect();
    let log = logged(&fake, &options, requests).await;
    for name in names.iter().map(String::as_str).chain([DOMAIN]) {
        let lines = log.lines().filter(|line| {
            line.contains("backend not verified") && line.contains(&format!("domain={name}"))
        });
        assert_eq!(lines.count(), 1, "{name}: {log}");
    }
}

fn chat(body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST /v1/chat/completions?{CANARY} HTTP/1.1\r\nHost: localhost\r\nX-Canary: {CANARY}\r\nAuthorization: Bearer {API_KEY}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn json_lines_are_objects_and_silent_about_clients() {
    let fake = fake().await;
    let message = json!([{"role": "user", "content": CANARY}]);
    let requests = vec![
        chat(&json!({"model": MODEL, "messages": message})),
        chat(&json!({"model": CANARY, "messages": message})),
        format!(
            "GET /{CANARY} HTTP/1.1\r\nHost: localhost\r\nX-Backend-Domain: {CANARY}.example\r\nConnection: close\r\n\r\n"
        ),
        format!("GET / HTTP/1.1\r\nHost: {CANARY}\r\nConnection: close\r\n\r\n"),
        format!("BROKEN {CANARY}\r\n\r\n"),
    ];
    let options = [
        "--log-format",
        "json",
        "--log",
        "hyper=trace,rustls=trace,trace",
    ];
    let log = logged(&fake, &options, requests).await;
    for secret in [CANARY, API_KEY] {
        assert!(!log.contains(secret), "{log}");
    }
    let mut messages = Vec::new();
    for line in log.lines() {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for field in ["timestamp", "level", "target", "message"] {
            assert!(line[field].is_string(), "{field}: {line}");
        }
        let target = line["target"].as_str().unwrap();
        assert!(target.starts_with("verified_proxy"), "{line}");
        messages.push(line["message"].as_str().unwrap().to_owned());
    }
    for message in ["starting", "attested", "stopping"] {
        assert!(
            messages.iter().any(|said| said.starts_with(message)),
            "{message}: {log}"
        );
    }
}

#[tokio::test]
async fn text_lines_are_silent_about_clients_too() {
    let fake = fake().await;
    let requests = vec![chat(&json!({"model": MODEL, "messages": []}))];
    let log = logged(&fake, &["--log", "trace"], requests).await;
    assert!(log.contains("attested"), "{log}");
    assert!(!log.contains('\u{1b}'), "no colour into a file");
    for secret in [CANARY, API_KEY] {
        assert!(!log.contains(secret), "{log}");
    }
}
