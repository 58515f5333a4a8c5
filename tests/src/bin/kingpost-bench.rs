//! Measures the transformer against the least that could do its work; `--quick` only shows that everything runs.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use e2e::bench::{Extent, Tables, relay, run};

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    match command().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn command() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let url = || std::env::var("AMQP_URL").context("AMQP_URL is not set");
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        // A Ctrl-C drops everything that was started, which ends it.
        [] | ["--quick"] => {
            let extent = if arguments.is_empty() { Extent::Full } else { Extent::Quick };
            tokio::select! {
                outcome = run(extent) => outcome,
                _ = tokio::signal::ctrl_c() => bail!("interrupted; everything is stopped"),
            }
        }
        // The bare relays that are measured, each a process of its own.
        ["relay"] => relay(&url()?, None).await,
        ["relay-by-hand"] => relay(&url()?, Some(&Tables::shipped())).await,
        _ => bail!("usage: kingpost-bench [--quick]"),
    }
}
