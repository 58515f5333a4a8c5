//! Measures the transformer against the least that could do its work; `--quick` only shows that everything runs,
//! `--scrapes` measures only what being scraped costs.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use e2e::bench::{Extent, Tables, relay, run};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let url = || std::env::var("AMQP_URL").context("AMQP_URL is not set");
    // One thread beside the client's own is fastest for a relay, and this is no place to handicap it.
    let relaying = || Builder::new_current_thread().enable_all().build();
    let measuring = || Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => measuring()?.block_on(measure(Extent::Full)),
        ["--quick"] => measuring()?.block_on(measure(Extent::Quick)),
        ["--scrapes"] => measuring()?.block_on(measure(Extent::Scrapes)),
        // The bare relays that are measured, each a process of its own.
        ["relay"] => relaying()?.block_on(relay(&url()?, None)),
        ["relay-by-hand"] => relaying()?.block_on(relay(&url()?, Some(&Tables::shipped()))),
        _ => bail!("usage: kingpost-bench [--quick | --scrapes]"),
    }
}

/// A Ctrl-C drops everything that was started, which ends it.
async fn measure(extent: Extent) -> Result<()> {
    tokio::select! {
        outcome = run(extent) => outcome,
        _ = tokio::signal::ctrl_c() => bail!("interrupted; everything is stopped"),
    }
}
