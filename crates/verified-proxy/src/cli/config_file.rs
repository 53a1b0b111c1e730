//! `--config FILE`: options from TOML, as defaults of the command line.
//!
//! clap parses the file's values as a command line of their own, so they mean the same
//! as flags. Then they replace the options' defaults: flags and environment override them.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::Path;

use attest::Policy;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command, ValueHint};
use toml::{Table, Value};

use super::read_files::{self, Failure};
use super::units::StateDir;

/// Values by the option's id, at least one each.
#[derive(Debug, Default)]
pub(super) struct ConfigFile(BTreeMap<String, Vec<String>>);

/// What is wrong, and where. The error itself would print the line, which may hold the password
/// of a proxy.
fn without_line(error: &toml::de::Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    format!("not TOML in line {line}: {}", error.message())
}

impl ConfigFile {
    /// Reads `path`; `options` is a command with every option that may occur.
    pub(super) fn read(path: &Path, options: &Command) -> Result<Self, Failure> {
        let bytes = read_files::read(path)
            .map_err(|failure| Failure::Unreadable(format!("--config {failure}")))?;
        let refused = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
        let text = String::from_utf8(bytes).map_err(|_| refused("not UTF-8".to_owned()))?;
        let table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| refused(without_line(&error, &text)))?;
        let base = path.parent().unwrap_or(Path::new(""));
        let mut file = Self::default();
        let mut arguments = vec!["config".to_owned()];
        for (key, value) in &table {
            let option = option(options, key).map_err(refused)?;
            let values =
                texts(option, value).map_err(|why| refused(format!("key \"{key}\": {why}")))?;
            let values: Vec<_> = values
                .into_iter()
                .map(|value| beside(base, option, value))
                .collect();
            arguments.extend(values.iter().map(|value| format!("--{key}={value}")));
            file.0.insert(option.get_id().to_string(), values);
        }
        options
            .clone()
            .try_get_matches_from(arguments)
            .map_err(|error| refused(reason(&error)))?;
        Ok(file)
    }

    pub(super) fn names(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// `command` and its subcommands, with these values as defaults.
    pub(super) fn as_defaults(&self, command: Command) -> Command {
        let command = self.0.iter().fold(command, |command, (id, values)| {
            if command.get_arguments().any(|option| option.get_id() == id) {
                command.mut_arg(id, |option| option.default_values(values))
            } else {
                command
            }
        });
        command.mut_subcommands(|subcommand| self.as_defaults(subcommand))
    }
}

/// Whether `option` may be in a file: all with a variable, except `--config` itself.
fn may_stand(option: &Arg) -> bool {
    option.get_env().is_some() && option.get_id() != "config"
}

fn option<'a>(options: &'a Command, key: &str) -> Result<&'a Arg, String> {
    let known = || options.get_arguments().filter(|option| may_stand(option));
    if let Some(option) = known().find(|option| option.get_long() == Some(key)) {
        return Ok(option);
    }
    // A long key is not a misspelling, and comparing it is slow.
    let key: String = key.chars().take(64).collect();
    let closest = known()
        .filter_map(Arg::get_long)
        .map(|long| (strsim::jaro_winkler(long, &key), long))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    Err(match closest {
        Some((_, long)) => format!("unknown key {key:?}; did you mean \"{long}\"?"),
        None => format!("unknown key {key:?}; keys are the long names of \"serve\"'s options"),
    })
}

fn texts(option: &Arg, value: &Value) -> Result<Vec<String>, String> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        _ => None,
    };
    let repeatable = matches!(option.get_action(), ArgAction::Append);
    let texts = match value {
        Value::Array(values) if repeatable => values.iter().map(one).collect(),
        value => one(value).map(|text| vec![text]),
    };
    match texts {
        Some(texts) if texts.is_empty() => {
            Err("the array is empty; remove the key to use the default".to_owned())
        }
        Some(texts) => Ok(texts),
        None if repeatable => Err(format!(
            "expected a string, or an array of strings, found {}",
            found(value)
        )),
        None => Err(format!(
            "expected a string or a whole number, found {}",
            found(value)
        )),
    }
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "an array",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date",
        Value::Float(_) => "a fraction",
        Value::Integer(_) => "a number",
        Value::String(_) => "a string",
        Value::Table(_) => "a table",
    }
}

/// A relative path is relative to the file that has it.
fn beside(base: &Path, option: &Arg, value: String) -> String {
    let is_path = matches!(
        option.get_value_hint(),
        ValueHint::FilePath | ValueHint::DirPath
    );
    let is_word = match option.get_id().as_str() {
        "policy" => Policy::built_in(&value).is_some(),
        "state_dir" => value == StateDir::NOWHERE,
        _ => false,
    };
    if !is_path || is_word || value.is_empty() {
        return value;
    }
    match base.join(&value).into_os_string().into_string() {
        Ok(path) => path,
        Err(_) => value,
    }
}

/// clap's message, with the key instead of the option.
fn reason(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let option = context(ContextKind::InvalidArg).unwrap_or_default();
    let key = option.split([' ', '=']).next().unwrap_or_default();
    let mut text = format!(
        "key \"{}\": invalid value {:?}",
        key.trim_start_matches("--"),
        context(ContextKind::InvalidValue).unwrap_or_default()
    );
    if let Some(source) = error.source() {
        text.push_str(&format!(": {source}"));
    }
    if let Some(valid) = context(ContextKind::ValidValue) {
        text.push_str(&format!("; expected one of {valid}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_no_toml_is_not_repeated() {
        for (text, line) in [
            ("port = 1\nproxy = http://me:canary@proxy.example:3128\n", 2),
            (
                "proxy = \"http://me:canary@proxy.example:3128\nport = 1\n",
                1,
            ),
            ("\n\nproxy http://me:canary@proxy.example\n", 3),
            ("proxy = ['http://me:canary@proxy.example'", 1),
        ] {
            let error = text.parse::<Table>().unwrap_err();
            let said = without_line(&error, text);
            assert!(
                said.starts_with(&format!("not TOML in line {line}: ")),
                "{said}"
            );
            assert!(!said.contains("canary"), "{said}");
        }
    }

    #[test]
    fn paths_are_beside_the_file_and_words_stay() {
        let base = Path::new("/etc/vp");
        let path = |id: &'static str| Arg::new(id).value_hint(ValueHint::FilePath);
        let beside = |option: &Arg, value: &str| beside(base, option, value.to_owned());
        assert_eq!(beside(&path("extra_ca"), "ca.pem"), "/etc/vp/ca.pem");
        assert_eq!(beside(&path("extra_ca"), "/ca.pem"), "/ca.pem");
        assert_eq!(beside(&path("policy"), "mine.toml"), "/etc/vp/mine.toml");
        assert_eq!(beside(&path("policy"), "hardware"), "hardware");
        assert_eq!(beside(&path("state_dir"), "none"), "none");
        assert_eq!(beside(&Arg::new("host"), "127.0.0.1"), "127.0.0.1");
    }
}
