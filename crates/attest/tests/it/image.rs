//! What a guest measures of a release's files: by vectors, and against fake-tee, which
//! computes it by another way.

mod firmware;
mod hostile;
mod kernel;
mod known;
mod list;
mod vectors;

use std::collections::BTreeMap;

use attest::image::{FileList, ImageError, Measured};
use fake_tee::Image;

pub(crate) type Contents = Vec<(String, Vec<u8>)>;

/// Measures files that are listed as they are.
pub(crate) fn measured<T>(
    contents: &Contents,
    then: impl FnOnce(Result<Measured<'_>, ImageError>) -> T,
) -> T {
    let list = FileList::read(&fake_tee::image::list(contents)).unwrap();
    then(list.measure(&by_name(contents)))
}

pub(crate) fn by_name(contents: &Contents) -> BTreeMap<&str, &[u8]> {
    let files = contents.iter();
    files
        .map(|(name, content)| (name.as_str(), content.as_slice()))
        .collect()
}

/// Why an image is not measured.
pub(crate) fn refused(image: &Image) -> ImageError {
    measured(&image.contents(), |measured| measured.unwrap_err())
}

/// Every register is the one that fake-tee computes.
pub(crate) fn must_agree(image: &Image) {
    for memory in [
        512_u64 << 20,
        1 << 30,
        2 << 30,
        2815 << 20,
        2816 << 20,
        2 << 40,
    ] {
        let expected = image.registers(memory);
        measured(&image.contents(), |measured| {
            let measured = measured.unwrap();
            assert_eq!(measured.os_image_hash(), expected.os_image_hash);
            assert_eq!(measured.mrtd().single_pass, expected.mrtd_single_pass);
            assert_eq!(measured.mrtd().two_pass, expected.mrtd_two_pass);
            assert_eq!(measured.cfv_digest(), expected.cfv);
            assert_eq!(
                measured.rtmr1_with(memory).unwrap(),
                expected.rtmr1,
                "{memory}"
            );
            assert_eq!(measured.rtmr1_unpatched(), expected.rtmr1_unpatched);
            assert_eq!(measured.rtmr2(), expected.rtmr2);
            if memory >= Measured::CONSTANT_FROM || memory == 2 << 30 {
                assert_eq!(measured.rtmr1(), expected.rtmr1);
            }
        });
    }
}
