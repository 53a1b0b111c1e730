//! What recordings of real machines have.

use super::*;
use crate::Spec;

fn hex<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).unwrap().try_into().unwrap()
}

/// A host of eight GPUs, four switches and 64 CPUs, with 1 and 2 TiB.
#[test]
fn rtmr0_is_that_of_a_real_machine() {
    for (memory_size, rtmr0) in [
        (
            1 << 40,
            "0cb94dba1a9773d741efad49370e1e909557409a904a24a4620b6305651360952cb8111f851b03fc2a35a6c3b7bb05f6",
        ),
        (
            2 << 40,
            "bc122d143ab768565ba5c3774ff5f03a63c89a4df7c1f5ea38d3bd173409d14f8cbdcc36d40e703cccb996a9d9687590",
        ),
    ] {
        let mut spec = Spec::new(1_800_000_000).unwrap();
        spec.vm_config.cpu_count = 64;
        spec.vm_config.memory_size = memory_size;
        let events = spec.events();
        assert_eq!(events.iter().filter(|event| event.imr == 0).count(), 13);
        assert_eq!(replay(&events)[0], hex(rtmr0));
    }
}

#[test]
fn a_stripped_log_has_three_events_before_the_runtime() {
    let mut events = Spec::new(1_800_000_000).unwrap().events();
    let whole = events.clone();
    strip_boot_events(&mut events);
    let names: Vec<_> = events.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(
        names[..4],
        [
            "acpi-loader",
            "acpi-rsdp",
            "acpi-tables",
            "system-preparing"
        ]
    );
    assert_eq!(replay(&events)[3], replay(&whole)[3]);
    assert_eq!(replay(&events)[1], [0; 48]);
}
