//! Logs without the events of firmware and kernel: the registers are computed as a whole.

use attest::{CheckId, Policy, Status};
use fake_tee::Spec;

use super::judge_under;
use crate::support::{code, detail, judge_with_tags, spec_with, status};

fn stripped(change: fn(&mut Spec)) -> Spec {
    spec_with(|spec| {
        spec.strip_boot_events = true;
        change(spec);
    })
}

#[test]
fn a_stripped_log_is_judged_by_computation() {
    for change in [
        (|_| {}) as fn(&mut Spec),
        |s| s.vm_config.cpu_count = 128,
        |s| s.vm_config.qemu_version = "11.1.0".to_owned(),
        Spec::boot_dstack_0_6,
        // Not even the three events that dstack keeps.
        |s| {
            s.hooks.report.push(|report| {
                let text = report["event_log"].clone();
                let list = text.as_array().unwrap().iter();
                let kept: Vec<_> = list.filter(|event| event["imr"] == 3).cloned().collect();
                report["event_log"] = kept.into();
            })
        },
    ] {
        let appraisal = judge_under(&stripped(change), "");
        assert_eq!(code(&appraisal), "verified");
        for check in [
            CheckId::Rtmrs,
            CheckId::Firmware,
            CheckId::TdHob,
            CheckId::Acpi,
        ] {
            assert_eq!(status(&appraisal, check), Status::Pass, "{check:?}");
        }
        assert_eq!(appraisal.report.levels.unwrap().boot.as_str(), "named");
        let places = detail(&appraisal, CheckId::GpuPlaces);
        assert!(places.starts_with("12 places measured"), "{places}");
    }
}

#[test]
fn what_the_register_does_not_follow_from_is_refused() {
    const OTHER: [u8; 48] = [7; 48];
    for (what, change, expected) in [
        (
            "tables",
            (|s| s.boot.acpi_tables = Some(OTHER)) as fn(&mut Spec),
            "rejected_rtmr_computed",
        ),
        ("firmware", |s| s.boot.cfv = OTHER, "rejected_rtmr_computed"),
        (
            "boot option",
            |s| s.boot.boot_0000 = OTHER,
            "rejected_rtmr_computed",
        ),
        (
            "RTMR0",
            |s| s.overrides.rt_mr[0] = Some(OTHER),
            "rejected_rtmr_computed",
        ),
        ("kernel", |s| s.boot.kernel = OTHER, "rejected_os_image"),
        ("initrd", |s| s.boot.initrd = OTHER, "rejected_os_image"),
        (
            "RTMR3",
            |s| s.overrides.rt_mr[3] = Some(OTHER),
            "rejected_rtmr_replay",
        ),
        (
            "a CPU more is stated",
            |s| state(s, "cpu_count", 33),
            "rejected_rtmr_computed",
        ),
        (
            "more memory is stated",
            |s| state(s, "memory_size", 2 << 40),
            "rejected_rtmr_computed",
        ),
        (
            "a shape out of bounds",
            |s| state(s, "cpu_count", 5000),
            "rejected_rtmr_computed",
        ),
        (
            "no memory",
            |s| state(s, "memory_size", 0),
            "rejected_rtmr_computed",
        ),
    ] {
        let appraisal = judge_under(&stripped(change), "");
        assert_eq!(code(&appraisal), expected, "{what}");
    }
}

fn state(spec: &mut Spec, member: &'static str, value: u64) {
    let mut stated = serde_json::to_value(&spec.vm_config).unwrap();
    stated[member] = value.into();
    spec.hooks
        .report
        .push(move |report| report["info"]["vm_config"] = stated.to_string().into());
}

/// A log that leaves out some of the events is no stripped log: it was edited.
#[test]
fn a_log_with_holes_is_refused() {
    for keep in [
        (|imr, _| imr != 1) as fn(u64, usize) -> bool,
        |imr, _| imr != 2,
        |imr, _| imr != 0,
        |_, index| index != 0,
    ] {
        let spec = spec_with(|s| {
            s.hooks.report.push(move |report| {
                let list = report["event_log"].as_array().unwrap().iter().enumerate();
                let kept: Vec<_> = list
                    .filter(|(index, event)| keep(event["imr"].as_u64().unwrap(), *index))
                    .map(|(_, event)| event.clone())
                    .collect();
                report["event_log"] = kept.into();
            });
        });
        assert_eq!(code(&judge_under(&spec, "")), "rejected_rtmr_replay");
    }
}

/// Under a policy that looks at no software, nothing computes them.
#[test]
fn the_hardware_policy_says_what_is_left_out() {
    let appraisal = judge_with_tags(&stripped(|_| {}), &Policy::hardware());
    assert_eq!(code(&appraisal), "verified");
    assert_eq!(status(&appraisal, CheckId::Rtmrs), Status::NotProved);
    let said = detail(&appraisal, CheckId::Rtmrs);
    assert!(said.contains("leaves out the events of RTMR0"), "{said}");
}

/// The tables' own events in such a log are copies: what gives the register decides.
#[test]
fn events_that_are_not_those_of_the_tables_are_a_finding() {
    let spec = stripped(|s| {
        s.hooks.events_after.push(|events| {
            let tables = events.iter_mut().find(|event| event.event == "acpi-tables");
            tables.unwrap().digest = vec![7; 48];
        });
    });
    let appraisal = judge_under(&spec, "");
    assert_eq!(code(&appraisal), "verified");
    let mut findings = appraisal.report.findings.iter();
    let said =
        "event_log has 1 events of RTMR0 that are not those of the tables which give the register";
    assert!(
        findings.any(|finding| finding.detail == said),
        "{:?}",
        appraisal.report.findings
    );
}

/// Of rows with equal tables the one that holds for good, as with a whole log.
#[test]
fn the_best_row_counts() {
    let made = fake_tee::acpi::digests(&crate::support::spec().vm_config);
    let [loader, rsdp, tables] = [made.loader, made.rsdp, made.tables].map(hex::encode);
    let row = |name: &str, more: &str| {
        format!(
            "{{ name = \"{name}\", places = 12, acpi_loader = \"{loader}\", acpi_rsdp = \"{rsdp}\", acpi_tables = \"{tables}\"{more} }}"
        )
    };
    let ends = ", exception = { until = \"2026-11-22\", reason = \"a test\", by = \"me\" }";
    let rows = format!(
        "acpi = \"require\"\nmachine = [{}, {}]\n",
        row("a", ends),
        row("z", "")
    );
    let appraisal = judge_under(&stripped(|_| {}), &rows);
    assert_eq!(code(&appraisal), "verified");
    assert_eq!(appraisal.report.levels.unwrap().boot.as_str(), "named");
}
