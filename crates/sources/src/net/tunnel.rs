//! A tunnel through a proxy, by HTTP's CONNECT or SOCKS 5.
//!
//! The proxy learns the name and port of the other end. It never sees what passes, which is TLS
//! between here and that end: a proxy that leads elsewhere gets a handshake that fails, as any
//! other attacker on the network does (threats.md B1). It may be silent for ever: the caller
//! has a limit for the whole connection.

use std::io;
use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::proxies::{Credentials, Protocol, Proxy, authority};
use super::{Stream, USER_AGENT};

/// hyper's buffer for the head of the proxy's answer, and its smallest. Real heads have some
/// hundred bytes.
const MAX_HEAD: usize = 8 << 10;

/// Why a proxy did not make a tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    #[error("cannot be reached: {0}")]
    Unreachable(#[source] io::Error),
    #[error("no TLS with it: {0}")]
    Tls(#[source] io::Error),
    #[error("it broke off: {0}")]
    BrokeOff(#[source] io::Error),
    #[error("it asks for a user name and password{}", said(.status))]
    NoCredentials { status: Option<StatusCode> },
    #[error("it does not accept the user name and password{}", said(.status))]
    WrongCredentials { status: Option<StatusCode> },
    #[error("it refuses the connection with the status {status}")]
    Refused { status: StatusCode },
    #[error("it refuses the connection: {} (SOCKS reply {reply})", socks_reply(*.reply))]
    SocksRefused { reply: u8 },
    #[error("it does not answer as {expected} does")]
    NotAProxy { expected: &'static str },
}

fn said(status: &Option<StatusCode>) -> String {
    status.map_or(String::new(), |status| format!(" ({})", status.as_u16()))
}

/// RFC 1928 §6.
fn socks_reply(reply: u8) -> &'static str {
    match reply {
        1 => "general failure",
        2 => "its rules do not allow it",
        3 => "the network is unreachable",
        4 => "the host is unreachable or its name is not known",
        5 => "the other end refused it",
        6 => "it took too long",
        7 => "it knows no such command",
        8 => "it knows no such kind of address",
        _ => "for a reason that the standard does not have",
    }
}

impl TunnelError {
    /// True if the proxy itself was not reached, or left in the middle.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_) | Self::Tls(_) | Self::BrokeOff(_)
        )
    }

    /// True if a user name or password is missing or wrong.
    pub fn is_about_credentials(&self) -> bool {
        matches!(
            self,
            Self::NoCredentials { .. } | Self::WrongCredentials { .. }
        )
    }

    /// True if the proxy says that it could not reach the other end, which may be so for a
    /// moment only.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused { status } => status.is_server_error(),
            Self::SocksRefused { reply } => matches!(reply, 1 | 3..=6),
            other => other.is_unreachable(),
        }
    }
}

/// Turns a connection to `proxy` into one to `host:port`.
pub(super) async fn open(
    stream: Stream,
    proxy: &Proxy,
    host: &str,
    port: u16,
) -> Result<Stream, TunnelError> {
    let credentials = proxy.credentials.as_ref();
    match proxy.protocol {
        Protocol::Http | Protocol::Https => connect(stream, credentials, host, port).await,
        Protocol::Socks5 => socks5(stream, credentials, host, port).await,
    }
}

const HTTP: &str = "an HTTP proxy";

