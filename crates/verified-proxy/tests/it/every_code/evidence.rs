//! One way at least to provoke each refusal of evidence: `attest`'s tests know
//! many more of each, this table has them cross the wire.

use fake_tee::event_log::{DigestForm, Event};
use fake_tee::pki::Signer;
use fake_tee::{Kms, Pki, QuoteFormat, Spec};
use serde_json::{Value, json};

pub(super) type Row = (&'static str, fn(&mut Spec));

const DAY: u64 = 86_400;
const OTHER: [u8; 48] = [0x66; 48];

fn set(spec: &mut Spec, pointer: &'static str, value: Value) {
    spec.hooks.report.push(move |report| {
        *report.pointer_mut(pointer).unwrap() = value.clone();
    });
}

fn remove(spec: &mut Spec, pointer: &'static str) {
    spec.hooks.report.push(move |report| {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let parent = report.pointer_mut(parent).unwrap();
        parent.as_object_mut().unwrap().remove(field).unwrap();
    });
}

/// Changes one digit.
fn flip(spec: &mut Spec, pointer: &'static str) {
    spec.hooks.report.push(move |report| {
        let value = report.pointer_mut(pointer).unwrap();
        let mut text = value.as_str().unwrap().to_owned();
        let last = if text.pop() == Some('0') { '1' } else { '0' };
        text.push(last);
        *value = text.into();
    });
}

fn find<'a>(events: &'a mut [Event], name: &str) -> &'a mut Event {
    events.iter_mut().find(|event| event.event == name).unwrap()
}

