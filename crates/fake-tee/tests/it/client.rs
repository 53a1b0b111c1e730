//! A small client of the fake's ports.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use fake_tee::hash::sha256;
use fake_tee::serve::{self, Options, Running};
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const DOMAIN: &str = "fake-llama.completions.near.ai";

/// A running fake, and the folder of its files, which goes away with it.
pub(crate) struct Fake {
    running: Running,
    _dir: TempDir,
}

impl Deref for Fake {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

pub(crate) async fn fake(options: Options) -> Fake {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        dir: Some(dir.path().join("fake")),
        ..options
    };
    Fake {
        running: serve::start(options).await.unwrap(),
        _dir: dir,
    }
}

pub(crate) async fn instances(count: usize) -> Fake {
    fake(Options {
        instances: count,
        ..Options::default()
    })
    .await
}

pub(crate) fn tls_config(fake: &Running, alpn: &[&str]) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(fake.tls_ca_pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

pub(crate) async fn dial(
    fake: &Running,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(fake.backend).await?;
    TlsConnector::from(config)
        .connect(ServerName::try_from(DOMAIN).unwrap(), stream)
        .await
}

/// A connection over TLS and HTTP/1.1.
pub(crate) async fn connect(fake: &Running) -> TlsStream<TcpStream> {
    dial(fake, tls_config(fake, &["http/1.1"])).await.unwrap()
}

/// SHA-256 of the SubjectPublicKeyInfo that the handshake showed.
pub(crate) fn spki(stream: &TlsStream<TcpStream>) -> [u8; 32] {
    let certificate = &stream.get_ref().1.peer_certificates().unwrap()[0];
    // A P-256 SubjectPublicKeyInfo is 91 bytes with a prefix of its own.
    let prefix = hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
    let at = certificate
        .windows(prefix.len())
        .position(|window| window == prefix)
        .unwrap();
    sha256(&certificate[at..at + 91])
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

pub(crate) fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {DOMAIN}\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

/// One answer on a connection that stays open: Content-Length or chunked.
pub(crate) async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &[u8],
) -> std::io::Result<Answer> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut all = Vec::new();
    let end = loop {
        if let Some(end) = all.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        more(stream, &mut all).await?;
    };
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    let mut answer = Answer {
        status: head[9..12].parse().unwrap(),
        head,
        body: Vec::new(),
    };
    let mut rest = all.split_off(end + 4);
    if let Some(length) = answer.header("content-length") {
        let length = length.parse().unwrap();
        while rest.len() < length {
            more(stream, &mut rest).await?;
        }
        answer.body = rest;
    } else if answer.header("transfer-encoding").is_some() {
        loop {
            let line = loop {
                if let Some(line) = rest.windows(2).position(|window| window == b"\r\n") {
                    break line;
                }
                more(stream, &mut rest).await?;
            };
            let size = std::str::from_utf8(&rest[..line]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            while rest.len() < line + 2 + size + 2 {
                more(stream, &mut rest).await?;
            }
            answer.body.extend(&rest[line + 2..line + 2 + size]);
            rest = rest.split_off(line + 2 + size + 2);
            if size == 0 {
                break;
            }
        }
    }
    Ok(answer)
}

async fn more(stream: &mut (impl AsyncRead + Unpin), into: &mut Vec<u8>) -> std::io::Result<()> {
    match stream.read_buf(into).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

pub(crate) async fn get(fake: &Running, path: &str) -> Answer {
    let mut stream = connect(fake).await;
    ask(&mut stream, &request("GET", path, "", b""))
        .await
        .unwrap()
}

/// All that comes until the end, and whether the end was a reset.
pub(crate) async fn until_end(stream: &mut (impl AsyncRead + Unpin)) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    let end = timeout(Duration::from_secs(10), stream.read_to_end(&mut all)).await;
    let reset = end
        .expect("it ends")
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
    (all, reset)
}

/// A plain-HTTP port's answer.
pub(crate) async fn plain(
    to: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(to).await?;
    ask(&mut stream, &request(method, path, "", body.as_bytes())).await
}

pub(crate) async fn control(fake: &Running, name: &str, body: &Value) -> Value {
    let path = format!("/_fake/{name}");
    let answer = plain(fake.http, "POST", &path, &body.to_string())
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}
