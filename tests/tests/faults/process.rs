//! Workers that are killed, frozen, told to stop, or starved.

use std::os::unix::process::ExitStatusExt as _;

use anyhow::{Context, Result, ensure};
use e2e::{
    lab::{Process, Way, free_port, wait_until},
    pipeline::Worker,
};
use serde_json::json;

use crate::{
    LOAD, Run, SOON, always, kingdee, stop,
    through::{by, place},
    tool,
};

#[tokio::test]
async fn when_a_transformer_is_killed_between_confirm_and_ack_then_its_copies_make_one_document_each()
-> Result<()> {
    let run = Run::shared("process-02", 40, 0).await?;
    let split = run.split("transformer", 10).await?;
    // Publishes pass and are confirmed, acknowledgements never arrive.
    split.consume.stall(Way::ToServer);
    let extractor = run.start("extractor")?;
    run.until_metric(&split.worker, "kingpost_published_total", &[], 40.0).await?;
    split.worker.process.kill();
    split.consume.reset();
    let transformer = run.start("transformer")?;
    run.until_depth(LOAD, 80).await.context("the orders did not come twice: the fault was missed")?;
    let loader = run.start("loader")?;
    run.sound(vec![extractor, transformer, loader]).await?;
    Ok(())
}

#[tokio::test]
async fn when_a_loader_is_killed_between_commit_and_ack_then_nothing_is_posted_again() -> Result<()> {
    let run = Run::shared("process-03", 40, 0).await?;
    let rule = run.arm(always(kingdee("BatchSave", json!({"kind": "hold", "when": "after"})))).await?;
    let mut workers = run.start_all()?;
    run.until_documents(1).await?;
    let loader = workers.pop().context("no loader")?;
    loader.process.kill();
    run.clear(rule).await?;
    workers.push(run.start("loader")?);
    // One that was posted again would be there twice.
    run.sound(workers).await?;
    Ok(())
}

#[tokio::test]
async fn when_a_loader_is_killed_after_a_partly_refused_batch_then_each_document_goes_its_own_way()
-> Result<()> {
    let run = Run::shared("process-04", 40, 12).await?;
    let rule = run.arm(always(kingdee("Submit", json!({"kind": "hold", "when": "before"})))).await?;
    let mut workers = run.start_all()?;
    run.until_struck(1).await?;
    workers.pop().context("no loader")?.process.kill();
    run.clear(rule).await?;
    workers.push(run.start("loader")?);
    run.sound(workers).await?;
    Ok(())
}

#[tokio::test]
async fn when_a_loader_is_told_to_stop_in_mid_batch_then_it_finishes_and_if_killed_its_successor_does()
-> Result<()> {
    let run = Run::shared("process-05", 60, 0).await?;
    run.calls_of(10, 1)?;
    run.until_models_wait().await?;
    let hold = always(kingdee("BatchSave", json!({"kind": "hold", "when": "after"})));
    let rule = run.arm(hold.clone()).await?;
    let first = run.start("loader")?;
    run.until_documents(10).await?;
    first.process.term()?;
    first.process.term()?;
    let stopping =
        wait_until(SOON, "the stop to begin", async || first.process.output().contains("stopping"));
    stopping.await?;
    run.clear(rule).await?;
    let status = first.process.wait(SOON).await?;
    ensure!(status.code() == Some(0), "{status}\n{}", first.process.log_tail());
    // What it had begun is finished and settled, what it had not begun is back.
    let left = run.depth(LOAD).await?;
    ensure!(left > 0 && u64::from(60 - left) == run.documents().await, "{left} models are left");

    run.arm(hold).await?;
    let committed = run.documents().await;
    let second = run.start("loader")?;
    run.until_documents(committed + 1).await?;
    second.process.term()?;
    wait_until(SOON, "the stop to begin", async || second.process.output().contains("stopping")).await?;
    second.process.kill();
    run.sandbox.delete("faults").await?;
    let third = run.start("loader")?;
    run.sound(vec![third]).await?;
    Ok(())
}

