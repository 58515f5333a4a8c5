//! A message counts as published when a queue has it, and not before.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use e2e::lab::{shared_broker, wait_until};
use kingpost_broker::{Destination, MAX_BODY_BYTES, NoObserver, Posting, Receipt, Standing};
use kingpost_model::{Route, StageName};
use lapin::{
    options::{QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};

use tokio::task::JoinSet;

use crate::{
    Counts, SOON, close_connections, lane, outsider, postings, publish, ready, receive, route, set_policy,
    start, take, wait_ready, work,
};

#[tokio::test]
async fn what_is_published_is_delivered_byte_for_byte_and_settled() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-roundtrip").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    let mut sent = work(StageName::Transform, 7);
    sent.body = "{ \"数量\" : 1.2300, \"a\":\"\\u0041\" }".into();
    sent.write_key = Some("CG1".into());
    sent.modified_ms = Some(1_700_000_000_123);
    let destination = Destination::Work(route(StageName::Transform));
    broker.outbound().publish(vec![Posting { destination, work: sent.clone() }]).await?;
    let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Transform, 10));
    let delivery = receive(&mut inboxes[0]).await?;
    assert_eq!(delivery.work, sent);
    assert!(!delivery.redelivered && delivery.receipt.lease().is_held());
    Receipt::acknowledge(vec![delivery.receipt]);
    subscription.close(SOON).await;
    assert_eq!(ready(&url, "transform.orders").await, 0);
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_body_of_the_greatest_size_that_we_send_is_taken_by_every_release() -> Result<()> {
    // 4.0 lowered the limit of RabbitMQ from 128 to 16 MiB.
    let url = shared_broker().await?.vhost("broker-size").await?;
    let counts = Arc::new(Counts::default());
    let broker = start(&url, counts.observer()).await?;
    let mut sent = work(StageName::Transform, 1);
    sent.body = vec![b'x'; MAX_BODY_BYTES].into();
    let destination = Destination::Work(route(StageName::Transform));
    let outbound = broker.outbound();
    let posted = outbound.publish(vec![Posting { destination, work: sent.clone() }]);
    tokio::time::timeout(SOON, posted).await.context("never confirmed")??;
    let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Transform, 1));
    let delivery = receive(&mut inboxes[0]).await?;
    ensure!(delivery.work.body == sent.body, "the body has changed");
    Receipt::acknowledge(vec![delivery.receipt]);
    assert_eq!(counts.rebuilt(), 0);
    subscription.close(SOON).await;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn when_messages_come_back_then_none_of_them_counts_as_published_and_all_others_do() -> Result<()> {
    // The client attaches a return to whichever confirm completes next, so only correlation by id tells the truth. One
    // in a thousand is wrong otherwise: hence so many, every second of them unroutable.
    const PAIRS: u32 = 7_500;
    let url = shared_broker().await?.vhost("broker-returns").await?;
    let counts = Arc::new(Counts::default());
    let broker = start(&url, counts.observer()).await?;
    let nowhere = Destination::Work(Route::new(StageName::Load, "no-such-scheme"));
    let mut stuck = JoinSet::new();
    let mut published = JoinSet::new();
    for posting in postings(StageName::Load, 0..PAIRS as usize) {
        let lost = Posting { destination: nowhere.clone(), ..posting.clone() };
        for (tasks, posting) in [(&mut published, posting), (&mut stuck, lost)] {
            let outbound = broker.outbound();
            tasks.spawn(async move { outbound.publish(vec![posting]).await });
        }
        // As many at once as a busy worker has.
        while published.len() >= 200 {
            let next = tokio::time::timeout(SOON, published.join_next()).await;
            next.context("what has its queue is never confirmed")?.context("no task")???;
        }
    }
    while let Some(done) = tokio::time::timeout(SOON, published.join_next()).await.context("no confirm")? {
        done??;
    }
    ensure!(stuck.try_join_next().is_none(), "an unroutable message was reported as published");
    assert_eq!(
        ready(&url, "load.orders").await,
        PAIRS,
        "none of them is published twice for another's return"
    );
    // Once a queue takes them, the others are published after all.
    let (_connection, channel) = outsider(&url).await?;
    let name = "load.no-such-scheme";
    channel.queue_declare(name.into(), QueueDeclareOptions::durable(), FieldTable::default()).await?;
    let options = QueueBindOptions::default();
    channel
        .queue_bind(name.into(), "kingpost.work".into(), name.into(), options, FieldTable::default())
        .await?;
    while let Some(done) =
        tokio::time::timeout(SOON, stuck.join_next()).await.context("still not published")?
    {
        done??;
    }
    assert_eq!(ready(&url, name).await, PAIRS);
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn of_messages_that_are_published_each_for_itself_one_that_is_stuck_holds_up_no_other() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-each").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    let mut three = postings(StageName::Transform, 0..3);
    three[1].destination = Destination::Work(Route::new(StageName::Transform, "no-such-scheme"));
    let outbound = broker.outbound();
    let waits = outbound.publish_each(three).await?;
    let [first, mut stuck, last] = <[_; 3]>::try_from(waits).ok().context("not three waits")?;
    for wait in [first, last] {
        tokio::time::timeout(SOON, wait).await.context("never confirmed")??;
    }
    assert_eq!(outbound.standing(), Standing::Open);
    ensure!(futures_util::poll!(&mut stuck).is_pending(), "an unroutable message was reported as published");
    broker.close(SOON).await;
    ensure!(stuck.await.is_err(), "it was reported as published after the end");
    assert_eq!(outbound.standing(), Standing::Absent);
    Ok(())
}

