//! What is made of the command line and of the build: completions, man page,
//! version.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_verified-proxy"))
        .args(arguments)
        .output()
        .unwrap()
}

/// What a command prints, which has to end well.
fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
    String::from_utf8(output.stdout).unwrap()
}

/// The output of `command` that reads `input`; `None` if it is not installed.
fn piped(command: &mut Command, input: &str) -> Option<Output> {
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.ok()?;
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    Some(output)
}

/// Every option of `command` and below, but for help's.
fn longs(command: &clap::Command, all: &mut Vec<String>) {
    let own = command.get_arguments().filter_map(clap::Arg::get_long);
    all.extend(own.map(|long| format!("--{long}")));
    for subcommand in command.get_subcommands() {
        longs(subcommand, all);
    }
}

#[test]
fn completions_name_every_command_and_are_valid() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = printed(&["completions", shell]);
        for word in [
            "doctor",
            "models",
            "completions",
            "verdict-ttl",
            "write-policy",
        ] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        // Of those that are here.
        let checked = match shell {
            "bash" => piped(Command::new("bash").arg("-n"), &script),
            "zsh" => piped(Command::new("zsh").arg("-n"), &script),
            "fish" => piped(Command::new("fish").arg("-n"), &script),
            _ => None,
        };
        match checked {
            Some(output) => assert!(output.status.success(), "{shell}: {output:?}"),
            None => eprintln!("not checked: {shell}"),
        }
    }
    assert_eq!(run(&["completions", "csh"]).status.code(), Some(2));
    assert_eq!(run(&["completions"]).status.code(), Some(2));
}

#[test]
fn bash_completes_with_them() {
    let script = printed(&["completions", "bash"]);
    let ask = format!(
        "{script}\nCOMP_WORDS=(verified-proxy do); COMP_CWORD=1\n_verified__proxy verified-proxy do verified-proxy\necho \"${{COMPREPLY[@]}}\"\n"
    );
    let Some(output) = piped(&mut Command::new("bash"), &ask) else {
        eprintln!("skipped: bash is not installed");
        return;
    };
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "doctor\n");
}

#[test]
fn the_man_page_renders_and_names_every_option() {
    let page = printed(&["man"]);
    assert!(page.is_ascii() && page.contains("\n.SH NAME\n"), "{page}");
    // Without pages of its own width nothing is hyphenated or cut.
    let groff = ["-man", "-Tutf8", "-rLL=400n", "-rHY=0", "-ww", "-P-c"];
    let text = match piped(Command::new("groff").args(groff), &page) {
        Some(output) => {
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!((output.status.success(), said.as_str()), (true, ""));
            // Bold is what groff overstrikes.
            let text = String::from_utf8(output.stdout).unwrap();
            let mut plain = String::new();
            for letter in text.chars() {
                match letter {
                    '\u{8}' => drop(plain.pop()),
                    _ => plain.push(letter),
                }
            }
            plain
        }
        None => {
            eprintln!("not rendered: groff is not installed");
            page.replace("\\-", "-")
        }
    };
    let mut all = Vec::new();
    longs(&verified_proxy::cli::command(), &mut all);
    assert!(all.len() > 40, "{all:?}");
    for long in all
        .iter()
        .map(String::as_str)
        .chain(["--help", "--version"])
    {
        let named = |end| text.contains(&format!("{long}{end}"));
        assert!(
            [' ', '\n'].into_iter().any(named),
            "{long} is not in {text}"
        );
    }
    for word in [
        "COMMANDS",
        "verified-proxy policy check",
        "EXIT STATUS",
        "VERIFIED_PROXY_PORT",
        "[MODEL|DOMAIN]",
    ] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
}

#[test]
fn a_reader_that_is_gone_is_an_error_and_no_panic() {
    for what in [
        &["man"][..],
        &["completions", "bash"],
        &["--version", "--verbose"],
    ] {
        let (reader, stdout) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_verified-proxy"))
            .args(what)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn a_verbose_version_names_the_build_and_no_place() {
    let short = format!("verified-proxy {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(printed(&["-V"]), short);
    let long = printed(&["--version", "--verbose"]);
    for order in [&["--verbose", "--version"][..], &["-V", "--verbose"]] {
        assert_eq!(printed(order), long);
    }
    let lines: Vec<_> = long.lines().collect();
    assert_eq!(lines.len(), 6, "{long}");
    assert_eq!(format!("{}\n", lines[0]), short);
    assert_eq!(lines[1], format!("commit {}", commit()));
    assert!(
        ["profile debug", "profile release"].contains(&lines[2]),
        "{long}"
    );
    assert!(lines[3].starts_with("compiler rustc 1."), "{long}");
    let near = attest::Policy::near();
    let policy = format!("policy near of {}, digest {}", near.date(), near.digest());
    assert_eq!(lines[4], policy);
    let lock = root().join("Cargo.lock");
    let lock = std::fs::read_to_string(lock).unwrap();
    let version = lines[5].strip_prefix("dcap-qvl ").unwrap();
    let entry = format!("name = \"dcap-qvl\"\nversion = \"{version}\"\n");
    assert!(lock.contains(&entry), "{long}");
    assert!(!long.contains('/'), "{long}");
    // It goes with the other; alone it is wrong usage.
    assert_eq!(run(&["--verbose"]).status.code(), Some(2));
    assert_eq!(run(&["serve", "--verbose"]).status.code(), Some(2));
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// What git says; what was built of a tarball does not know.
fn commit() -> String {
    if !root().join(".git").exists() {
        return "unknown".to_owned();
    }
    let asked = Command::new("git")
        .args(["-C", &root().display().to_string(), "rev-parse", "HEAD"])
        .output();
    // It is there where a clone is.
    String::from_utf8(asked.unwrap().stdout)
        .unwrap()
        .trim()
        .to_owned()
}
