//! Event logs: what was measured into RTMR0 to RTMR3, and in which order.
//!
//! The log itself is worth nothing; it counts because it replays to registers
//! that a verified quote holds. A digest stands for its payload only where it
//! is recomputed from it, which is possible for dstack's runtime events.

use std::collections::BTreeMap;

use crate::evidence::{Evidence, Register};
use crate::quote::Td;
use crate::text::{hex_bytes, quoted, shown, shown_hex};
use crate::{Rejected, hash};

/// dstack's runtime events; the TCG has no type for them.
const RUNTIME_EVENT: u32 = 0x0800_0001;

/// The last event that measured OS code writes: later ones are the
/// application's and prove nothing about the boot.
const SYSTEM_READY: &str = "system-ready";

/// One measured event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// 0 to 3.
    pub(crate) register: u8,
    pub(crate) kind: u32,
    pub(crate) digest: [u8; 48],
    pub(crate) name: String,
    pub(crate) payload: Vec<u8>,
}

impl Event {
    /// True if the digest is that of name and payload, in either of dstack's forms:
    /// - V1: SHA-384 of `type_le || ":" || name || ":" || payload`
    /// - V2: SHA-384 of the canonical JSON (RFC 8785)
    ///   `{"name":…,"payload":"<hex>","type":134217729}`
    ///
    /// The two cannot be confused: V1 starts with the byte 0x01, V2 with `{`.
    fn digest_is_recomputable(&self) -> bool {
        let v1 = hash::sha384(&[
            &self.kind.to_le_bytes(),
            b":",
            self.name.as_bytes(),
            b":",
            &self.payload,
        ]);
        self.digest == v1 || self.digest == self.v2_digest()
    }

    fn v2_digest(&self) -> [u8; 48] {
        // serde_json escapes strings as RFC 8785 §3.2.2.2 wants.
        let name = serde_json::Value::from(self.name.as_str()).to_string();
        let json = format!(
            "{{\"name\":{name},\"payload\":\"{}\",\"type\":{}}}",
            hex::encode(&self.payload),
            self.kind
        );
        hash::sha384(&[json.as_bytes()])
    }
}

/// Replays all four registers: `rtmr = SHA-384(rtmr || digest)` from 48 zeros
/// (Intel TDX module, TDG.MR.RTMR.EXTEND).
///
/// # Errors
/// [`Rejected::RtmrReplay`] for the first register that differs.
pub(crate) fn replay(events: &[Event], td: &Td) -> Result<(), Rejected> {
    for (register, quoted) in (0_u8..).zip(&td.rtmr) {
        let replayed = events
            .iter()
            .filter(|event| event.register == register)
            .fold([0; 48], |value, event| extend(&value, event));
        if replayed != *quoted {
            return Err(Rejected::RtmrReplay {
                register,
                replayed: hex::encode(replayed),
                quoted: hex::encode(quoted),
            });
        }
    }
    Ok(())
}

fn extend(register: &[u8; 48], event: &Event) -> [u8; 48] {
    hash::sha384(&[register, &event.digest])
}

/// What the operating system noted in RTMR3 while it booted.
#[derive(Debug, Clone)]
pub(crate) struct BootEvents {
    pub(crate) app_id: [u8; 20],
    pub(crate) compose_hash: Vec<u8>,
    pub(crate) instance_id: Vec<u8>,
    /// SHA-256 of the image's checksum file.
    pub(crate) os_image_hash: [u8; 32],
    pub(crate) key_provider: Vec<u8>,
    pub(crate) mr_kms: Vec<Vec<u8>>,
    /// Events after `system-ready`, which nothing relies on.
    pub(crate) later: usize,
    /// The values of RTMR3 from `system-ready` on.
    pub(crate) rtmr3_since_ready: Vec<[u8; 48]>,
}

/// 20 in every report seen.
const MAX_INSTANCE_ID_BYTES: usize = 64;

/// How often an event may stand at its place.
#[derive(Clone, Copy)]
enum Times {
    Once,
    /// dstack 0.5.4 has no storage-fs.
    AtMostOnce,
    /// One mr-kms for each contact with a KMS; the newest dstack emits none.
    Any,
}

const BOOT_ORDER: [(&str, Times); 10] = [
    ("system-preparing", Times::Once),
    ("app-id", Times::Once),
    ("compose-hash", Times::Once),
    ("instance-id", Times::Once),
    ("boot-mr-done", Times::Once),
    ("mr-kms", Times::Any),
    ("os-image-hash", Times::Once),
    ("key-provider", Times::Once),
    ("storage-fs", Times::AtMostOnce),
    (SYSTEM_READY, Times::Once),
];

