//! The broker freezes, stops, blocks, refuses, forgets and loses patience.

use anyhow::{Context, Result, ensure};
use e2e::{
    account::Account,
    lab::{BrokerOptions, PrivateBroker, shared_broker, wait_until},
    pipeline::{SCHEME, Worker},
};
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicNackOptions, ExchangeDeleteOptions, QueueDeleteOptions},
};
use serde_json::json;

use crate::{
    EXTRACT, LOAD, Run, SOON, TRANSFORM, always, close_connections, kingdee, through::by, through::place,
    vhost,
};

async fn private() -> Result<PrivateBroker> {
    PrivateBroker::start(BrokerOptions::default()).await
}

impl Run {
    /// Lets the broker and the workers give each other up after four seconds of silence.
    fn with_heartbeat(mut self, seconds: u32) -> Result<Run> {
        let url = &self.pipeline.amqp_url;
        self.pipeline.amqp_url = by(url, &place(url)?, seconds)?;
        Ok(self)
    }

    /// Has the broker give up on one of three orders: a limit of two deliveries, and three in vain.
    pub(crate) async fn give_up_on_one(&self) -> Result<()> {
        self.until_depth(TRANSFORM, 3).await?;
        let (node, vhost) = (shared_broker().await?, vhost(&self.pipeline.amqp_url)?);
        let limit = r#"{"delivery-limit":2}"#;
        let queues = ["--apply-to", "queues", "limit", "^transform\\.", limit];
        node.ctl(&[&["set_policy", "-p", &vhost][..], &queues].concat()).await?;
        let admin = Connection::connect(&self.pipeline.amqp_url, ConnectionProperties::default()).await?;
        let channel = admin.create_channel().await?;
        for _ in 0..3 {
            let got = channel.basic_get(TRANSFORM.into(), BasicGetOptions::default()).await?;
            let options = BasicNackOptions { multiple: false, requeue: true };
            got.context("the queue is empty")?.delivery.acker.nack(options).await?;
        }
        self.until_depth(&format!("{TRANSFORM}.dead"), 1).await
    }

    async fn all_ready(&self) -> Result<Vec<Worker>> {
        let workers = self.start_all()?;
        for worker in &workers {
            self.pipeline.ready(worker, SOON).await?;
        }
        Ok(workers)
    }
}

#[tokio::test]
async fn when_the_broker_is_frozen_then_the_workers_say_that_they_are_not_ready_and_then_go_on() -> Result<()>
{
    let broker = private().await?;
    let run = Run::private(&broker, 60, 0).await?.with_heartbeat(2)?;
    let held = run.arm(always(kingdee("BatchSave", json!({"kind": "hold", "when": "after"})))).await?;
    let workers = run.all_ready().await?;
    run.until_documents(1).await?;
    broker.freeze()?;
    for worker in &workers {
        run.until_unready(worker).await?;
    }
    run.clear(held).await?;
    broker.thaw()?;
    for worker in &workers {
        run.pipeline.ready(worker, SOON).await?;
    }
    run.sound(workers).await?;
    Ok(())
}

#[tokio::test]
async fn when_connections_are_closed_again_and_again_then_work_goes_on_between() -> Result<()> {
    let run = Run::shared_with("broker-13", 120, 0, &["--kingdee-latency", "100"]).await?;
    run.calls_of(4, 1)?;
    let workers = run.start_all()?;
    for round in 1..=3 {
        run.until_documents(round * 8).await?;
        close_connections(shared_broker().await?, &run.pipeline.amqp_url).await?;
    }
    for worker in &workers {
        run.until_rebuilt(worker, "consume").await?;
    }
    run.sound(workers).await?;
    Ok(())
}

#[tokio::test]
async fn when_the_broker_stops_and_starts_then_the_workers_wait_and_go_on() -> Result<()> {
    let broker = private().await?;
    let run = Run::private(&broker, 60, 0).await?;
    let held = run.arm(always(kingdee("BatchSave", json!({"kind": "hold", "when": "after"})))).await?;
    let workers = run.all_ready().await?;
    run.until_documents(1).await?;
    broker.save_queues().await?;
    broker.ctl(&["stop_app"]).await?;
    for worker in &workers {
        run.until_unready(worker).await?;
        ensure!(worker.process.is_running(), "a worker ended\n{}", worker.process.log_tail());
    }
    run.clear(held).await?;
    broker.ctl(&["start_app"]).await?;
    for worker in &workers {
        run.pipeline.ready(worker, SOON).await?;
    }
    run.sound(workers).await?;
    Ok(())
}

