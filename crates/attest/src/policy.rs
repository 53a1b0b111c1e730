//! What is accepted: a policy, parsed once, never empty, with a digest.
//!
//! There is no value that means "no check". A policy states the least level that it
//! accepts on each axis of a verdict; one that accepts any software is marked as
//! hardware-only wherever it appears. What a policy asks for can be no weaker than what
//! it rests on, which is looked at when it is loaded.

pub(crate) mod diff;
pub(crate) mod difference;
pub(crate) mod file;
pub(crate) mod known;
pub(crate) mod origins;
pub(crate) mod row;
pub(crate) mod rules;
pub(crate) mod written;

pub use self::diff::{Effect, RuleChange};
pub use self::difference::Difference;
use self::file::File;
pub use self::known::{AcceptableImage, Known};
pub(crate) use self::rules::accepted::{ValueRule, finding_value};
pub(crate) use self::rules::deployment::{BrokenFiles, Sources, Tags, admit_release};
pub(crate) use self::rules::gpu::{Nras, Places};
pub(crate) use self::rules::image::{Forms, ImageDecision, ImageRow, SeenImage};
pub(crate) use self::rules::{Accepted, AcpiMode, Mode, Row, Rules, best};
pub(crate) use self::written::Seen;
use crate::base::exception::Exception;
use crate::base::hash;
use crate::base::identifiers::PolicyDigest;
use crate::base::levels::{BootLevel, HardwareLevel, Levels};
use crate::base::tcb::AcceptTcb;
use crate::base::text::{quoted, shown};
use crate::compose::FileRules;

/// A policy file is written by hand; near.toml has 4 KB.
const MAX_POLICY_BYTES: usize = 256 << 10;

const NEAR: &str = include_str!("../policies/near.toml");
const NEAR_STRICT: &str = include_str!("../policies/near-strict.toml");
const HARDWARE: &str = include_str!("../policies/hardware.toml");

/// A policy that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the policy cannot be used: {0}")]
pub struct PolicyError(pub(crate) String);

/// toml's own words: some lines with a mark under the place. The file may come
/// from anywhere, so they are bounded and escaped line by line.
fn toml_error(error: &toml::de::Error) -> String {
    let lines: Vec<_> = error.to_string().lines().take(12).map(shown).collect();
    lines.join("\n")
}

/// What is accepted, resolved and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    name: String,
    date: String,
    /// The built-in policy that it extends.
    extends: Option<&'static str>,
    rules: Rules,
    digest: PolicyDigest,
}

impl Policy {
    /// The default: NEAR AI's inference backends.
    #[must_use]
    pub fn near() -> Self {
        Self::from_toml(NEAR).unwrap_or_else(|_| Self::nothing())
    }

    /// As [`Policy::near`], and what was started there are releases whose files keep
    /// the rules.
    #[must_use]
    pub fn near_strict() -> Self {
        Self::from_toml(NEAR_STRICT).unwrap_or_else(|_| Self::nothing())
    }

    /// Hardware only: checks 1 to 6.
    #[must_use]
    pub fn hardware() -> Self {
        Self::from_toml(HARDWARE).unwrap_or_else(|_| Self::nothing())
    }

    /// The names of the built-in policies, the default first.
    pub const BUILT_IN: [&'static str; 3] = ["near", "near-strict", "hardware"];

    /// A built-in policy by its name.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Self> {
        match name {
            "near" => Some(Self::near()),
            "near-strict" => Some(Self::near_strict()),
            "hardware" => Some(Self::hardware()),
            _ => None,
        }
    }

    /// Accepts nothing. It stands where a built-in text could not be read,
    /// which a test rules out: the fallback of a proof is a refusal.
    fn nothing() -> Self {
        Self::resolved("nothing".to_owned(), String::new(), None, Rules::empty())
    }

