//! What README and deploy/README name exists: options with their defaults,
//! variables, codes, files. `scripts/readme` runs the commands.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

/// Of cargo, curl, docker, systemctl, sed, check and the demonstration.
const OTHER_PROGRAMS: &[&str] = &[
    "all",
    "cap-drop",
    "locked",
    "now",
    "once",
    "path",
    "read-only",
    "release",
    "security-opt",
    "stop-timeout",
    "unix-socket",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// What follows `mark`, as long as it is made of `allowed`.
fn words<'a>(text: &'a str, mark: &str, allowed: fn(char) -> bool) -> BTreeSet<&'a str> {
    text.match_indices(mark)
        .map(|(at, _)| {
            let rest = &text[at + mark.len()..];
            let end = rest.find(|c: char| !allowed(c)).unwrap_or(rest.len());
            rest[..end].trim_end_matches('-')
        })
        .filter(|word| !word.is_empty())
        .collect()
}

/// The rows below a table's head, cell by cell.
fn table<'a>(text: &'a str, head: &str) -> Vec<Vec<&'a str>> {
    let (_, rest) = text.split_once(head).unwrap_or_else(|| panic!("{head}"));
    let rows = rest
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let rows: Vec<Vec<_>> = rows
        .map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() > 2, "{head}");
    rows
}

fn with_subcommands(command: &clap::Command) -> Vec<&clap::Command> {
    let below = command.get_subcommands().flat_map(with_subcommands);
    std::iter::once(command).chain(below).collect()
}

#[test]
fn the_options_that_readmes_name_exist() {
    let commands = [
        verified_proxy::cli::command(),
        fake_tee::cli::Arguments::command(),
    ];
    let mut known: BTreeSet<_> = OTHER_PROGRAMS.iter().map(|&name| name.to_owned()).collect();
    let mut variables = BTreeSet::from(["VERIFIED_PROXY_API_KEY".to_owned()]);
    for command in commands.iter().flat_map(with_subcommands) {
        for option in command.get_arguments() {
            known.extend(option.get_long().map(str::to_owned));
            variables.extend(
                option
                    .get_env()
                    .map(|name| name.to_str().unwrap().to_owned()),
            );
        }
    }
    // clap writes these two.
    known.extend(["help", "version"].map(str::to_owned));
    for name in ["README.md", "deploy/README.md"] {
        let text = page(name);
        let named = words(&text, "--", |c| c.is_ascii_lowercase() || c == '-');
        assert!(named.len() > 5, "{name}: {named:?}");
        for option in named {
            assert!(known.contains(option), "{name}: --{option}");
        }
        for rest in words(&text, "VERIFIED_PROXY_", |c| {
            c.is_ascii_uppercase() || c == '_'
        }) {
            let variable = format!("VERIFIED_PROXY_{rest}");
            assert!(variables.contains(&variable), "{name}: {variable}");
        }
    }
}

#[test]
fn the_table_of_options_has_the_right_defaults() {
    let command = verified_proxy::cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    for row in table(&page("README.md"), "| option | default | what it is |") {
        let [option, default, _] = row.as_slice() else {
            panic!("{row:?}");
        };
        let long = option.trim_matches('`').trim_start_matches("--");
        let found = serve
            .get_arguments()
            .find(|arg| arg.get_long() == Some(long));
        let found = found.unwrap_or_else(|| panic!("{option}"));
        let right: Vec<_> = found
            .get_default_values()
            .iter()
            .map(|value| format!("`{}`", value.to_str().unwrap()))
            .collect();
        assert_eq!(*default, right.join(", "), "{option}");
    }
}

#[test]
fn the_codes_of_the_readme_exist() {
    let codes = proxy::codes::document();
    for row in table(
        &page("README.md"),
        "| you see | likely reason | what to do |",
    ) {
        for code in row[0].split(", ") {
            let line = format!("\n| {code} | ");
            assert!(code.len() > 2 && codes.contains(&line), "{code}");
        }
    }
}

#[test]
fn the_links_of_readmes_lead_somewhere() {
    for (name, folder) in [("README.md", ""), ("deploy/README.md", "deploy")] {
        let text = page(name);
        let headings: BTreeSet<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .map(|line| line.trim_start_matches('#').trim().to_lowercase())
            .map(|line| line.replace(' ', "-").replace(',', ""))
            .collect();
        let links = words(&text, "](", |c| c != ')');
        assert!(!links.is_empty(), "{name}");
        for link in links {
            if let Some(anchor) = link.strip_prefix('#') {
                assert!(headings.contains(anchor), "{name}: {link}");
            } else if !link.starts_with("https://") {
                assert!(root().join(folder).join(link).exists(), "{name}: {link}");
            }
        }
    }
}

/// Every Rust file below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn threats_that_comments_cite_are_listed_with_tests_that_exist() {
    let page = page("docs/threats.md");
    let rows: Vec<Vec<_>> = ["## A.", "## B.", "## C."]
        .iter()
        .flat_map(|part| {
            let (_, rest) = page.split_once(part).unwrap();
            table(rest, "| id | what is wrong |")
        })
        .collect();
    let ids: BTreeSet<_> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(ids.len(), rows.len(), "an id stands twice");

    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files);
    let mut cited = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for (_, rest) in text
            .lines()
            .filter_map(|line| line.split_once("threats.md "))
        {
            for id in rest.split(|c: char| !c.is_ascii_alphanumeric()) {
                let number = id.trim_start_matches(['A', 'B', 'C']);
                if number.len() + 1 == id.len() && number.parse::<u8>().is_ok() {
                    assert!(ids.contains(id), "{}: threats.md {id}", file.display());
                    cited += 1;
                }
            }
        }
    }
    assert!(cited > 20, "{cited} citations found");

    for row in rows {
        for (krate, folder) in [("attest ", "attest"), ("program ", "verified-proxy")] {
            let Some((_, named)) = row[3].split_once(krate) else {
                continue;
            };
            let named = named.split("program ").next().unwrap();
            for module in named.split('`').skip(1).step_by(2) {
                let path = root()
                    .join("crates")
                    .join(folder)
                    .join("tests/it")
                    .join(module);
                let unit = root().join("crates").join(folder).join("src").join(module);
                assert!(
                    [&path, &unit]
                        .iter()
                        .any(|path| path.is_dir() || path.with_extension("rs").is_file())
                        || module.starts_with("scripts/"),
                    "{}: no tests {module}",
                    row[0]
                );
            }
        }
    }
}
