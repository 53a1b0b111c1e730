//! What is logged, and how.

mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use proxy::config::Counter;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use self::queue::Queue;

/// How the targets of this program's own lines begin, in each of its crates.
const OWN: &str = "verified_proxy";
/// Its other crates. `verified_proxy::MODULE` stands for a module of any of them.
const CRATES: [&str; 3] = [
    "verified_proxy_port",
    "verified_proxy_upstream",
    "verified_proxy_sources",
];

#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Logs")]
pub(super) struct Args {
    /// What is logged: error, warn, info, debug, trace, off, or MODULE=LEVEL,…
    ///
    /// Of libraries only "warn" and above is logged, whatever the level: below it some print what
    /// they send and receive. What happens again and again is said once a minute, with a count. "serve"
    /// drops lines that stderr does not take in time, and says how many.
    #[arg(
        long,
        env = "VERIFIED_PROXY_LOG",
        value_name = "LEVEL",
        default_value = "info"
    )]
    log: Filter,

    /// How lines on stderr look: for people, or one JSON object a line
    #[arg(long, env = "VERIFIED_PROXY_LOG_FORMAT", value_enum, default_value_t = Format::Text)]
    log_format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Args {
    /// Logs to stderr from now on, in step with what a command writes there itself.
    pub(super) fn init(&self) {
        self.init_with(io::stderr);
    }

    /// Logs to stderr from now on, panics included, so that no thread but the log's own ever
    /// waits for stderr.
    ///
    /// # Errors
    /// If that thread cannot be started.
    pub(super) fn init_serving(&self) -> io::Result<Log> {
        let dropped = Counter::default();
        let queue = Queue::start(io::stderr(), dropped.clone(), |lines| {
            // An error, so that each level shows it.
            tracing::error!(
                lines,
                "lines of the log were dropped: stderr did not take them"
            );
        })?;
        self.init_with(queue.clone());
        let log = Log { queue, dropped };
        let of_main = log.clone();
        std::panic::set_hook(Box::new(move |panic| {
            log_panic(panic);
            if std::thread::current().name() == Some("main") {
                // The process ends, and the log's thread with it.
                of_main.flush(PANIC_FLUSH);
            }
        }));
        Ok(log)
    }

    fn init_with(&self, writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) {
        let filtered = tracing_subscriber::registry().with(self.log.0.clone());
        // tracing-subscriber would print its own errors on stderr, and wait for it.
        let lines = fmt::layer().with_writer(writer).log_internal_errors(false);
        let started = match self.log_format {
            Format::Text => {
                let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
                filtered.with(lines.with_ansi(colour)).try_init()
            }
            Format::Json => {
                let lines = lines
                    .json()
                    .flatten_event(true)
                    .with_current_span(false)
                    .with_span_list(false);
                filtered.with(lines).try_init()
            }
        };
        // It fails in a process that logs already (tests), whose lines then count.
        let _ = started;
    }
}

/// For the line about a panic that ends the process.
const PANIC_FLUSH: Duration = Duration::from_millis(500);

/// The log of a process that serves.
#[derive(Debug, Clone)]
pub(super) struct Log {
    queue: Queue,
    /// Counts the lines that stderr did not take.
    pub(super) dropped: Counter,
}

impl Log {
    /// Waits until every line is on stderr, but no longer than `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        self.queue.flush(limit);
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let what = panic.payload_as_str().unwrap_or("no text");
    let at = panic.location().map(tracing::field::display);
    // As RUST_BACKTRACE says.
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(thread = thread.name(), at, backtrace, "panic: {what}");
}

