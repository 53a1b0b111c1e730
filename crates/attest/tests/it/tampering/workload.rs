//! What was deployed, and the GPUs, as far as the whole appraisal is concerned:
//! `gpu` and `deployment` have tables of their own for everything inside.

use super::{Case, case, remove, set};
use crate::support::{each_gpu, manager};
use fake_tee::Spec;
use fake_tee::compose_file::commit;
use fake_tee::deployment::compose_up;
use fake_tee::gpu::{GpuSpec, field};
use fake_tee::tags::PublishedTag;

/// Changes what the repository of compose files has.
fn upstream(spec: &mut Spec, change: fn(&mut Vec<PublishedTag>)) {
    manager(spec).tags.push(change);
}

pub(super) const CASES: &[Case] = &[
    case("A16", "no GPU evidence", "rejected_gpu_missing", |s| {
        s.gpus = None
    }),
    case(
        "A16",
        "GPU evidence is an empty text",
        "rejected_gpu_missing",
        |s| {
            set(s, "/nvidia_payload", "".into());
        },
    ),
    case("A16", "GPU evidence is null", "rejected_gpu_missing", |s| {
        set(s, "/nvidia_payload", serde_json::Value::Null);
    }),
    case(
        "A16",
        "GPU evidence is an object, not a text",
        "evidence_bad_field",
        |s| {
            set(
                s,
                "/nvidia_payload",
                serde_json::json!({"evidence_list": []}),
            );
        },
    ),
    case(
        "A16",
        "GPU evidence is no JSON",
        "evidence_gpu_payload",
        |s| set(s, "/nvidia_payload", "anything".into()),
    ),
    case(
        "A16",
        "GPU evidence answers another nonce, signed",
        "rejected_gpu_payload_nonce",
        |s| {
            let other = s.gpus.as_ref().unwrap().forge(&[9; 32]).unwrap();
            set(s, "/nvidia_payload", other.into());
        },
    ),
    case(
        "A16",
        "one GPU fewer, as vm_config says",
        "rejected_gpu_count",
        |s| {
            s.gpus.as_mut().unwrap().gpus.truncate(7);
            s.vm_config.num_gpus = 7;
        },
    ),
    case(
        "A16",
        "one GPU fewer than vm_config says",
        "rejected_gpu_count",
        |s| s.gpus.as_mut().unwrap().gpus.truncate(7),
    ),
    case(
        "A16",
        "no GPU in Protected PCIe mode, signed",
        "rejected_gpu_mode",
        |s| each_gpu(s, |m| *m.field(field::PROTECTED_PCIE) = vec![0x55]),
    ),
    case(
        "A16",
        "no GPU that says in which mode it is, signed",
        "rejected_gpu_mode",
        |s| {
            each_gpu(s, |m| {
                m.fields.retain(|(kind, _)| *kind != field::PROTECTED_PCIE)
            })
        },
    ),
    case(
        "A16",
        "one GPU that does not say in which mode it is, signed",
        "rejected_gpu_mode",
        |s| {
            s.gpus.as_mut().unwrap().gpus[5]
                .message
                .push(|m| m.fields.retain(|(kind, _)| *kind != field::PROTECTED_PCIE));
        },
    ),
    case(
        "A16",
        "drivers that were set up for GPUs without switches, signed",
        "rejected_gpu_mode",
        |s| each_gpu(s, |m| m.fields.push((field::FEATURE, vec![1, 0]))),
    ),
    case(
        "A16",
        "no GPU that names a switch, signed",
        "rejected_gpu_mode",
        |s| each_gpu(s, |m| m.field(field::SWITCHES).fill(0)),
    ),
    case(
        "A16",
        "no GPU that has a list of switches, signed",
        "rejected_gpu_mode",
        |s| each_gpu(s, |m| m.fields.retain(|(kind, _)| *kind != field::SWITCHES)),
    ),
    case(
        "A16",
        "one GPU of an architecture that is not known, signed",
        "evidence_gpu_not_understood",
        |s| s.gpus.as_mut().unwrap().gpus[7].chip = "GB100".to_owned(),
    ),
    case(
        "A16",
        "a switch in the place of a GPU, signed",
        "rejected_gpu_architecture",
        |s| {
            let gpu = &mut s.gpus.as_mut().unwrap().gpus[7];
            gpu.chip = "LS_10".to_owned();
            gpu.kind = 0x50;
        },
    ),
    case(
        "A16",
        "an attacker's own GPUs, signed",
        "rejected_gpu_root",
        |s| {
            let mut gpus = GpuSpec::shared().unwrap();
            gpus.pki = fake_tee::gpu::GpuPki::other().unwrap();
            s.gpus = Some(gpus);
        },
    ),
    case(
        "provenance",
        "no deployment log",
        "deployment_missing",
        |s| {
            s.compose_manager = None;
        },
    ),
    case(
        "provenance",
        "the deployment log is taken out",
        "deployment_missing",
        |s| {
            remove(s, "/compose_manager_attestation");
        },
    ),
    case(
        "provenance",
        "a log that names nothing, signed",
        "rejected_deployment_empty",
        |s| manager(s).actions.clear(),
    ),
    case(
        "provenance",
        "a file from a branch, signed",
        "rejected_deployment_tag",
        |s| {
            let now = s.now;
            manager(s).actions.push(compose_up(now - 60, "main", &[]));
        },
    ),
    case(
        "provenance",
        "a tag that is almost a release, signed",
        "rejected_deployment_tag",
        |s| {
            let now = s.now;
            manager(s)
                .actions
                .insert(2, compose_up(now - 71 * 3600, "v0.0.1-rc1", &[]));
        },
    ),
    case(
        "provenance",
        "a release that its repository does not have, signed",
        "rejected_deployment_tag_unknown",
        |s| upstream(s, |tags| tags.retain(|tag| tag.name != "v0.0.2")),
    ),
    case(
        "provenance",
        "a release of an earlier start, taken back since, signed",
        "rejected_deployment_tag_unknown",
        |s| upstream(s, |tags| tags.retain(|tag| tag.name != "v0.0.1")),
    ),
    case(
        "provenance",
        "a repository without tags, signed",
        "rejected_deployment_tag_unknown",
        |s| upstream(s, Vec::clear),
    ),
    case(
        "provenance",
        "a release at another commit than its repository's, signed",
        "rejected_deployment_tag_moved",
        |s| upstream(s, |tags| tags[1].commit = commit("v0.0.3")),
    ),
    case(
        "provenance",
        "a release at two commits in one log, signed",
        "rejected_deployment_tag_moved",
        |s| {
            let mut again = compose_up(s.now - 60, "v0.0.3", &[]);
            again[2].1 = "v0.0.1".into();
            manager(s).actions.push(again);
        },
    ),
    case(
        "provenance",
        "an annotated tag's own object as the commit, signed",
        "rejected_deployment_tag_moved",
        |s| {
            upstream(s, |tags| {
                tags[0].object = Some(tags[0].commit.clone());
                tags[0].commit = commit("v0.0.3");
            });
        },
    ),
    case(
        "provenance",
        "an action taken out of the log afterwards",
        "rejected_deployment_actions_hash",
        |s| {
            s.hooks.report.push(|report| {
                let log = &mut report["compose_manager_attestation"]["actions"];
                log.as_array_mut().unwrap().pop();
            });
        },
    ),
];
