//! A backend that attests honestly and answers as a test says.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use fake_tee::serve::Running;
use fake_tee::{Challenge, Signing, Spec};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proxy::Config;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{DOMAIN, ca, config};

type Handler = Arc<dyn Fn(&Request<Bytes>) -> Response<Script> + Send + Sync>;

/// A TLS backend under a CA of its own that attests honestly, by `fake`'s
/// machine, and answers everything else as a test says.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
    /// One line a request, after TLS.
    pub(crate) lines: Arc<Mutex<Vec<String>>>,
    /// A request to /hang was dropped with its connection.
    pub(crate) hung_up: Arc<AtomicBool>,
    /// One line a handshake.
    pub(crate) handshakes: Arc<Mutex<Vec<String>>>,
    /// One more for each connection that is open, after TLS.
    open: Arc<()>,
    task: JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What makes a [`Scripted`] special.
pub(crate) struct Oddities {
    /// Signs handshakes with another key than the certificate's.
    pub(crate) stolen_certificate: bool,
    /// The certificate is valid from the first day of one year until that of another.
    pub(crate) years: Option<(i32, i32)>,
    /// Closes that many connections before TLS.
    pub(crate) drop_first: u64,
    /// Closes the connection after each answer.
    pub(crate) close_after_each: bool,
    /// Answers the attestation request with this status.
    pub(crate) report_status: StatusCode,
    /// Answers everything else with these bytes, and closes.
    pub(crate) raw_answer: Option<&'static str>,
}

pub(crate) const NO_ODDITIES: Oddities = Oddities {
    stolen_certificate: false,
    years: None,
    drop_first: 0,
    close_after_each: false,
    report_status: StatusCode::OK,
    raw_answer: None,
};

