//! Evidence of NVIDIA GPUs: `nvidia_payload` of a report.
//!
//! Each GPU signs, with a key that its own firmware was given, an SPDM message that
//! holds our nonce, 64 measurements and its versions. [`appraise_gpus`] proves that
//! each is a genuine NVIDIA GPU, that it answered this nonce, and that no GPU is
//! counted twice or states that it is in another machine; what it does not prove is in
//! [`GPUS_NOT_PROVED`].

pub(crate) mod certificate;
mod chain;
mod dice;
mod opaque;
mod payload;
mod pem;
mod reader;
mod report;
mod spdm;

use std::collections::{BTreeMap, BTreeSet};

pub use chain::{GpuAnchors, IssuerCache};
pub(crate) use payload::MAX_GPUS;
pub(crate) use report::GPUS_NOT_PROVED;
pub use report::{
    Architecture, Board, GpuFinding, GpuReport, Measurement, Pdi, Stated, Topology, Ueid,
    UnknownGpu,
};

use crate::base::finding::{Finding, Severity};
use crate::base::identifiers::{Nonce, UnixTime};
use crate::base::text::{quoted, shown};
use crate::refusals::gpu::GpuRejected;
use chain::{Firmware, Verified};
use payload::{Item, Payload};
use spdm::Spdm;

/// Appraises the GPUs of a machine.
///
/// `cache` saves verifying again the certificates that GPUs share or that a GPU sends
/// each time; it changes no result.
///
/// # Errors
/// The first check that failed.
pub fn appraise_gpus(
    payload: &str,
    nonce: Nonce,
    anchors: &GpuAnchors,
    now: UnixTime,
    cache: &IssuerCache,
) -> Result<GpuReport, GpuRejected> {
    let payload = payload::read(payload, &nonce)?;
    let root = anchors.root().map_err(|detail| GpuRejected::Chain {
        gpu: 0,
        certificate: "the trusted root",
        detail,
    })?;
    let mut gpus = Vec::new();
    let mut not_understood = Vec::new();
    for (gpu, item) in payload.items.iter().enumerate() {
        let chain = pem::certificates(&item.certificates)
            .map_err(|detail| GpuRejected::Certificates { gpu, detail })?;
        match chain::verify(gpu, &chain, &root, now, cache)? {
            Verified::Firmware(device, until) => {
                gpus.push((gpu, appraise_one(gpu, item, &nonce, &device, until)?));
            }
            Verified::NotUnderstood(chip) => not_understood.push(UnknownGpu { gpu, chip }),
        }
    }
    distinct(&gpus)?;
    let gpus: Vec<_> = gpus.into_iter().map(|(_, finding)| finding).collect();
    if !not_understood.is_empty() {
        return Ok(GpuReport {
            gpus,
            not_understood,
            topology: Topology::NotCompared("not every GPU is understood"),
            findings: Vec::new(),
        });
    }
    let topology = same_machine(&gpus)?;
    let mut findings = other_versions(&gpus);
    findings.extend(other_architecture(&payload, &gpus));
    Ok(GpuReport {
        gpus,
        not_understood,
        topology,
        findings,
    })
}

fn appraise_one(
    gpu: usize,
    item: &Item<'_>,
    nonce: &Nonce,
    device: &Firmware,
    valid_until: UnixTime,
) -> Result<GpuFinding, GpuRejected> {
    let spdm = Spdm::parse(gpu, &item.evidence)?;
    if !device.key.verifies_fixed(spdm.message, spdm.signature) {
        return Err(GpuRejected::Signature { gpu });
    }
    if spdm.nonce != *nonce.as_bytes() {
        return Err(GpuRejected::Nonce {
            gpu,
            got: hex::encode(spdm.nonce),
            expected: nonce.to_string(),
        });
    }
    let said = spdm.opaque;
    if let Stated::Value(reported) = &said.fwid
        && *reported != device.fwid
    {
        return Err(GpuRejected::Fwid {
            gpu,
            got: hex::encode(reported),
            expected: hex::encode(device.fwid),
        });
    }
    let board = match (said.project, said.project_sku, said.chip_sku) {
        (Stated::Value(project), Stated::Value(project_sku), Stated::Value(chip_sku)) => {
            Stated::Value(Board {
                project,
                project_sku,
                chip_sku,
            })
        }
        _ => Stated::Absent("the GPU does not name its board"),
    };
    Ok(GpuFinding {
        architecture: device.architecture,
        pdi: device.pdi,
        ueid: device.ueid,
        fwid: device.fwid,
        reported_fwid: said.fwid,
        driver: said.driver,
        vbios: said.vbios,
        board,
        nvdec0: said.nvdec0,
        protected_pcie: said.protected_pcie,
        feature: said.feature,
        switches: said.switches,
        measurements: spdm.measurements,
        record_sha384: spdm.record_sha384,
        valid_until,
    })
}

