//! The GPUs of one machine beside each other: their number, versions and switches.
//! Numbers are those of the project's list of GPU tamperings.

use std::sync::Arc;

use attest::{Severity, Stated, Topology};
use fake_tee::gpu::{Gpu, GpuKeys, GpuSpec, field};

use super::{code, forged};

/// A GPU that was exchanged has another VBIOS; each is attested alone.
#[test]
fn other_versions_are_a_finding() {
    let findings = |change: fn(&mut GpuSpec)| {
        let report = forged(change).unwrap();
        assert_eq!(report.gpus().len(), 3);
        let said = report.findings().iter();
        said.map(|finding| {
            assert_eq!(finding.topic, "gpu_versions_differ");
            (finding.severity, finding.detail.clone())
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(findings(|_| {}), []);
    let vbios = findings(|spec| {
        spec.gpus[1]
            .message
            .push(|m| m.field(field::VBIOS)[3] = 0x95);
    });
    let expected = "the GPUs have not one VBIOS: 95.00.CF.00.02 (1), 96.00.CF.00.02 (2)";
    assert_eq!(vbios, [(Severity::Notice, expected.to_owned())]);
    let driver = findings(|spec| {
        spec.gpus[0]
            .message
            .push(|m| *m.field(field::DRIVER) = b"570.172.09\0".to_vec());
    });
    let expected = "the GPUs have not one driver: 570.172.08 (2), 570.172.09 (1)";
    assert_eq!(driver, [(Severity::Warning, expected.to_owned())]);
    // All of them alike: nothing differs.
    let all = |spec: &mut GpuSpec| {
        for gpu in &mut spec.gpus {
            gpu.message.push(|m| m.field(field::VBIOS)[3] = 0x95);
        }
    };
    assert_eq!(findings(all), []);
}

/// What one GPU does not state contradicts no other; two values do.
#[test]
fn only_what_is_stated_is_compared() {
    let modes = |modes: [Option<u8>; 3]| {
        forged(|spec| {
            for (gpu, mode) in spec.gpus.iter_mut().zip(modes) {
                if let Some(mode) = mode {
                    gpu.message
                        .push(move |m| m.fields.push((field::FEATURE, vec![mode, 0])));
                }
            }
        })
    };
    assert_eq!(code(&modes([None, Some(2), None])), "verified");
    assert_eq!(code(&modes([Some(2); 3])), "verified");
    let rejected = modes([None, Some(2), Some(1)]).unwrap_err();
    assert_eq!(rejected.code(), "rejected_gpu_topology");
    let said = "the driver's mode of GPU 2: 1; of GPU 1: 2";
    assert_eq!(rejected.to_string(), said);

    let without = |kind: u16| {
        forged(|spec| {
            spec.gpus[0]
                .message
                .push(move |m| m.fields.retain(|(other, _)| *other != kind));
        })
        .unwrap()
    };
    let older = Topology::NotCompared("this driver does not report it");
    assert_eq!(*without(field::SWITCHES).topology(), older);
    assert_eq!(without(field::SWITCHES).switches().len(), 4);
    let report = without(field::PROTECTED_PCIE);
    assert!(matches!(report.topology(), Topology::SameSwitches(_)));
}

#[test]
fn fewer_gpus_are_counted_and_none_is_refused() {
    // 39: how many there should be is a policy's matter.
    assert_eq!(
        forged(|spec| spec.gpus.truncate(2)).unwrap().gpus().len(),
        2
    );
    let one = forged(|spec| spec.gpus.truncate(1)).unwrap();
    assert_eq!(*one.topology(), Topology::NotCompared("there is one GPU"));
    assert_eq!(
        code(&forged(|spec| spec.gpus.clear())),
        "rejected_gpu_missing"
    );
}

#[test]
fn a_device_counts_once_whatever_its_firmware_key() {
    let twice = |change: fn(&mut Gpu)| {
        let outcome = forged(|spec| {
            let mut again = spec.gpus[0].clone();
            change(&mut again);
            spec.gpus.push(again);
        });
        code(&outcome)
    };
    assert_eq!(twice(|_| {}), "rejected_gpu_duplicate", "40");
    assert_eq!(
        twice(|gpu| gpu.keys = Arc::new(GpuKeys::generate().unwrap())),
        "rejected_gpu_duplicate",
        "another key"
    );
    assert_eq!(
        twice(|gpu| gpu.pdi[0] ^= 1),
        "rejected_gpu_duplicate",
        "another number"
    );
}

#[test]
fn a_gpu_of_another_machine_is_refused_and_another_machine_is_not() {
    let elsewhere = |gpu: &mut Gpu| {
        gpu.message.push(|m| {
            for byte in m.field(field::SWITCHES).iter_mut().take(24) {
                *byte ^= 0xff;
            }
        });
    };
    let outcome = forged(|spec| elsewhere(&mut spec.gpus[2]));
    assert_eq!(code(&outcome), "rejected_gpu_topology", "48");
    let outcome = forged(|spec| spec.gpus.iter_mut().for_each(elsewhere));
    assert_eq!(code(&outcome), "verified", "49");
    let outcome = forged(|spec| spec.gpus.reverse());
    assert_eq!(code(&outcome), "verified", "42");
}

/// Old drivers do not name their firmware: that is said, and is no pass.
#[test]
fn what_a_driver_does_not_report_is_absent_with_a_reason() {
    let without = |kind: u16| {
        forged(|spec| {
            for gpu in &mut spec.gpus {
                gpu.message
                    .push(move |m| m.fields.retain(|(other, _)| *other != kind));
            }
        })
        .unwrap()
    };
    let older = "this driver does not report it";
    assert_eq!(
        without(field::FWID).gpus()[0].reported_fwid,
        Stated::Absent(older)
    );
    assert_eq!(
        *without(field::SWITCHES).topology(),
        Topology::NotCompared(older)
    );
    assert_eq!(
        without(field::PROJECT).gpus()[0].vbios_rim_id(),
        Stated::Absent("the GPU does not name its board")
    );
    let unconnected = forged(|spec| {
        for gpu in &mut spec.gpus {
            gpu.message.push(|m| m.field(field::SWITCHES).fill(0));
        }
    });
    assert_eq!(
        *unconnected.unwrap().topology(),
        Topology::NotCompared("the GPUs name no switch")
    );
}
