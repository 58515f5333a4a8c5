//! What can't be worked on waits where people find it, however often they look.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use e2e::lab::shared_broker;
use kingpost_broker::{Broker, Destination, NoObserver, Posting};
use kingpost_model::{Failure, FailureKind, FailureRecord, Fault, StageName, Tier};
use lapin::{options::BasicGetOptions, types::AMQPValue};

use crate::{
    SOON, browse, config, lane, outsider, ready, receive, route, set_policy, start, wait_ready, work,
};

/// Puts dead letters of one cause into a dead-letter queue, as a worker does.
async fn bury(broker: &Broker, count: usize) -> Result<Failure> {
    let failure = Failure::new(FailureKind::BaseData, "物料[X]不存在");
    let dead = (0..count).map(|n| {
        let work = work(StageName::Load, n);
        let record = FailureRecord::of(&failure, &work, 1, "w/1");
        Posting {
            destination: Destination::Dead(route(StageName::Load)),
            work: work.after_failure(record, false),
        }
    });
    broker.outbound().publish(dead.collect()).await?;
    Ok(failure)
}

#[tokio::test]
async fn browsing_dead_letters_takes_none_away() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-browse").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    let failure = bury(&broker, 300).await?;
    for _ in 0..3 {
        let letters = browse(&config(&url), "load.orders.dead").await?;
        assert_eq!(letters.len(), 300);
        let ids: BTreeSet<_> = letters.iter().map(|letter| letter.work.id.clone()).collect();
        assert_eq!(ids.len(), 300);
        assert!(letters.iter().all(|letter| letter.failure.text == failure.text));
    }
    wait_ready(&url, "load.orders.dead", 300).await?;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn dead_letters_outlast_more_looks_than_the_brokers_own_limit_of_deliveries() -> Result<()> {
    // From 4.0 on a quorum queue drops what was delivered twenty times without being settled, unless told otherwise.
    let url = shared_broker().await?.vhost("broker-looks").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    bury(&broker, 1).await?;
    for look in 1..=25 {
        wait_ready(&url, "load.orders.dead", 1).await.with_context(|| format!("before look {look}"))?;
        assert_eq!(browse(&config(&url), "load.orders.dead").await?.len(), 1, "look {look}");
    }
    wait_ready(&url, "load.orders.dead", 1).await?;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_message_that_nobody_ever_settles_ends_as_a_dead_letter_of_the_delivery_limit() -> Result<()> {
    // From its limit back to the queue through a waiting queue would be a cycle, which the broker breaks by dropping.
    let node = shared_broker().await?;
    let url = node.vhost("broker-limit").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    set_policy(node, &url, "^transform\\.orders$", "{\"delivery-limit\": 2}").await?;
    // It has waited once already, as any retried message has.
    let destination = Destination::Wait(Tier::at_least(Duration::ZERO), route(StageName::Transform));
    let posting = Posting { destination, work: work(StageName::Transform, 1) };
    broker.outbound().publish(vec![posting]).await?;
    for delivery in 0..3 {
        let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Transform, 1));
        let held = receive(&mut inboxes[0]).await.with_context(|| format!("delivery {delivery}"))?;
        assert_eq!(held.unsettled, delivery, "on every release a lost connection counts");
        // A worker that dies: its connection closes with the message in hand.
        subscription.close(SOON).await;
        drop(held);
    }
    wait_ready(&url, "transform.orders.dead", 1).await?;
    assert_eq!(ready(&url, "transform.orders").await, 0);

    let letters = browse(&config(&url), "transform.orders.dead").await?;
    let letter = letters.first().context("no dead letter")?;
    assert_eq!(letter.work.body, work(StageName::Transform, 1).body);
    assert_eq!(
        (letter.failure.fault, letter.failure.code.as_deref()),
        (Fault::Broker, Some("delivery_limit"))
    );
    wait_ready(&url, "transform.orders.dead", 1).await?;
    let (_connection, channel) = outsider(&url).await?;
    let options = BasicGetOptions { no_ack: true };
    let message = channel.basic_get("transform.orders.dead".into(), options).await?.context("it is gone")?;
    let headers = message.properties.headers().clone().unwrap_or_default();
    let reason = |name: &str| match headers.inner().get(name) {
        Some(AMQPValue::LongString(text)) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        other => format!("{other:?}"),
    };
    assert_eq!(reason("x-first-death-reason"), "expired");
    let last = if node.version()? >= (4, 0) { "delivery_limit" } else { "None" };
    assert_eq!(reason("x-last-death-reason"), last, "a header that only 4.x has");
    broker.close(SOON).await;
    Ok(())
}
