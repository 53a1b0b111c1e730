//! `verified-proxy serve`.

use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[cfg(unix)]
use proxy::UnixSocket;
use proxy::config::{
    BackendTimeouts, ClientTimeouts, Config, Counter, Guard, ModelLeast, PoolLimits,
};
use proxy::shutdown::Signals;
use proxy::{Listener, Server, core_dumps, descriptors};
use tokio::net::TcpListener;
use upstream::BODY_SLACK;

use super::clients::{Clients, KeyFile, warn_others_read};
use super::effective_options::Settings;
use super::options::{Shared, runtime};
use super::read_files::Failure;
use super::{LAST_WORDS, fail, units};

#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Listening")]
pub(super) struct Args {
    /// Address to listen on
    #[arg(long, env = "VERIFIED_PROXY_HOST", value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = units::host)]
    pub(super) host: IpAddr,

    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "VERIFIED_PROXY_PORT", default_value_t = 8080)]
    pub(super) port: u16,

    /// Listen on a Unix socket that only this user can open, in place of a port
    #[arg(long, env = "VERIFIED_PROXY_LISTEN", value_name = "unix:/PATH", value_parser = units::unix_socket, conflicts_with_all = ["host", "port"])]
    listen: Option<PathBuf>,

    /// Largest request body: bytes, or with KiB, MiB, GiB
    #[arg(long, env = "VERIFIED_PROXY_MAX_BODY", value_name = "SIZE", default_value = "100MiB", value_parser = units::size)]
    max_body: u64,

    /// Memory for request bodies, over all requests
    #[arg(long, env = "VERIFIED_PROXY_BODY_MEMORY", value_name = "SIZE", default_value = "1GiB", value_parser = units::size)]
    body_memory: u64,

    /// How long a client may pause within a request's body
    #[arg(long, env = "VERIFIED_PROXY_CLIENT_IDLE_TIMEOUT", value_name = "TIME", default_value = "1m", value_parser = units::between(1, 3_600))]
    client_idle_timeout: Duration,

    /// How long a client may read nothing of its answer
    #[arg(long, env = "VERIFIED_PROXY_CLIENT_UNREAD_TIMEOUT", value_name = "TIME", default_value = "10m", value_parser = units::between(1, 86_400))]
    client_unread_timeout: Duration,

    /// How long answers may go on after the signal to stop; a second signal ends them at once
    ///
    /// After them the program writes to its state directory for 5 s at most, and leaves a DNS look-up,
    /// a disk or a log that hangs after 1 s each. If it still runs 1 s after the second signal, it
    /// ends with exit code 4.
    #[arg(long, env = "VERIFIED_PROXY_DRAIN_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = units::between(0, 3_600))]
    drain_timeout: Duration,

    #[command(flatten)]
    clients: Clients,

    #[command(flatten)]
    shared: Shared,

    /// How long a verdict is valid
    #[arg(long, env = "VERIFIED_PROXY_VERDICT_TTL", value_name = "TIME", default_value = "1h", value_parser = units::between(1, 86_400), help_heading = "What is proved")]
    verdict_ttl: Duration,

    /// Least levels for a model's requests, beyond the policy; repeatable
    ///
    /// For example org/model:deployment=tagged,gpu=measured. Several in one value are separated by
    /// ";". The proxy does not send a request to a backend whose verdict is below these levels.
    #[arg(
        long,
        env = "VERIFIED_PROXY_MODEL_LEVELS",
        value_name = "MODEL:AXIS=LEVEL,…",
        value_delimiter = ';',
        help_heading = "What is proved"
    )]
    model_levels: Vec<ModelLeast>,

    #[command(flatten)]
    backends: Backends,
}

#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Connections to backends")]
struct Backends {
    /// How long a backend may take to begin an answer
    #[arg(long, env = "VERIFIED_PROXY_FIRST_BYTE_TIMEOUT", value_name = "TIME", default_value = "1h", value_parser = units::between(1, 86_400))]
    first_byte_timeout: Duration,

