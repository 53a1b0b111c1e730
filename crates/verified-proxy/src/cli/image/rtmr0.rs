//! RTMR0 of a machine's shape.

use attest::image::Measured;

/// RTMR0, and its events in order, each by its name.
pub(super) struct Rtmr0 {
    pub(super) register: [u8; 48],
    pub(super) events: Vec<(&'static str, [u8; 48])>,
}

/// RTMR0 of a machine of the shape that `vm_config` states, with this image.
///
/// # Errors
/// Why it cannot be recomputed, in words.
//
// SEAM: the one place that asks `attest` to recompute RTMR0. Until it offers that, every
// shape is "not recomputable".
pub(super) fn recomputed(measured: &Measured<'_>, _vm_config: &str) -> Result<Rtmr0, String> {
    if let Some(why) = measured.metadata().ovmf_variant.rtmr0_not_recomputable() {
        return Err(why.to_owned());
    }
    Err("this version of verified-proxy does not recompute it".to_owned())
}
