//! The only way to connect to backends: TCP, TLS, and HTTP/1.1 over it. The result is a
//! [`Link`], which is unproved.

use std::sync::Arc;
use std::time::Duration;

use attest::Spki;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};
use sources::backend::{BACKEND_PORT, Backend};
use sources::net::{
    ConnectError, LookupCounts, MAX_HTTP_BUFFER, Network, Route, Stream, TunnelError,
};
use sources::tls::{self, TlsSetupError};
use sources::webpki::WebPki;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::path::backend_io::BackendIo;
use crate::path::request::Link;
use crate::settings::UpstreamSettings;

/// Why a connection to a backend failed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("no connection: {0}")]
    Connect(#[source] std::io::Error),
    /// It names the proxy without its credentials.
    #[error("no connection: the outgoing proxy {proxy}: {error}")]
    Proxy { proxy: String, error: TunnelError },
    /// With the circumstances of the connection.
    #[error("could not connect within {} s{}", .0.as_secs(), .1)]
    Timeout(Duration, String),
    #[error("the certificate is not accepted: {0}")]
    Certificate(#[source] rustls::Error),
    #[error("the server does not hold the key of the certificate it shows")]
    KeyNotHeld,
    #[error("no TLS: {0}")]
    Tls(#[source] std::io::Error),
    #[error("no HTTP: {0}")]
    Http(#[from] hyper::Error),
}

impl DialError {
    /// True if the process or the system has no free file descriptor.
    pub(in crate::path) fn lacks_descriptors(&self) -> bool {
        // The numbers of EMFILE and ENFILE on Linux, macOS and the BSDs.
        const NO_DESCRIPTORS: [i32; 2] = [24, 23];
        matches!(self, Self::Connect(error)
            if error.raw_os_error().is_some_and(|number| NO_DESCRIPTORS.contains(&number)))
    }

    /// True if the backend's certificate is not valid at the time that this machine's clock
    /// shows.
    pub fn is_about_time(&self) -> bool {
        matches!(self, Self::Certificate(error) if tls::is_about_time(error))
    }
}

impl From<ConnectError> for DialError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Direct(error) => Self::Connect(error),
            ConnectError::Tunnel { proxy, error } => Self::Proxy { proxy, error },
        }
    }
}

/// Dials backends.
#[derive(Debug)]
pub struct Dialer {
    tls: Arc<ClientConfig>,
    network: Network,
    settings: Arc<UpstreamSettings>,
}

impl Dialer {
    /// `webpki` is used only if `mode` requires it.
    pub fn new(
        mode: WebPki,
        webpki: Arc<WebPkiServerVerifier>,
        network: Network,
        settings: Arc<UpstreamSettings>,
    ) -> Result<Self, TlsSetupError> {
        let verifier = BackendVerifier {
            chain: match mode {
                WebPki::Require => Chain::Required(webpki),
                WebPki::Off => Chain::NotRequired,
            },
            algorithms: tls::provider().signature_verification_algorithms,
        };
        Ok(Self {
            tls: Arc::new(tls::client_config(Arc::new(verifier))?),
            network,
            settings,
        })
    }

    /// A new connection, on which only the TLS handshake has taken place.
    pub(in crate::path) async fn dial(&self, backend: &Backend) -> Result<Link, DialError> {
        let limit = self.settings.timeouts.connect;
        let domain = backend.domain().as_str();
        let route = self.network.routes().route(domain, BACKEND_PORT);
        match tokio::time::timeout(limit, self.connect(domain, &route)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(DialError::Timeout(
                limit,
                self.network.circumstances(&route),
            )),
        }
    }

    /// The lookups of names under way.
    pub(in crate::path) fn lookups(&self) -> LookupCounts {
        self.network.lookups()
    }

    async fn connect(&self, domain: &str, route: &Route<'_>) -> Result<Link, DialError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one door to backends; what it opens is unproved"
        )]
        let stream = self.network.connect(route).await?;
        let name = ServerName::try_from(domain.to_owned())
            .map_err(|error| DialError::Connect(std::io::Error::other(error)))?;
        #[expect(clippy::disallowed_methods, reason = "as above")]
        let tls = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, stream)
            .await
            .map_err(classify)?;
        over(tls).await
    }
}

/// HTTP/1.1 over a TLS session. The SPKI is read by the parser that checked the handshake's
/// signature, so the key that signed is the key that is hashed.
async fn over(tls: TlsStream<Stream>) -> Result<Link, DialError> {
    let spki = {
        let (_, session) = tls.get_ref();
        let no_certificate = || DialError::Certificate(rustls::Error::NoCertificatesPresented);
        let leaf = session
            .peer_certificates()
            .and_then(<[CertificateDer<'_>]>::first)
            .ok_or_else(no_certificate)?;
        let parsed = ParsedCertificate::try_from(leaf).map_err(DialError::Certificate)?;
        Spki::of_der(&parsed.subject_public_key_info())
    };
    #[expect(clippy::disallowed_methods, reason = "as in connect")]
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HTTP_BUFFER)
        .handshake(TokioIo::new(BackendIo::new(tls)))
        .await?;
    Ok(Link::new(spki, sender, connection))
}

/// Tells rustls's errors apart, which come wrapped in an I/O error.
fn classify(error: std::io::Error) -> DialError {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other))))
            if other.is::<KeyNotHeld>() =>
        {
            DialError::KeyNotHeld
        }
        Some(rustls::Error::InvalidCertificate(certificate)) => {
            DialError::Certificate(few_names(certificate.clone()).into())
        }
        _ => DialError::Tls(error),
    }
}

/// An unproved certificate may list thousands of names, which would all be printed.
fn few_names(error: CertificateError) -> CertificateError {
    match error {
        CertificateError::NotValidForNameContext {
            expected,
            mut presented,
        } => {
            presented.truncate(4);
            CertificateError::NotValidForNameContext {
                expected,
                presented,
            }
        }
        other => other,
    }
}

#[derive(Debug)]
enum Chain {
    Required(Arc<WebPkiServerVerifier>),
    NotRequired,
}

/// The names in a certificate are checked by WebPKI, or not at all. The handshake's signature
/// is always checked: otherwise a server could present the attested certificate of another
/// (threats.md B2).
#[derive(Debug)]
struct BackendVerifier {
    chain: Chain,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug, thiserror::Error)]
#[error("the handshake is not signed by the certificate's key")]
struct KeyNotHeld;

fn key_held(
    outcome: Result<HandshakeSignatureValid, rustls::Error>,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    outcome.map_err(|error| match error {
        rustls::Error::InvalidCertificate(CertificateError::BadSignature) => {
            CertificateError::Other(OtherError(Arc::new(KeyNotHeld))).into()
        }
        other => other,
    })
}

impl ServerCertVerifier for BackendVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.chain {
            Chain::Required(webpki) => webpki.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            Chain::NotRequired => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        key_held(rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &self.algorithms,
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        key_held(rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.algorithms,
        ))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