    /// How long a backend may pause within an answer
    #[arg(long, env = "VERIFIED_PROXY_IDLE_TIMEOUT", value_name = "TIME", default_value = "10m", value_parser = units::between(1, 86_400))]
    idle_timeout: Duration,

    /// Connections to one backend at a time; further requests wait
    #[arg(long, env = "VERIFIED_PROXY_MAX_CONNECTIONS", value_name = "NUMBER", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    max_connections: u32,

    /// How long a connection may be idle
    #[arg(long, env = "VERIFIED_PROXY_POOL_IDLE", value_name = "TIME", default_value = "90s", value_parser = units::between(1, 86_400))]
    pool_idle: Duration,

    /// How old a connection may be for its next request
    #[arg(long, env = "VERIFIED_PROXY_POOL_AGE", value_name = "TIME", default_value = "1h", value_parser = units::between(1, 86_400))]
    pool_age: Duration,

    /// Requests on one connection, before it is closed
    #[arg(long, env = "VERIFIED_PROXY_POOL_REQUESTS", value_name = "NUMBER", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pool_requests: u64,
}

pub(super) fn main(args: Args, settings: &Settings) -> ExitCode {
    let log = match args.shared.logs.init_serving() {
        Ok(log) => log,
        Err(error) => return fail(&Failure::Unreadable(format!("the log's thread: {error}"))),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        options = settings.chosen.join("; "),
        "starting"
    );
    tracing::debug!(options = settings.all.join("; "), "every option");
    let (code, limit) = match start(args, log.dropped.clone()) {
        Ok(Stopped::Drained) => (ExitCode::SUCCESS, LAST_WORDS),
        Ok(Stopped::AtOnce) => (ExitCode::SUCCESS, AT_ONCE),
        Err(failure) => {
            tracing::error!("{failure}");
            (failure.exit_code(), LAST_WORDS)
        }
    };
    log.flush(limit);
    code
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    Drained,
    /// By a second signal.
    AtOnce,
}

/// In place of [`LAST_WORDS`] after a second signal: for what needs milliseconds only.
const AT_ONCE: Duration = Duration::from_millis(250);
/// Something hung, after a second signal too.
const GAVE_UP: i32 = 4;

impl Args {
    pub(super) fn init_logs(&self) {
        self.shared.logs.init();
    }

    pub(super) fn at(&self) -> At {
        match &self.listen {
            Some(path) => At::Unix(path.clone()),
            None => At::Tcp((self.host, self.port).into()),
        }
    }

    pub(super) fn api_key(&self) -> Result<Option<KeyFile>, Failure> {
        self.clients.api_key()
    }

    /// The configuration that these options make, with the files that they name.
    fn config(self) -> Result<Config, Failure> {
        let api_key = self.api_key()?;
        if let Some(key) = api_key.as_ref().filter(|key| key.others_read) {
            warn_others_read(&key.from);
        }
        Ok(Config {
            api_key: api_key.map(|key| key.key),
            ..self.config_without_key()?
        })
    }

    /// The same without the API key.
    pub(super) fn config_without_key(self) -> Result<Config, Failure> {
        if self.max_body.saturating_add(BODY_SLACK) > self.body_memory {
            return Err(Failure::Usage(format!(
                "--body-memory has to be at least {} KiB more than --max-body; otherwise the proxy could never take a body of that size\nhint: raise --body-memory, or lower --max-body",
                BODY_SLACK >> 10
            )));
        }
        let guard = self.clients.guard()?;
        let backends = self.backends;
        let config = self.shared.config()?;
        Ok(Config {
            guard,
            model_levels: self.model_levels,
            max_body: self.max_body,
            body_memory: self.body_memory,
            client_timeouts: ClientTimeouts {
                body_idle: self.client_idle_timeout,
                unread: self.client_unread_timeout,
            },
            backend_timeouts: BackendTimeouts {
                first_byte: backends.first_byte_timeout,
                idle: backends.idle_timeout,
                ..config.backend_timeouts
            },
            pool: PoolLimits {
                per_backend: usize::try_from(backends.max_connections).unwrap_or(usize::MAX),
                idle: backends.pool_idle,
                age: backends.pool_age,
                requests: backends.pool_requests,
                ..config.pool
            },
            drain: self.drain_timeout,
            verdict_ttl: self.verdict_ttl,
            ..config
        })
    }
}

