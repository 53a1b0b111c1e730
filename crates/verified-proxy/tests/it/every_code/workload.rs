//! The same for what was deployed, and for GPUs.

use fake_tee::deployment::compose_up;
use fake_tee::gpu::{Gpu, GpuKeys, GpuPki, field};
use fake_tee::pki::Signer;
use fake_tee::{Challenge, ComposeManager, Spec};
use rcgen::DnType;
use serde_json::{Value, json};

use super::evidence::Row;

fn manager(spec: &mut Spec) -> &mut ComposeManager {
    spec.compose_manager.as_mut().unwrap()
}

fn gpu(spec: &mut Spec) -> &mut Gpu {
    &mut spec.gpus.as_mut().unwrap().gpus[5]
}

/// Changes the finished block.
fn log(spec: &mut Spec, change: fn(&mut Value)) {
    spec.hooks
        .report
        .push(move |report| change(&mut report["compose_manager_attestation"]));
}

/// The block that another machine would have given.
fn transplant(spec: &mut Spec, change: fn(&mut Spec)) {
    let mut other = spec.clone();
    change(&mut other);
    spec.hooks.report.push(move |report| {
        let bytes = |field: &str| {
            let text = report[field].as_str().unwrap();
            hex::decode(text).unwrap().try_into().unwrap()
        };
        let challenge = Challenge {
            nonce: bytes("request_nonce"),
            spki_sha256: bytes("tls_cert_fingerprint"),
        };
        let built = other.forge(&challenge).unwrap();
        report["compose_manager_attestation"] = built.report["compose_manager_attestation"].clone();
    });
}

/// The deployment log and its quote.
pub(super) const DEPLOYMENT: &[Row] = &[
    ("deployment_missing", |s| s.compose_manager = None),
    ("evidence_deployment_missing_field", |s| {
        log(s, |block| {
            block.as_object_mut().unwrap().remove("quote").unwrap();
        });
    }),
    ("evidence_deployment_bad_field", |s| {
        log(s, |block| block["actions_hash"] = json!("00"));
    }),
    ("evidence_deployment_too_many_actions", |s| {
        log(s, |block| block["actions"] = json!(vec![json!({}); 20_000]));
    }),
    ("evidence_deployment_action", |s| {
        manager(s).actions[1].retain(|(key, _)| key != "commit");
    }),
    ("rejected_deployment_nonce_source", |s| {
        manager(s).nonce_source = "server".to_owned();
    }),
    ("rejected_deployment_nonce", |s| {
        manager(s).nonce = Some([1; 32]);
    }),
    ("rejected_deployment_actions_hash", |s| {
        log(s, |block| {
            block["actions"].as_array_mut().unwrap().pop();
        });
    }),
    ("rejected_deployment_quote_format", |s| {
        log(s, |block| block["quote"] = json!("0400"));
    }),
    ("rejected_deployment_quote", |s| {
        manager(s).signer = Signer::Stranger;
    }),
    ("rejected_deployment_report_data", |s| {
        s.hooks.manager_td_report.push(|td| td.report_data[63] ^= 1);
    }),
    ("rejected_deployment_platform", |s| {
        transplant(s, |other| other.platform.ppid = [9; 16]);
    }),
    ("rejected_deployment_levels", |s| {
        transplant(s, |other| other.qe.isv_svn = 3);
    }),
    ("rejected_deployment_mrtd", |s| {
        s.hooks.manager_td_report.push(|td| td.mr_td[0] ^= 1);
    }),
    ("rejected_deployment_rtmr", |s| {
        s.hooks.manager_td_report.push(|td| td.rt_mr[3][0] ^= 1);
    }),
    ("rejected_deployment_mr_config_id", |s| {
        s.hooks.manager_td_report.push(|td| td.mr_config_id[0] ^= 1);
    }),
    ("rejected_deployment_td_body", |s| {
        s.hooks.manager_td_report.push(|td| td.mr_owner[0] ^= 1);
    }),
    ("rejected_deployment_empty", |s| manager(s).actions.clear()),
    ("rejected_deployment_tag", |s| {
        let now = s.now;
        manager(s).actions.push(compose_up(now, "main", &[]));
    }),
    ("rejected_deployment_tag_unknown", |s| {
        manager(s).tags.push(|tags| tags.truncate(1));
    }),
    ("rejected_deployment_tag_moved", |s| {
        manager(s)
            .tags
            .push(|tags| tags[0].commit = "42".repeat(20));
    }),
];

