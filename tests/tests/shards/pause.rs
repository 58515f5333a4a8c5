//! What stops a scheme, and what lets it go on.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{
    lab::{Proxy, free_port, wait_until},
    pipeline::{Pipeline, SCHEME, Worker, metric},
};
use kingpost_model::{Route, StageName};
use serde_json::json;

use crate::{
    SOON,
    loaders::{documents, fill, pipeline, sandbox},
};

async fn paused(pipeline: &Pipeline, loader: &Worker, reason: &str) -> bool {
    let text = pipeline.metrics(loader).await.unwrap_or_default();
    metric(&text, "kingpost_scheme_paused", &[&format!("reason=\"{reason}\"")]) > 0.5
}

#[tokio::test]
async fn when_one_cause_kills_twenty_documents_in_a_row_then_the_scheme_pauses_and_the_rest_waits()
-> Result<()> {
    let sandbox = sandbox(120, 0, &[]).await?;
    let refusal =
        json!({"kind": "refuse", "msg_code": 11, "message": "单据编号“RK1”的存货档案不允许采购入库"});
    sandbox
        .fault(&json!({"system": "kingdee", "operation": "BatchSave", "count": null, "action": refusal}))
        .await?;
    let pipeline = pipeline("shards-flood", &sandbox, (4, 5), "3s").await?;
    fill(&pipeline, 4, 120).await?;
    let loader = pipeline.start("loader")?;
    wait_until(SOON, "the pause", async || paused(&pipeline, &loader, "dead-letters").await).await?;
    let inspector = pipeline.inspector().await?;
    let dead = Route::new(StageName::Load, SCHEME).dead_queue();
    let depth = async || inspector.depth(&dead).await.ok().flatten().map_or(0, |depth| depth.ready);
    // The pause begins before the batch that caused it is carried out, and the broker counts a moment later.
    let settled = async || {
        let text = pipeline.metrics(&loader).await.unwrap_or_default();
        let counted = metric(&text, "kingpost_dead_lettered_total", &["stage=\"load\""]);
        let running = metric(&text, "kingpost_inflight_works", &["stage=\"load\""]);
        running < 0.5 && counted > 19.5 && (counted - f64::from(depth().await)).abs() < 0.5
    };
    wait_until(SOON, "the dead letters", settled).await?;
    let text = pipeline.metrics(&loader).await?;
    let before = depth().await;
    // Four shards run at once, each in its own row: none of them goes beyond twenty.
    assert!((20..=80).contains(&before), "{before} dead letters");
    let saves = metric(&text, "kingpost_erp_request_seconds_count", &["operation=\"save\""]);
    let log = loader.process.output();
    for part in ["20 dead letters in a row with one cause", "不允许采购入库", "work pauses", "then replay it"]
    {
        assert!(log.contains(part), "{part} is missing in\n{log}");
    }
    let quiet = wait_until(Duration::from_secs(5), "more", async || {
        let text = pipeline.metrics(&loader).await.unwrap_or_default();
        metric(&text, "kingpost_erp_request_seconds_count", &["operation=\"save\""]) > saves + 3.5
            || depth().await > before + 3
    })
    .await;
    assert!(quiet.is_err(), "it goes on although one cause kills everything");
    // A person mends the cause: the next document that is tried ends the pause by itself.
    sandbox.delete("faults").await?;
    let over = Duration::from_secs(60);
    wait_until(over, "the end of the pause", async || !paused(&pipeline, &loader, "dead-letters").await)
        .await?;
    let rest = 120 - u64::from(before);
    wait_until(SOON, "the rest", async || {
        let summary = sandbox.summary().await.unwrap_or_default();
        let posted = summary.get("documents").and_then(serde_json::Value::as_u64).unwrap_or(0);
        posted + u64::from(depth().await) == 120 && posted + 3 >= rest
    })
    .await
}

#[tokio::test]
async fn when_a_paused_loader_loses_its_only_shard_then_its_pause_is_not_shown_for_ever() -> Result<()> {
    let sandbox = sandbox(30, 0, &[]).await?;
    let pipeline = pipeline("shards-pause-left", &sandbox, (1, 5), "2s").await?;
    fill(&pipeline, 1, 30).await?;
    // Neither Kingdee nor, in a moment, RabbitMQ is reached from where the first loader runs.
    let (_, address) = pipeline.amqp_url.rsplit_once('@').context("no user")?;
    let (address, _) = address.split_once('/').context("no virtual host")?;
    let proxy = Proxy::start(address).await?;
    let url = pipeline.amqp_url.replace(address, proxy.address());
    let nobody = format!("http://127.0.0.1:{}/k3cloud/", free_port()?);
    let cut_off = pipeline.start_with("loader", &[("AMQP_URL", &url), ("KINGDEE_URL", &nobody)])?;
    wait_until(SOON, "the pause", async || paused(&pipeline, &cut_off, "unavailable").await).await?;
    let other = pipeline.start("loader")?;
    pipeline.ready(&other, SOON).await?;
    proxy.reset();
    wait_until(SOON, "the other one to post it all", async || {
        documents(&sandbox).await.is_ok_and(|documents| documents == 30)
    })
    .await
    .with_context(|| other.process.log_tail())?;
    wait_until(SOON, "the pause to be over", async || !paused(&pipeline, &cut_off, "unavailable").await)
        .await
        .with_context(|| cut_off.process.log_tail())?;
    assert!(!cut_off.process.output().contains("a probe succeeded"), "nothing did");
    Ok(())
}