#[tokio::test]
async fn when_the_broker_takes_no_new_connections_then_sessions_go_on_and_newcomers_wait() -> Result<()> {
    let broker = private().await?;
    let run = Run::private(&broker, 40, 0).await?;
    let held = run.arm(always(kingdee("BatchSave", json!({"kind": "hold", "when": "before"})))).await?;
    let mut workers = run.all_ready().await?;
    run.until_struck(1).await?;
    broker.ctl(&["suspend_listeners"]).await?;
    let newcomer = run.start("transformer")?;
    let waiting = wait_until(SOON, "the newcomer to wait", async || {
        newcomer.process.output().contains("waiting for RabbitMQ")
    });
    waiting.await.with_context(|| newcomer.process.log_tail())?;
    run.clear(held).await?;
    run.until_documents(40).await?;
    broker.ctl(&["resume_listeners"]).await?;
    run.pipeline.ready(&newcomer, SOON).await?;
    workers.insert(0, newcomer);
    run.sound(workers).await?;
    Ok(())
}

#[tokio::test]
async fn when_memory_or_disk_alarms_block_publishing_then_consumers_still_acknowledge() -> Result<()> {
    let broker = private().await?;
    let run = Run::private(&broker, 40, 0).await?;
    run.until_models_wait().await?;
    // Everything is read again, so that orders and models wait.
    run.forget_cursor().await?;
    let extractor = run.start("extractor")?;
    run.until_depth(TRANSFORM, 40).await?;
    crate::stop(extractor).await?;
    run.forget_windows().await?;

    broker.ctl(&["set_vm_memory_high_watermark", "0.0"]).await?;
    let transformer = run.start("transformer")?;
    run.until_metric(&transformer, "kingpost_connection_blocked", &["publish"], 1.0).await?;
    run.until_unready(&transformer).await?;
    let loader = run.start("loader")?;
    run.until_documents(40).await?;
    run.until_depth(LOAD, 0).await?;
    // Blocked until the last alarm is over.
    broker.ctl(&["set_disk_free_limit", "900000000000000"]).await?;
    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]).await?;
    run.until_unready(&transformer).await?;
    broker.ctl(&["set_disk_free_limit", "1MB"]).await?;
    run.pipeline.ready(&transformer, SOON).await?;
    run.sound(vec![transformer, loader]).await?;
    Ok(())
}

#[tokio::test]
async fn when_a_transformer_is_killed_while_publishing_is_blocked_then_its_orders_come_again() -> Result<()> {
    let broker = private().await?;
    let run = Run::private(&broker, 40, 0).await?;
    let extractor = run.start("extractor")?;
    run.until_depth(TRANSFORM, 40).await?;
    crate::stop(extractor).await?;

    broker.ctl(&["set_vm_memory_high_watermark", "0.0"]).await?;
    let transformer = run.start("transformer")?;
    run.until_metric(&transformer, "kingpost_connection_blocked", &["publish"], 1.0).await?;
    // It has them all in hand, and no model of them can be confirmed.
    run.until_depth(TRANSFORM, 0).await?;
    transformer.process.kill();
    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]).await?;
    run.sound(run.start_all()?).await?;
    Ok(())
}

#[tokio::test]
async fn when_a_queue_is_full_then_what_it_refuses_is_published_again_until_it_is_taken() -> Result<()> {
    let run = Run::shared("broker-16", 40, 0).await?;
    run.until_models_wait().await?;
    let node = shared_broker().await?;
    let vhost = vhost(&run.pipeline.amqp_url)?;
    let limit = r#"{"max-length":5,"overflow":"reject-publish"}"#;
    node.ctl(&["set_policy", "-p", &vhost, "--apply-to", "queues", "full", "^load\\.", limit]).await?;
    run.forget_cursor().await?;
    let reading = [run.start("extractor")?, run.start("transformer")?];
    run.until_metric(&reading[1], "kingpost_publish_nacked_total", &[], 1.0).await?;
    let loader = run.start("loader")?;
    run.until_metric(&reading[1], "kingpost_published_total", &[], 40.0).await?;
    node.ctl(&["clear_policy", "-p", &vhost, "full"]).await?;
    let [extractor, transformer] = reading;
    run.sound(vec![extractor, transformer, loader]).await?;
    Ok(())
}

