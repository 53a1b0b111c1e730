//! The service on loopback: PCS, endpoint list, backend, record of bytes, controls.
#![allow(
    clippy::disallowed_methods,
    reason = "a test client for the fake's own ports"
)]

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use dcap_qvl::QuoteCollateralV3;
use fake_tee::serve::{self, Options, Running, unix_now};
use fake_tee::tamper::TAMPERINGS;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::dcap::verify_quote;

const DOMAIN: &str = "fake-llama.completions.near.ai";

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> String {
        self.head
            .lines()
            .find_map(|line| {
                let (key, value) = line.split_once(": ")?;
                key.eq_ignore_ascii_case(name).then(|| value.to_owned())
            })
            .unwrap_or_else(|| panic!("no header {name}"))
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> Answer {
    stream.write_all(request).await.unwrap();
    let mut all = Vec::new();
    // A server that closes without close_notify ends the answer as well.
    let _ = stream.read_to_end(&mut all).await;
    let end = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    Answer {
        status: head[9..12].parse().unwrap(),
        head,
        body: all[end + 4..].to_vec(),
    }
}

fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: {DOMAIN}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn plain(to: SocketAddr, method: &str, path: &str, body: &str) -> Answer {
    let stream = TcpStream::connect(to).await.unwrap();
    exchange(stream, &request(method, path, body)).await
}

async fn tls(fake: &Running, method: &str, path: &str, body: &str) -> Answer {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(fake.tls_ca_pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(fake.backend).await.unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from(DOMAIN).unwrap(), stream)
        .await
        .unwrap();
    exchange(stream, &request(method, path, body)).await
}

/// A running fake, and the folder of its files, which goes away with it.
struct Fake {
    running: Running,
    _dir: TempDir,
}

impl Deref for Fake {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

async fn start(pccs: bool) -> Fake {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        dir: Some(dir.path().join("fake")),
        pccs,
        ..Options::default()
    };
    Fake {
        running: serve::start(options).await.unwrap(),
        _dir: dir,
    }
}

fn percent_decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        out.push(char::from(u8::from_str_radix(&part[..2], 16).unwrap()));
        out.push_str(&part[2..]);
    }
    out
}

/// The object under `name`, byte for byte, and the signature after it.
fn signed<'a>(body: &'a str, name: &str) -> (&'a str, Vec<u8>) {
    let rest = body.strip_prefix(&format!("{{\"{name}\":")).unwrap();
    let (text, signature) = rest.rsplit_once(",\"signature\":\"").unwrap();
    (
        text,
        hex::decode(signature.trim_end_matches("\"}")).unwrap(),
    )
}

#[tokio::test]
async fn what_the_pcs_says_verifies_what_the_backend_reports() {
    let fake = start(false).await;
    let get = async |path: &str| plain(fake.http, "GET", path, "").await;

    let tcb = get("/tdx/certification/v4/tcb?fmspc=FA4E6F000000&update=standard").await;
    let qe = get("/tdx/certification/v4/qe/identity").await;
    let pck_crl = get("/sgx/certification/v4/pckcrl?ca=platform&encoding=der").await;
    let no_root_crl = get("/sgx/certification/v4/rootcacrl").await;
    assert_eq!(no_root_crl.status, 404);
    assert_eq!(get("/tdx/certification/v4/tcb?fmspc=00").await.status, 404);
    // As a client of Intel's PCS does: by the URL in the root certificate.
    let url = fake.http_url();
    let at = fake
        .tdx_root_der
        .windows(url.len())
        .position(|w| w == url.as_bytes())
        .expect("the root certificate has the URL");
    assert!(fake.tdx_root_der[at + url.len()..].starts_with(b"/content/FakeSGXRootCA.der"));
    let root_crl = get("/content/FakeSGXRootCA.der").await;

    let tcb_body = String::from_utf8(tcb.body.clone()).unwrap();
    let (tcb_info, tcb_info_signature) = signed(&tcb_body, "tcbInfo");
    let qe_body = String::from_utf8(qe.body.clone()).unwrap();
    let (qe_identity, qe_identity_signature) = signed(&qe_body, "enclaveIdentity");
    let collateral = QuoteCollateralV3 {
        pck_crl_issuer_chain: percent_decoded(&pck_crl.header("SGX-PCK-CRL-Issuer-Chain")),
        root_ca_crl: root_crl.body,
        pck_crl: pck_crl.body.clone(),
        tcb_info_issuer_chain: percent_decoded(&tcb.header("TCB-Info-Issuer-Chain")),
        tcb_info: tcb_info.to_owned(),
        tcb_info_signature,
        qe_identity_issuer_chain: percent_decoded(&qe.header("SGX-Enclave-Identity-Issuer-Chain")),
        qe_identity: qe_identity.to_owned(),
        qe_identity_signature,
        pck_certificate_chain: None,
    };
    let report = tls(
        &fake,
        "GET",
        "/v1/attestation/report?include_tls_fingerprint=true",
        "",
    )
    .await
    .json();
    assert_eq!(
        report["tls_cert_fingerprint"],
        hex::encode(fake.spki_sha256())
    );
    let quote = hex::decode(report["intel_quote"].as_str().unwrap()).unwrap();
    let verified = verify_quote(&quote, &collateral, &fake.tdx_root_der, unix_now()).unwrap();
    assert_eq!(verified.status, "UpToDate");
}

#[tokio::test]
async fn a_pccs_has_the_root_crl() {
    let fake = start(true).await;
    let answer = plain(fake.http, "GET", "/sgx/certification/v4/rootcacrl", "").await;
    let der = plain(fake.http, "GET", "/content/FakeSGXRootCA.der", "").await;
    assert_eq!(hex::decode(answer.body).unwrap(), der.body);
}

