//! What this program knows of images beside the policy that judges: the one place where
//! `policy accept` asks whether it knows an image.

use super::Policy;
use super::rules::image::{ImageDecision, SeenImage};
use crate::base::hex::Hex;
use crate::base::identifiers::UnixTime;
use crate::dstack::image::{self, KnownImage};

/// An image whose every register is known, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptableImage {
    /// The image's name.
    pub name: String,
    /// Who computed the values, or whose policy names them.
    pub source: String,
    /// Firmware.
    pub mrtd: [u8; 48],
    /// Kernel.
    pub rtmr1: [u8; 48],
    /// Command line and initrd.
    pub rtmr2: [u8; 48],
    /// The digest of the release's files.
    pub os_image_hash: [u8; 32],
    /// What is publicly known of it and lets somebody read prompts, in words.
    pub weaknesses: Vec<String>,
}

/// What this program knows beside the policy. It comes in as a value, like roots.
#[derive(Debug, Clone)]
pub struct Known {
    images: Vec<AcceptableImage>,
}

impl Known {
    /// The images of this program's table whose every register is known, in each form.
    /// Development images, candidates of a release and images that the table refuses are
    /// not among them.
    #[must_use]
    pub fn of_this_program() -> Self {
        let mut images = Vec::new();
        for own in image::known() {
            let (Some(registers), Some(os_image_hash)) = (own.registers, own.os_image_hash) else {
                continue;
            };
            if own.dev || own.prerelease || own.refuse.is_some() {
                continue;
            }
            let open = own.weaknesses();
            let open = open.map(|(known, _)| format!("{}: {}", known.id, known.what));
            let weaknesses: Vec<_> = open.collect();
            for mrtd in [Some(registers.mrtd), registers.mrtd_two_pass] {
                images.extend(mrtd.map(|mrtd| AcceptableImage {
                    name: own.name.clone(),
                    source: format!("values confirmed by {}", own.confirmed_by.join(", ")),
                    mrtd,
                    rtmr1: registers.rtmr1,
                    rtmr2: registers.rtmr2,
                    os_image_hash,
                    weaknesses: weaknesses.clone(),
                }));
            }
        }
        Self { images }
    }

    /// DANGER: with these images. Whoever chooses them decides which changes can be
    /// accepted; for tests.
    #[must_use]
    pub fn danger_with(images: Vec<AcceptableImage>) -> Self {
        Self { images }
    }

    /// The image, if each of its registers is the known one.
    pub(crate) fn image(&self, seen: &SeenImage) -> Option<&AcceptableImage> {
        self.images.iter().find(|known| {
            (
                Hex(known.mrtd),
                Hex(known.rtmr1),
                Hex(known.rtmr2),
                Hex(known.os_image_hash),
            ) == (seen.mrtd, seen.rtmr1, seen.rtmr2, seen.os_image_hash)
        })
    }
}

impl Policy {
    /// True if a row of this policy names the image, by all of its registers and its
    /// hash, at this time.
    #[must_use]
    pub fn names_image(&self, image: &KnownImage, now: UnixTime) -> bool {
        let (Some(own), Some(hash)) = (image.registers, image.os_image_hash) else {
            return false;
        };
        [Some(own.mrtd), own.mrtd_two_pass]
            .into_iter()
            .flatten()
            .map(|mrtd| SeenImage::new(mrtd, own.rtmr1, own.rtmr2, hash))
            .any(|seen| {
                let decision = self.rules().os_image(&seen, now);
                matches!(decision, ImageDecision::Accepted(_))
            })
    }
}
