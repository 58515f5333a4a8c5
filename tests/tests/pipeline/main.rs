//! The real workers, a real RabbitMQ and the sandbox: every order ends in Kingdee once, or as an explained dead letter.
#![forbid(unsafe_code)]

mod bad_input;
mod faults;
mod journal;
mod limits;
mod living;
mod traces;

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{
    account::Account,
    lab::{Proxy, Sandbox, SandboxOptions, Way, shared_broker, wait_until},
    pipeline::{Pipeline, SCHEME, Schemes, Tempo, Worker, metric},
};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(150);
const TRANSFORM: &str = "transform.purchase-stockin";
const LOAD: &str = "load.purchase-stockin";
const FROM: &str = "2026-08-01T00:00:00+08:00";

/// A sandbox with orders of two hours in August, of which some can't be posted. Its Kingdee takes a number as often as it comes.
async fn sandbox(orders: u32, unpostable: u32, more: &[&str]) -> Result<Sandbox> {
    let options = SandboxOptions {
        orders,
        unpostable,
        seed: 7,
        from: Some(FROM.into()),
        spread: Some("2h".into()),
        args: ["--repeated-numbers"].iter().chain(more).map(|arg| (*arg).to_owned()).collect(),
    };
    Sandbox::start(options).await
}

/// Windows of a month, so that the time since August costs few of them.
fn tempo() -> Tempo {
    Tempo { start: FROM.into(), width: "29d".into(), settle: "5s".into() }
}

async fn pipeline(name: &str, sandbox: &Sandbox) -> Result<Pipeline> {
    pipeline_at(name, sandbox, tempo()).await
}

async fn pipeline_at(name: &str, sandbox: &Sandbox, tempo: Tempo) -> Result<Pipeline> {
    let url = shared_broker().await?.vhost(name).await?;
    Pipeline::new(url, Schemes::at(&tempo)?, sandbox)
}

async fn sound(pipeline: &Pipeline, sandbox: &Sandbox, orders: u32, dead: u32) -> Result<Account> {
    pipeline.wait_done(sandbox, u64::from(orders - dead), dead, DEADLINE).await?;
    let account = Account::take(sandbox, &pipeline.amqp_url, SCHEME).await?;
    assert!(account.is_sound(), "{}\n{}", account.line("unsound"), account.report());
    assert_eq!(account.orders, orders as usize);
    assert_eq!(account.dead_orders(), dead as usize, "{}", account.report());
    Ok(account)
}

/// Tells a worker to stop and expects a clean end within its deadline.
async fn stop(worker: Worker) -> Result<String> {
    worker.process.term()?;
    let status = worker.process.wait(SOON).await?;
    assert_eq!(status.code(), Some(0), "{}", worker.process.log_tail());
    Ok(worker.process.output())
}

#[tokio::test]
async fn every_order_is_in_kingdee_once_or_an_explained_dead_letter() -> Result<()> {
    let sandbox = sandbox(150, 12, &["--unfinished", "40"]).await?;
    let pipeline = pipeline("pipe-plain", &sandbox).await?;
    let workers = [pipeline.start("extractor")?, pipeline.start("transformer")?, pipeline.start("loader")?];
    let account = sound(&pipeline, &sandbox, 150, 12).await?;
    let count =
        |kind: &str| account.dead.iter().filter(|g| g.kind == kind).map(|g| g.numbers.len()).sum::<usize>();
    assert_eq!((count("base-data"), count("unmappable")), (8, 4), "{}", account.report());
    let [extractor, transformer, loader] = workers;
    let text = pipeline.metrics(&loader).await?;
    let done = metric(&text, "kingpost_verdicts_total", &["verdict=\"done\""]);
    let withdrawn = metric(&text, "kingpost_changes_total", &["outcome=\"withdrawn\""]);
    let orders = sandbox.orders().await?;
    let is_cancelled = |order: &&Value| order.get("status").and_then(Value::as_str) == Some("10");
    let cancelled = orders.as_array().context("no list of orders")?.iter().filter(is_cancelled).count();
    assert!(cancelled > 0 && (withdrawn - cancelled as f64).abs() < 0.5, "{withdrawn} of {cancelled}");
    assert!((done - withdrawn - 138.0).abs() < 0.5, "the loader counted {done} documents");
    for worker in [extractor, transformer, loader] {
        let output = stop(worker).await?;
        for secret in ["marker", sandbox.setting("KINGDEE_APP_SECRET")?, sandbox.setting("WDT_APP_SECRET")?] {
            assert!(!output.contains(secret), "a secret is in a log");
        }
        assert!(!output.contains("details_list") && !output.contains("FInStockEntry"), "a body is in a log");
    }
    Ok(())
}

