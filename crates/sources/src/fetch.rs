//! Public documents over ordinary HTTPS: the endpoint list, Intel's collateral, compose files
//! and their tags, and NVIDIA's answers about a backend's GPUs. No client's data passes here.
//! Answers are bounded, and each is signed, or known by its hash, or only a hint (the list), or
//! can only refuse (tags).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::clock::Clock;
use crate::net::{self, ConnectError, Network, Route, Routes, Stream, TunnelError};
use crate::skew::Dates;
use crate::tls::{self, TlsSetupError};

/// For one document, from DNS to its last byte. Real servers take tenths of a second.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// An address that documents may be fetched from: https, or http on loopback, where no other
/// host can read or answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchUrl {
    https: bool,
    host: String,
    port: u16,
    path: String,
}

impl FetchUrl {
    /// `https://host`.
    pub fn of_host(host: &str) -> Self {
        Self {
            https: true,
            host: host.to_owned(),
            port: 443,
            path: "/".to_owned(),
        }
    }

    /// Appends a path to this base address.
    pub(crate) fn join(&self, path_and_query: &str) -> Self {
        Self {
            path: format!("{}{path_and_query}", self.path.trim_end_matches('/')),
            ..self.clone()
        }
    }

    pub(crate) fn is_loopback(&self) -> bool {
        net::is_loopback(&self.host)
    }

    /// Where to connect to. Plain http stays on loopback whatever --connect-to and --proxy
    /// name.
    pub fn route<'a>(&self, routes: &'a Routes) -> Route<'a> {
        if self.https {
            routes.route(&self.host, self.port)
        } else {
            Route {
                proxy: None,
                host: self.host.clone(),
                port: self.port,
            }
        }
    }

    fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        let usual = if self.https { 443 } else { 80 };
        if self.port == usual {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

impl fmt::Display for FetchUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl FromStr for FetchUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = |why: &str| Err(format!("{why}: {text:?}"));
        let Ok(uri) = text.parse::<Uri>() else {
            return refused("expected a URL");
        };
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return refused("expected a URL with scheme and host");
        };
        if authority.as_str().contains('@') {
            return refused("a URL with a user name is not accepted");
        }
        let host = authority
            .host()
            .trim_matches(['[', ']'])
            .to_ascii_lowercase();
        let https = match scheme {
            "https" => true,
            "http" if net::is_loopback(&host) => false,
            "http" => return refused("plain http is accepted for loopback addresses only"),
            _ => return refused("expected https"),
        };
        Ok(Self {
            https,
            port: authority.port_u16().unwrap_or(if https { 443 } else { 80 }),
            host,
            path: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
        })
    }
}

/// Why a document could not be fetched.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    #[error("no connection to {host}: {source}")]
    Connect {
        host: String,
        source: Arc<ConnectError>,
    },
    #[error("no TLS with {host}: {source}")]
    Tls {
        host: String,
        source: Arc<std::io::Error>,
    },
    #[error("{host} is not a valid TLS server name")]
    Name { host: String },
    #[error("the exchange broke off: {0}")]
    Http(Arc<hyper::Error>),
    #[error("the answer has more than {max} bytes")]
    TooLarge { max: usize },
    /// With the circumstances of the connection.
    #[error("the server did not send a complete answer within {} s{}", FETCH_TIMEOUT.as_secs(), .0)]
    Timeout(String),
}

impl FetchError {
    /// What an outgoing proxy has to do with it.
    pub fn tunnel(&self) -> Option<&TunnelError> {
        match self {
            Self::Connect { source, .. } => source.tunnel(),
            _ => None,
        }
    }

    /// True if the server's certificate is not valid at the time that this machine's clock
    /// shows.
    pub fn is_about_time(&self) -> bool {
        let Self::Tls { source, .. } = self else {
            return false;
        };
        let error = source.get_ref().and_then(|error| error.downcast_ref());
        error.is_some_and(tls::is_about_time)
    }
}

