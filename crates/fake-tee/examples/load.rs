//! The load of `bench/run`: one request again and again on some connections,
//! each of which sends the next one when its answer has ended.
//!
//! Every answer is looked at: its status, the length of its body, and a header
//! that it has to have. One that is not as expected ends the run.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a load goes to loopback and reports to bench/run"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Load and backend share a core in bench/run, and must not be what limits.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Of an answer's head.
const MAX_HEAD: usize = 64 << 10;
/// Read at a time.
const BUFFER: usize = 64 << 10;
/// For a connection, and beyond the end for answers that are on their way.
const PATIENCE: Duration = Duration::from_secs(20);

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Parser)]
struct Arguments {
    /// HOST:PORT
    #[arg(long)]
    to: String,
    /// A file with the request, byte by byte
    #[arg(long)]
    request: PathBuf,
    /// Bytes in the body of each answer
    #[arg(long)]
    length: u64,
    /// A header that each answer has to have, in small letters
    #[arg(long)]
    header: Option<String>,
    /// Speak TLS to this name
    #[arg(long, requires = "ca")]
    name: Option<String>,
    /// The authority that vouches for it, PEM
    #[arg(long)]
    ca: Option<PathBuf>,
    #[arg(long)]
    connections: usize,
    /// Before measuring begins
    #[arg(long)]
    warm_up: f64,
    #[arg(long)]
    seconds: f64,
}

/// What every connection does.
#[derive(Debug)]
struct Plan {
    request: Vec<u8>,
    length: u64,
    header: Option<String>,
    begin: Instant,
    end: Instant,
}

/// What one connection saw.
#[derive(Debug, Default)]
struct Seen {
    /// All answers, also those before measuring began and the last one.
    answers: u64,
    /// Of those that ended in time.
    latencies: Vec<Duration>,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(run(Arguments::parse())));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("load: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let tls = match (&arguments.name, &arguments.ca) {
        (Some(name), Some(ca)) => Some((connector(ca)?, ServerName::try_from(name.clone())?)),
        _ => None,
    };
    let begin = Instant::now() + Duration::from_secs_f64(arguments.warm_up);
    let plan = Arc::new(Plan {
        request: std::fs::read(&arguments.request)?,
        length: arguments.length,
        header: arguments.header,
        begin,
        end: begin + Duration::from_secs_f64(arguments.seconds),
    });
    let mut connections = JoinSet::new();
    for _ in 0..arguments.connections {
        let (plan, tls, to) = (plan.clone(), tls.clone(), arguments.to.clone());
        connections.spawn(async move {
            let tcp = timeout(PATIENCE, TcpStream::connect(to)).await??;
            tcp.set_nodelay(true)?;
            match tls {
                None => drive(tcp, &plan).await,
                Some((connector, name)) => {
                    let tls = timeout(PATIENCE, connector.connect(name, tcp)).await??;
                    drive(tls, &plan).await
                }
            }
        });
    }
    let mut all = Seen::default();
    while let Some(seen) = connections.join_next().await {
        let seen = seen??;
        all.answers += seen.answers;
        all.latencies.extend(seen.latencies);
    }
    all.latencies.sort_unstable();
    let percentile = |part: usize| {
        let at = all.latencies.len() * part / 100;
        all.latencies.get(at).map_or(0.0, Duration::as_secs_f64)
    };
    let measured = json!({
        "answers": all.answers,
        "rate": all.latencies.len() as f64 / arguments.seconds,
        "p50": percentile(50),
        "p99": percentile(99),
    });
    println!("{measured}");
    Ok(())
}

fn connector(ca: &Path) -> Result<TlsConnector, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn drive<S>(stream: S, plan: &Plan) -> Result<Seen, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut seen = Seen::default();
    let mut answers = Answers {
        stream,
        buffer: vec![0; BUFFER],
        unread: 0..0,
    };
    loop {
        let asked = Instant::now();
        if asked >= plan.end {
            return Ok(seen);
        }
        answers.stream.write_all(&plan.request).await?;
        answers.stream.flush().await?;
        timeout(plan.end - asked + PATIENCE, answers.next(plan)).await??;
        let ended = Instant::now();
        seen.answers += 1;
        if (plan.begin..plan.end).contains(&ended) {
            seen.latencies.push(ended - asked);
        }
    }
}

/// The answers on a connection, one after another.
struct Answers<S> {
    stream: S,
    buffer: Vec<u8>,
    /// Of the buffer.
    unread: std::ops::Range<usize>,
}

enum Framing {
    Length(u64),
    Chunked,
}

impl<S: AsyncRead + Unpin> Answers<S> {
    /// Reads one to its end.
    async fn next(&mut self, plan: &Plan) -> Result<(), Failure> {
        let mut length = 0;
        match self.head(plan).await? {
            Framing::Length(said) => {
                self.skip(said).await?;
                length = said;
            }
            Framing::Chunked => loop {
                let line = self.line().await?;
                let size = u64::from_str_radix(&line, 16)?;
                self.skip(size).await?;
                if !self.line().await?.is_empty() {
                    return Err("no line ends the chunk".into());
                }
                if size == 0 {
                    break;
                }
                length += size;
            },
        }
        if length != plan.length {
            return Err(format!("a body of {length} bytes, expected {}", plan.length).into());
        }
        Ok(())
    }

    async fn head(&mut self, plan: &Plan) -> Result<Framing, Failure> {
        let status = self.line().await?;
        if !status.starts_with("HTTP/1.1 200 ") {
            return Err(format!("an answer that begins {status:?}").into());
        }
        let mut framing = None;
        let mut has_header = plan.header.is_none();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            if name.eq_ignore_ascii_case("content-length") {
                framing = Some(Framing::Length(value.trim().parse()?));
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                framing = Some(Framing::Chunked);
            }
            has_header |= plan
                .header
                .as_ref()
                .is_some_and(|wanted| name.eq_ignore_ascii_case(wanted));
        }
        if !has_header {
            return Err(format!("an answer without {:?}", plan.header).into());
        }
        framing.ok_or_else(|| "an answer without a length".into())
    }

    /// The next line, without its end.
    async fn line(&mut self) -> Result<String, Failure> {
        let mut line = Vec::new();
        loop {
            let unread = self.unread().await?;
            let end = unread.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(unread.len(), |end| end + 1);
            line.extend_from_slice(&unread[..taken]);
            self.unread.start += taken;
            if end.is_some() {
                let line = line.strip_suffix(b"\r\n").ok_or("a line without CR LF")?;
                return Ok(std::str::from_utf8(line)?.to_owned());
            }
            if line.len() > MAX_HEAD {
                return Err("a line without end".into());
            }
        }
    }

    async fn skip(&mut self, mut count: u64) -> Result<(), Failure> {
        while count > 0 {
            let here = self.unread().await?.len().min(count.try_into()?);
            self.unread.start += here;
            count -= here as u64;
        }
        Ok(())
    }

    /// What was read and not looked at, which is never nothing.
    async fn unread(&mut self) -> Result<&[u8], Failure> {
        if self.unread.is_empty() {
            let read = self.stream.read(&mut self.buffer).await?;
            if read == 0 {
                return Err("the connection ended in the middle".into());
            }
            self.unread = 0..read;
        }
        Ok(&self.buffer[self.unread.clone()])
    }
}
