//! What is accepted: a policy, parsed once, never empty, with a digest.
//!
//! There is no value that means "no check". A policy either names the software
//! and identity it expects, or says `software = "any"` and is marked as
//! hardware-only wherever it appears.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::rtmr0::{AcpiDigests, Firmware};
use crate::tcb::{Component, Level, TcbStatus};
use crate::text::{hex_array, hex_bytes, quoted, shown, shown_hex};
use crate::{PolicyDigest, Rejected, SigningKey, hash};

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

/// Bytes of a fixed length, written as hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hex<const LEN: usize>(pub(crate) [u8; LEN]);

impl<const LEN: usize> std::fmt::Display for Hex<LEN> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl<const LEN: usize> std::fmt::Debug for Hex<LEN> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl<const LEN: usize> Serialize for Hex<LEN> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const LEN: usize> Deserialize<'de> for Hex<LEN> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex_array(&text).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "expected {LEN} bytes in hex, got {}",
                quoted(&text)
            ))
        })
    }
}

/// Bytes of any length, written as hex; kept in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(crate) struct HexText(String);

impl HexText {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for HexText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match hex_bytes(&text) {
            Some(bytes) if !bytes.is_empty() => Ok(Self(hex::encode(bytes))),
            _ => Err(serde::de::Error::custom(format!(
                "expected hex, got {}",
                quoted(&text)
            ))),
        }
    }
}

/// Every rule of a resolved policy. Sets are ordered, so that equal rules have
/// equal digests however they were written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Rules {
    pub(crate) software: Software,
    pub(crate) acpi: AcpiMode,
    pub(crate) tcb: TcbRules,
    pub(crate) td: TdRules,
    pub(crate) pins: Pins,
    #[serde(rename = "identity")]
    pub(crate) identities: BTreeSet<Identity>,
    #[serde(rename = "os_image")]
    pub(crate) os_images: BTreeSet<OsImage>,
    #[serde(rename = "firmware")]
    pub(crate) firmwares: BTreeSet<FirmwareRule>,
    #[serde(rename = "machine")]
    pub(crate) machines: BTreeSet<Machine>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Software {
    /// Compared with what the policy names.
    Expected,
    /// Not looked at: hardware only.
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AcpiMode {
    /// A machine shape of the policy.
    Require,
    /// Any; the verdict says "not proved".
    Report,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TcbRules {
    /// Accepted whatever advisories there are.
    pub(crate) accept: BTreeSet<TcbStatus>,
    /// Accepted if each advisory of the level is listed.
    pub(crate) accept_advisories: BTreeSet<AcceptTcb>,
    /// The least `tcbEvaluationDataNumber`.
    pub(crate) min_evaluation_number: Option<u32>,
}

impl TcbRules {
    pub(crate) fn admits(&self, component: Component, level: &Level) -> bool {
        level.status != TcbStatus::Revoked
            && (self.accept.contains(&level.status)
                || self
                    .accept_advisories
                    .iter()
                    .any(|rule| rule.admits(component, level)))
    }
}

/// A TCB status that is accepted as long as no other advisories apply than these.
///
/// As text: `OutOfDate:INTEL-SA-01036,INTEL-SA-01079`, for platform, TDX module
/// and quoting enclave alike. A rule with advisories accepts no level without
/// any; `OutOfDate:` accepts just those.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptTcb {
    /// Whose level; all three if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    component: Option<Component>,
    status: TcbStatus,
    advisories: BTreeSet<String>,
}

impl FromStr for AcceptTcb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (status, advisories) = text.split_once(':').ok_or_else(|| {
            format!(
                "expected STATUS:ADVISORY,... such as OutOfDate:INTEL-SA-01036, got {}",
                quoted(text)
            )
        })?;
        let rule = Self {
            component: None,
            status: status.parse()?,
            advisories: advisories
                .split(',')
                .map(str::trim)
                .filter(|id| !id.is_empty())
                .map(str::to_owned)
                .collect(),
        };
        rule.check()?;
        Ok(rule)
    }
}

