//! What is set wrong is said, with place and remedy, and ends with its exit code; what is absent is waited for.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{
    lab::{Process, Sandbox, shared_broker, wait_until},
    pipeline::{Pipeline, Schemes},
};
use lapin::{Connection, ConnectionProperties, options::QueueDeclareOptions, types::FieldTable};

use crate::{SOON, documents, sandbox, sound, tempo};

/// Runs a worker that must not start, and gives its exit code and output.
async fn refused(
    pipeline: &Pipeline,
    stage: &str,
    settings: &[(&str, &str)],
) -> Result<(Option<i32>, String)> {
    let worker = pipeline.start_with(stage, settings)?;
    let status = worker.process.wait(SOON).await.with_context(|| worker.process.log_tail())?;
    Ok((status.code(), worker.process.output()))
}

fn says(output: &str, parts: &[&str]) {
    for part in parts {
        assert!(output.contains(part), "`{part}` is missing in:\n{output}");
    }
}

async fn prepared(name: &str, orders: u32) -> Result<(Sandbox, Pipeline)> {
    let sandbox = sandbox(orders, 0, &[]).await?;
    let url = shared_broker().await?.vhost(name).await?;
    let pipeline = Pipeline::new(url, Schemes::at(&tempo())?, &sandbox)?;
    Ok((sandbox, pipeline))
}

#[tokio::test]
async fn missing_and_wrong_settings_are_all_said_at_once() -> Result<()> {
    let (_sandbox, pipeline) = prepared("bad-settings", 1).await?;
    let wrong = [("KINGDEE_URL", "erp.example.com"), ("KINGDEE_APP_SECRET", ""), ("DRAIN_SECONDS", "soon")];
    let (code, output) = refused(&pipeline, "loader", &wrong).await?;
    assert_eq!(code, Some(64), "{output}");
    says(&output, &["KINGDEE_URL", "KINGDEE_APP_SECRET", "DRAIN_SECONDS"]);
    let (code, output) =
        refused(&pipeline, "extractor", &[("WDT_APP_SECRET", "marker-without-a-colon")]).await?;
    assert_eq!(code, Some(64), "{output}");
    says(&output, &["WDT_APP_SECRET"]);
    assert!(!output.contains("marker-without-a-colon"), "a secret is shown:\n{output}");
    Ok(())
}

