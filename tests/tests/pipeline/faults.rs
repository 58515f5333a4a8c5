//! What goes wrong in the ERPs and in the broker changes nothing in the account.

use anyhow::{Context, Result, ensure};
use e2e::{
    lab::{BrokerOptions, PrivateBroker, Sandbox, wait_until},
    pipeline::{Pipeline, Schemes, Tempo},
};
use serde_json::{Value, json};

use crate::{DEADLINE, SOON, documents, pipeline, pipeline_at, posts, sandbox, sound, tempo};

/// Every rule has struck as often as it was to.
async fn all_struck(sandbox: &Sandbox) -> Result<()> {
    let rules = sandbox.get("faults").await?;
    let rules = rules.as_array().context("no list of faults")?;
    assert!(!rules.is_empty(), "no rule is armed");
    for rule in rules {
        let times = |name: &str| rule.get(name).or_else(|| rule.pointer(&format!("/rule/{name}"))).cloned();
        assert!(times("struck").is_some() && times("struck") == times("count"), "it has not struck: {rule}");
    }
    Ok(())
}

/// Runs 60 orders with a rule for Kingdee, and expects the usual account.
async fn with_fault(name: &str, settle: &str, rules: Value) -> Result<()> {
    let sandbox = sandbox(60, 12, &[]).await?;
    sandbox.fault(&rules).await?;
    let pipeline = pipeline_at(name, &sandbox, Tempo { settle: settle.into(), ..tempo() }).await?;
    let _workers = [pipeline.start("extractor")?, pipeline.start("transformer")?, pipeline.start("loader")?];
    sound(&pipeline, &sandbox, 60, 12).await?;
    assert_eq!(posts(&sandbox).await?, 48, "a document was saved more than once, or not at all");
    all_struck(&sandbox).await
}

fn kingdee(operation: &str, count: u32, action: &Value) -> Value {
    json!({"system": "kingdee", "operation": operation, "count": count, "action": action})
}

#[tokio::test]
async fn when_kingdee_commits_and_the_answer_is_lost_then_nothing_is_posted_twice() -> Result<()> {
    with_fault("fault-drop", "5s", kingdee("BatchSave", 2, &json!({"kind": "drop", "when": "after"}))).await
}

#[tokio::test]
async fn when_kingdee_commits_after_the_look_up_then_nothing_is_posted_twice() -> Result<()> {
    // The first retry looks after five seconds and sees nothing; the window that it may still show in is longer.
    with_fault("fault-zombie", "15s", kingdee("BatchSave", 1, &json!({"kind": "zombie", "ms": 8_000}))).await
}

#[tokio::test]
async fn when_kingdee_answers_pages_and_half_bodies_then_nothing_is_lost() -> Result<()> {
    let sandbox = sandbox(60, 12, &[]).await?;
    for action in [
        json!({"kind": "login_page"}),
        json!({"kind": "status", "code": 504, "when": "after"}),
        json!({"kind": "half_body"}),
        json!({"kind": "invalid_json"}),
        json!({"kind": "response_error", "when": "before"}),
        json!({"kind": "session_lost"}),
        json!({"kind": "conflict"}),
    ] {
        sandbox.fault(&kingdee("BatchSave", 1, &action)).await?;
    }
    for operation in ["Submit", "Audit", "ExecuteBillQuery"] {
        sandbox.fault(&kingdee(operation, 1, &json!({"kind": "drop", "when": "after"}))).await?;
    }
    let pipeline = pipeline("fault-shapes", &sandbox).await?;
    let _workers = [pipeline.start("extractor")?, pipeline.start("transformer")?, pipeline.start("loader")?];
    sound(&pipeline, &sandbox, 60, 12).await?;
    assert_eq!(posts(&sandbox).await?, 48);
    all_struck(&sandbox).await
}

#[tokio::test]
async fn when_wdt_throttles_breaks_off_and_miscounts_then_the_window_is_read_whole() -> Result<()> {
    let sandbox = sandbox(60, 12, &[]).await?;
    for action in [
        json!({"kind": "isp_error"}),
        json!({"kind": "status", "code": 502, "when": "before"}),
        json!({"kind": "ban", "seconds": 2}),
        json!({"kind": "half_body"}),
        json!({"kind": "wrong_total", "add": 3}),
    ] {
        sandbox.fault(&json!({"system": "wdt", "count": 1, "action": action})).await?;
    }
    let pipeline = pipeline("fault-wdt", &sandbox).await?;
    let _workers = [pipeline.start("extractor")?, pipeline.start("transformer")?, pipeline.start("loader")?];
    sound(&pipeline, &sandbox, 60, 12).await?;
    all_struck(&sandbox).await
}

#[tokio::test]
async fn when_kingdee_is_down_then_nothing_is_dead_lettered_for_it() -> Result<()> {
    // More than two batches, so that some are held and not begun when the loader pauses.
    let sandbox = sandbox(100, 0, &[]).await?;
    let pipeline = pipeline("fault-down", &sandbox).await?;
    let nowhere = format!("http://127.0.0.1:{}/k3cloud", e2e::lab::free_port()?);
    let _reading = [pipeline.start("extractor")?, pipeline.start("transformer")?];
    let loader = pipeline.start_with("loader", &[("KINGDEE_URL", nowhere.as_str())])?;
    wait_until(SOON, "the loader to pause", async || {
        let text = pipeline.metrics(&loader).await.unwrap_or_default();
        e2e::pipeline::metric(&text, "kingpost_scheme_paused", &["reason=\"unavailable\""]) > 0.5
    })
    .await?;
    wait_until(SOON, "what is in hand to grow old", async || {
        let text = pipeline.metrics(&loader).await.unwrap_or_default();
        e2e::pipeline::metric(&text, "kingpost_oldest_unsettled_seconds", &["stage=\"load\""]) > 2.0
            && e2e::pipeline::metric(&text, "kingpost_queue_wait_seconds_count", &["stage=\"load\""]) > 0.5
    })
    .await?;
    crate::stop(loader).await?;
    let loader = pipeline.start("loader")?;
    sound(&pipeline, &sandbox, 100, 0).await?;
    let text = pipeline.metrics(&loader).await?;
    let left = e2e::pipeline::metric(&text, "kingpost_oldest_unsettled_seconds", &["stage=\"load\""]);
    ensure!(text.contains("kingpost_oldest_unsettled_seconds") && left < 0.5, "nothing is in hand: {text}");
    Ok(())
}

#[tokio::test]
async fn when_the_broker_is_killed_in_mid_run_then_nothing_is_lost_or_doubled() -> Result<()> {
    let broker = PrivateBroker::start(BrokerOptions::default()).await?;
    let sandbox = sandbox(200, 12, &["--kingdee-latency", "40"]).await?;
    let pipeline = Pipeline::new(broker.amqp_url(), Schemes::at(&tempo())?, &sandbox)?;
    let workers = [pipeline.start("extractor")?, pipeline.start("transformer")?, pipeline.start("loader")?];
    for round in 1..=2 {
        wait_until(SOON, "documents", async || documents(&sandbox).await > round * 20).await?;
        broker.kill();
        broker.restart().await?;
    }
    for worker in &workers {
        pipeline.ready(worker, DEADLINE).await?;
    }
    sound(&pipeline, &sandbox, 200, 12).await?;
    Ok(())
}