    /// Reads a policy file.
    ///
    /// # Errors
    /// [`PolicyError`] with the line, or with what is missing.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        if text.len() > MAX_POLICY_BYTES {
            return Err(PolicyError(format!(
                "{} bytes, at most {MAX_POLICY_BYTES} are read",
                text.len()
            )));
        }
        let file: File = toml::from_str(text).map_err(|error| PolicyError(toml_error(&error)))?;
        let base = match file.extends.as_deref() {
            None => None,
            Some(name) => match Self::built_in(name) {
                Some(policy) => Some(policy.rules),
                None => {
                    return Err(PolicyError(format!(
                        "extends = {}: only {} can be extended",
                        quoted(name),
                        Self::BUILT_IN.map(|name| format!("\"{name}\"")).join(", ")
                    )));
                }
            },
        };
        let name_is_plain = (1..=64).contains(&file.name.len())
            && file
                .name
                .chars()
                .all(|c| (' '..='~').contains(&c) && !matches!(c, '"' | '\\'));
        if !name_is_plain {
            return Err(PolicyError(
                "name: expected 1 to 64 printable characters".to_owned(),
            ));
        }
        let is_built_in = [NEAR, NEAR_STRICT, HARDWARE].contains(&text);
        if Self::BUILT_IN.contains(&file.name.as_str()) && !is_built_in {
            return Err(PolicyError(format!(
                "name = \"{}\" is the name of a built-in policy; choose another",
                file.name
            )));
        }
        if chrono::NaiveDate::parse_from_str(&file.date, "%Y-%m-%d").is_err() {
            return Err(PolicyError(format!(
                "date: expected a day such as 2026-11-22, got {}",
                quoted(&file.date)
            )));
        }
        let (name, date) = (file.name.clone(), file.date.clone());
        let extends = file.extends.as_deref();
        let extends = Self::BUILT_IN.into_iter().find(|own| extends == Some(own));
        let rules = file.onto(base)?;
        rules.check().map_err(PolicyError)?;
        Ok(Self::resolved(name, date, extends, rules))
    }

    fn resolved(name: String, date: String, extends: Option<&'static str>, rules: Rules) -> Self {
        // serde_json writes struct fields and sets in a fixed order.
        let canonical = serde_json::to_vec(&rules).unwrap_or_default();
        let digest = hash::sha256(&[b"verified-proxy policy v1\n", &canonical]);
        Self {
            name,
            date,
            extends,
            rules,
            digest: PolicyDigest::from_bytes(digest),
        }
    }

    /// The policy plus a TCB status that the user accepts knowingly. Its digest differs.
    #[must_use]
    pub fn accepting(mut self, rule: AcceptTcb) -> Self {
        self.rules.tcb.accept_advisories.insert(rule);
        self.rules.least.hardware = HardwareLevel::Outdated;
        Self::resolved(self.name, self.date, self.extends, self.rules)
    }

    /// Its own name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The day of the newest evidence that its values were held against (YYYY-MM-DD).
    #[must_use]
    pub fn date(&self) -> &str {
        &self.date
    }

    /// SHA-256 over every rule; name, date and comments do not count.
    #[must_use]
    pub fn digest(&self) -> PolicyDigest {
        self.digest
    }

    /// True if software and identity are not looked at.
    #[must_use]
    pub fn hardware_only(&self) -> bool {
        self.rules.least.boot == BootLevel::Any
    }

    /// The least level that it accepts, axis by axis.
    #[must_use]
    pub fn least(&self) -> Levels {
        self.rules.least
    }

    /// What it accepts for a while, and where it says so.
    pub fn exceptions(&self) -> impl Iterator<Item = (&'static str, &Exception)> {
        self.rules.exceptions()
    }

    /// True if without the opinion of NVIDIA's attestation service a machine is refused.
    #[must_use]
    pub fn requires_nras(&self) -> bool {
        self.rules.gpu.nras == Nras::Require
    }

    /// True if what went down at a domain since it was last seen is refused.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.rules.hold
    }

    /// True if NVIDIA's attestation service is asked for its opinion.
    #[must_use]
    pub fn asks_nras(&self) -> bool {
        self.rules.gpu.nras != Nras::Off
    }

    /// True if the tags of a deployment log are compared with its repository's.
    #[must_use]
    pub fn compares_tags(&self) -> bool {
        self.rules.deployment.mode != Mode::Off && self.rules.deployment.tags != Tags::Any
    }

    /// True if a verdict requires the deployment log's files (and its tags, where they are
    /// compared) to be available.
    #[must_use]
    pub fn requires_sources(&self) -> bool {
        self.rules.deployment.mode != Mode::Off
            && self.rules.deployment.sources == Sources::Required
    }

    /// The resolved rules as TOML, for a person: each with the name of the policy that
    /// it comes from.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let text = |policy: &Self| toml::to_string(&policy.rules).unwrap_or_default();
        let base = self.extends.and_then(Self::built_in);
        let base = base.as_ref().map(|base| (base.name.as_str(), text(base)));
        let base = base.as_ref().map(|(name, text)| (*name, text.as_str()));
        format!(
            "name = \"{}\"\ndate = \"{}\"\n# digest = \"{}\"\n{}",
            self.name,
            self.date,
            self.digest,
            origins::annotated(&text(self), &self.name, base)
        )
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }
}

/// Those of policy `near`.
impl Default for FileRules {
    fn default() -> Self {
        Policy::near().rules().deployment.files.clone()
    }
}
