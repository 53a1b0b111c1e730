//! The rules of a resolved policy, and what they admit.

pub(crate) mod accepted;
pub(crate) mod deployment;
pub(crate) mod findings;
pub(crate) mod gpu;
pub(crate) mod image;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use self::accepted::AcceptedValue;
use self::deployment::DeploymentRules;
use self::findings::FindingRules;
use self::gpu::GpuRules;
use self::image::{ImageAdvisory, OsImage};
use crate::base::exception::{Day, Exception};
use crate::base::hex::{Hex, HexText};
use crate::base::identifiers::UnixTime;
use crate::base::levels::Levels;
use crate::base::tcb::{AcceptTcb, Component, Level, TcbStatus};
use crate::base::text::{quoted, shown, shown_hex};
use crate::dstack::machine::AcpiDigests;
use crate::dstack::rtmr0::Firmware;
use crate::refusals::Rejected;

/// Whether a part of the evidence has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// It has to be there, and to hold.
    Required,
    /// If it is there, it has to hold; if not, the verdict says "not proved".
    IfPresent,
    /// Not looked at; the verdict says "not proved".
    Off,
}

/// Every rule of a resolved policy. Sets are ordered, so that equal rules have
/// equal digests however they were written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Rules {
    /// The least level that is accepted, axis by axis.
    pub(crate) least: Levels,
    pub(crate) acpi: AcpiMode,
    /// What went down at a domain since it was last seen refuses.
    pub(crate) hold: bool,
    pub(crate) tcb: TcbRules,
    pub(crate) td: TdRules,
    pub(crate) gpu: GpuRules,
    pub(crate) deployment: DeploymentRules,
    pub(crate) findings: FindingRules,
    pub(crate) pins: Pins,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) accepted: BTreeSet<AcceptedValue>,
    #[serde(rename = "identity")]
    pub(crate) identities: BTreeSet<Identity>,
    #[serde(rename = "os_image")]
    pub(crate) os_images: BTreeSet<OsImage>,
    #[serde(rename = "image_advisory")]
    pub(crate) image_advisories: BTreeSet<ImageAdvisory>,
    #[serde(rename = "firmware")]
    pub(crate) firmwares: BTreeSet<FirmwareRule>,
    #[serde(rename = "machine")]
    pub(crate) machines: BTreeSet<Machine>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AcpiMode {
    /// Those that QEMU makes of the stated shape, or a row of the policy.
    Recompute,
    /// A row of the policy.
    Require,
    /// Any; the verdict says "not proved" of what neither explains, and its boot is then
    /// no better than accepted by the user.
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

/// Why a TCB level is accepted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Accepted<'a> {
    /// Its status is.
    ByStatus,
    /// Each of its advisories is, for a while.
    ByException(&'a Exception),
}

impl TcbRules {
    /// Of several exceptions that hold, the one that lasts longest.
    pub(crate) fn admits(
        &self,
        component: Component,
        level: &Level,
        now: UnixTime,
    ) -> Option<Accepted<'_>> {
        if level.status == TcbStatus::Revoked {
            return None;
        }
        if self.accept.contains(&level.status) {
            return Some(Accepted::ByStatus);
        }
        self.accept_advisories
            .iter()
            .filter(|rule| rule.admits(component, level) && rule.exception.holds(now))
            .map(|rule| &rule.exception)
            .max_by_key(|exception| exception.until)
            .map(Accepted::ByException)
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
    pub(crate) name: String,
    /// Whose application it is, for a sentence that people read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) operator: Option<String>,
    pub(crate) app_id: Hex<20>,
    /// SubjectPublicKeyInfo (DER) of the root key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kms_root: Option<HexText>,
    /// Root keys that follow one another: a KMS may get a new one, and a machine
    /// keeps the old one until it boots again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) kms_roots: BTreeSet<RootEpoch>,
    /// Set where a user accepts it for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exception: Option<Exception>,
}

/// A root key, and the days on which it is accepted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RootEpoch {
    /// SubjectPublicKeyInfo (DER).
    pub(crate) key: HexText,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<Day>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<Day>,
}

impl RootEpoch {
    fn holds(&self, now: UnixTime) -> bool {
        self.from.is_none_or(|from| now >= from.start())
            && self.until.is_none_or(|until| now < until.end())
    }
}

impl Identity {
    /// Until when the root key is accepted, if it is one of this identity now.
    fn root_until(&self, kms_root: &str, now: UnixTime) -> Option<UnixTime> {
        const NEVER: UnixTime = UnixTime(u64::MAX);
        let last = match &self.exception {
            None => NEVER,
            Some(exception) if exception.holds(now) => exception.until.end(),
            Some(_) => return None,
        };
        if self.kms_root.as_ref().is_some_and(|own| own.0 == kms_root) {
            return Some(last);
        }
        let epochs = self.kms_roots.iter();
        let holding = epochs.filter(|epoch| epoch.key.0 == kms_root && epoch.holds(now));
        holding
            .map(|epoch| epoch.until.map_or(NEVER, Day::end).min(last))
            .max()
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.kms_root.is_some() != self.kms_roots.is_empty() {
            return Err(format!(
                "identity {}: expected kms_root, or kms_roots = [{{ key = \"…\", from = \"2026-01-01\", until = \"2026-12-31\" }}], and not both",
                quoted(&self.name)
            ));
        }
        let operator = self.operator.as_deref().unwrap_or("x");
        if !(1..=64).contains(&operator.len())
            || !operator.chars().all(|c| (' '..='~').contains(&c))
        {
            return Err(format!(
                "identity {}: expected an operator of 1 to 64 printable characters",
                quoted(&self.name)
            ));
        }
        Ok(())
    }
}

