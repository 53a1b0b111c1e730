//! The output for people. Colours on a terminal only, and not with `NO_COLOR`
//! (no-color.org).

use std::io::{self, IsTerminal as _, Write as _};

use crate::failure::Failure;

/// Standard output.
#[derive(Debug)]
pub(crate) struct Screen {
    pub(crate) colour: bool,
}

/// How a piece of text looks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    Bold,
    Green,
    Red,
    Yellow,
}

impl Screen {
    pub(crate) fn new() -> Self {
        // An empty NO_COLOR counts as unset.
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colour: io::stdout().is_terminal() && !unwanted,
        }
    }

    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Bold => "1",
            Style::Green => "32",
            Style::Red => "1;31",
            Style::Yellow => "33",
        };
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Flushed, without an end of line.
    pub(crate) fn write(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        self.write(&format!("{text}\n"))
    }

    pub(crate) fn heading(&self, text: &str) -> io::Result<()> {
        self.line(&format!(
            "\n{}",
            self.paint(Style::Bold, &format!("== {text}"))
        ))
    }

    /// Each line two columns to the right.
    pub(crate) fn indented(&self, text: &str) -> io::Result<()> {
        for line in text.lines() {
            let indent = if line.is_empty() { "" } else { "  " };
            self.line(&format!("{indent}{line}"))?;
        }
        Ok(())
    }

    /// On standard error.
    pub(crate) fn failure(&self, failure: &Failure) {
        let _ = writeln!(io::stderr(), "error: {failure}");
    }
}