impl AcceptTcb {
    fn admits(&self, component: Component, level: &Level) -> bool {
        self.component.is_none_or(|own| own == component)
            && self.status == level.status
            && self.advisories.is_empty() == level.advisories.is_empty()
            && level
                .advisories
                .iter()
                .all(|id| self.advisories.contains(id))
    }

    fn check(&self) -> Result<(), String> {
        if self.status == TcbStatus::Revoked {
            return Err(
                "no policy can accept Revoked: keys of that level are compromised".to_owned(),
            );
        }
        for id in &self.advisories {
            let is_plain = (1..=64).contains(&id.len())
                && id
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-');
            if !is_plain {
                return Err(format!(
                    "expected an advisory such as INTEL-SA-01036, got {}",
                    quoted(id)
                ));
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TdRules {
    pub(crate) attributes: BTreeSet<Hex<8>>,
    pub(crate) xfam: BTreeSet<Hex<8>>,
}

/// An application under a KMS. They count together only: an app-id is the
/// host's choice until the KMS that it belongs to has signed for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    name: String,
    app_id: Hex<20>,
    /// SubjectPublicKeyInfo (DER) of the root key.
    kms_root: HexText,
}

impl Rules {
    /// Some identity names this KMS, and one names it with this application.
    pub(crate) fn admit_identity(&self, kms_root: &str, app_id: &[u8]) -> Result<(), Rejected> {
        let of_kms = || {
            self.identities
                .iter()
                .filter(|own| own.kms_root.0 == kms_root)
        };
        if of_kms().next().is_none() {
            return Err(Rejected::KmsRoot {
                got: shown(kms_root),
                allowed: self.identities.len(),
                accept: identity_line(app_id, kms_root),
            });
        }
        if !of_kms().any(|own| own.app_id.0 == app_id) {
            return Err(Rejected::AppId {
                got: shown_hex(app_id),
                accept: identity_line(app_id, kms_root),
            });
        }
        Ok(())
    }
}

/// Firmware, kernel and initrd of one image. They count together only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OsImage {
    name: String,
    pub(crate) mrtd: Hex<48>,
    pub(crate) rtmr1: Hex<48>,
    pub(crate) rtmr2: Hex<48>,
    pub(crate) os_image_hash: Hex<32>,
}

/// The constant events of RTMR0 of one firmware. They count together only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FirmwareRule {
    name: String,
    cfv: Hex<48>,
    secure_boot: Hex<48>,
    pk: Hex<48>,
    kek: Hex<48>,
    db: Hex<48>,
    dbx: Hex<48>,
    separator: Hex<48>,
    boot_order: Hex<48>,
    boot_0000: Hex<48>,
}

impl FirmwareRule {
    fn digests(&self) -> Firmware {
        Firmware {
            cfv: self.cfv.0,
            secure_boot: self.secure_boot.0,
            pk: self.pk.0,
            kek: self.kek.0,
            db: self.db.0,
            dbx: self.dbx.0,
            separator: self.separator.0,
            boot_order: self.boot_order.0,
            boot_0000: self.boot_0000.0,
        }
    }
}

/// The ACPI tables of one machine shape. They count together only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    name: String,
    acpi_loader: Hex<48>,
    acpi_rsdp: Hex<48>,
    acpi_tables: Hex<48>,
}

impl Rules {
    /// The name of the image, if it is allowed.
    pub(crate) fn os_image(&self, seen: &OsImage) -> Option<&str> {
        self.os_images
            .iter()
            .find(|allowed| {
                (
                    allowed.mrtd,
                    allowed.rtmr1,
                    allowed.rtmr2,
                    allowed.os_image_hash,
                ) == (seen.mrtd, seen.rtmr1, seen.rtmr2, seen.os_image_hash)
            })
            .map(|allowed| allowed.name.as_str())
    }