#[tokio::test]
async fn when_the_grace_of_a_stopping_loader_ends_then_it_leaves_with_code_0_and_its_batch_is_found()
-> Result<()> {
    let run = Run::shared("process-05b", 20, 0).await?;
    run.until_models_wait().await?;
    run.arm(always(kingdee("BatchSave", json!({"kind": "hold", "when": "after"})))).await?;
    let first = run.pipeline.start_with("loader", &[("DRAIN_SECONDS", "3")])?;
    run.until_documents(1).await?;
    let log = stop(first).await?;
    ensure!(log.contains("the drain deadline came first"), "{log}");
    run.sandbox.delete("faults").await?;
    let second = run.start("loader")?;
    run.sound(vec![second]).await?;
    Ok(())
}

/// A loader that the broker gives up four seconds after it falls silent.
fn impatient(run: &Run, stage: &str) -> Result<Worker> {
    let url = by(&run.pipeline.amqp_url, &place(&run.pipeline.amqp_url)?, 2)?;
    run.pipeline.start_with(stage, &[("AMQP_URL", &url)])
}

#[tokio::test]
async fn when_a_loader_is_frozen_and_another_takes_over_then_the_thawed_one_posts_nothing() -> Result<()> {
    let run = Run::shared("process-06", 20, 0).await?;
    run.calls_of(20, 1)?;
    run.until_models_wait().await?;
    // It has asked whether the documents are there, and will learn that they are not.
    let rule = run.arm(kingdee("ExecuteBillQuery", json!({"kind": "hold", "when": "after"}))).await?;
    let (proxy, url) = run.broker_proxy(2).await?;
    let frozen = run.pipeline.start_with("loader", &[("AMQP_URL", &url)])?;
    run.until_struck(1).await?;
    frozen.process.freeze()?;
    // What Kingdee answers reaches it, that the broker has given it up doesn't: it has to know by its own clock.
    proxy.stall(Way::ToClient);
    run.clear(rule).await?;
    let heir = impatient(&run, "loader")?;
    run.drained().await?;
    let last = run.last_request().await?;
    frozen.process.thaw()?;
    run.until_rebuilt(&frozen, "consume").await?;
    proxy.heal();
    run.pipeline.ready(&frozen, SOON).await?;
    run.ended(vec![frozen, heir]).await?;
    for operation in ["BatchSave", "Submit", "Audit"] {
        let posted = run.requests(operation, last).await?;
        ensure!(posted.is_empty(), "the thawed loader still sends {operation}: {posted:?}");
    }
    Ok(())
}

#[tokio::test]
async fn when_a_transformer_is_frozen_past_its_heartbeat_then_another_takes_over_and_nothing_is_doubled()
-> Result<()> {
    let run = Run::shared("process-06b", 60, 0).await?;
    let split = run.split("transformer", 2).await?;
    // It publishes, and can settle nothing.
    split.consume.stall(Way::ToServer);
    let extractor = run.start("extractor")?;
    run.until_metric(&split.worker, "kingpost_published_total", &[], 1.0).await?;
    split.worker.process.freeze()?;
    let heir = impatient(&run, "transformer")?;
    let again = ["redelivered=\"true\""];
    run.until_metric(&heir, "kingpost_works_received_total", &again, 1.0).await?;
    let loader = run.start("loader")?;
    run.drained().await?;
    split.consume.heal();
    split.worker.process.thaw()?;
    run.until_rebuilt(&split.worker, "consume").await?;
    run.pipeline.ready(&split.worker, SOON).await?;
    run.sound(vec![extractor, split.worker, heir, loader]).await?;
    Ok(())
}

