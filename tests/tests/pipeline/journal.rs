//! What the journal tells of a document's life, and that nothing depends on it.

use anyhow::{Context, Result};
use e2e::{
    lab::{Process, Sandbox, wait_until},
    pipeline::{Pipeline, SCHEME},
};
use kingpost_broker::{BrokerConfig, JOURNAL, JournalReader};
use kingpost_model::JournalEvent;
use lapin::{
    Connection, ConnectionProperties,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};

use crate::{DEADLINE, LOAD, SOON, documents, pipeline, posts, sandbox, sound, stop};

/// Runs the operator's command with the settings of the pipeline; exit code and what it printed.
async fn kingpost(
    pipeline: &Pipeline,
    settings: &[(String, String)],
    arguments: &[&str],
) -> Result<(Option<i32>, String)> {
    let folder = tempfile::tempdir()?;
    let process = Process::of("kingpost")?
        .args(arguments.iter().copied())
        .envs(settings.iter().cloned())
        .env("AMQP_URL", pipeline.amqp_url.as_str())
        .env("SCHEMES_DIR", pipeline.schemes.path())
        .dir(folder.path())
        .start()?;
    let status = process.wait(SOON).await?;
    Ok((status.code(), process.output()))
}

/// Every event of a document, by the number that it has everywhere here.
async fn events(url: &str, number: &str) -> Result<Vec<JournalEvent>> {
    let config = BrokerConfig::for_url(url, "kingpost-test/1");
    let reader = JournalReader::open(&config).await?.context("there is no journal")?;
    let mut events = Vec::new();
    reader.scan(0, &[number], |event| events.push(event)).await?;
    reader.close().await;
    events.sort_by_key(|event| event.at_ms);
    Ok(events)
}

fn steps(events: &[JournalEvent]) -> Vec<&str> {
    events.iter().map(|event| event.step.as_str()).collect()
}

async fn until_steps(url: &str, number: &str, expected: &[&str]) -> Result<Vec<JournalEvent>> {
    let what = format!("the steps {expected:?}");
    let there = wait_until(SOON, &what, async || {
        events(url, number).await.is_ok_and(|events| steps(&events) == expected)
    });
    let waited = there.await;
    let events = events(url, number).await?;
    waited.with_context(|| format!("{:?}", steps(&events)))?;
    Ok(events)
}

/// The number of the only order.
async fn only_order(sandbox: &Sandbox) -> Result<String> {
    let orders = sandbox.orders().await?;
    let number = orders.pointer("/0/order_no").or_else(|| orders.pointer("/0/number"));
    Ok(number.and_then(Value::as_str).with_context(|| format!("no order in {orders}"))?.to_owned())
}

#[tokio::test]
async fn a_document_is_traced_through_its_whole_life() -> Result<()> {
    let sandbox = sandbox(1, 0, &[]).await?;
    // The first post meets a lock, the second is refused.
    let rules = json!([
        {"system": "kingdee", "operation": "BatchSave", "count": 1, "action": {"kind": "conflict"}},
        {"system": "kingdee", "operation": "BatchSave", "count": 1,
         "action": {"kind": "refuse", "msg_code": 11, "message": "字段“供应商”是必填项"}},
    ]);
    sandbox.fault(&rules).await?;
    let pipeline = pipeline("journal-life", &sandbox).await?;
    let (url, settings) = (pipeline.amqp_url.clone(), sandbox.settings());
    let workers = ["extractor", "transformer", "loader"].map(|stage| pipeline.start(stage));
    let number = only_order(&sandbox).await?;
    let dead = until_steps(&url, &number, &["extracted", "mapped", "retry", "dead"]).await?;
    let hosts: Vec<_> = dead.iter().map(|event| (event.stage.as_str(), event.attempt)).collect();
    assert_eq!(hosts, [("extract", 1), ("transform", 1), ("load", 1), ("load", 2)]);
    let (code, told) = kingpost(&pipeline, settings, &["trace", &number]).await?;
    assert_eq!(code, Some(1), "{told}");
    for part in
        ["dead letter in load.purchase-stockin.dead", "字段“供应商”是必填项", "try 1 failed, again after 5s"]
    {
        assert!(told.contains(part), "{part} is missing in\n{told}");
    }
    // It goes by its purchase order and by the id of its message too.
    let order = dead[3].write_key.clone().context("no purchase order")?;
    for key in [order.as_str(), dead[0].work_id.as_str()] {
        let (_, told) = kingpost(&pipeline, settings, &["trace", key]).await?;
        assert!(told.contains(&format!("{number} is a dead letter")), "{key}:\n{told}");
    }

    let replay = ["dead", "replay", &number, "--reason", "an example", "--yes", "--out", "plan.json"];
    let (code, output) = kingpost(&pipeline, settings, &replay).await?;
    assert_eq!(code, Some(0), "{output}");
    let life = ["extracted", "mapped", "retry", "dead", "replayed", "loaded"];
    let events = until_steps(&url, &number, &life).await?;
    assert_eq!(events[5].origin, "replay");
    let (code, told) = kingpost(&pipeline, settings, &["trace", &number, "--source"]).await?;
    assert_eq!(code, Some(0), "{told}");
    for part in ["is in Kingdee: C audited", "dead replay by", "an example", "has it, changed"] {
        assert!(told.contains(part), "{part} is missing in\n{told}");
    }
    assert!(!told.contains("not asked"), "{told}");

    // Without the settings of the other systems it says so, and tells what the journal knows.
    let (code, told) = kingpost(&pipeline, &[], &["trace", &number, "--source"]).await?;
    assert_eq!(code, Some(0), "{told}");
    for part in ["not asked: Kingdee: KINGDEE_URL", "not asked: the source: WDT_URL", "by the journal"] {
        assert!(told.contains(part), "{part} is missing in\n{told}");
    }
    let (code, told) = kingpost(&pipeline, settings, &["trace", "RK-NOBODY", "--json"]).await?;
    assert_eq!(code, Some(1), "{told}");
    let last: Value = serde_json::from_str(told.lines().last().unwrap_or_default())?;
    assert_eq!(last.get("state"), Some(&json!("unknown")), "{told}");

    for worker in workers {
        stop(worker?).await?;
    }
    // No body and no secret of any kind went into it.
    let written = serde_json::to_string(&events)?;
    assert!(!written.contains("FStockOrgId") && !written.contains("details_list"), "{written}");
    for (name, value) in settings.iter().filter(|(name, _)| name.ends_with("SECRET")) {
        assert!(!written.contains(value.as_str()), "{name} is in the journal");
    }
    Ok(())
}

