//! `cargo run --release -p demo`: a verified answer and a refusal, without network
//! or key. The backends are made up (`fake-tee`), the proxy is the real one.

mod client;
mod failure;
mod scene;
mod screen;
mod show;

use std::pin::pin;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser as _;

use crate::failure::Failure;
use crate::scene::Scene;
use crate::screen::Screen;

/// Shows a verified answer and a refusal, without network or API key. SIMULATED: the
/// backends and the root they are judged under are made up.
///
/// Exit codes: 0 all went as it should, 1 something did not, 2 wrong usage, 3 something could
/// not be opened or written, 130 interrupted during the show.
#[derive(Debug, clap::Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// Port to listen on [default: 8080; with --once any free one]
    #[arg(long, env = "VERIFIED_PROXY_PORT")]
    port: Option<u16>,
    /// Exit after the show
    #[arg(long)]
    once: bool,
}

fn main() -> ExitCode {
    let began = Instant::now();
    let arguments = Arguments::parse();
    let screen = Screen::new();
    match run(&arguments, &screen, began) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            screen.failure(&failure);
            failure.exit_code()
        }
    }
}

#[tokio::main]
async fn run(arguments: &Arguments, screen: &Screen, began: Instant) -> Result<(), Failure> {
    let port = arguments
        .port
        .unwrap_or(if arguments.once { 0 } else { 8080 });
    let mut interrupted = pin!(scene::interrupted());
    let scene = tokio::select! {
        scene = Scene::set(port, began) => scene?,
        () = &mut interrupted => return Err(Failure::Interrupted),
    };
    let mut shown = tokio::select! {
        played = show::play(&scene, screen) => played,
        () = &mut interrupted => Err(Failure::Interrupted),
    };
    if shown.is_ok() && !arguments.once {
        shown = show::invite(&scene, screen);
        if shown.is_ok() {
            interrupted.await;
        }
    }
    shown.and(scene.end().await)
}