/// A level for each module of this program; libraries never below "warn", since
/// what they say there can hold requests (h2 prints headers, rustls messages).
#[derive(Debug, Clone, PartialEq)]
struct Filter(Targets);

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = if text.is_empty() { "info" } else { text };
        // `Targets` would take a word alone for a module.
        let bare = text.split(',').filter(|part| !part.contains('='));
        for level in bare {
            if level.is_empty() || level.parse::<LevelFilter>().is_err() {
                return Err(format!(
                    "{level:?} is not a level; expected such as \"debug\", or MODULE=LEVEL,…"
                ));
            }
        }
        let wish: Targets = text.parse().map_err(|error| {
            format!("{error}; expected a level such as \"debug\", or MODULE=LEVEL,…")
        })?;
        let usual = wish.default_level().unwrap_or(LevelFilter::OFF);
        let mut filter = Targets::new()
            .with_default(usual.min(LevelFilter::WARN))
            .with_target(OWN, usual);
        for (target, level) in wish.iter() {
            if !target.starts_with(OWN) {
                filter = filter.with_target(target, level.min(LevelFilter::WARN));
                continue;
            }
            filter = filter.with_target(target, level);
            if let Some(module) = target.strip_prefix("verified_proxy::") {
                filter = filter.with_target(format!("verified_proxy_{module}"), level);
                for name in CRATES {
                    filter = filter.with_target(format!("{name}::{module}"), level);
                }
            }
        }
        Ok(Self(filter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn a_panic_is_one_line() {
        let (mut reader, writer) = io::pipe().unwrap();
        let lines = fmt::layer().with_writer(move || writer.try_clone().unwrap());
        let logs = tracing_subscriber::registry().with(lines.json());
        tracing::subscriber::with_default(logs, || {
            let usual = std::panic::take_hook();
            std::panic::set_hook(Box::new(log_panic));
            let panic = std::panic::catch_unwind(|| panic!("one\ntwo {}", 3));
            std::panic::set_hook(usual);
            assert!(panic.is_err());
        });
        let mut line = String::new();
        io::Read::read_to_string(&mut reader, &mut line).unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["level"], "ERROR");
        let fields = &line["fields"];
        assert_eq!(fields["message"], "panic: one\ntwo 3");
        assert!(
            fields["at"].as_str().unwrap().starts_with(file!()),
            "{line}"
        );
        assert!(
            fields["thread"]
                .as_str()
                .unwrap()
                .contains("a_panic_is_one_line")
        );
    }

    fn filter(text: &str) -> Targets {
        Filter::from_str(text).unwrap().0
    }

    #[test]
    fn libraries_are_never_heard_below_warn() {
        for wish in [
            "trace",
            "hyper=trace",
            "h2=trace,rustls=debug,trace",
            "verified=trace",
            "v=trace",
            "hyper::proto=trace",
        ] {
            let filter = filter(wish);
            for target in [
                "hyper",
                "hyper::proto::h1",
                "h2::codec",
                "rustls::conn",
                "tokio",
            ] {
                for level in [Level::TRACE, Level::DEBUG, Level::INFO] {
                    assert!(
                        !filter.would_enable(target, &level),
                        "{wish}: {target} {level}"
                    );
                }
            }
        }
        assert!(filter("trace").would_enable("rustls", &Level::WARN));
        assert!(!filter("off").would_enable("rustls", &Level::ERROR));
    }

    #[test]
    fn this_program_is_heard_as_wished() {
        let own = "verified_proxy::ingress";
        assert!(filter("info").would_enable(own, &Level::INFO));
        assert!(filter("").would_enable(own, &Level::INFO));
        assert!(!filter("info").would_enable(own, &Level::DEBUG));
        assert!(filter("trace").would_enable(own, &Level::TRACE));
        assert!(filter("verified_proxy=debug").would_enable(own, &Level::DEBUG));
        let some = filter("verified_proxy::ingress=debug,info");
        assert!(some.would_enable(own, &Level::DEBUG));
        assert!(!some.would_enable("verified_proxy::fetch", &Level::DEBUG));
        assert!(some.would_enable("verified_proxy_port::ingress", &Level::DEBUG));
        assert!(!some.would_enable("verified_proxy_sources::fetch", &Level::DEBUG));
        let judge = "verified_proxy_upstream::judge";
        assert!(filter("verified_proxy=debug").would_enable(judge, &Level::DEBUG));
        assert!(filter("verified_proxy::upstream=debug").would_enable(judge, &Level::DEBUG));
        assert!(!filter("info").would_enable(judge, &Level::DEBUG));
        assert!(!filter("off").would_enable(own, &Level::ERROR));
    }

    #[test]
    fn a_wish_that_is_not_understood_is_refused() {
        for wish in ["loud", "verified_proxy=loud", "=,"] {
            assert!(Filter::from_str(wish).is_err(), "{wish}");
        }
    }
}
