//! Values that a rule of the policy does not admit, and that its user accepts for a
//! while.
//!
//! Images, machine shapes, identities and TCB levels have rows of their own with an
//! exception. A list of plain values (a pin, a commit, a device) and a finding have
//! none, so what is accepted beside them stands here:
//!
//! ```toml
//! accepted = [{ rule = "pins.mrseam", value = "…", exception = { … } }]
//! ```

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::IntoDeserializer;
use serde::de::value::StrDeserializer;
use serde::{Deserialize, Serialize};

use super::Rules;
use crate::base::exception::Exception;
use crate::base::finding::Finding;
use crate::base::identifiers::UnixTime;
use crate::base::text::quoted;

/// A finding's detail has some hundreds of characters.
const MAX_VALUE: usize = 2_000;

/// A value that is accepted for a while.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcceptedValue {
    pub(crate) rule: ValueRule,
    pub(crate) value: String,
    pub(crate) exception: Exception,
}

macro_rules! rules {
    ($($variant:ident $name:literal;)*) => {
        /// The rules that such a value can be accepted beside.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub(crate) enum ValueRule {
            $(#[serde(rename = $name)] $variant,)*
        }

        impl ValueRule {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The key of the policy file.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

rules! {
    MrSeam "pins.mrseam";
    Rtmr0 "pins.rtmr0";
    ComposeHash "pins.compose_hashes";
    InstanceId "pins.instance_ids";
    Ppid "pins.ppids";
    Piid "pins.piids";
    Fmspc "pins.fmspcs";
    SigningKey "pins.signing_keys";
    GpuDevice "gpu.devices";
    GpuVersion "gpu.measurements";
    Commit "deployment.commits";
    ServiceImage "deployment.images";
    Finding "findings.refuse";
}

impl fmt::Display for ValueRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A finding, as a row names it: all of its words.
pub(crate) fn finding_value(finding: &Finding) -> String {
    format!("{}: {}", finding.topic, finding.detail)
}

impl AcceptedValue {
    /// Adds the value to the rule.
    ///
    /// # Errors
    /// What is wrong with it, or why it has no effect.
    fn add_to(&self, rules: &mut Rules) -> Result<(), String> {
        let pins = &mut rules.pins;
        let value = self.value.as_str();
        match self.rule {
            ValueRule::MrSeam => add(&mut pins.mrseam, value),
            ValueRule::Rtmr0 => add(&mut pins.rtmr0, value),
            ValueRule::ComposeHash => add(&mut pins.compose_hashes, value),
            ValueRule::InstanceId => add(&mut pins.instance_ids, value),
            ValueRule::Ppid => add(&mut pins.ppids, value),
            ValueRule::Piid => add(&mut pins.piids, value),
            ValueRule::Fmspc => add(&mut pins.fmspcs, value),
            ValueRule::SigningKey => add(&mut pins.signing_keys, value),
            ValueRule::GpuDevice => add(&mut rules.gpu.devices, value),
            ValueRule::GpuVersion => rules.gpu.accept_version(value),
            ValueRule::Commit => add(&mut rules.deployment.commits, value),
            ValueRule::ServiceImage => match &mut rules.deployment.files.digests {
                Some(digests) => add(digests, value),
                None => Err(COMPARES_NOTHING.to_owned()),
            },
            ValueRule::Finding => rules.findings.accept(value),
        }
    }
}

/// Why a value has no effect where its rule is empty.
const COMPARES_NOTHING: &str = "the policy has no such rule, so it refuses nothing";

fn add<T>(set: &mut BTreeSet<T>, value: &str) -> Result<(), String>
where
    T: Ord + Serialize + for<'de> Deserialize<'de>,
{
    if set.is_empty() {
        return Err(COMPARES_NOTHING.to_owned());
    }
    let text: StrDeserializer<'_, serde::de::value::Error> = value.into_deserializer();
    let read = T::deserialize(text).map_err(|error| error.to_string())?;
    // The text is compared with what is seen.
    if serde_json::to_value(&read)
        .ok()
        .as_ref()
        .and_then(|own| own.as_str())
        != Some(value)
    {
        return Err("expected the value in lower case".to_owned());
    }
    if set.insert(read) {
        Ok(())
    } else {
        Err("the rule admits this value already".to_owned())
    }
}

impl Rules {
    /// Each row names a value that its rule can hold and refuses without it.
    pub(crate) fn check_accepted(&self) -> Result<(), String> {
        let mut with = self.clone();
        let mut named = BTreeSet::new();
        for row in &self.accepted {
            let fails = |why: String| {
                Err(format!(
                    "accepted: {} = {}: {why}",
                    row.rule,
                    quoted(&row.value)
                ))
            };
            if row.value.len() > MAX_VALUE {
                return fails(format!("expected {MAX_VALUE} characters at most"));
            }
            // The same value until two days: the later one counts.
            if named.insert((row.rule, row.value.as_str()))
                && let Err(why) = row.add_to(&mut with)
            {
                return fails(why);
            }
        }
        Ok(())
    }

    /// The rules of a moment: with what is accepted beside them until later.
    pub(crate) fn at(&self, now: UnixTime) -> Cow<'_, Self> {
        if self.accepted.is_empty() {
            return Cow::Borrowed(self);
        }
        let mut rules = self.clone();
        for row in self.accepted.iter().filter(|row| row.exception.holds(now)) {
            // A value that stands there already was added by a row with another end.
            let _ = row.add_to(&mut rules);
        }
        Cow::Owned(rules)
    }

    /// The exception under which a value is accepted now, if it is by one.
    pub(crate) fn accepted(
        &self,
        rule: ValueRule,
        value: &str,
        now: UnixTime,
    ) -> Option<&Exception> {
        let rows = self.accepted.iter();
        rows.filter(|row| row.rule == rule && row.value == value && row.exception.holds(now))
            .map(|row| &row.exception)
            .max_by_key(|exception| exception.until)
    }
}
