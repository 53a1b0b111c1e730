//! Any bytes as the list of a repository's tags, in both forms that git has.

#![no_main]

use attest_fuzz::tags::{advertisement, ls_remote, write_seeds};
use fake_tee::tags::{self, PublishedTag};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: write_seeds(|| {
        let tag = |name: &str, object: Option<&str>| PublishedTag {
            name: name.to_owned(),
            commit: "1".repeat(40),
            object: object.map(str::to_owned),
        };
        let object = "2".repeat(40);
        let list = [tag("v1.0.0", None), tag("v1.0.1", Some(&object)), tag("a/b", None)];
        [
            tags::advertisement(&list),
            tags::ls_remote(&list),
            tags::advertisement(&[]),
            tags::packet("# service=git-upload-pack\n") + "00000000",
        ]
        .map(String::into_bytes)
        .to_vec()
    }),
    |data: &[u8]| {
        advertisement(data);
        ls_remote(data);
    }
);
