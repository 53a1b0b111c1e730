//! Sources, places, and room.

use attest::CommitId;

use super::*;

fn file(path: &str) -> ComposeFile {
    ComposeFile {
        file: path.to_owned(),
        tag: "v0.0.1".to_owned(),
        commit: CommitId::from_bytes([0x42; 20]),
        sha256: digest_of(path.as_bytes()),
    }
}

#[test]
fn sources_are_urls_or_off() {
    assert_eq!("off".parse(), Ok(ComposeSource::Off));
    for text in ["https://files.example/a/b", "http://127.0.0.1:1/compose/"] {
        let base = text.parse().unwrap();
        assert_eq!(text.parse(), Ok(ComposeSource::Repository(base)));
    }
    for text in [
        "",
        "OFF",
        "http://files.example/",
        "https://files.example/?commit=",
        "https://files.example/#",
    ] {
        assert!(text.parse::<ComposeSource>().is_err(), "{text}");
    }
}

#[test]
fn places_are_below_the_base() {
    let base: FetchUrl = "https://files.example/owner/repository/".parse().unwrap();
    let place = |path: &str| place_of(&base, &file(path)).map(|url| url.to_string());
    let below = format!(
        "https://files.example/owner/repository/{}/",
        "42".repeat(20)
    );
    for path in ["a.yaml", "prod/a.yaml", "prod/..a/b+c_d-1.yaml"] {
        assert_eq!(place(path), Some(format!("{below}{path}")));
    }
    for path in [
        "",
        "/a.yaml",
        "a//b.yaml",
        "a/",
        ".",
        "../a.yaml",
        "a/../../../b.yaml",
        "a/./b.yaml",
        "%2e%2e/a.yaml",
        "a.yaml?x=1",
        "a.yaml#x",
        "a\\b.yaml",
        "a b.yaml",
        "a\r\nHost: evil.example",
        "\u{fc}.yaml",
    ] {
        assert_eq!(place(path), None, "{path:?}");
    }
}

#[test]
fn room_is_made_but_not_at_the_log_s_own_cost() {
    let mut at_hand = AtHand::default();
    let add = |at_hand: &mut AtHand, number: usize| {
        let text = format!("services: {{a: {{image: x{number}}}}}");
        let digest = Arc::make_mut(&mut at_hand.files).insert("a.yaml", text.as_bytes());
        at_hand.sizes.insert(digest, text.len());
        ComposeFile {
            sha256: digest,
            ..file("a.yaml")
        }
    };
    let first = add(&mut at_hand, 0);
    for number in 1..MAX_FILES {
        add(&mut at_hand, number);
    }
    assert!(at_hand.make_room(&[&first]));
    assert_eq!(at_hand.files.len(), MAX_FILES);
    add(&mut at_hand, MAX_FILES);
    let snapshot = Arc::clone(&at_hand.files);
    assert!(at_hand.make_room(&[&first]));
    assert_eq!(at_hand.files.len(), 1);
    assert!(at_hand.files.contains(&first.sha256));
    // A verdict under way keeps what it judges by.
    assert_eq!(snapshot.len(), MAX_FILES + 1);
    *at_hand.sizes.get_mut(&first.sha256).unwrap() = MAX_BYTES + 1;
    assert!(!at_hand.make_room(&[&first]), "a log that names too much");
    assert!(at_hand.make_room(&[]));
    assert!(at_hand.files.is_empty() && at_hand.sizes.is_empty());
}
