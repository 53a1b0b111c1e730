//! GPUs: their mode and number, devices, measurements and architecture.

use attest::{Blame, CheckId, GpuLevel, HistoryCheck, Policy, Severity, Status};
use fake_tee::Spec;
use fake_tee::gpu::field;
use serde_json::{Value, json};

use super::{GPU_CHECKS, gpus_if_present, judge_by, judged};
use crate::support::{NONCE, code, detail, each_gpu, judge, policy_with, spec, spec_with, status};

fn payload(spec: &Spec) -> Value {
    let text = spec.gpus.as_ref().unwrap().forge(&NONCE).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// What a GPU signs of its mode and its switches is judged where the policy demands
/// it (the default), and passes nowhere else.
#[test]
fn gpus_in_no_protected_mode_are_no_pass() {
    let no_mode = |spec: &mut Spec| {
        each_gpu(spec, |m| {
            *m.field(field::PROTECTED_PCIE) = vec![0x55];
            m.fields.retain(|(kind, _)| *kind != field::SWITCHES);
        });
    };
    let rejected = judged(no_mode, "").outcome.unwrap_err();
    assert_eq!(rejected.code(), "rejected_gpu_mode");
    let said = "Protected PCIe of GPU 0: off; the policy demands on";
    assert_eq!(rejected.to_string(), said);
    let report = "gpu.protected_pcie = \"report\"";
    // Nor can switches that nobody names be in a place.
    assert_eq!(code(&judged(no_mode, report)), "rejected_gpu_places");
    let report = "gpu.protected_pcie = \"report\"\ngpu.places = \"report\"";
    let appraisal = judged(no_mode, report);
    assert_eq!(code(&appraisal), "verified");
    assert_eq!(status(&appraisal, CheckId::GpuShape), Status::NotProved);
    let said = detail(&appraisal, CheckId::GpuShape);
    let words = "Protected PCIe off, whether in one machine: this driver does not report it";
    assert!(said.ends_with(words), "{said}");
    assert_eq!(
        status(&judged(|_| (), report), CheckId::GpuShape),
        Status::Pass
    );
    // A driver that states its mode, as newer ones do.
    let states = |spec: &mut Spec| {
        each_gpu(spec, |m| m.fields.push((field::FEATURE, vec![2, 0])));
    };
    assert_eq!(status(&judged(states, ""), CheckId::GpuShape), Status::Pass);
    // One GPU has no neighbour that could name other switches.
    let one = |spec: &mut Spec| spec.gpus.as_mut().unwrap().gpus.truncate(1);
    let appraisal = judged(one, "gpu.count = 1");
    assert_eq!(status(&appraisal, CheckId::GpuShape), Status::Pass);
    assert_eq!(
        detail(&appraisal, CheckId::Gpus),
        "1 of 1 signed our nonce, under a DANGEROUS root"
    );
}

/// "8 of 8" is said only where the policy says 8.
#[test]
fn a_number_that_nobody_expects_is_no_pass() {
    let appraisal = judge_by(&spec(), &gpus_if_present(), HistoryCheck::NotKept("a test"));
    assert_eq!(code(&appraisal), "verified");
    assert_eq!(status(&appraisal, CheckId::Gpus), Status::Pass);
    assert_eq!(
        detail(&appraisal, CheckId::Gpus),
        "8 GPUs signed our nonce, under a DANGEROUS root"
    );
    assert_eq!(status(&appraisal, CheckId::GpuShape), Status::NotProved);
    let said = detail(&appraisal, CheckId::GpuShape);
    let words = "the policy sets no gpu.count; 8 GPUs answered: GH100 with ";
    assert!(said.starts_with(words), "{said}");
    let hardware = judge_by(
        &spec(),
        &Policy::hardware(),
        HistoryCheck::NotKept("a test"),
    );
    assert_eq!(status(&hardware, CheckId::GpuShape), Status::NotProved);
    let eight = judge_by(&spec(), &policy_with(""), HistoryCheck::NotKept("a test"));
    assert_eq!(status(&eight, CheckId::GpuShape), Status::Pass);
}

/// A newer kind of GPU refuses only where GPUs are demanded; whoever leaves it out
/// comes off no better.
#[test]
fn gpus_of_an_unknown_architecture_are_not_counted() {
    type Change = fn(&mut Spec);
    let all = |spec: &mut Spec| {
        for gpu in &mut spec.gpus.as_mut().unwrap().gpus {
            gpu.chip = "GB100".to_owned();
        }
    };
    let one = |spec: &mut Spec| spec.gpus.as_mut().unwrap().gpus[3].chip = "GB100".to_owned();
    let rows: [(Change, usize, usize, &str); 2] = [(all, 0, 0, "0 GPUs"), (one, 3, 7, "7 GPUs")];
    for (change, unknown, shown, signed) in rows {
        let rejected = judged(change, "").outcome.unwrap_err();
        assert_eq!(rejected.code(), "evidence_gpu_not_understood");
        assert_eq!(rejected.blame(), Blame::Age);
        let said = format!(
            "the certificates of GPU {unknown} name the architecture \"GB100\", which this version does not understand"
        );
        assert_eq!(rejected.to_string(), said);
        assert!(rejected.hint().contains("Update verified-proxy"));
        let spec = spec_with(change);
        for policy in [&gpus_if_present(), &Policy::hardware()] {
            let appraisal = judge_by(&spec, policy, HistoryCheck::NotKept("a test"));
            assert_eq!(code(&appraisal), "verified");
            assert_eq!(appraisal.gpu_level(), GpuLevel::None);
            assert_eq!(appraisal.report.gpus.len(), shown);
            for check in GPU_CHECKS {
                assert_eq!(status(&appraisal, check), Status::NotProved);
                let said = detail(&appraisal, check);
                assert!(said.starts_with(signed), "{said}");
                assert!(said.contains("\"GB100\""), "{said}");
            }
        }
    }
}

/// The number in `vm_config` is the host's; what signed is counted.
#[test]
fn a_repaired_gpu_and_the_hosts_copy_are_findings() {
    let topics = |change: fn(&mut Spec)| {
        let appraisal = judged(change, "");
        assert_eq!(code(&appraisal), "verified");
        assert_eq!(status(&appraisal, CheckId::GpuShape), Status::Pass);
        let findings = appraisal.report.findings.into_iter();
        findings
            .filter(|finding| finding.topic.starts_with("gpu_"))
            .map(|finding| (finding.severity, finding.topic, finding.detail))
            .collect::<Vec<_>>()
    };
    assert_eq!(topics(|_| ()), []);
    let repaired = topics(|spec| {
        spec.gpus.as_mut().unwrap().gpus[3]
            .message
            .push(|m| *m.field(field::VBIOS) = vec![0, 0xcf, 0, 0x96, 3, 0, 0, 0]);
    });
    let detail = "the GPUs have not one VBIOS: 96.00.CF.00.02 (7), 96.00.CF.00.03 (1)";
    assert_eq!(
        repaired,
        [(Severity::Notice, "gpu_versions_differ", detail.to_owned())]
    );
    let detail = "info.vm_config.num_gpus is 4, the report has evidence of 8 GPUs";
    assert_eq!(
        topics(|spec| {
            spec.vm_config.num_gpus = 4;
            spec.vm_config.num_nvswitches = 8;
        }),
        [(Severity::Notice, "gpu_copies_differ", detail.to_owned())]
    );
    let detail = "arch of nvidia_payload is \"BLACKWELL\", the certificate says HOPPER";
    assert_eq!(
        topics(|spec| {
            let payload = &mut spec.gpus.as_mut().unwrap().payload;
            payload.push(|payload| payload["arch"] = json!("BLACKWELL"));
        }),
        [(Severity::Notice, "gpu_copies_differ", detail.to_owned())]
    );
}

/// Evidence that may be left out satisfies no demand.
#[test]
fn demands_on_gpus_need_a_mode_that_demands_evidence() {
    let table = table("NV_GPU_DRIVER_GH100_570.172.08", &[7], None);
    let demands = [
        ("gpu.count", "gpu.count = 8\n"),
        ("gpu.devices", "gpu.devices = [\"0123456789abcdef\"]\n"),
        ("gpu.measurements", &table),
        ("gpu.nras = \"require\"", "gpu.nras = \"require\"\n"),
        (
            "gpu.protected_pcie = \"required\"",
            "gpu.protected_pcie = \"required\"\n",
        ),
    ];
    let hardware =
        |more: &str| format!("name = \"x\"\nextends = \"hardware\"\ndate = \"2026-11-22\"\n{more}");
    let mend = "needs GPU evidence, which gpu.mode = \"if-present\" lets a machine leave out: expected gpu.mode = \"required\"";
    for (line, more) in demands {
        let refused = Policy::from_toml(&hardware(more)).unwrap_err().to_string();
        assert!(
            refused.contains(line) && refused.contains(mend),
            "{refused}"
        );
        let required = format!("gpu.mode = \"required\"\n{more}");
        let refused = Policy::from_toml(&hardware(&required)).unwrap_err();
        let rests = "least.gpu = \"genuine\" is above its cap";
        assert!(refused.to_string().contains(rests), "{line}: {refused}");
        let near = required.replace("gpu.mode = \"required\"\n", "");
        let near = format!("name = \"x\"\nextends = \"near\"\ndate = \"2026-11-22\"\n{near}");
        assert!(Policy::from_toml(&near).is_ok(), "{line}");
        let off = format!("gpu.mode = \"off\"\n{more}");
        let refused = Policy::from_toml(&hardware(&off)).unwrap_err().to_string();
        assert!(refused.contains("looks at no GPU"), "{refused}");
    }
    assert!(Policy::from_toml(&hardware("gpu.mode = \"off\"\n")).is_ok());
    assert!(Policy::from_toml(&hardware("gpu.nras = \"report\"\n")).is_ok());
    // What "near" demands is demanded by what extends it.
    let near = spec().policy_toml() + "gpu.mode = \"if-present\"\n";
    let refused = Policy::from_toml(&near).unwrap_err().to_string();
    assert!(
        refused.contains("gpu.count") && refused.contains(mend),
        "{refused}"
    );
    assert!(Policy::from_toml(&near.replace("if-present", "off")).is_ok());
}

#[test]
fn a_machine_of_another_shape_is_accepted_by_the_line_that_the_refusal_names() {
    let seven = |spec: &mut Spec| {
        spec.gpus.as_mut().unwrap().gpus.truncate(7);
        spec.vm_config.num_gpus = 7;
    };
    let rejected = judged(seven, "").outcome.unwrap_err();
    assert_eq!(rejected.code(), "rejected_gpu_count");
    assert!(
        rejected.hint().contains("gpu.count = 7"),
        "{}",
        rejected.hint()
    );
    assert_eq!(code(&judged(seven, "gpu.count = 7")), "verified");
    // The count is exact: more is another shape too.
    assert_eq!(code(&judged(|_| (), "gpu.count = 7")), "rejected_gpu_count");
}

/// gpu.md row 49: a whole foreign machine that answers our nonce is accepted
/// unless its devices are pinned.
#[test]
fn pinned_devices_admit_no_other() {
    let known: Vec<_> = judge(&spec())
        .report
        .gpus
        .iter()
        .map(|gpu| gpu.pdi.clone())
        .collect();
    let pins = |devices: &[String]| format!("gpu.devices = {}", json!(devices));
    assert_eq!(code(&judged(|_| (), &pins(&known))), "verified");
    let foreign = |spec: &mut Spec| {
        for gpu in &mut spec.gpus.as_mut().unwrap().gpus {
            gpu.pdi[0] ^= 1;
        }
    };
    assert_eq!(code(&judged(foreign, "")), "verified");
    let rejected = judged(foreign, &pins(&known)).outcome.unwrap_err();
    assert_eq!(rejected.code(), "rejected_gpu_device");
    assert!(rejected.hint().contains("gpu.devices = [\""));
    let rejected = judged(|_| (), &pins(&known[..7])).outcome.unwrap_err();
    assert_eq!(rejected.code(), "rejected_gpu_device");
    assert!(rejected.to_string().starts_with("GPU 7 "), "{rejected}");
}

/// A table of what the valid machine's driver measured at some indices.
fn table(id: &str, indices: &[u8], change: Option<u8>) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let payload = payload(&spec());
    let evidence = payload["evidence_list"][0]["evidence"].as_str().unwrap();
    let evidence = BASE64_STANDARD.decode(evidence).unwrap();
    let lines: Vec<_> = indices
        .iter()
        .map(|index| {
            // Request of 37 bytes, head of 8; a block's value is its last 48 of 55.
            let at = 45 + 55 * (usize::from(*index) - 1) + 7;
            let mut value = evidence[at..at + 48].to_vec();
            if change == Some(*index) {
                value[0] ^= 1;
            }
            format!("\"{index}\" = [\"{}\"]", hex::encode(value))
        })
        .collect();
    format!(
        "[[gpu.measurements]]\nid = \"{id}\"\nsource = \"a test\"\nallowed = {{ {} }}\n",
        lines.join(", ")
    )
}

