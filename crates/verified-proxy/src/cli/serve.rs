//! `verified-proxy serve`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use proxy::config::{BackendTimeouts, ClientTimeouts, Config, Counter, ModelLeast, PoolLimits};
use proxy::shutdown::Signals;
use proxy::{Server, core_dumps, descriptors};
#[cfg(unix)]
use tokio::sync::oneshot;
use upstream::BODY_SLACK;

use super::clients::{Clients, KeyFile, warn_others_read};
use super::effective_options::Settings;
use super::listening::{Listening, Source, listen_for_metrics, spendable, warn_of_network};
use super::options::{Shared, runtime};
use super::read_files::Failure;
#[cfg(unix)]
use super::reload::{Hangups, Started, at_hangups};
use super::{LAST_WORDS, fail, service_manager, units};

#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Listening")]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) listening: Listening,

    /// Largest request body: bytes, or with KiB, MiB, GiB
    #[arg(long, env = "VERIFIED_PROXY_MAX_BODY", value_name = "SIZE", default_value = "100MiB", value_parser = units::size)]
    max_body: u64,

    /// Memory for request bodies, over all requests
    #[arg(long, env = "VERIFIED_PROXY_BODY_MEMORY", value_name = "SIZE", default_value = "1GiB", value_parser = units::size)]
    body_memory: u64,

    /// How long a client may pause within a request's body; below 240 bytes a second, ten times
    /// as long in all
    #[arg(long, env = "VERIFIED_PROXY_CLIENT_IDLE_TIMEOUT", value_name = "TIME", default_value = "1m", value_parser = units::between(1, 3_600))]
    client_idle_timeout: Duration,

    /// How long a client may read nothing of its answer, and how long in all below 240 bytes a
    /// second
    #[arg(long, env = "VERIFIED_PROXY_CLIENT_UNREAD_TIMEOUT", value_name = "TIME", default_value = "10m", value_parser = units::between(1, 86_400))]
    client_unread_timeout: Duration,

    /// How long answers may go on after the signal to stop; a second signal ends them at once
    ///
    /// After them the program writes to its state directory for 5 s at most, and to a log that
    /// hangs for 1 s. If it still runs 1 s after the second signal, it ends with exit code 4.
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
    /// How long a backend may take nothing of a request's body; on Linux the system ends such a
    /// connection after 90 s, whatever is set
    #[arg(long, env = "VERIFIED_PROXY_UNREAD_TIMEOUT", value_name = "TIME", default_value = "1m", value_parser = units::between(1, 86_400))]
    unread_timeout: Duration,

    /// How long a backend may take to begin an answer, from the end of the request's body
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

pub(super) fn main(args: Args, settings: Settings) -> ExitCode {
    // First: it removes variables of a launcher, which no other thread may read meanwhile.
    let source = Source::of(&args.listening);
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
    let (code, limit) = match start(args, source, settings, log.dropped.clone()) {
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

    pub(super) fn api_key(&self) -> Result<Option<KeyFile>, Failure> {
        self.clients.api_key()
    }

    /// The configuration that these options make, with the files that they name.
    pub(super) fn config(self) -> Result<Config, Failure> {
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
                unread: backends.unread_timeout,
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

fn start(
    args: Args,
    source: Result<Source, Failure>,
    settings: Settings,
    log_lines_dropped: Counter,
) -> Result<Stopped, Failure> {
    let source = source?;
    let ips = source.ips();
    let metrics = args.listening.metrics_address();
    let config = Config {
        log_lines_dropped,
        ..args.config()?
    };
    if let Some((what, hint)) = spendable(&ips, &config.guard, config.api_key.is_some()) {
        return Err(Failure::Usage(format!("{what}\nhint: {hint}")));
    }
    warn_of_network(&ips, &config.guard);
    let runtime = runtime()?;
    let stopped = runtime.block_on(serve(config, source, metrics, settings));
    // Dropping it would wait for a reload that reads from a disk that hangs.
    runtime.shutdown_timeout(match stopped {
        Ok(Stopped::AtOnce) => AT_ONCE,
        _ => LAST_WORDS,
    });
    stopped
}

async fn serve(
    config: Config,
    source: Source,
    metrics: Option<SocketAddr>,
    settings: Settings,
) -> Result<Stopped, Failure> {
    descriptors::raise();
    core_dumps::disable();
    let ips = source.ips();
    let (listener, places) = source.listen().await?;
    let metrics = metrics.map(listen_for_metrics).transpose()?;
    let announcement = announcement(&config, &places);
    let mut server = Server::new(config)
        .map_err(|error| Failure::Unreadable(format!("cannot start: {error}")))?;
    if let Some(listener) = metrics {
        server = server.with_metrics(listener);
    }
    let signals = Signals::catch(|| {
        tracing::error!("something hangs: the second signal to stop ends it, exit code {GAVE_UP}");
        // A moment for the log's thread.
        std::thread::sleep(AT_ONCE);
        std::process::exit(GAVE_UP);
    });
    let place = places.join(" and ");
    #[cfg(unix)]
    let terminal_closed = {
        let (stop, stopped) = oneshot::channel();
        if let Some(hangups) = Hangups::catch() {
            let started = Started {
                ips,
                settings,
                place: place.clone(),
            };
            let reloads = at_hangups(hangups, server.reloader(), started, signals.clone(), stop);
            tokio::spawn(reloads);
        }
        stopped
    };
    announce(announcement);
    service_manager::ready(&format!("serving on {place}"));
    let check = tokio::spawn(server.self_check());
    let stop = async {
        #[cfg(unix)]
        tokio::select! {
            () = signals.clone().came(1) => {}
            Ok(()) = terminal_closed => {}
        }
        #[cfg(not(unix))]
        signals.clone().came(1).await;
        service_manager::stopping();
    };
    let stopped = tokio::select! {
        () = server.serve(listener, stop) => Stopped::Drained,
        () = signals.clone().came(2) => {
            tracing::warn!("second signal to stop: answers were cut off");
            Stopped::AtOnce
        }
    };
    check.abort();
    Ok(stopped)
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

fn announcement(config: &Config, places: &[String]) -> String {
    let policy = &config.policy;
    let hardware_only = if policy.hardware_only() {
        ", ANY SOFTWARE"
    } else {
        ""
    };
    let page = match places.first() {
        Some(url) if url.starts_with("http:") => format!("; web page at {url}/_proxy/"),
        _ => String::new(),
    };
    format!(
        "verified-proxy on {} (policy {}{hardware_only}, digest {}){page}",
        places.join(" and "),
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
            "--unread-timeout=13",
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
        assert_eq!(timeouts.unread, seconds(13));
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
