//! Real loaders that come and go.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use e2e::{
    account::Account,
    lab::{Sandbox, SandboxOptions, shared_broker, wait_for, wait_until},
    pipeline::{Pipeline, SCHEME, Schemes, Tempo, Worker, metric},
};
use kingpost_broker::{Broker, BrokerConfig, Destination, LaneSpec, NoObserver, Posting, Receipt, Topology};
use kingpost_model::{Route, StageName, Work, WorkId};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::SOON;

const FROM: &str = "2026-08-01T00:00:00+08:00";

pub(crate) async fn sandbox(orders: u32, unpostable: u32, more: &[&str]) -> Result<Sandbox> {
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

/// A pipeline whose scheme has another target: so many shards, batches of that size one at a time.
pub(crate) async fn pipeline(
    name: &str,
    sandbox: &Sandbox,
    (shards, rows): (u32, u32),
    settle: &str,
) -> Result<Pipeline> {
    let url = shared_broker().await?.vhost(name).await?;
    let tempo = Tempo { start: FROM.into(), width: "29d".into(), settle: settle.into() };
    let schemes = Schemes::at(&tempo)?;
    let file = schemes.path().join(format!("{SCHEME}.yaml"));
    let yaml = std::fs::read_to_string(&file)?;
    let from = "  batch: { rows: 20, wait: 500ms, concurrency: 2 }";
    ensure!(yaml.contains(from), "the shipped scheme has another batch");
    let to = format!("  shards: {shards}\n  batch: {{ rows: {rows}, wait: 20ms, concurrency: 1 }}");
    std::fs::write(&file, yaml.replace(from, &to))?;
    Pipeline::new(url, schemes, sandbox)
}

/// Fills the load queues of that many shards with everything that can be mapped.
pub(crate) async fn fill(pipeline: &Pipeline, shards: u32, messages: u32) -> Result<()> {
    let workers = [pipeline.start("extractor")?, pipeline.start("transformer")?];
    let inspector = pipeline.inspector().await?;
    let routes = Route::all(StageName::Load, SCHEME, shards);
    wait_until(SOON, "the load queues to be filled", async || {
        let mut ready = 0;
        for route in &routes {
            ready += inspector.depth(&route.queue()).await.ok().flatten().map_or(0, |depth| depth.ready);
        }
        ready >= messages
    })
    .await?;
    inspector.close().await;
    for worker in workers {
        worker.process.term()?;
        worker.process.wait(SOON).await?;
    }
    Ok(())
}

/// The shards that a loader says to be the active one of.
async fn active(pipeline: &Pipeline, loader: &Worker) -> Vec<u32> {
    let text = pipeline.metrics(loader).await.unwrap_or_default();
    let is = |shard: &u32| metric(&text, "kingpost_shard_active", &[&format!("shard=\"{shard}\"")]) > 0.5;
    (0..4).filter(is).collect()
}

/// Waits until every shard has one active loader and none has more than its share.
async fn balanced(pipeline: &Pipeline, loaders: &[Worker]) -> Result<()> {
    let share = 4_usize.div_ceil(loaders.len());
    let mut last = Vec::new();
    let waited = wait_until(SOON, "the shards to be shared", async || {
        last.clear();
        for loader in loaders {
            last.push(active(pipeline, loader).await);
        }
        let mut all: Vec<u32> = last.iter().flatten().copied().collect();
        all.sort_unstable();
        all == [0, 1, 2, 3] && last.iter().all(|own| own.len() <= share)
    })
    .await;
    let waits = e2e::account::waiting(&pipeline.inspector().await?, SCHEME, 4).await?;
    let logs: Vec<String> = loaders.iter().map(|loader| loader.process.log_tail()).collect();
    waited.with_context(|| format!("{last:?} {waits:?}\n{}", logs.join("\n")))
}

pub(crate) async fn documents(sandbox: &Sandbox) -> Result<u64> {
    sandbox.summary().await?.get("documents").and_then(Value::as_u64).context("no count of documents")
}

#[tokio::test]
async fn when_loaders_come_and_go_then_shards_are_shared_and_every_document_arrives_once() -> Result<()> {
    let sandbox = sandbox(400, 0, &["--kingdee-latency", "40"]).await?;
    // Two saves of one number at a time would both succeed.
    let gap = json!({"kind": "check_gap", "ms": 40});
    sandbox
        .fault(&json!({"system": "kingdee", "operation": "BatchSave", "count": null, "action": gap}))
        .await?;
    let pipeline = pipeline("shards-balance", &sandbox, (4, 1), "3s").await?;
    fill(&pipeline, 4, 400).await?;
    let mut loaders = vec![pipeline.start("loader")?];
    balanced(&pipeline, &loaders).await?;
    for _ in 0..2 {
        loaders.push(pipeline.start("loader")?);
        balanced(&pipeline, &loaders).await.with_context(|| format!("with {} loaders", loaders.len()))?;
    }
    // One is gone without a word, the next says good-bye.
    loaders.remove(0).process.kill();
    balanced(&pipeline, &loaders).await?;
    let leaving = loaders.remove(0);
    leaving.process.term()?;
    assert_eq!(leaving.process.wait(SOON).await?.code(), Some(0), "{}", leaving.process.log_tail());
    balanced(&pipeline, &loaders).await?;
    ensure!(
        documents(&sandbox).await? < 400,
        "all was posted before the loaders had changed: nothing is shown"
    );
    wait_until(Duration::from_secs(90), "every document", async || {
        documents(&sandbox).await.is_ok_and(|documents| documents == 400)
    })
    .await?;
    let audited =
        async || sandbox.summary().await.ok()?.pointer("/by_status/C")?.as_u64().filter(|n| *n == 400);
    wait_for(SOON, "every audit", audited).await?;
    let account = Account::take(&sandbox, &pipeline.amqp_url, SCHEME).await?;
    assert!(account.is_sound(), "{}", account.report());
    Ok(())
}

/// A message of the one order of a sandbox, taken out of its queue.
async fn model(pipeline: &Pipeline) -> Result<(Broker, Work)> {
    fill(pipeline, 1, 1).await?;
    let config = BrokerConfig::for_url(&*pipeline.amqp_url, "kingpost-test/1");
    let (topology, stop) = (Topology::new([(SCHEME, 1)]), CancellationToken::new());
    let broker = Broker::start(config, topology, Arc::new(NoObserver), &stop).await?;
    let route = Route::new(StageName::Load, SCHEME);
    let (subscription, mut inboxes) = broker.subscribe(vec![LaneSpec { route, prefetch: 1 }]);
    let delivery = tokio::time::timeout(SOON, inboxes[0].recv()).await?.context("no model")?;
    let work = delivery.work;
    Receipt::acknowledge(vec![delivery.receipt]);
    subscription.close(SOON).await;
    Ok((broker, work))
}

async fn publish(broker: &Broker, work: &Work, copies: std::ops::Range<usize>) -> Result<()> {
    let postings = copies.map(|n| {
        let mut work = work.clone();
        work.id = WorkId::new(format!("copy-{n}"));
        Posting { destination: Destination::Work(Route::new(StageName::Load, SCHEME)), work }
    });
    Ok(broker.outbound().publish(postings.collect()).await?)
}

/// How often a loader has called an operation of Kingdee.
async fn calls(pipeline: &Pipeline, loader: &Worker, operation: &str) -> f64 {
    let text = pipeline.metrics(loader).await.unwrap_or_default();
    let operation = format!("operation=\"{operation}\"");
    metric(&text, "kingpost_erp_request_seconds_count", &[&operation])
}

async fn struck(sandbox: &Sandbox) -> bool {
    let faults = sandbox.get("faults").await.unwrap_or_default().to_string();
    faults.contains("\"struck\":1")
}

/// How a loader ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// It is told to stop while it saves.
    Term,
    /// It is killed when its save has ended without an answer, and the document waits to be looked up.
    Kill,
}

