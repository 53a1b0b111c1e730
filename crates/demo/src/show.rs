//! The steps. Each one checks what happened before it says so.

use std::time::Duration;

use fake_tee::serve::{Connection, Running};
use http::{Response, StatusCode};
use hyper::body::Incoming;
use serde_json::Value;

use crate::client::{self, API_KEY, Words};
use crate::failure::{Failure, should};
use crate::scene::{MODEL, Scene, TAMPERED_MODEL};
use crate::screen::{Screen, Style};

const QUESTION: &str = "Where does this question end up, and who can read it?";
const PROBE: &str = "GET /v1/attestation/report?";
const CHAT: &str = "POST /v1/chat/completions";

/// An answer, its proof, a refusal.
pub(crate) async fn play(scene: &Scene, screen: &Screen) -> Result<(), Failure> {
    let simulated = screen.paint(Style::Yellow, "SIMULATED");
    screen.line(&format!(
        "{simulated}: two simulated backends and the real proxy, in this process. The backends' quotes are\n\
         signed under a root that was made for this run and is not Intel's: nothing below says\n\
         anything about real hardware. No network is used, and no API key.\n\n\
         The proxy listens on http://{}.\n\
         Start to listening: {}, after {} ms that made the backends.",
        scene.proxy,
        measured(scene.listening, Duration::from_millis(50)),
        scene.backends.as_millis(),
    ))?;
    let verdict = answer(scene, screen).await?;
    proof(scene, screen, &verdict).await?;
    refusal(scene, screen).await?;
    let all = screen.paint(Style::Green, "Everything was as expected");
    screen.line(&format!("\n{all} ({simulated})."))?;
    Ok(())
}

/// Gives the verdict's id.
async fn answer(scene: &Scene, screen: &Screen) -> Result<String, Failure> {
    screen.heading("1. A question, and the answer as it streams (SIMULATED)")?;
    screen.write(&format!("model:  {MODEL}\nyou:    {QUESTION}\nanswer: "))?;
    let response = client::ask(scene.proxy, MODEL, QUESTION).await?;
    let status = response.status();
    should(status == StatusCode::OK, || {
        format!("the answer's status is {status}")
    })?;
    let verdict = verdict(&response);
    let mut words = Words::of(response);
    let (mut text, mut first) = (String::new(), None);
    while let Some(word) = words.next().await? {
        if !word.is_empty() {
            first.get_or_insert_with(|| scene.elapsed());
        }
        screen.write(&word)?;
        text.push_str(&word);
    }
    screen.line("")?;
    should(text.contains(QUESTION), || {
        format!("the simulated backend repeats the question, but the answer is {text:?}")
    })?;
    let first = first.unwrap_or(Duration::MAX);
    screen.line(&format!(
        "\nStart to the first verified word: {}.\nThe backend saw:",
        measured(first, Duration::from_secs(1))
    ))?;
    let seen = seen(&scene.good);
    screen.indented(&listed(&seen))?;
    let on_one = |connection: &Connection| match connection.request_lines.as_slice() {
        [probe, chat] => probe.starts_with(PROBE) && chat.starts_with(CHAT),
        _ => false,
    };
    should(matches!(&*seen, [one] if on_one(one)), || {
        "the backend should see an attestation request, then the question, on one connection"
            .to_owned()
    })?;
    Ok(verdict)
}

async fn proof(scene: &Scene, screen: &Screen, verdict: &str) -> Result<(), Failure> {
    screen.heading("2. What was proved before the question was sent (SIMULATED)")?;
    let path = format!("/_proxy/verdicts/{verdict}");
    screen.line(&format!("GET {path}\n"))?;
    let json = client::get(scene.proxy, &path).await?;
    let wrong = |error: serde_json::Error| Failure::NotAsItShould(format!("{path}: {error}"));
    let report: Value = serde_json::from_slice(&json).map_err(wrong)?;
    let text = verified_proxy::cli::verdict_text(&json, screen.colour).map_err(wrong)?;
    screen.indented(&text)?;
    should(report["verdict"] == "verified", || {
        format!("the verdict is {}", report["verdict"])
    })?;
    should(report["trust_root"] != "intel", || {
        "a simulated backend counts as genuine hardware".to_owned()
    })
}

