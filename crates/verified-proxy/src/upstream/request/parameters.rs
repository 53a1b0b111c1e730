//! Parameters behind a header's value: `form-data; name="model"` (RFC 9110 §5.6.6).

/// Given twice, or with quotes that do not end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ambiguous;

/// What stands before the parameters, in lower case.
pub(super) fn main_value(header: &str) -> String {
    let value = header.split(';').next().unwrap_or_default();
    value.trim().to_ascii_lowercase()
}

/// The parameter with this name, unquoted.
pub(super) fn parameter(header: &str, name: &str) -> Result<Option<String>, Ambiguous> {
    let mut found = None;
    let mut rest = header.split_once(';').map(|(_, rest)| rest);
    while let Some(text) = rest {
        let Some((this, after)) = text.split_once(['=', ';']) else {
            break;
        };
        if text.as_bytes().get(this.len()) == Some(&b';') {
            rest = Some(after);
            continue;
        }
        let (value, after) = value(after)?;
        if this.trim().eq_ignore_ascii_case(name) && found.replace(value).is_some() {
            return Err(Ambiguous);
        }
        rest = after;
    }
    Ok(found)
}

/// A token or a quoted string, and what follows the next semicolon.
fn value(text: &str) -> Result<(String, Option<&str>), Ambiguous> {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        return Ok(match text.split_once(';') {
            Some((value, rest)) => (value.trim().to_owned(), Some(rest)),
            None => (text.trim().to_owned(), None),
        });
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next().ok_or(Ambiguous)? {
            '"' => break,
            '\\' => value.push(characters.next().ok_or(Ambiguous)?),
            other => value.push(other),
        }
    }
    let rest = characters.as_str().trim_start();
    match rest.strip_prefix(';') {
        None if !rest.is_empty() => Err(Ambiguous),
        rest => Ok((value, rest)),
    }
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
                "form-data; filename=\"; name=no\"; name = \"a\\\"b;c\" ; x",
                "a\"b;c",
            ),
            ("form-data; flag; name=x", "x"),
            ("form-data", ""),
            ("name=model", ""),
            ("form-data; name*=utf-8''x", ""),
        ] {
            assert_eq!(get(header).as_deref(), Ok(expected), "{header}");
        }
        for header in [
            "form-data; name=a; name=a",
            "form-data; name=\"a",
            "form-data; name=\"a\\",
            "form-data; name=\"a\"b; x=y",
        ] {
            assert_eq!(get(header), Err(Ambiguous), "{header}");
        }
        assert_eq!(
            main_value(" Multipart/Form-Data ; x"),
            "multipart/form-data"
        );
    }
}