    /// The name of the firmware, if it is allowed; else the first event that
    /// differs from the firmware that agrees most.
    pub(crate) fn firmware(&self, seen: &Firmware) -> Result<&str, (&'static str, [u8; 48])> {
        let mut nearest: Option<(usize, (&'static str, [u8; 48]))> = None;
        for allowed in &self.firmwares {
            let differing: Vec<_> = seen
                .events()
                .into_iter()
                .zip(allowed.digests().events())
                .filter(|((_, got), (_, expected))| got != expected)
                .map(|((name, got), _)| (name, *got))
                .collect();
            let Some(first) = differing.first() else {
                return Ok(&allowed.name);
            };
            if nearest.is_none_or(|(count, _)| differing.len() < count) {
                nearest = Some((differing.len(), *first));
            }
        }
        Err(nearest.map_or(("cfv", seen.cfv), |(_, first)| first))
    }

    /// The name of the machine shape, if it is allowed.
    pub(crate) fn machine(&self, seen: &AcpiDigests) -> Option<&str> {
        self.machines
            .iter()
            .find(|allowed| {
                (
                    allowed.acpi_loader.0,
                    allowed.acpi_rsdp.0,
                    allowed.acpi_tables.0,
                ) == (seen.loader, seen.rsdp, seen.tables)
            })
            .map(|allowed| allowed.name.as_str())
    }
}

/// Values that only a policy of one's own pins; where a list is empty the value
/// is reported and not compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Pins {
    pub(crate) mr_kms: BTreeSet<Hex<32>>,
    pub(crate) mrseam: BTreeSet<Hex<48>>,
    pub(crate) instance_ids: BTreeSet<HexText>,
    pub(crate) device_ids: BTreeSet<Hex<32>>,
    pub(crate) ppids: BTreeSet<Hex<16>>,
    pub(crate) rtmr0: BTreeSet<Hex<48>>,
    pub(crate) compose_hashes: BTreeSet<Hex<32>>,
    /// `ecdsa:<40 hex>` or `ed25519:<64 hex>`.
    pub(crate) signing_keys: BTreeSet<String>,
}

/// What is accepted, resolved and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    name: String,
    date: String,
    rules: Rules,
    digest: PolicyDigest,
}