#[tokio::test]
async fn the_direct_gateway_and_a_login_session_give_the_same_account() -> Result<()> {
    let sandbox = sandbox(60, 12, &[]).await?;
    let pipeline = pipeline("pipe-direct", &sandbox).await?;
    let url = format!("http://{}/openapi", sandbox.address());
    let direct = [("WDT_TRANSPORT", "direct"), ("WDT_URL", url.as_str())];
    let _extractor = pipeline.start_with("extractor", &direct)?;
    let _transformer = pipeline.start("transformer")?;
    let loader = pipeline.start_with("loader", &[("KINGDEE_AUTH", "login-by-sign")])?;
    sound(&pipeline, &sandbox, 60, 12).await?;
    stop(loader).await?;
    Ok(())
}

#[tokio::test]
async fn more_workers_of_each_kind_give_the_same_account() -> Result<()> {
    let sandbox = sandbox(200, 12, &[]).await?;
    let pipeline = pipeline("pipe-many", &sandbox).await?;
    let mut workers = Vec::new();
    for stage in ["extractor", "extractor", "transformer", "transformer", "transformer", "loader", "loader"] {
        workers.push(pipeline.start(stage)?);
    }
    sound(&pipeline, &sandbox, 200, 12).await?;
    for worker in workers {
        stop(worker).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_worker_told_to_stop_in_mid_run_changes_nothing_in_the_account() -> Result<()> {
    let sandbox = sandbox(200, 12, &["--kingdee-latency", "60"]).await?;
    let pipeline = pipeline("pipe-term", &sandbox).await?;
    let first = [pipeline.start("extractor")?, pipeline.start("transformer")?, pipeline.start("loader")?];
    wait_until(SOON, "the first documents", async || documents(&sandbox).await > 5).await?;
    for worker in first {
        stop(worker).await?;
    }
    assert!(documents(&sandbox).await < 180, "the run was over before it was interrupted: nothing is shown");
    let second = [pipeline.start("extractor")?, pipeline.start("transformer")?, pipeline.start("loader")?];
    sound(&pipeline, &sandbox, 200, 12).await?;
    for worker in second {
        stop(worker).await?;
    }
    assert_eq!(posts(&sandbox).await?, 188, "a clean stop makes nobody post twice or ask Kingdee in vain");
    Ok(())
}

#[tokio::test]
async fn a_worker_killed_in_mid_run_loses_and_doubles_nothing() -> Result<()> {
    let sandbox = sandbox(200, 12, &["--kingdee-latency", "60"]).await?;
    let pipeline = pipeline("pipe-kill", &sandbox).await?;
    let inspector = pipeline.inspector().await?;
    let depth =
        async |queue: &str| inspector.depth(queue).await.ok().flatten().map_or(0, |depth| depth.ready);

    // An extractor that reads: its first pages are here, the next is on its way.
    let held =
        json!({"system": "wdt", "skip": 3, "count": null, "action": {"kind": "hold", "when": "before"}});
    let armed = sandbox.fault(&held).await?;
    let extractor = pipeline.start("extractor")?;
    wait_until(SOON, "a page to be asked for", async || {
        let rules = sandbox.get("faults").await.unwrap_or_default();
        rules.pointer("/0/struck").and_then(Value::as_u64).is_some_and(|struck| struck > 0)
    })
    .await?;
    extractor.process.kill();
    assert!(depth(TRANSFORM).await < 200, "everything was read: the kill shows nothing");
    sandbox.delete(&format!("faults/{}", armed.pointer("/ids/0").context("no id")?)).await?;
    let extractor = pipeline.start("extractor")?;
    wait_until(SOON, "the orders", async || depth(TRANSFORM).await >= 200).await?;

    // A transformer on a narrow line: some models are out, the others are not.
    let broker = shared_broker().await?;
    let narrow = Proxy::start(format!("127.0.0.1:{}", broker.amqp_port())).await?;
    narrow.narrow(Way::ToServer, 100_000);
    let url = pipeline.amqp_url.replace(&format!("127.0.0.1:{}", broker.amqp_port()), narrow.address());
    let transformer = pipeline.start_with("transformer", &[("AMQP_URL", &url)])?;
    wait_until(SOON, "models", async || depth(LOAD).await > 10).await?;
    transformer.process.kill();
    assert!(depth(LOAD).await < 188, "everything was mapped: the kill shows nothing");
    let transformer = pipeline.start("transformer")?;

    for _ in 0..2 {
        let (loader, before) = (pipeline.start("loader")?, documents(&sandbox).await);
        wait_until(SOON, "progress", async || documents(&sandbox).await > before + 10).await?;
        loader.process.kill();
        assert!(documents(&sandbox).await < 188, "everything was posted: the kill shows nothing");
    }
    let _loader = pipeline.start("loader")?;
    sound(&pipeline, &sandbox, 200, 12).await?;
    for worker in [extractor, transformer] {
        stop(worker).await?;
    }
    Ok(())
}

async fn documents(sandbox: &Sandbox) -> u64 {
    let summary = sandbox.summary().await.unwrap_or_default();
    summary.get("documents").and_then(Value::as_u64).unwrap_or(0)
}

/// How many documents were saved, over all commits.
async fn posts(sandbox: &Sandbox) -> Result<usize> {
    let ledger = sandbox.ledger().await?;
    let commits = ledger.as_array().context("the ledger is no list")?;
    Ok(commits.iter().filter(|commit| commit.get("step").and_then(Value::as_str) == Some("saved")).count())
}

#[tokio::test]
async fn the_operator_sees_dead_letters_by_cause_and_one_by_one() -> Result<()> {
    let sandbox = sandbox(40, 12, &[]).await?;
    let pipeline = pipeline("pipe-dead", &sandbox).await?;
    let _workers = [pipeline.start("extractor")?, pipeline.start("transformer")?, pipeline.start("loader")?];
    let account = sound(&pipeline, &sandbox, 40, 12).await?;
    let (code, output) = kingpost(&pipeline, &["dead", "list", "--json"]).await?;
    assert_eq!(code, Some(0), "{output}");
    let groups: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let letters: u64 = groups.iter().filter_map(|g| g.get("count").and_then(Value::as_u64)).sum();
    assert_eq!((groups.len(), letters), (account.dead.len(), 12), "{output}");
    let number = account.dead.first().and_then(|group| group.numbers.first()).context("no dead letter")?;
    let (code, output) = kingpost(&pipeline, &["dead", "show", number]).await?;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains(number.as_str()) && output.contains("base-data"), "{output}");
    // Looking takes nothing away.
    pipeline.wait_done(&sandbox, 28, 12, SOON).await?;
    Ok(())
}

/// Runs the operator's command against a pipeline's broker.
async fn kingpost(pipeline: &Pipeline, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let process = e2e::lab::Process::of("kingpost")?
        .args(arguments.iter().copied())
        .env("AMQP_URL", pipeline.amqp_url.as_str())
        .env("SCHEMES_DIR", pipeline.schemes.path())
        .start()?;
    let status = process.wait(SOON).await?;
    Ok((status.code(), process.output()))
}
