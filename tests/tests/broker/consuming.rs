//! A delivery belongs to the session that brought it, and a session that brings nothing more is built anew.

use std::sync::{Arc, atomic::Ordering};

use anyhow::{Result, ensure};
use e2e::lab::{shared_broker, wait_until};
use kingpost_broker::{NoObserver, Receipt, Role};
use kingpost_model::StageName;
use lapin::options::QueueDeleteOptions;

use crate::{
    Counts, QUIET, SOON, close_connections, lane, outsider, publish, ready, receive, receive_many, start,
    take, wait_ready, work,
};

#[tokio::test]
async fn a_deleted_queue_is_declared_again_and_consumed_again() -> Result<()> {
    // A server-side cancel is only an end of stream on a healthy connection.
    let url = shared_broker().await?.vhost("broker-cancel").await?;
    let counts = Arc::new(Counts::default());
    let broker = start(&url, counts.observer()).await?;
    let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Transform, 10));
    publish(&broker, StageName::Transform, 0..1).await?;
    take(&mut inboxes[0], 1).await?;
    let (_connection, channel) = outsider(&url).await?;
    channel.queue_delete("transform.orders".into(), QueueDeleteOptions::default()).await?;
    wait_until(SOON, "the session to be rebuilt", async || counts.rebuilt() > 0).await?;
    assert_eq!(counts.rebuilt_as(Role::Consume), ["cancelled"]);
    publish(&broker, StageName::Transform, 1..2).await?;
    take(&mut inboxes[0], 1).await?;
    subscription.close(SOON).await;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_lease_ends_with_its_connection_and_a_stale_acknowledgement_settles_nothing() -> Result<()> {
    let node = shared_broker().await?;
    let url = node.vhost("broker-lease").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    publish(&broker, StageName::Load, 0..1).await?;
    let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Load, 10));
    let first = receive(&mut inboxes[0]).await?;
    let lease = first.receipt.lease();
    close_connections(node, &url).await?;
    wait_until(SOON, "the lease to end", async || !lease.is_held()).await?;
    let again = receive(&mut inboxes[0]).await?;
    assert!(again.redelivered && again.receipt.lease().is_held());
    // Settling the stale delivery must not settle the new one, whose tag is the same.
    Receipt::acknowledge(vec![first.receipt]);
    drop(again.receipt);
    let third = receive(&mut inboxes[0]).await?;
    assert_eq!(third.work.id, work(StageName::Load, 0).id);
    Receipt::acknowledge(vec![third.receipt]);
    subscription.close(SOON).await;
    assert_eq!(ready(&url, "load.orders").await, 0);
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_new_session_has_no_more_in_hand_than_the_first() -> Result<()> {
    // A reconnect that forgets the prefetch would bring the whole queue into memory.
    let node = shared_broker().await?;
    let url = node.vhost("broker-prefetch").await?;
    let counts = Arc::new(Counts::default());
    let broker = start(&url, counts.observer()).await?;
    publish(&broker, StageName::Transform, 0..50).await?;
    let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Transform, 5));
    let mut held = receive_many(&mut inboxes[0], 5).await?;
    for session in 1..=2 {
        wait_ready(&url, "transform.orders", 45).await?;
        close_connections(node, &url).await?;
        wait_until(SOON, "a new session", async || counts.rebuilt_as(Role::Consume).len() >= session).await?;
        let again = receive_many(&mut inboxes[0], 5).await?;
        ensure!(again.iter().all(|delivery| delivery.redelivered), "others came than were in hand");
        let sixth = tokio::time::timeout(QUIET, inboxes[0].recv()).await;
        ensure!(sixth.is_err(), "more came than the prefetch allows");
        held = again;
    }
    assert_eq!(ready(&url, "transform.orders").await, 45);
    crate::acknowledge(held);
    assert_eq!(take(&mut inboxes[0], 45).await?.len(), 45);
    subscription.close(SOON).await;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_second_loader_stands_by_until_the_first_is_gone() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-single").await?;
    let counts = Arc::new(Counts::default());
    let (one, two) = (start(&url, Arc::new(NoObserver)).await?, start(&url, counts.observer()).await?);
    let (first, mut first_inboxes) = one.subscribe(lane(StageName::Load, 5));
    publish(&one, StageName::Load, 0..1).await?;
    take(&mut first_inboxes[0], 1).await?;
    let (second, mut second_inboxes) = two.subscribe(lane(StageName::Load, 5));
    wait_until(SOON, "the second to consume", async || counts.consuming.load(Ordering::Relaxed) > 0).await?;
    publish(&one, StageName::Load, 1..4).await?;
    assert_eq!(take(&mut first_inboxes[0], 3).await?.len(), 3);
    let idle = tokio::time::timeout(QUIET, second_inboxes[0].recv()).await;
    assert!(idle.is_err(), "both loaders were given work of one queue");
    first.close(SOON).await;
    publish(&one, StageName::Load, 4..6).await?;
    assert_eq!(take(&mut second_inboxes[0], 2).await?.len(), 2);
    second.close(SOON).await;
    Ok(())
}
