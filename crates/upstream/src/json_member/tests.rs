use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

const MAX: usize = 20;

/// The member in `pieces`.
fn search<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<String>, Fault> {
    let mut member = JsonMember::new("model", MAX);
    for piece in pieces {
        member.feed(piece)?;
    }
    member.end()?;
    Ok(member.value().map(str::to_owned))
}

fn whole(text: &str) -> Result<Option<String>, Fault> {
    let by_bytes = search(text.as_bytes().chunks(1));
    assert_eq!(search([text.as_bytes()]), by_bytes, "{text}");
    by_bytes
}

#[test]
fn the_member_is_at_the_top_level_and_once() {
    for (text, expected) in [
        (r#"{"model":"a"}"#, Some("a")),
        (" {\t\"model\"\r\n: \"a\" } \n", Some("a")),
        (
            r#"{"messages":[{"model":"no"}],"x":{"model":1},"model":"a\u002fb"}"#,
            Some("a/b"),
        ),
        (r#"{"m\u006fdel":"\ud83d\ude00\n"}"#, Some("\u{1f600}\n")),
        (r#"{"\u006d\u006f\u0064\u0065\u006c":"a"}"#, Some("a")),
        (
            r#"{"x":"model","models":"no","mode":"no","Model":"no"}"#,
            None,
        ),
        (r#"{"model":null}"#, None),
        (
            r#"{"x":[[],{},[1,-0,0.5,1e9,1E-9,-1.5e+0,true,false,null,""]]}"#,
            None,
        ),
        (r#"{"x":"\"model\":\"no\"\\","model":"a"}"#, Some("a")),
        ("{}", None),
    ] {
        assert_eq!(whole(text), Ok(expected.map(str::to_owned)), "{text}");
    }
}

#[test]
fn what_readers_could_disagree_about_is_refused() {
    for (text, fault) in [
        (r#"{"model":"a","model":"a"}"#, Fault::Twice),
        (r#"{"model":null,"mod\u0065l":"a"}"#, Fault::Twice),
        (r#"{"model":"a","x":[{}],"model""#, Fault::Twice),
        (r#"{"model":["a"]}"#, Fault::NotAString),
        (r#"{"model":{"model":"a"}}"#, Fault::NotAString),
        (r#"{"model":7}"#, Fault::NotAString),
        (r#"{"model":true}"#, Fault::NotAString),
        (r#"{"model":"aaaaaaaaaaaaaaaaaaaaa"}"#, Fault::TooLong),
        (r#"["model","a"]"#, Fault::NotAnObject),
        ("model", Fault::NotAnObject),
        (" \u{feff}{}", Fault::NotAnObject),
        ("\u{feff}\u{feff}{}", Fault::NotAnObject),
        ("\u{feff}", Fault::Syntax),
        ("\u{fec0}{}", Fault::NotAnObject),
        ("{\u{feff}}", Fault::Syntax),
        ("", Fault::Syntax),
        ("{", Fault::Syntax),
        (r#"{"model":"a""#, Fault::Syntax),
        (r#"{"model":"a"} x"#, Fault::Syntax),
        (r#"{"model":"a"}{"model":"b"}"#, Fault::Syntax),
        (r#"{"model":"a",}"#, Fault::Syntax),
        (r#"{"model" "a"}"#, Fault::Syntax),
        (r#"{,"model":"a"}"#, Fault::Syntax),
        (r#"{"x":[1,],"model":"a"}"#, Fault::Syntax),
        (r#"{"x":[1},"model":"a"}"#, Fault::Syntax),
        (r#"{"x":01}"#, Fault::Syntax),
        (r#"{"x":1.}"#, Fault::Syntax),
        (r#"{"x":.1}"#, Fault::Syntax),
        (r#"{"x":+1}"#, Fault::Syntax),
        (r#"{"x":-}"#, Fault::Syntax),
        (r#"{"x":1e}"#, Fault::Syntax),
        (r#"{"x":NaN}"#, Fault::Syntax),
        (r#"{"x":nul}"#, Fault::Syntax),
        (r#"{"x":truee}"#, Fault::Syntax),
        (r#"{'model':"a"}"#, Fault::Syntax),
        (r#"{/**/"model":"a"}"#, Fault::Syntax),
        ("{\"x\":\"\n\"}", Fault::Syntax),
        (r#"{"x":"\x"}"#, Fault::Syntax),
        (r#"{"x":"\u12g4"}"#, Fault::Syntax),
        (r#"{"model":"\ud83d"}"#, Fault::Syntax),
    ] {
        assert_eq!(whole(text), Err(fault), "{text}");
    }
    assert_eq!(search([&b"{\"mod\xffl\":1}"[..]]), Err(Fault::Syntax));
}

#[test]
fn a_mark_of_utf_8_is_no_part_of_the_text() {
    let found = whole("\u{feff}{\"model\":\"a\"}");
    assert_eq!(found, Ok(Some("a".to_owned())));
    assert_eq!(whole("\u{feff} \n{}"), Ok(None));
    // And none of what a member says.
    let found = whole("{\"model\":\"\u{feff}a\"}");
    assert_eq!(found, Ok(Some("\u{feff}a".to_owned())));
}

#[test]
fn other_encodings_are_named() {
    let ascii = b"{\"model\":\"a\"}";
    let wide = |before: &[u8], width: usize, at: usize| {
        let mut bytes = before.to_vec();
        for byte in ascii {
            let mut unit = vec![0; width];
            unit[at] = *byte;
            bytes.extend(unit);
        }
        bytes
    };
    for (before, width, at) in [
        (&b"\xff\xfe"[..], 2, 0),
        (b"\xfe\xff", 2, 1),
        (b"\xff\xfe\0\0", 4, 0),
        (b"\0\0\xfe\xff", 4, 3),
        (b"", 2, 0),
        (b"", 2, 1),
        (b"", 4, 0),
        (b"", 4, 3),
    ] {
        let bytes = wide(before, width, at);
        assert_eq!(search([&bytes[..]]), Err(Fault::NotUtf8), "{bytes:?}");
        assert_eq!(search(bytes.chunks(1)), Err(Fault::NotUtf8), "{bytes:?}");
    }
    for text in ["\0", "{\"x\":{\0}}", "{\"x\":\0}"] {
        assert!(whole(text).is_err(), "{text:?}");
    }
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| {
        let (open, close) = ("[{\"x\":".repeat(depth), "}]".repeat(depth));
        format!("{{\"x\":{open}0{close},\"model\":\"a\"}}")
    };
    assert_eq!(whole(&nested(511)), Ok(Some("a".to_owned())));
    assert_eq!(whole(&nested(512)), Err(Fault::TooDeep));
    assert_eq!(whole(&nested(100_000)), Err(Fault::TooDeep));
}

#[test]
fn a_value_is_measured_unescaped() {
    let of = |text: &str| whole(&format!("{{\"model\":\"{text}\"}}"));
    assert_eq!(of(&"\\u0061".repeat(MAX)), Ok(Some("a".repeat(MAX))));
    assert_eq!(of(&"\\n".repeat(MAX + 1)), Err(Fault::TooLong));
    assert_eq!(of(&"a".repeat(10 << 20)), Err(Fault::TooLong));
}

/// serde_json's reading. It refuses nothing that this parser accepts: keys are text, and a
/// known key is given once.
fn by_serde(text: &[u8]) -> Result<Option<String>, ()> {
    let text = text.strip_prefix(MARK).unwrap_or(text);
    #[derive(serde::Deserialize)]
    struct Object {
        model: Option<String>,
    }
    // serde reads a struct from an array too.
    let first = text.iter().find(|byte| !b" \t\n\r".contains(byte));
    if first != Some(&b'{') {
        return Err(());
    }
    let Object { model } = serde_json::from_slice(text).map_err(|_| ())?;
    match model {
        Some(model) if model.len() > MAX => Err(()),
        model => Ok(model),
    }
}

fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => "[a-z \\[\\]{}:,]{0,9}",
        1 => Just("model".to_owned()),
        1 => Just("m\\u006fdel".to_owned()),
        1 => Just("\\\"".to_owned()),
        1 => Just("\\\\".to_owned()),
        1 => Just("\\u00e9\\ud83d\\ude00\u{e9}".to_owned()),
    ];
    piece.prop_map(|text| format!("\"{text}\""))
}

fn document() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        string(),
        prop_oneof!["0", "-1", "7.25", "1e3", "null", "true", "false"].prop_map(|leaf| leaf),
        (-1e9..1e9).prop_map(|number: f64| number.to_string()),
    ];
    let space = || prop_oneof![4 => Just(""), 1 => Just(" \n")];
    let value = leaf.prop_recursive(6, 40, 6, move |inner| {
        let members = (space(), string(), space(), inner.clone())
            .prop_map(|(a, key, b, value)| format!("{a}{key}{b}:{a}{value}{b}"));
        prop_oneof![
            proptest::collection::vec(inner, 0..6).prop_map(|all| format!("[{}]", all.join(","))),
            proptest::collection::vec(members, 0..6)
                .prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    });
    let member = (string(), value).prop_map(|(key, value)| format!("{key}:{value}"));
    let mark = prop_oneof![3 => Just(""), 1 => Just("\u{feff}")];
    (mark, proptest::collection::vec(member, 0..6))
        .prop_map(|(mark, all)| format!("{mark}{{{}}}", all.join(",")))
}

/// `text` cut into pieces.
fn pieces<'a>(text: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn documents_are_read_as_serde_json_reads_them(
        text in document(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let found = search(pieces(text.as_bytes(), &cuts));
        prop_assert_eq!(found.map_err(|_| ()), by_serde(text.as_bytes()));
    }

    #[test]
    fn so_are_mutated_ones(
        text in document(),
        at in any::<prop::sample::Index>(),
        with in prop_oneof![Just(b'"'), Just(b'\\'), Just(b'{'), Just(b'}'), Just(b','), Just(b':'), Just(b'0'), 0..0x7f_u8],
        how in 0..3,
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        match how {
            0 => bytes[at] = with,
            1 => bytes.insert(at, with),
            _ => drop(bytes.remove(at)),
        }
        // A cut inside a character: serde_json minds it in known members only.
        prop_assume!(std::str::from_utf8(&bytes).is_ok());
        let found = search(pieces(&bytes, &cuts));
        let unmarked = bytes.strip_prefix(MARK).unwrap_or(&bytes);
        let valid = serde_json::from_slice::<&RawValue>(unmarked).is_ok();
        match by_serde(&bytes) {
            Ok(expected) => prop_assert_eq!(found, Ok(expected)),
            // Half a surrogate pair in a key that is not the name.
            Err(()) if valid && found == Ok(None) => {
                prop_assert!(String::from_utf8_lossy(&bytes).contains("\\ud"));
            }
            Err(()) => prop_assert!(found.is_err()),
        }
    }

    #[test]
    fn any_bytes_in_any_pieces_end_alike(
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        prop_assert_eq!(search(pieces(&bytes, &cuts)), search([bytes.as_slice()]));
    }
}
