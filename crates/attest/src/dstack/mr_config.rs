//! MRCONFIGID: the application that the host named when it launched the TD.
//!
//! The first byte names the form, 32 bytes of a digest and 15 zeros follow (dstack). A
//! dstack guest compares it while it boots and stops if it differs, so a digest that
//! does not match RTMR3 is a contradiction.

use sha3::{Digest as _, Keccak256};

use crate::base::hash;
use crate::dstack::event_log::{BootEvents, KeyProvider};
use crate::refusals::Rejected;

/// A register that does not contradict RTMR3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MrConfig {
    /// It matches RTMR3.
    Same,
    /// Zeros: the host named nothing.
    Unset,
    /// A form with a higher number than those known here.
    Newer(u8),
}

/// Each form digests the compose hash; V2 and V3 also the app-id and the key provider.
///
/// # Errors
/// [`Rejected::MrConfigId`] for a value of a known form, or of none, that is not about
/// this application.
pub(crate) fn read(
    mr_config_id: &[u8; 48],
    compose_hash: &[u8; 32],
    boot: &BootEvents,
) -> Result<MrConfig, Rejected> {
    let [form, ..] = *mr_config_id;
    if *mr_config_id == [0; 48] {
        return Ok(MrConfig::Unset);
    }
    let digests = match form {
        2 => v2(compose_hash, boot),
        3 => v3(compose_hash, boot),
        0 | 1 => vec![*compose_hash],
        newer => return Ok(MrConfig::Newer(newer)),
    };
    let form = form.max(1);
    let ids: Vec<_> = digests.iter().map(|digest| id(form, digest)).collect();
    if ids.contains(mr_config_id) {
        return Ok(MrConfig::Same);
    }
    Err(Rejected::MrConfigId {
        got: hex::encode(mr_config_id),
        expected: ids.first().map_or_else(
            || "none: the key provider is unreadable".to_owned(),
            hex::encode,
        ),
    })
}

fn id(form: u8, digest: &[u8; 32]) -> [u8; 48] {
    let mut id = [0; 48];
    for (to, from) in id.iter_mut().zip([form].iter().chain(digest)) {
        *to = *from;
    }
    id
}

/// The kinds of key providers: as RTMR3 names them, as V2 numbers and V3 names them.
const KEY_PROVIDERS: [(&str, u8, &str); 4] = [
    ("none", 0, "none"),
    ("local-sgx", 1, "local"),
    ("kms", 2, "kms"),
    ("tpm", 3, "tpm"),
];

/// Number, name and identity (hex) of the key provider that RTMR3 records.
fn key_provider(boot: &BootEvents) -> Option<(u8, &'static str, String)> {
    let noted = KeyProvider::read(&boot.key_provider)?;
    let (_, number, name) = KEY_PROVIDERS
        .iter()
        .find(|(noted_as, ..)| *noted_as == noted.name)?;
    Some((*number, name, noted.id.to_ascii_lowercase()))
}

/// Keccak-256 of compose hash, app-id, kind of key provider and its identity.
fn v2(compose_hash: &[u8; 32], boot: &BootEvents) -> Vec<[u8; 32]> {
    let digest = || {
        let (kind, _, id) = key_provider(boot)?;
        let id = hex::decode(id).ok()?;
        let parts = [&compose_hash[..], &boot.app_id, &[kind], &id].concat();
        Some(Keccak256::digest(parts).into())
    };
    digest().into_iter().collect()
}

/// SHA-256 of a canonical JSON text (RFC 8785) behind a prefix. The host may leave out
/// two of its members: the hash of the GPU policy without GPUs, those of the scripts
/// for older descriptions.
fn v3(compose_hash: &[u8; 32], boot: &BootEvents) -> Vec<[u8; 32]> {
    let Some((_, kind, id)) = key_provider(boot) else {
        return Vec::new();
    };
    let scripts: Vec<_> = boot.init_script_hashes.iter().map(hex::encode).collect();
    let gpus = boot.gpu_policy_hash.as_ref().map(hex::encode);
    let mut digests = Vec::new();
    for gpus in [None, gpus.as_ref()] {
        for scripts in [None, Some(&scripts)] {
            let mut members = vec![
                ("app_id", quoted(&hex::encode(boot.app_id))),
                ("compose_hash", quoted(&hex::encode(compose_hash))),
            ];
            members.extend(gpus.map(|hash| ("gpu_policy_hash", quoted(hash))));
            members.extend(scripts.map(|hashes| {
                let hashes: Vec<_> = hashes.iter().map(|hash| quoted(hash)).collect();
                ("init_script_hashes", format!("[{}]", hashes.join(",")))
            }));
            if !boot.instance_id.is_empty() {
                members.push(("instance_id", quoted(&hex::encode(&boot.instance_id))));
            }
            members.push(("key_provider", quoted(kind)));
            if !id.is_empty() {
                members.push(("key_provider_id", quoted(&id)));
            }
            members.push(("version", "3".to_owned()));
            let members: Vec<_> = members
                .into_iter()
                .map(|(name, value)| format!("\"{name}\":{value}"))
                .collect();
            let document = format!("{{{}}}", members.join(","));
            digests.push(hash::sha256(&[
                b"dstack-mr-config-v3:",
                &[0],
                document.as_bytes(),
            ]));
        }
    }
    digests
}

/// Hex digits and names need no escapes.
fn quoted(plain: &str) -> String {
    format!("\"{plain}\"")
}
