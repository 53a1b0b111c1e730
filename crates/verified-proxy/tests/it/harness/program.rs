//! The program itself, as a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fake_tee::serve::Running;

use super::Proxy;

/// `verified-proxy serve`, killed in the end.
pub(crate) struct Program {
    child: Child,
    log: Arc<Mutex<String>>,
    /// What a client sees of it.
    pub(crate) proxy: Proxy,
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Program {
    /// In front of `fake`, with more options, or others.
    pub(crate) fn start(fake: &Running, options: &[(&str, &str)]) -> Self {
        Self::start_in(":", fake, options)
    }

    /// The same after a line of shell, for limits.
    pub(crate) fn start_in(line: &str, fake: &Running, options: &[(&str, &str)]) -> Self {
        let mut arguments = crate::serve::arguments(fake);
        for (name, value) in options {
            match arguments.iter().position(|argument| argument == name) {
                Some(at) => arguments[at + 1] = (*value).to_owned(),
                None => arguments.extend([(*name).to_owned(), (*value).to_owned()]),
            }
        }
        let mut child = Command::new("sh")
            .args(["-c", &format!("{line} && exec \"$0\" \"$@\"")])
            .arg(env!("CARGO_BIN_EXE_verified-proxy"))
            .args(["serve", "--port", "0"])
            .args(arguments)
            .env("SSL_CERT_FILE", "/dev/null")
            .env("SSL_CERT_DIR", "/nonexistent")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (written, mut errors) = (Arc::clone(&log), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(count @ 1..) = errors.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]);
                written.lock().unwrap().push_str(&text);
            }
        });
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let address = line
            .strip_prefix("verified-proxy on http://")
            .and_then(|rest| rest.split(' ').next())
            .unwrap_or_else(|| panic!("{line}{}", log.lock().unwrap()));
        let proxy = Proxy {
            address: address.parse().unwrap(),
            stop: None,
            task: tokio::spawn(async {}),
        };
        Self { child, log, proxy }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Ends it between two instructions.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Lets it end as a service manager does.
    pub(crate) fn terminate(&mut self) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-TERM", &id]).status();
        assert!(status.unwrap().success());
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(60), "still running");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the system lets it have, as `/proc` says.
    #[cfg(target_os = "linux")]
    pub(crate) fn limits(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/limits", self.child.id())).unwrap()
    }

    /// Resident memory, in bytes.
    #[cfg(target_os = "linux")]
    pub(crate) fn resident(&self) -> u64 {
        resident(&self.child.id().to_string())
    }
}

/// Resident memory of a process, in bytes.
#[cfg(target_os = "linux")]
pub(crate) fn resident(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kibibytes << 10
}
