//! A proxy, a client, and backends that do what a test tells them.

#![expect(
    clippy::disallowed_methods,
    reason = "tests play the client, who may dial"
)]

mod front;
mod ledger;
#[cfg(unix)]
mod program;
mod scripted;
mod state_dir;
mod wire;

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use attest::{GpuAnchors, Policy, TrustAnchors};
use bytes::Bytes;
use fake_tee::refusing;
use fake_tee::serve::{Options, Running};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use proxy::Config;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) use self::front::*;
pub(crate) use self::ledger::*;
#[cfg(unix)]
pub(crate) use self::program::*;
pub(crate) use self::scripted::*;
pub(crate) use self::state_dir::*;
pub(crate) use self::wire::*;

pub(crate) const DOMAIN: &str = "fake-llama.completions.near.ai";
pub(crate) const MODEL: &str = "fake/llama";
/// In every prompt: must never reach a backend that is not proved.
pub(crate) const CANARY: &str = "canary-5f1d9c";
/// In every credential.
pub(crate) const API_KEY: &str = "sk-secret-8a2e";

/// For a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that has to come.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Everything that this process logs, at the most talkative level.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn captured() -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            let writer = log.clone();
            tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_writer(move || writer.clone())
                .init();
            log
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An endpoint list of a test's own: its URL.
pub(crate) async fn endpoint_list(list: Value) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let body = list.to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://{address}/endpoints")
}

/// A port that nobody listens on.
pub(crate) async fn dead_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}

/// What `--host localhost` is on this machine, at `port`.
pub(crate) fn localhost(port: u16) -> Vec<SocketAddr> {
    let addresses = proxy::Host::Localhost.addresses().into_iter();
    addresses
        .filter(|ip| std::net::TcpListener::bind((*ip, 0)).is_ok())
        .map(|ip| SocketAddr::new(ip, port))
        .collect()
}

/// A fake with files of its own.
pub(crate) async fn fake_with(options: Options) -> Running {
    Log::captured();
    thread_local! {
        static COUNT: Cell<u32> = const { Cell::new(0) };
    }
    // A test's thread has its name, so that a folder is used again by the next run only.
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test").replace("::", "-");
    let name = format!("fake-{test}-{}", COUNT.replace(COUNT.get() + 1));
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fake_tee::serve::start(Options {
        dir: Some(dir),
        ..options
    })
    .await
    .unwrap()
}

pub(crate) async fn fake() -> Running {
    fake_with(Options::default()).await
}

/// The roots of the fake Intel and the fake NVIDIA.
pub(crate) fn anchors(fake: &Running) -> TrustAnchors {
    TrustAnchors::danger_tdx_root(fake.tdx_root_der.clone())
        .with_gpus(GpuAnchors::danger_gpu_root(fake.gpu_root_der.clone()))
}

/// What points a proxy at `fake`.
pub(crate) fn config(fake: &Running) -> Config {
    Config {
        extra_ca: vec![ca(&fake.tls_ca_pem)],
        connect_to: vec![fake.connect_to().parse().unwrap()],
        trust_anchors: anchors(fake),
        nras_url: fake.nras_url().parse().unwrap(),
        endpoints_url: fake.endpoints_url().parse().unwrap(),
        collateral_sources: vec![fake.http_url().parse().unwrap()],
        compose_source: fake.compose_files_url().parse().unwrap(),
        compose_tags_source: fake.compose_tags_url().parse().unwrap(),
        max_body: 1 << 20,
        attest_timeout: Duration::from_secs(20),
        ..Config::new(Policy::from_toml(&refusing(&fake.policy_toml, "")).unwrap())
    }
}

pub(crate) fn ca(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// A running proxy. Dropping it ends it.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(crate) async fn start(config: Config) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            proxy::run(config, listener, shutdown).await.unwrap();
        });
        Self {
            address,
            stop: Some(stop),
            task,
        }
    }

    /// What a client sees of a proxy that runs elsewhere.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self {
            address,
            stop: None,
            task: tokio::spawn(async {}),
        }
    }

    pub(crate) async fn in_front_of(fake: &Running) -> Self {
        Self::start(config(fake)).await
    }

    /// Sends a request on a connection of its own; the body is not read yet.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    }

    pub(crate) async fn request(&self, request: Request<Full<Bytes>>) -> Answer {
        let (head, body) = self.send(request).await.into_parts();
        Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let request = Request::get(path).header("host", "localhost");
        self.request(request.body(Full::default()).unwrap()).await
    }

    /// A prompt with the canary, with credentials.
    pub(crate) async fn chat(&self) -> Answer {
        self.request(chat_request(false)).await
    }

    /// What bytes, written as they are, are answered with until the proxy closes.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(3), stream.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

pub(crate) fn chat_request(stream: bool) -> Request<Full<Bytes>> {
    let body = json!({
        "model": MODEL,
        "stream": stream,
        "messages": [{"role": "user", "content": format!("please repeat {CANARY}")}],
    });
    Request::post("/v1/chat/completions")
        .header("host", "localhost:8080")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {API_KEY}"))
        .body(Full::from(body.to_string()))
        .unwrap()
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// `error.code`, which the verdict header has to repeat.
    pub(crate) fn code(&self) -> String {
        let json = self.json();
        let code = json["error"]["code"].as_str().unwrap().to_owned();
        assert_eq!(
            self.header("x-verified-proxy-verdict"),
            format!("none; {code}")
        );
        code
    }

    pub(crate) fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }
}

/// What a backend got was attestation requests, nothing of a client.
pub(crate) fn assert_only_probes(received: &[fake_tee::serve::Connection]) {
    for connection in received {
        let text = String::from_utf8_lossy(&connection.bytes);
        // A key that was refused a moment ago gets not even that.
        for probe in text.split_inclusive("\r\n\r\n") {
            assert_probe_only(probe);
        }
        for line in &connection.request_lines {
            assert!(line.starts_with("GET /v1/attestation/report?"), "{line}");
        }
    }
}

/// Exactly one request, with exactly these headers.
pub(crate) fn assert_probe_only(bytes: &str) {
    let mut lines = bytes.split("\r\n");
    let target = lines.next().unwrap();
    let of = |algo: &str| format!("GET /v1/attestation/report?signing_algo={algo}&nonce=");
    assert!(
        target.starts_with(&of("ecdsa")) || target.starts_with(&of("ed25519")),
        "{target}"
    );
    assert!(
        target.ends_with("&include_tls_fingerprint=true HTTP/1.1"),
        "{target}"
    );
    let mut headers: Vec<_> = lines.collect();
    headers.sort_unstable();
    let agent = concat!("user-agent: verified-proxy/", env!("CARGO_PKG_VERSION"));
    let host = format!("host: {DOMAIN}");
    let expected = [
        "",
        "",
        "accept-encoding: identity",
        "accept: application/json",
        &host,
        agent,
    ];
    assert_eq!(headers, expected);
}

pub(crate) fn probes(received: &[fake_tee::serve::Connection]) -> usize {
    let lines = received
        .iter()
        .flat_map(|connection| &connection.request_lines);
    lines
        .filter(|line| line.contains("/v1/attestation/report"))
        .count()
}
