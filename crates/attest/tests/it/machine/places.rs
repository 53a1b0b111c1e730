//! Tables have places. Each holds a GPU that signed, or a switch that one names.

use attest::CheckId;
use fake_tee::Spec;
use fake_tee::gpu::GpuSpec;

use super::judge_under;
use crate::support::{code, detail, spec_with};

/// So many GPUs that sign and name so many switches, in a machine that states a split.
fn machine(signing: usize, named: u32, stated_gpus: u32, stated_switches: u32) -> Spec {
    spec_with(|spec| {
        let mut gpus = GpuSpec::shared().unwrap();
        gpus.gpus.truncate(signing);
        gpus.connect(named);
        spec.gpus = (signing > 0).then_some(gpus);
        spec.vm_config.num_gpus = stated_gpus;
        spec.vm_config.num_nvswitches = stated_switches;
    })
}

/// The thirteen splits of twelve places: the stated one decides nothing.
#[test]
fn only_what_signed_and_is_named_fills_a_place() {
    for gpus in 0..=12 {
        let switches = 12 - gpus;
        let judge = |signing: usize, named| {
            let count = format!("gpu.count = {}\n", signing.max(1));
            judge_under(&machine(signing, named, gpus, switches), &count)
        };
        let all = judge(8, 4);
        assert_eq!(code(&all), "verified", "{gpus} + {switches}");
        assert_eq!(
            detail(&all, CheckId::GpuPlaces),
            "12 places measured, as many as 8 GPUs that signed and 4 NVSwitches that they name"
        );
        let one = judge(1, 4);
        assert_eq!(code(&one), "rejected_gpu_places", "{gpus} + {switches}");
        assert_eq!(
            detail(&one, CheckId::GpuPlaces),
            "the machine was measured with 12 places for GPUs and NVSwitches; 1 GPUs signed our nonce and name 4 NVSwitches"
        );
        assert_eq!(code(&judge(0, 0)), "rejected_gpu_missing");
    }
    for (what, signing, named) in [
        ("a device more", 8, 3),
        ("a device less", 8, 5),
        ("a GPU that did not answer", 7, 4),
    ] {
        let count = format!("gpu.count = {signing}\n");
        let appraisal = judge_under(&machine(signing, named, 8, 4), &count);
        assert_eq!(code(&appraisal), "rejected_gpu_places", "{what}");
    }
}

#[test]
fn other_machines_are_accounted_for_too() {
    for (signing, switches) in [(1, 1), (1, 11), (4, 2), (8, 6)] {
        let spec = machine(signing, switches, u32::try_from(signing).unwrap(), switches);
        let appraisal = judge_under(&spec, &format!("gpu.count = {signing}\n"));
        assert_eq!(code(&appraisal), "verified", "{signing} + {switches}");
    }
    // A GPU without switches is not in Protected PCIe mode.
    let alone = machine(1, 0, 1, 0);
    let more = "gpu.count = 1\ngpu.protected_pcie = \"report\"\n";
    assert_eq!(code(&judge_under(&alone, more)), "verified");
}

#[test]
fn a_policy_may_report_it_only() {
    let spec = machine(1, 4, 1, 11);
    let appraisal = judge_under(&spec, "gpu.count = 1\ngpu.places = \"report\"\n");
    assert_eq!(code(&appraisal), "verified");
    let said = detail(&appraisal, CheckId::GpuPlaces);
    assert!(said.ends_with("; the policy only reports it"), "{said}");
}