impl BootEvents {
    /// Reads the boot events from a log that has been replayed, and recomputes
    /// their digests.
    ///
    /// # Errors
    /// [`Rejected::EventDigest`] or [`Rejected::BootEvents`].
    pub(crate) fn read(events: &[Event]) -> Result<Self, Rejected> {
        let refuse = |detail: String| Rejected::BootEvents { detail };
        let rtmr3: Vec<(usize, &Event)> = events
            .iter()
            .enumerate()
            .filter(|(_, event)| event.register == 3)
            .collect();
        let end = rtmr3
            .iter()
            .position(|(_, event)| event.name == SYSTEM_READY)
            .ok_or_else(|| refuse(format!("no {SYSTEM_READY}")))?;
        let boot = rtmr3.get(..=end).unwrap_or_default();
        for (index, event) in boot {
            if event.kind != RUNTIME_EVENT {
                return Err(refuse(format!(
                    "event {index} ({}) is of type {:#x}",
                    quoted(&event.name),
                    event.kind
                )));
            }
            if !event.digest_is_recomputable() {
                return Err(Rejected::EventDigest {
                    index: *index,
                    event: shown(&event.name),
                });
            }
        }
        let mut found: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
        let mut rest = boot.iter().map(|(_, event)| *event).peekable();
        for (name, times) in BOOT_ORDER {
            let slot = found.entry(name).or_default();
            while let Some(event) = rest.next_if(|event| event.name == name) {
                slot.push(event);
                if matches!(times, Times::Once | Times::AtMostOnce) {
                    break;
                }
            }
            if slot.is_empty() && matches!(times, Times::Once) {
                let instead = rest
                    .peek()
                    .map_or("the end".to_owned(), |event| quoted(&event.name));
                return Err(refuse(format!("expected {name}, got {instead}")));
            }
        }
        let payload = |name: &str| {
            found
                .get(name)
                .and_then(|events| events.first())
                .map(|event| event.payload.clone())
                .unwrap_or_default()
        };
        let instance_id = payload("instance-id");
        if instance_id.len() > MAX_INSTANCE_ID_BYTES {
            return Err(refuse(format!(
                "instance-id has {} bytes, expected at most {MAX_INSTANCE_ID_BYTES}",
                instance_id.len()
            )));
        }
        Ok(Self {
            app_id: sized("app-id", &payload("app-id"))?,
            compose_hash: payload("compose-hash"),
            instance_id,
            os_image_hash: sized("os-image-hash", &payload("os-image-hash"))?,
            key_provider: payload("key-provider"),
            mr_kms: found
                .get("mr-kms")
                .into_iter()
                .flatten()
                .map(|event| event.payload.clone())
                .collect(),
            later: rtmr3.len().saturating_sub(boot.len()),
            rtmr3_since_ready: rtmr3
                .iter()
                .scan([0; 48], |value, (_, event)| {
                    *value = extend(value, event);
                    Some(*value)
                })
                .skip(end)
                .collect(),
        })
    }
}

fn sized<const LEN: usize>(name: &str, payload: &[u8]) -> Result<[u8; LEN], Rejected> {
    payload.try_into().map_err(|_| Rejected::BootEvents {
        detail: format!("{name} has {} bytes, expected {LEN}", payload.len()),
    })
}

/// The application description: its text, the event, the two copies of its
/// hash and MRCONFIGID all say the same.
///
/// `mr_config_id = 0x01 || SHA-256(app_compose) || 15 zero bytes` (dstack).
///
/// # Errors
/// [`Rejected::ComposeHash`] or [`Rejected::MrConfigId`].
pub(crate) fn compose(
    evidence: &Evidence,
    boot: &BootEvents,
    td: &Td,
) -> Result<[u8; 32], Rejected> {
    let hash = hash::sha256(&[evidence.app_compose.as_bytes()]);
    let mut stated = vec![("the compose-hash event", hex::encode(&boot.compose_hash))];
    stated.extend(evidence.repeated.compose_hashes.iter().cloned());
    for (what, got) in stated {
        if hex_bytes(&got).as_deref() != Some(&hash) {
            return Err(Rejected::ComposeHash {
                what,
                got: shown(&got),
                expected: hex::encode(hash),
            });
        }
    }
    let mut config_id = [0; 48];
    for (to, from) in config_id.iter_mut().zip([1].iter().chain(&hash)) {
        *to = *from;
    }
    if td.mr_config_id != config_id {
        return Err(Rejected::MrConfigId {
            got: hex::encode(td.mr_config_id),
            expected: hex::encode(config_id),
        });
    }
    Ok(hash)
}

/// Values that the report repeats agree with what was measured.
///
/// # Errors
/// [`Rejected::EvidenceInconsistent`].
pub(crate) fn repeated_values_agree(
    evidence: &Evidence,
    boot: &BootEvents,
    td: &Td,
) -> Result<(), Rejected> {
    let repeated = &evidence.repeated;
    let same_hex = |field, got: &str, with, expected: &[u8]| {
        if hex_bytes(got).as_deref() == Some(expected) {
            return Ok(());
        }
        Err(Rejected::EvidenceInconsistent {
            field,
            got: shown(got),
            with,
            expected: shown_hex(expected),
        })
    };
    for (field, register, got) in &repeated.registers {
        let expected = match register {
            Register::Mrtd => &td.mrtd,
            Register::Rtmr(index) => td.rtmr.get(usize::from(*index)).unwrap_or(&td.mrtd),
        };
        same_hex(field, got, "the quote", expected)?;
    }
    if let Some(got) = &repeated.app_id {
        same_hex("info.app_id", got, "the app-id event", &boot.app_id)?;
    }
    if let Some(got) = &repeated.instance_id {
        same_hex(
            "info.instance_id",
            got,
            "the instance-id event",
            &boot.instance_id,
        )?;
    }
    for (field, got) in &repeated.os_image_hashes {
        same_hex(field, got, "the os-image-hash event", &boot.os_image_hash)?;
    }
    if let Some(got) = &repeated.key_provider_info
        && got.as_bytes() != boot.key_provider
    {
        return Err(Rejected::EvidenceInconsistent {
            field: "info.key_provider_info",
            got: shown(got),
            with: "the key-provider event",
            expected: shown(&String::from_utf8_lossy(&boot.key_provider)),
        });
    }
    Ok(())
}
