//! One worker cuts the windows of a scheme, and knows where its predecessor was.

use std::sync::Arc;

use anyhow::{Context, Result};
use e2e::lab::{shared_broker, wait_for};
use kingpost_broker::{Broker, Leadership, NoObserver};
use kingpost_model::StageName;

use crate::{SCHEME, SOON, start, work};

#[tokio::test]
async fn one_scheduler_leads_and_the_newest_cursor_survives_it() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-leader").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    let leader = broker.lead(SCHEME).await?.context("nobody leads, and yet we may not")?;
    assert!(broker.lead(SCHEME).await?.is_none(), "two schedulers lead");
    assert_eq!(leader.cursor().await?, None);
    for n in 1..=3_usize {
        let windows = (0..n).map(|w| work(StageName::Extract, n * 10 + w)).collect();
        leader.advance(windows, format!("cursor-{n}").into()).await?;
    }
    assert_eq!(leader.depth("extract.orders").await?, 6);
    // It dies with the cursor it had read in hand; the newer one must win.
    leader.resign().await;
    let next = wait_for_lead(&broker).await?;
    assert_eq!(next.cursor().await?.as_deref(), Some(&b"cursor-3"[..]));
    drop(next);
    let last = wait_for_lead(&broker).await?;
    assert_eq!(last.cursor().await?.as_deref(), Some(&b"cursor-3"[..]));
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn the_cursor_stays_where_it_is_while_no_queue_takes_its_windows() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-windows").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    let leader = broker.lead(SCHEME).await?.context("nobody leads, and yet we may not")?;
    leader.advance(Vec::new(), "behind".into()).await?;
    let admin = lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await?;
    let channel = admin.create_channel().await?;
    channel.queue_delete("extract.orders".into(), lapin::options::QueueDeleteOptions::default()).await?;
    let moved = leader.advance(vec![work(StageName::Extract, 1)], "ahead".into()).await;
    assert!(moved.is_err(), "the cursor moved past a window that is nowhere");
    leader.resign().await;
    let next = wait_for_lead(&broker).await?;
    assert_eq!(next.cursor().await?.as_deref(), Some(&b"behind"[..]));
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_cursor_outlasts_more_looks_than_the_brokers_own_limit_of_deliveries() -> Result<()> {
    // It is read and put back by every new leader; 4.0 to 4.2 count that, and would drop it after twenty.
    let url = shared_broker().await?.vhost("broker-cursor").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    let leader = broker.lead(SCHEME).await?.context("nobody leads, and yet we may not")?;
    leader.advance(Vec::new(), "cursor".into()).await?;
    for look in 1..=25 {
        assert_eq!(leader.cursor().await?.as_deref(), Some(&b"cursor"[..]), "look {look}");
    }
    leader.resign().await;
    broker.close(SOON).await;
    Ok(())
}

async fn wait_for_lead(broker: &Broker) -> Result<Leadership> {
    wait_for(SOON, "the lead", async || broker.lead(SCHEME).await.ok().flatten()).await
}
