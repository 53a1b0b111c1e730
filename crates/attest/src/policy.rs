//! What is accepted: a policy, parsed once, never empty, with a digest.
//!
//! There is no value that means "no check". A policy either names the software
//! and identity it expects, or says `software = "any"` and is marked as
//! hardware-only wherever it appears.

mod deployment;
mod file;
mod gpu;
mod hex;
mod rules;
mod written;

pub(crate) use self::deployment::{BrokenFiles, Sources, Tags, admit_release};
use self::file::File;
pub(crate) use self::gpu::Nras;
pub(crate) use self::hex::Hex;
pub use self::rules::AcceptTcb;
use self::rules::Software;
pub(crate) use self::rules::{AcpiMode, Mode, OsImage, Rules};
pub(crate) use self::written::{Seen, firmware_line, machine_line};
use crate::text::{quoted, shown};
use crate::{PolicyDigest, hash};

/// A policy file is written by hand; near.toml has 4 KB.
const MAX_POLICY_BYTES: usize = 256 << 10;

const NEAR: &str = include_str!("../policies/near.toml");
const HARDWARE: &str = include_str!("../policies/hardware.toml");

/// A policy that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the policy cannot be used: {0}")]
pub struct PolicyError(String);

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
    rules: Rules,
    digest: PolicyDigest,
}

impl Policy {
    /// The default: NEAR AI's inference backends.
    #[must_use]
    pub fn near() -> Self {
        Self::from_toml(NEAR).unwrap_or_else(|_| Self::nothing())
    }

    /// Hardware only: checks 1 to 6.
    #[must_use]
    pub fn hardware() -> Self {
        Self::from_toml(HARDWARE).unwrap_or_else(|_| Self::nothing())
    }

    /// A built-in policy by its name.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Self> {
        match name {
            "near" => Some(Self::near()),
            "hardware" => Some(Self::hardware()),
            _ => None,
        }
    }

    /// Accepts nothing. It stands where a built-in text could not be read,
    /// which a test rules out: the fallback of a proof is a refusal.
    fn nothing() -> Self {
        Self::resolved("nothing".to_owned(), String::new(), Rules::empty())
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
            Some("near") => Some(Self::near().rules),
            Some("hardware") => Some(Self::hardware().rules),
            Some(other) => {
                return Err(PolicyError(format!(
                    "extends = {}: only \"near\" and \"hardware\" can be extended",
                    quoted(other)
                )));
            }
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
        let is_built_in = base.is_none() && (text == NEAR || text == HARDWARE);
        if matches!(file.name.as_str(), "near" | "hardware") && !is_built_in {
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
        let rules = file.onto(base)?;
        rules.check().map_err(PolicyError)?;
        Ok(Self::resolved(name, date, rules))
    }

    fn resolved(name: String, date: String, rules: Rules) -> Self {
        // serde_json writes struct fields and sets in a fixed order.
        let canonical = serde_json::to_vec(&rules).unwrap_or_default();
        let digest = hash::sha256(&[b"verified-proxy policy v1\n", &canonical]);
        Self {
            name,
            date,
            rules,
            digest: PolicyDigest::from_bytes(digest),
        }
    }

    /// The policy plus a TCB status that the user accepts knowingly. Its digest differs.
    #[must_use]
    pub fn accepting(mut self, rule: AcceptTcb) -> Self {
        self.rules.tcb.accept_advisories.insert(rule);
        Self::resolved(self.name, self.date, self.rules)
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
        self.rules.software == Software::Any
    }

    /// True if without the opinion of NVIDIA's attestation service a machine is refused.
    #[must_use]
    pub fn requires_nras(&self) -> bool {
        self.rules.gpu.nras == Nras::Require
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

    /// True if the files of a deployment log have to be at hand, and its tags if
    /// they are compared.
    #[must_use]
    pub fn requires_sources(&self) -> bool {
        self.rules.deployment.mode != Mode::Off
            && self.rules.deployment.sources == Sources::Required
    }

    /// The resolved rules as TOML, for a person.
    #[must_use]
    pub fn to_toml(&self) -> String {
        format!(
            "name = \"{}\"\ndate = \"{}\"\n# digest = \"{}\"\n{}",
            self.name,
            self.date,
            self.digest,
            toml::to_string(&self.rules).unwrap_or_default()
        )
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }
}
