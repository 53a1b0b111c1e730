//! The application description, its hash, and what the host launched the TD for.

use fake_tee::{Kms, MrConfig, Spec};
use serde_json::json;

use super::{Case, case, edit, set};

pub(super) const CASES: &[Case] = &[
    case(
        "A5",
        "app_compose with a space more",
        "rejected_compose_hash",
        |s| {
            s.hooks.report.push(|report| {
                let text = report["info"]["tcb_info"]["app_compose"].as_str().unwrap();
                report["info"]["tcb_info"]["app_compose"] = format!("{text} ").into();
            });
        },
    ),
    case(
        "A5",
        "another image in app_compose",
        "rejected_compose_hash",
        |s| {
            s.hooks.report.push(|report| {
                let text = report["info"]["tcb_info"]["app_compose"].as_str().unwrap();
                report["info"]["tcb_info"]["app_compose"] = text.replace("engine", "spy").into();
            });
        },
    ),
    case("A5", "an empty app_compose", "rejected_compose_hash", |s| {
        set(s, "/info/tcb_info/app_compose", json!(""));
    }),
    case(
        "A5",
        "another compose-hash event, signed",
        "rejected_compose_hash",
        |s| edit(s, "compose-hash", |event| event.event_payload[0] ^= 1),
    ),
    case(
        "A5",
        "a compose-hash event of 31 bytes, signed",
        "rejected_compose_hash",
        |s| {
            edit(s, "compose-hash", |event| {
                event.event_payload.pop();
            });
        },
    ),
    case(
        "A5",
        "another application in MRCONFIGID, signed",
        "rejected_mr_config_id",
        |s| {
            s.overrides.mr_config_id = Some(config_id(1, 9, 0));
        },
    ),
    case(
        "A5",
        "MRCONFIGID of form 2 with the compose hash itself, signed",
        "rejected_mr_config_id",
        |s| own_hash(s, 2, 0),
    ),
    case(
        "A5",
        "MRCONFIGID with bytes behind the hash, signed",
        "rejected_mr_config_id",
        |s| own_hash(s, 1, 7),
    ),
    case(
        "A5",
        "MRCONFIGID of form 0 with the compose hash, signed",
        "rejected_mr_config_id",
        |s| own_hash(s, 0, 0),
    ),
    case(
        "A5",
        "MRCONFIGID of form 2 for another application, signed",
        "rejected_mr_config_id",
        |s| config_of(s, MrConfig::V2, |other| other.app.app_id[0] ^= 1),
    ),
    case(
        "A5",
        "MRCONFIGID of form 2 for another KMS, signed",
        "rejected_mr_config_id",
        |s| config_of(s, MrConfig::V2, |other| other.kms = Kms::other().unwrap()),
    ),
    case(
        "A5",
        "MRCONFIGID of form 2 with a byte behind the digest, signed",
        "rejected_mr_config_id",
        |s| {
            let mut id = MrConfig::V2.id(s);
            id[47] = 1;
            s.overrides.mr_config_id = Some(id);
        },
    ),
    case(
        "A5",
        "MRCONFIGID of form 3 for another instance, signed",
        "rejected_mr_config_id",
        |s| config_of(s, V3, |other| other.app.instance_id[0] ^= 1),
    ),
    case(
        "A5",
        "MRCONFIGID of form 3 for another description, signed",
        "rejected_mr_config_id",
        |s| config_of(s, V3, |other| other.app.compose.push(' ')),
    ),
    case(
        "A5",
        "MRCONFIGID of form 3 for another GPU policy than was measured, signed",
        "rejected_mr_config_id",
        |s| {
            s.boot_dstack_0_6();
            let with_gpus = MrConfig::V3 {
                gpus: true,
                scripts: true,
            };
            config_of(s, with_gpus, |other| {
                other.app.gpu_policy_hash = Some([9; 32]);
            });
        },
    ),
    case(
        "A5",
        "MRCONFIGID of form 3 for other scripts than were measured, signed",
        "rejected_mr_config_id",
        |s| {
            s.boot_dstack_0_6();
            let with_scripts = MrConfig::V3 {
                gpus: false,
                scripts: true,
            };
            config_of(s, with_scripts, |other| {
                other.app.init_script_hashes.reverse();
            });
        },
    ),
    case(
        "A5",
        "MRCONFIGID of form 2, and a key provider that is no JSON, signed",
        "rejected_mr_config_id",
        |s| {
            s.mr_config = MrConfig::V2;
            s.app.key_provider = Some("kms".to_owned());
        },
    ),
    case(
        "A5",
        "MRCONFIGID of form 4, signed",
        "rejected_mr_config_id_version",
        |s| s.overrides.mr_config_id = Some(config_id(4, 9, 0)),
    ),
    case(
        "A5",
        "MRCONFIGID of zeros, and a certificate for another one, signed",
        "rejected_app_cert_quote",
        |s| {
            s.mr_config = MrConfig::Unset;
            s.hooks.app_td_report.push(|td| td.mr_config_id[1] = 1);
        },
    ),
];

const V3: MrConfig = MrConfig::V3 {
    gpus: false,
    scripts: false,
};

/// The register's value for another machine, in this one.
fn config_of(spec: &mut Spec, form: MrConfig, change: fn(&mut Spec)) {
    let mut other = spec.clone();
    change(&mut other);
    spec.overrides.mr_config_id = Some(form.id(&other));
}

/// The compose hash itself, in a form and before a rest of one's choice.
fn own_hash(spec: &mut Spec, version: u8, rest: u8) {
    let mut id = config_id(version, 0, rest);
    id[1..33].copy_from_slice(&spec.app.compose_hash());
    spec.overrides.mr_config_id = Some(id);
}

fn config_id(version: u8, hash: u8, rest: u8) -> [u8; 48] {
    let mut id = [rest; 48];
    id[0] = version;
    id[1..33].fill(hash);
    id
}
