//! `kingpost-sandbox`: a fake WDT and a fake Kingdee in one process.
#![forbid(unsafe_code)]

use clap::Parser;
use kingpost_sandbox::{Options, Sandbox};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let sandbox = Sandbox::start(Options::parse()).await?;
    let line = format!("kingpost-sandbox listening on {}", sandbox.url());
    let signalled = sandbox.run_until_signalled()?;
    // Whoever reads this line may send a signal at once.
    println!("{line}");
    signalled.await;
    Ok(())
}
