//! Start valid, change one thing, sign again: each tampering has its own code.
//!
//! `row` is the line of the project's threat list; "signed" in a text means
//! that the fake PKI signed after the change.

mod app_cert;
mod collateral;
mod compose;
mod event_log;
mod quote;
mod report;
mod software;
mod vm_config;
mod workload;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use attest::{CheckId, Explanation, Status};
use fake_tee::Spec;
use fake_tee::event_log::{DigestForm, Event};
use serde_json::Value;

use crate::support::{code, judge, spec};

/// One change to a valid machine.
pub(crate) struct Case {
    row: &'static str,
    pub(crate) what: &'static str,
    pub(crate) change: fn(&mut Spec),
    code: &'static str,
}

pub(crate) const fn case(
    row: &'static str,
    what: &'static str,
    code: &'static str,
    change: fn(&mut Spec),
) -> Case {
    Case {
        row,
        what,
        change,
        code,
    }
}

const PARTS: [(&str, &[Case]); 9] = [
    ("Report", report::CASES),
    ("Quote", quote::CASES),
    ("Collateral", collateral::CASES),
    ("Event log", event_log::CASES),
    ("Application description", compose::CASES),
    ("Machine (vm_config)", vm_config::CASES),
    ("Software", software::CASES),
    ("Identity (app_cert)", app_cert::CASES),
    ("GPUs and deployment", workload::CASES),
];

pub(crate) fn cases() -> impl Iterator<Item = &'static Case> {
    PARTS.into_iter().flat_map(|(_, cases)| cases)
}

/// Puts a value into the finished report.
pub(crate) fn set(spec: &mut Spec, pointer: &'static str, value: Value) {
    spec.hooks.report.push(move |report| {
        *report.pointer_mut(pointer).expect(pointer) = value.clone();
    });
}

/// Removes a field from the finished report.
pub(crate) fn remove(spec: &mut Spec, pointer: &'static str) {
    spec.hooks.report.push(move |report| {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let parent = report.pointer_mut(parent).expect(pointer);
        parent
            .as_object_mut()
            .unwrap()
            .remove(field)
            .expect(pointer);
    });
}

/// Changes one digit of a hex field of the finished report.
pub(crate) fn flip(spec: &mut Spec, pointer: &'static str) {
    spec.hooks.report.push(move |report| {
        let value = report.pointer_mut(pointer).expect(pointer);
        let mut text = value.as_str().unwrap().to_owned();
        let last = if text.pop() == Some('0') { '1' } else { '0' };
        text.push(last);
        *value = text.into();
    });
}

fn find<'a>(events: &'a mut [Event], name: &str) -> &'a mut Event {
    events.iter_mut().find(|event| event.event == name).unwrap()
}

/// Exchanges an event's payload and keeps its digest.
pub(crate) fn swap(spec: &mut Spec, name: &'static str) {
    spec.hooks
        .events_after
        .push(move |events| find(events, name).event_payload[0] ^= 1);
}

/// Changes an event, and its digest with it, before anything is signed.
fn edit(spec: &mut Spec, name: &'static str, change: fn(&mut Event)) {
    spec.hooks.events.push(move |events| {
        let event = find(events, name);
        change(event);
        event.rehash(DigestForm::V1);
    });
}

/// Leaves an event out before anything is signed.
pub(crate) fn without(spec: &mut Spec, name: &'static str) {
    spec.hooks
        .events
        .push(move |events| events.retain(|event| event.event != name));
}

/// Puts an event before the one of this name.
pub(crate) fn before(spec: &mut Spec, name: &'static str, event: Event) {
    spec.hooks.events.push(move |events| {
        let at = events.iter().position(|event| event.event == name).unwrap();
        events.insert(at, event.clone());
    });
}

#[test]
fn the_untampered_machine_verifies() {
    let appraisal = judge(&spec());
    assert_eq!(code(&appraisal), "verified", "{:#?}", appraisal.report);
}