#[tokio::test]
async fn when_a_worker_runs_out_of_memory_then_its_successor_goes_on() -> Result<()> {
    let run = Run::shared("process-07", 200, 12).await?;
    let starved = run.ready("transformer").await?;
    // Enough to stand idle, too little for 200 orders in hand.
    let status = std::fs::read_to_string(format!("/proc/{}/status", starved.process.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).context("no VmData")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    let limit = format!("--data={}", (kib + 1_024) * 1_024);
    tool("prlimit", &["--pid", &starved.process.pid().to_string(), &limit]).await?;
    let mut workers = vec![run.start("extractor")?];
    let status = starved.process.wait(SOON).await?;
    ensure!(
        status.signal().is_some() && starved.process.output().contains("memory allocation of"),
        "it ended with {status}\n{}",
        starved.process.log_tail()
    );
    let heir = run.start("transformer")?;
    let again = ["redelivered=\"true\""];
    let held = run.until_metric(&heir, "kingpost_works_received_total", &again, 1.0);
    held.await.context("it held nothing when it died")?;
    workers.extend([heir, run.start("loader")?]);
    run.sound(workers).await?;
    Ok(())
}

#[tokio::test]
async fn when_a_loader_may_open_no_more_files_then_it_waits_and_nothing_is_dead_lettered() -> Result<()> {
    let run = Run::shared("process-08", 40, 0).await?;
    let loader = run.ready("loader").await?;
    let pid = loader.process.pid();
    // Its connections to the broker stand, the one to Kingdee is not open yet.
    tool("prlimit", &["--pid", &pid.to_string(), "--nofile=3:4096"]).await?;
    let mut workers = vec![run.start("extractor")?, run.start("transformer")?];
    // Its metrics can't be asked for: that needs a file as well.
    let felt =
        wait_until(SOON, "the limit to be felt", async || loader.process.output().contains("unavailable"));
    felt.await.with_context(|| loader.process.log_tail())?;
    ensure!(run.documents().await == 0, "the limit was not felt: nothing is shown");
    tool("prlimit", &["--pid", &pid.to_string(), "--nofile=4096:4096"]).await?;
    workers.push(loader);
    run.sound(workers).await?;
    Ok(())
}

#[tokio::test]
async fn when_the_log_can_not_be_written_then_the_work_goes_on() -> Result<()> {
    let run = Run::shared("process-08b", 40, 12).await?;
    let mut processes = Vec::new();
    for stage in ["extractor", "transformer", "loader"] {
        let program = e2e::lab::binary(&format!("kingpost-{stage}"))?;
        let line = format!("exec '{}' >/dev/full 2>/dev/full", program.display());
        let process = Process::program(std::path::Path::new("/bin/sh"))
            .args(["-c", &line])
            .envs(run.sandbox.settings().iter().cloned())
            .env("AMQP_URL", run.pipeline.amqp_url.as_str())
            .env("SCHEMES_DIR", run.pipeline.schemes.path())
            .env("HTTP_ADDR", format!("127.0.0.1:{}", free_port()?));
        processes.push(process.start()?);
    }
    run.drained().await?;
    for process in processes {
        process.term()?;
        let status = process.wait(SOON).await?;
        ensure!(status.code() == Some(0), "a worker without a log ended with {status}");
    }
    run.ended(Vec::new()).await?;
    Ok(())
}

#[tokio::test]
async fn when_all_replicas_are_killed_and_start_at_once_then_nothing_is_lost_or_doubled() -> Result<()> {
    let run = Run::shared_with("process-09", 200, 12, &["--kingdee-latency", "30"]).await?;
    let fleet = || -> Result<Vec<Worker>> {
        let stages =
            ["extractor", "extractor", "transformer", "transformer", "transformer", "loader", "loader"];
        stages.into_iter().map(|stage| run.start(stage)).collect()
    };
    for round in 1..=2 {
        let workers = fleet()?;
        run.until_documents(round * 20).await?;
        for worker in &workers {
            worker.process.kill();
        }
    }
    run.sound(fleet()?).await?;
    Ok(())
}