/// The file. A policy that extends another adds its `identity`, `os_image`,
/// `firmware`, `machine`, `td` and `tcb.accept_advisories` to the other's;
/// `acpi`, `tcb.accept` and `tcb.min_evaluation_number` take the other's place.
/// Pins are its own: no built-in policy has any.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    date: String,
    extends: Option<String>,
    software: Option<Software>,
    acpi: Option<AcpiMode>,
    #[serde(default)]
    tcb: FileTcb,
    #[serde(default)]
    td: TdRules,
    #[serde(default)]
    pins: Pins,
    #[serde(default)]
    identity: Vec<Identity>,
    #[serde(default)]
    os_image: Vec<OsImage>,
    #[serde(default)]
    firmware: Vec<FirmwareRule>,
    #[serde(default)]
    machine: Vec<Machine>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct FileTcb {
    accept: Option<BTreeSet<TcbStatus>>,
    accept_advisories: BTreeSet<AcceptTcb>,
    min_evaluation_number: Option<u32>,
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

impl File {
    fn onto(self, base: Option<Rules>) -> Result<Rules, PolicyError> {
        let extends = base.is_some();
        let mut rules = base.unwrap_or_else(Rules::empty);
        match (extends, self.software) {
            (true, Some(_)) => {
                return Err(PolicyError(
                    "software cannot be changed by a policy that extends another".to_owned(),
                ));
            }
            (false, None) => {
                return Err(PolicyError(
                    "expected software = \"expected\" (or \"any\", which proves hardware only)"
                        .to_owned(),
                ));
            }
            (false, Some(software)) => rules.software = software,
            (true, None) => {}
        }
        if let Some(acpi) = self.acpi {
            rules.acpi = acpi;
        }
        if let Some(accept) = self.tcb.accept {
            rules.tcb.accept = accept;
        }
        rules
            .tcb
            .accept_advisories
            .extend(self.tcb.accept_advisories);
        rules.tcb.min_evaluation_number = self
            .tcb
            .min_evaluation_number
            .or(rules.tcb.min_evaluation_number);
        rules.td.attributes.extend(self.td.attributes);
        rules.td.xfam.extend(self.td.xfam);
        rules.identities.extend(self.identity);
        rules.os_images.extend(self.os_image);
        rules.firmwares.extend(self.firmware);
        rules.machines.extend(self.machine);
        rules.pins = self.pins;
        Ok(rules)
    }
}

impl Rules {
    fn empty() -> Self {
        Self {
            software: Software::Expected,
            acpi: AcpiMode::Require,
            tcb: TcbRules::default(),
            td: TdRules::default(),
            identities: BTreeSet::new(),
            pins: Pins::default(),
            os_images: BTreeSet::new(),
            firmwares: BTreeSet::new(),
            machines: BTreeSet::new(),
        }
    }

    /// Nothing that a check needs is missing, and nothing is there that no
    /// check would look at.
    fn check(&self) -> Result<(), String> {
        if self.tcb.accept.is_empty() && self.tcb.accept_advisories.is_empty() {
            return Err("tcb.accept names no status".to_owned());
        }
        for status in &self.tcb.accept {
            if !matches!(status, TcbStatus::UpToDate | TcbStatus::SWHardeningNeeded) {
                return Err(format!(
                    "tcb.accept = [\"{status}\"]: accept it by its advisories, as in tcb.accept_advisories = [{{ status = \"{status}\", advisories = [\"INTEL-SA-01036\"] }}]"
                ));
            }
        }
        self.tcb
            .accept_advisories
            .iter()
            .try_for_each(AcceptTcb::check)?;
        for (name, is_empty) in [
            ("td.attributes", self.td.attributes.is_empty()),
            ("td.xfam", self.td.xfam.is_empty()),
        ] {
            if is_empty {
                return Err(format!("{name} allows nothing"));
            }
        }
        // Bits 0 to 7 let the host see into the TD (Intel TDX module, ATTRIBUTES.TUD).
        if let Some(debug) = self
            .td
            .attributes
            .iter()
            .find(|attributes| attributes.0.first() != Some(&0))
        {
            return Err(format!(
                "td.attributes: {debug} allows debugging, which no policy can"
            ));
        }
        for key in &self.pins.signing_keys {
            if !is_signing_key(key) {
                return Err(format!(
                    "pins.signing_keys: expected ecdsa:<40 hex> or ed25519:<64 hex>, got {}",
                    quoted(key)
                ));
            }
        }
        let lists = [
            ("os_image", self.os_images.is_empty()),
            ("firmware", self.firmwares.is_empty()),
            ("identity", self.identities.is_empty()),
            (
                "machine",
                self.machines.is_empty() && self.acpi == AcpiMode::Require,
            ),
        ];
        match self.software {
            Software::Expected => match lists.iter().find(|(_, is_empty)| *is_empty) {
                Some((name, _)) => Err(format!(
                    "software = \"expected\", but {name} allows nothing"
                )),
                None => Ok(()),
            },
            Software::Any => {
                let named = !self.os_images.is_empty()
                    || !self.firmwares.is_empty()
                    || !self.machines.is_empty()
                    || !self.identities.is_empty();
                if named {
                    return Err(
                        "software = \"any\" looks at no image, machine or identity, but the policy names some".to_owned(),
                    );
                }
                Ok(())
            }
        }
    }
}

fn is_signing_key(text: &str) -> bool {
    let is_lower_hex = |text: &str, len: usize| {
        text.len() == len
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    match text.split_once(':') {
        Some(("ecdsa", address)) => is_lower_hex(address, 40),
        Some(("ed25519", address)) => is_lower_hex(address, 64),
        _ => false,
    }
}

/// Measured values of one report, as a policy would name them.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) attributes: Hex<8>,
    pub(crate) xfam: Hex<8>,
    pub(crate) os_image: OsImage,
    pub(crate) firmware: Firmware,
    pub(crate) acpi: AcpiDigests,
    pub(crate) app_id: [u8; 20],
    /// `info.app_cert`, which is only read if somebody asks.
    pub(crate) app_cert: Option<String>,
    pub(crate) mr_seam: Hex<48>,
    pub(crate) rtmr0: Hex<48>,
    pub(crate) compose_hash: Hex<32>,
    pub(crate) instance_id: Vec<u8>,
    pub(crate) ppid: Vec<u8>,
    pub(crate) signing_key: SigningKey,
}

impl OsImage {
    /// What a quote and its boot events show.
    pub(crate) fn seen(
        mrtd: [u8; 48],
        rtmr1: [u8; 48],
        rtmr2: [u8; 48],
        os_image_hash: [u8; 32],
    ) -> Self {
        Self {
            name: "seen".to_owned(),
            mrtd: Hex(mrtd),
            rtmr1: Hex(rtmr1),
            rtmr2: Hex(rtmr2),
            os_image_hash: Hex(os_image_hash),
        }
    }

    /// The policy line that allows this image.
    pub(crate) fn line(&self) -> String {
        format!(
            "os_image = [{{ name = \"reviewed\", mrtd = \"{}\", rtmr1 = \"{}\", rtmr2 = \"{}\", os_image_hash = \"{}\" }}]",
            self.mrtd, self.rtmr1, self.rtmr2, self.os_image_hash
        )
    }
}

/// The policy line that allows this application under this KMS.
pub(crate) fn identity_line(app_id: &[u8], kms_root: &str) -> String {
    format!(
        "identity = [{{ name = \"reviewed\", app_id = \"{}\", kms_root = \"{kms_root}\" }}]",
        hex::encode(app_id)
    )
}

/// The policy line that allows these digests of a firmware.
pub(crate) fn firmware_line(seen: &Firmware) -> String {
    let fields: Vec<_> = seen
        .events()
        .iter()
        .map(|(name, digest)| format!("{name} = \"{}\"", hex::encode(digest)))
        .collect();
    format!(
        "firmware = [{{ name = \"reviewed\", {} }}]",
        fields.join(", ")
    )
}

/// The policy line that allows this machine shape.
pub(crate) fn machine_line(seen: &AcpiDigests) -> String {
    format!(
        "machine = [{{ name = \"reviewed\", acpi_loader = \"{}\", acpi_rsdp = \"{}\", acpi_tables = \"{}\" }}]",
        hex::encode(seen.loader),
        hex::encode(seen.rsdp),
        hex::encode(seen.tables)
    )
}

impl Seen {
    /// A policy that accepts what was seen, with a word on each line, for review.
    pub(crate) fn to_policy_toml(&self, at: crate::UnixTime) -> String {
        let day = at.to_string();
        let day = day.split('T').next().unwrap_or("1970-01-01");
        format!(
            r#"# Written from one report, judged at {at}. It accepts what that report
# showed; nothing here says that this is what it should be. Before you use it,
# ask the backend's operator which values are theirs, and delete this paragraph.

name = "reviewed"
date = "{day}"
software = "expected"
acpi = "require"

# The OS image: firmware (MRTD), kernel (RTMR1), command line and initrd (RTMR2).
{os_image}

# Firmware configuration, as RTMR0 measured it.
{firmware}

# The machine's shape: ACPI tables that the host handed over.
{machine}

# The application, and the root key of the KMS that its certificate names.
{identity}

td.attributes = ["{attributes}"]
td.xfam = ["{xfam}"]

# Intel's judgements that are fine. Others need tcb.accept_advisories.
tcb.accept = ["UpToDate", "SWHardeningNeeded"]

# These change with honest updates or differ between honest machines: pin them
# only if you want to be stopped by every change.
# pins.mrseam = ["{mr_seam}"]
# pins.rtmr0 = ["{rtmr0}"]
# pins.compose_hashes = ["{compose_hash}"]
# pins.instance_ids = ["{instance_id}"]
# pins.ppids = ["{ppid}"]
# pins.signing_keys = ["{signing_key}"]
"#,
            os_image = self.os_image.line(),
            firmware = firmware_line(&self.firmware),
            machine = machine_line(&self.acpi),
            identity = match crate::app_cert::stated_root(self.app_cert.as_deref()) {
                Some(root) => identity_line(&self.app_id, &root),
                None => "# The report has no certificate of a KMS: there is no identity to accept."
                    .to_owned(),
            },
            attributes = self.attributes,
            xfam = self.xfam,
            mr_seam = self.mr_seam,
            rtmr0 = self.rtmr0,
            compose_hash = self.compose_hash,
            instance_id = hex::encode(&self.instance_id),
            ppid = hex::encode(&self.ppid),
            signing_key = self.signing_key,
        )
    }
}
