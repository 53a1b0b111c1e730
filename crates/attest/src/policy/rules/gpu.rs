//! Rules about the machine's GPUs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Mode;
use crate::base::hex::Hex;
use crate::base::text::quoted;
use crate::nvidia::gpu::{GpuFinding, GpuReport, MAX_GPUS, Stated};
use crate::refusals::gpu::GpuRejected;

/// What is expected of the GPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct GpuRules {
    pub(crate) mode: Mode,
    /// Exactly so many; any number if absent.
    pub(crate) count: Option<u32>,
    pub(crate) protected_pcie: ProtectedPcie,
    #[serde(skip_serializing_if = "Places::is_report")]
    pub(crate) places: Places,
    /// The devices (PDI) that may be in the list; any if empty.
    pub(crate) devices: BTreeSet<Hex<8>>,
    pub(crate) measurements: BTreeSet<MeasurementTable>,
    pub(crate) nras: Nras,
    /// Versions that need no table for a while.
    #[serde(skip)]
    versions: BTreeSet<String>,
}

/// What is expected of the mode in which GPUs and switches trust each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ProtectedPcie {
    /// Each GPU states that it is on, and names its switches.
    Required,
    /// It is reported.
    Report,
}

/// What is expected of the places for GPUs and NVSwitches that the machine's tables have.
/// RTMR0 measures places and not devices: eight GPUs and four switches make the same
/// tables as twelve GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Places {
    /// They are as many as the GPUs that signed and the switches that these name.
    Accounted,
    /// It is reported.
    Report,
}

impl Places {
    fn is_report(&self) -> bool {
        *self == Self::Report
    }
}

/// Whether NVIDIA's attestation service is asked for its opinion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Nras {
    /// No: it would learn which GPUs are used.
    Off,
    /// Its opinion is reported, and decides nothing.
    Report,
    /// It has to find nothing wrong.
    Require,
}

/// How NVIDIA's names of reference measurements begin.
pub(crate) const DRIVER_TABLE: &str = "NV_GPU_DRIVER_";
pub(crate) const VBIOS_TABLE: &str = "NV_GPU_VBIOS_";

/// The driver's mode, where it states one: Protected PCIe.
const PPCIE: u16 = 2;

/// The measurements that one edition of a driver or VBIOS may have. Several
/// tables of one id are several editions: a GPU has to fit one of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MeasurementTable {
    /// NVIDIA's name, such as `NV_GPU_DRIVER_GH100_570.172.08`.
    pub(crate) id: String,
    /// Where the values come from, for a person.
    pub(crate) source: String,
    /// By the block's index in the evidence, 1 to 64 (NVIDIA's reference
    /// manifests count from 0).
    pub(crate) allowed: BTreeMap<String, BTreeSet<Hex<48>>>,
}

/// How the measurements of a machine's GPUs compare with the policy's tables.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// The ids that had a table, all of them fitting.
    pub(crate) fitting: BTreeSet<String>,
    /// The ids that had none, in a policy without any table of the kind.
    pub(crate) unknown: BTreeSet<String>,
}

