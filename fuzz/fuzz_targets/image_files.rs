//! Any bytes as firmware, kernel, initrd or metadata of a release, or as the list of its
//! files.

#![no_main]

use attest_fuzz::image::{judge, write_seeds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: write_seeds(), |data: &[u8]| judge(data));
