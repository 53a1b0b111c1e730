//! The command line.

/// Shows a verified answer and a refusal, without network or API key. SIMULATED: the
/// backends and their root of trust are made for this run.
///
/// Exit codes: 0 everything was as expected, 1 something was not, 2 wrong usage, 3 something
/// could not be opened or written, 130 interrupted during the demonstration.
#[derive(Debug, clap::Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Port to listen on [default: 8080; with --once any free one]
    #[arg(long, env = "VERIFIED_PROXY_PORT")]
    port: Option<u16>,
    /// Exit after the demonstration
    #[arg(long)]
    pub(crate) once: bool,
}

impl Arguments {
    /// 0 stands for any free port.
    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or(if self.once { 0 } else { 8080 })
    }
}