#[tokio::test]
async fn report_errors_are_those_of_a_backend() {
    let fake = start(false).await;
    for (query, status, part) in [
        ("nonce=xy", 400, "Nonce must be hex-encoded"),
        ("nonce=abcd", 400, "Nonce must be 32 bytes"),
        ("signing_algo=rsa", 400, "Invalid signing algorithm"),
        ("include_tls_fingerprint=1", 400, "true"),
        ("signing_address=00", 404, "Signing address not found"),
    ] {
        let answer = tls(&fake, "GET", &format!("/v1/attestation/report?{query}"), "").await;
        assert_eq!(answer.status, status, "{query}");
        assert!(
            String::from_utf8_lossy(&answer.body).contains(part),
            "{query}"
        );
    }
    let report = tls(&fake, "GET", "/v1/attestation/report", "").await.json();
    assert_eq!(report["signing_algo"], "ecdsa");
    assert!(report.get("tls_cert_fingerprint").is_none());
}

#[tokio::test]
async fn every_byte_is_recorded() {
    let fake = start(false).await;
    let body = json!({"model": "fake/llama", "stream": true,
        "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "one two"}]})
    .to_string();
    let answer = tls(&fake, "POST", "/v1/chat/completions", &body).await;
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.contains(r#""content":" one""#), "{text}");
    assert!(text.contains(r#""usage":"#));
    assert!(text.contains("data: [DONE]\n\n"));

    let received = fake.received();
    assert_eq!(received.len(), 1);
    assert_eq!(
        received[0].bytes,
        request("POST", "/v1/chat/completions", &body)
    );
    let control = plain(fake.http, "GET", "/_fake/received", "").await.json();
    assert_eq!(
        control[0]["request_lines"],
        json!(["POST /v1/chat/completions HTTP/1.1"])
    );
    assert!(control[0]["bytes"].as_str().unwrap().ends_with(&body));
    plain(fake.http, "POST", "/_fake/clear", "").await;
    assert!(fake.received().iter().all(|c| c.bytes.is_empty()));
}

#[tokio::test]
async fn answers_have_openais_shape() {
    let fake = start(false).await;
    let body = json!({"model": "fake/llama",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a b"}]}]})
    .to_string();
    let answer = tls(&fake, "POST", "/v1/chat/completions", &body)
        .await
        .json();
    assert_eq!(answer["choices"][0]["message"]["content"], "You said: a b");
    assert_eq!(answer["usage"]["total_tokens"], 6);
    let models = tls(&fake, "GET", "/v1/models", "").await.json();
    assert_eq!(models["data"][0]["id"], "fake/llama");
    let list = plain(fake.http, "GET", "/endpoints", "").await.json();
    assert_eq!(
        list,
        json!({"endpoints": [{"domain": DOMAIN, "models": ["fake/llama"]}]})
    );
    assert_eq!(tls(&fake, "GET", "/other", "").await.status, 404);
}

#[tokio::test]
async fn other_dialects_repeat_the_prompt_as_well() {
    let fake = start(false).await;
    let messages = json!([{"role": "user", "content": "a b"}]);
    let ask = async |path: &str, more: Value| {
        let mut body = json!({"model": "fake/llama"});
        let fields = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        tls(&fake, "POST", path, &body.to_string()).await
    };
    let message = ask("/v1/messages", json!({"messages": messages})).await;
    assert_eq!(message.json()["content"][0]["text"], "You said: a b");
    let stream = ask(
        "/v1/messages",
        json!({"messages": messages, "stream": true}),
    );
    let stream = String::from_utf8(stream.await.body).unwrap();
    assert!(stream.contains("event: message_stop\ndata: {"), "{stream}");

    let response = ask("/v1/responses", json!({"input": "a b"})).await;
    assert_eq!(
        response.json()["output"][0]["content"][0]["text"],
        "You said: a b"
    );
    let image = ask("/v1/images/generations", json!({"prompt": "a"})).await;
    let image = image.json()["data"][0]["b64_json"].clone();
    assert!(image.as_str().unwrap().starts_with("iVBORw0KGgo"));

    let tools = json!([{"type": "function", "function": {"name": "look"}}]);
    let call = ask(
        "/v1/chat/completions",
        json!({"messages": messages, "tools": tools}),
    );
    let call = call.await.json();
    assert_eq!(call["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(
        call["choices"][0]["message"]["tool_calls"][0]["function"],
        json!({"name": "look", "arguments": r#"{"text":"a b"}"#})
    );

    let numbers = ask("/v1/embeddings", json!({"input": "a"})).await.json();
    let base64 = ask(
        "/v1/embeddings",
        json!({"input": "a", "encoding_format": "base64"}),
    );
    assert!(numbers["data"][0]["embedding"].is_array());
    let base64 = base64.await.json()["data"][0]["embedding"].clone();
    assert_eq!(base64.as_str().unwrap().len(), 44);
}

#[tokio::test]
async fn every_tampering_can_be_switched_on() {
    let fake = start(false).await;
    for tampering in TAMPERINGS {
        let body = json!({"name": tampering.name}).to_string();
        let answer = plain(fake.http, "POST", "/_fake/tamper", &body).await;
        assert_eq!(answer.status, 200, "{}", tampering.name);
        let path = "/v1/attestation/report?include_tls_fingerprint=true";
        assert_eq!(tls(&fake, "GET", path, "").await.status, 200);
    }
    let unknown = plain(fake.http, "POST", "/_fake/tamper", r#"{"name":"x"}"#).await;
    assert_eq!(unknown.status, 400);
    fake.change(|spec| spec.model_name = "another".to_owned())
        .unwrap();
    let report = tls(&fake, "GET", "/v1/attestation/report", "").await.json();
    assert_eq!(report["model_name"], "another");
}
