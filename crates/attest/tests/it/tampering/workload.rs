//! What was deployed, and the GPUs, as far as the whole appraisal is concerned:
//! `gpu` and `deployment` have tables of their own for everything inside.

use super::{Case, case, remove, set};
use fake_tee::Spec;
use fake_tee::compose_file::commit;
use fake_tee::deployment::compose_up;
use fake_tee::gpu::GpuSpec;
use fake_tee::tags::PublishedTag;

/// Changes what the repository of compose files has.
fn upstream(spec: &mut Spec, change: fn(&mut Vec<PublishedTag>)) {
    spec.compose_manager.as_mut().unwrap().tags.push(change);
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
        "evidence_gpu_inconsistent",
        |s| s.gpus.as_mut().unwrap().gpus.truncate(7),
    ),
    case(
        "A16",
        "vm_config.num_gpus is a text",
        "evidence_bad_field",
        |s| {
            s.hooks.report.push(|report| {
                let config = report["info"]["vm_config"].as_str().unwrap();
                let config = config.replace("\"num_gpus\":8", "\"num_gpus\":\"8\"");
                assert!(config.contains("\"8\""));
                report["info"]["vm_config"] = config.into();
            });
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
        |s| s.compose_manager.as_mut().unwrap().actions.clear(),
    ),
    case(
        "provenance",
        "a file from a branch, signed",
        "rejected_deployment_tag",
        |s| {
            let now = s.now;
            let actions = &mut s.compose_manager.as_mut().unwrap().actions;
            actions.push(compose_up(now - 60, "main", &[]));
        },
    ),
    case(
        "provenance",
        "a tag that is almost a release, signed",
        "rejected_deployment_tag",
        |s| {
            let now = s.now;
            let actions = &mut s.compose_manager.as_mut().unwrap().actions;
            actions.insert(2, compose_up(now - 71 * 3600, "v0.0.1-rc1", &[]));
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
            s.compose_manager.as_mut().unwrap().actions.push(again);
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
