//! Event logs: what was measured into RTMR0 to RTMR3, and in which order.
//!
//! The log itself proves nothing; it counts because it replays to the registers of a
//! verified quote. A digest vouches for a payload only where it is recomputed from the
//! payload, which is possible for dstack's runtime events.

use std::collections::BTreeMap;

use crate::base::hash;
use crate::base::json;
use crate::base::text::{quoted, shown, shown_hex};
use crate::intel::quote::MeasuredTd;
use crate::refusals::Rejected;

/// dstack's runtime events; the TCG has no type for them.
pub(crate) const RUNTIME_EVENT: u32 = 0x0800_0001;

/// The last event that the measured OS writes: the application writes later ones, which
/// prove nothing about the boot.
const SYSTEM_READY: &str = "system-ready";

/// Events before this one are known: a name that is not known here comes after it.
const APP_ID: &str = "app-id";

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

/// How the digest of a runtime event is formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DigestForm {
    /// SHA-384 of `type_le || ":" || name || ":" || payload`.
    V1,
    /// SHA-384 of the canonical JSON (RFC 8785)
    /// `{"name":…,"payload":"<hex>","type":134217729}`.
    V2,
}

impl Event {
    /// An event of RTMR3 without its digest, as logs of dstack 0.6 have it.
    pub(crate) fn without_digest(name: &str, payload: Vec<u8>, form: DigestForm) -> Self {
        let mut event = Self {
            register: 3,
            kind: RUNTIME_EVENT,
            digest: [0; 48],
            name: name.to_owned(),
            payload,
        };
        event.digest = event.formed(form);
        event
    }

    /// True if the digest is that of name and payload, in either of dstack's forms.
    /// The two cannot be confused: V1 starts with the byte 0x01, V2 with `{`.
    fn digest_is_recomputable(&self) -> bool {
        [DigestForm::V1, DigestForm::V2]
            .into_iter()
            .any(|form| self.digest == self.formed(form))
    }

