//! Hosts that state another machine than they measured, and tables that QEMU does not make.

use attest::CheckId;
use fake_tee::hash::sha384;
use fake_tee::{Spec, VmConfig};
use serde_json::Value;

use super::judge_under;
use crate::support::{code, detail, spec, spec_with};

/// The measured machine stays; what the host states of it changes.
fn stating(change: impl Fn(&mut VmConfig) + Send + Sync + 'static) -> Spec {
    spec_with(|spec| {
        let mut stated = spec.vm_config.clone();
        change(&mut stated);
        spec.hooks.report.push(move |report| {
            report["info"]["vm_config"] = serde_json::to_string(&stated).unwrap().into();
        });
    })
}

fn with_member(name: &'static str, value: Value) -> Spec {
    spec_with(|spec| {
        let mut stated = serde_json::to_value(&spec.vm_config).unwrap();
        stated[name] = value;
        spec.hooks.report.push(move |report| {
            report["info"]["vm_config"] = stated.to_string().into();
        });
    })
}

#[test]
fn each_lie_in_one_member_is_refused() {
    let lies: Vec<(&str, Spec)> = vec![
        ("a CPU more", stating(|c| c.cpu_count += 1)),
        ("a CPU less", stating(|c| c.cpu_count -= 1)),
        ("a CPU", stating(|c| c.cpu_count = 1)),
        ("no CPU", stating(|c| c.cpu_count = 0)),
        ("too many CPUs", stating(|c| c.cpu_count = 4097)),
        ("all CPUs", stating(|c| c.cpu_count = u32::MAX)),
        ("another QEMU", stating(|c| c.qemu_version = "9.1.0".into())),
        (
            "an older QEMU",
            stating(|c| c.qemu_version = "8.2.2".into()),
        ),
        (
            "a newer QEMU",
            stating(|c| c.qemu_version = "10.0.0".into()),
        ),
        ("no QEMU", stating(|c| c.qemu_version.clear())),
        (
            "a QEMU of words",
            stating(|c| c.qemu_version = "new".into()),
        ),
        ("another window", stating(|c| c.pci_hole64_size /= 2)),
        ("no window", stating(|c| c.pci_hole64_size = 0)),
        ("huge pages", stating(|c| c.hugepages = true)),
        ("a GPU more", stating(|c| c.num_gpus += 1)),
        ("a GPU less", stating(|c| c.num_gpus -= 1)),
        ("a switch more", stating(|c| c.num_nvswitches += 1)),
        ("a switch less", stating(|c| c.num_nvswitches -= 1)),
        ("hot-plug", stating(|c| c.hotplug_off = false)),
        ("a PIC", stating(|c| c.pic = Some(true))),
        ("no NIC", stating(|c| c.num_nics = Some(0))),
        ("two NICs", stating(|c| c.num_nics = Some(2))),
        ("a volume", stating(|c| c.num_verity_volumes = Some(1))),
        ("NUMA", with_member("numa_nodes", serde_json::json!([{}]))),
        ("SMM", with_member("smm", true.into())),
        ("a TPM", with_member("swtpm", true.into())),
        ("CPUs as text", with_member("cpu_count", "32".into())),
        ("no CPUs at all", with_member("cpu_count", Value::Null)),
    ];
    for (lie, spec) in &lies {
        let appraisal = judge_under(spec, "");
        assert_eq!(code(&appraisal), "rejected_acpi", "{lie}");
    }
    // The memory map has an event of its own, which is compared first.
    for change in [1_u64 << 20, 1 << 30, 1 << 40] {
        let appraisal = judge_under(&stating(move |c| c.memory_size += change), "");
        assert_eq!(code(&appraisal), "rejected_td_hob", "{change}");
    }
    // What no register depends on: a copy, or words.
    for (what, spec) in [
        ("image", with_member("image", "dstack-0.6.6".into())),
        ("spec_version", with_member("spec_version", 9.into())),
        (
            "newer",
            with_member("a_newer_member", serde_json::json!({"a": 1})),
        ),
    ] {
        assert_eq!(code(&judge_under(&spec, "")), "verified", "{what}");
    }
}

