//! Shell completions and the man page, from the command line.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Arg, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::print;
use super::read_files::Failure;

/// Print completions for a shell
///
/// For bash: verified-proxy completions bash > ~/.local/share/bash-completion/completions/verified-proxy
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn completions(args: &Completions) -> Result<ExitCode, Failure> {
    // Into memory: clap_complete panics if its output cannot be written.
    let mut script = Vec::new();
    let mut command = super::command();
    clap_complete::generate(args.shell, &mut command, "verified-proxy", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man() -> Result<ExitCode, Failure> {
    let page = page().map_err(|error| Failure::Unreadable(format!("the man page: {error}")))?;
    print(&page)?;
    Ok(ExitCode::SUCCESS)
}

/// One page for all commands, in roff.
fn page() -> std::io::Result<String> {
    let mut page = Vec::new();
    let root = super::command()
        .override_usage("verified-proxy [serve] [OPTIONS]\nverified-proxy COMMAND [OPTIONS]");
    let man = Man::new(root).manual("verified-proxy");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut text = String::from_utf8_lossy(&page).into_owned();
    text.push_str(".SH COMMANDS\n");
    let mut command = super::command();
    // Names become whole, such as "verified-proxy policy show".
    command.build();
    for subcommand in command.get_subcommands() {
        add(&mut text, &command, subcommand)?;
    }
    text.push_str(
        ".SH \"EXIT STATUS\"\n\
         0: done, or verified. 1: refused, or something is not as it should be. 2: wrong usage.\n\
         3: something could not be read, fetched, reached or opened.\n\
         4: something hung, and a second signal ended the program.\n",
    );
    Ok(ascii(&text))
}

/// Older formatters read ASCII only (groff_char(7)).
fn ascii(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, letter| {
        if letter.is_ascii() {
            out.push(letter);
        } else {
            let _ = write!(out, "\\[u{:04X}]", u32::from(letter));
        }
        out
    })
}

/// A command, with the options that `serve` does not have.
fn add(text: &mut String, root: &Command, command: &Command) -> std::io::Result<()> {
    if command.get_name() == "help" {
        return Ok(());
    }
    let of_serve = || {
        root.get_arguments()
            .filter(|option| option.get_env().is_some())
    };
    let is_above = |option: &&Arg| {
        let long = option.get_long();
        let shared = || of_serve().any(|other| other.get_long() == long);
        long == Some("help") || long.is_some() && shared()
    };
    let above: Vec<_> = command.get_arguments().filter(is_above).collect();
    let shared = above.iter().filter(|option| option.get_env().is_some());
    let shared = shared.count();
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    line!(text, ".SS \"{name}\"");
    let shown = above.iter().fold(command.clone(), |command, option| {
        command.mut_arg(option.get_id(), |option| option.hide(true))
    });
    let man = Man::new(shown);
    for part in [Man::render_description_section, Man::render_options_section] {
        let mut section = Vec::new();
        part(&man, &mut section as &mut dyn std::io::Write)?;
        let section = String::from_utf8_lossy(&section);
        let lines = section.lines().filter(|line| !line.starts_with(".SH "));
        for line in lines.filter(|line| !line.starts_with(".ie") && !line.starts_with(".el")) {
            line!(text, "{line}");
        }
    }
    if shared > 0 {
        let which = if shared == of_serve().count() {
            "It also takes all of the options above."
        } else {
            "It also takes the options above about what is proved, network, files and logs."
        };
        line!(text, ".PP\n{which}");
    }
    command
        .get_subcommands()
        .try_for_each(|subcommand| add(text, root, subcommand))
}
