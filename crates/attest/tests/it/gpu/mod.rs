//! Evidence of GPUs: forged, recorded, and changed.

mod cached;
mod machine;
mod payload;
mod properties;
mod recorded;
mod resigned;
mod said;
mod unknown;
mod unsigned;

use std::sync::OnceLock;

use attest::{GpuAnchors, GpuRejected, GpuReport, IssuerCache, Nonce, UnixTime, appraise_gpus};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use fake_tee::gpu::{Gpu, GpuPki, GpuSpec};
use serde_json::Value;

use crate::support::{NONCE, NOW};

/// Three GPUs of one machine: the keys are made once.
pub(crate) fn spec() -> GpuSpec {
    static SPEC: OnceLock<GpuSpec> = OnceLock::new();
    SPEC.get_or_init(|| GpuSpec::new(3).unwrap()).clone()
}

pub(crate) fn anchors() -> GpuAnchors {
    GpuAnchors::danger_gpu_root(GpuPki::shared().unwrap().root_der().to_vec())
}

/// What is said of a payload under the fake root.
pub(crate) fn judge(payload: &str) -> Result<GpuReport, GpuRejected> {
    appraise_gpus(
        payload,
        Nonce::from_bytes(NONCE),
        &anchors(),
        UnixTime(NOW),
        &IssuerCache::new(),
    )
}

/// As [`judge`], after a change to the machine before anything is signed.
pub(crate) fn forged(change: impl FnOnce(&mut GpuSpec)) -> Result<GpuReport, GpuRejected> {
    let mut spec = spec();
    change(&mut spec);
    judge(&spec.forge(&NONCE).unwrap())
}

/// The code of a refusal, or "verified".
pub(crate) fn code(outcome: &Result<GpuReport, GpuRejected>) -> &'static str {
    match outcome {
        Ok(_) => "verified",
        Err(rejected) => rejected.code(),
    }
}

/// The bytes of a base64 field of a list's item.
pub(crate) fn blob(payload: &Value, gpu: usize, field: &str) -> Vec<u8> {
    let text = payload["evidence_list"][gpu][field].as_str().unwrap();
    BASE64_STANDARD.decode(text).unwrap()
}

pub(crate) fn set_blob(payload: &mut Value, gpu: usize, field: &str, bytes: &[u8]) {
    payload["evidence_list"][gpu][field] = BASE64_STANDARD.encode(bytes).into();
}

/// A change to one GPU, before anything is signed.
pub(crate) type Change = fn(&mut Gpu);
