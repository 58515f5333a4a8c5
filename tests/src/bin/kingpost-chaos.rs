//! Strikes the whole pipeline with random faults for some time, then checks every order; `--duration SECONDS --seed N`.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

#[tokio::main]
async fn main() -> ExitCode {
    let run = async {
        let (seed, duration) = arguments()?;
        e2e::chaos::run(seed, duration).await
    };
    // A Ctrl-C drops everything that was started, which ends it.
    let outcome = tokio::select! {
        outcome = run => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted; everything is stopped")),
    };
    match outcome {
        Ok(outcome) if outcome.violations.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            println!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<(u64, Duration)> {
    let mut seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut duration = 60;
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{name} wants a number"))?;
        let number = value.parse().with_context(|| format!("{name} {value}: not a number"))?;
        match name.as_str() {
            "--seed" => seed = number,
            "--duration" => duration = number,
            _ => bail!("usage: kingpost-chaos [--duration SECONDS] [--seed N]"),
        }
    }
    Ok((seed, Duration::from_secs(duration)))
}
