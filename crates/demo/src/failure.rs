//! Why the demonstration ends early.

use std::error::Error;
use std::io;
use std::process::ExitCode;

/// Why the demonstration ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The port is taken or not permitted.
    #[error(
        "cannot listen on 127.0.0.1 port {port}: {source}\nhint: choose another port with --port; --port 0 takes a free one"
    )]
    Listen { port: u16, source: io::Error },
    /// The simulated backends or the proxy cannot be set up.
    #[error("{what}: {source}")]
    Setup {
        what: &'static str,
        source: Box<dyn Error + Send + Sync>,
    },
    /// Something else happened than the demonstration claims.
    #[error("not as expected: {0}")]
    NotAsItShould(String),
    /// Standard output is closed.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
    /// Ctrl-C during the demonstration.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    pub(crate) fn setup(
        what: &'static str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Setup {
            what,
            source: source.into(),
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::NotAsItShould(_) => 1,
            Self::Listen { .. } | Self::Setup { .. } | Self::Output(_) => 3,
            Self::Interrupted => 130,
        })
    }
}

/// Ends the demonstration unless its claim holds.
pub(crate) fn should(holds: bool, what: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds {
        Ok(())
    } else {
        Err(Failure::NotAsItShould(what()))
    }
}