/// Copies of one document, of which a first loader saves one when it ends: the second one, which gets the others as they
/// are, fresh, has to find it and may save none.
async fn hand_over(name: &str, settle: &str, action: &Value, end: End) -> Result<()> {
    let sandbox = sandbox(1, 0, &[]).await?;
    let pipeline = pipeline(name, &sandbox, (1, 1), settle).await?;
    let (broker, work) = model(&pipeline).await?;
    sandbox
        .fault(&json!({"system": "kingdee", "operation": "BatchSave", "count": 1, "action": action}))
        .await?;
    let first = pipeline.start("loader")?;
    pipeline.ready(&first, SOON).await?;
    publish(&broker, &work, 0..1).await?;
    wait_until(SOON, "the save to be under way", async || struck(&sandbox).await).await?;
    let second = pipeline.start("loader")?;
    pipeline.ready(&second, SOON).await?;
    let inspector = pipeline.inspector().await?;
    if end == End::Term {
        // More than the first one can have in hand.
        publish(&broker, &work, 1..8).await?;
        first.process.term()?;
        let status = first.process.wait(SOON).await?;
        assert_eq!(status.code(), Some(0), "{}", first.process.log_tail());
    } else {
        wait_until(SOON, "the document to wait", async || {
            inspector.depth("wait.5s").await.ok().flatten().is_some_and(|depth| depth.ready > 0)
        })
        .await?;
        first.process.kill();
        publish(&broker, &work, 1..8).await?;
    }
    wait_until(SOON, "every copy to be settled", async || {
        let text = pipeline.metrics(&second).await.unwrap_or_default();
        let mut waiting = 0.0;
        for queue in [Route::new(StageName::Load, SCHEME).queue(), "wait.5s".into(), "wait.30s".into()] {
            waiting +=
                inspector.depth(&queue).await.ok().flatten().map_or(1.0, |depth| f64::from(depth.ready));
        }
        let done = metric(&text, "kingpost_verdicts_total", &["verdict=\"done\""]);
        waiting + metric(&text, "kingpost_inflight_works", &[]) < 0.5 && done > 5.5
    })
    .await
    .with_context(|| second.process.log_tail())?;
    assert!(calls(&pipeline, &second, "save").await < 0.5, "it posted what was still running");
    let ledger = sandbox.ledger().await?.to_string();
    assert_eq!(ledger.matches("\"saved\"").count(), 1, "{ledger}");
    assert_eq!(documents(&sandbox).await?, 1);
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn when_a_loader_drains_then_its_successor_posts_nothing_that_is_still_running() -> Result<()> {
    // Between Kingdee's look for the number and its insert, two saves of one number would both succeed.
    hand_over("shards-drain", "3s", &json!({"kind": "check_gap", "ms": 3_000}), End::Term).await
}

#[tokio::test]
async fn when_a_loader_drains_after_a_write_without_an_answer_then_its_successor_waits_for_it() -> Result<()>
{
    hand_over("shards-doubt", "5s", &json!({"kind": "zombie", "ms": 3_000}), End::Term).await
}

#[tokio::test]
async fn when_a_loader_is_killed_after_a_write_without_an_answer_then_its_successor_waits_for_it()
-> Result<()> {
    hand_over("shards-killed", "5s", &json!({"kind": "zombie", "ms": 3_000}), End::Kill).await
}
