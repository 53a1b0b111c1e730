use proptest::prelude::*;

use super::*;

const TYPE: &str = "multipart/form-data; boundary=\"b\"";

/// The model in `pieces`.
fn search<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<String>, Content> {
    let mut form = Form::new(TYPE)?;
    for piece in pieces {
        form.feed(piece)?;
    }
    form.end()?;
    Ok(form.model().map(str::to_owned))
}

fn whole(text: &str) -> Result<Option<String>, Content> {
    let by_bytes = search(text.as_bytes().chunks(1));
    assert_eq!(search([text.as_bytes()]), by_bytes, "{text}");
    by_bytes
}

fn part(header: &str, content: &str) -> String {
    format!("--b\r\n{header}\r\n\r\n{content}\r\n")
}

const MODEL: &str = "Content-Disposition: form-data; name=\"model\"";
const FILE: &str =
    "content-disposition: form-data; name=\"file\"; filename=\"a\"\r\nContent-Type: audio/wav";

#[test]
fn the_field_may_stand_anywhere() {
    let file = part(FILE, "\r\n--\r\n--a\r\nname=\"model\"\r\n\r\nx-b- x");
    let model = part(MODEL, "a/b");
    for (text, expected) in [
        (format!("{model}{file}--b--"), Some("a/b")),
        (format!("{file}{model}--b--\r\n"), Some("a/b")),
        // The epilogue need not be a line.
        (format!("{model}--b--{}", "x".repeat(500)), Some("a/b")),
        (
            format!("preamble\r\n{file}{file}{model}--b-- \r\nepilogue\r\n--b\r\n"),
            Some("a/b"),
        ),
        (format!("{file}--b--"), None),
        (format!("--b \t\r\n{MODEL}\r\n\r\na\r\n--b--"), Some("a")),
        (format!("{}--b--", part(MODEL, "")), Some("")),
        (format!("--b\r\n\r\nno header\r\n{model}--b--"), Some("a/b")),
        (
            format!(
                "{}--b--",
                part("X: y\r\nCONTENT-DISPOSITION: form-data; x; NAME=model", "a")
            ),
            Some("a"),
        ),
        (format!("{}--b--", part(&format!("X: {MODEL}"), "a")), None),
        ("--b--".to_owned(), None),
    ] {
        assert_eq!(whole(&text), Ok(expected.map(str::to_owned)), "{text}");
    }
}

#[test]
fn what_readers_could_disagree_about_is_refused() {
    let model = part(MODEL, "a");
    for (text, fault) in [
        (format!("{model}{model}--b--"), TWICE),
        (
            format!("{model}{}--b--", part(FILE, "x")).replace("name=\"file\"", "name=\"model\""),
            NOT_TEXT,
        ),
        (
            format!("{}--b--", part(&format!("{MODEL}; filename=\"x\""), "a")),
            NOT_TEXT,
        ),
        (
            format!(
                "{}--b--",
                part(&format!("{MODEL}; filename*=utf-8''x"), "a")
            ),
            NOT_TEXT,
        ),
        (
            format!(
                "{}--b--",
                part(
                    &format!("{MODEL}\r\nContent-Transfer-Encoding: base64"),
                    "a"
                )
            ),
            NOT_TEXT,
        ),
        (
            format!("{}--b--", part(&format!("{MODEL}; name=\"x\""), "a")),
            TWO_NAMES,
        ),
        (
            format!("{}--b--", part(&format!("{MODEL}\r\n{MODEL}"), "a")),
            NOT_A_FORM,
        ),
        (format!("{}--b--", part("no colon", "a")), NOT_A_FORM),
        (format!("{}--b--", part(MODEL, &"a".repeat(201))), TOO_LONG),
        (
            format!("{}--b--", part(&format!("X: {}", "x".repeat(5_000)), "a")),
            TOO_LONG,
        ),
        (format!("--b{}\r\n", " ".repeat(200)), TOO_LONG),
        (format!("{model}--bc\r\n"), NOT_A_FORM),
        (model.clone(), NOT_A_FORM),
        (format!("{model}--b\r\n"), NOT_A_FORM),
        (
            format!("{}--b--", part(MODEL, "a").replace("\r\n", "\n")),
            NOT_A_FORM,
        ),
        (String::new(), NOT_A_FORM),
    ] {
        assert_eq!(whole(&text), Err(fault), "{text}");
    }
    let bytes = [&b"--b\r\n"[..], MODEL.as_bytes(), b"\r\n\r\n\xff\r\n--b--"].concat();
    assert_eq!(search([&bytes[..]]), Err(NOT_TEXT));
    assert_eq!(
        whole(&format!("{}--b--", part(MODEL, &"a".repeat(200)))),
        Ok(Some("a".repeat(200)))
    );
}

