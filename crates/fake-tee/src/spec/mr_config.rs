//! MRCONFIGID, as dstack's VMM forms it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Spec;
use crate::hash::sha256;
use crate::signing::keccak256;

/// Which of dstack's forms MRCONFIGID has: a byte of the form, a digest, zeros.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MrConfig {
    /// Zeros: `use_mrconfigid = false`.
    Unset,
    /// The compose hash.
    #[default]
    V1,
    /// Keccak-256 of compose hash, app id, a byte for "kms" and the KMS's root key.
    V2,
    /// SHA-256 of a canonical JSON document about the same.
    V3 {
        /// The document has the hash of the GPU policy, as launches with GPUs have.
        gpus: bool,
        /// The document has the hashes of scripts, as descriptions of version 3 have.
        scripts: bool,
    },
}

impl MrConfig {
    /// The register's value.
    pub fn id(self, spec: &Spec) -> [u8; 48] {
        let (form, digest) = match self {
            Self::Unset => (0, [0; 32]),
            Self::V1 => (1, spec.app.compose_hash()),
            Self::V2 => (2, v2(spec)),
            Self::V3 { gpus, scripts } => {
                let document = document(spec, gpus, scripts);
                let prefix = b"dstack-mr-config-v3:\0";
                (3, sha256(&[prefix, document.as_bytes()].concat()))
            }
        };
        let mut id = [0; 48];
        id[0] = form;
        id[1..33].copy_from_slice(&digest);
        id
    }
}

fn v2(spec: &Spec) -> [u8; 32] {
    const KMS: u8 = 2;
    let root = hex::decode(spec.kms.root_spki_hex()).unwrap_or_default();
    keccak256(&[&spec.app.compose_hash(), &spec.app.app_id, &[KMS], &root])
}

/// Canonical JSON (RFC 8785): members in order, no space.
fn document(spec: &Spec, gpus: bool, scripts: bool) -> String {
    let app = &spec.app;
    let mut members = BTreeMap::from([
        ("app_id", Value::from(hex::encode(&app.app_id))),
        ("compose_hash", hex::encode(app.compose_hash()).into()),
        ("key_provider", "kms".into()),
        ("key_provider_id", spec.kms.root_spki_hex().into()),
        ("version", 3.into()),
    ]);
    if !app.instance_id.is_empty() {
        members.insert("instance_id", hex::encode(&app.instance_id).into());
    }
    if gpus {
        let hash = app.gpu_policy_hash.unwrap_or_default();
        members.insert("gpu_policy_hash", hex::encode(hash).into());
    }
    if scripts {
        let hashes: Vec<_> = app.init_script_hashes.iter().map(hex::encode).collect();
        members.insert("init_script_hashes", hashes.into());
    }
    let members: Vec<_> = members
        .into_iter()
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", members.join(","))
}
