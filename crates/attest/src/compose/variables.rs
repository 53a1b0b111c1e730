//! Variables in texts of a compose file. The machine's operator sets them.

/// The names of the variables that Compose would fill in: `$NAME`, `${NAME}`,
/// `${NAME:-default}` and the like, also inside of defaults. `$$` is a dollar. Any
/// other `$` is returned as `"$"`: Compose refuses it.
pub(crate) fn variables(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('$') {
        if let Some(escaped) = after.strip_prefix('$') {
            rest = escaped;
            continue;
        }
        let name = after.strip_prefix('{').unwrap_or(after);
        let end = name
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(name.len());
        let (name, beyond) = name.split_at(end);
        names.push(if name.is_empty() { "$" } else { name });
        rest = beyond;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::variables;

    #[test]
    fn every_form_is_found_and_nothing_escaped() {
        for (text, names) in [
            ("", vec![]),
            ("$$HOME $${HOME}", vec![]),
            ("$A-${B}", vec!["A", "B"]),
            ("$$$A", vec!["A"]),
            ("${A:-${B-x}}", vec!["A", "B"]),
            ("${A:?no}${_b9+x}", vec!["A", "_b9"]),
            ("a$", vec!["$"]),
            ("$ x ${}", vec!["$", "$"]),
        ] {
            assert_eq!(variables(text), names, "{text}");
        }
    }
}
