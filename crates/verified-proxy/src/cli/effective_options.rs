//! Each option's value and its source: for the log, and for docs/options.md.

use std::fmt::Write as _;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use super::clients;
use super::config_file::ConfigFile;
use super::outgoing;

/// Options whose value may be a secret by mistake, instead of its file's path.
const HIDING: [&str; 2] = ["api_key_file", "client_token_file"];

/// Every option of `command` that has a variable, with its value and source,
/// such as `port=8080 (default)`. Secrets are not shown.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// Those that are not defaults.
    pub(super) chosen: Vec<String>,
    /// All that have a value.
    pub(super) all: Vec<String>,
}

impl Settings {
    pub(super) fn of(command: &Command, matches: &ArgMatches, file: &ConfigFile) -> Self {
        let mut settings = Self::default();
        for option in options(command) {
            let id = option.get_id().as_str();
            let Ok(Some(values)) = matches.try_get_raw(id) else {
                continue;
            };
            let hides = HIDING.contains(&id);
            let values: Vec<_> = values
                .map(|value| match id {
                    "proxy" => outgoing::shown(&value.to_string_lossy()).into(),
                    _ if hides && !clients::may_be_shown(Path::new(value)) => {
                        "(not shown: no such file)".into()
                    }
                    _ => value.to_string_lossy(),
                })
                .collect();
            let source = match matches.value_source(id) {
                Some(ValueSource::CommandLine) => "flag",
                Some(ValueSource::EnvVariable) => "environment",
                _ if file.names(id) => "file",
                _ => "default",
            };
            let long = option.get_long().unwrap_or(id);
            let line = format!("{long}={} ({source})", values.join(","));
            if source != "default" {
                settings.chosen.push(line.clone());
            }
            settings.all.push(line);
        }
        settings
    }
    /// The value and source of one option, if it has a value.
    #[cfg(unix)]
    pub(super) fn of_option(&self, long: &str) -> Option<&str> {
        let mut settings = self.all.iter();
        settings.find_map(|line| line.strip_prefix(long)?.strip_prefix('='))
    }
}

fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|option| option.get_env().is_some())
}

/// docs/options.md.
pub(super) fn document(command: &Command) -> String {
    let mut text = String::from(
        "# Options\n\n\
         Generated from the code by `scripts/docs`.\n\n\
         Each option of `verified-proxy serve` is a flag, an environment variable and a key of the TOML\n\
         file that `--config` names; the first of flag, environment, file and default counts. A key is\n\
         the flag without dashes; repeatable options take an array there, and a list in the variable.\n\
         Relative paths in a file are relative to that file. Times are seconds, or such as `90s`, `10m`,\n\
         `1h`; sizes are bytes, or such as `100MiB`. Those marked * are also options of `verify`\n\
         and `models`; `doctor` takes all.\n",
    );
    let verify = super::command();
    let verify = verify.find_subcommand("verify");
    let mut heading = None;
    for option in options(command) {
        if heading != option.get_help_heading() {
            heading = option.get_help_heading();
            let _ = write!(
                text,
                "\n## {}\n\n| option | variable | default | what it is |\n|---|---|---|---|\n",
                heading.unwrap_or("Other")
            );
        }
        let shared = verify.is_some_and(|verify| {
            verify
                .get_arguments()
                .any(|other| other.get_id() == option.get_id())
        });
        let defaults: Vec<_> = option
            .get_default_values()
            .iter()
            .map(|value| format!("`{}`", value.to_string_lossy()))
            .collect();
        let help = option
            .get_long_help()
            .or(option.get_help())
            .map(ToString::to_string)
            .unwrap_or_default();
        line!(
            text,
            "| `--{}`{} | `{}` | {} | {} |",
            option.get_long().unwrap_or_default(),
            if shared { " *" } else { "" },
            option.get_env().unwrap_or_default().to_string_lossy(),
            defaults.join(", "),
            // The first paragraph is a line of --help, and has no full stop.
            help.replacen("\n\n", ". ", 1)
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .replace('|', "\\|"),
        );
    }
    text
}
