//! Values that name things, read from text.

use attest::{Domain, Fmspc, Nonce, Spki, UnixTime};

#[test]
fn hex_identifiers_have_exactly_their_length() {
    let text = "5a".repeat(32);
    for good in [text.clone(), format!("0x{text}"), text.to_uppercase()] {
        assert_eq!(good.parse::<Nonce>().unwrap().to_string(), text);
    }
    for bad in [
        "",
        "5a",
        &format!("{text}00"),
        &text[1..],
        &format!("{}g", &text[1..]),
    ] {
        let error = bad.parse::<Spki>().unwrap_err().to_string();
        assert!(
            error.starts_with("expected 64 hex digits (SHA-256 of a SubjectPublicKeyInfo), got "),
            "{error}"
        );
    }
    assert_eq!(
        "90C06F000000".parse::<Fmspc>().unwrap().to_string(),
        "90c06f000000"
    );
    assert_eq!(
        format!("{:?}", "90c06f000000".parse::<Fmspc>().unwrap()),
        "Fmspc(90c06f000000)"
    );
    // SHA-256 of "abc" (FIPS 180-4).
    assert_eq!(
        Spki::of_der(b"abc").to_string(),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

#[test]
fn domains_are_names_and_nothing_else() {
    for good in [
        "a.b",
        "Model-1.Completions.NEAR.ai",
        "1.example",
        &format!("{}.ai", "x".repeat(63)),
    ] {
        assert_eq!(
            good.parse::<Domain>().unwrap().as_str(),
            good.to_ascii_lowercase()
        );
    }
    let long = format!("{}ab", "a.".repeat(126));
    assert_eq!((long.len(), long.parse::<Domain>().is_err()), (254, true));
    assert!(long[1..].parse::<Domain>().is_err(), "an empty label");
    assert!(
        format!("{}a", "a.".repeat(126)).parse::<Domain>().is_ok(),
        "253 bytes"
    );
    for bad in [
        "",
        "localhost",
        ".",
        "a.",
        ".a",
        "a..b",
        "-a.b",
        "a-.b",
        "a_b.c",
        "a.b:443",
        "u@a.b",
        "a.b/c",
        "127.0.0.1",
        "1.2",
        "[::1]",
        "a.0x7f",
        "ü.ai",
        "a b.c",
        "*.a.b",
        &format!("{}.ai", "x".repeat(64)),
    ] {
        assert!(bad.parse::<Domain>().is_err(), "{bad}");
    }
}

#[test]
fn moments_are_written_as_rfc_3339() {
    assert_eq!(UnixTime(1_795_348_800).to_string(), "2026-11-22T12:00:00Z");
    assert_eq!(
        UnixTime::from_rfc3339("2026-11-22T12:00:00Z"),
        Some(UnixTime(1_795_348_800))
    );
    assert_eq!(
        UnixTime::from_rfc3339("2026-11-22T13:00:00+01:00"),
        Some(UnixTime(1_795_348_800))
    );
    for bad in [
        "",
        "2026-11-22",
        "1969-12-31T23:59:59Z",
        "2026-11-22T25:00:00Z",
    ] {
        assert_eq!(UnixTime::from_rfc3339(bad), None, "{bad}");
    }
    assert_eq!(
        UnixTime(u64::MAX).to_string(),
        format!("{} seconds after 1970", u64::MAX)
    );
    assert_eq!(UnixTime(u64::MAX).plus(1), UnixTime(u64::MAX));
    assert_eq!(UnixTime(1).plus(2), UnixTime(3));
}