/// The JSON around the evidence.
pub(super) const REPORT: &[Row] = &[
    ("evidence_too_large", |s| {
        let bytes = &mut s.hooks.report_bytes;
        bytes.push(|bytes| bytes.resize((2 << 20) + 1, b' '));
    }),
    ("evidence_not_json", |s| {
        s.hooks.report_bytes.push(|bytes| bytes.extend(b"{}"));
    }),
    ("evidence_not_json", |s| {
        s.hooks.report_bytes.push(Vec::clear);
    }),
    ("evidence_too_complex", |s| {
        s.hooks.report_bytes.push(|bytes| {
            let deep = format!(r#"{{"unknown":{}{},"#, "[".repeat(100), "]".repeat(100));
            bytes.splice(..1, deep.bytes());
        });
    }),
    ("evidence_too_complex", |s| {
        set(s, "/all_attestations", json!(vec![0; 200_000]));
    }),
    ("evidence_duplicate_key", |s| {
        s.hooks.report_bytes.push(|bytes| {
            bytes.splice(..1, br#"{"request_nonce":"00","#.iter().copied());
        });
    }),
    ("evidence_missing_field", |s| remove(s, "/intel_quote")),
    ("evidence_missing_field", |s| remove(s, "/request_nonce")),
    ("evidence_bad_field", |s| set(s, "/model_name", json!(7))),
    ("evidence_bad_field", |s| {
        set(s, "/signing_algo", json!("rsa"));
    }),
    ("evidence_no_tls_fingerprint", |s| {
        s.include_tls_fingerprint = false;
    }),
    ("evidence_no_tls_fingerprint", |s| {
        remove(s, "/tls_cert_fingerprint");
    }),
    ("evidence_address_length", |s| {
        set(s, "/signing_algo", json!("ed25519"));
    }),
    ("rejected_spki_mismatch", |s| {
        let challenge = &mut s.hooks.challenge;
        challenge.push(|challenge| challenge.spki_sha256 = [0x77; 32]);
    }),
    ("rejected_spki_mismatch", |s| {
        flip(s, "/tls_cert_fingerprint");
    }),
    ("rejected_nonce", |s| {
        let challenge = &mut s.hooks.challenge;
        challenge.push(|challenge| challenge.nonce = [9; 32]);
    }),
    ("rejected_nonce", |s| flip(s, "/request_nonce")),
    ("rejected_report_data", |s| {
        s.hooks.td_report.push(|td| td.report_data[0] ^= 1);
    }),
    ("rejected_model", |s| s.model_name = "fake/other".to_owned()),
    ("rejected_model", |s| s.model_name = "Fake/Llama".to_owned()),
];

/// The quote, and what Intel says of it.
pub(super) const HARDWARE: &[Row] = &[
    ("rejected_quote_format", |s| {
        s.hooks.quote_bytes.push(|bytes| bytes[0] = 6);
    }),
    ("rejected_quote_not_tdx", |s| {
        s.quote.format = QuoteFormat::SgxV4;
    }),
    ("rejected_quote_untrusted", |s| {
        s.hooks.signed_quote.push(|quote| quote.signature[31] ^= 1);
    }),
    ("rejected_quote_untrusted", |s| {
        s.signers.pck_cert = Signer::Stranger;
    }),
    ("rejected_collateral_format", |s| {
        s.tcb_info.set_platform_status("Splendid", &[]);
    }),
    ("rejected_collateral_fmspc", |s| {
        s.tcb_info.pce_id = "0001".to_owned();
    }),
    ("rejected_collateral_not_yet_valid", |s| {
        s.tcb_info.set_validity(s.now + DAY, s.now + 30 * DAY);
    }),
    ("rejected_collateral_expired", |s| {
        s.qe_identity.set_validity(s.now - 40 * DAY, s.now - DAY);
    }),
    ("rejected_collateral_untrusted", |s| {
        s.hooks.collateral.push(|c| c.tcb_info_signature[0] ^= 1);
    }),
    ("rejected_collateral_untrusted", |s| {
        s.pki = Pki::other().unwrap();
    }),
    ("rejected_platform_certificate", |s| {
        (s.certs.pck.not_before, s.certs.pck.not_after) = (s.now - 40 * DAY, s.now - DAY);
    }),
    ("rejected_certificate_revoked", |s| {
        s.crls.root.revoked.push(s.certs.platform_ca.serial.clone());
    }),
    ("rejected_tcb_unknown", |s| s.platform.pce_svn = 0),
    ("rejected_tcb_platform", |s| {
        s.tcb_info.set_platform_status("OutOfDate", &["FAKE-SA-1"]);
    }),
    ("rejected_tcb_platform", |s| s.platform.pce_svn -= 1),
    ("rejected_tcb_module", |s| {
        s.tcb_info.set_module_status("OutOfDate", &["FAKE-SA-2"]);
    }),
    ("rejected_tcb_qe", |s| s.qe.isv_svn = 1),
    ("rejected_td_debug", |s| s.td.td_attributes[0] = 1),
    ("rejected_td_attributes", |s| {
        s.td.td_attributes[3] |= 0x20;
    }),
    ("rejected_service_td", |s| {
        s.quote.format = QuoteFormat::TdxV5Td15;
        s.td.mr_service_td[0] = 1;
    }),
    ("rejected_xfam", |s| s.td.xfam[2] ^= 1),
];

/// What runs there.
pub(super) const SOFTWARE: &[Row] = &[
    ("rejected_event_digest", |s| {
        let events = &mut s.hooks.events_after;
        events.push(|events| find(events, "app-id").event_payload[0] ^= 1);
    }),
    ("rejected_rtmr_replay", |s| {
        s.hooks.events_after.push(|events| {
            events.pop();
        });
    }),
    ("rejected_boot_events", |s| {
        let events = &mut s.hooks.events;
        events.push(|events| events.retain(|event| event.event != "boot-mr-done"));
    }),
    ("rejected_compose_hash", |s| {
        set(s, "/info/tcb_info/app_compose", json!(""));
    }),
    ("rejected_mr_config_id", |s| {
        s.overrides.mr_config_id = Some([1; 48]);
    }),
    ("rejected_mr_config_id_version", |s| {
        s.overrides.mr_config_id = Some([4; 48]);
    }),
    ("rejected_os_image", |s| s.td.mr_td = OTHER),
    ("rejected_os_image", |s| s.boot.command_line = OTHER),
    ("rejected_firmware", |s| s.boot.secure_boot = OTHER),
    ("rejected_td_hob", |s| {
        let events = &mut s.hooks.events;
        events.push(|events| events[0].digest = OTHER.to_vec());
    }),
    ("rejected_acpi", |s| s.boot.acpi_loader = Some(OTHER)),
    ("rejected_rtmr_computed", |s| {
        s.strip_boot_events = true;
        s.boot.acpi_loader = Some(OTHER);
    }),
    ("rejected_app_id", |s| s.app.app_id = vec![0x66; 20]),
    ("rejected_app_id_disagrees", |s| {
        s.hooks.events.push(|events| {
            let event = find(events, "app-id");
            event.event_payload = vec![0x66; 20];
            event.rehash(DigestForm::V1);
        });
        set(s, "/info/app_id", json!("66".repeat(20)));
    }),
    ("rejected_key_provider", |s| {
        s.app.key_provider = Some(r#"{"name":"kms","id":"3059"}"#.to_owned());
    }),
    ("rejected_app_cert_missing", |s| {
        remove(s, "/info/app_cert");
    }),
    ("rejected_app_cert", |s| {
        s.hooks.app_leaf.push(|leaf| leaf.signer = Signer::Stranger);
    }),
    ("rejected_app_cert", |s| {
        let yesterday = s.now - DAY;
        s.hooks
            .app_leaf
            .push(move |leaf| leaf.not_after = yesterday);
    }),
    ("rejected_kms_root", |s| s.kms = Kms::other().unwrap()),
    ("rejected_app_cert_usage", |s| {
        let usage = || Some(b"app:ca".to_vec());
        s.hooks.app_leaf.push(move |leaf| leaf.usage = usage());
    }),
    ("rejected_app_cert_quote", |s| {
        s.hooks.app_td_report.push(|td| td.rt_mr[3][0] ^= 1);
    }),
    ("rejected_app_cert_form", |s| {
        let newer = || Some(vec![2]);
        s.hooks
            .app_leaf
            .push(move |leaf| leaf.attestation = newer());
    }),
    ("rejected_app_cert_report_data", |s| {
        s.hooks.app_td_report.push(|td| td.report_data[0] ^= 1);
    }),
];
