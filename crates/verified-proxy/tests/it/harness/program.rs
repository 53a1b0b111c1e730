//! The program itself, as a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fake_tee::serve::Running;

use super::{PATIENCE, Proxy};

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
        Self::start_from(line, Stdio::null(), fake, options)
    }

    /// The same with a descriptor 0 for the line of shell.
    pub(crate) fn start_from(
        line: &str,
        stdin: Stdio,
        fake: &Running,
        options: &[(&str, &str)],
    ) -> Self {
        let mut command = Self::command(line, fake, options);
        command.stdin(stdin).stderr(Stdio::piped());
        Self::run(command)
    }

    /// What [`Program::start_in`] runs.
    pub(crate) fn command(line: &str, fake: &Running, options: &[(&str, &str)]) -> Command {
        let mut arguments = vec!["--port".to_owned(), "0".to_owned()];
        arguments.extend(crate::serve::arguments(fake));
        for (name, value) in options {
            match arguments.iter().position(|argument| argument == name) {
                Some(at) => arguments[at + 1] = (*value).to_owned(),
                None => arguments.extend([(*name).to_owned(), (*value).to_owned()]),
            }
        }
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{line} && exec \"$0\" \"$@\"")])
            .arg(env!("CARGO_BIN_EXE_verified-proxy"))
            .arg("serve")
            .args(arguments)
            .env("SSL_CERT_FILE", "/dev/null")
            .env("SSL_CERT_DIR", "/nonexistent");
        command
    }

    /// Runs it. Its log is kept if stderr is piped.
    pub(crate) fn run(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        // Closes this process's copy of what is the program's stderr.
        drop(command);
        let log = Arc::new(Mutex::new(String::new()));
        if let Some(errors) = child.stderr.take() {
            keep(errors, &log);
        }
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let address = line
            .strip_prefix("verified-proxy on http://")
            .and_then(|rest| rest.split(' ').next())
            .unwrap_or_else(|| panic!("{line}{}", log.lock().unwrap()));
        let proxy = Proxy::at(address.parse().unwrap());
        Self { child, log, proxy }
    }

    /// Runs it with a stdout of its own; it listens at `address`.
    pub(crate) fn run_at(mut command: Command, address: SocketAddr) -> Self {
        let child = command.spawn().unwrap();
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < PATIENCE, "it does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        let (log, proxy) = (Arc::default(), Proxy::at(address));
        Self { child, log, proxy }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// What it has logged, once that has these words `times`.
    pub(crate) fn log_with(&self, words: &str, times: usize) -> String {
        let began = Instant::now();
        while self.log().matches(words).count() < times {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{words} is not in {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        self.log()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([name, &id]).status();
        assert!(status.unwrap().success());
    }

    /// Ends it between two instructions.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Lets it end as a service manager does.
    pub(crate) fn terminate(&mut self) {
        self.signal("-TERM");
        self.ends_within(Duration::from_secs(60));
    }

    /// Its exit code, once it ends.
    pub(crate) fn ends_within(&mut self, limit: Duration) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(began.elapsed() < limit, "still running\n{}", self.log());
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

/// Adds to `log` what comes, in a thread.
pub(crate) fn keep(mut source: impl Read + Send + 'static, log: &Arc<Mutex<String>>) {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        let mut bytes = [0; 4_096];
        while let Ok(count @ 1..) = source.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..count]);
            log.lock().unwrap().push_str(&text);
        }
    });
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