async fn refusal(scene: &Scene, screen: &Screen) -> Result<(), Failure> {
    screen.heading(
        "3. The same question, for a machine whose host can read its memory (SIMULATED)",
    )?;
    screen.line(&format!("model:  {TAMPERED_MODEL}\nyou:    {QUESTION}"))?;
    let response = client::ask(scene.proxy, TAMPERED_MODEL, QUESTION).await?;
    let (status, verdict) = (response.status(), verdict(&response));
    let body = client::whole(response).await?;
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    let field = |name: &str| json["error"][name].as_str().unwrap_or_default();
    let (code, message) = (field("code"), field("message"));
    let (message, hint) = message.split_once("\nhint: ").unwrap_or((message, ""));
    // Further lines are about each attempt.
    let why = message.lines().next().unwrap_or_default();
    screen.line(&format!(
        "answer: HTTP {status}\n\ncode:   {code}\nwhy:    {why}\nhint:   {hint}"
    ))?;
    let seen = seen(&scene.tampered);
    screen.line("\nAll that this backend saw, over all attempts:")?;
    screen.indented(&listed(&seen))?;
    should(
        status == StatusCode::BAD_GATEWAY
            && code == "rejected_td_debug"
            && verdict == "none; rejected_td_debug"
            && !hint.is_empty(),
        || format!("the refusal is {status} {code}, verdict {verdict:?}"),
    )?;
    should(!seen.is_empty() && seen.iter().all(probes_only), || {
        "the refused backend should see attestation requests and nothing else".to_owned()
    })?;
    let refused = screen.paint(Style::Red, "REFUSED");
    screen.line(&format!(
        "{refused}: the backend got no byte of the question, and no API key."
    ))?;
    Ok(())
}

fn verdict(response: &Response<Incoming>) -> String {
    let header = response.headers().get("x-verified-proxy-verdict");
    let text = header.and_then(|value| value.to_str().ok());
    text.unwrap_or_default().to_owned()
}

/// What the backend received after TLS, without the connections that had no byte.
fn seen(backend: &Running) -> Vec<Connection> {
    let mut seen = backend.received();
    seen.retain(|connection| !connection.bytes.is_empty());
    seen
}

fn probes_only(connection: &Connection) -> bool {
    let text = String::from_utf8_lossy(&connection.bytes);
    let lines = &connection.request_lines;
    !lines.is_empty()
        && lines.iter().all(|line| line.starts_with(PROBE))
        && ![QUESTION, API_KEY]
            .iter()
            .any(|secret| text.contains(secret))
}

fn listed(seen: &[Connection]) -> String {
    let mut text = String::new();
    for (number, connection) in (1..).zip(seen) {
        for line in &connection.request_lines {
            // The nonce is long.
            let line = line.split("&nonce=").next().unwrap_or_default();
            text.push_str(&format!("connection {number}: {line}\n"));
        }
    }
    text
}

fn measured(time: Duration, aim: Duration) -> String {
    let build = if cfg!(debug_assertions) {
        " in a release build"
    } else {
        ""
    };
    let missed = if time < aim { "" } else { ", missed" };
    format!(
        "{} ms (aim: under {} ms{build}{missed})",
        time.as_millis(),
        aim.as_millis()
    )
}

/// What to try while the proxy keeps serving.
pub(crate) fn invite(scene: &Scene, screen: &Screen) -> Result<(), Failure> {
    let url = format!("http://{}", scene.proxy);
    screen.heading("Try it; Ctrl-C ends it (SIMULATED)")?;
    screen.line(&format!(
        r#"
curl -N {url}/v1/chat/completions -H 'content-type: application/json' \
  -d '{{"model":"{MODEL}","stream":true,"messages":[{{"role":"user","content":"hello"}}]}}'

With the model "{TAMPERED_MODEL}" it is refused. {url}/_proxy/ shows all verdicts, live.
In Python (pip install openai):

from openai import OpenAI
client = OpenAI(base_url="{url}/v1", api_key="none")
messages = [{{"role": "user", "content": "hello"}}]
for chunk in client.chat.completions.create(model="{MODEL}", messages=messages, stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)"#
    ))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    /// What a backend received: `lines`, and after them `more`.
    fn connection(lines: &[&str], more: &str) -> Connection {
        Connection {
            id: 1,
            instance: 0,
            spki_sha256: [0; 32],
            opened: SystemTime::UNIX_EPOCH,
            closed: None,
            bytes: [&lines.join("\r\n"), more].concat().into(),
            truncated: false,
            request_lines: lines.iter().map(|&line| line.to_owned()).collect(),
            requests: Vec::new(),
            tcp_bytes: (0, 0),
            plain_bytes: (0, 0),
        }
    }

    #[test]
    fn a_refused_backend_that_saw_more_than_probes_ends_the_show() {
        let probe = format!("{PROBE}nonce=00 HTTP/1.1");
        assert!(probes_only(&connection(&[&probe, &probe], "")));
        for (lines, more) in [
            (vec![], "\u{0}"),
            (vec![&*probe, "POST /v1/chat/completions HTTP/1.1"], ""),
            (vec![&*probe], QUESTION),
            (vec![&*probe], API_KEY),
        ] {
            assert!(!probes_only(&connection(&lines, more)), "{lines:?} {more}");
        }
    }
}
