//! One row that a policy gets, as a person would write it, and where it goes in a file
//! whose comments stay.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use toml::{Spanned, Table, Value};

use super::rules::accepted::AcceptedValue;
use super::rules::image::OsImage;
use super::rules::{Identity, Machine, Rules};
use super::{Policy, PolicyError};
use crate::base::exception::{Day, Exception};
use crate::base::levels::{BootLevel, HardwareLevel};
use crate::base::tcb::AcceptTcb;

/// What is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Row {
    Image(OsImage),
    Machine(Machine),
    Tcb(AcceptTcb),
    Identity(Identity),
    Value(AcceptedValue),
}

/// Keys in the order in which a person reads a row; others come between.
const FIRST: [&str; 8] = [
    "name",
    "rule",
    "component",
    "status",
    "value",
    "until",
    "reason",
    "by",
];
const LAST: &str = "exception";

impl Row {
    /// The key of a policy file that it stands under.
    pub(crate) const fn key(&self) -> &'static str {
        match self {
            Self::Image(_) => "os_image",
            Self::Machine(_) => "machine",
            Self::Tcb(_) => "tcb.accept_advisories",
            Self::Identity(_) => "identity",
            Self::Value(_) => "accepted",
        }
    }

    fn exception(&self) -> Option<&Exception> {
        match self {
            Self::Image(row) => row.exception.as_ref(),
            Self::Machine(row) => row.exception.as_ref(),
            Self::Tcb(row) => Some(&row.exception),
            Self::Identity(row) => row.exception.as_ref(),
            Self::Value(row) => Some(&row.exception),
        }
    }

    fn fields(&self) -> Vec<(String, Value)> {
        let table = match self {
            Self::Image(row) => Table::try_from(row),
            Self::Machine(row) => Table::try_from(row),
            Self::Tcb(row) => Table::try_from(row),
            Self::Identity(row) => Table::try_from(row),
            Self::Value(row) => Table::try_from(row),
        };
        ordered(table.unwrap_or_default())
    }

    /// `key = [{ … }]`: the whole row in a line, for a person who writes it down.
    pub(crate) fn line(&self) -> String {
        format!("{} = [{}]", self.key(), inline(self.fields()))
    }

    /// As a table of its own, under a remark.
    fn block(&self, day: Day) -> String {
        let mut text = format!("\n{}[[{}]]\n", self.remark(day, ""), self.key());
        for (key, value) in self.fields() {
            text.push_str(&format!("{key} = {}\n", written(value)));
        }
        text
    }

    fn remark(&self, day: Day, indent: &str) -> String {
        self.exception().map_or(String::new(), |exception| {
            format!("{indent}# Accepted on {day}, until {}.\n", exception.until)
        })
    }

    /// The rules that have the row too: what a changed file has to mean, and no more.
    fn added_to(&self, mut rules: Rules) -> Rules {
        let boot = rules.least.boot.min(BootLevel::AcceptedByYou);
        match self.clone() {
            Self::Image(row) => {
                rules.os_images.insert(row);
                rules.least.boot = boot;
            }
            Self::Machine(row) => {
                rules.machines.insert(row);
                rules.least.boot = boot;
            }
            Self::Tcb(row) => {
                rules.tcb.accept_advisories.insert(row);
                rules.least.hardware = HardwareLevel::Outdated;
            }
            Self::Identity(row) => {
                rules.identities.insert(row);
            }
            Self::Value(row) => {
                rules.accepted.insert(row);
            }
        }
        rules
    }

    /// The text of a policy with this row, and nothing else changed.
    ///
    /// A list of tables can be written in two ways, and a table in three, so there is no
    /// one place where a row can go. Each is tried, and the first one stays that gives
    /// exactly the rules with the row.
    pub(crate) fn added_to_text(&self, text: &str, day: Day) -> Result<String, PolicyError> {
        let wanted = self.added_to(Policy::from_toml(text)?.rules);
        let mut newline = text.to_owned();
        if !newline.is_empty() && !newline.ends_with('\n') {
            newline.push('\n');
        }
        let places = [
            self.within(text, day),
            Some(format!("{newline}{}", self.block(day))),
            Some(format!("{}{}\n{text}", self.remark(day, ""), self.line())),
        ];
        let mut why = None;
        for candidate in places.into_iter().flatten() {
            match Policy::from_toml(&candidate) {
                Ok(policy) if policy.rules == wanted => return Ok(candidate),
                Ok(_) => {}
                // The first place where it can be read says most.
                Err(error) => why = why.or(Some(error)),
            }
        }
        Err(why.unwrap_or_else(|| {
            PolicyError(format!(
                "the line would change more than {}: write it into the file yourself",
                self.key()
            ))
        }))
    }

    /// At the beginning of the list, if the file writes it as one value.
    fn within(&self, text: &str, day: Day) -> Option<String> {
        let span = span(text, self.key())?;
        let list = text.get(span.clone())?;
        if !list.starts_with('[') || list.starts_with("[[") {
            return None;
        }
        let at = span.start.checked_add(1)?;
        let (before, after) = text.split_at_checked(at)?;
        let remark = self.remark(day, "    ");
        let row = inline(self.fields());
        Some(format!(
            "{before}\n{remark}    {row},\n    {}",
            after.trim_start_matches(' ')
        ))
    }
}

/// Where the value of `key` stands.
fn span(text: &str, key: &str) -> Option<Range<usize>> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Lists {
        os_image: Option<Spanned<Value>>,
        machine: Option<Spanned<Value>>,
        identity: Option<Spanned<Value>>,
        accepted: Option<Spanned<Value>>,
        tcb: Tcb,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Tcb {
        accept_advisories: Option<Spanned<Value>>,
    }
    let lists: Lists = toml::from_str(text).ok()?;
    let value = match key {
        "os_image" => lists.os_image,
        "machine" => lists.machine,
        "identity" => lists.identity,
        "accepted" => lists.accepted,
        _ => lists.tcb.accept_advisories,
    };
    value.map(|value| value.span())
}

fn ordered(table: Table) -> Vec<(String, Value)> {
    let mut fields: Vec<_> = table.into_iter().collect();
    fields.sort_by_key(|(key, _)| {
        let place = FIRST.iter().position(|first| first == key);
        (key == LAST, place.unwrap_or(FIRST.len()))
    });
    fields
}

fn inline(fields: Vec<(String, Value)>) -> String {
    let fields = fields.into_iter();
    let fields: Vec<_> = fields
        .map(|(key, value)| format!("{key} = {}", written(value)))
        .collect();
    format!("{{ {} }}", fields.join(", "))
}

/// A value in one line.
fn written(value: Value) -> String {
    match value {
        Value::Table(table) => inline(ordered(table)),
        Value::Array(values) => {
            let values: Vec<_> = values.into_iter().map(written).collect();
            format!("[{}]", values.join(", "))
        }
        Value::String(text) => {
            let mut out = String::new();
            match text.serialize(toml::ser::ValueSerializer::new(&mut out)) {
                Ok(_) => out,
                Err(_) => String::new(),
            }
        }
        other => other.to_string(),
    }
}
