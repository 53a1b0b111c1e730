//! Strings out of evidence: read as hex, or shown to a person, always bounded.

/// The longest piece of foreign text that a message repeats.
const SHOWN_CHARS: usize = 160;

/// Foreign text of a known length, with everything but printable ASCII escaped.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            ' '..='~' => out.push(c),
            _ => out.extend(c.escape_unicode()),
        }
    }
    out
}

/// Foreign text as a person may see it: bounded, and with everything but
/// printable ASCII escaped, so that it can neither move a terminal's cursor nor
/// reorder a line.
pub(crate) fn shown(text: &str) -> String {
    let end = text.char_indices().nth(SHOWN_CHARS);
    match end.and_then(|(end, _)| text.get(..end)) {
        Some(first) => escaped(first) + "...",
        None => escaped(text),
    }
}

/// As [`shown`], in quotation marks, for a value inside a sentence that it
/// cannot end.
pub(crate) fn quoted(text: &str) -> String {
    let inner = shown(text).replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{inner}\"")
}

/// The error of a value that is not what it should be.
pub(crate) fn expected(what: impl std::fmt::Display, got: &str) -> String {
    format!("expected {what}, got {}", quoted(got))
}

/// A value that files have as a text: `Display` writes it, and a function from `&str`
/// reads it.
macro_rules! as_text {
    ($(const $len:ident:)? $name:ty, $read:expr) => {
        impl $(<const $len: usize>)? serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de $(, const $len: usize)?> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                ($read)(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use as_text;

/// Foreign hex of any length; only the beginning if it is long.
pub(crate) fn shown_hex(bytes: &[u8]) -> String {
    shown(&hex::encode(bytes))
}

/// Decodes hex with or without `0x`, in either case, of exactly `LEN` bytes.
pub(crate) fn hex_array<const LEN: usize>(text: &str) -> Option<[u8; LEN]> {
    let mut out = [0; LEN];
    hex::decode_to_slice(without_prefix(text), &mut out).ok()?;
    Some(out)
}

/// Decodes hex with or without `0x`, in either case.
pub(crate) fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    hex::decode(without_prefix(text)).ok()
}

fn without_prefix(text: &str) -> &str {
    text.strip_prefix("0x").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_text_is_bounded_and_printable() {
        let hostile = "\u{1b}[2J\u{202e}\n\0".repeat(500);
        let seen = shown(&hostile);
        assert!(seen.chars().all(|c| (' '..='~').contains(&c)));
        assert!(seen.len() < SHOWN_CHARS * 11);
        assert_eq!(shown("plain text"), "plain text");
        assert_eq!(shown("\u{1b}[2J"), "\\u{1b}[2J");
    }

    #[test]
    fn quoted_text_cannot_end_its_sentence() {
        assert_eq!(quoted("a\", \"b"), r#""a\", \"b""#);
        assert_eq!(quoted("\\"), r#""\\""#);
    }

    #[test]
    fn hex_takes_either_case_and_prefix_but_exact_length() {
        assert_eq!(hex_array::<2>("0xAbcD"), Some([0xab, 0xcd]));
        assert_eq!(hex_array::<2>("abcd"), Some([0xab, 0xcd]));
        assert_eq!(hex_array::<2>("abc"), None);
        assert_eq!(hex_array::<2>("abcdef"), None);
        assert_eq!(hex_array::<2>("0x0xabcd"), None);
        assert_eq!(hex_array::<2>("+bcd"), None);
    }
}
