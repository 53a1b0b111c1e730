//! What this program knows of images beside the policy that judges: the one place where
//! `policy accept` asks whether it knows an image.

use super::Policy;
use super::hex::Hex;
use super::image::SeenImage;

/// An image whose every register is known, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownImage {
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
    images: Vec<KnownImage>,
}

impl Known {
    /// What this program knows: the images that its own policies name.
    #[must_use]
    pub fn of_this_program() -> Self {
        let near = Policy::near().rules;
        let weaknesses = |image: &str| {
            let advisories = near.image_advisories.iter();
            let advisories = advisories.filter(|advisory| advisory.concerns(image));
            advisories.map(ToString::to_string).collect()
        };
        let images = near.os_images.iter().map(|row| KnownImage {
            name: row.name.clone(),
            weaknesses: weaknesses(&row.name),
            source: "the built-in policy \"near\" names it".to_owned(),
            mrtd: row.mrtd.0,
            rtmr1: row.rtmr1.0,
            rtmr2: row.rtmr2.0,
            os_image_hash: row.os_image_hash.0,
        });
        Self {
            images: images.collect(),
        }
    }

    /// DANGER: with these images. Whoever chooses them decides which changes can be
    /// accepted; for tests.
    #[must_use]
    pub fn danger_with(images: Vec<KnownImage>) -> Self {
        Self { images }
    }

    /// The image, if each of its registers is the known one.
    pub(super) fn image(&self, seen: &SeenImage) -> Option<&KnownImage> {
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
