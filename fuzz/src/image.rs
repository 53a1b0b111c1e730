//! Releases of which one file is any bytes, and what holds for all that are measured.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use attest::Policy;
use attest::image::{FileList, ImageError};
use fake_tee::Image;
use fake_tee::event_log::{Event, replay};
use fake_tee::hash::sha384;
use fake_tee::image::malformed::{firmwares, kernels};

use crate::{memory, must_be_printable, write_seed_files};

/// The four files that decide, and the list; by the input's first byte.
const FILES: usize = 5;
const LIST: usize = 4;
const KERNEL: usize = 1;
const METADATA: usize = 3;

/// Of all that measuring allocates: 64 sections, the names of 32 files, a message.
const FIXED_BYTES: usize = 256 << 10;
const BYTES_PER_BYTE: usize = 4;

type Contents = Vec<(String, Vec<u8>)>;

fn valid() -> &'static Contents {
    static VALID: OnceLock<Contents> = OnceLock::new();
    VALID.get_or_init(|| Image::small().contents())
}

/// Measures a release with the input as one of its files.
pub fn judge(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else {
        return;
    };
    let file = usize::from(choice) % FILES;
    if file == LIST {
        let list = memory::bounded(data.len(), FIXED_BYTES, BYTES_PER_BYTE, || {
            FileList::read(data)
        });
        match list {
            Err(error) => must_be_a_sentence(&error),
            Ok(list) => {
                assert!(list.names().count() <= 32);
                for (name, _) in list.names() {
                    assert!(!name.contains('/') && !name.starts_with('.'), "{name}");
                }
            }
        }
        return;
    }
    let mut contents = valid().clone();
    contents[file].1 = data.to_vec();
    let list = FileList::read(&fake_tee::image::list(&contents)).expect("the list is valid");
    let files: BTreeMap<&str, &[u8]> = contents
        .iter()
        .map(|(name, content)| (name.as_str(), content.as_slice()))
        .collect();
    let measured = memory::bounded(data.len(), FIXED_BYTES, BYTES_PER_BYTE, || {
        list.measure(&files)
    });
    let measured = match measured {
        Ok(measured) => measured,
        Err(error) => return must_be_a_sentence(&error),
    };
    let again = list
        .measure(&files)
        .expect("measuring again is no different");
    assert_eq!(again.policy_row("x"), measured.policy_row("x"));
    for memory in [0, 5000, 1 << 20, 1 << 30, (2816 << 20) - 1, u64::MAX] {
        if let Err(error) = measured.rtmr1_with(memory) {
            must_be_printable(&error.to_string());
        }
    }
    match file {
        KERNEL => assert_eq!(measured.rtmr1_unpatched(), rtmr1_by_hand(data)),
        METADATA => {
            must_be_printable(&measured.metadata().version);
            must_be_printable(&measured.metadata().ovmf_variant.to_string());
            let row = measured.policy_row(&measured.metadata().version);
            let policy =
                format!("name = \"own\"\nextends = \"near\"\ndate = \"2026-11-30\"\n{row}");
            Policy::from_toml(&policy).expect("the row can be read");
        }
        _ => {}
    }
}

fn must_be_a_sentence(error: &ImageError) {
    must_be_printable(&error.to_string());
    assert!(error.remedy().ends_with('.'));
}

/// RTMR1 of a kernel that is measured as it is, by a second reader.
fn rtmr1_by_hand(kernel: &[u8]) -> [u8; 48] {
    let number = |at: usize| u32::from_le_bytes(kernel[at..at + 4].try_into().unwrap()) as usize;
    let optional = number(0x3c) + 24;
    let wide = kernel[optional..optional + 2] == [0x0b, 0x02];
    let directory = optional + if wide { 144 } else { 128 };
    let end = kernel.len() - number(directory + 4);
    let mut content = kernel[..optional + 64].to_vec();
    content.extend(&kernel[optional + 68..directory]);
    content.extend(&kernel[directory + 8..end]);
    content.resize(
        content.len() + kernel.len().next_multiple_of(8) - kernel.len(),
        0,
    );
    let event = |content: &[u8]| Event::boot(1, 0, sha384(content), b"");
    let [_, rtmr1, ..] = replay(&[
        event(&content),
        event(b"Calling EFI Application from Boot Option"),
        event(&[0; 4]),
        event(b"Exit Boot Services Invocation"),
        event(b"Exit Boot Services Returned with Success"),
    ]);
    rtmr1
}

/// As [`write_seeds`](crate::write_seeds).
pub fn write_seeds() {
    write_seed_files(|| {
        let with = |file: usize, content: &[u8]| [&[file as u8], content].concat();
        let mut seeds = vec![with(LIST, &Image::small().list())];
        let mut images = vec![Image::small(), Image::small_0_6()];
        images.extend(
            firmwares()
                .into_iter()
                .chain(kernels())
                .map(|(_, image)| image),
        );
        for image in images {
            for (file, (_, content)) in image.contents().iter().take(4).enumerate() {
                let seed = with(file, content);
                if !seeds.contains(&seed) {
                    seeds.push(seed);
                }
            }
        }
        seeds
    });
}
