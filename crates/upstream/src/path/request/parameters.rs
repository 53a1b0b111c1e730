//! Parameters of a header's value: `form-data; name="model"` (RFC 9110 §5.6.6).
//!
//! Parsers disagree on where a value ends and on its name: Python's `email` counts quotes,
//! multer searches for the text ` name=` anywhere, others know no escapes or decode `name*`
//! (RFC 8187). A value on which they could disagree is refused; so no escapes are left to
//! resolve.

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
        if this.eq_ignore_ascii_case(name) {
            if value.contains('\\') || found.replace(value.to_owned()).is_some() {
                return Err(Ambiguous);
            }
        } else if is_extended(this, name) || mentions(value, name) {
            return Err(Ambiguous);
        }
    }
    Ok(found)
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