#[tokio::test]
async fn when_exchanges_and_idle_queues_are_deleted_then_they_are_declared_again_and_nothing_is_lost()
-> Result<()> {
    let run = Run::shared("broker-17", 40, 0).await?;
    let mut workers = vec![run.ready("transformer").await?, run.ready("loader").await?];
    let admin = Connection::connect(&run.pipeline.amqp_url, ConnectionProperties::default()).await?;
    let channel = admin.create_channel().await?;
    for exchange in ["kingpost.work", "kingpost.dead", "kingpost.resume", "wait.5s"] {
        channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await?;
    }
    let dead = format!("{LOAD}.dead");
    for queue in [TRANSFORM, LOAD, "wait.5s", dead.as_str()] {
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
    }
    workers.insert(0, run.start("extractor")?);
    run.sound(workers).await?;
    let inspector = run.pipeline.inspector().await?;
    for queue in [EXTRACT, TRANSFORM, LOAD, "wait.5s", dead.as_str()] {
        ensure!(inspector.depth(queue).await?.is_some(), "{queue} is not there again");
    }
    Ok(())
}

#[tokio::test]
async fn when_the_password_changes_in_mid_run_then_the_workers_wait_and_take_the_new_one_from_the_file()
-> Result<()> {
    let run = Run::shared("broker-20", 40, 0).await?;
    let held = run.arm(always(kingdee("BatchSave", json!({"kind": "hold", "when": "after"})))).await?;
    let node = shared_broker().await?;
    let (url, vhost) = (&run.pipeline.amqp_url, vhost(&run.pipeline.amqp_url)?);
    let user = format!("u{}", std::process::id());
    let as_user = |password: &str| -> Result<String> {
        let (_, path) = url.rsplit_once('/').context("no virtual host in the URL")?;
        Ok(format!("amqp://{user}:{password}@{}/{path}", place(url)?))
    };
    node.ctl(&["add_user", &user, "first-example"]).await?;
    node.ctl(&["set_permissions", "-p", &vhost, &user, ".*", ".*", ".*"]).await?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("amqp-url");
    std::fs::write(&file, as_user("first-example")?)?;
    let path = file.to_string_lossy().into_owned();
    let mut workers = Vec::new();
    for stage in ["extractor", "transformer", "loader"] {
        workers.push(run.pipeline.start_with(stage, &[("AMQP_URL", ""), ("AMQP_URL_FILE", &path)])?);
    }
    run.until_documents(1).await?;
    node.ctl(&["change_password", &user, "second-example"]).await?;
    close_connections(node, url).await?;
    for worker in &workers {
        let refused =
            wait_until(SOON, "the refusal", async || worker.process.output().contains("refuses us"));
        refused.await.with_context(|| worker.process.log_tail())?;
        ensure!(worker.process.is_running(), "a worker ended\n{}", worker.process.log_tail());
    }
    run.clear(held).await?;
    std::fs::write(&file, as_user("second-example")?)?;
    for worker in &workers {
        run.pipeline.ready(worker, SOON).await?;
        ensure!(!worker.process.output().contains("-example"), "a password is in a log");
    }
    run.sound(workers).await?;
    Ok(())
}

#[tokio::test]
async fn when_the_broker_loses_patience_with_a_batch_then_its_documents_are_found_and_not_posted_again()
-> Result<()> {
    let broker = private().await?;
    // It looks once a minute otherwise.
    broker
        .ctl(&["eval", "[application:set_env(rabbit, K, V) || {K, V} <- [{consumer_timeout, 3000}, {channel_tick_interval, 500}]]."])
        .await?;
    let run = Run::private(&broker, 20, 0).await?;
    run.calls_of(20, 1)?;
    run.until_models_wait().await?;
    let held = run.arm(kingdee("BatchSave", json!({"kind": "hold", "when": "after"}))).await?;
    let loader = run.start("loader")?;
    run.until_documents(20).await?;
    run.until_rebuilt(&loader, "consume").await?;
    run.clear(held).await?;
    // It has patience for half an hour again, as by default: a loader that was warned holds one delivery to warn its heir.
    broker.ctl(&["eval", "application:set_env(rabbit, consumer_timeout, 1800000)."]).await?;
    run.sound(vec![loader]).await?;
    Ok(())
}

#[tokio::test]
async fn when_the_broker_gives_up_on_a_message_then_it_is_a_dead_letter_that_says_so() -> Result<()> {
    let run = Run::shared("broker-22", 3, 0).await?;
    let extractor = run.ready("extractor").await?;
    run.give_up_on_one().await?;
    let workers = vec![extractor, run.start("transformer")?, run.start("loader")?];
    run.pipeline.wait_done(&run.sandbox, 2, 1, SOON).await?;
    let account = Account::take(&run.sandbox, &run.pipeline.amqp_url, SCHEME).await?;
    ensure!(account.is_sound(), "{}", account.report());
    let cause = account.dead.first().map(|group| group.cause.clone()).unwrap_or_default();
    ensure!(cause.contains("too many deliveries"), "the cause is `{cause}`");
    for worker in workers {
        crate::stop(worker).await?;
    }
    Ok(())
}