/// The GPUs' payload, messages and certificates.
pub(super) const GPUS: &[Row] = &[
    ("evidence_gpu_too_large", |s| {
        s.hooks
            .report
            .push(|report| report["nvidia_payload"] = json!("x".repeat(600 << 10)));
    }),
    ("evidence_gpu_payload", |s| {
        s.hooks
            .report
            .push(|report| report["nvidia_payload"] = json!("anything"));
    }),
    ("evidence_gpu_too_many", |s| {
        s.gpus.as_mut().unwrap().payload.push(|payload| {
            let list = payload["evidence_list"].as_array_mut().unwrap();
            let again = list.clone();
            list.extend(again);
            list.push(list[0].clone());
        });
    }),
    ("rejected_gpu_missing", |s| s.gpus = None),
    ("rejected_gpu_missing", |s| {
        s.gpus.as_mut().unwrap().gpus.clear();
    }),
    ("rejected_gpu_payload_nonce", |s| {
        s.gpus
            .as_mut()
            .unwrap()
            .payload
            .push(|payload| payload["nonce"] = json!("00".repeat(32)));
    }),
    ("evidence_gpu_structure", |s| {
        gpu(s).evidence.push(|bytes| bytes.push(0));
    }),
    ("evidence_gpu_header", |s| {
        gpu(s).message.push(|message| message.request[0] = 0x10);
    }),
    ("evidence_gpu_blocks", |s| {
        gpu(s).message.push(|message| message.blocks.swap(3, 4));
    }),
    ("evidence_gpu_opaque", |s| {
        gpu(s).message.push(|message| {
            let again = message.fields[5].clone();
            message.fields.push(again);
        });
    }),
    ("evidence_gpu_certificates", |s| {
        gpu(s).pem.push(|pem| {
            pem.splice(..0, *b"subject=somebody\n");
        });
    }),
    ("rejected_gpu_chain_length", |s| {
        gpu(s).chain.push(|chain| {
            chain.remove(2);
        });
    }),
    ("rejected_gpu_root", |s| {
        s.gpus.as_mut().unwrap().pki = GpuPki::other().unwrap();
    }),
    ("rejected_gpu_chain", |s| {
        gpu(s).leaf_signer = Signer::Stranger;
    }),
    ("rejected_gpu_dice", |s| {
        gpu(s).leaf_origin = Some(GpuKeys::generate().unwrap().device.spki_der());
    }),
    ("rejected_gpu_architecture", |s| {
        gpu(s).leaf.push(|leaf| {
            leaf.distinguished_name
                .push(DnType::CommonName, "GB100 A01 GSP FMC LF");
        });
    }),
    ("rejected_gpu_signature", |s| {
        gpu(s).evidence.push(|bytes| bytes[60] ^= 1);
    }),
    ("rejected_gpu_signature", |s| {
        gpu(s).evidence.push(|bytes| {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        });
    }),
    ("rejected_gpu_nonce", |s| {
        gpu(s).message.push(|message| message.nonce = [9; 32]);
    }),
    ("rejected_gpu_fwid", |s| {
        gpu(s)
            .message
            .push(|message| message.field(field::FWID)[0] ^= 1);
    }),
    ("rejected_gpu_duplicate", |s| {
        let gpus = &mut s.gpus.as_mut().unwrap().gpus;
        gpus[7] = gpus[0].clone();
    }),
    ("evidence_gpu_not_understood", |s| {
        gpu(s).chip = "GB100".to_owned();
    }),
    ("rejected_gpu_topology", |s| {
        gpu(s)
            .message
            .push(|message| message.field(field::PROTECTED_PCIE)[0] = 0x55);
    }),
    ("rejected_gpu_count", |s| {
        s.gpus.as_mut().unwrap().gpus.truncate(4);
    }),
    ("rejected_gpu_places", |s| s.vm_config.num_nvswitches = 5),
    ("rejected_gpu_mode", |s| {
        for gpu in &mut s.gpus.as_mut().unwrap().gpus {
            gpu.message
                .push(|message| message.field(field::PROTECTED_PCIE)[0] = 0x55);
        }
    }),
];
