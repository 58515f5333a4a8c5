//! Resets, stalls, holes, latency and narrow lines between the workers, the broker and Kingdee.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::{
    lab::{Proxy, Way, Welcome, wait_until},
    pipeline::Worker,
};

use crate::{LOAD, Run, SOON};

impl Run {
    /// All three workers, whose every connection to the broker goes through the proxy.
    fn start_all_at(&self, url: &str) -> Result<Vec<Worker>> {
        let stages = ["extractor", "transformer", "loader"];
        stages.into_iter().map(|stage| self.pipeline.start_with(stage, &[("AMQP_URL", url)])).collect()
    }
}

async fn cut(proxy: &Proxy, way: Way, bytes: u32) -> Result<()> {
    proxy.cut_after(way, bytes);
    wait_until(SOON, "a connection to be cut", async || proxy.is_cut(way)).await
}

#[tokio::test]
async fn when_connections_to_the_broker_are_reset_in_mid_frame_then_nothing_is_lost_or_doubled() -> Result<()>
{
    let run = Run::shared_with("network-25", 200, 0, &["--kingdee-latency", "40"]).await?;
    let (proxy, url) = run.broker_proxy(2).await?;
    let workers = run.start_all_at(&url)?;
    run.until_documents(1).await?;
    for bytes in [5_003, 997] {
        for way in Way::BOTH {
            cut(&proxy, way, bytes).await?;
        }
    }
    run.sound(workers).await?;
    Ok(())
}

#[tokio::test]
async fn when_connections_to_kingdee_are_reset_in_mid_answer_then_nothing_is_lost_or_doubled() -> Result<()> {
    let run = Run::shared("network-25b", 60, 0).await?;
    run.calls_of(10, 1)?;
    let (proxy, url) = run.kingdee_proxy().await?;
    proxy.cut_after(Way::ToServer, 9_001);
    let mut workers = vec![run.start("extractor")?, run.start("transformer")?];
    workers.push(run.pipeline.start_with("loader", &[("KINGDEE_URL", &url)])?);
    wait_until(SOON, "a request to be cut", async || proxy.is_cut(Way::ToServer)).await?;
    cut(&proxy, Way::ToClient, 1_009).await?;
    run.sound(workers).await?;
    Ok(())
}

#[tokio::test]
async fn when_the_broker_is_in_a_black_hole_then_the_workers_notice_and_can_be_stopped() -> Result<()> {
    let run = Run::shared_with("network-26", 100, 0, &["--kingdee-latency", "40"]).await?;
    let (proxy, url) = run.broker_proxy(2).await?;
    let mut workers = run.start_all_at(&url)?;
    run.until_documents(5).await?;
    proxy.welcome(Welcome::Hole);
    Way::BOTH.into_iter().for_each(|way| proxy.stall(way));
    for worker in &workers {
        run.until_unready(worker).await?;
    }
    // A stop must not hang on a broker that doesn't answer: it ends within its grace, here the usual 25 seconds.
    let stopped = workers.pop().context("no loader")?;
    let began = Instant::now();
    crate::stop(stopped).await?;
    ensure!(began.elapsed() < Duration::from_secs(30), "it took {:?} to stop", began.elapsed());
    proxy.reset();
    proxy.heal();
    workers.push(run.pipeline.start_with("loader", &[("AMQP_URL", &url)])?);
    run.sound(workers).await?;
    Ok(())
}

#[tokio::test]
async fn when_acknowledgements_are_lost_then_the_documents_are_found_and_not_posted_again() -> Result<()> {
    let run = Run::shared("network-27", 20, 0).await?;
    let split = run.split("loader", 2).await?;
    split.consume.stall(Way::ToServer);
    let mut workers = vec![run.start("extractor")?, run.start("transformer")?];
    run.until_documents(20).await?;
    let posted = run.last_request().await?;
    workers.push(run.start("loader")?);
    run.until_rebuilt(&split.worker, "consume").await?;
    run.drained().await?;
    split.consume.reset();
    split.consume.heal();
    run.pipeline.ready(&split.worker, SOON).await?;
    workers.push(split.worker);
    run.sound(workers).await?;
    let again = run.requests("BatchSave", posted).await?;
    ensure!(again.is_empty(), "what was in Kingdee was posted again: {again:?}");
    Ok(())
}