/// Each has the model `a` to this parser, and another one to Starlette, werkzeug or multer.
#[test]
fn a_second_model_that_only_others_see_is_refused() {
    let model = part(MODEL, "a");
    let second = |header: &str| format!("{model}{}--b--", part(header, "b"));
    for text in [
        second("Content-Disposition: form-data; x=\"a\\\\\"; y=\"; name=model; z=\""),
        second("Content-Disposition: form-data; x=a\"; y=\"; name=model; z=\""),
        second("Content-Disposition: form-data; filename=\"x; name=model; y\"; name=\"x\""),
        second("Content-Disposition: form-data; name=\"x\"; name*=utf-8''model"),
        second("Content-Disposition: form-data, name=\"model\""),
        second("Content-Disposition: name=\"model\""),
        second("Content-Disposition: attachment; name=\"model\""),
        second("Content-Disposition: form-data; name=\"mo\\del\""),
        second("Content-Disposition: form-data; filename=\"\\\"; name=%6dodel; x=\"\\\""),
        second("Content-Disposition: form-data; name*0=\"mo\"; name*1=\"del\""),
        second("Content-Disposition: form-data; name==?utf-8?b?bW9kZWw=?=; x=\"\\\""),
    ] {
        assert_eq!(whole(&text), Err(TWO_NAMES), "{text}");
    }
    for text in [
        second(&format!(
            "Content-Disposition: form-data; name=\"x\"\n\n{MODEL}"
        )),
        second(&format!("X: y\n{MODEL}")),
        // A delimiter after a bare LF, in the middle of a line, in place of content.
        format!("{model}--b\r\n{FILE}\r\n\r\nx\n--b\n{MODEL}\n\nb\n--b\n\r\n--b--"),
        format!("{model}--b\r\n{FILE}\r\n\r\nx--b\r\n{MODEL}\r\n\r\nb\r\n--b--"),
        format!("{model}--b\r\n{FILE}\r\n\r\n--b\r\n{MODEL}\r\n\r\nb\r\n--b--"),
        format!("preamble--b\r\n{MODEL}\r\n\r\nb\r\n{model}--b--"),
    ] {
        assert_eq!(whole(&text), Err(NOT_A_FORM), "{text}");
    }
}

/// Names of RFC 7578 §4.2 and RFC 6266, as browsers, curl, Go, Java and Python write them.
#[test]
fn a_file_has_any_name() {
    for file in [
        "filename=\"\"",
        "filename=\"a b; c, d=e.wav\"",
        "filename=\"a\\\"b\\\".wav\"",
        "filename=\"C:\\new\\a.wav\"",
        "filename=\"ends with\\\"",
        "filename=\"\\\\\"",
        "filename=\"my name=x; name=y.wav\"",
        "filename=\"f\u{fc}r \u{201e}Elise\u{201c}.wav\"",
        "filename=f\u{fc}r.wav",
        "filename=\"a%22b.wav\"",
        "filename*=UTF-8''f%C3%BCr%20Elise.wav",
        "filename=\"fur.wav\"; filename*=UTF-8''f%C3%BCr.wav",
        "filename*0=\"long\"; filename*1=\" name.wav\"",
        "filename=\"<a>.wav\"; size=7",
        "filename=\"models/llama.wav\"",
    ] {
        let header = format!("Content-Disposition: form-data; name=\"file\"; {file}");
        let text = format!("{}{}--b--", part(&header, "x"), part(MODEL, "a"));
        assert_eq!(whole(&text), Ok(Some("a".to_owned())), "{file}");
        // The same on the field would be a file to other parsers.
        let text = format!("{}--b--", part(&format!("{MODEL}; {file}"), "a"));
        assert!(whole(&text).is_err(), "{file}");
    }
    let attached = "Content-Disposition: attachment; filename=\"a.wav\"";
    let text = format!("{}{}--b--", part(attached, "x"), part(MODEL, "a"));
    assert_eq!(whole(&text), Ok(Some("a".to_owned())));
}

