//! A letter whose mapping was wrong: its order is read from the source again.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use e2e::{
    account::Account,
    lab::{Process, Sandbox, SandboxOptions, shared_broker},
    pipeline::{Pipeline, SCHEME, Schemes, Tempo},
};
use kingpost_model::StageName;

use super::{SOON, letters};

const FROM: &str = "2026-08-01T00:00:00+08:00";

async fn replay(pipeline: &Pipeline, sandbox: &Sandbox, folder: &Path) -> Result<(Option<i32>, String)> {
    let arguments =
        ["dead", "replay", "--all", "--stage", "load", "--from-source", "--reason", "table mended"];
    let process = Process::of("kingpost")?
        .args(arguments)
        .args(["--yes", "--verbose", "--wait", "60s"])
        .envs(sandbox.settings().iter().cloned())
        .env("AMQP_URL", pipeline.amqp_url.as_str())
        .env("SCHEMES_DIR", pipeline.schemes.path())
        .dir(folder)
        .start()?;
    let status = process.wait(Duration::from_secs(120)).await?;
    Ok((status.code(), process.output()))
}

#[tokio::test]
async fn a_load_failure_that_a_mapping_caused_is_cured_from_the_source() -> Result<()> {
    let options = SandboxOptions {
        orders: 12,
        unpostable: 0,
        seed: 7,
        from: Some(FROM.into()),
        spread: Some("2h".into()),
        args: vec!["--repeated-numbers".to_owned()],
    };
    let sandbox = Sandbox::start(options).await?;
    let url = shared_broker().await?.vhost("dl-source").await?;
    let tempo = Tempo { start: FROM.into(), width: "29d".into(), settle: "2s".into() };
    let pipeline = Pipeline::new(url.as_str(), Schemes::at(&tempo)?, &sandbox)?;
    let table = pipeline.schemes.path().join("tables/stock.csv");
    let right = std::fs::read_to_string(&table)?;
    // A stock that Kingdee doesn't have: every model is wrong, and every order is right.
    std::fs::write(&table, right.replace("*,100,,", "*,100,CK-WRONG,"))?;
    let transformer = pipeline.start("transformer")?;
    let _others = [pipeline.start("extractor")?, pipeline.start("loader")?];
    pipeline.wait_done(&sandbox, 0, 12, SOON).await?;

    std::fs::write(&table, right)?;
    transformer.process.term()?;
    transformer.process.wait(SOON).await?;
    let _transformer = pipeline.start("transformer")?;
    let dead = letters(&url, StageName::Load).await?;
    let numbers: Vec<&str> = dead.iter().map(|letter| letter.work.key.number.as_str()).collect();
    let [cancelled, deleted, ..] = numbers[..] else { anyhow::bail!("too few letters: {numbers:?}") };
    sandbox.post(&format!("wdt/orders/{cancelled}/cancel"), &serde_json::json!({})).await?;
    sandbox.delete(&format!("wdt/orders/{deleted}")).await?;
    let folder = tempfile::tempdir()?;
    let (code, output) = replay(&pipeline, &sandbox, folder.path()).await?;
    assert_eq!(code, Some(1), "two stay: {output}");
    pipeline.wait_done(&sandbox, 10, 2, SOON).await?;
    assert!(output.contains("its status is 10, the scheme asks for 80"), "{output}");
    assert!(output.contains(&format!("the source has no {deleted} any more")), "{output}");
    let left = letters(&url, StageName::Load).await?;
    let left: Vec<&str> = left.iter().map(|letter| letter.work.key.number.as_str()).collect();
    assert_eq!(left, [cancelled, deleted], "what can't be read again stays where it is");
    let account = Account::take(&sandbox, &url, SCHEME).await?;
    let wrong = [&account.lost, &account.duplicated, &account.different];
    assert!(wrong.iter().all(|list| list.is_empty()), "{}", account.report());
    let kept = std::fs::read_dir(folder.path())?.next().context("the plan is kept for a second run")??;
    assert!(kept.file_name().to_string_lossy().starts_with("replay-"));
    Ok(())
}