#[tokio::test]
async fn when_a_binding_is_lost_then_it_is_mended_and_nothing_is_lost() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-binding").await?;
    let counts = Arc::new(Counts::default());
    let broker = start(&url, counts.observer()).await?;
    let (_connection, channel) = outsider(&url).await?;
    let (queue, exchange) = ("transform.orders", "kingpost.work");
    channel.queue_unbind(queue.into(), exchange.into(), queue.into(), FieldTable::default()).await?;
    publish(&broker, StageName::Transform, 0..64).await?;
    assert_eq!(counts.unroutable.load(Ordering::Relaxed), 64);
    wait_ready(&url, queue, 64).await?;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn what_a_full_queue_refuses_is_published_when_there_is_room() -> Result<()> {
    let node = shared_broker().await?;
    let url = node.vhost("broker-full").await?;
    let counts = Arc::new(Counts::default());
    let broker = start(&url, counts.observer()).await?;
    set_policy(node, &url, "^transform\\.orders$", "{\"max-length\": 5}").await?;
    let outbound = broker.outbound();
    let publishing = tokio::spawn(async move {
        for n in 0..30 {
            outbound.publish(postings(StageName::Transform, n..n + 1)).await?;
        }
        Ok::<(), kingpost_model::Abandoned>(())
    });
    wait_until(SOON, "a refusal", async || counts.nacked.load(Ordering::Relaxed) > 0).await?;
    ensure!(!publishing.is_finished(), "refused messages were reported as published");
    let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Transform, 3));
    assert_eq!(take(&mut inboxes[0], 30).await?.len(), 30);
    tokio::time::timeout(SOON, publishing).await.context("publishing hangs")???;
    assert_eq!(counts.rebuilt(), 0, "a refusal is no reason for a new session");
    subscription.close(SOON).await;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn connections_closed_again_and_again_lose_nothing() -> Result<()> {
    let node = shared_broker().await?;
    let url = node.vhost("broker-closing").await?;
    let counts = Arc::new(Counts::default());
    let broker = start(&url, counts.observer()).await?;
    let outbound = broker.outbound();
    let publishing = tokio::spawn(async move {
        for n in 0..100 {
            outbound.publish(postings(StageName::Transform, n * 40..(n + 1) * 40)).await?;
        }
        Ok::<(), kingpost_model::Abandoned>(())
    });
    let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Transform, 100));
    let consuming = tokio::spawn(async move { take(&mut inboxes[0], 4_000).await });
    for _ in 0..3 {
        close_connections(node, &url).await?;
    }
    tokio::time::timeout(Duration::from_secs(90), publishing).await.context("publishing hangs")???;
    let seen =
        tokio::time::timeout(Duration::from_secs(90), consuming).await.context("consuming hangs")???;
    assert_eq!(seen.len(), 4_000);
    ensure!(counts.rebuilt() > 0, "no connection was ever closed: the test proves nothing");
    subscription.close(SOON).await;
    broker.close(SOON).await;
    Ok(())
}
