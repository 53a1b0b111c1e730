//! The identity that the KMS certifies, and MRCONFIGID.

use fake_tee::{CertForm, Kms, MrConfig};
use serde_json::json;

use super::Member;
use crate::tampering::{remove, set};

pub(super) const PAIRS: &[(Member, Member)] = &[
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
];
