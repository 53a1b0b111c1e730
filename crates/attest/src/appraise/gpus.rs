//! Step 10: on which GPUs the machine computes.

use super::{NrasCheck, Run};
use crate::base::finding::{Finding, Severity};
use crate::base::identifiers::UnixTime;
use crate::base::levels::GpuLevel;
use crate::base::text::shown;
use crate::near::evidence::Evidence;
use crate::nvidia::gpu::{
    GPUS_NOT_PROVED, GpuFinding, GpuReport, IssuerCache, Stated, Topology, appraise_gpus,
};
use crate::nvidia::nras::{NRAS_NOT_PROVED, NrasOpinion, appraise_nras};
use crate::policy::{Mode, Nras, Places, ValueRule};
use crate::refusals::Rejected;
use crate::refusals::checks::CheckId;
use crate::refusals::gpu::GpuRejected;
use crate::refusals::nras::NrasRejected;
use crate::report::GpuShown;

const GPU_CHECKS: [CheckId; 5] = [
    CheckId::Gpus,
    CheckId::GpuShape,
    CheckId::GpuPlaces,
    CheckId::GpuMeasurements,
    CheckId::Nras,
];

impl Run<'_> {
    /// What the GPUs show, if they were looked at.
    pub(super) fn gpus(&mut self) -> Result<Option<GpuReport>, Rejected> {
        let request = self.request;
        let rules = &self.rules().gpu;
        self.begin(CheckId::Gpus);
        let payload = match (rules.mode, &request.evidence.gpu_payload) {
            (Mode::Off, _) => {
                self.all_not_proved(
                    GPU_CHECKS,
                    "the policy does not look at them (gpu.mode = \"off\")",
                );
                return Ok(None);
            }
            (Mode::IfPresent, None) => {
                self.all_not_proved(
                    GPU_CHECKS,
                    "the report has no GPU evidence, and the policy does not require it",
                );
                return Ok(None);
            }
            (Mode::Required, None) => {
                return Err(GpuRejected::Missing {
                    what: "the report has no GPU evidence (nvidia_payload)",
                }
                .into());
            }
            (Mode::Required | Mode::IfPresent, Some(payload)) => payload,
        };
        let anchors = request.trust_anchors.gpus();
        let report = appraise_gpus(
            payload,
            request.nonce,
            anchors,
            request.now,
            request.context.issuers.unwrap_or(&IssuerCache::new()),
        )?;
        rules.understood(&report)?;
        let gpus = report.gpus();
        let signed = format!(
            "{} signed our nonce, under {} root",
            match rules.count {
                Some(count) if usize::try_from(count) == Ok(gpus.len()) =>
                    format!("{count} of {count}"),
                _ => counted(gpus.len()),
            },
            if anchors.is_nvidia() {
                "NVIDIA's"
            } else {
                "a DANGEROUS"
            }
        );
        self.report.gpus = gpus.iter().map(GpuShown::of).collect();
        self.report
            .findings
            .extend(report.findings().iter().cloned());
        self.report.fact("gpus_signed", gpus.len().to_string());
        self.report
            .fact("gpu_switches", report.switches().len().to_string());
        if let Some(unknown) = report.not_understood().first() {
            let reason = format!(
                "{signed}; this version does not understand GPUs of the architecture {}, such as GPU {}",
                unknown.chip, unknown.gpu
            );
            self.all_not_proved(GPU_CHECKS, &reason);
            return Ok(None);
        }
        self.pass(signed);

        self.begin(CheckId::GpuShape);
        self.report
            .findings
            .extend(other_number(request.evidence, gpus.len()));
        rules.admit(gpus)?;
        let devices: Vec<_> = gpus
            .iter()
            .map(|gpu| hex::encode(gpu.pdi.as_bytes()))
            .collect();
        self.accepted_values(ValueRule::GpuDevice, devices.iter().map(String::as_str));
        let shape = shape(&report);
        match (rules.count, report.topology()) {
            (None, _) => self.report.not_proved(
                CheckId::GpuShape,
                format!(
                    "the policy sets no gpu.count; {} answered: {shape}",
                    counted(gpus.len())
                ),
            ),
            (Some(2..), Topology::NotCompared(_)) => {
                self.report.not_proved(CheckId::GpuShape, shape);
            }
            (Some(_), _) => self.pass(shape),
        }

        self.places(gpus.len(), report.switches().len())?;

        self.begin(CheckId::GpuMeasurements);
        let compared = rules.compare(gpus)?;
        let unknown: Vec<_> = compared.unknown.into_iter().collect();
        self.accepted_values(ValueRule::GpuVersion, unknown.iter().map(String::as_str));
        self.workload.gpu_level = if unknown.is_empty() {
            GpuLevel::Measured
        } else {
            GpuLevel::Genuine
        };
        if unknown.is_empty() {
            let fitting: Vec<_> = compared.fitting.into_iter().collect();
            self.pass(shown(&fitting.join(", ")));
        } else {
            self.report.not_proved(
                CheckId::GpuMeasurements,
                format!(
                    "not compared: the policy has no table for {}",
                    shown(&unknown.join(", "))
                ),
            );
        }
        self.report.limits.extend(GPUS_NOT_PROVED);
        Ok(Some(report))
    }

    /// A device in a place that nobody accounts for could be anything. The number of GPUs
    /// that the host states is not looked at.
    fn places(&mut self, gpus: usize, switches: usize) -> Result<(), Rejected> {
        self.begin(CheckId::GpuPlaces);
        let is_demanded = self.rules().gpu.places == Places::Accounted;
        let Some(places) = self.workload.root_ports else {
            if is_demanded {
                return Err(GpuRejected::PlacesUnknown {}.into());
            }
            self.report.not_proved(
                CheckId::GpuPlaces,
                "the machine's tables were not recomputed, so their places are not known",
            );
            return Ok(());
        };
        if usize::try_from(places) == Ok(gpus.saturating_add(switches)) {
            self.pass(format!(
                "{places} places measured, as many as {} that signed and {switches} NVSwitches that they name",
                counted(gpus)
            ));
            return Ok(());
        }
        let rejected = GpuRejected::Places {
            places,
            gpus,
            switches,
        };
        if is_demanded {
            return Err(rejected.into());
        }
        let reason = format!("{rejected}; the policy only reports it");
        self.report.not_proved(CheckId::GpuPlaces, reason);
        Ok(())
    }

    /// The end of the GPUs' certificates, and of the opinion on them.
    pub(super) fn gpus_until(&mut self, gpus: &GpuReport) -> Result<UnixTime, Rejected> {
        let until = gpus.valid_until();
        Ok(match self.nras(gpus)? {
            Some(opinion) => opinion.valid_until().min(until),
            None => until,
        })
    }

    /// NVIDIA's own opinion; where the policy only reports it, nothing of it is a
    /// refusal, and it does not shorten the verdict's life.
    fn nras(&mut self, gpus: &GpuReport) -> Result<Option<NrasOpinion>, Rejected> {
        let request = self.request;
        self.begin(CheckId::Nras);
        let mode = self.rules().gpu.nras;
        let outcome = match (mode, request.context.nras) {
            (Nras::Off, _) => {
                self.report.not_proved(
                    CheckId::Nras,
                    "not asked: the policy does not want it (gpu.nras = \"off\")",
                );
                return Ok(None);
            }
            (_, NrasCheck::NotAsked(reason)) => Err(NrasRejected::Unavailable {
                detail: reason.to_owned(),
            }),
            (_, NrasCheck::Unavailable(reason)) => Err(NrasRejected::Unavailable {
                detail: shown(reason),
            }),
            (_, NrasCheck::Answer { answer, keys }) => appraise_nras(
                answer,
                keys,
                request.trust_anchors.nras(),
                request.nonce,
                gpus,
                request.now,
            ),
        };
        match (outcome, mode) {
            (Ok(opinion), _) => {
                self.pass(format!(
                    "{} GPUs, looked at {}",
                    opinion.gpus(),
                    opinion.issued_at()
                ));
                self.report.limits.extend(NRAS_NOT_PROVED);
                // An opinion that is only reported does not end the verdict with
                // itself, so no level may rest on it.
                if mode == Nras::Require {
                    self.workload.gpu_level = GpuLevel::Measured;
                }
                Ok((mode == Nras::Require).then_some(opinion))
            }
            (Err(rejected), mode) => {
                self.workload.nras_unknown_key = rejected.is_unknown_kid();
                if mode == Nras::Require {
                    return Err(rejected.into());
                }
                self.report.not_proved(
                    CheckId::Nras,
                    format!("{rejected}; the policy only reports it"),
                );
                Ok(None)
            }
        }
    }
}

