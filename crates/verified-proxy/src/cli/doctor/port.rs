//! Whether the port or socket is free, or which program has it.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use http::StatusCode;
use proxy::{BindError, Host, Listener};
use sources::fetch::Fetcher;
use upstream::VERDICT;

use super::check::{Check, Id};
use crate::cli::listening::{At, listening_hint};

/// A verified-proxy on this machine answers at once.
const PATIENCE: Duration = Duration::from_secs(3);
/// The answer has about twenty bytes; a refusal a few hundred.
const MAX_ANSWER: usize = 4 << 10;

pub(super) async fn check(at: &At, fetcher: Option<&Fetcher>) -> Check {
    match at {
        At::Tcp { hosts, port } => tcp(hosts, *port, fetcher).await,
        At::Unix(path) => unix(path).await,
    }
}

async fn tcp(hosts: &[Host], port: u16, fetcher: Option<&Fetcher>) -> Check {
    if port == 0 {
        return Check::skipped(Id::Port, "--port 0 takes any free port");
    }
    let BindError {
        address,
        source: error,
    } = match Listener::tcp(hosts, port) {
        Ok(listener) => {
            let addresses: Vec<_> = listener
                .addresses()
                .iter()
                .map(ToString::to_string)
                .collect();
            let are = if addresses.len() == 1 { "is" } else { "are" };
            return Check::ok(Id::Port, format!("{} {are} free", addresses.join(" and ")));
        }
        Err(error) => error,
    };
    if error.kind() != ErrorKind::AddrInUse {
        let fix = listening_hint(error.kind());
        let fix = fix.unwrap_or("choose another address with --host, or another port with --port");
        return Check::failed(Id::Port, format!("{address}: {error}"), fix);
    }
    let other = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let other = SocketAddr::new(other, address.port());
    if let Some(fetcher) = fetcher
        && is_verified_proxy(other, fetcher).await
    {
        return Check::warning(
            Id::Port,
            format!("{address}: a verified-proxy listens there already"),
            format!(
                "to use it, point clients to http://{other}/v1; to start another one, choose another --port"
            ),
        );
    }
    Check::failed(
        Id::Port,
        format!("{address}: another program listens there"),
        "stop that program, or choose another port with --port",
    )
}

/// True if the program says that it is live, or refuses with a verified-proxy's header.
async fn is_verified_proxy(address: SocketAddr, fetcher: &Fetcher) -> bool {
    // `Fetcher` takes plain http on loopback only.
    let Ok(url) = format!("http://{address}/_proxy/live").parse() else {
        return false;
    };
    let asked = tokio::time::timeout(PATIENCE, fetcher.get(&url, MAX_ANSWER));
    match asked.await {
        Ok(Ok(answer)) => {
            let lives = answer.body.as_ref() == br#"{"status":"live"}"#;
            answer.status == StatusCode::OK && lives || answer.headers.contains_key(VERDICT)
        }
        _ => false,
    }
}

#[cfg(unix)]
async fn unix(path: &Path) -> Check {
    let at = format!("unix:{}", path.display());
    match proxy::UnixSocket::bind(path).await {
        Ok(_) => Check::ok(Id::Port, format!("{at} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Check::warning(
            Id::Port,
            format!("{at}: another program listens there, such as a verified-proxy"),
            "use that program, or name another path with --listen",
        ),
        Err(error) => Check::failed(
            Id::Port,
            format!("{at}: {error}"),
            "name a path with --listen in a folder that exists and that this user can write",
        ),
    }
}

#[cfg(not(unix))]
async fn unix(_: &Path) -> Check {
    let fix = "use --host and --port";
    Check::failed(Id::Port, "this system has no Unix sockets", fix)
}
