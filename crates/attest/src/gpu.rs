//! Evidence of NVIDIA GPUs: `nvidia_payload` of a report.
//!
//! Each GPU signs, with a key that its own firmware was given, an SPDM message
//! that holds our nonce, 64 measurements and its versions. [`appraise_gpus`]
//! proves that each is a genuine GPU of NVIDIA's, that it answered this nonce,
//! and that no GPU is counted twice or comes from another machine; what is
//! still not proved is in [`GPUS_NOT_PROVED`].

pub(crate) mod certificate;
mod chain;
mod dice;
mod opaque;
mod payload;
mod pem;
mod rejected;
mod report;
mod spdm;

use std::collections::BTreeSet;

pub use chain::{GpuAnchors, IssuerCache};
pub(crate) use payload::MAX_GPUS;
pub use rejected::GpuRejected;
pub use report::{
    Architecture, Board, GPUS_NOT_PROVED, GpuFinding, GpuReport, Pdi, Stated, Topology, Ueid,
};
pub use spdm::Measurement;

use crate::text::{quoted, shown};
use crate::{Nonce, UnixTime};
use chain::Root;
use payload::Item;
use spdm::Spdm;

/// Appraises the GPUs of a machine.
///
/// `cache` spares the certificates that GPUs share, and that a GPU sends each
/// time; it decides nothing.
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
    let gpus = payload
        .items
        .iter()
        .enumerate()
        .map(|(gpu, item)| {
            let finding = appraise_one(gpu, item, &nonce, &root, now, cache)?;
            same_architecture(gpu, "arch of the payload", &payload.arch, &finding)?;
            same_architecture(gpu, "arch", &item.arch, &finding)?;
            Ok(finding)
        })
        .collect::<Result<Vec<_>, _>>()?;
    distinct(&gpus)?;
    same_versions(&gpus)?;
    let topology = same_machine(&gpus)?;
    Ok(GpuReport { gpus, topology })
}

fn appraise_one(
    gpu: usize,
    item: &Item<'_>,
    nonce: &Nonce,
    root: &Root<'_>,
    now: UnixTime,
    cache: &IssuerCache,
) -> Result<GpuFinding, GpuRejected> {
    let spdm = Spdm::parse(gpu, &item.evidence)?;
    let chain = pem::certificates(&item.certificates)
        .map_err(|detail| GpuRejected::Certificates { gpu, detail })?;
    let (device, valid_until) = chain::verify(gpu, &chain, root, now, cache)?;
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

/// What the JSON calls the architecture is not signed, but must not mislead.
fn same_architecture(
    gpu: usize,
    field: &'static str,
    got: &str,
    finding: &GpuFinding,
) -> Result<(), GpuRejected> {
    let expected = finding.architecture.as_str();
    if got != expected {
        return Err(GpuRejected::Architecture {
            gpu,
            field,
            got: quoted(got),
            expected,
        });
    }
    Ok(())
}

/// By the device, so that a GPU with two firmware keys is one; by the number of
/// the firmware's certificate too, which NVIDIA derives from its key.
fn distinct(gpus: &[GpuFinding]) -> Result<(), GpuRejected> {
    for (gpu, finding) in gpus.iter().enumerate() {
        let same = |other: &GpuFinding| other.pdi == finding.pdi || other.ueid == finding.ueid;
        if let Some(first) = gpus.iter().take(gpu).position(same) {
            return Err(GpuRejected::Duplicate { gpu, first });
        }
    }
    Ok(())
}

/// A machine has one driver, and its baseboard's GPUs are updated together.
fn same_versions(gpus: &[GpuFinding]) -> Result<(), GpuRejected> {
    let Some((first, rest)) = gpus.split_first() else {
        return Ok(());
    };
    for (gpu, finding) in (1..).zip(rest) {
        for (what, got, expected) in [
            ("the driver", &finding.driver, &first.driver),
            ("the VBIOS", &finding.vbios, &first.vbios),
        ] {
            if got != expected {
                return Err(GpuRejected::Versions {
                    gpu,
                    what,
                    got: got.clone(),
                    expected: expected.clone(),
                });
            }
        }
    }
    Ok(())
}

/// On one baseboard all GPUs are in one mode and connected by the same switches.
fn same_machine(gpus: &[GpuFinding]) -> Result<Topology, GpuRejected> {
    let Some((first, rest)) = gpus.split_first() else {
        return Ok(Topology::NotCompared("there is no GPU"));
    };
    for (gpu, finding) in (1..).zip(rest) {
        let refuse = |what, got: String, expected: String| {
            Err(GpuRejected::Topology {
                gpu,
                what,
                got,
                expected,
            })
        };
        if finding.protected_pcie != first.protected_pcie {
            return refuse(
                "Protected PCIe",
                mode(&finding.protected_pcie),
                mode(&first.protected_pcie),
            );
        }
        if finding.feature != first.feature {
            return refuse(
                "the driver's mode",
                format!("{:?}", finding.feature),
                format!("{:?}", first.feature),
            );
        }
        if finding.switches != first.switches {
            return refuse(
                "the switches",
                named(&finding.switches),
                named(&first.switches),
            );
        }
    }
    Ok(match &first.switches {
        _ if rest.is_empty() => Topology::NotCompared("there is one GPU"),
        Stated::Absent(reason) => Topology::NotCompared(reason),
        Stated::Value(switches) if switches.is_empty() => {
            Topology::NotCompared("the GPUs name no switch")
        }
        Stated::Value(switches) => Topology::SameSwitches(switches.clone()),
    })
}

fn mode(stated: &Stated<bool>) -> String {
    match stated {
        Stated::Value(true) => "on".to_owned(),
        Stated::Value(false) => "off".to_owned(),
        Stated::Absent(reason) => (*reason).to_owned(),
    }
}

fn named(switches: &Stated<BTreeSet<Pdi>>) -> String {
    match switches {
        Stated::Absent(reason) => (*reason).to_owned(),
        Stated::Value(switches) => {
            let names: Vec<_> = switches.iter().map(Pdi::to_string).collect();
            shown(&names.join(", "))
        }
    }
}
