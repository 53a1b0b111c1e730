//! A policy for a person: every rule, and where it comes from.

use std::collections::BTreeSet;

/// The rules of `text`, each with the name of the policy that it comes from: `base`'s
/// where its text has the same line in a table of the same name, else `own`.
///
/// Both texts are resolved rules as this crate writes them, a rule a line; the result
/// is TOML still.
pub(super) fn annotated(text: &str, own: &str, base: Option<(&str, &str)>) -> String {
    let (base_name, base_text) = base.unwrap_or_default();
    let inherited: BTreeSet<_> = rules(base_text).collect();
    let keys: BTreeSet<_> = inherited
        .iter()
        .map(|(table, line)| (*table, key(line)))
        .collect();
    let mut out = String::new();
    for (table, line) in rules(text) {
        out.push_str(line);
        let is_rule = line.contains('=') && !line.starts_with('#');
        // A row of a list of tables is another row, not another value of one rule.
        let is_single = !table.starts_with("[[");
        if is_rule && inherited.contains(&(table, line)) {
            out.push_str(&format!("  # {base_name}"));
        } else if is_rule && is_single && keys.contains(&(table, key(line))) {
            out.push_str(&format!("  # {own}; {base_name} says otherwise"));
        } else if is_rule {
            out.push_str(&format!("  # {own}"));
        }
        out.push('\n');
    }
    out
}

/// Each line, with the header of the table that it stands in.
fn rules(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut table = "";
    text.lines().map(move |line| {
        if line.starts_with('[') {
            table = line;
        }
        (table, line)
    })
}

fn key(line: &str) -> &str {
    line.split(" =").next().unwrap_or_default()
}