fn counted(gpus: usize) -> String {
    match gpus {
        1 => "1 GPU".to_owned(),
        _ => format!("{gpus} GPUs"),
    }
}

/// The number of GPUs in `vm_config` is the host's copy.
fn other_number(evidence: &Evidence, listed: usize) -> Option<Finding> {
    let stated = evidence.vm.as_ref().ok()?.as_ref()?.gpus?;
    (u64::try_from(listed) != Ok(stated)).then(|| {
        Finding::new(
            Severity::Notice,
            "gpu_copies_differ",
            format!(
                "info.vm_config.num_gpus is {stated}, the report has evidence of {}",
                counted(listed)
            ),
        )
    })
}

/// What the GPUs have in common, for a person; where versions differ there is a
/// finding, and these are the first one's.
fn shape(report: &GpuReport) -> String {
    let mut words = Vec::new();
    if let Some(gpu) = report.gpus().first() {
        words.push(versions(gpu));
    }
    words.push(match report.topology() {
        Topology::SameSwitches(switches) => {
            format!("on one baseboard ({} switches)", switches.len())
        }
        Topology::NotCompared(reason) => format!("whether in one machine: {reason}"),
    });
    words.join(", ")
}

fn versions(gpu: &GpuFinding) -> String {
    let mode = match &gpu.protected_pcie {
        Stated::Value(true) => "Protected PCIe on",
        Stated::Value(false) => "Protected PCIe off",
        Stated::Absent(_) => "Protected PCIe not stated",
    };
    format!(
        "{} with driver {} and VBIOS {}, {mode}",
        gpu.architecture.chip(),
        shown(&gpu.driver),
        shown(&gpu.vbios)
    )
}
