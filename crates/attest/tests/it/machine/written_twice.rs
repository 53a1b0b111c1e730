//! The tables of random shapes against those of fake-tee, which makes them by another
//! method; and machines of many shapes under one policy.

use attest::compute_rtmr0;
use fake_tee::{Spec, VmConfig};
use proptest::prelude::*;

use super::judge_under;
use crate::support::{cases, code, spec, spec_with};

const VERSIONS: [&str; 14] = [
    "", "8.0.0", "8.2.2", "9.0.4", "9.1.0", "9.2.0", "9.2.1", "10.0.13", "10.1.0", "10.2.1",
    "11.0.3", "11.1.0", "11.1.3", "12.0.0",
];

prop_compose! {
    fn any_shape()(
        cpus in prop_oneof![1..=16_u32, 17..=300_u32, 301..=4096_u32],
        mib in prop_oneof![16..=2815_u64, 2816..=4096_u64, 4097..=58_718_208_u64],
        version in prop::sample::select(&VERSIONS[..]),
        hole in prop_oneof![Just(0), 1..=1_u64 << 36, Just(1 << 50)],
        pic in prop::option::of(any::<bool>()),
        nics in prop::option::of(0..=4_u32),
        volumes in prop::option::of(0..=3_u32),
        hotplug_off in any::<bool>(),
        gpus in 0..=12_u32,
        switches in 0..=6_u32,
    ) -> VmConfig {
        let mut config = spec().vm_config;
        config.cpu_count = cpus;
        config.memory_size = mib << 20;
        config.qemu_version = version.to_owned();
        config.pci_hole64_size = hole;
        config.pic = pic;
        config.num_nics = nics;
        config.num_verity_volumes = volumes;
        config.hotplug_off = hotplug_off;
        config.num_gpus = if hotplug_off { gpus } else { 0 };
        config.num_nvswitches = if hotplug_off { switches } else { 0 };
        config
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn both_ways_to_make_tables_agree(config in any_shape()) {
        let text = serde_json::to_string(&config).unwrap();
        let computed = compute_rtmr0(&text, None).unwrap();
        let event = |name: &str| computed.events.iter().find(|(own, _)| *own == name).unwrap().1;
        let made = fake_tee::acpi::digests(&config);
        prop_assert_eq!(event("acpi_tables"), made.tables, "{}", &text);
        prop_assert_eq!(event("acpi_rsdp"), made.rsdp, "{}", &text);
        prop_assert_eq!(event("acpi_loader"), made.loader, "{}", &text);
        let hob = fake_tee::event_log::td_hob_digest(config.memory_size);
        prop_assert_eq!(event("td_hob"), hob, "{}", &text);
    }
}

/// One policy file, made of the default machine, accepts machines of twenty shapes.
#[test]
fn a_machine_of_another_shape_needs_no_other_policy() {
    let mut shapes: Vec<fn(&mut Spec)> = vec![
        |_| {},
        |s| s.vm_config.cpu_count = 1,
        |s| s.vm_config.cpu_count = 8,
        |s| s.vm_config.cpu_count = 9,
        |s| s.vm_config.cpu_count = 64,
        |s| s.vm_config.cpu_count = 192,
        |s| s.vm_config.cpu_count = 256,
        |s| s.vm_config.cpu_count = 4096,
        |s| s.vm_config.memory_size = 2816 << 20,
        |s| s.vm_config.memory_size = 2 << 40,
        |s| s.vm_config.pci_hole64_size = 0,
        |s| s.vm_config.num_nics = Some(3),
        |s| s.vm_config.num_verity_volumes = Some(2),
        |s| s.vm_config.pic = Some(true),
    ];
    shapes.extend([
        |s: &mut Spec| s.vm_config.qemu_version = "8.2.2".to_owned(),
        |s: &mut Spec| s.vm_config.qemu_version = "9.1.0".to_owned(),
        |s: &mut Spec| s.vm_config.qemu_version = "10.0.13".to_owned(),
        |s: &mut Spec| s.vm_config.qemu_version = "11.0.0".to_owned(),
        |s: &mut Spec| s.vm_config.qemu_version = "11.1.3".to_owned(),
        |s: &mut Spec| {
            s.vm_config.num_nvswitches = 6;
            s.gpus.as_mut().unwrap().connect(6);
        },
    ] as [fn(&mut Spec); 6]);
    assert_eq!(shapes.len(), 20);
    for (number, shape) in shapes.into_iter().enumerate() {
        let appraisal = judge_under(&spec_with(shape), "");
        assert_eq!(code(&appraisal), "verified", "shape {number}");
        let boot = appraisal.report.levels.unwrap().boot;
        assert_eq!(boot.as_str(), "named", "shape {number}");
    }
}