#[tokio::test]
async fn a_scheme_with_a_typo_is_named_by_file_line_and_remedy() -> Result<()> {
    let (_sandbox, pipeline) = prepared("bad-scheme", 1).await?;
    let file = pipeline.schemes.path().join("purchase-stockin.yaml");
    let yaml = std::fs::read_to_string(&file)?;
    std::fs::write(&file, yaml.replacen("order_no }}", "ordre_no }}", 1).replacen("target:", "targett:", 1))?;
    for stage in ["extractor", "transformer", "loader"] {
        let (code, output) = refused(&pipeline, stage, &[]).await?;
        assert_eq!(code, Some(64), "{output}");
        says(&output, &["purchase-stockin.yaml:", "targett"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_broker_that_refuses_ends_the_worker_with_69() -> Result<()> {
    let (_sandbox, pipeline) = prepared("bad-broker", 1).await?;
    let (scheme, rest) = pipeline.amqp_url.split_once("://").context("no URL")?;
    let (_, place) = rest.split_once('@').context("no user")?;
    let wrong = format!("{scheme}://guest:marker-77e2@{place}");
    let (code, output) = refused(&pipeline, "transformer", &[("AMQP_URL", wrong.as_str())]).await?;
    assert_eq!(code, Some(69), "{output}");
    says(&output, &["refuses us"]);
    assert!(!output.contains("marker-77e2"), "a password is in the log:\n{output}");

    let admin = Connection::connect(&pipeline.amqp_url, ConnectionProperties::default()).await?;
    let channel = admin.create_channel().await?;
    let options = QueueDeclareOptions::durable();
    channel.queue_declare("load.purchase-stockin".into(), options, FieldTable::default()).await?;
    let (code, output) = refused(&pipeline, "transformer", &[]).await?;
    assert_eq!(code, Some(69), "{output}");
    says(&output, &["load.purchase-stockin", "inequivalent arg", "delete it"]);
    Ok(())
}

#[tokio::test]
async fn a_taken_port_is_a_settings_error() -> Result<()> {
    let (sandbox, pipeline) = prepared("bad-port", 1).await?;
    let (code, output) = refused(&pipeline, "transformer", &[("HTTP_ADDR", sandbox.address())]).await?;
    assert_eq!(code, Some(64), "{output}");
    says(&output, &["HTTP_ADDR", "taken"]);
    Ok(())
}

#[tokio::test]
async fn wrong_credentials_pause_the_scheme_and_lose_nothing() -> Result<()> {
    let (sandbox, pipeline) = prepared("bad-credentials", 20).await?;
    let secret = sandbox.setting("KINGDEE_APP_SECRET")?;
    let wrong = format!("{}{}", &secret[..secret.len() - 1], if secret.ends_with('x') { 'y' } else { 'x' });
    let _reading = [pipeline.start("extractor")?, pipeline.start("transformer")?];
    let loader = pipeline.start_with("loader", &[("KINGDEE_APP_SECRET", wrong.as_str())])?;
    wait_until(SOON, "the loader to pause", async || {
        let text = pipeline.metrics(&loader).await.unwrap_or_default();
        e2e::pipeline::metric(&text, "kingpost_scheme_paused", &["reason=\"configuration\""]) > 0.5
    })
    .await
    .with_context(|| loader.process.log_tail())?;
    assert_eq!(documents(&sandbox).await, 0);
    let output = crate::stop(loader).await?;
    assert!(!output.contains(&wrong), "a secret is in the log");
    let _loader = pipeline.start("loader")?;
    sound(&pipeline, &sandbox, 20, 0).await?;
    Ok(())
}

#[tokio::test]
async fn an_absent_broker_is_waited_for() -> Result<()> {
    let (_sandbox, pipeline) = prepared("bad-absent", 1).await?;
    let nowhere = format!("amqp://guest:guest@127.0.0.1:{}/%2f", e2e::lab::free_port()?);
    let worker = pipeline.start_with("transformer", &[("AMQP_URL", nowhere.as_str())])?;
    wait_until(SOON, "the worker to say that it waits", async || {
        worker.process.output().contains("waiting for RabbitMQ")
    })
    .await?;
    assert!(worker.process.is_running());
    crate::stop(worker).await?;
    Ok(())
}

#[tokio::test]
async fn the_command_line_tools_explain_themselves() -> Result<()> {
    for binary in ["kingpost", "kingpost-sandbox"] {
        let process = Process::of(binary)?.arg("--help").start()?;
        let status = process.wait(Duration::from_secs(10)).await?;
        assert_eq!(status.code(), Some(0), "{binary}: {}", process.output());
    }
    Ok(())
}

#[tokio::test]
async fn messages_of_another_number_of_shards_are_not_left_behind() -> Result<()> {
    let (sandbox, pipeline) = prepared("bad-shards", 5).await?;
    let file = pipeline.schemes.path().join("purchase-stockin.yaml");
    let unsharded = std::fs::read_to_string(&file)?;
    std::fs::write(&file, unsharded.replace("\n  key: FBillNo", "\n  shards: 2\n  key: FBillNo"))?;
    let reading = [pipeline.start("extractor")?, pipeline.start("transformer")?];
    let inspector = pipeline.inspector().await?;
    wait_until(SOON, "models in both shards", async || {
        let mut ready = 0;
        for shard in 0..2 {
            let depth = inspector.depth(&format!("load.purchase-stockin.{shard}")).await;
            ready += depth.ok().flatten().map_or(0, |depth| depth.ready);
        }
        ready == 5
    })
    .await?;
    for worker in reading {
        crate::stop(worker).await?;
    }
    let sharded = std::fs::read_to_string(&file)?;
    std::fs::write(&file, &unsharded)?;
    let (code, output) = refused(&pipeline, "loader", &[]).await?;
    assert_eq!(code, Some(69), "{output}");
    says(&output, &["another number of shards", "load.purchase-stockin."]);
    std::fs::write(&file, sharded)?;
    let _loaders = [pipeline.start("loader")?, pipeline.start("loader")?];
    wait_until(SOON, "all documents", async || documents(&sandbox).await == 5).await?;
    Ok(())
}

#[tokio::test]
async fn a_message_handed_out_again_and_again_is_judged_and_not_lost() -> Result<()> {
    let (sandbox, pipeline) = prepared("bad-poison", 3).await?;
    let _reading = pipeline.start("extractor")?;
    let inspector = pipeline.inspector().await?;
    let queue = "transform.purchase-stockin";
    wait_until(SOON, "the orders", async || {
        inspector.depth(queue).await.ok().flatten().is_some_and(|depth| depth.ready == 3)
    })
    .await?;
    let admin = Connection::connect(&pipeline.amqp_url, ConnectionProperties::default()).await?;
    let channel = admin.create_channel().await?;
    for _ in 0..25 {
        let got = channel.basic_get(queue.into(), lapin::options::BasicGetOptions::default()).await?;
        let options = lapin::options::BasicNackOptions { multiple: false, requeue: true };
        got.context("the queue is empty")?.delivery.acker.nack(options).await?;
    }
    let transformer = pipeline.start("transformer")?;
    let _loader = pipeline.start("loader")?;
    sound(&pipeline, &sandbox, 3, 0).await?;
    let text = pipeline.metrics(&transformer).await?;
    ensure!(e2e::pipeline::metric(&text, "kingpost_delivery_limit_total", &[]) > 0.5, "{text}");
    let again = ["kind=\"internal\"", "tier=\"5s\""];
    ensure!(e2e::pipeline::metric(&text, "kingpost_retry_scheduled_total", &again) > 0.5, "{text}");
    says(&crate::stop(transformer).await?, &["handed out 25 times without being settled"]);
    Ok(())
}

#[tokio::test]
async fn an_order_published_by_hand_is_processed_like_any_other() -> Result<()> {
    let (sandbox, pipeline) = prepared("bad-hand", 3).await?;
    let _workers = [pipeline.start("extractor")?, pipeline.start("transformer")?, pipeline.start("loader")?];
    sound(&pipeline, &sandbox, 3, 0).await?;
    let admin = Connection::connect(&pipeline.amqp_url, ConnectionProperties::default()).await?;
    let channel = admin.create_channel().await?;
    let (options, properties) =
        (lapin::options::BasicPublishOptions::default(), lapin::BasicProperties::default());
    let queue = "transform.purchase-stockin";
    channel.basic_publish("".into(), queue.into(), options, b"this is no order", properties).await?.await?;
    pipeline.wait_done(&sandbox, 3, 1, SOON).await?;
    Ok(())
}
