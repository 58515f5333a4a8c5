//! A broker that says nothing is noticed, and so is one whose answers don't arrive.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use e2e::lab::{BrokerOptions, PrivateBroker, Proxy, Way, shared_broker, wait_until};
use kingpost_broker::{NoObserver, Receipt, Role};
use kingpost_model::StageName;

use crate::{
    Counts, SOON, config, lane, outsider, postings, publish, ready, receive, start, start_with, take, vhost,
};

#[tokio::test]
async fn a_frozen_broker_is_noticed_within_two_heartbeats_and_work_goes_on_after_it() -> Result<()> {
    const HEARTBEAT_S: u64 = 2;
    let node = PrivateBroker::start(BrokerOptions::default()).await?;
    let counts = Arc::new(Counts::default());
    let mut config = config(&format!("{}?heartbeat={HEARTBEAT_S}", node.amqp_url()));
    config.connect_timeout = Duration::from_secs(3);
    config.reconnect_pause_max = Duration::from_secs(1);
    let broker = start_with(config, counts.observer()).await?;
    let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Transform, 10));
    publish(&broker, StageName::Transform, 0..1).await?;
    let held = receive(&mut inboxes[0]).await?;

    node.freeze()?;
    let began = Instant::now();
    let lease = held.receipt.lease();
    let outbound = broker.outbound();
    let publishing =
        tokio::spawn(async move { outbound.publish(postings(StageName::Transform, 1..20)).await });
    let noticed =
        async || [Role::Publish, Role::Consume].into_iter().all(|role| !counts.rebuilt_as(role).is_empty());
    wait_until(SOON, "both sessions to end", noticed).await?;
    // The rest is for a machine that is busy.
    let limit = Duration::from_secs(2 * HEARTBEAT_S + 3);
    ensure!(began.elapsed() < limit, "it took {:?}", began.elapsed());
    ensure!(!lease.is_held(), "what was in hand still counts as ours");
    ensure!(!publishing.is_finished(), "a frozen broker confirmed something");

    node.thaw()?;
    tokio::time::timeout(SOON, publishing).await.context("publishing didn't go on")???;
    Receipt::acknowledge(vec![held.receipt]);
    assert_eq!(take(&mut inboxes[0], 20).await?.len(), 20, "what was in hand comes again");
    subscription.close(SOON).await;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_lease_is_not_held_while_the_broker_is_silent_though_its_connection_still_stands() -> Result<()> {
    let node = shared_broker().await?;
    let direct = node.vhost("broker-pulse").await?;
    let proxy = Proxy::start(format!("127.0.0.1:{}", node.amqp_port())).await?;
    let url = format!("amqp://guest:guest@{}/{}?heartbeat=6", proxy.address(), vhost(&direct)?);
    let broker = start(&url, Arc::new(NoObserver)).await?;
    let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Load, 10));
    publish(&broker, StageName::Load, 0..1).await?;
    let lease = receive(&mut inboxes[0]).await?.receipt.lease();
    proxy.stall(Way::ToClient);
    wait_until(SOON, "the lease not to be held", async || !lease.is_held()).await?;
    ensure!(!lease.is_lost(), "the connection was given up first: nothing is shown");
    proxy.heal();
    wait_until(SOON, "the lease to be held again", async || lease.is_held()).await?;
    subscription.close(SOON).await;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn every_connection_has_a_heartbeat_of_ten_seconds() -> Result<()> {
    // The server would ask for a minute, and death would be noticed after two.
    let node = shared_broker().await?;
    let url = node.vhost("broker-heartbeat").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Transform, 1));
    let inspector = broker.inspector().await?;
    let leader = broker.lead(crate::SCHEME).await?.context("nobody leads, and yet we may not")?;
    publish(&broker, StageName::Transform, 0..1).await?;
    take(&mut inboxes[0], 1).await?;
    let listed = node.ctl(&["list_connections", "vhost", "timeout"]).await?;
    let own = vhost(&url)?;
    let timeouts: Vec<&str> = listed
        .lines()
        .filter(|line| line.starts_with(own))
        .filter_map(|line| line.split('\t').nth(1))
        .collect();
    assert_eq!(timeouts, ["10"; 4], "{listed}");
    leader.resign().await;
    inspector.close().await;
    subscription.close(SOON).await;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn when_confirms_are_lost_then_the_same_messages_are_published_again() -> Result<()> {
    let node = shared_broker().await?;
    let direct = node.vhost("broker-confirms").await?;
    let proxy = Proxy::start(format!("127.0.0.1:{}", node.amqp_port())).await?;
    let counts = Arc::new(Counts::default());
    // The client follows the server's heartbeat of a minute then: only our own deadline is quick enough.
    let mut config =
        config(&format!("amqp://guest:guest@{}/{}?heartbeat=0", proxy.address(), vhost(&direct)?));
    config.confirm_timeout = Duration::from_secs(1);
    config.connect_timeout = Duration::from_secs(3);
    config.reconnect_pause_max = Duration::from_secs(1);
    let broker = start_with(config, counts.observer()).await?;
    publish(&broker, StageName::Transform, 0..1).await?;
    proxy.stall(Way::ToClient);
    let outbound = broker.outbound();
    let publishing =
        tokio::spawn(async move { outbound.publish(postings(StageName::Transform, 1..50)).await });
    wait_until(SOON, "the broker to have them", async || ready(&direct, "transform.orders").await == 50)
        .await?;
    wait_until(SOON, "the session to end", async || counts.rebuilt() > 0).await?;
    assert_eq!(counts.rebuilt_as(Role::Publish).first(), Some(&"confirm-timeout"));
    ensure!(!publishing.is_finished(), "unconfirmed messages were reported as published");
    proxy.heal();
    tokio::time::timeout(SOON, publishing).await.context("publishing didn't go on")???;
    assert_eq!(counts.republished.load(Ordering::Relaxed), 49);
    // They are in the queue twice, and bear the same ids, which is what makes the second copies harmless.
    assert_eq!(ready(&direct, "transform.orders").await, 99);
    let (_connection, channel) = outsider(&direct).await?;
    let mut copies = std::collections::BTreeMap::<String, usize>::new();
    while let Some(message) =
        channel.basic_get("transform.orders".into(), lapin::options::BasicGetOptions { no_ack: true }).await?
    {
        let id = message.properties.message_id().as_ref().context("a message without an id")?;
        *copies.entry(id.to_string()).or_default() += 1;
    }
    assert_eq!((copies.len(), copies.values().sum::<usize>()), (50, 99));
    broker.close(SOON).await;
    Ok(())
}
