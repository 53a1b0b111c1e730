//! A policy file: its layout, how it extends another, and what it must say.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::PolicyError;
use super::rules::accepted::AcceptedValue;
use super::rules::deployment::{DeploymentRules, FileDeployment, Sources};
use super::rules::findings::FindingRules;
use super::rules::gpu::{FileGpu, GpuRules};
use super::rules::image::{ImageAdvisory, OsImage};
use super::rules::{
    AcpiMode, FirmwareRule, Identity, Machine, Mode, Pins, Rules, TcbRules, TdRules,
};
use crate::base::exception::Exception;
use crate::base::levels::{
    BootLevel, DeploymentLevel, GpuLevel, HardwareLevel, IdentityLevel, Levels,
};
use crate::base::tcb::{AcceptTcb, TcbStatus};
use crate::base::text::quoted;

/// The levels that a file asks for, where it says.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct FileLeast {
    hardware: Option<HardwareLevel>,
    boot: Option<BootLevel>,
    identity: Option<IdentityLevel>,
    deployment: Option<DeploymentLevel>,
    gpu: Option<GpuLevel>,
}

/// The file. A policy that extends another adds its `identity`, `os_image`,
/// `image_advisory`, `firmware`, `machine`, `td` and `tcb.accept_advisories` to the other's;
/// `acpi`, `hold`, `tcb.accept`, `tcb.min_evaluation_number`, the modes of `gpu` and
/// `deployment`, `gpu.count`, `gpu.protected_pcie`, `deployment.tags`, `deployment.files`
/// and `deployment.sources` take the other's place; their lists are added, those of
/// `findings` too. A policy that extends none and says nothing of GPUs and deployment
/// requires both. Pins are its own: no built-in policy has any.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) date: String,
    pub(super) extends: Option<String>,
    /// The short form of `least.boot` and `least.identity`.
    software: Option<Software>,
    #[serde(default)]
    least: FileLeast,
    acpi: Option<AcpiMode>,
    hold: Option<bool>,
    #[serde(default)]
    tcb: FileTcb,
    #[serde(default)]
    td: TdRules,
    #[serde(default)]
    gpu: FileGpu,
    #[serde(default)]
    deployment: FileDeployment,
    #[serde(default)]
    findings: FindingRules,
    #[serde(default)]
    pins: Pins,
    #[serde(default)]
    accepted: BTreeSet<AcceptedValue>,
    #[serde(default)]
    identity: Vec<Identity>,
    #[serde(default)]
    os_image: Vec<OsImage>,
    #[serde(default)]
    image_advisory: Vec<ImageAdvisory>,
    #[serde(default)]
    firmware: Vec<FirmwareRule>,
    #[serde(default)]
    machine: Vec<Machine>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Software {
    /// Compared with what the policy names.
    Expected,
    /// Not looked at: hardware only.
    Any,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct FileTcb {
    accept: Option<BTreeSet<TcbStatus>>,
    accept_advisories: BTreeSet<AcceptTcb>,
    min_evaluation_number: Option<u32>,
}

impl File {
    pub(super) fn onto(mut self, base: Option<Rules>) -> Result<Rules, PolicyError> {
        let extends = base.is_some();
        let mut rules = base.unwrap_or_else(Rules::empty);
        match (extends, self.software, self.least.boot) {
            (false, Some(software), Some(boot))
                if (software == Software::Any) != (boot == BootLevel::Any) =>
            {
                return Err(PolicyError(format!(
                    "software and least.boot = \"{boot}\" contradict each other: software = \"any\" means least.boot = \"any\"; set only one of them"
                )));
            }
            (true, Some(_), _) => {
                return Err(PolicyError(
                    "software cannot be changed by a policy that extends another".to_owned(),
                ));
            }
            (false, None, None) => {
                return Err(PolicyError(
                    "expected software = \"expected\" (or \"any\", which proves hardware only), or least.boot"
                        .to_owned(),
                ));
            }
            (false, Some(Software::Expected), _) => {
                rules.least.boot = BootLevel::Named;
                rules.least.identity = IdentityLevel::Expected;
            }
            (false, Some(Software::Any), _) => {
                rules.least.boot = BootLevel::Any;
                rules.least.identity = IdentityLevel::Any;
            }
            (_, None, _) => {}
        }
        if let Some(acpi) = self.acpi {
            rules.acpi = acpi;
        }
        rules.hold = self.hold.unwrap_or(rules.hold);
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
        let gpu = self.least.gpu.map(|level| level > GpuLevel::None);
        self.gpu.mode = self.gpu.mode.or(mode(gpu, rules.gpu.mode));
        let deployment = self.least.deployment;
        let deployment = deployment.map(|level| level > DeploymentLevel::None);
        let implied = mode(deployment, rules.deployment.mode);
        self.deployment.mode = self.deployment.mode.or(implied);
        self.gpu.onto(&mut rules.gpu);
        self.deployment.onto(&mut rules.deployment);
        rules.identities.extend(self.identity);
        rules.os_images.extend(self.os_image);
        rules.image_advisories.extend(self.image_advisory);
        rules.firmwares.extend(self.firmware);
        rules.machines.extend(self.machine);
        rules.findings.refuse.extend(self.findings.refuse);
        rules.findings.quiet.extend(self.findings.quiet);
        rules.pins = self.pins;
        rules.accepted = self.accepted;
        self.least.onto(&mut rules);
        Ok(rules)
    }
}

/// The mode of a part of the evidence, where the file asks for a level and says no
/// mode: the part has to be there if something is asked of it, and is not looked at if
/// nothing is.
fn mode(asked: Option<bool>, of_base: Mode) -> Option<Mode> {
    asked.map(|asked| match of_base {
        _ if asked => Mode::Required,
        Mode::Required => Mode::Off,
        other => other,
    })
}

impl FileLeast {
    /// What a file does not say of a level follows from its rules: an exception
    /// lowers the level to the one that it gives.
    fn onto(self, rules: &mut Rules) {
        let Rules { least, .. } = rules;
        least.hardware = self
            .hardware
            .unwrap_or(if rules.tcb.accept_advisories.is_empty() {
                HardwareLevel::Current
            } else {
                HardwareLevel::Outdated
            });
        let exceptions = rules.acpi == AcpiMode::Report
            || rules.os_images.iter().any(|row| row.exception.is_some())
            || rules.machines.iter().any(|row| row.exception.is_some());
        least.boot = self.boot.unwrap_or(if exceptions {
            least.boot.min(BootLevel::AcceptedByYou)
        } else {
            least.boot
        });
        least.identity = self.identity.unwrap_or(least.identity);
        least.gpu = self.gpu.unwrap_or(match rules.gpu.mode {
            Mode::Required => least.gpu.max(GpuLevel::Genuine),
            Mode::IfPresent | Mode::Off => GpuLevel::None,
        });
        least.deployment = self.deployment.unwrap_or(match rules.deployment.mode {
            Mode::Required => least.deployment.max(DeploymentLevel::Declared),
            Mode::IfPresent | Mode::Off => DeploymentLevel::None,
        });
    }
}

impl Rules {
    pub(super) fn empty() -> Self {
        Self {
            least: Levels {
                hardware: HardwareLevel::Current,
                boot: BootLevel::Named,
                identity: IdentityLevel::Expected,
                deployment: DeploymentLevel::Declared,
                gpu: GpuLevel::Genuine,
            },
            acpi: AcpiMode::Require,
            tcb: TcbRules::default(),
            td: TdRules::default(),
            gpu: GpuRules::empty(),
            deployment: DeploymentRules::empty(),
            identities: BTreeSet::new(),
            findings: FindingRules::default(),
            hold: false,
            pins: Pins::default(),
            accepted: BTreeSet::new(),
            os_images: BTreeSet::new(),
            image_advisories: BTreeSet::new(),
            firmwares: BTreeSet::new(),
            machines: BTreeSet::new(),
        }
    }

    /// Nothing that a check needs is missing, and nothing is there that no
    /// check would look at.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.tcb.accept.is_empty() && self.tcb.accept_advisories.is_empty() {
            return Err("tcb.accept names no status".to_owned());
        }
        for status in &self.tcb.accept {
            if !matches!(status, TcbStatus::UpToDate | TcbStatus::SWHardeningNeeded) {
                return Err(format!(
                    "tcb.accept = [\"{status}\"]: accept it by its advisories, as in tcb.accept_advisories = [{{ status = \"{status}\", advisories = [\"INTEL-SA-01036\"], exception = {{ until = \"2027-02-28\", reason = \"say why\", by = \"your name\" }} }}]"
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
        self.gpu.check()?;
        self.deployment.check(self.least.deployment)?;
        self.findings.check(self)?;
        if self.hold
            && self.deployment.mode != Mode::Off
            && self.deployment.sources != Sources::Required
        {
            return Err(
                "hold = true does not hold the deployment level where a file or a tag may be missing: set deployment.sources = \"required\", or deployment.mode = \"off\""
                    .to_owned(),
            );
        }
        if self.hold && self.least.boot == BootLevel::Any {
            return Err(
                "hold = true has no effect with least.boot = \"any\", because unverified software can state any key; set least.boot = \"named\", or remove hold"
                    .to_owned(),
            );
        }
        if !self.pins.device_ids.is_empty() {
            return Err(
                "pins.device_ids: nobody measures a device_id, so any host can state the pinned one; pin hardware instead (pins.ppids, pins.piids)"
                    .to_owned(),
            );
        }
        for key in &self.pins.signing_keys {
            if !is_signing_key(key) {
                return Err(format!(
                    "pins.signing_keys: expected ecdsa:<40 hex> or ed25519:<64 hex>, got {}",
                    quoted(key)
                ));
            }
        }
        self.identities.iter().try_for_each(Identity::check)?;
        self.os_images.iter().try_for_each(OsImage::check)?;
        let mut images = self.image_advisories.iter().flat_map(|own| &own.images);
        if let Some(image) =
            images.find(|&name| !self.os_images.iter().any(|own| own.name == *name))
        {
            return Err(format!(
                "image_advisory names {}, which is the name of no os_image of the policy",
                quoted(image)
            ));
        }
        for (place, exception) in self.exceptions() {
            exception.check(place)?;
        }
        self.check_accepted()?;
        self.check_levels()
    }

    /// Everything that is accepted for a while, and where the policy says so.
    pub(super) fn exceptions(&self) -> impl Iterator<Item = (&'static str, &Exception)> {
        let tcb = self.tcb.accept_advisories.iter();
        let images = self.os_images.iter();
        let machines = self.machines.iter();
        let identities = self.identities.iter();
        let values = self.accepted.iter();
        tcb.map(|rule| ("tcb.accept_advisories", &rule.exception))
            .chain(images.filter_map(|row| Some(("os_image", row.exception.as_ref()?))))
            .chain(machines.filter_map(|row| Some(("machine", row.exception.as_ref()?))))
            .chain(identities.filter_map(|row| Some(("identity", row.exception.as_ref()?))))
            .chain(values.map(|row| (row.rule.as_str(), &row.exception)))
    }

    /// The levels that the policy asks for can be reached, and what they rest on is
    /// asked for too: else the policy would be weaker than it reads.
    fn check_levels(&self) -> Result<(), String> {
        let least = self.least;
        if let Some((axis, cap, asked)) = least.capped().short_of(&least) {
            return Err(format!(
                "least.{axis} = \"{asked}\" is above its cap: with least.boot = \"{}\" and least.identity = \"{}\", least.{axis} can be \"{cap}\" at most; raise least.boot and least.identity, or set least.{axis} = \"{cap}\"",
                least.boot, least.identity
            ));
        }
        let in_vain = |what: &str, axis: &str, level: &str| {
            Err(format!(
                "{what} has no effect, because least.{axis} = \"{level}\" refuses what {what} accepts; set least.{axis} = \"{}\" or remove {what}",
                if axis == "boot" {
                    "accepted-by-you"
                } else {
                    "outdated"
                }
            ))
        };
        if least.hardware == HardwareLevel::Current && !self.tcb.accept_advisories.is_empty() {
            return in_vain("tcb.accept_advisories", "hardware", "current");
        }
        if least.boot == BootLevel::Named {
            if self.acpi == AcpiMode::Report {
                return in_vain("acpi = \"report\"", "boot", "named");
            }
            let mut exceptions = self.exceptions().map(|(place, _)| place);
            if let Some(place) = exceptions.find(|place| matches!(*place, "os_image" | "machine")) {
                return in_vain(&format!("the exception of {place}"), "boot", "named");
            }
        }
        for (place, mode, is_asked) in [
            ("gpu", self.gpu.mode, least.gpu > GpuLevel::None),
            (
                "deployment",
                self.deployment.mode,
                least.deployment > DeploymentLevel::None,
            ),
        ] {
            if is_asked != (mode == Mode::Required) {
                return Err(format!(
                    "least.{place} and {place}.mode contradict each other: set {place}.mode = \"required\" together with least.{place} above \"none\", or set neither"
                ));
            }
        }
        let software = [
            ("os_image", self.os_images.is_empty()),
            ("firmware", self.firmwares.is_empty()),
            (
                "machine",
                self.machines.is_empty() && self.acpi == AcpiMode::Require,
            ),
        ];
        match least.boot {
            BootLevel::Named | BootLevel::AcceptedByYou => {
                if let Some((name, _)) = software.iter().find(|(_, is_empty)| *is_empty) {
                    let mend = match *name {
                        "machine" => {
                            "; add the row that a report shows, or set acpi = \"recompute\", which accepts the tables that QEMU makes of the stated shape"
                        }
                        _ => "",
                    };
                    return Err(format!(
                        "{name} allows nothing, but the policy asks for least.boot = \"{}\" (software = \"expected\"){mend}",
                        least.boot
                    ));
                }
            }
            BootLevel::Any => self.check_unknown_software()?,
        }
        match (least.identity, self.identities.is_empty()) {
            (IdentityLevel::Expected, true) => Err(
                "identity allows nothing, but the policy asks for least.identity = \"expected\" (software = \"expected\")"
                    .to_owned(),
            ),
            (IdentityLevel::Any, false) => Err(
                "least.identity = \"any\" looks at no identity, but the policy names some"
                    .to_owned(),
            ),
            _ => self.check_pins(),
        }
    }

    /// Whoever owns the kernel extends RTMR3 with any event. An unknown application
    /// chooses the report data, and its host the instance and the KMS.
    fn check_pins(&self) -> Result<(), String> {
        let (said, anybody) = match (self.least.boot, self.least.identity) {
            (BootLevel::Any, _) => ("software = \"any\"", "machine"),
            (_, IdentityLevel::Any) => ("least.identity = \"any\"", "application"),
            _ => return Ok(()),
        };
        let any_software = self.least.boot == BootLevel::Any;
        let pins = &self.pins;
        for (name, is_pinned) in [
            ("mr_kms", !pins.mr_kms.is_empty()),
            ("instance_ids", !pins.instance_ids.is_empty()),
            ("rtmr0", any_software && !pins.rtmr0.is_empty()),
            (
                "compose_hashes",
                any_software && !pins.compose_hashes.is_empty(),
            ),
            ("signing_keys", !pins.signing_keys.is_empty()),
        ] {
            if is_pinned {
                return Err(format!(
                    "pins.{name}: under {said} any {anybody} can show this value; extend \"near\", or pin hardware (pins.ppids, pins.piids, pins.fmspcs, pins.mrseam)"
                ));
            }
        }
        Ok(())
    }

    /// Under any software nothing counts that only measured software says: whoever
    /// owns the kernel extends RTMR3 with what it likes, and chooses report data.
    fn check_unknown_software(&self) -> Result<(), String> {
        let named = !self.os_images.is_empty()
            || !self.firmwares.is_empty()
            || !self.machines.is_empty()
            || !self.identities.is_empty();
        if named {
            return Err(
                "software = \"any\" looks at no image, machine or identity, but the policy names some"
                    .to_owned(),
            );
        }
        if self.deployment.mode != Mode::Off {
            return Err(
                "software = \"any\" does not know the manager that writes the deployment log: expected deployment.mode = \"off\"".to_owned(),
            );
        }
        Ok(())
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
