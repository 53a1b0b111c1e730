//! Pairs: a step that an honest operator takes, and a forgery that looks like it. Each
//! member has its level or its code with its blame. Where the bytes cannot tell the two
//! apart, both have the same words.

use std::fmt::Write as _;

use attest::{Blame, HistoryCheck, Policy};
use fake_tee::deployment::{action, compose_up, manager_of};
use fake_tee::event_log::{DigestForm, Event};
use fake_tee::gpu::field;
use fake_tee::{CertForm, Kms, MrConfig, Signing, Spec};
use serde_json::json;

use crate::support::{NOW, WITH_SOCKET, each_gpu, judge_with_sources, manager, spec, spec_with};
use crate::tampering::{before, flip, remove, set, swap, without};

/// What was done, and what is said of it: the level of the deployment under a verified
/// verdict of policy "near", or code and blame.
type Member = (&'static str, fn(&mut Spec), &'static str);

fn block(spec: &mut Spec, change: fn(&mut serde_json::Value)) {
    spec.hooks
        .report
        .push(move |report| change(&mut report["compose_manager_attestation"]));
}

/// Both members are the same bytes.
const fn alike(
    honest: &'static str,
    forged: &'static str,
    change: fn(&mut Spec),
    said: &'static str,
) -> (Member, Member) {
    ((honest, change, said), (forged, change, said))
}

