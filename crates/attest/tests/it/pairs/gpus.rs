//! GPUs, and the shape of the machine.

use super::{Member, alike};
use crate::support::each_gpu;
use fake_tee::gpu::field;

pub(super) const PAIRS: &[(Member, Member)] = &[
    (
        (
            "a GPU with a repaired board's VBIOS",
            |s| {
                s.gpus.as_mut().unwrap().gpus[3]
                    .message
                    .push(|m| *m.field(field::VBIOS) = vec![0, 0xcf, 0, 0x96, 3, 0, 0, 0]);
            },
            "tagged",
        ),
        (
            "one GPU twice",
            |s| {
                let gpus = &mut s.gpus.as_mut().unwrap().gpus;
                gpus[1] = gpus[0].clone();
            },
            "rejected_gpu_duplicate machine",
        ),
    ),
    (
        (
            "GPUs of a newer kind",
            |s| {
                for gpu in &mut s.gpus.as_mut().unwrap().gpus {
                    gpu.chip = "GB100".into();
                }
            },
            "evidence_gpu_not_understood age",
        ),
        (
            "no GPUs at all",
            |s| s.gpus = None,
            "rejected_gpu_missing machine",
        ),
    ),
    alike(
        "a machine with four GPUs",
        "four GPUs are hidden",
        |s| s.gpus.as_mut().unwrap().gpus.truncate(4),
        "rejected_gpu_count unknown",
    ),
    (
        (
            "the host counts its switches as GPUs",
            |s| {
                s.vm_config.num_gpus = 12;
                s.vm_config.num_nvswitches = 0;
            },
            "tagged",
        ),
        (
            "a place for a device that no GPU names",
            |s| s.vm_config.num_gpus = 9,
            "rejected_gpu_places unknown",
        ),
    ),
    (
        (
            "a machine of another shape, as it is",
            |s| s.vm_config.cpu_count = 128,
            "tagged",
        ),
        (
            "another shape is stated than was measured",
            |s| {
                s.hooks.report.push(|report| {
                    let text = report["info"]["vm_config"].as_str().unwrap();
                    report["info"]["vm_config"] =
                        text.replace("\"cpu_count\":", "\"cpu_count\":1").into();
                });
            },
            "rejected_acpi unknown",
        ),
    ),
    (
        (
            "a log without the events of firmware and kernel",
            |s| s.strip_boot_events = true,
            "tagged",
        ),
        (
            "such a log, and other tables were measured",
            |s| {
                s.strip_boot_events = true;
                s.boot.acpi_tables = Some([7; 48]);
            },
            "rejected_rtmr_computed unknown",
        ),
    ),
    (
        ("ordinary GPUs", |_| {}, "tagged"),
        (
            "GPUs whose traffic is not protected",
            |s| each_gpu(s, |m| *m.field(field::PROTECTED_PCIE) = vec![0x55]),
            "rejected_gpu_mode machine",
        ),
    ),
];
