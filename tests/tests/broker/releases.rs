//! What differs between releases of RabbitMQ, measured: the table of `docs/rabbitmq.md`, row by row.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use e2e::lab::{BrokerOptions, PrivateBroker, shared_broker, wait_until};
use kingpost_broker::NoObserver;
use kingpost_model::StageName;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    message::BasicGetMessage,
    options::{
        BasicGetOptions, BasicPublishOptions, BasicRejectOptions, ConfirmSelectOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};

use crate::{SOON, lane, outsider, publish, receive, start, wait_ready};

async fn quorum(channel: &Channel, name: &str) -> Result<()> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await?;
    Ok(())
}

async fn put(channel: &Channel, queue: &str, body: &[u8]) -> lapin::Result<()> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), queue.into(), options, body, BasicProperties::default()).await?.await?;
    Ok(())
}

/// Takes the one message of a queue, which returns to it a moment after it was let go; nothing when it stays away.
async fn get(channel: &Channel, queue: &str) -> Option<BasicGetMessage> {
    let options = BasicGetOptions { no_ack: false };
    let taken = e2e::lab::wait_for(Duration::from_secs(2), "a message", async || {
        channel.basic_get(queue.into(), options).await.ok().flatten()
    });
    taken.await.ok()
}

#[tokio::test]
async fn what_is_put_back_counts_as_a_delivery_before_4_3_and_a_lost_connection_always() -> Result<()> {
    let node = shared_broker().await?;
    let url = node.vhost("release-counts").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    publish(&broker, StageName::Transform, 0..1).await?;
    let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Transform, 1));
    for put_back in 0..3 {
        let delivery = receive(&mut inboxes[0]).await?;
        let counted = if node.version()? < (4, 3) { put_back } else { 0 };
        assert_eq!(delivery.unsettled, counted, "after it was put back {put_back} times");
        assert_eq!(delivery.redelivered, put_back > 0);
        // Dropped unsettled, it is put back with a nack.
        drop(delivery);
    }
    let delivery = receive(&mut inboxes[0]).await?;
    let before = delivery.unsettled;
    subscription.close(SOON).await;
    drop(delivery);
    let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Transform, 1));
    let delivery = receive(&mut inboxes[0]).await?;
    assert_eq!(delivery.unsettled, before + 1);
    drop(delivery);
    subscription.close(SOON).await;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_queue_without_a_limit_of_its_own_drops_after_twenty_deliveries_from_4_0_on() -> Result<()> {
    let node = shared_broker().await?;
    let url = node.vhost("release-limit").await?;
    let (_connection, channel) = outsider(&url).await?;
    quorum(&channel, "unlimited").await?;
    put(&channel, "unlimited", b"x").await?;
    let mut rejected = 0;
    while rejected < 25 {
        let Some(message) = get(&channel, "unlimited").await else { break };
        channel.basic_reject(message.delivery_tag, BasicRejectOptions { requeue: true }).await?;
        rejected += 1;
    }
    assert_eq!(rejected, if node.version()? < (4, 0) { 25 } else { 21 });
    Ok(())
}

#[tokio::test]
async fn a_body_of_more_than_sixteen_mebibytes_closes_the_channel_from_4_0_on() -> Result<()> {
    let node = shared_broker().await?;
    let url = node.vhost("release-size").await?;
    let (_connection, channel) = outsider(&url).await?;
    quorum(&channel, "large").await?;
    let sent = put(&channel, "large", &vec![b'x'; 17 * 1024 * 1024]).await;
    if node.version()? < (4, 0) {
        sent?;
        wait_ready(&url, "large", 1).await?;
    } else {
        let error = sent.err().context("it was taken")?.to_string();
        ensure!(error.contains("PRECONDITION-FAILED") || error.contains("larger than"), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn asking_for_the_depth_of_a_queue_takes_no_more_than_one_permission() -> Result<()> {
    // 4.2.6 and 4.3.0 wanted `configure`; the releases beside them are content with any of the three.
    let node = shared_broker().await?;
    let url = node.vhost("release-passive").await?;
    let (_connection, channel) = outsider(&url).await?;
    quorum(&channel, "asked").await?;
    let (user, vhost) = (format!("asker-{}", std::process::id()), crate::vhost(&url)?);
    node.ctl(&["add_user", &user, "asker"]).await?;
    node.ctl(&["set_permissions", "--vhost", vhost, &user, "^$", "^$", "^asked$"]).await?;
    let theirs = url.replace("guest:guest", &format!("{user}:asker"));
    let connection = Connection::connect(&theirs, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("asked".into(), passive, FieldTable::default()).await?;
    node.ctl(&["delete_user", &user]).await?;
    Ok(())
}

#[tokio::test]
async fn what_is_scraped_of_the_broker_has_the_names_of_the_page_on_every_release() -> Result<()> {
    let node = PrivateBroker::start(BrokerOptions { prometheus: true, ..BrokerOptions::default() }).await?;
    let base = node.prometheus_url().context("the node has no metrics")?;
    let url = node.amqp_url();
    let broker = start(&url, Arc::new(NoObserver)).await?;
    publish(&broker, StageName::Transform, 0..3).await?;
    wait_ready(&url, "transform.orders", 3).await?;
    let client = reqwest::Client::new();
    let scrape = async |path: &str| -> Result<String> {
        Ok(client.get(format!("{base}{path}")).send().await?.error_for_status()?.text().await?)
    };
    // Numbers of queues are collected every few seconds.
    let detailed = "/metrics/detailed?family=queue_coarse_metrics&family=queue_consumer_count";
    let ready = r#"rabbitmq_detailed_queue_messages_ready{vhost="/",queue="transform.orders"} 3"#;
    wait_until(SOON, ready, async || scrape(detailed).await.is_ok_and(|text| text.contains(ready))).await?;
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md"))?;
    let (_, page) =
        page.split_once("## What RabbitMQ has to tell").context("the page has no such chapter")?;
    let names = |prefix: &str| -> Vec<String> {
        let words = page.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        words.filter(|word| word.starts_with(prefix)).map(str::to_owned).collect()
    };
    let of_queues = names("rabbitmq_detailed_queue_");
    ensure!(of_queues.len() >= 4, "the page names no numbers of queues");
    let text = scrape(detailed).await?;
    for name in of_queues {
        ensure!(
            text.contains(&format!("\n{name}{{vhost=\"/\",queue=\"transform.orders\"}} ")),
            "{name} in\n{text}"
        );
    }
    let text = scrape("/metrics").await?;
    let of_nodes = [names("rabbitmq_alarms_"), names("rabbitmq_global_")].concat();
    ensure!(of_nodes.len() >= 3, "the page names no numbers of nodes");
    for name in of_nodes {
        let found = text
            .lines()
            .any(|line| line.strip_prefix(&name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        ensure!(found, "{name} in\n{text}");
    }
    broker.close(SOON).await;
    node.stop().await
}
