//! A policy file: its layout, how it extends another, and what it must say.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::PolicyError;
use super::deployment::{DeploymentRules, FileDeployment};
use super::gpu::{FileGpu, GpuRules};
use super::rules::Mode;
use super::rules::{
    AcceptTcb, AcpiMode, FirmwareRule, Identity, Machine, OsImage, Pins, Rules, Software, TcbRules,
    TdRules,
};
use crate::tcb::TcbStatus;
use crate::text::quoted;

/// The file. A policy that extends another adds its `identity`, `os_image`,
/// `firmware`, `machine`, `td` and `tcb.accept_advisories` to the other's;
/// `acpi`, `tcb.accept`, `tcb.min_evaluation_number`, the modes of `gpu` and
/// `deployment`, `gpu.count`, `deployment.tags` and `deployment.sources` take the
/// other's place; their lists are added. A policy of its own that says nothing of
/// them requires both. Pins are its own: no built-in policy has any.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) date: String,
    pub(super) extends: Option<String>,
    software: Option<Software>,
    acpi: Option<AcpiMode>,
    #[serde(default)]
    tcb: FileTcb,
    #[serde(default)]
    td: TdRules,
    #[serde(default)]
    gpu: FileGpu,
    #[serde(default)]
    deployment: FileDeployment,
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

impl File {
    pub(super) fn onto(self, base: Option<Rules>) -> Result<Rules, PolicyError> {
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
        self.gpu.onto(&mut rules.gpu);
        self.deployment.onto(&mut rules.deployment);
        rules.identities.extend(self.identity);
        rules.os_images.extend(self.os_image);
        rules.firmwares.extend(self.firmware);
        rules.machines.extend(self.machine);
        rules.pins = self.pins;
        Ok(rules)
    }
}

impl Rules {
    pub(super) fn empty() -> Self {
        Self {
            software: Software::Expected,
            acpi: AcpiMode::Require,
            tcb: TcbRules::default(),
            td: TdRules::default(),
            gpu: GpuRules::empty(),
            deployment: DeploymentRules::empty(),
            identities: BTreeSet::new(),
            pins: Pins::default(),
            os_images: BTreeSet::new(),
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
        self.gpu.check()?;
        self.deployment.check()?;
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
                if self.deployment.mode != Mode::Off {
                    return Err(
                        "software = \"any\" does not know the manager that writes the deployment log: expected deployment.mode = \"off\"".to_owned(),
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
