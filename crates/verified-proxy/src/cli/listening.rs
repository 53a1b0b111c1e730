//! Where `serve` listens, and whether it may.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use proxy::config::Guard;
#[cfg(unix)]
use proxy::{HandedOver, UnixSocket};
use proxy::{Host, Listener};

use super::read_files::Failure;
use super::units;

#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Listening")]
pub(super) struct Listening {
    /// Address to listen on; repeatable
    ///
    /// "localhost" is both 127.0.0.1 and ::1, where the machine has them: clients resolve the name to
    /// either. 0.0.0.0 is every address of IPv4, :: every address. Beyond loopback, prompts, answers
    /// and keys cross the network in clear. Sockets that systemd or another launcher hands over
    /// (LISTEN_FDS) take the place of --host, --port and --listen.
    #[arg(
        long,
        env = "VERIFIED_PROXY_HOST",
        value_name = "ADDRESS",
        default_value = "localhost",
        value_delimiter = ','
    )]
    host: Vec<Host>,

    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "VERIFIED_PROXY_PORT", default_value_t = 8080)]
    pub(super) port: u16,

    /// Listen on a Unix socket that only this user can open, in place of a port
    #[arg(long, env = "VERIFIED_PROXY_LISTEN", value_name = "unix:/PATH", value_parser = units::unix_socket, conflicts_with_all = ["host", "port"])]
    listen: Option<PathBuf>,

    /// Also answer /_proxy/metrics, /_proxy/live and /_proxy/ready, and nothing else, at this address
    ///
    /// Without a client's token, for Prometheus and supervisors: let no others reach it. --port
    /// answers /_proxy/live and /_proxy/ready without a token too, and /_proxy/metrics with one.
    #[arg(
        long,
        env = "VERIFIED_PROXY_METRICS_LISTEN",
        value_name = "ADDRESS:PORT"
    )]
    metrics_listen: Option<SocketAddr>,
}

impl Listening {
    pub(super) fn at(&self) -> At {
        match &self.listen {
            Some(path) => At::Unix(path.clone()),
            None => At::Tcp {
                hosts: self.host.clone(),
                port: self.port,
            },
        }
    }

    pub(super) fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_listen
    }
}

/// The listener of `--metrics-listen`.
pub(super) fn listen_for_metrics(address: SocketAddr) -> Result<Listener, Failure> {
    let listener = Listener::tcp(&[Host::Address(address.ip())], address.port());
    let listener = listener.map_err(|error| {
        Failure::Unreadable(format!(
            "--metrics-listen: {error}\nhint: name a free address of this machine with --metrics-listen"
        ))
    })?;
    for address in listener.addresses() {
        tracing::info!("metrics at http://{address}/_proxy/metrics");
    }
    Ok(listener)
}

/// Where to listen.
#[derive(Debug)]
pub(super) enum At {
    Tcp { hosts: Vec<Host>, port: u16 },
    Unix(PathBuf),
}

impl At {
    pub(super) fn ips(&self) -> Vec<IpAddr> {
        match self {
            Self::Tcp { hosts, .. } => hosts.iter().flat_map(|host| host.addresses()).collect(),
            Self::Unix(_) => Vec::new(),
        }
    }
}

/// Sockets that are open or are to be opened.
#[derive(Debug)]
pub(super) enum Source {
    Options(At),
    #[cfg(unix)]
    Launcher(HandedOver),
}

impl Source {
    /// Has to be called before threads are started.
    pub(super) fn of(listening: &Listening) -> Result<Self, Failure> {
        #[cfg(unix)]
        if let Some(handed) = HandedOver::take().map_err(|error| {
            Failure::Usage(format!(
                "{error}\nhint: let the launcher open TCP or Unix stream sockets (ListenStream=), or unset LISTEN_FDS"
            ))
        })? {
            return Ok(Self::Launcher(handed));
        }
        Ok(Self::Options(listening.at()))
    }

    pub(super) fn ips(&self) -> Vec<IpAddr> {
        match self {
            Self::Options(at) => at.ips(),
            #[cfg(unix)]
            Self::Launcher(handed) => handed.addresses().iter().map(SocketAddr::ip).collect(),
        }
    }