/// What the refusal tells: both sets of tables, and the shape in words.
#[test]
fn the_refusal_names_the_stated_shape() {
    let appraisal = judge_under(&stating(|c| c.cpu_count = 33), "");
    let detail = detail(&appraisal, CheckId::Acpi);
    for part in [
        "QEMU makes other tables",
        "33 CPUs, 1048576 MiB of memory, 12 places for GPUs and NVSwitches, 5 other devices on the root bus, hot-plug off, QEMU 9.2",
    ] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
}

/// One byte of each table, of the loader's commands and of the RSDP, measured and signed.
#[test]
fn each_byte_of_a_table_counts() {
    let made = fake_tee::acpi::tables(&spec().vm_config);
    let mut changed = Vec::new();
    let mut at = 0;
    // The length of each table stands after its signature.
    while made.tables[at] != 0 {
        let length = u32::from_le_bytes(made.tables[at + 4..at + 8].try_into().unwrap()) as usize;
        for place in [at, at + length / 2, at + length - 1] {
            changed.push((0, place));
        }
        at += length;
    }
    assert_eq!(
        changed.len(),
        3 * 7,
        "FACS, DSDT, FACP, APIC, MCFG, WAET, RSDT"
    );
    changed.push((0, at));
    changed.push((0, made.tables.len() - 1));
    changed.extend([(1, 0), (1, 17), (1, made.rsdp.len() - 1)]);
    changed.extend([(2, 0), (2, 300), (2, made.loader.len() - 1)]);
    for (file, place) in changed {
        let mut files = [made.tables.clone(), made.rsdp.clone(), made.loader.clone()];
        files[file][place] ^= 1;
        let digest = Some(sha384(&files[file]));
        let spec = spec_with(|s| match file {
            0 => s.boot.acpi_tables = digest,
            1 => s.boot.acpi_rsdp = digest,
            _ => s.boot.acpi_loader = digest,
        });
        let appraisal = judge_under(&spec, "");
        assert_eq!(
            code(&appraisal),
            "rejected_acpi",
            "file {file}, byte {place}"
        );
    }
}

/// Rows of the policy stay possible, for what is not computed. Whoever writes one says how
/// many places its tables have.
#[test]
fn a_row_of_the_policy_accepts_what_is_not_computed() {
    let spec = stating(|c| c.hugepages = true);
    let refused = judge_under(&spec, "");
    assert_eq!(code(&refused), "rejected_acpi");
    let own = fake_tee::acpi::digests(&spec.vm_config);
    let [loader, rsdp, tables] = [own.loader, own.rsdp, own.tables].map(hex::encode);
    let with = |places: &str| {
        let until = "exception = { until = \"2026-12-31\", reason = \"a test\", by = \"me\" }";
        let row = format!(
            "machine = [{{ {places}name = \"mine\", acpi_loader = \"{loader}\", acpi_rsdp = \"{rsdp}\", acpi_tables = \"{tables}\", {until} }}]\n"
        );
        judge_under(&spec, &row)
    };
    let accepted = with("places = 12, ");
    assert_eq!(code(&accepted), "verified");
    let boot = accepted.report.levels.unwrap().boot;
    assert_eq!(boot.as_str(), "accepted-by-you");
    assert_eq!(code(&with("")), "rejected_gpu_places_unknown");
    assert_eq!(code(&with("places = 13, ")), "rejected_gpu_places");
}

/// `acpi = "require"` compares with rows only, and `"report"` lowers the level where
/// neither a row nor a stated shape explains the tables.
#[test]
fn the_other_modes() {
    let require = format!("{}acpi = \"require\"\n", crate::support::policy_text(""));
    let error = attest::Policy::from_toml(&require).unwrap_err().to_string();
    assert!(error.contains("machine allows nothing"), "{error}");
    assert!(error.contains("set acpi = \"recompute\""), "{error}");
    let report = "acpi = \"report\"\ngpu.places = \"report\"\n";
    let boot = |spec: &Spec| {
        let appraisal = judge_under(spec, report);
        assert_eq!(code(&appraisal), "verified");
        appraisal.report.levels.unwrap().boot
    };
    assert_eq!(boot(&spec()).as_str(), "named");
    assert_eq!(
        boot(&stating(|c| c.cpu_count = 33)).as_str(),
        "accepted-by-you"
    );
}
