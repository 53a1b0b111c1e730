//! Documents that are generated from code, and compared with it ever after.

use std::path::Path;

#[test]
fn the_codes_are_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/codes.md");
    let text = proxy::codes::document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == text,
        "docs/codes.md is out of date: run scripts/docs"
    );
}