/// Everything arrives, exactly once, without a stream, with one that vanishes on the way, and with none wanted.
#[tokio::test]
async fn without_a_journal_all_work_is_done_all_the_same() -> Result<()> {
    for (name, off) in [("journal-none", "on"), ("journal-off", "off")] {
        let sandbox = sandbox(60, 12, &[]).await?;
        let pipeline = pipeline(name, &sandbox).await?;
        let admin = Connection::connect(&pipeline.amqp_url, ConnectionProperties::default()).await?;
        let channel = admin.create_channel().await?;
        if off == "on" {
            // As on a broker without streams: the name is taken by something that is none.
            let mut classic = FieldTable::default();
            classic.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
            channel.queue_declare(JOURNAL.into(), QueueDeclareOptions::durable(), classic).await?;
        }
        let start = |stage| pipeline.start_with(stage, &[("JOURNAL", off)]);
        let workers = [start("extractor")?, start("transformer")?, start("loader")?];
        sound(&pipeline, &sandbox, 60, 12).await?;
        assert_eq!(posts(&sandbox).await?, 48);
        assert_eq!(documents(&sandbox).await, 48);
        let mut dropped = Vec::new();
        for worker in workers {
            let output = stop(worker).await?;
            dropped.push(output.matches("the journal is not written").count());
        }
        // Said once by each worker that had something to write, and by none that was told not to.
        let expected = if off == "on" { [1, 1, 1] } else { [0, 0, 0] };
        assert_eq!(dropped, expected);
        let inspector = pipeline.inspector().await?;
        let depth = inspector.depth(JOURNAL).await?.map(|depth| depth.ready);
        assert_eq!(depth, (off == "on").then_some(0));
        inspector.close().await;
        admin.close(200, "done".into()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn when_the_journal_is_deleted_in_mid_work_then_everything_arrives_and_it_is_written_again()
-> Result<()> {
    let sandbox = sandbox(60, 12, &[]).await?;
    let pipeline = pipeline("journal-gone", &sandbox).await?;
    let reading = [pipeline.start("extractor")?, pipeline.start("transformer")?];
    let inspector = pipeline.inspector().await?;
    let waiting = wait_until(DEADLINE, "models to wait", async || {
        inspector.depth(LOAD).await.ok().flatten().is_some_and(|depth| depth.ready > 0)
    });
    waiting.await?;
    wait_until(SOON, "a journal", async || {
        inspector.depth(JOURNAL).await.ok().flatten().is_some_and(|depth| depth.ready > 0)
    })
    .await?;
    inspector.close().await;
    let admin = Connection::connect(&pipeline.amqp_url, ConnectionProperties::default()).await?;
    let channel = admin.create_channel().await?;
    channel.queue_delete(JOURNAL.into(), QueueDeleteOptions::default()).await?;
    let loader = pipeline.start("loader")?;
    sound(&pipeline, &sandbox, 60, 12).await?;
    for worker in reading.into_iter().chain([loader]) {
        stop(worker).await?;
    }
    let config = BrokerConfig::for_url(&*pipeline.amqp_url, "kingpost-test/1");
    let reader = JournalReader::open(&config).await?.context("it was not made again")?;
    let mut loaded = 0;
    reader
        .scan(0, &[], |event| {
            loaded += usize::from(event.step.as_str() == "loaded" && event.scheme == SCHEME);
        })
        .await?;
    reader.close().await;
    assert!(loaded >= 48, "{loaded} of 48 documents are in the journal");
    admin.close(200, "done".into()).await?;
    Ok(())
}
