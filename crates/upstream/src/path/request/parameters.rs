//! Parameters of a header's value: `form-data; name="model"` (RFC 9110 §5.6.6).
//!
//! Parsers disagree on where a value ends and on its name: Python's `email` counts quotes,
//! multer searches for the text ` name=` anywhere, others know no escapes or decode `name*`
//! (RFC 8187). A value on which they could disagree is [`Ambiguous`]; so no escapes are left to
//! resolve. [`may_spell`] says whether that matters.

/// Given twice, or in a way that parsers read differently.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ambiguous;

/// White space around names and values (RFC 9110 §5.6.3), and no other character.
const BLANK: [char; 2] = [' ', '\t'];

/// The value before its parameters, in lower case.
pub(super) fn main_value(header: &str) -> String {
    let value = header.split(';').next().unwrap_or_default();
    value.trim_matches(BLANK).to_ascii_lowercase()
}

/// The parameter with this name, unquoted.
pub(super) fn parameter(header: &str, name: &str) -> Result<Option<String>, Ambiguous> {
    // An escaped quote, or an escape before the closing quote.
    if header.contains("\\\"") {
        return Err(Ambiguous);
    }
    let mut found = None;
    let mut rest = header.split_once(';').map(|(_, rest)| rest);
    while let Some(text) = rest {
        let end = text.find(['=', ';']).unwrap_or(text.len());
        let (this, after) = text.split_at(end);
        let this = this.trim_matches(BLANK);
        if !this.chars().all(is_plain) {
            return Err(Ambiguous);
        }
        let Some(after) = after.strip_prefix('=') else {
            rest = after.strip_prefix(';');
            continue;
        };
        let (value, after) = value(after)?;
        rest = after;
        if is_extended(this, name) || mentions(value, name) {
            return Err(Ambiguous);
        }
        if this.eq_ignore_ascii_case(name)
            && (value.contains('\\') || found.replace(value.to_owned()).is_some())
        {
            return Err(Ambiguous);
        }
    }
    Ok(found)
}

/// True unless text may be read in a charset that gives bytes of ASCII another meaning: in
/// UTF-7 `+AG0-odel` is `model`. Starlette decodes names of fields in the charset of the form's
/// type, aiohttp JSON in that of its own, werkzeug a field in that of the part.
pub(super) fn has_ascii_charset(content_type: &str) -> bool {
    match parameter(content_type, "charset") {
        Ok(None) => true,
        Ok(Some(charset)) => ["utf-8", "utf8", "us-ascii", "iso-8859-1"]
            .iter()
            .any(|known| charset.eq_ignore_ascii_case(known)),
        Err(Ambiguous) => false,
    }
}

/// A token or a quoted string, and what follows the next semicolon.
fn value(text: &str) -> Result<(&str, Option<&str>), Ambiguous> {
    let text = text.trim_start_matches(BLANK);
    let (value, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or(Ambiguous)?,
        None => {
            let (value, rest) = text.split_at(text.find(';').unwrap_or(text.len()));
            let value = value.trim_matches(BLANK);
            if !value.chars().all(is_plain) {
                return Err(Ambiguous);
            }
            (value, rest)
        }
    };
    let rest = rest.trim_start_matches(BLANK);
    match rest.strip_prefix(';') {
        None if !rest.is_empty() => Err(Ambiguous),
        rest => Ok((value, rest)),
    }
}

/// Characters that every parser takes literally outside quotes. Tokens allow fewer, but
/// boundaries are sent unquoted. Python's `email` strips `<>`.
fn is_plain(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '<' | '>' | ',')
}

/// `name*`, or `name*0` (RFC 2231).
fn is_extended(this: &str, name: &str) -> bool {
    let (base, star) = this.split_at(this.find('*').unwrap_or(this.len()));
    !star.is_empty() && base.eq_ignore_ascii_case(name)
}

/// True if a parser that searches for the text finds it inside another value.
fn mentions(value: &str, name: &str) -> bool {
    value.to_ascii_lowercase().contains(&format!("{name}="))
}

