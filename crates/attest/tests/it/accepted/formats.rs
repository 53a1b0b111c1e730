//! Honest formats of dstack and its KMS, older and newer than the usual ones: unknown
//! is not forged, and a copy is not evidence.

use attest::{Appraisal, CheckId, Finding, Policy, Severity, Status};
use fake_tee::event_log::{DigestForm, Event};
use fake_tee::{CertForm, MrConfig, Spec};
use serde_json::json;

use super::{Change, judge_under};
use crate::support::{code, judge, spec, spec_with, status};
use crate::tampering::{before, flip, set};

pub(super) fn verified(what: &str, appraisal: Appraisal) -> Appraisal {
    let rejected = &appraisal.report.rejected;
    assert_eq!(code(&appraisal), "verified", "{what}: {rejected:?}");
    appraisal
}

pub(super) fn of_topic<'a>(appraisal: &'a Appraisal, topic: &str) -> Vec<&'a Finding> {
    let findings = appraisal.report.findings.iter();
    findings.filter(|finding| finding.topic == topic).collect()
}

pub(super) fn fact<'a>(appraisal: &'a Appraisal, name: &str) -> Option<&'a str> {
    let mut facts = appraisal.report.facts.iter();
    facts
        .find(|fact| fact.name == name)
        .map(|fact| &*fact.value)
}

