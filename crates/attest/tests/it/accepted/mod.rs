//! What an honest operator may change without a new policy, and what a policy
//! of one's own may allow or pin.

mod any_software;
mod floors;
mod formats;
mod policies;

use attest::{Appraisal, FloorCheck, Policy};
use fake_tee::event_log::DigestForm;
use fake_tee::{QuoteFormat, Signing, Spec};

use crate::support::{
    Beside, challenge, code, judge, judge_beside, judge_with, policy, spec, spec_with,
};

/// One honest change.
type Change = (&'static str, fn(&mut Spec));

#[test]
fn honest_changes_need_no_new_policy() {
    let changes: [Change; 29] = [
        ("twice the memory", |s| s.vm_config.memory_size = 2 << 40),
        ("8 GiB of memory", |s| s.vm_config.memory_size = 8 << 30),
        ("memory just at the PCI hole", |s| {
            s.vm_config.memory_size = 0xb000_0000
        }),
        ("memory just below the PCI hole", |s| {
            s.vm_config.memory_size = 0xb000_0000 - (1 << 20)
        }),
        ("another TDX module", |s| s.td.mr_seam = [0x42; 48]),
        ("a newer TDX module version", |s| s.td.tee_tcb_svn[0] += 1),
        ("another application description", |s| {
            s.app.compose = "{\"another\": 1}".to_owned()
        }),
        ("another instance", |s| s.app.instance_id = vec![0x42; 20]),
        ("another device", |s| s.app.device_id = [0x42; 32]),
        ("an ECDSA signing key", |s| s.signing = Signing::ecdsa()),
        ("a v5 quote of a TD 1.0", |s| {
            s.quote.format = QuoteFormat::TdxV5Td10
        }),
        ("a v5 quote of a TD 1.5", |s| {
            s.quote.format = QuoteFormat::TdxV5Td15
        }),
        ("SWHardeningNeeded", |s| {
            s.tcb_info
                .set_platform_status("SWHardeningNeeded", &["FAKE-SA-00001"]);
        }),
        ("V2 digests", |s| s.digest_form = DigestForm::V2),
        ("the event log as a string", |s| {
            s.event_log_as_string = true
        }),
        ("no storage-fs", |s| s.app.storage_fs = None),
        ("no mr-kms", |s| s.app.mr_kms.clear()),
        ("three contacts with KMS instances", |s| {
            s.app.mr_kms = vec![vec![1; 32], vec![2; 32], vec![1; 32]];
        }),
        ("events of the application", |s| {
            s.app.app_events = vec![("app-id".to_owned(), vec![9; 20]), ("x".to_owned(), vec![])];
        }),
        ("events of the application, noted in the certificate", |s| {
            s.app.app_events = vec![("x".to_owned(), vec![1])];
            s.app.certified_at_ready = false;
        }),
        (
            "a platform that is not dynamic, without SMT and cached keys",
            |s| {
                s.platform.dynamic_platform = false;
                s.platform.cached_keys = false;
                s.platform.smt_enabled = false;
            },
        ),
        ("another platform", |s| s.platform.ppid = [0x42; 16]),
        ("no padding behind the quote", |s| s.quote.trailing.clear()),
        ("unknown fields", |s| {
            s.hooks
                .report
                .push(|report| report["new_field"] = serde_json::json!({"a": [1, {"b": null}]}));
        }),
        ("0x before what the report repeats", |s| {
            s.hooks.report.push(|report| {
                for field in ["app_id", "instance_id", "os_image_hash", "compose_hash"] {
                    let text = report["info"][field].as_str().unwrap();
                    report["info"][field] = format!("0x{text}").into();
                }
            });
        }),
        ("empty copies of what is measured", |s| {
            for field in [
                "/info/app_id",
                "/info/instance_id",
                "/info/os_image_hash",
                "/info/key_provider_info",
            ] {
                crate::tampering::set(s, field, serde_json::json!(""));
            }
        }),
        ("no other copies of the report", |s| {
            crate::tampering::remove(s, "/all_attestations")
        }),
        (
            "a foreign PCK chain in the collateral, which is left out",
            |s| {
                s.hooks
                    .collateral
                    .push(|c| c.pck_certificate_chain = Some("no certificate".to_owned()));
            },
        ),
        ("hex with 0x and in capitals", |s| {
            s.hooks.report.push(|report| {
                let text = report["intel_quote"].as_str().unwrap().to_uppercase();
                report["intel_quote"] = format!("0x{text}").into();
            });
        }),
    ];
    for (what, change) in changes {
        let appraisal = judge(&spec_with(change));
        assert_eq!(
            code(&appraisal),
            "verified",
            "{what}: {:?}",
            appraisal.report.rejected
        );
    }
}

#[test]
fn a_new_tls_key_is_attested_like_the_old_one() {
    let mut challenge = challenge();
    challenge.spki_sha256 = [0x99; 32];
    let built = spec().forge(&challenge).unwrap();
    let appraisal = judge_with(&built, policy(), FloorCheck::NotKept("a test"));
    // The report is good, but it is about another key than the live one.
    assert_eq!(code(&appraisal), "rejected_spki_mismatch");
    let beside = Beside {
        live_spki: attest::Spki::from_bytes([0x99; 32]),
        ..Beside::default()
    };
    let appraisal = judge_beside(&built, policy(), beside);
    assert_eq!(code(&appraisal), "verified");
}

fn extended(more: &str) -> Policy {
    let text = format!("{}{more}", spec().policy_toml());
    Policy::from_toml(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn judge_under(spec: &Spec, policy: &Policy) -> Appraisal {
    judge_with(
        &spec.forge(&challenge()).unwrap(),
        policy,
        FloorCheck::NotKept("a test"),
    )
}
