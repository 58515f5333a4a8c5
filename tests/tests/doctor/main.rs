//! What the operator's command says of an installation, on a real RabbitMQ and the sandbox: the users it needs, what is in
//! flight, and `kingpost doctor`.
#![forbid(unsafe_code)]

mod examined;
mod status;
mod users;

use std::time::Duration;

use anyhow::Result;
use e2e::lab::Process;

const SOON: Duration = Duration::from_secs(60);

/// Runs the command with these settings and gives back its exit code and output.
async fn kingpost(args: &[&str], settings: &[(&str, &str)]) -> Result<(Option<i32>, String)> {
    let process =
        Process::of("kingpost")?.args(args.iter().copied()).envs(settings.iter().copied()).start()?;
    let status = process.wait(SOON).await?;
    Ok((status.code(), process.output()))
}