#[test]
fn newer_and_older_formats_hold_like_the_usual_ones() {
    let changes: [Change; 18] = [
        ("a guest of dstack 0.6", Spec::boot_dstack_0_6),
        ("the same with its log as a string", |s| {
            s.boot_dstack_0_6();
            s.event_log_as_string = true;
        }),
        ("the same with the digests in the log", |s| {
            s.boot_dstack_0_6();
            s.strip_digests = false;
        }),
        ("V1 digests that the log leaves out", |s| {
            s.strip_digests = true
        }),
        ("five scripts", |s| {
            s.app.init_script_hashes = vec![[1; 32]; 5]
        }),
        ("a GPU attestation that is no JSON", |s| {
            // What dstack says there is a fact; nothing is read from it.
            before(
                s,
                "instance-id",
                Event::runtime("gpu-policy-hash", &[7; 32], DigestForm::V2),
            );
            before(
                s,
                "instance-id",
                Event::runtime("gpu-attestation", &[7; 32], DigestForm::V2),
            );
        }),
        ("an attestation (SCALE) in the certificate", |s| {
            s.cert_form = CertForm::AttestationV0
        }),
        ("an attestation (MessagePack) in the certificate", |s| {
            s.cert_form = CertForm::AttestationV1;
        }),
        ("quote and attestation in the certificate", |s| {
            s.cert_form = CertForm::Both
        }),
        ("an attestation, and events of the application", |s| {
            s.cert_form = CertForm::AttestationV0;
            s.app.app_events = vec![("x".to_owned(), vec![1])];
        }),
        ("an attestation with 100 events of the application", |s| {
            s.cert_form = CertForm::AttestationV1;
            s.app.certified_at_ready = false;
            s.app.app_events = vec![("x".to_owned(), vec![1; 300]); 100];
        }),
        ("no MRCONFIGID", |s| s.mr_config = MrConfig::Unset),
        ("MRCONFIGID of form 2", |s| s.mr_config = MrConfig::V2),
        (
            "MRCONFIGID of form 2, the key provider's id in capitals",
            |s| {
                s.mr_config = MrConfig::V2;
                let id = s.kms.root_spki_hex().to_uppercase();
                s.app.key_provider = Some(format!(r#"{{"name":"kms","id":"{id}"}}"#));
            },
        ),
        ("MRCONFIGID of form 3", |s| s.mr_config = V3),
        ("MRCONFIGID of form 3, without an instance id", |s| {
            s.app.instance_id.clear();
            s.mr_config = V3;
        }),
        ("MRCONFIGID of form 3 of a launch with GPUs", |s| {
            s.boot_dstack_0_6();
            s.mr_config = MrConfig::V3 {
                gpus: true,
                scripts: false,
            };
        }),
        (
            "MRCONFIGID of form 3 of a launch with GPUs and scripts",
            |s| {
                s.boot_dstack_0_6();
                s.mr_config = MrConfig::V3 {
                    gpus: true,
                    scripts: true,
                };
            },
        ),
    ];
    for (what, change) in changes {
        let appraisal = verified(what, judge(&spec_with(change)));
        for check in [
            CheckId::Rtmrs,
            CheckId::BootEvents,
            CheckId::Compose,
            CheckId::Kms,
        ] {
            assert_eq!(status(&appraisal, check), Status::Pass, "{what}: {check:?}");
        }
        let unexpected = of_topic(&appraisal, "copy_differs");
        assert!(unexpected.is_empty(), "{what}: {unexpected:?}");
    }
}

const V3: MrConfig = MrConfig::V3 {
    gpus: false,
    scripts: false,
};

#[test]
fn what_a_guest_of_dstack_0_6_noted_is_shown() {
    let mut spec = spec();
    spec.boot_dstack_0_6();
    spec.app.gpu_attestation = Some("\u{1b}[2J{}".to_owned());
    let appraisal = verified("0.6", judge(&spec));
    let scripts: Vec<_> = spec
        .app
        .init_script_hashes
        .iter()
        .map(hex::encode)
        .collect();
    assert_eq!(
        fact(&appraisal, "init_script_hashes"),
        Some(&*scripts.join(" "))
    );
    let policy = hex::encode(spec.app.gpu_policy_hash.unwrap());
    assert_eq!(fact(&appraisal, "gpu_policy_hash"), Some(&*policy));
    assert_eq!(fact(&appraisal, "gpu_attestation"), Some("\\u{1b}[2J{}"));
    assert_eq!(fact(&appraisal, "storage_encrypted"), Some("1"));
    assert_eq!(fact(&appraisal, "mr_kms"), None);
}

#[test]
fn boot_events_that_are_not_known_are_a_finding_under_a_named_image() {
    let mut spec = spec();
    for name in ["app-id-2", "new\u{202e}event"] {
        before(
            &mut spec,
            "storage-fs",
            Event::runtime(name, b"x", DigestForm::V1),
        );
    }
    let appraisal = verified("named", judge(&spec));
    assert_eq!(status(&appraisal, CheckId::BootEvents), Status::Pass);
    let [finding] = of_topic(&appraisal, "boot_event_unknown")[..] else {
        panic!("{:?}", appraisal.report.findings);
    };
    assert_eq!(finding.severity, Severity::Warning);
    assert!(finding.detail.contains("app-id-2"), "{}", finding.detail);
    assert!(finding.detail.is_ascii(), "{}", finding.detail);

    let appraisal = verified("any", judge_under(&spec, &Policy::hardware()));
    assert_eq!(status(&appraisal, CheckId::BootEvents), Status::NotProved);
    assert!(of_topic(&appraisal, "boot_event_unknown").is_empty());
}

#[test]
fn a_machine_that_was_launched_for_no_application_is_told() {
    let mut spec = spec();
    spec.mr_config = MrConfig::Unset;
    let appraisal = verified("named", judge(&spec));
    assert_eq!(of_topic(&appraisal, "mr_config_id_unset").len(), 1);
    let appraisal = verified("any", judge_under(&spec, &Policy::hardware()));
    assert_eq!(status(&appraisal, CheckId::Compose), Status::NotProved);
}

#[test]
fn mr_config_id_of_a_newer_form_is_for_a_newer_program() {
    let mut spec = spec();
    spec.overrides.mr_config_id = Some([4; 48]);
    let rejected = judge(&spec).outcome.unwrap_err();
    assert_eq!(rejected.blame(), attest::Blame::Age);
    assert!(rejected.hint().contains("Update verified-proxy"));
    let appraisal = verified("any", judge_under(&spec, &Policy::hardware()));
    assert_eq!(status(&appraisal, CheckId::Compose), Status::NotProved);
}

#[test]
fn a_certificate_in_a_newer_form_is_for_a_newer_program() {
    let changes: [Change; 3] = [
        ("an unknown layout", |s| {
            s.hooks
                .app_leaf
                .push(|leaf| leaf.attestation = Some(vec![1, 2, 3]));
        }),
        ("a bare quote in the place of an attestation", |s| {
            s.hooks
                .app_leaf
                .push(|leaf| leaf.attestation = leaf.quote.take());
        }),
        ("a quote of version 6", |s| {
            s.hooks
                .app_leaf
                .push(|leaf| leaf.quote.as_mut().unwrap()[0] = 6);
        }),
    ];
    for (what, change) in changes {
        let spec = spec_with(change);
        let rejected = judge(&spec).outcome.unwrap_err();
        assert_eq!(rejected.code(), "rejected_app_cert_form", "{what}");
        assert_eq!(rejected.blame(), attest::Blame::Age, "{what}");
        let hint = rejected.hint();
        assert!(hint.contains("Update verified-proxy"), "{what}: {hint}");
        assert!(!hint.contains("Do not use this backend"), "{what}: {hint}");
        verified(what, judge_under(&spec, &Policy::hardware()));
    }
}

#[test]
fn copies_that_differ_from_what_is_measured_are_told() {
    let changes: [Change; 15] = [
        ("info.app_id", |s| flip(s, "/info/app_id")),
        ("info.instance_id", |s| flip(s, "/info/instance_id")),
        ("info.os_image_hash", |s| flip(s, "/info/os_image_hash")),
        ("info.compose_hash", |s| flip(s, "/info/compose_hash")),
        ("info.key_provider_info", |s| {
            set(
                s,
                "/info/key_provider_info",
                json!(r#"{"name":"kms","id":"00"}"#),
            );
        }),
        ("info.tcb_info.compose_hash", |s| {
            flip(s, "/info/tcb_info/compose_hash")
        }),
        ("info.tcb_info.mrtd", |s| flip(s, "/info/tcb_info/mrtd")),
        ("info.tcb_info.rtmr0", |s| flip(s, "/info/tcb_info/rtmr0")),
        ("info.tcb_info.rtmr1", |s| flip(s, "/info/tcb_info/rtmr1")),
        ("info.tcb_info.rtmr2", |s| flip(s, "/info/tcb_info/rtmr2")),
        ("info.tcb_info.rtmr3", |s| {
            set(s, "/info/tcb_info/rtmr3", json!(["no", "text"]))
        }),
        ("info.tcb_info.os_image_hash", |s| {
            flip(s, "/info/tcb_info/os_image_hash")
        }),
        ("info.tcb_info.device_id", |s| {
            flip(s, "/info/tcb_info/device_id")
        }),
        ("info.tcb_info.event_log", |s| {
            set(s, "/info/tcb_info/event_log", json!([]))
        }),
        ("info.tcb_info.event_log", |s| {
            set(s, "/info/tcb_info/event_log", json!("\u{1b}[2J"))
        }),
    ];
    for (field, change) in changes {
        let spec = spec_with(change);
        let appraisal = verified(field, judge(&spec));
        let [finding] = of_topic(&appraisal, "copy_differs")[..] else {
            panic!("{field}: {:?}", appraisal.report.findings);
        };
        assert!(finding.detail.starts_with(field), "{}", finding.detail);
        assert!(finding.detail.chars().all(|c| (' '..='~').contains(&c)));
        let expected = match field.ends_with("os_image_hash") {
            true => Severity::Notice,
            false => Severity::Warning,
        };
        assert_eq!(finding.severity, expected, "{field}");
        let appraisal = verified(field, judge_under(&spec, &Policy::hardware()));
        assert_eq!(of_topic(&appraisal, "copy_differs").len(), 1, "{field}");
    }
}

#[test]
fn payloads_that_one_of_two_logs_leaves_out_are_no_difference() {
    let mut spec = spec();
    spec.hooks.report.push(|report| {
        let log = report["info"]["tcb_info"]["event_log"]
            .as_array_mut()
            .unwrap();
        for event in log.iter_mut().filter(|event| event["imr"] != 3) {
            event["event_payload"] = "".into();
            event["event"] = "acpi-loader".into();
        }
    });
    let appraisal = verified("stripped", judge(&spec));
    assert!(of_topic(&appraisal, "copy_differs").is_empty());
}