async fn connect(
    stream: Stream,
    credentials: Option<&Credentials>,
    host: &str,
    port: u16,
) -> Result<Stream, TunnelError> {
    let broke_off = |error: hyper::Error| match error.is_parse() {
        true => TunnelError::NotAProxy { expected: HTTP },
        false => TunnelError::BrokeOff(io::Error::other(error)),
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "it asks the proxy for a tunnel and is done; no type that holds client data reaches this crate"
    )]
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broke_off)?;
    let not_a_name = || TunnelError::BrokeOff(io::ErrorKind::InvalidInput.into());
    let target = authority(host, port);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = target.parse::<Uri>().map_err(|_| not_a_name())?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, target.parse().map_err(|_| not_a_name())?);
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    if let Some(value) = credentials.and_then(Credentials::basic) {
        headers.insert(header::PROXY_AUTHORIZATION, value);
    }
    let answer = sender.send_request(request);
    let connection = connection.without_shutdown();
    tokio::pin!(answer, connection);
    // The connection ends by itself once the tunnel is open, and else not.
    let (answer, ended) = tokio::select! {
        biased;
        answer = &mut answer => (answer, None),
        ended = &mut connection => (answer.await, Some(ended)),
    };
    let status = answer.map_err(broke_off)?.status();
    if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        let status = Some(status);
        return Err(match credentials {
            Some(_) => TunnelError::WrongCredentials { status },
            None => TunnelError::NoCredentials { status },
        });
    }
    // As in Go. The standard takes any 2xx; no proxy is known to send another.
    if status != StatusCode::OK {
        return Err(TunnelError::Refused { status });
    }
    let ended = match ended {
        Some(ended) => ended,
        None => connection.await,
    };
    let parts = ended.map_err(broke_off)?;
    // In TLS the client speaks first.
    if !parts.read_buf.is_empty() {
        return Err(TunnelError::NotAProxy { expected: HTTP });
    }
    Ok(parts.io.into_inner())
}

const SOCKS: &str = "a SOCKS 5 proxy";
const VERSION: u8 = 5;
const NO_CREDENTIALS: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// RFC 1928 and RFC 1929. Each message is read to its last byte and no further.
async fn socks5(
    mut stream: Stream,
    credentials: Option<&Credentials>,
    host: &str,
    port: u16,
) -> Result<Stream, TunnelError> {
    let not_socks = || TunnelError::NotAProxy { expected: SOCKS };
    let greeting: &[u8] = match credentials {
        None => &[VERSION, 1, NO_CREDENTIALS],
        Some(_) => &[VERSION, 2, NO_CREDENTIALS, USER_AND_PASSWORD],
    };
    send(&mut stream, greeting).await?;
    match (receive(&mut stream).await?, credentials) {
        ([VERSION, NO_CREDENTIALS], _) => {}
        ([VERSION, USER_AND_PASSWORD], Some(credentials)) => {
            let message = credentials.socks().ok_or_else(not_socks)?;
            send(&mut stream, &message).await?;
            let [_, outcome] = receive(&mut stream).await?;
            if outcome != 0 {
                return Err(TunnelError::WrongCredentials { status: None });
            }
        }
        ([VERSION, NO_METHOD], None) => {
            return Err(TunnelError::NoCredentials { status: None });
        }
        ([VERSION, NO_METHOD], Some(_)) => {
            return Err(TunnelError::WrongCredentials { status: None });
        }
        _ => return Err(not_socks()),
    }
    let mut request = vec![VERSION, CONNECT, 0];
    match host.parse() {
        Ok(IpAddr::V4(address)) => {
            request.push(IPV4);
            request.extend(address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            request.push(IPV6);
            request.extend(address.octets());
        }
        Err(_) => {
            // Names of DNS have 253 bytes at most.
            let length = u8::try_from(host.len()).map_err(|_| not_socks())?;
            request.extend([NAME, length]);
            request.extend(host.as_bytes());
        }
    }
    request.extend(port.to_be_bytes());
    send(&mut stream, &request).await?;
    let [version, reply, _, kind] = receive(&mut stream).await?;
    if version != VERSION {
        return Err(not_socks());
    }
    if reply != 0 {
        return Err(TunnelError::SocksRefused { reply });
    }
    // The address that the proxy connects from, and a port, of no use here.
    let rest = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => {
            let [length] = receive(&mut stream).await?;
            usize::from(length)
        }
        _ => return Err(not_socks()),
    };
    let mut address = vec![0; rest + 2];
    let read = stream.read_exact(&mut address).await;
    read.map_err(TunnelError::BrokeOff)?;
    Ok(stream)
}

async fn send(stream: &mut Stream, message: &[u8]) -> Result<(), TunnelError> {
    let written = stream.write_all(message).await;
    written.map_err(TunnelError::BrokeOff)?;
    stream.flush().await.map_err(TunnelError::BrokeOff)
}

async fn receive<const N: usize>(stream: &mut Stream) -> Result<[u8; N], TunnelError> {
    let mut message = [0; N];
    let read = stream.read_exact(&mut message).await;
    read.map_err(TunnelError::BrokeOff)?;
    Ok(message)
}

#[cfg(test)]
mod tests;
