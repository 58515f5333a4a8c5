//! What is declared is what is there, or we don't start.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use e2e::lab::shared_broker;
use kingpost_broker::{Broker, NoObserver, StartError, Topology};
use lapin::{
    ExchangeKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio_util::sync::CancellationToken;

use crate::{SCHEME, SOON, config, outsider, start};

/// The words with which a start is refused.
pub(crate) async fn refusal(url: &str) -> Result<String> {
    let (topology, stop) = (Topology::new([(SCHEME, 1)]), CancellationToken::new());
    let starting = Broker::start(config(url), topology, Arc::new(NoObserver), &stop);
    match tokio::time::timeout(SOON, starting).await.context("it tries again and again")? {
        Err(StartError::Refused(text)) => Ok(text),
        Err(StartError::Stopped) => bail!("it was stopped"),
        Ok(_) => bail!("it started"),
    }
}

#[tokio::test]
async fn when_a_queue_has_other_arguments_then_it_is_refused_with_the_difference() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-conflict").await?;
    let (_connection, channel) = outsider(&url).await?;
    let options = QueueDeclareOptions::durable();
    channel.queue_declare("transform.orders".into(), options, FieldTable::default()).await?;
    let text = refusal(&url).await?;
    for part in ["queue `transform.orders`", "inequivalent arg", "delete it"] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_waiting_queue_with_another_time_is_refused_with_both_times() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-other-ttl").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    broker.close(SOON).await;
    let (_connection, channel) = outsider(&url).await?;
    let name = "wait.5s";
    channel.queue_delete(name.into(), lapin::options::QueueDeleteOptions::default()).await?;
    let mut arguments = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(text.into());
    for (name, value) in [
        ("x-queue-type", text("quorum")),
        ("x-message-ttl", AMQPValue::LongLongInt(6_000)),
        ("x-dead-letter-exchange", text("kingpost.resume")),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ] {
        arguments.insert(name.into(), value);
    }
    channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await?;
    let text = refusal(&url).await?;
    for part in ["queue `wait.5s`", "x-message-ttl", "6000", "5000"] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn an_exchange_of_another_type_is_refused_with_the_difference() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-exchange").await?;
    let (_connection, channel) = outsider(&url).await?;
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel
        .exchange_declare("kingpost.work".into(), ExchangeKind::Topic, options, FieldTable::default())
        .await?;
    let text = refusal(&url).await?;
    for part in ["exchange `kingpost.work`", "direct", "topic"] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_an_absent_broker_is_waited_for() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-password").await?;
    let (scheme, rest) = url.split_once("://").context("no URL")?;
    let (_, host) = rest.split_once('@').context("no user in the URL")?;
    let text = refusal(&format!("{scheme}://guest:marker-9c1f@{host}")).await?;
    assert!(text.contains("refuses us") && !text.contains("marker-9c1f"), "{text}");
    let stop = CancellationToken::new();
    let nowhere = format!("amqp://guest:guest@127.0.0.1:{}/%2f", e2e::lab::free_port()?);
    let topology = Topology::new([(SCHEME, 1)]);
    let waiting = Broker::start(config(&nowhere), topology, Arc::new(NoObserver), &stop);
    tokio::pin!(waiting);
    assert!(
        tokio::time::timeout(Duration::from_millis(500), &mut waiting).await.is_err(),
        "absence ends the start"
    );
    stop.cancel();
    assert_eq!(waiting.await.err(), Some(StartError::Stopped));
    Ok(())
}