#[test]
fn each_tampering_is_refused_by_its_own_code() {
    let mut wrong = String::new();
    for case in cases() {
        let mut spec = spec();
        (case.change)(&mut spec);
        let appraisal = judge(&spec);
        let got = code(&appraisal);
        if got != case.code {
            let _ = writeln!(
                wrong,
                "{}: {}: expected {}, got {got}: {:?}",
                case.row, case.what, case.code, appraisal.report.rejected
            );
        }
        // Exactly one check failed, none after it passed, and it says why.
        let failed: Vec<_> = appraisal
            .report
            .checks
            .iter()
            .filter(|check| check.status == Status::Fail)
            .collect();
        if got == "verified" {
            continue;
        }
        let [failed] = failed.as_slice() else {
            let _ = writeln!(wrong, "{}: {} checks failed", case.what, failed.len());
            continue;
        };
        let column = Explanation::all().find(|row| row.code == got).unwrap();
        if !checks_of(got).contains(&failed.id)
            || !column.checks.contains(&failed.id)
            || failed.detail.is_empty()
        {
            let _ = writeln!(
                wrong,
                "{}: {got} was put down to {:?}",
                case.what, failed.id
            );
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// The lines of the report that a code may stand on: written a second time, so that
/// the tables' own column is compared with something.
fn checks_of(code: &str) -> &'static [CheckId] {
    match code {
        "rejected_quote_format" | "rejected_quote_not_tdx" => &[CheckId::QuoteFormat],
        "rejected_quote_untrusted"
        | "rejected_certificate_revoked"
        | "rejected_platform_certificate" => &[CheckId::Quote],
        "rejected_collateral_format" => &[CheckId::CollateralValid],
        "rejected_collateral_untrusted"
        | "rejected_collateral_fmspc"
        | "rejected_collateral_expired"
        | "rejected_collateral_not_yet_valid" => &[CheckId::CollateralValid],
        "rejected_tcb_platform" | "rejected_tcb_unknown" => &[CheckId::TcbPlatform],
        "rejected_tcb_module" => &[CheckId::TcbModule],
        "rejected_tcb_qe" => &[CheckId::TcbQe],
        "rejected_td_debug" | "rejected_td_attributes" | "rejected_service_td" => {
            &[CheckId::TdAttributes]
        }
        "rejected_xfam" => &[CheckId::Xfam],
        "rejected_spki_mismatch" => &[CheckId::TlsKey],
        "rejected_nonce" => &[CheckId::Nonce],
        "rejected_report_data" => &[CheckId::ReportData],
        "rejected_rtmr_replay" => &[CheckId::Rtmrs],
        "rejected_event_digest" | "rejected_boot_events" => &[CheckId::BootEvents],
        "rejected_compose_hash" | "rejected_mr_config_id" | "rejected_mr_config_id_version" => {
            &[CheckId::Compose]
        }
        "rejected_os_image" => &[CheckId::OsImage],
        "rejected_firmware" => &[CheckId::Firmware],
        "rejected_td_hob" => &[CheckId::TdHob],
        "evidence_missing_field" => &[CheckId::Evidence, CheckId::TdHob],
        "rejected_acpi" => &[CheckId::Acpi],
        "rejected_gpu_places" => &[CheckId::GpuPlaces],
        "rejected_app_id" | "rejected_app_id_disagrees" => &[CheckId::AppId],
        "rejected_key_provider" => &[CheckId::KeyProvider],
        "rejected_model" => &[CheckId::Model],
        "rejected_gpu_count" | "rejected_gpu_mode" => &[CheckId::GpuShape],
        code if code.contains("_gpu_") => &[CheckId::Gpus],
        "rejected_deployment_empty" | "rejected_deployment_tag" => &[CheckId::DeploymentRules],
        "rejected_deployment_tag_unknown" | "rejected_deployment_tag_moved" => {
            &[CheckId::DeploymentTags]
        }
        code if code.contains("deployment_") => &[CheckId::Deployment],
        code if code.starts_with("rejected_app_cert") || code == "rejected_kms_root" => {
            &[CheckId::Kms]
        }
        code if code.starts_with("evidence_") => &[CheckId::Evidence],
        code => panic!("name the check of {code}"),
    }
}

#[test]
fn there_are_enough_and_they_are_distinct() {
    let texts: BTreeSet<_> = cases().map(|case| case.what).collect();
    assert_eq!(texts.len(), cases().count(), "two cases have the same text");
    assert!(texts.len() >= 150, "{}", texts.len());
    let known: BTreeSet<_> = Explanation::all().map(|e| e.code).collect();
    for case in cases() {
        assert!(known.contains(case.code), "{}", case.code);
    }
}

/// What a host or backend may say without anybody comparing it: the other side
/// of the table above, so that nothing is silently left out.
const NOT_COMPARED: &[Case] = &[
    case(
        "all_attestations",
        "a copy kept for old clients; the top level is judged",
        "verified",
        |s| {
            set(
                s,
                "/all_attestations",
                serde_json::json!([{"model_name": "x"}]),
            );
        },
    ),
    case("info.app_name", "a free text", "verified", |s| {
        set(s, "/info/app_name", serde_json::json!("x"));
    }),
    case(
        "info.mr_aggregated",
        "derived from registers that are judged one by one",
        "verified",
        |s| {
            flip(s, "/info/mr_aggregated");
        },
    ),
    case(
        "info.device_id (both copies)",
        "stated by the host, measured by nobody; reported as such, and pinned on request",
        "verified",
        |s| {
            s.app.device_id = [9; 32];
        },
    ),
    case(
        "info.app_id, info.instance_id, info.key_provider_info, info.tcb_info.rtmr0 and the like",
        "copies of what is measured; each that differs is a finding",
        "verified",
        |s| {
            flip(s, "/info/app_id");
            flip(s, "/info/tcb_info/rtmr0");
        },
    ),
    case(
        "vm_config.image, os_image_hash and spec_version",
        "unmeasured; the tables depend on the other members",
        "verified",
        |s| {
            s.vm_config.spec_version = 9;
            s.vm_config.image = "x".to_owned();
            s.vm_config.os_image_hash = "00".repeat(32);
        },
    ),
    case(
        "payloads of events in RTMR0 to RTMR2",
        "their digests do not cover them; the digests are judged",
        "verified",
        |s| {
            s.hooks
                .events_after
                .push(|events| events[0].event_payload = vec![1, 2, 3]);
        },
    ),
    case(
        "events of RTMR3 after system-ready",
        "written by the application; they have to replay, and are counted",
        "verified",
        |s| {
            s.app.app_events = vec![("app-id".to_owned(), vec![9; 20])];
        },
    ),
    case(
        "MROWNER and MROWNERCONFIG",
        "identifiers of the host's choice that no measured code reads",
        "verified",
        |s| {
            s.td.mr_owner = [9; 48];
            s.td.mr_owner_config = [9; 48];
        },
    ),
    case(
        "MRSEAM",
        "Intel's TCB info judges the module's signer and version; pinned on request",
        "verified",
        |s| {
            s.td.mr_seam = [9; 48];
        },
    ),
    case(
        "the quote's user_data and SVN header fields",
        "signed, and without meaning to a verifier",
        "verified",
        |s| {
            s.quote.user_data = [9; 20];
            s.quote.qe_svn = 9;
        },
    ),
    case(
        "the event log inside app_cert",
        "the certificate's quote is compared, register by register",
        "verified",
        |s| {
            s.hooks.app_leaf.push(|leaf| leaf.event_log = Some(vec![1]));
        },
    ),
    case(
        "signing_public_key",
        "the proxy does not encrypt to it; if it is not the attested key, a finding says so",
        "verified",
        |s| flip(s, "/signing_public_key"),
    ),
    case(
        "ohttp_key_config and ohttp_attestation",
        "the proxy does not use OHTTP; if they contradict each other, a finding says so",
        "verified",
        |s| flip(s, "/ohttp_key_config"),
    ),
];

#[test]
fn what_is_not_compared_changes_nothing() {
    for case in NOT_COMPARED {
        let mut spec = spec();
        (case.change)(&mut spec);
        let appraisal = judge(&spec);
        assert_eq!(
            code(&appraisal),
            case.code,
            "{}: {:?}",
            case.row,
            appraisal.report.rejected
        );
    }
}

/// docs/tamperings.md is this table.
#[test]
fn the_document_lists_them_all() {
    let mut text = String::from(
        "# Tamperings that are refused\n\n\
         Generated by `scripts/docs`; each row is a test.\n\
         A valid machine is built, one thing is changed, everything is signed again where the\n\
         row says so, and exactly this code is expected. \"Row\" is the line of threats.md.\n",
    );
    for (part, cases) in PARTS {
        let _ = write!(
            text,
            "\n## {part}\n\n| row | tampering | code |\n|---|---|---|\n"
        );
        for case in cases {
            let _ = writeln!(text, "| {} | {} | `{}` |", case.row, case.what, case.code);
        }
    }
    text.push_str(
        "\n## What is not compared, and why\n\n\
         Each of these was changed, and the verdict stayed \"verified\".\n\n| field | why |\n|---|---|\n",
    );
    for case in NOT_COMPARED {
        let _ = writeln!(text, "| {} | {} |", case.row, case.what);
    }
    crate::docs::compare("tamperings.md", &text);
}