fn start(args: Args, log_lines_dropped: Counter) -> Result<Stopped, Failure> {
    let at = args.at();
    let config = Config {
        log_lines_dropped,
        ..args.config()?
    };
    if let Some((what, hint)) = spendable(&at, &config.guard, config.api_key.is_some()) {
        return Err(Failure::Usage(format!("{what}\nhint: {hint}")));
    }
    if let At::Tcp(address) = &at
        && !address.ip().is_loopback()
        && config.guard.tokens.is_none()
    {
        tracing::warn!(
            host = %address.ip(),
            "listening beyond loopback: whoever reaches this port can use it; demand tokens with --client-token-file"
        );
    }
    let runtime = runtime()?;
    let stopped = runtime.block_on(serve(config, at));
    // Dropping it would wait for a look-up or a disk that hangs.
    runtime.shutdown_timeout(match stopped {
        Ok(Stopped::AtOnce) => AT_ONCE,
        _ => LAST_WORDS,
    });
    stopped
}

/// Where to listen.
#[derive(Debug)]
pub(super) enum At {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// The problem and its fix, if whoever reaches the port could spend the API key
/// (threats.md C3, C5).
pub(super) fn spendable(at: &At, guard: &Guard, key: bool) -> Option<(String, &'static str)> {
    let At::Tcp(address) = at else { return None };
    let host = address.ip();
    (key && !host.is_loopback() && guard.tokens.is_none()).then(|| {
        (
            format!("other machines can reach --host {host}, and could spend your API key"),
            "give clients tokens with --client-token-file, or listen on 127.0.0.1",
        )
    })
}

async fn serve(config: Config, at: At) -> Result<Stopped, Failure> {
    descriptors::raise();
    core_dumps::disable();
    let (listener, place) = listen(&at).await?;
    let announcement = announcement(&config, &place);
    let server = Server::new(config)
        .map_err(|error| Failure::Unreadable(format!("cannot start: {error}")))?;
    let signals = Signals::catch(|| {
        tracing::error!("something hangs: the second signal to stop ends it, exit code {GAVE_UP}");
        // A moment for the log's thread.
        std::thread::sleep(AT_ONCE);
        std::process::exit(GAVE_UP);
    });
    announce(announcement);
    let check = tokio::spawn(server.self_check());
    let stopped = tokio::select! {
        () = server.serve(listener, signals.clone().came(1)) => Stopped::Drained,
        () = signals.came(2) => {
            tracing::warn!("second signal to stop: answers were cut off");
            Stopped::AtOnce
        }
    };
    check.abort();
    Ok(stopped)
}

/// Listens; gives the listener and its address as text.
async fn listen(at: &At) -> Result<(Listener, String), Failure> {
    match at {
        At::Tcp(address) => {
            let refused = |error: std::io::Error| cannot_listen(*address, &error);
            let listener = TcpListener::bind(address).await.map_err(refused)?;
            let local = listener.local_addr().map_err(refused)?;
            Ok((listener.into(), format!("http://{local}")))
        }
        #[cfg(unix)]
        At::Unix(path) => {
            let socket = UnixSocket::bind(path).await.map_err(|error| {
                let hint = match error.kind() {
                    ErrorKind::AddrInUse => "\nhint: another verified-proxy listens there",
                    _ => "",
                };
                Failure::Unreadable(format!(
                    "cannot listen on unix:{}: {error}{hint}",
                    path.display()
                ))
            })?;
            Ok((socket.into(), format!("unix:{}", path.display())))
        }
        #[cfg(not(unix))]
        At::Unix(_) => Err(Failure::Usage(
            "--listen: this system has no Unix sockets".to_owned(),
        )),
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

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Failure {
    let hint = listening_hint(error.kind());
    let hint = hint.map_or(String::new(), |hint| format!("\nhint: {hint}"));
    Failure::Unreadable(format!(
        "cannot listen on {} port {}: {error}{hint}",
        address.ip(),
        address.port()
    ))
}

/// The one line on stdout, for people and scripts. stdout may be closed, and a full pipe may hold
/// the thread that writes for ever.
fn announce(line: String) {
    let written = std::thread::Builder::new().spawn(move || {
        if let Err(error) = writeln!(std::io::stdout(), "{line}") {
            tracing::warn!(%error, "stdout cannot be written: {line}");
        }
    });
    if let Err(error) = written {
        tracing::warn!(%error, "nothing was written to stdout");
    }
}

fn announcement(config: &Config, place: &str) -> String {
    let policy = &config.policy;
    let hardware_only = if policy.hardware_only() {
        ", ANY SOFTWARE"
    } else {
        ""
    };
    let page = if place.starts_with("http:") {
        format!("; web page at {place}/_proxy/")
    } else {
        String::new()
    };
    format!(
        "verified-proxy on {place} (policy {}{hardware_only}, digest {}){page}",
        policy.name(),
        policy.digest()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use proxy::config::Clock;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(options: &[&str]) -> Result<Config, Failure> {
        let program = ["serve"].iter();
        Alone::parse_from(program.chain(options)).args.config()
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        let shown = |config: Config| {
            let clock = Clock::from_fn(|| attest::UnixTime(0));
            format!("{:#?}", Config { clock, ..config })
        };
        let parsed = parsed(&["--state-dir", "none", "--proxy", "none"]).unwrap();
        assert_eq!(shown(parsed), shown(Config::new(attest::Policy::near())));
    }

    #[test]
    fn each_option_arrives_where_it_belongs() {
        let config = parsed(&[
            "--body-memory=2GiB",
            "--max-body=1GiB",
            "--connect-timeout=2",
            "--first-byte-timeout=3s",
            "--idle-timeout=4",
            "--client-idle-timeout=5",
            "--client-unread-timeout=6",
            "--drain-timeout=0",
            "--max-connections=7",
            "--pool-idle=8",
            "--pool-age=9",
            "--pool-requests=10",
            "--state-dir=/state",
            "--verdict-ttl=11",
            "--attest-timeout=12",
            "--nras-url=https://nras.example/",
        ])
        .unwrap();
        let seconds = Duration::from_secs;
        assert_eq!((config.max_body, config.body_memory), (1 << 30, 2 << 30));
        let timeouts = config.backend_timeouts;
        assert_eq!(
            (timeouts.connect, timeouts.first_byte, timeouts.idle),
            (seconds(2), seconds(3), seconds(4))
        );
        let timeouts = config.client_timeouts;
        assert_eq!(
            (timeouts.body_idle, timeouts.unread),
            (seconds(5), seconds(6))
        );
        assert_eq!(config.drain, Duration::ZERO);
        let pool = config.pool;
        assert_eq!((pool.per_backend, pool.requests), (7, 10));
        assert_eq!((pool.idle, pool.age), (seconds(8), seconds(9)));
        assert_eq!(config.state_dir, Some("/state".into()));
        assert_eq!(config.nras_url.to_string(), "https://nras.example/");
        assert_eq!(
            (config.verdict_ttl, config.attest_timeout),
            (seconds(11), seconds(12))
        );
    }

    #[test]
    fn a_body_that_could_never_be_held_is_refused_at_the_start() {
        for options in [
            ["--max-body=2GiB", "--body-memory=1GiB"],
            ["--max-body=5MiB", "--body-memory=5MiB"],
            ["--max-body=1", "--body-memory=1023"],
        ] {
            let failure = parsed(&options).unwrap_err();
            assert!(
                matches!(&failure, Failure::Usage(why) if why.contains("--body-memory")),
                "{failure}"
            );
        }
    }
}