    fn formed(&self, form: DigestForm) -> [u8; 48] {
        match form {
            DigestForm::V1 => hash::sha384(&[
                &self.kind.to_le_bytes(),
                b":",
                self.name.as_bytes(),
                b":",
                &self.payload,
            ]),
            DigestForm::V2 => {
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
    }
}

/// The events of RTMR0 that a stripped log keeps, by name.
const KEPT_EVENTS: [&str; 3] = ["acpi-loader", "acpi-rsdp", "acpi-tables"];

/// True for a log without the events of firmware and kernel (RTMR0 to RTMR2), as dstack
/// 0.6 may serve it: then these registers have to be computed, since they cannot be
/// replayed.
pub(crate) fn is_stripped(events: &[Event]) -> bool {
    events.iter().all(|event| match event.register {
        0 => KEPT_EVENTS.contains(&event.name.as_str()),
        register => register == 3,
    })
}

/// True if an event of RTMR0 in a stripped log has the digest of the file that it names,
/// in the order of [`KEPT_EVENTS`].
pub(crate) fn is_kept(event: &Event, digests: [&[u8; 48]; 3]) -> bool {
    let mut named = KEPT_EVENTS.iter().zip(digests);
    named.any(|(name, digest)| event.name == *name && event.digest == *digest)
}

/// Replays registers: `rtmr = SHA-384(rtmr || digest)` from 48 zeros
/// (Intel TDX module, TDG.MR.RTMR.EXTEND); all four, of a stripped log RTMR3.
///
/// # Errors
/// [`Rejected::RtmrReplay`] for the first register that differs.
pub(crate) fn replay(events: &[Event], td: &MeasuredTd) -> Result<(), Rejected> {
    let from = if is_stripped(events) { 3 } else { 0 };
    for (register, quoted) in (0_u8..).zip(&td.rtmr).skip(from) {
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

/// What the operating system recorded in RTMR3 while it booted.
#[derive(Debug, Clone)]
pub(crate) struct BootEvents {
    pub(crate) app_id: [u8; 20],
    pub(crate) compose_hash: Vec<u8>,
    pub(crate) instance_id: Vec<u8>,
    /// SHA-256 of the image's checksum file.
    pub(crate) os_image_hash: [u8; 32],
    pub(crate) key_provider: Vec<u8>,
    pub(crate) mr_kms: Vec<Vec<u8>>,
    /// SHA-256 of each script that runs before the application (dstack 0.6).
    pub(crate) init_script_hashes: Vec<Vec<u8>>,
    /// SHA-256 of the application's policy for GPUs (dstack 0.6).
    pub(crate) gpu_policy_hash: Option<Vec<u8>>,
    /// The guest's own result about its GPUs (dstack 0.6).
    pub(crate) gpu_attestation: Option<Vec<u8>>,
    /// "1" or "0": whether the data disk is encrypted.
    pub(crate) storage_encrypted: Option<Vec<u8>>,
    /// The names of events between `app-id` and `system-ready` that are not known here.
    pub(crate) unknown: Vec<String>,
    /// Events after `system-ready`, which nothing relies on.
    pub(crate) later: usize,
    /// The values of RTMR3 from `system-ready` on.
    pub(crate) rtmr3_since_ready: Vec<[u8; 48]>,
}

/// 20 in every report seen.
const MAX_INSTANCE_ID_BYTES: usize = 64;

/// The events that a dstack guest records while it boots, in order, with the least and
/// the largest number of each.
const BOOT_ORDER: [(&str, usize, usize); 14] = [
    ("system-preparing", 1, 1),
    (APP_ID, 1, 1),
    ("compose-hash", 1, 1),
    // dstack runs at most five.
    ("init-script-hash", 0, 5),
    ("gpu-policy-hash", 0, 1),
    ("gpu-attestation", 0, 1),
    ("instance-id", 1, 1),
    ("boot-mr-done", 1, 1),
    // One for each contact with a KMS; dstack 0.6 notes none.
    ("mr-kms", 0, usize::MAX),
    ("os-image-hash", 1, 1),
    ("key-provider", 1, 1),
    // dstack 0.5.4 has none.
    ("storage-fs", 0, 1),
    ("storage-encrypted", 0, 1),
    (SYSTEM_READY, 1, 1),
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
        // An unknown name before app-id is kept, and then refused as not expected
        // there.
        let (mut known, mut unknown, mut begun) = (Vec::new(), Vec::new(), false);
        for (_, event) in boot {
            let is_known = BOOT_ORDER.iter().any(|(name, ..)| event.name == *name);
            begun |= event.name == APP_ID;
            if is_known || !begun {
                known.push(*event);
            } else {
                unknown.push(event.name.clone());
            }
        }
        let mut found: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
        let mut rest = known.into_iter().peekable();
        for (name, least, most) in BOOT_ORDER {
            let slot = found.entry(name).or_default();
            while slot.len() < most
                && let Some(event) = rest.next_if(|event| event.name == name)
            {
                slot.push(event);
            }
            if slot.len() < least {
                let instead = rest
                    .peek()
                    .map_or("the end".to_owned(), |event| quoted(&event.name));
                return Err(refuse(format!("expected {name}, got {instead}")));
            }
        }
        let payloads = |name: &str| -> Vec<Vec<u8>> {
            let events = found.get(name).into_iter().flatten();
            events.map(|event| event.payload.clone()).collect()
        };
        let optional = |name: &str| payloads(name).into_iter().next();
        let payload = |name: &str| optional(name).unwrap_or_default();
        let instance_id = payload("instance-id");
        if instance_id.len() > MAX_INSTANCE_ID_BYTES {
            return Err(refuse(format!(
                "instance-id has {} bytes, expected at most {MAX_INSTANCE_ID_BYTES}",
                instance_id.len()
            )));
        }
        Ok(Self {
            app_id: sized(APP_ID, &payload(APP_ID))?,
            compose_hash: payload("compose-hash"),
            instance_id,
            os_image_hash: sized("os-image-hash", &payload("os-image-hash"))?,
            key_provider: payload("key-provider"),
            mr_kms: payloads("mr-kms"),
            init_script_hashes: payloads("init-script-hash"),
            gpu_policy_hash: optional("gpu-policy-hash"),
            gpu_attestation: optional("gpu-attestation"),
            storage_encrypted: optional("storage-encrypted"),
            unknown,
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

/// SHA-256 of the application description, which is what RTMR3 holds.
///
/// # Errors
/// [`Rejected::ComposeHash`].
pub(crate) fn compose_hash(text: &str, boot: &BootEvents) -> Result<[u8; 32], Rejected> {
    let hash = hash::sha256(&[text.as_bytes()]);
    if boot.compose_hash != hash {
        return Err(Rejected::ComposeHash {
            got: shown_hex(&boot.compose_hash),
            expected: hex::encode(hash),
        });
    }
    Ok(hash)
}

/// The key-provider event: `{"name":"kms","id":"<SubjectPublicKeyInfo in hex>"}`.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct KeyProvider {
    pub(crate) name: String,
    pub(crate) id: String,
}

impl KeyProvider {
    /// `None` for what is not of this form.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        json::parse_object(payload, &json::NESTED).ok()
    }

    pub(crate) fn is_kms(&self, root: &str) -> bool {
        self.name == "kms" && self.id.eq_ignore_ascii_case(root)
    }
}