impl GpuRules {
    /// GPUs that are not understood satisfy no demand.
    pub(crate) fn understood(&self, report: &GpuReport) -> Result<(), GpuRejected> {
        match (self.mode, report.not_understood().first()) {
            (Mode::Required, Some(unknown)) => Err(GpuRejected::NotUnderstood {
                gpu: unknown.gpu,
                chip: unknown.chip.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Number, mode and devices.
    pub(crate) fn admit(&self, gpus: &[GpuFinding]) -> Result<(), GpuRejected> {
        if let Some(count) = self.count
            && usize::try_from(count) != Ok(gpus.len())
        {
            return Err(GpuRejected::Count {
                got: gpus.len(),
                expected: count,
                accept: format!("gpu.count = {}", gpus.len()),
            });
        }
        if self.protected_pcie == ProtectedPcie::Required {
            for (gpu, finding) in gpus.iter().enumerate() {
                protected(gpu, finding)?;
            }
        }
        for (gpu, finding) in gpus.iter().enumerate() {
            let device = Hex(*finding.pdi.as_bytes());
            if !self.devices.is_empty() && !self.devices.contains(&device) {
                return Err(GpuRejected::Device {
                    gpu,
                    got: device.to_string(),
                    allowed: self.devices.len(),
                    accept: format!("gpu.devices = [\"{device}\"]"),
                });
            }
        }
        Ok(())
    }

    /// An id without a table is "not compared", never passed; where the policy has
    /// tables of its kind it refuses, else another version would escape them.
    pub(crate) fn compare(&self, gpus: &[GpuFinding]) -> Result<Compared, GpuRejected> {
        let mut compared = Compared::default();
        for (gpu, finding) in gpus.iter().enumerate() {
            let vbios = match finding.vbios_rim_id() {
                Stated::Value(id) => id,
                Stated::Absent(reason) => format!("VBIOS ({reason})"),
            };
            for (kind, id) in [
                (DRIVER_TABLE, finding.driver_rim_id()),
                (VBIOS_TABLE, vbios),
            ] {
                let tables = || self.measurements.iter().filter(|table| table.id == id);
                if tables().next().is_none() {
                    let mut all = self.measurements.iter();
                    if !self.versions.contains(&id) && all.any(|table| table.id.starts_with(kind)) {
                        return Err(GpuRejected::NoTable {
                            gpu,
                            id: quoted(&id),
                        });
                    }
                    compared.unknown.insert(id);
                    continue;
                }
                // The first edition that fits; else what the last one says.
                let mut wrong = None;
                for table in tables() {
                    wrong = table.wrong_index(finding);
                    if wrong.is_none() {
                        break;
                    }
                }
                if let Some((index, got)) = wrong {
                    return Err(GpuRejected::Measurement {
                        gpu,
                        id: quoted(&id),
                        index,
                        got,
                    });
                }
                compared.fitting.insert(id);
            }
        }
        Ok(compared)
    }
}

/// Refuses a GPU that is not in Protected PCIe mode, or does not say so. A driver
/// that does not state its mode contradicts nothing: older ones do not.
fn protected(gpu: usize, finding: &GpuFinding) -> Result<(), GpuRejected> {
    let refuse = |what, got: String, expected| {
        Err(GpuRejected::Mode {
            gpu,
            what,
            got,
            expected,
        })
    };
    if finding.protected_pcie != Stated::Value(true) {
        let got = finding.protected_pcie.as_str().to_owned();
        return refuse("Protected PCIe", got, "on");
    }
    match finding.feature {
        Stated::Value(PPCIE) | Stated::Absent(_) => {}
        Stated::Value(other) => {
            return refuse("the driver's mode", other.to_string(), "2 (Protected PCIe)");
        }
    }
    let got = match &finding.switches {
        Stated::Value(switches) if !switches.is_empty() => return Ok(()),
        Stated::Value(_) => "none",
        Stated::Absent(reason) => reason,
    };
    refuse("the switches", got.to_owned(), "their names")
}

impl MeasurementTable {
    /// The first index whose value is none of the allowed ones, and that value.
    fn wrong_index(&self, finding: &GpuFinding) -> Option<(String, String)> {
        self.allowed.iter().find_map(|(index, allowed)| {
            let value = index
                .parse::<usize>()
                .ok()
                .and_then(|index| finding.measurements.get(index.checked_sub(1)?))
                .map(|value| Hex(*value));
            match value {
                Some(value) if allowed.contains(&value) => None,
                Some(value) => Some((index.clone(), value.to_string())),
                None => Some((index.clone(), "absent".to_owned())),
            }
        })
    }

    fn check(&self) -> Result<(), String> {
        let place = format!("gpu.measurements of {}", quoted(&self.id));
        if self.allowed.is_empty() {
            return Err(format!("{place} compare nothing"));
        }
        for (index, values) in &self.allowed {
            let is_index = index
                .parse::<u8>()
                .is_ok_and(|number| (1..=64).contains(&number) && number.to_string() == *index);
            if !is_index {
                return Err(format!(
                    "{place}: expected an index of 1 to 64, got {}",
                    quoted(index)
                ));
            }
            if values.is_empty() {
                return Err(format!("{place}: index {index} allows nothing"));
            }
        }
        if ![DRIVER_TABLE, VBIOS_TABLE]
            .iter()
            .any(|kind| self.id.starts_with(kind))
        {
            return Err(format!(
                "no GPU is compared with {place}: expected an id that begins with {DRIVER_TABLE} or {VBIOS_TABLE}"
            ));
        }
        Ok(())
    }
}

/// What a file says of GPUs; what it leaves out is the other policy's.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FileGpu {
    pub(crate) mode: Option<Mode>,
    count: Option<u32>,
    protected_pcie: Option<ProtectedPcie>,
    places: Option<Places>,
    devices: BTreeSet<Hex<8>>,
    measurements: Vec<MeasurementTable>,
    nras: Option<Nras>,
}

impl FileGpu {
    pub(crate) fn onto(self, rules: &mut GpuRules) {
        rules.mode = self.mode.unwrap_or(rules.mode);
        // What the other policy demands is not looked at any more.
        if rules.mode == Mode::Off {
            rules.count = None;
            rules.protected_pcie = ProtectedPcie::Report;
            rules.places = Places::Report;
        }
        rules.count = self.count.or(rules.count);
        rules.protected_pcie = self.protected_pcie.unwrap_or(rules.protected_pcie);
        rules.places = self.places.unwrap_or(rules.places);
        rules.nras = self.nras.unwrap_or(rules.nras);
        rules.devices.extend(self.devices);
        rules.measurements.extend(self.measurements);
    }
}

impl GpuRules {
    /// Everything is looked at, and nothing is known: what a file does not say.
    pub(crate) fn empty() -> Self {
        Self {
            mode: Mode::Required,
            count: None,
            protected_pcie: ProtectedPcie::Required,
            places: Places::Report,
            devices: BTreeSet::new(),
            measurements: BTreeSet::new(),
            nras: Nras::Off,
            versions: BTreeSet::new(),
        }
    }

    /// Lets a version that has no table pass as one that is not compared.
    pub(crate) fn accept_version(&mut self, id: &str) -> Result<(), String> {
        let kinds = [DRIVER_TABLE, VBIOS_TABLE];
        let kind = kinds.into_iter().find(|kind| id.starts_with(kind));
        let kind = kind.ok_or_else(|| {
            format!("expected an id that begins with {DRIVER_TABLE} or {VBIOS_TABLE}")
        })?;
        let of_kind = |table: &&MeasurementTable| table.id.starts_with(kind);
        if !self.measurements.iter().any(|table| of_kind(&table)) {
            return Err(
                "the policy has no table of this kind, so it refuses no version".to_owned(),
            );
        }
        if self.measurements.iter().any(|table| table.id == id) {
            return Err("the policy has a table for this version".to_owned());
        }
        self.versions.insert(id.to_owned());
        Ok(())
    }

    /// The first demand that a machine without GPU evidence cannot satisfy, and what to
    /// say where no author wrote it.
    fn demand(&self) -> Option<(&'static str, &'static str)> {
        let demands = [
            (self.count.is_some(), "gpu.count", ""),
            (!self.devices.is_empty(), "gpu.devices", ""),
            (!self.measurements.is_empty(), "gpu.measurements", ""),
            (
                self.places == Places::Accounted,
                "gpu.places = \"accounted\"",
                " or gpu.places = \"report\"",
            ),
            (self.nras == Nras::Require, "gpu.nras = \"require\"", ""),
            (
                self.protected_pcie == ProtectedPcie::Required,
                "gpu.protected_pcie = \"required\", the default,",
                " or gpu.protected_pcie = \"report\"",
            ),
        ];
        let found = demands.into_iter().find(|(is_there, ..)| *is_there);
        found.map(|(_, line, unless)| (line, unless))
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(count) = self.count
            && !usize::try_from(count).is_ok_and(|count| (1..=MAX_GPUS).contains(&count))
        {
            return Err(format!(
                "gpu.count = {count}: expected 1 to {MAX_GPUS}; a machine without GPUs needs gpu.mode = \"off\""
            ));
        }
        match (self.mode, self.demand()) {
            (Mode::Off, demand) if demand.is_some() || self.nras != Nras::Off => {
                return Err(
                    "gpu.mode = \"off\" looks at no GPU, but the policy names some".to_owned(),
                );
            }
            (Mode::IfPresent, Some((line, unless))) => {
                return Err(format!(
                    "{line} needs GPU evidence, which gpu.mode = \"if-present\" lets a machine leave out: expected gpu.mode = \"required\"{unless}"
                ));
            }
            _ => {}
        }
        self.measurements
            .iter()
            .try_for_each(MeasurementTable::check)
    }
}