impl Scripted {
    pub(crate) async fn start(
        fake: &Running,
        oddities: Oddities,
        handler: impl Fn(&Request<Bytes>) -> Response<Script> + Send + Sync + 'static,
    ) -> Self {
        let mut spec: Option<Spec> = None;
        fake.change(|valid| spec = Some(valid.clone())).unwrap();
        let mut spec = spec.unwrap();
        spec.signing = Signing::ecdsa();

        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![DOMAIN.to_owned()]).unwrap();
        if let Some((first, last)) = oddities.years {
            params.not_before = rcgen::date_time_ymd(first, 1, 1);
            params.not_after = rcgen::date_time_ymd(last, 1, 1);
        }
        let certificate = params
            .signed_by(&key, &Issuer::from_params(&ca, &ca_key))
            .unwrap();
        let spki = attest::Spki::of_der(&key.subject_public_key_info());
        let signer = if oddities.stolen_certificate {
            KeyPair::generate().unwrap()
        } else {
            key
        };
        let signer = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signer.serialize_der()));
        let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&signer).unwrap();
        let certified = CertifiedKey::new(vec![certificate.der().clone()], signer);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Fixed(Arc::new(certified))));
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        tls.max_early_data_size = 1 << 14;
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));

        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let report = move |request: &Request<Bytes>| {
            let nonce = request
                .uri()
                .query()
                .unwrap()
                .split("nonce=")
                .nth(1)
                .unwrap();
            let mut challenge = Challenge {
                nonce: [0; 32],
                spki_sha256: *spki.as_bytes(),
            };
            hex::decode_to_slice(nonce.split('&').next().unwrap(), &mut challenge.nonce).unwrap();
            let built = spec.forge(&challenge).unwrap();
            let mut response = Response::new(Script::whole(built.report_bytes));
            *response.status_mut() = oddities.report_status;
            response
        };
        let report: Handler = Arc::new(report);
        let handler: Handler = Arc::new(handler);
        let seen = Arc::clone(&lines);
        let handshakes = Arc::new(Mutex::new(Vec::new()));
        let shaken = Arc::clone(&handshakes);
        let hung_up = Arc::new(AtomicBool::new(false));
        let hang_up = Arc::clone(&hung_up);
        let open = Arc::new(());
        let each_open = Arc::clone(&open);
        let task = tokio::spawn(async move {
            let mut to_drop = oddities.drop_first;
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if to_drop > 0 {
                    to_drop -= 1;
                    continue;
                }
                let (acceptor, report, handler) =
                    (acceptor.clone(), Arc::clone(&report), Arc::clone(&handler));
                let (seen, shaken, hang_up) =
                    (Arc::clone(&seen), Arc::clone(&shaken), Arc::clone(&hang_up));
                let open = Arc::clone(&each_open);
                connections.spawn(async move {
                    let _open = open;
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    {
                        let (_, tls) = stream.get_ref();
                        shaken.lock().unwrap().push(format!(
                            "{:?} {:?} {:?} {:?} {}",
                            tls.handshake_kind().unwrap(),
                            tls.protocol_version().unwrap(),
                            tls.negotiated_key_exchange_group().unwrap().name(),
                            tls.server_name().unwrap(),
                            String::from_utf8_lossy(tls.alpn_protocol().unwrap_or_default()),
                        ));
                    }
                    if let Some(raw_answer) = oddities.raw_answer {
                        answer_raw(stream, &report, raw_answer).await;
                        return;
                    }
                    let service = service_fn(async |request: Request<Incoming>| {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await?;
                        let trailers = body.trailers().cloned().unwrap_or_default();
                        let request = Request::from_parts(head, body.to_bytes());
                        let headers: Vec<_> = request
                            .headers()
                            .iter()
                            .chain(&trailers)
                            .map(|(name, value)| format!("{name}: {value:?}"))
                            .collect();
                        let line = format!(
                            "{} {} {}",
                            request.method(),
                            request.uri(),
                            headers.join("; ")
                        );
                        seen.lock().unwrap().push(line);
                        if request.uri().path() == "/hang" {
                            let _guard = Guard(Arc::clone(&hang_up));
                            std::future::pending::<()>().await;
                        }
                        Ok::<_, hyper::Error>(if request.uri().path() == "/v1/attestation/report" {
                            report(&request)
                        } else {
                            handler(&request)
                        })
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .keep_alive(!oddities.close_after_each)
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            address,
            ca_pem: ca_certificate.pem(),
            lines,
            handshakes,
            hung_up,
            open,
            task,
        }
    }

    /// What points a proxy at this backend, with `fake` as PCS and endpoint list.
    pub(crate) fn config(&self, fake: &Running) -> Config {
        Config {
            extra_ca: vec![ca(&self.ca_pem)],
            connect_to: vec![
                format!("{DOMAIN}:443:127.0.0.1:{}", self.address.port())
                    .parse()
                    .unwrap(),
            ],
            ..config(fake)
        }
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        // Two are this one's and the acceptor's.
        Arc::strong_count(&self.open) - 2
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

/// Requests without bodies, one after another, until `raw_answer` was given.
async fn answer_raw(
    mut stream: tokio_rustls::server::TlsStream<TcpStream>,
    report: &Handler,
    raw_answer: &str,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let target = head.split(' ').nth(1).unwrap();
        if !target.starts_with("/v1/attestation/report") {
            let _ = stream.write_all(raw_answer.as_bytes()).await;
            let _ = stream.shutdown().await;
            return;
        }
        let response = report(&Request::get(target).body(Bytes::new()).unwrap());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&body).await;
    }
}

/// Tells that it was dropped.
struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Shows one certificate to everybody.
#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A body in pieces that may break off, or never end.
pub(crate) struct Script {
    pieces: std::vec::IntoIter<Bytes>,
    end: End,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Before each piece, where it is not zero.
    pub(crate) pauses: std::vec::IntoIter<Duration>,
    /// Dropped with the body: tells that the connection is gone.
    pub(crate) dropped: Option<oneshot::Sender<()>>,
}

#[derive(Clone, Copy)]
pub(crate) enum End {
    Clean,
    BreaksOff,
    Never,
}

impl Script {
    pub(crate) fn new(pieces: &[&str], end: End) -> Self {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Bytes::copy_from_slice(piece.as_bytes()))
            .collect();
        Self {
            pieces: pieces.into_iter(),
            end,
            pause: None,
            pauses: Vec::new().into_iter(),
            dropped: None,
        }
    }

    pub(crate) fn whole(bytes: Vec<u8>) -> Self {
        Self {
            pieces: vec![Bytes::from(bytes)].into_iter(),
            end: End::Clean,
            pause: None,
            pauses: Vec::new().into_iter(),
            dropped: None,
        }
    }
}

impl http_body::Body for Script {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let this = self.get_mut();
        if this.pause.is_none()
            && let Some(pause) = this.pauses.next().filter(|pause| !pause.is_zero())
        {
            this.pause = Some(Box::pin(tokio::time::sleep(pause)));
        }
        if this.pieces.len() > 0
            && let Some(pause) = &mut this.pause
        {
            ready!(pause.as_mut().poll(cx));
            this.pause = None;
        }
        match (this.pieces.next(), this.end) {
            (Some(piece), _) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            (None, End::Clean) => Poll::Ready(None),
            (None, End::BreaksOff) => {
                // Not before the pieces have left.
                let pause = this
                    .pause
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(50))));
                pause
                    .as_mut()
                    .poll(cx)
                    .map(|()| Some(Err(std::io::Error::other("scripted"))))
            }
            (None, End::Never) => Poll::Pending,
        }
    }
}
