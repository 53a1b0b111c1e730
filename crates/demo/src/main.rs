//! `cargo run --release -p demo`: a verified answer and a refusal, without network
//! or API key. The backends are simulated (`fake-tee`), the proxy is the real one.

mod arguments;
mod client;
mod failure;
mod scene;
mod screen;
mod show;

use std::pin::pin;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser as _;

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::scene::Scene;
use crate::screen::Screen;

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
    let mut interrupted = pin!(scene::interrupted());
    let scene = tokio::select! {
        scene = Scene::set(arguments.port(), began) => scene?,
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
