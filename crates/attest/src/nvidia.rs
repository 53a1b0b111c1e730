//! NVIDIA's part: the GPUs' own evidence, and the answers of its attestation service.

pub(crate) mod gpu;
pub(crate) mod nras;
