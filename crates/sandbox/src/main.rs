//! `kingpost-sandbox`: a fake WDT and a fake Kingdee in one process.
#![forbid(unsafe_code)]

use clap::Parser;
use kingpost_sandbox::{Options, Sandbox};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let sandbox = Sandbox::start(Options::parse()).await?;
    println!("kingpost-sandbox listening on {}", sandbox.url());
    sandbox.run_until_signalled().await
}