impl From<hyper::Error> for FetchError {
    fn from(error: hyper::Error) -> Self {
        Self::Http(Arc::new(error))
    }
}

/// An answer with any status. Redirects are not followed.
#[derive(Debug)]
pub struct Fetched {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Makes one request per connection, under WebPKI.
#[derive(Debug)]
pub struct Fetcher {
    tls: Arc<ClientConfig>,
    network: Network,
    dates: Dates,
}

impl Fetcher {
    pub fn new(
        webpki: Arc<WebPkiServerVerifier>,
        network: Network,
        clock: Clock,
    ) -> Result<Self, TlsSetupError> {
        Ok(Self {
            tls: Arc::new(tls::client_config(webpki)?),
            network,
            dates: Dates::new(clock),
        })
    }

    /// Whether a connection to the server of `url` can be made.
    pub async fn reach(&self, url: &FetchUrl) -> Result<(), FetchError> {
        let route = url.route(self.network.routes());
        let connected = tokio::time::timeout(FETCH_TIMEOUT, self.connect(&route, url)).await;
        connected
            .unwrap_or_else(|_| Err(self.timeout(&route)))
            .map(drop)
    }

    /// The time that the servers' answers state.
    pub fn dates(&self) -> &Dates {
        &self.dates
    }

    /// Fetches `url`, reading at most `max` bytes of body.
    pub async fn get(&self, url: &FetchUrl, max: usize) -> Result<Fetched, FetchError> {
        self.fetch(url, None, max).await
    }

    /// Posts `json` to `url`, reading at most `max` bytes of the answer.
    pub(crate) async fn post_json(
        &self,
        url: &FetchUrl,
        json: Bytes,
        max: usize,
    ) -> Result<Fetched, FetchError> {
        self.fetch(url, Some(json), max).await
    }

    async fn fetch(
        &self,
        url: &FetchUrl,
        json: Option<Bytes>,
        max: usize,
    ) -> Result<Fetched, FetchError> {
        let route = url.route(self.network.routes());
        match tokio::time::timeout(FETCH_TIMEOUT, self.exchange(&route, url, json, max)).await {
            Ok(Ok(fetched)) => {
                self.dates.saw(url.authority(), &fetched.headers);
                Ok(fetched)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(self.timeout(&route)),
        }
    }

    fn timeout(&self, route: &Route<'_>) -> FetchError {
        FetchError::Timeout(self.network.circumstances(route))
    }

    async fn connect(&self, route: &Route<'_>, url: &FetchUrl) -> Result<Stream, FetchError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "public documents, and evidence of backends: no type that holds client data reaches this module"
        )]
        let connected = self.network.connect(route).await;
        connected.map_err(|source| FetchError::Connect {
            host: url.host.clone(),
            source: Arc::new(source),
        })
    }

    async fn exchange(
        &self,
        route: &Route<'_>,
        url: &FetchUrl,
        json: Option<Bytes>,
        max: usize,
    ) -> Result<Fetched, FetchError> {
        let tcp = self.connect(route, url).await?;
        if !url.https {
            return exchange_over(tcp, url, json, max).await;
        }
        let name = ServerName::try_from(url.host.clone()).map_err(|_| FetchError::Name {
            host: url.host.clone(),
        })?;
        #[expect(clippy::disallowed_methods, reason = "as in connect")]
        let tls = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, tcp)
            .await
            .map_err(|source| FetchError::Tls {
                host: url.host.clone(),
                source: Arc::new(source),
            })?;
        exchange_over(tls, url, json, max).await
    }
}