/// The identity that the policy names, and until when.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    pub(crate) operator: Option<&'a str>,
    pub(crate) exception: Option<&'a Exception>,
    pub(crate) until: UnixTime,
}

impl Rules {
    /// Some identity names this KMS, and one names it with this application: the
    /// operator that the policy gives it.
    pub(crate) fn admit_identity(
        &self,
        kms_root: &str,
        app_id: &[u8],
        now: UnixTime,
    ) -> Result<Admitted<'_>, Rejected> {
        let of_kms = || {
            let identities = self.identities.iter();
            identities.filter_map(|own| Some((own, own.root_until(kms_root, now)?)))
        };
        if of_kms().next().is_none() {
            return Err(Rejected::KmsRoot {
                got: shown(kms_root),
                allowed: self.identities.len(),
            });
        }
        let of_app = of_kms().filter(|(own, _)| own.app_id.0 == app_id);
        match of_app.max_by_key(|(_, until)| *until) {
            Some((identity, until)) => Ok(Admitted {
                operator: identity.operator.as_deref(),
                exception: identity.exception.as_ref(),
                until,
            }),
            None => Err(Rejected::AppId {
                got: shown_hex(app_id),
            }),
        }
    }
}

/// The constant events of RTMR0 of one firmware. They count together only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FirmwareRule {
    pub(crate) name: String,
    pub(crate) cfv: Hex<48>,
    pub(crate) secure_boot: Hex<48>,
    pub(crate) pk: Hex<48>,
    pub(crate) kek: Hex<48>,
    pub(crate) db: Hex<48>,
    pub(crate) dbx: Hex<48>,
    pub(crate) separator: Hex<48>,
    pub(crate) boot_order: Hex<48>,
    pub(crate) boot_0000: Hex<48>,
}

impl FirmwareRule {
    pub(crate) fn digests(&self) -> Firmware {
        Firmware {
            before_acpi: [
                self.cfv.0,
                self.secure_boot.0,
                self.pk.0,
                self.kek.0,
                self.db.0,
                self.dbx.0,
                self.separator.0,
            ],
            after_acpi: [self.boot_order.0, self.boot_0000.0],
        }
    }
}

/// The ACPI tables of one machine shape. They count together only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) acpi_loader: Hex<48>,
    pub(crate) acpi_rsdp: Hex<48>,
    pub(crate) acpi_tables: Hex<48>,
    /// The places for GPUs and NVSwitches that these tables have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) places: Option<u32>,
    /// Set where a user accepts it for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exception: Option<Exception>,
}

impl Machine {
    pub(crate) fn digests(&self) -> AcpiDigests {
        AcpiDigests {
            loader: self.acpi_loader.0,
            rsdp: self.acpi_rsdp.0,
            tables: self.acpi_tables.0,
        }
    }
}

/// A row of the policy that what was seen is equal to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) exception: Option<&'a Exception>,
}

/// A row of tables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MachineRow<'a> {
    pub(crate) row: Row<'a>,
    pub(crate) tables: AcpiDigests,
    /// As its author says.
    pub(crate) places: Option<u32>,
}

impl Row<'_> {
    fn holds(&self, now: UnixTime) -> bool {
        self.exception.is_none_or(|exception| exception.holds(now))
    }
}

/// Of equal rows the one that is no exception, else the one that lasts longest.
pub(crate) fn best<'a, T>(
    rows: impl Iterator<Item = T>,
    row: impl Fn(&T) -> Row<'a>,
    now: UnixTime,
) -> Option<T> {
    rows.filter(|own| row(own).holds(now))
        .max_by_key(|own| match row(own).exception {
            None => (true, None),
            Some(exception) => (false, Some(exception.until)),
        })
}

impl Rules {
    /// Each firmware that is allowed, by its name.
    pub(crate) fn firmwares(&self) -> impl Iterator<Item = (&str, Firmware)> {
        let rows = self.firmwares.iter();
        rows.map(|row| (row.name.as_str(), row.digests()))
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
        let [(name, digest), ..] = seen.events();
        Err(nearest.map_or((name, *digest), |(_, first)| first))
    }

    /// The rows of machines that are allowed now.
    pub(crate) fn machines_at(&self, now: UnixTime) -> impl Iterator<Item = MachineRow<'_>> {
        let rows = self.machines.iter().map(|own| MachineRow {
            row: Row {
                name: &own.name,
                exception: own.exception.as_ref(),
            },
            tables: own.digests(),
            places: own.places,
        });
        rows.filter(move |own| own.row.holds(now))
    }

    /// The row of these tables, if they are allowed now.
    pub(crate) fn machine(&self, seen: &AcpiDigests, now: UnixTime) -> Option<MachineRow<'_>> {
        let rows = self.machines_at(now).filter(|own| own.tables == *seen);
        best(rows, |own| own.row, now)
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
    /// Refused when a policy is loaded, with the reason.
    #[serde(skip_serializing)]
    pub(crate) device_ids: BTreeSet<Hex<32>>,
    pub(crate) ppids: BTreeSet<Hex<16>>,
    pub(crate) piids: BTreeSet<Hex<16>>,
    pub(crate) fmspcs: BTreeSet<Hex<6>>,
    pub(crate) rtmr0: BTreeSet<Hex<48>>,
    pub(crate) compose_hashes: BTreeSet<Hex<32>>,
    /// `ecdsa:<40 hex>` or `ed25519:<64 hex>`.
    pub(crate) signing_keys: BTreeSet<String>,
}