#[test]
fn the_field_is_text_as_it_stands() {
    let with = |lines: &str| whole(&format!("{}--b--", part(&format!("{MODEL}{lines}"), "a")));
    for lines in [
        "\r\nContent-Transfer-Encoding: binary\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Length: 1",
        "\r\nContent-Type: text/plain; charset=ISO-8859-1\r\nContent-Transfer-Encoding: 8bit",
        "\r\ncontent-transfer-encoding: 7BIT",
        "\r\nContent-Transfer-Encoding: Binary\t",
        "\r\nContent-Transfer-Encoding:",
        "\r\nContent-Type: application/octet-stream",
    ] {
        assert_eq!(with(lines), Ok(Some("a".to_owned())), "{lines}");
    }
    for lines in [
        "\r\nContent-Transfer-Encoding: base64",
        "\r\nContent-Transfer-Encoding: quoted-printable",
        "\r\nContent-Transfer-Encoding: x-uuencode",
        "\r\nContent-Transfer-Encoding: 8bit (really)",
        "\r\nContent-Transfer-Encoding: 8bit, base64",
        "\r\nContent-Transfer-Encoding: 8bit\r\nContent-Transfer-Encoding: base64",
        "\r\nContent-Type: text/plain; charset=utf-7",
        "\r\nContent-Type: text/plain; charset=utf-16",
        "\r\nContent-Type: text/plain\r\nContent-Type: text/plain; charset=utf-7",
    ] {
        assert_eq!(with(lines), Err(NOT_TEXT), "{lines}");
    }
    // What a file is encoded in is its own.
    let file = part(&format!("{FILE}\r\nContent-Transfer-Encoding: base64"), "x");
    let text = format!("{file}{}--b--", part(MODEL, "a"));
    assert_eq!(whole(&text), Ok(Some("a".to_owned())));
}

#[test]
fn a_boundary_is_needed() {
    let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
    for content_type in [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=a; boundary*=utf-8''b",
        "multipart/form-data; boundary=a,b",
        &long,
    ] {
        assert!(Form::new(content_type).is_err(), "{content_type}");
    }
}

#[test]
fn little_is_kept_of_a_large_file() {
    let mut form = Form::new(TYPE).unwrap();
    form.feed(format!("--b\r\n{FILE}\r\n\r\n").as_bytes())
        .unwrap();
    for piece in [&b"\r\n--"[..], &[b'\r'; 1 << 20], b"\r\n--a", &[0; 77]] {
        for _ in 0..3 {
            form.feed(piece).unwrap();
            assert!(form.pending.len() < 32, "{}", form.pending.len());
        }
    }
}

/// The parameter `name` as parsers of other kinds read it: by the grammar with its escapes, by
/// counting quotes, by the text alone, by the grammar without escapes.
fn names_by_others(disposition: &str) -> Vec<String> {
    let mut names = Vec::new();
    for escapes in [true, false] {
        let (mut quoted, mut escaped, mut parts) = (false, false, vec![String::new()]);
        for c in disposition.chars() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted && escapes => {
                    escaped = true;
                    continue;
                }
                '"' => {
                    quoted = !quoted;
                    continue;
                }
                ';' if !quoted => {
                    parts.push(String::new());
                    continue;
                }
                _ => {}
            }
            // A blank between quotes is part of the name.
            let c = if quoted && c == ' ' { '_' } else { c };
            parts.last_mut().unwrap().push(c);
        }
        let named = parts.iter().filter_map(|part| part.split_once('='));
        names.extend(
            named
                .filter(|(name, _)| name.trim().eq_ignore_ascii_case("name"))
                .map(|(_, value)| value.trim().to_owned()),
        );
    }
    for (at, text) in disposition.match_indices("name=") {
        let (before, rest) = (&disposition[..at], &disposition[at + text.len()..]);
        if !before.ends_with([' ', ';', '"', '=']) {
            continue;
        }
        let value = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next(),
            None => rest.split([';', ' ']).next(),
        };
        names.extend(value.map(str::to_owned));
    }
    names
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// If this parser takes a part for another one, no other parser takes it for the model.
    #[test]
    fn no_parser_finds_a_model_that_is_not_seen(
        pieces in proptest::collection::vec(prop_oneof![
            Just("model"), Just("mo"), Just("del"), Just("name="), Just("filename="), Just("\""),
            Just("\\"), Just(";"), Just(" "), Just("x"), Just("="), Just("*"),
        ], 0..14),
    ) {
        let disposition = format!("form-data; {}", pieces.concat());
        let header = format!("Content-Disposition: {disposition}");
        let seen = whole(&format!("{}--b--", part(&header, "a")));
        if seen == Ok(None) {
            let names = names_by_others(&disposition);
            prop_assert!(!names.iter().any(|name| name == "model"), "{disposition} {names:?}");
        }
    }

    #[test]
    fn any_pieces_are_read_alike(
        contents in proptest::collection::vec("[\r\nb-]{0,12}", 1..5),
        model in 0..6_usize,
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut text = String::new();
        for (index, content) in contents.iter().enumerate() {
            // No content contains the delimiter.
            let content = content.replace("--b", "--c");
            text += &part(if index == model { MODEL } else { FILE }, &content);
        }
        text += "--b--\r\n";
        let bytes = text.as_bytes();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
        let expected = contents.get(model).map(|content| content.replace("--b", "--c"));
        prop_assert_eq!(search(pieces), Ok(expected));
    }
}