/// gpu.md row 6, signed again: only a table notices.
#[test]
fn measurements_are_compared_where_the_policy_has_a_table() {
    let report = judge(&spec()).report;
    let driver = format!("NV_GPU_DRIVER_GH100_{}", report.gpus[0].driver);
    let unknown = detail(&judge(&spec()), CheckId::GpuMeasurements).to_owned();
    assert!(unknown.contains(&driver), "{unknown}");
    let vbios = unknown
        .split([' ', ','])
        .find(|word| word.starts_with("NV_GPU_VBIOS_"))
        .unwrap()
        .to_owned();
    let changed = |spec: &mut Spec| {
        spec.gpus.as_mut().unwrap().gpus[3]
            .message
            .push(|message| message.blocks[21].value[0] ^= 1);
    };
    assert_eq!(code(&judged(changed, "")), "verified");

    let indices = [1, 22, 64];
    let both = table(&driver, &indices, None) + &table(&vbios, &[2], None);
    let appraisal = judged(|_| (), &both);
    assert_eq!(code(&appraisal), "verified");
    assert_eq!(
        status(&appraisal, CheckId::GpuMeasurements),
        Status::Pass,
        "{}",
        detail(&appraisal, CheckId::GpuMeasurements)
    );
    assert_eq!(appraisal.gpu_level(), GpuLevel::Measured);
    // No table for any VBIOS: not compared, so not passed.
    let one = table(&driver, &indices, None);
    let appraisal = judged(|_| (), &one);
    assert_eq!(code(&appraisal), "verified");
    assert_eq!(
        status(&appraisal, CheckId::GpuMeasurements),
        Status::NotProved
    );
    let said = detail(&appraisal, CheckId::GpuMeasurements);
    assert!(said.contains(&vbios) && !said.contains(&driver), "{said}");
    assert_eq!(appraisal.gpu_level(), GpuLevel::Genuine);
    let rejected = judged(changed, &one).outcome.unwrap_err();
    assert_eq!(rejected.code(), "rejected_gpu_measurement");
    assert!(
        rejected.to_string().starts_with("measurement 22 of GPU 3 "),
        "{rejected}"
    );
    assert!(rejected.to_string().contains(&driver), "{rejected}");
    // The edition that does not fit, and with it the one that does.
    let other = table(&driver, &indices, Some(64));
    assert_eq!(code(&judged(|_| (), &other)), "rejected_gpu_measurement");
    assert_eq!(code(&judged(|_| (), &(other.clone() + &one))), "verified");
    assert_eq!(code(&judged(|_| (), &(one.clone() + &other))), "verified");

    // Another version, or a board that is not named, escapes no table of its kind.
    let driver = |spec: &mut Spec| {
        each_gpu(spec, |m| *m.field(field::DRIVER) = b"535.00\0".to_vec());
    };
    let vbios = |spec: &mut Spec| each_gpu(spec, |m| m.field(field::VBIOS)[4] = 9);
    let board = |spec: &mut Spec| {
        each_gpu(spec, |m| {
            m.fields.retain(|(kind, _)| *kind != field::PROJECT)
        });
    };
    let third = |spec: &mut Spec| {
        spec.gpus.as_mut().unwrap().gpus[2]
            .message
            .push(|m| m.field(field::VBIOS)[4] = 9);
    };
    let other_kind = table("NV_GPU_VBIOS_G520_0280_895_9600CF0002", &[2], None);
    type Change = fn(&mut Spec);
    let rows: [(Change, &str, &str); 6] = [
        (driver, &both, "GPU 0 has \"NV_GPU_DRIVER_GH100_535.00\", "),
        (driver, &one, "GPU 0 has \"NV_GPU_DRIVER_GH100_535.00\", "),
        (
            vbios,
            &both,
            "GPU 0 has \"NV_GPU_VBIOS_G520_0280_895_9600CF0009\", ",
        ),
        (
            third,
            &both,
            "GPU 2 has \"NV_GPU_VBIOS_G520_0280_895_9600CF0009\", ",
        ),
        (
            board,
            &both,
            "GPU 0 has \"VBIOS (the GPU does not name its board)\", ",
        ),
        (
            board,
            &other_kind,
            "GPU 0 has \"VBIOS (the GPU does not name its board)\", ",
        ),
    ];
    for (change, tables, said) in rows {
        assert_eq!(code(&judged(change, "")), "verified");
        let rejected = judged(change, tables).outcome.unwrap_err();
        assert_eq!(rejected.code(), "rejected_gpu_no_table");
        assert_eq!(rejected.blame(), Blame::Unknown);
        assert!(rejected.to_string().starts_with(said), "{rejected}");
    }
    assert_eq!(code(&judged(vbios, &one)), "verified");
    assert_eq!(code(&judged(driver, &other_kind)), "verified");
}