/// True if some parser could find `word`, which is in lower case, as a value in this header.
/// It errs on the side of true.
pub(super) fn may_spell(header: &str, word: &str) -> bool {
    let lower = header.to_ascii_lowercase();
    // Text in pieces (RFC 2231 `name*0`), in percents (RFC 8187 `name*`), in base64 (RFC 2047).
    let extended = lower.matches("name*").count() > lower.matches("filename*").count();
    if extended || lower.contains("=?") {
        return true;
    }
    // Escapes, quotes and what else a parser may drop.
    let spells = |text: &[u8]| {
        let letters: Vec<u8> = text
            .iter()
            .copied()
            .filter(u8::is_ascii_alphabetic)
            .collect();
        memchr::memmem::find(&letters, word.as_bytes()).is_some()
    };
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(&lower).collect();
    spells(lower.as_bytes()) || spells(&decoded.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_unquoted_and_unique() {
        let get = |header: &str| parameter(header, "name").map(Option::unwrap_or_default);
        for (header, expected) in [
            ("form-data; name=\"model\"", "model"),
            ("form-data;NAME=model;x=y", "model"),
            (
                "form-data; filename=\"C:\\x; no=1, ü\"; name = \"a b;c\" ; x",
                "a b;c",
            ),
            ("form-data; flag; name=x", "x"),
            ("form-data;; name=x;", "x"),
            ("form-data; name=a=/:b", "a=/:b"),
            ("form-data", ""),
            ("name=model", ""),
            ("form-data; filename*=utf-8''x; filename=\"name\"", ""),
        ] {
            assert_eq!(get(header).as_deref(), Ok(expected), "{header}");
        }
        assert_eq!(
            main_value(" Multipart/Form-Data ; x"),
            "multipart/form-data"
        );
    }

    #[test]
    fn a_word_that_some_parser_may_find() {
        for header in [
            "form-data; filename=\"model\"",
            "form-data; x=\"MODEL\"",
            "form-data; name=mo\\del",
            "form-data; name=\"mo\"del",
            "form-data; name=\"mo\\\"del\"",
            "form-data; x=%6dodel",
            "form-data; x=%6D%6Fdel",
            "form-data; x=\"demo delta\"",
            "form-data; name*0=mo; name*1=del",
            "form-data; filename*=x; name*=y",
            "form-data; x==?utf-8?b?bW9kZWw=?=",
        ] {
            assert!(may_spell(header, "model"), "{header}");
        }
        for header in [
            "attachment; filename=\"a.wav\"",
            "form-data; name=\"file\"; filename=\"a\\\"b.wav\"",
            "form-data; name=\"file\"; filename*=UTF-8''%e2%82%ac.wav; filename=\"my name=x\"",
            "form-data; name=mode; filename=\"l\"",
        ] {
            assert!(!may_spell(header, "model"), "{header}");
        }
    }

    #[test]
    fn a_charset_leaves_ascii_as_it_is() {
        for (content_type, expected) in [
            ("text/plain", true),
            ("text/plain; charset=UTF-8", true),
            ("text/plain; charset=\"iso-8859-1\"", true),
            ("text/plain; charset=us-ascii; x=y", true),
            ("text/plain; charset=utf-7", false),
            ("text/plain; charset=utf-16", false),
            ("text/plain; charset=IBM037", false),
            ("text/plain; charset=", false),
            ("text/plain; charset=utf-8; charset=utf-7", false),
            ("text/plain; charset*=utf-8''utf-7", false),
        ] {
            assert_eq!(has_ascii_charset(content_type), expected, "{content_type}");
        }
    }

    #[test]
    fn what_readers_take_for_different_parameters_is_refused() {
        for header in [
            "form-data; name=a; name=a",
            "form-data; name=\"a",
            "form-data; name=\"a\\",
            "form-data; name=\"a\"b; x=y",
            // Python's email finds the name in each of these.
            "form-data; x=\"a\\\\\"; y=\"; name=model; z=\"",
            "form-data; x=a\"; y=\"; name=model; z=\"",
            "form-data; \"; y=\"; name=model; z=\"",
            "form-data; name=<model>",
            // multer does.
            "form-data; filename=\"x; name=model; y\"; name=\"x\"",
            "form-data; filename=\"x NAME=model\"",
            "form-data; name=\"x name=model\"",
            // werkzeug does.
            "form-data; name=\"x\"; name*=utf-8''model",
            "form-data; name*0=\"mo\"; Name*1=\"del\"",
            "form-data; name=\"\\model\"",
            // Not white space to every parser.
            "form-data; name\u{a0}=\"model\"",
            "form-data; name=\"model\"\u{a0}",
            "form-data; name=model\u{a0}",
            "form-data; x=a, name=model",
        ] {
            assert_eq!(parameter(header, "name"), Err(Ambiguous), "{header}");
        }
    }
}
