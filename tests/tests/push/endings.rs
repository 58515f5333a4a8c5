//! Brokers and extractors that end, or refuse, in the middle of it. A sender sends a document again until it is accepted,
//! and never afterwards: were one 202 a lie, a document would be missing at the end.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use e2e::lab::{BrokerOptions, PrivateBroker};
use futures_util::future::try_join_all;

use super::{answers::until_readyz, *};

const SENDERS: usize = 4;

/// Several senders share the documents among them, and count those that are accepted.
async fn send_all(sender: &Sender, documents: &[Value], accepted: &AtomicUsize) -> Result<()> {
    let shares = documents.chunks(documents.len().div_ceil(SENDERS)).map(async |share| {
        for document in share {
            sender.until_accepted(document).await?;
            accepted.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    });
    try_join_all(shares).await?;
    Ok(())
}

async fn until(accepted: &AtomicUsize, least: usize) -> Result<()> {
    wait_until(SOON, "documents to be accepted", async || accepted.load(Ordering::Relaxed) >= least).await
}

#[tokio::test]
async fn when_the_broker_has_an_alarm_then_no_push_is_taken_and_nothing_is_lost() -> Result<()> {
    let node = PrivateBroker::start(BrokerOptions::default()).await?;
    let sandbox = sandbox(30).await?;
    let pipeline = Pipeline::new(node.amqp_url(), Schemes::at(&from_now()?)?, &sandbox)?;
    let sender = Sender::new()?;
    let extractor = pipeline.start_with("extractor", &sender.settings())?;
    let _others = [pipeline.start("transformer")?, pipeline.start("loader")?];
    let documents = documents(&sandbox).await?;
    sender.until_accepted(&Value::from(documents[..10].to_vec())).await?;
    until_readyz(&extractor, "push", None).await?;

    node.ctl(&["set_vm_memory_high_watermark", "0"]).await?;
    let rest = Value::from(documents[10..].to_vec());
    // The broker tells a connection of the alarm when it publishes, so the first request may have to wait for its word.
    wait_until(SOON, "a request to be turned away at once", async || {
        let begun = Instant::now();
        let answer = sender.push(&rest).await;
        let told =
            answer.is_ok_and(|answer| answer.status == 503 && answer.retry_after.as_deref() == Some("5"));
        told && begun.elapsed() < Duration::from_secs(2)
    })
    .await?;
    let answer = sender.push(&rest).await?;
    ensure!(answer.body["documents"].is_null() && answer.status == 503, "{}", answer.body);
    until_readyz(&extractor, "push", Some("RabbitMQ blocks publishing")).await?;

    node.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]).await?;
    sender.until_accepted(&rest).await?;
    until_readyz(&extractor, "push", None).await?;
    sound(&pipeline, &sandbox, 30).await
}

#[tokio::test]
async fn when_a_broker_that_has_an_alarm_is_killed_then_it_is_not_called_ready() -> Result<()> {
    let node = PrivateBroker::start(BrokerOptions::default()).await?;
    let sandbox = sandbox(5).await?;
    let pipeline = Pipeline::new(node.amqp_url(), Schemes::at(&from_now()?)?, &sandbox)?;
    let sender = Sender::new()?;
    let extractor = pipeline.start_with("extractor", &sender.settings())?;
    pipeline.ready(&extractor, SOON).await?;
    node.ctl(&["set_vm_memory_high_watermark", "0"]).await?;
    let documents = Value::from(documents(&sandbox).await?);
    let answer = sender.push(&documents).await?;
    ensure!(answer.status == 503, "{}", answer.body);
    for part in ["push", "publishing"] {
        until_readyz(&extractor, part, Some("RabbitMQ blocks publishing")).await?;
    }
    node.kill();
    for part in ["push", "publishing"] {
        until_readyz(&extractor, part, Some("no connection to RabbitMQ")).await?;
    }
    node.restart().await?;
    sender.until_accepted(&documents).await?;
    let _others = [pipeline.start("transformer")?, pipeline.start("loader")?];
    sound(&pipeline, &sandbox, 5).await
}

#[tokio::test]
async fn when_the_broker_is_killed_then_every_accepted_document_arrives() -> Result<()> {
    let node = PrivateBroker::start(BrokerOptions::default()).await?;
    let sandbox = sandbox(240).await?;
    let pipeline = Pipeline::new(node.amqp_url(), Schemes::at(&from_now()?)?, &sandbox)?;
    let sender = Sender::new()?;
    let _extractor = pipeline.start_with("extractor", &sender.settings())?;
    let _others = [pipeline.start("transformer")?, pipeline.start("loader")?];
    let (documents, accepted) = (documents(&sandbox).await?, AtomicUsize::new(0));
    let killing = async {
        for least in [40, 120] {
            until(&accepted, least).await?;
            node.kill();
            node.restart().await?;
        }
        Ok(())
    };
    tokio::try_join!(send_all(&sender, &documents, &accepted), killing)?;
    sound(&pipeline, &sandbox, 240).await
}

#[tokio::test]
async fn when_the_extractor_is_stopped_or_killed_then_every_accepted_document_arrives() -> Result<()> {
    let sandbox = sandbox(240).await?;
    let (pipeline, sender, mut workers) = running("push-stop", &sandbox, &from_now()?, &[]).await?;
    let (documents, accepted) = (documents(&sandbox).await?, AtomicUsize::new(0));
    let ending = async {
        until(&accepted, 40).await?;
        workers[0].process.term()?;
        let status = workers[0].process.wait(SOON).await?;
        ensure!(status.code() == Some(0), "{status}\n{}", workers[0].process.log_tail());
        workers[0] = pipeline.start_with("extractor", &sender.settings())?;
        until(&accepted, 120).await?;
        workers[0].process.kill();
        workers[0] = pipeline.start_with("extractor", &sender.settings())?;
        Ok(())
    };
    tokio::try_join!(send_all(&sender, &documents, &accepted), ending)?;
    sound(&pipeline, &sandbox, 240).await
}