    /// Listens; gives the listener, and its places as text: at least one.
    pub(super) async fn listen(self) -> Result<(Listener, Vec<String>), Failure> {
        match self {
            Self::Options(At::Tcp { hosts, port }) => {
                let listener = Listener::tcp(&hosts, port).map_err(|error| {
                    let hint = hint(&error.source, &hosts);
                    let hint = hint.map_or(String::new(), |hint| format!("\nhint: {hint}"));
                    Failure::Unreadable(format!("{error}{hint}"))
                })?;
                let places = urls(&listener);
                Ok((listener, places))
            }
            #[cfg(unix)]
            Self::Options(At::Unix(path)) => {
                let socket = UnixSocket::bind(&path).await.map_err(|error| {
                    let hint = match error.kind() {
                        ErrorKind::AddrInUse => "\nhint: another verified-proxy listens there",
                        _ => "",
                    };
                    Failure::Unreadable(format!(
                        "cannot listen on unix:{}: {error}{hint}",
                        path.display()
                    ))
                })?;
                Ok((socket.into(), vec![format!("unix:{}", path.display())]))
            }
            #[cfg(not(unix))]
            Self::Options(At::Unix(_)) => Err(Failure::Usage(
                "--listen: this system has no Unix sockets".to_owned(),
            )),
            #[cfg(unix)]
            Self::Launcher(handed) => {
                let path = handed.path();
                let listener = handed
                    .listen()
                    .map_err(|error| Failure::Unreadable(error.to_string()))?;
                tracing::info!(
                    "listening on the sockets that were handed over (LISTEN_FDS), in place of --host, --port and --listen"
                );
                let mut places = urls(&listener);
                places.extend(path.map(|path| format!("unix:{}", path.display())));
                if places.is_empty() {
                    places.push("a socket without a name".to_owned());
                }
                Ok((listener, places))
            }
        }
    }
}

fn urls(listener: &Listener) -> Vec<String> {
    let addresses = listener.addresses().into_iter();
    addresses
        .map(|address| format!("http://{address}"))
        .collect()
}

fn hint(error: &std::io::Error, hosts: &[Host]) -> Option<&'static str> {
    let both = hosts.contains(&Host::Localhost);
    match error.kind() {
        ErrorKind::AddrInUse if both => Some(
            "choose another port with --port: another program has this one, perhaps another verified-proxy, and clients that ask for localhost may reach it in place of this one",
        ),
        kind => listening_hint(kind),
    }
}

/// What to do if an address cannot be listened on.
pub(super) fn listening_hint(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::AddrInUse => Some(
            "choose another port with --port: another program has this one, perhaps another verified-proxy",
        ),
        ErrorKind::PermissionDenied => {
            Some("choose a port from 1024 on with --port: those below need a privilege")
        }
        ErrorKind::AddrNotAvailable => Some("give --host an address of this machine"),
        _ => None,
    }
}

/// The problem and its fix, if a stranger who reaches the port could spend the API key
/// (threats.md C3, C5).
pub(super) fn spendable(
    ips: &[IpAddr],
    guard: &Guard,
    key: bool,
) -> Option<(String, &'static str)> {
    let host = ips.iter().find(|ip| !ip.is_loopback())?;
    (key && guard.tokens.is_none()).then(|| {
        (
            format!("other machines can reach {host}, and could spend your API key"),
            "give clients tokens with --client-token-file, or listen on 127.0.0.1 only",
        )
    })
}

/// What a listener beyond loopback means, on the log of each start.
pub(super) fn warn_of_network(ips: &[IpAddr], guard: &Guard) {
    let Some(host) = ips.iter().find(|ip| !ip.is_loopback()) else {
        return;
    };
    tracing::warn!(
        %host,
        "listening beyond loopback without TLS: prompts, answers, API keys and tokens cross the network in clear; let a TLS proxy or an encrypted network be the only way to this port"
    );
    if guard.tokens.is_none() {
        tracing::warn!(
            %host,
            "listening beyond loopback: every program that reaches this port can use it; demand tokens with --client-token-file"
        );
    }
}
