//! What holds for every text, and what hostile texts cost.

use std::time::{Duration, Instant};

use attest::{ComposeDocument, FileRules, VmConfig, app_compose_findings, judge_compose};
use proptest::prelude::*;

use super::deployed;
use crate::support::cases;

fn printable(text: &str) {
    assert!(text.len() < 20_000, "{} bytes", text.len());
    assert!(text.chars().all(|c| (' '..='~').contains(&c)), "{text:?}");
}

/// Reads a text in every way there is; gives the code of the file's refusal.
fn judge_all(bytes: &[u8]) -> &'static str {
    let judged = ComposeDocument::read("f", bytes)
        .and_then(|document| judge_compose(&document, &FileRules::default()));
    let code = match judged {
        Ok(findings) => {
            findings
                .iter()
                .for_each(|finding| printable(&finding.detail));
            "accepted"
        }
        Err(rejected) => {
            printable(&rejected.to_string());
            rejected.code()
        }
    };
    if let Ok(text) = std::str::from_utf8(bytes) {
        let app = serde_json::json!({ "docker_compose_file": text }).to_string();
        for finding in app_compose_findings(&app) {
            printable(&finding.detail);
        }
        for finding in app_compose_findings(text) {
            printable(&finding.detail);
        }
        if let Some(config) = VmConfig::read(text) {
            printable(&config.to_string());
        }
    }
    code
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        judge_all(&bytes);
    }

    #[test]
    fn any_yaml_like_text_is_read_or_refused(
        text in "(services|volumes|x-a|image|a|b|<<|[-?:\\[\\]{}&*!|>'\"#%@ ,$~\n]|: |- |\n  ){0,60}",
    ) {
        judge_all(text.as_bytes());
    }

    /// One byte of a deployed file changed: whatever comes of it, no panic.
    #[test]
    fn any_byte_may_change(at in any::<prop::sample::Index>(), byte in 0_u8..128) {
        let mut bytes = deployed().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        judge_all(&bytes);
    }

    /// No line can be left out of a file in a way that hides a socket.
    #[test]
    fn a_socket_is_found_without_any_other_line(line in any::<prop::sample::Index>()) {
        let text = super::with("registrar", "volumes: [/var/run/docker.sock:/d]");
        let mut lines: Vec<&str> = text.lines().collect();
        let at = line.index(lines.len());
        prop_assume!(!lines[at].contains("docker.sock"));
        lines.remove(at);
        prop_assert_ne!(judge_all(lines.join("\n").as_bytes()), "accepted");
    }
}

const KIB_256: usize = 256 * 1024;

fn repeated(head: &str, unit: &str) -> String {
    let units = (KIB_256 - head.len()) / unit.len();
    format!("{head}{}", unit.repeat(units))
}

/// Every alias names the list before it, ten times.
fn bomb(levels: usize) -> String {
    (1..=levels).fold("x-0: &a0 [lol]\n".to_owned(), |text, level| {
        let before = format!("*a{}, ", level - 1).repeat(10);
        format!("{text}x-{level}: &a{level} [{before}]\n")
    })
}

#[test]
fn limits_have_their_codes() {
    const COMPLEX: &str = "evidence_compose_too_complex";
    let deep = |depth: usize| format!("x-a: {}{}\n", "[".repeat(depth), "]".repeat(depth));
    for (text, code) in [
        (" ".repeat(KIB_256 + 1), "evidence_compose_too_large"),
        (bomb(9), COMPLEX),
        (
            format!("{}x-z: {{<<: *a}}\n", bomb(7).replace("[lol]", "{k: lol}")),
            COMPLEX,
        ),
        (repeated("x-a: [", "a,"), COMPLEX),
        (repeated("", "[") + "\n", "evidence_compose_too_large"),
        (repeated("", "["), "evidence_compose_syntax"),
        (deep(32), COMPLEX),
        // A long text, often.
        (
            format!(
                "x-a: &a {}\nx-b: [{}]\n",
                "a".repeat(100_000),
                "*a, ".repeat(100)
            ),
            COMPLEX,
        ),
    ] {
        let start: String = text.chars().take(60).collect();
        assert_eq!(judge_all(text.as_bytes()), code, "{start}");
    }
    let file = format!("{}{}", deep(30), deployed());
    assert_eq!(judge_all(file.as_bytes()), "accepted");
}

/// Far above what an optimised build needs: a test for hangs, not for speed.
#[test]
fn hostile_texts_end() {
    let units = [
        "[",
        "{",
        "- ",
        "? ",
        "a: ",
        "[a,",
        "{a: ",
        "\"",
        "'",
        "&a ",
        "*a ",
        "#\n",
        "\n",
        " ",
        "- a\n",
        "'a' ",
        "|\n",
        "a: |\n b\n",
        "[a: ",
        "? a\n",
        "---\n",
        "&a a: *a\n",
        "{\"a\":",
        "- &a b\n",
        "a,",
        "<<: ",
        "a:\n ",
        "$",
        "://a",
        "\u{e9}",
    ];
    for head in [
        "",
        "[",
        "x-a: &a [",
        "services: {a: {command: \"",
        "services: {a: {image: \"",
    ] {
        for unit in units {
            let text = repeated(head, unit);
            let start = Instant::now();
            judge_all(text.as_bytes());
            judge_all(format!("{text}\"}}}}").as_bytes());
            let took = start.elapsed();
            assert!(took < Duration::from_secs(5), "{head}{unit:?}: {took:?}");
        }
    }
}