async fn exchange_over<S>(
    stream: S,
    url: &FetchUrl,
    json: Option<Bytes>,
    max: usize,
) -> Result<Fetched, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    #[expect(
        clippy::disallowed_methods,
        reason = "no data of clients, as in exchange"
    )]
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let is_json = json.is_some();
    let mut request = Request::new(Full::new(json.unwrap_or_default()));
    if is_json {
        *request.method_mut() = Method::POST;
    }
    // Path and host were parsed out of a valid URI.
    *request.uri_mut() = url.path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    if let Ok(host) = url.authority().parse() {
        headers.insert(header::HOST, host);
    }
    headers.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(net::USER_AGENT),
    );
    if is_json {
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
    }
    let answer = async move {
        let response = sender.send_request(request).await?;
        let (parts, mut body) = response.into_parts();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                if bytes.len() + data.len() > max {
                    return Err(FetchError::TooLarge { max });
                }
                bytes.extend_from_slice(&data);
            }
        }
        Ok(Fetched {
            status: parts.status,
            headers: parts.headers,
            body: bytes.freeze(),
        })
    };
    drive(connection, answer).await
}

/// Polls the connection beside the exchange, so that dropping the exchange closes the socket.
async fn drive<T>(
    connection: impl Future<Output = Result<(), hyper::Error>>,
    exchange: impl Future<Output = Result<T, FetchError>>,
) -> Result<T, FetchError> {
    tokio::pin!(connection, exchange);
    tokio::select! {
        biased;
        outcome = &mut exchange => outcome,
        ended = &mut connection => match ended {
            // The socket has been read to its end. The rest of the answer is in memory.
            Ok(()) => exchange.await,
            Err(error) => Err(error.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback() {
        for text in [
            "https://pccs.example/base/",
            "http://127.0.0.1:8081/x",
            "http://[::1]:80",
            "http://localhost",
        ] {
            assert!(text.parse::<FetchUrl>().is_ok(), "{text}");
        }
        for text in [
            "http://pccs.example/",
            "http://127.0.0.1.evil.example/",
            "http://user@127.0.0.1/",
            "ftp://127.0.0.1/",
            "127.0.0.1",
            "/endpoints",
            "",
        ] {
            assert!(text.parse::<FetchUrl>().is_err(), "{text}");
        }
    }

    /// A server under its own authority, with a certificate that expired on the first day of
    /// `year`: the authority's certificate and the server's address.
    async fn server_until(year: i32) -> (rustls::pki_types::CertificateDer<'static>, FetchUrl) {
        use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
        use rustls::pki_types::PrivatePkcs8KeyDer;
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = ca.self_signed(&ca_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &Issuer::from_params(&ca, &ca_key));
        let chain = vec![certificate.unwrap().der().clone()];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let config = rustls::ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            // The server closes the connection before HTTP.
            let _ = acceptor.accept(stream).await;
        });
        (authority.der().clone(), url.parse().unwrap())
    }

    #[tokio::test]
    async fn a_certificate_that_ended_may_be_a_matter_of_the_clock() {
        let fetch = async |authority, url| {
            let webpki = tls::webpki(&[authority]).unwrap();
            let network = Network::new(Routes::default(), webpki.clone()).unwrap();
            let fetcher = Fetcher::new(webpki, network, Clock::system()).unwrap();
            fetcher.get(url, 1_000).await.unwrap_err()
        };
        let (authority, expired) = server_until(2001).await;
        let error = fetch(authority.clone(), &expired).await;
        assert!(error.is_about_time(), "{error}");
        // An unknown authority is not a matter of the clock, and a valid certificate is not an
        // error of TLS.
        let (_, valid) = server_until(4000).await;
        let error = fetch(authority, &valid).await;
        assert!(matches!(error, FetchError::Tls { .. }), "{error}");
        assert!(!error.is_about_time(), "{error}");
        let (authority, valid) = server_until(4000).await;
        let error = fetch(authority, &valid).await;
        assert!(matches!(error, FetchError::Http(_)), "{error}");
    }

    #[test]
    fn urls_join_and_print() {
        let base: FetchUrl = "https://pccs.example:8443/base/".parse().unwrap();
        assert_eq!(
            base.join("/sgx?a=b").to_string(),
            "https://pccs.example:8443/base/sgx?a=b"
        );
        let root: FetchUrl = "https://api.example".parse().unwrap();
        assert_eq!(root, FetchUrl::of_host("api.example"));
        assert_eq!(root.join("/sgx").to_string(), "https://api.example/sgx");
    }
}
