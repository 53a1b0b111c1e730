//! Where connections go, and how: `--connect-to`, proxies, names, TCP.

mod connect_to;
mod lookups;
mod proxies;
mod tcp;
mod tunnel;

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use self::connect_to::ConnectMap;
use self::lookups::Lookups;
use self::proxies::Protocol;
use crate::tls::{self, TlsSetupError};

pub use self::connect_to::ConnectTo;
pub use self::lookups::LookupCounts;
pub use self::proxies::{Proxies, Proxy, ProxyUrlError};
pub use self::tunnel::TunnelError;

/// The `User-Agent` of probes and fetches.
pub const USER_AGENT: &str = concat!("verified-proxy/", env!("CARGO_PKG_VERSION"));

/// hyper's buffer for a message's head, or for a body that comes faster than it is sent on, in
/// each direction of a connection; the buffer may grow to twice that. hyper's default is 400
/// KiB: a thousand clients that do not read, or send half a head, would occupy half a gigabyte.
/// nginx accepts heads of 32 KiB (large_client_header_buffers 4 8k). What is read at a time
/// should also stay in the processor's cache until it is encrypted: 400 KiB cost a fifth more
/// CPU for an upload (bench/run).
pub const MAX_HTTP_BUFFER: usize = 64 << 10;

/// What bytes go through.
pub trait Io: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Io for T {}

/// A connection: TCP, or a tunnel through a proxy.
pub type Stream = Box<dyn Io>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Direct(#[from] io::Error),
    /// It names the proxy without its credentials.
    #[error("the outgoing proxy {proxy}: {error}")]
    Tunnel { proxy: String, error: TunnelError },
}

impl ConnectError {
    /// What a proxy has to do with it.
    pub fn tunnel(&self) -> Option<&TunnelError> {
        match self {
            Self::Direct(_) => None,
            Self::Tunnel { error, .. } => Some(error),
        }
    }
}

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<'a> {
    /// What it goes through.
    pub proxy: Option<&'a Proxy>,
    pub host: String,
    pub port: u16,
}

/// Where connections go.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    connect_to: ConnectMap,
    proxies: Proxies,
}

impl Routes {
    pub fn new(connect_to: Vec<ConnectTo>, proxies: Proxies) -> Self {
        Self {
            connect_to: ConnectMap::new(connect_to),
            proxies,
        }
    }

    /// Where a connection for `host:port` goes: `--connect-to` says where, and the proxy is
    /// asked for that place.
    pub fn route(&self, host: &str, port: u16) -> Route<'_> {
        let (host, port) = self.connect_to.target(host, port);
        Route {
            proxy: self.proxies.between(&host, port),
            host,
            port,
        }
    }
}

/// The ways out of this machine. Clones share everything.
#[derive(Debug, Clone)]
pub struct Network(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    routes: Routes,
    lookups: Lookups,
    /// For proxies that are spoken to in TLS.
    tls: Arc<ClientConfig>,
}

impl Network {
    /// `webpki` judges proxies that are spoken to in TLS.
    pub fn new(routes: Routes, webpki: Arc<WebPkiServerVerifier>) -> Result<Self, TlsSetupError> {
        Ok(Self(Arc::new(Shared {
            routes,
            lookups: Lookups::of_system(),
            tls: Arc::new(tls::client_config(webpki)?),
        })))
    }

    pub fn routes(&self) -> &Routes {
        &self.0.routes
    }

    /// Connects. It may take for ever: the caller has a limit.
    ///
    /// It opens the network: clippy.toml bans it outside `fetch.rs` and upstream's `dial.rs`.
    pub async fn connect(&self, route: &Route<'_>) -> Result<Stream, ConnectError> {
        let Some(proxy) = route.proxy else {
            return Ok(self.tcp(&route.host, route.port).await?);
        };
        let tunnel = async {
            let stream = self.to_proxy(proxy).await?;
            tunnel::open(stream, proxy, &route.host, route.port).await
        };
        tunnel.await.map_err(|error| ConnectError::Tunnel {
            proxy: proxy.to_string(),
            error,
        })
    }

    /// After a limit has passed: what the connection goes through and waits for, to follow a
    /// sentence.
    pub fn circumstances(&self, route: &Route<'_>) -> String {
        let (mut words, host) = match route.proxy {
            Some(proxy) => (
                format!(", through the outgoing proxy {proxy}"),
                proxy.host(),
            ),
            None => (String::new(), &*route.host),
        };
        if self.0.lookups.is_under_way(host) {
            words.push_str(&format!(": the lookup of {host} has not ended"));
        }
        words
    }

    /// The lookups of names under way.
    pub fn lookups(&self) -> LookupCounts {
        self.0.lookups.counts()
    }

    async fn to_proxy(&self, proxy: &Proxy) -> Result<Stream, TunnelError> {
        let stream = self.tcp(&proxy.host, proxy.port).await;
        let stream = stream.map_err(TunnelError::Unreachable)?;
        match proxy.protocol {
            Protocol::Http | Protocol::Socks5 => Ok(stream),
            Protocol::Https => {
                let name = ServerName::try_from(proxy.host.clone())
                    .map_err(|error| TunnelError::Tls(io::Error::other(error)))?;
                #[expect(
                    clippy::disallowed_methods,
                    reason = "with a proxy: what passes inside is TLS with the other end"
                )]
                let tls = TlsConnector::from(Arc::clone(&self.0.tls))
                    .connect(name, stream)
                    .await
                    .map_err(TunnelError::Tls)?;
                Ok(Box::new(tls))
            }
        }
    }

    async fn tcp(&self, host: &str, port: u16) -> io::Result<Stream> {
        let addresses = self.0.lookups.addresses(host).await?;
        let addresses = addresses.iter().map(|address| {
            let mut address = *address;
            address.set_port(port);
            address
        });
        Ok(Box::new(tcp::connect(addresses).await?))
    }
}

/// True for names and addresses of this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}