const PAIRS: &[(Member, Member)] = &[
    (
        (
            "the report's copy of the app id has another form",
            |s| flip(s, "/info/app_id"),
            "tagged",
        ),
        (
            "the measured app id is exchanged, its digest kept",
            |s| swap(s, "app-id"),
            "rejected_event_digest machine",
        ),
    ),
    alike(
        "the application gets a new id",
        "another application poses as it",
        |s| s.app.app_id = vec![7; 20],
        "rejected_app_id unknown",
    ),
    alike(
        "the key service gets a new root",
        "another key service poses as it",
        |s| s.kms = Kms::other().unwrap(),
        "rejected_kms_root unknown",
    ),
    alike(
        "a new OS image",
        "firmware of the host's own",
        |s| s.td.mr_td = [7; 48],
        "rejected_os_image unknown",
    ),
    (
        (
            "the hash that the host repeats differs, as with dstack 0.6.0",
            |s| flip(s, "/info/os_image_hash"),
            "tagged",
        ),
        (
            "the measured hash is another image's",
            |s| s.app.os_image_hash = [7; 32],
            "rejected_os_image unknown",
        ),
    ),
    alike(
        "tables of a machine that nothing is computed of",
        "tables with code of the host's",
        |s| s.boot.acpi_tables = Some([7; 48]),
        "rejected_acpi unknown",
    ),
    (
        (
            "twice the memory",
            |s| s.vm_config.memory_size = 2 << 40,
            "tagged",
        ),
        (
            "another memory map than the stated size gives",
            |s| {
                s.hooks.report.push(|report| {
                    let text = report["info"]["vm_config"].as_str().unwrap();
                    report["info"]["vm_config"] =
                        text.replace("\"memory_size\":", "\"memory_size\":1").into();
                });
            },
            "rejected_td_hob machine",
        ),
    ),
    (
        (
            "8 GiB of memory",
            |s| s.vm_config.memory_size = 8 << 30,
            "tagged",
        ),
        (
            "another firmware configuration",
            |s| s.boot.cfv = [7; 48],
            "rejected_firmware unknown",
        ),
    ),
    (
        (
            "a newer dstack digests events in its second form",
            |s| s.digest_form = DigestForm::V2,
            "tagged",
        ),
        (
            "a payload is exchanged under such a digest",
            |s| {
                s.digest_form = DigestForm::V2;
                swap(s, "key-provider");
            },
            "rejected_event_digest machine",
        ),
    ),
    (
        ("a guest of dstack 0.6", Spec::boot_dstack_0_6, "tagged"),
        (
            "more scripts than dstack runs",
            |s| s.app.init_script_hashes = vec![[1; 32]; 6],
            "rejected_boot_events unknown",
        ),
    ),
    (
        (
            "a boot event that is not known",
            |s| {
                before(
                    s,
                    "storage-fs",
                    Event::runtime("new-event", b"x", DigestForm::V1),
                );
            },
            "tagged",
        ),
        (
            "a known boot event a second time",
            |s| {
                before(
                    s,
                    "storage-fs",
                    Event::runtime("app-id", &[9; 20], DigestForm::V1),
                );
            },
            "rejected_boot_events unknown",
        ),
    ),
    (
        (
            "no storage-fs, as dstack 0.5.4 has it",
            |s| s.app.storage_fs = None,
            "tagged",
        ),
        (
            "the boot never ended",
            |s| without(s, "system-ready"),
            "rejected_boot_events unknown",
        ),
    ),
    (
        (
            "events of the application after the boot",
            |s| {
                s.app.app_events = vec![("x".to_owned(), vec![1])];
            },
            "tagged",
        ),
        (
            "the last event is left out of the log",
            |s| {
                s.hooks.events_after.push(|events| {
                    events.pop();
                });
            },
            "rejected_rtmr_replay machine",
        ),
    ),
    (
        (
            "no contact with a KMS is noted",
            |s| s.app.mr_kms.clear(),
            "tagged",
        ),
        (
            "keys from another provider",
            |s| {
                s.app.key_provider = Some(r#"{"name":"kms","id":"00"}"#.to_owned());
            },
            "rejected_key_provider machine",
        ),
    ),
    (
        (
            "a certificate of a newer KMS",
            |s| s.cert_form = CertForm::AttestationV1,
            "tagged",
        ),
        (
            "a certificate with one bit flipped",
            |s| {
                s.hooks.app_chain.push(|chain| {
                    let last = chain[0].len() - 1;
                    chain[0][last] ^= 1;
                });
            },
            "rejected_app_cert machine",
        ),
    ),
    (
        (
            "a certificate in a form of tomorrow",
            |s| {
                s.hooks
                    .app_leaf
                    .push(|leaf| leaf.attestation = Some(vec![1, 2, 3]));
            },
            "rejected_app_cert_form age",
        ),
        (
            "the same, under a root of the host's own",
            |s| {
                s.kms = Kms::other().unwrap();
                s.hooks
                    .app_leaf
                    .push(|leaf| leaf.attestation = Some(vec![1, 2, 3]));
            },
            "rejected_kms_root unknown",
        ),
    ),
    (
        (
            "empty copies",
            |s| set(s, "/info/app_id", json!("")),
            "tagged",
        ),
        (
            "no certificate",
            |s| remove(s, "/info/app_cert"),
            "rejected_app_cert_missing machine",
        ),
    ),
    (
        (
            "MRCONFIGID of form 2",
            |s| s.mr_config = MrConfig::V2,
            "tagged",
        ),
        (
            "MRCONFIGID of another application",
            |s| s.overrides.mr_config_id = Some([1; 48]),
            "rejected_mr_config_id machine",
        ),
    ),
    (
        (
            "MRCONFIGID of a form of tomorrow",
            |s| s.overrides.mr_config_id = Some([4; 48]),
            "rejected_mr_config_id_version age",
        ),
        (
            "MRCONFIGID of form 2 that is no digest of this launch",
            |s| s.overrides.mr_config_id = Some([2; 48]),
            "rejected_mr_config_id machine",
        ),
    ),
    (
        (
            "a launch without MRCONFIGID",
            |s| s.mr_config = MrConfig::Unset,
            "tagged",
        ),
        (
            "another description than the measured one",
            |s| {
                set(s, "/info/tcb_info/app_compose", json!("{\"another\": 1}"));
            },
            "rejected_compose_hash machine",
        ),
    ),
    (
        (
            "another application description",
            |s| s.app.compose = "{\"another\": 1}".to_owned(),
            "tagged",
        ),
        (
            "another model than the one asked for",
            |s| s.model_name = "other/model".to_owned(),
            "rejected_model request",
        ),
    ),
    (
        (
            "an ECDSA signing key",
            |s| s.signing = Signing::ecdsa(),
            "tagged",
        ),
        (
            "the signing key of another machine",
            |s| flip(s, "/signing_address"),
            "rejected_report_data machine",
        ),
    ),
    (
        (
            "the ECDSA key in the form of SEC 1",
            |s| {
                s.signing = Signing::ecdsa();
                s.hooks.report.push(|report| {
                    let key = format!("04{}", report["signing_public_key"].as_str().unwrap());
                    report["signing_public_key"] = key.into();
                });
            },
            "tagged",
        ),
        (
            "an address of another length",
            |s| set(s, "/signing_address", json!("00")),
            "evidence_address_length machine",
        ),
    ),
    (
        (
            "an OHTTP key of another kind",
            |s| {
                s.ohttp = None;
                s.hooks.report.push(|report| {
                    report["ohttp_key_config"] =
                        format!("01647a{}000400010001", "ab".repeat(32)).into();
                });
            },
            "tagged",
        ),
        (
            "the TLS key of another connection",
            |s| flip(s, "/tls_cert_fingerprint"),
            "rejected_spki_mismatch unknown",
        ),
    ),
    (
        (
            "hex in capitals",
            |s| {
                s.hooks.report.push(|report| {
                    let text = report["intel_quote"].as_str().unwrap().to_uppercase();
                    report["intel_quote"] = text.into();
                });
            },
            "tagged",
        ),
        (
            "a second spelling of the nonce",
            |s| set(s, "/request_nonce", json!("5A".repeat(32))),
            "rejected_nonce machine",
        ),
    ),
    (
        (
            "no padding behind the quote",
            |s| s.quote.trailing.clear(),
            "tagged",
        ),
        (
            "a quote cut short",
            |s| set(s, "/intel_quote", json!("0400")),
            "rejected_quote_format unknown",
        ),
    ),
    (
        (
            "SWHardeningNeeded",
            |s| {
                s.tcb_info
                    .set_platform_status("SWHardeningNeeded", &["FAKE-SA-00001"]);
            },
            "tagged",
        ),
        (
            "a machine that lacks Intel's updates",
            |s| {
                s.tcb_info
                    .set_platform_status("OutOfDate", &["FAKE-SA-00001"]);
            },
            "rejected_tcb_platform machine",
        ),
    ),
    (
        ("a newer TDX module", |s| s.td.tee_tcb_svn[0] += 1, "tagged"),
        (
            "a TDX module whose keys are compromised",
            |s| s.tcb_info.set_module_status("Revoked", &[]),
            "rejected_tcb_module machine",
        ),
    ),
    (
        (
            "a platform that is not dynamic",
            |s| s.platform.dynamic_platform = false,
            "tagged",
        ),
        (
            "a quoting enclave that lacks updates",
            |s| s.qe_identity.set_status("OutOfDate", &["FAKE-SA-1"]),
            "rejected_tcb_qe machine",
        ),
    ),
    (
        (
            "Intel's next edition",
            |s| {
                s.tcb_info.tcb_evaluation_data_number += 1;
                s.qe_identity.tcb_evaluation_data_number += 1;
            },
            "tagged",
        ),
        (
            "an edition of a year ago, freshly signed",
            |s| {
                s.tcb_info.tcb_evaluation_data_number = 18;
                s.qe_identity.tcb_evaluation_data_number = 18;
            },
            "rejected_tcb_evaluation collateral",
        ),
    ),
    (
        (
            "documents four minutes ahead of our clock",
            |s| s.tcb_info.set_validity(NOW + 240, NOW + 2_000_000),
            "tagged",
        ),
        (
            "documents that ran out",
            |s| s.tcb_info.set_validity(NOW - 4_000_000, NOW - 1),
            "rejected_collateral_expired collateral",
        ),
    ),
    (
        (
            "another platform",
            |s| s.platform.ppid = [0x42; 16],
            "tagged",
        ),
        (
            "a machine that its host can debug",
            |s| s.td.td_attributes[0] = 1,
            "rejected_td_debug machine",
        ),
    ),
    (
        (
            "a GPU with a repaired board's VBIOS",
            |s| {
                s.gpus.as_mut().unwrap().gpus[3]
                    .message
                    .push(|m| *m.field(field::VBIOS) = vec![0, 0xcf, 0, 0x96, 3, 0, 0, 0]);
            },
            "tagged",
        ),
        (
            "one GPU twice",
            |s| {
                let gpus = &mut s.gpus.as_mut().unwrap().gpus;
                gpus[1] = gpus[0].clone();
            },
            "rejected_gpu_duplicate machine",
        ),
    ),
    (
        (
            "GPUs of a newer kind",
            |s| {
                for gpu in &mut s.gpus.as_mut().unwrap().gpus {
                    gpu.chip = "GB100".into();
                }
            },
            "evidence_gpu_not_understood age",
        ),
        (
            "no GPUs at all",
            |s| s.gpus = None,
            "rejected_gpu_missing machine",
        ),
    ),
    alike(
        "a machine with four GPUs",
        "four GPUs are hidden",
        |s| s.gpus.as_mut().unwrap().gpus.truncate(4),
        "rejected_gpu_count unknown",
    ),
    (
        (
            "the host counts its switches as GPUs",
            |s| {
                s.vm_config.num_gpus = 12;
                s.vm_config.num_nvswitches = 0;
            },
            "tagged",
        ),
        (
            "a place for a device that no GPU names",
            |s| s.vm_config.num_gpus = 9,
            "rejected_gpu_places unknown",
        ),
    ),
    (
        (
            "a machine of another shape, as it is",
            |s| s.vm_config.cpu_count = 128,
            "tagged",
        ),
        (
            "another shape is stated than was measured",
            |s| {
                s.hooks.report.push(|report| {
                    let text = report["info"]["vm_config"].as_str().unwrap();
                    report["info"]["vm_config"] =
                        text.replace("\"cpu_count\":", "\"cpu_count\":1").into();
                });
            },
            "rejected_acpi unknown",
        ),
    ),
    (
        (
            "a log without the events of firmware and kernel",
            |s| s.strip_boot_events = true,
            "tagged",
        ),
        (
            "such a log, and other tables were measured",
            |s| {
                s.strip_boot_events = true;
                s.boot.acpi_tables = Some([7; 48]);
            },
            "rejected_rtmr_computed unknown",
        ),
    ),
    (
        ("ordinary GPUs", |_| {}, "tagged"),
        (
            "GPUs whose traffic is not protected",
            |s| each_gpu(s, |m| *m.field(field::PROTECTED_PCIE) = vec![0x55]),
            "rejected_gpu_mode machine",
        ),
    ),
    (
        (
            "a newer release",
            |s| {
                manager(s).publish("v0.0.3", &fake_tee::compose_file::compose_text("v0.0.3"));
                manager(s).actions.push(compose_up(NOW - 60, "v0.0.3", &[]));
            },
            "tagged",
        ),
        (
            "a log from which a start was taken out",
            |s| {
                block(s, |block| {
                    block["actions"].as_array_mut().unwrap().pop();
                });
            },
            "rejected_deployment_actions_hash machine",
        ),
    ),
    alike(
        "an experiment that rotates tokens",
        "a spy that is started like one",
        |s| manager(s).experiment(NOW - 60, WITH_SOCKET),
        "declared",
    ),
    (
        (
            "a clock that was set back by an hour",
            |s| {
                manager(s)
                    .actions
                    .push(compose_up(NOW - 49 * 3600, "v0.0.2", &[]));
            },
            "tagged",
        ),
        (
            "a log made for another request",
            |s| {
                block(s, |block| block["nonce"] = "00".repeat(32).into());
            },
            "rejected_deployment_nonce machine",
        ),
    ),
    (
        (
            "an action of a newer manager",
            |s| {
                manager(s)
                    .actions
                    .push(action(NOW - 60, "docker_prune_all", &[]));
            },
            "declared",
        ),
        (
            "an action that starts a program past the files",
            |s| {
                let image = [("image", "evil/backdoor:latest".into())];
                manager(s)
                    .actions
                    .push(action(NOW - 60, "docker_run", &image));
            },
            "declared",
        ),
    ),
    (
        (
            "a newer manager of the same origin",
            |s| {
                let image = format!("fake/compose-manager@sha256:{}", "ab".repeat(32));
                manager(s).actions.push(manager_of(NOW - 60, &image));
            },
            "tagged",
        ),
        (
            "a manager of another origin",
            |s| {
                let image = format!("evil/compose-manager@sha256:{}", "ab".repeat(32));
                manager(s).actions.push(manager_of(NOW - 60, &image));
            },
            "declared",
        ),
    ),
    (
        (
            "no copies beside the log's quote",
            |s| {
                block(s, |block| {
                    for copy in ["report_data", "event_log", "vm_config"] {
                        block.as_object_mut().unwrap().remove(copy).unwrap();
                    }
                });
            },
            "tagged",
        ),
        (
            "no log",
            |s| s.compose_manager = None,
            "deployment_missing machine",
        ),
    ),
];

/// What is said of a machine under the rules of "near", with the files and tags of its
/// own repository, and the words of a refusal.
fn said(change: fn(&mut Spec)) -> (String, String) {
    let policy = Policy::from_toml(&spec().policy_toml()).unwrap();
    let not_kept = HistoryCheck::NotKept("a test");
    let appraisal = judge_with_sources(&spec_with(change), &policy, not_kept);
    match &appraisal.outcome {
        Ok(attested) => (attested.levels().deployment.to_string(), String::new()),
        Err(rejected) => (
            format!("{} {}", rejected.code(), rejected.blame().as_str()),
            rejected.hint(),
        ),
    }
}

#[test]
fn each_member_of_a_pair_gets_what_the_table_says() {
    assert!(PAIRS.len() >= 40, "{}", PAIRS.len());
    let mut wrong = String::new();
    for (honest, forged) in PAIRS {
        let mut words = Vec::new();
        for (what, change, expected) in [honest, forged] {
            let (got, hint) = said(*change);
            if got != *expected {
                let _ = writeln!(wrong, "{what}: expected {expected}, got {got}");
            }
            words.push(hint);
        }
        // The honest member is never called an attack.
        if honest.2.ends_with(" machine") || words[0].starts_with(Blame::Machine.remedy()) {
            let _ = writeln!(wrong, "{}: {} {}", honest.0, honest.2, words[0]);
        }
        if honest.2 == forged.2 && words[0] != words[1] {
            let _ = writeln!(wrong, "{}: other words than for its forgery", honest.0);
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// docs/pairs.md is this table.
#[test]
fn the_document_lists_the_pairs() {
    let mut text = String::from(
        "# Honest steps, and the forgeries that look like them\n\n\
         Generated by `scripts/docs`; each row is a test under the rules of\n\
         policy `near`. A verdict is verified where a level of the deployment stands, else there are code\n\
         and blame. Where the bytes are the same, so are the words.\n\n\
         | honest | what is said | forged | what is said |\n|---|---|---|---|\n",
    );
    for ((honest, _, to_honest), (forged, _, to_forged)) in PAIRS {
        let _ = writeln!(
            text,
            "| {honest} | `{to_honest}` | {forged} | `{to_forged}` |"
        );
    }
    crate::docs::compare("pairs.md", &text);
}