/// Compares devices, so that a GPU with two firmware keys counts once, and also the
/// numbers of the firmware's certificates, which NVIDIA derives from their keys.
fn distinct(gpus: &[(usize, GpuFinding)]) -> Result<(), GpuRejected> {
    for (gpu, finding) in gpus {
        let same = |other: &GpuFinding| other.pdi == finding.pdi || other.ueid == finding.ueid;
        let mut before = gpus.iter().take_while(|(other, _)| other != gpu);
        if let Some((first, _)) = before.find(|(_, other)| same(other)) {
            return Err(GpuRejected::Duplicate {
                gpu: *gpu,
                first: *first,
            });
        }
    }
    Ok(())
}

/// A machine has one driver, and its GPUs were made together. A replaced GPU may have
/// another VBIOS. Each GPU is attested alone, so a difference proves nothing.
fn other_versions(gpus: &[GpuFinding]) -> Vec<Finding> {
    let count = |what: &str, severity, of: fn(&GpuFinding) -> &str| {
        let mut versions = BTreeMap::<&str, usize>::new();
        for gpu in gpus {
            let count = versions.entry(of(gpu)).or_default();
            *count = count.saturating_add(1);
        }
        let words: Vec<_> = versions
            .iter()
            .map(|(version, count)| format!("{} ({count})", shown(version)))
            .collect();
        (words.len() > 1).then(|| {
            Finding::new(
                severity,
                "gpu_versions_differ",
                format!("the GPUs have not one {what}: {}", words.join(", ")),
            )
        })
    };
    [
        count("driver", Severity::Warning, |gpu| &gpu.driver),
        count("VBIOS", Severity::Notice, |gpu| &gpu.vbios),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The architecture in the JSON is an unsigned copy.
fn other_architecture(payload: &Payload<'_>, gpus: &[GpuFinding]) -> Option<Finding> {
    let of_all = gpus
        .iter()
        .map(|gpu| (&payload.arch, gpu, "nvidia_payload"));
    let of_each = payload
        .items
        .iter()
        .zip(gpus)
        .map(|(item, gpu)| (&item.arch, gpu, "a GPU of nvidia_payload"));
    of_all.chain(of_each).find_map(|(said, gpu, place)| {
        let certified = gpu.architecture.as_str();
        let said = said.as_deref().filter(|said| *said != certified)?;
        Some(Finding::new(
            Severity::Notice,
            "gpu_copies_differ",
            format!(
                "arch of {place} is {}, the certificate says {certified}",
                quoted(said)
            ),
        ))
    })
}

/// On one baseboard all GPUs are in one mode and connected by the same switches. A
/// value that a GPU does not state contradicts none of another GPU.
fn same_machine(gpus: &[GpuFinding]) -> Result<Topology, GpuRejected> {
    same(
        gpus,
        "Protected PCIe",
        |gpu| &gpu.protected_pcie,
        |on| Stated::Value(*on).as_str().to_owned(),
    )?;
    same(
        gpus,
        "the driver's mode",
        |gpu| &gpu.feature,
        u16::to_string,
    )?;
    same(gpus, "the switches", |gpu| &gpu.switches, named)?;
    if gpus.len() < 2 {
        return Ok(Topology::NotCompared("there is one GPU"));
    }
    let mut all = None;
    for gpu in gpus {
        match &gpu.switches {
            Stated::Absent(reason) => return Ok(Topology::NotCompared(reason)),
            Stated::Value(switches) => all = Some(switches),
        }
    }
    Ok(match all {
        Some(switches) if !switches.is_empty() => Topology::SameSwitches(switches.clone()),
        _ => Topology::NotCompared("the GPUs name no switch"),
    })
}

/// Refuses different values of a property that all GPUs of a machine share.
fn same<T: PartialEq>(
    gpus: &[GpuFinding],
    what: &'static str,
    of: impl Fn(&GpuFinding) -> &Stated<T>,
    word: impl Fn(&T) -> String,
) -> Result<(), GpuRejected> {
    let mut stated = gpus
        .iter()
        .enumerate()
        .filter_map(|(gpu, finding)| match of(finding) {
            Stated::Value(value) => Some((gpu, value)),
            Stated::Absent(_) => None,
        });
    let Some((first, expected)) = stated.next() else {
        return Ok(());
    };
    match stated.find(|(_, got)| *got != expected) {
        Some((gpu, got)) => Err(GpuRejected::Topology {
            gpu,
            what,
            got: word(got),
            first,
            expected: word(expected),
        }),
        None => Ok(()),
    }
}

fn named(switches: &BTreeSet<Pdi>) -> String {
    let names: Vec<_> = switches.iter().map(Pdi::to_string).collect();
    shown(&names.join(", "))
}
