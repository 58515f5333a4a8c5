//! Runs the whole pipeline on this machine and prints the account; `--keep` leaves it running until Ctrl-C.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let keep = std::env::args().any(|argument| argument == "--keep");
    // A Ctrl-C drops everything that was started, which ends it.
    let outcome = tokio::select! {
        outcome = e2e::demo::run(keep) => outcome,
        _ = tokio::signal::ctrl_c(), if !keep => Err(anyhow::anyhow!("interrupted; everything is stopped")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