#[tokio::test]
async fn when_confirms_are_lost_then_the_copies_make_one_document_each() -> Result<()> {
    let run = Run::shared("network-28", 40, 0).await?;
    let split = run.split("transformer", 2).await?;
    split.publish.stall(Way::ToClient);
    let extractor = run.start("extractor")?;
    // It gives the silent connection up and publishes on a new one what it has no confirm for.
    run.until_metric(&split.worker, "kingpost_publish_retried_total", &[], 1.0).await?;
    run.until_metric(&split.worker, "kingpost_published_total", &[], 40.0).await?;
    ensure!(run.depth(LOAD).await? > 40, "no copies: the fault was missed");
    split.publish.reset();
    let loader = run.start("loader")?;
    run.sound(vec![extractor, split.worker, loader]).await?;
    Ok(())
}

#[tokio::test]
async fn when_the_extractors_confirms_are_lost_then_the_orders_that_come_twice_make_one_document_each()
-> Result<()> {
    let run = Run::shared("network-28b", 40, 0).await?;
    let hold = serde_json::json!({"system": "wdt", "action": {"kind": "hold", "when": "before"}});
    let held = run.arm(crate::always(hold)).await?;
    let split = run.split("extractor", 2).await?;
    run.until_struck(1).await?;
    split.publish.stall(Way::ToClient);
    run.clear(held).await?;
    run.until_depth(crate::TRANSFORM, 40).await?;
    run.until_metric(&split.worker, "kingpost_publish_retried_total", &[], 1.0).await?;
    split.publish.reset();
    let workers = vec![split.worker, run.start("transformer")?, run.start("loader")?];
    run.sound(workers).await?;
    Ok(())
}

/// Runs 20 orders through a line that is made bad once all sessions stand; nobody may lose one for it.
async fn on_a_bad_line(name: &str, spoil: impl FnOnce(&Proxy)) -> Result<()> {
    let run = Run::shared(name, 20, 0).await?;
    let (proxy, url) = run.broker_proxy(10).await?;
    let mut workers = vec![
        run.pipeline.start_with("transformer", &[("AMQP_URL", &url)])?,
        run.pipeline.start_with("loader", &[("AMQP_URL", &url)])?,
    ];
    for worker in &workers {
        run.pipeline.ready(worker, SOON).await?;
    }
    spoil(&proxy);
    workers.insert(0, run.start("extractor")?);
    run.drained().await?;
    for worker in &workers {
        let rebuilt = e2e::pipeline::metric(
            &run.pipeline.metrics(worker).await?,
            "kingpost_session_rebuilds_total",
            &[],
        );
        ensure!(rebuilt < 0.5, "a slow line was taken for a dead one\n{}", worker.process.log_tail());
    }
    proxy.heal();
    run.sound(workers).await?;
    Ok(())
}

#[tokio::test]
async fn when_latency_is_high_then_it_is_slow_and_no_session_is_given_up() -> Result<()> {
    let (latency, jitter) = (Duration::from_millis(300), Duration::from_millis(400));
    on_a_bad_line("network-29a", |proxy| {
        Way::BOTH.into_iter().for_each(|way| proxy.delay(way, latency, jitter));
    })
    .await
}

#[tokio::test]
async fn when_the_line_is_narrow_then_it_is_slow_and_no_session_is_given_up() -> Result<()> {
    on_a_bad_line("network-29b", |proxy| {
        Way::BOTH.into_iter().for_each(|way| proxy.narrow(way, 32_000));
    })
    .await
}

#[tokio::test]
async fn when_bytes_come_one_by_one_then_frames_are_put_together() -> Result<()> {
    on_a_bad_line("network-29c", |proxy| {
        Way::BOTH.into_iter().for_each(|way| proxy.slice(way, 1));
    })
    .await
}

#[tokio::test]
async fn when_a_worker_starts_on_a_line_of_high_latency_then_it_gets_ready() -> Result<()> {
    let run = Run::shared("network-29d", 5, 0).await?;
    let (proxy, url) = run.broker_proxy(10).await?;
    // 100 ms there and back: some forty questions and answers before a worker is ready.
    Way::BOTH.into_iter().for_each(|way| proxy.delay(way, Duration::from_millis(50), Duration::ZERO));
    let workers = run.start_all_at(&url)?;
    for worker in &workers {
        run.pipeline.ready(worker, SOON).await?;
    }
    run.sound(workers).await?;
    Ok(())
}
