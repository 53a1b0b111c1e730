//! The program, run to its end in front of a fake.

use std::process::{Command, Output};

use fake_tee::serve::Running;
use serde_json::Value;

/// Exit code, standard output, standard error.
#[derive(Debug)]
pub(crate) struct Said(pub(crate) Option<i32>, pub(crate) String, pub(crate) String);

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.1).unwrap_or_else(|_| panic!("{}{}", self.1, self.2))
    }
}

/// The program without what the tests' own environment would tell it, and
/// without the system's certificate authorities.
pub(crate) fn program(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env("SSL_CERT_FILE", "/dev/null")
        .env("SSL_CERT_DIR", "/nonexistent");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    for name in ["OPENAI_BASE_URL", "VERIFIED_PROXY_API_KEY"] {
        command.env_remove(name);
    }
    command
}

/// Later options win where they name one of [`crate::serve::arguments`] again.
pub(crate) fn arguments(fake: &Running, more: &[&str]) -> Vec<String> {
    let mut arguments = crate::serve::arguments(fake);
    for pair in more.windows(2).filter(|pair| pair[0].starts_with("--")) {
        if let Some(at) = arguments.iter().position(|name| name == pair[0]) {
            arguments.drain(at..at + 2);
        }
    }
    arguments.extend(more.iter().map(|&text| text.to_owned()));
    arguments
}

pub(crate) async fn run(mut command: Command) -> Said {
    let run = move || command.output().unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = tokio::task::spawn_blocking(run).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said(status.code(), text(stdout), text(stderr))
}

/// `verified-proxy NAME` with what points it at `fake`, and `more`.
pub(crate) async fn command(fake: &Running, name: &str, more: &[&str]) -> Said {
    let mut command = program(env!("CARGO_BIN_EXE_verified-proxy"));
    command.arg(name).args(arguments(fake, more));
    run(command).await
}
