//! A letter whose mapping was wrong: its order is read from the source again.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use e2e::{
    account::Account,
    lab::{Process, Sandbox, SandboxOptions, shared_broker},
    pipeline::{Pipeline, SCHEME, Schemes, Tempo},
};
use kingpost_model::{Failure, FailureKind, StageName};

use super::{SOON, bury, dead, letters, started};

const FROM: &str = "2026-08-01T00:00:00+08:00";

const ALL: [&str; 4] = ["--all", "--stage", "load", "--from-source"];

async fn kingpost(
    pipeline: &Pipeline,
    sandbox: &Sandbox,
    folder: &Path,
    arguments: &[&str],
) -> Result<(Option<i32>, String)> {
    let process = Process::of("kingpost")?
        .args(["dead", "replay", "--reason", "table mended"])
        .args(arguments.iter().copied())
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
    let [reopened, deleted, cancelled, ..] = numbers[..] else {
        anyhow::bail!("too few letters: {numbers:?}")
    };
    sandbox.post("wdt/orders", &serde_json::json!({"order_no": reopened, "status": "20"})).await?;
    sandbox.post(&format!("wdt/orders/{cancelled}/cancel"), &serde_json::json!({})).await?;
    sandbox.delete(&format!("wdt/orders/{deleted}")).await?;
    let folder = tempfile::tempdir()?;
    let (code, output) = kingpost(&pipeline, &sandbox, folder.path(), &ALL).await?;
    assert_eq!(code, Some(1), "two stay: {output}");
    pipeline.wait_done(&sandbox, 9, 2, SOON).await?;
    assert!(output.contains("its status is 20, the scheme asks for 80,10"), "{output}");
    assert!(
        output.contains(&format!("{cancelled} is cancelled in the source and not in the target")),
        "{output}"
    );
    assert!(output.contains(&format!("the source has no {deleted} any more")), "{output}");
    let left = letters(&url, StageName::Load).await?;
    let left: Vec<&str> = left.iter().map(|letter| letter.work.key.number.as_str()).collect();
    assert_eq!(left, [reopened, deleted], "what can't be read again stays where it is");
    let account = Account::take(&sandbox, &url, SCHEME).await?;
    let wrong = [&account.lost, &account.duplicated, &account.different];
    assert!(wrong.iter().all(|list| list.is_empty()), "{}", account.report());
    let kept = std::fs::read_dir(folder.path())?.next().context("the plan is kept for a second run")??;
    let kept = kept.file_name().to_string_lossy().into_owned();
    assert!(kept.starts_with("replay-"));
    // Run again, they are asked for again, and stay again: there is no other copy of them.
    let (code, output) = kingpost(&pipeline, &sandbox, folder.path(), &["--plan", &kept]).await?;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains(&format!("the source has no {deleted} any more")), "{output}");
    let left = letters(&url, StageName::Load).await?;
    let left: Vec<&str> = left.iter().map(|letter| letter.work.key.number.as_str()).collect();
    assert_eq!(left, [reopened, deleted], "they are the only copies: {output}");
    Ok(())
}

#[tokio::test]
async fn ctrl_c_ends_the_wait_for_a_source_that_does_not_answer() -> Result<()> {
    let (url, broker) = started("dl-silent").await?;
    let failure = Failure::new(FailureKind::Unmappable, "one field can't be mapped");
    bury(&broker, [dead(StageName::Transform, "RK1", "{}", &failure)]).await?;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let folder = tempfile::tempdir()?;
    let process = Process::of("kingpost")?
        .args(["dead", "replay", "--all", "--from-source", "--reason", "x", "--yes"])
        .env("AMQP_URL", url.as_str())
        .env("SCHEMES_DIR", e2e::pipeline::shipped_schemes().canonicalize()?)
        .env("WDT_URL", format!("http://{}/openapi", silent.local_addr()?))
        .envs([
            ("WDT_TRANSPORT", "direct"),
            ("WDT_SID", "s"),
            ("WDT_APP_KEY", "k"),
            ("WDT_APP_SECRET", "a:b"),
        ])
        .dir(folder.path())
        .start()?;
    let _call = tokio::time::timeout(SOON, silent.accept()).await.context(process.output())??;
    let pid = process.pid().to_string();
    anyhow::ensure!(std::process::Command::new("kill").args(["-INT", &pid]).status()?.success());
    let status = process.wait(Duration::from_secs(10)).await?;
    let output = process.output();
    assert!(status.code() == Some(1) && output.contains("ended by Ctrl-C"), "{output}");
    assert_eq!(letters(&url, StageName::Transform).await?.len(), 1, "{output}");
    Ok(())
}
