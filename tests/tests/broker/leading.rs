//! One worker cuts the windows of a scheme, and knows where its predecessor was.

use std::sync::Arc;

use anyhow::{Context, Result};
use e2e::lab::{refusing_depth_of, shared_broker, wait_for};
use futures_util::StreamExt as _;
use kingpost_broker::{Broker, ConnectError, Leadership, NoObserver, instruct, tell_result};
use kingpost_model::{Act, Instruction, Reconciled, StageName};
use lapin::types::FieldTable;

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
    assert_eq!(leader.depth("extract.orders").await?.map(|depth| depth.ready), Some(6));
    assert_eq!(leader.depth("extract.nobody").await?, None);
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

#[tokio::test]
async fn a_cursor_that_somebody_looks_at_is_waited_for_and_never_taken_for_none() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-peek").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    let leader = broker.lead(SCHEME).await?.context("nobody leads, and yet we may not")?;
    let inspector = broker.inspector().await?;
    assert_eq!(inspector.peek("cursor.orders").await?, None);
    assert_eq!(inspector.peek("cursor.nobody").await?, None);
    leader.advance(Vec::new(), "cursor".into()).await?;
    for look in 1..=25 {
        assert_eq!(inspector.peek("cursor.orders").await?.as_deref(), Some(&b"cursor"[..]), "look {look}");
    }
    waits_for_a_frozen_reader(&broker, leader, &url).await?;
    inspector.close().await;
    broker.close(SOON).await;
    Ok(())
}

/// Somebody reads the cursor and is frozen with it in hand; the next leader waits until it is given back.
async fn waits_for_a_frozen_reader(broker: &Broker, leader: Leadership, url: &str) -> Result<()> {
    let frozen = lapin::Connection::connect(url, lapin::ConnectionProperties::default()).await?;
    let channel = frozen.create_channel().await?;
    let options = lapin::options::BasicConsumeOptions::default();
    let mut consumer =
        channel.basic_consume("cursor.orders".into(), "".into(), options, FieldTable::default()).await?;
    let held = consumer.next().await.context("nothing is delivered")??;
    leader.resign().await;
    let next = wait_for_lead(broker).await?;
    {
        let mut reading = Box::pin(next.cursor());
        let early = tokio::time::timeout(std::time::Duration::from_secs(3), &mut reading).await;
        assert!(early.is_err(), "a cursor in somebody's hand was taken for none: {early:?}");
        drop((held, consumer));
        frozen.close(200, "gone".into()).await?;
        assert_eq!(reading.await?.as_deref(), Some(&b"cursor"[..]));
    }
    next.resign().await;
    Ok(())
}

#[tokio::test]
async fn who_may_not_ask_for_readers_waits_until_a_frozen_one_is_given_up() -> Result<()> {
    let admin = shared_broker().await?.vhost("broker-blind").await?;
    // With a heartbeat of a second, so that the wait is short.
    let url = format!("{}?heartbeat=1", refusing_depth_of("cursor.orders", &admin).await?);
    let broker = start(&url, Arc::new(NoObserver)).await?;
    let leader = broker.lead(SCHEME).await?.context("nobody leads, and yet we may not")?;
    assert!(matches!(leader.depth("cursor.orders").await, Err(ConnectError::Refused(_))));
    assert_eq!(leader.cursor().await?, None, "there never was one");
    leader.advance(Vec::new(), "cursor".into()).await?;
    waits_for_a_frozen_reader(&broker, leader, &admin).await?;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn an_instruction_comes_again_until_it_is_settled() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-instructions").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    let config = crate::config(&url);
    let act = Act::Pause { period: "x".to_owned() };
    let told =
        Instruction { id: "1".to_owned(), by: "test".to_owned(), at_s: None, reason: String::new(), act };
    assert!(!instruct(&config, "nobody", &told).await?, "an instruction to a scheme that isn't there");
    assert!(instruct(&config, SCHEME, &told).await?);
    let mut leader = broker.lead(SCHEME).await?.context("nobody leads, and yet we may not")?;
    let first = leader.instruction().await?.context("no instruction")?;
    assert_eq!(serde_json::from_slice::<Instruction>(&first)?, told);
    // It dies before it has settled it.
    leader.resign().await;
    let mut next = wait_for_lead(&broker).await?;
    let again = wait_for(SOON, "the instruction", async || next.instruction().await.ok().flatten()).await?;
    assert_eq!(again, first);
    next.instructed().await?;
    assert_eq!(next.instruction().await?, None);
    next.resign().await;
    let mut last = wait_for_lead(&broker).await?;
    assert_eq!(last.instruction().await?, None, "a settled instruction came again");
    last.resign().await;
    broker.close(SOON).await;
    Ok(())
}

fn compared(scheme: &str, matched: u64) -> Reconciled {
    let documents = [("matched".to_owned(), matched)].into();
    let scheme = scheme.to_owned();
    Reconciled { scheme, from_s: 0, to_s: 86_400, finished_s: 90_000, agrees: true, documents }
}

#[tokio::test]
async fn the_newest_result_of_a_comparison_comes_again_until_it_is_noted() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-results").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    let config = crate::config(&url);
    assert!(!tell_result(&config, &compared("nobody", 1)).await?, "a scheme that isn't there");
    for matched in 1..=3 {
        assert!(tell_result(&config, &compared(SCHEME, matched)).await?);
    }
    let mut leader = broker.lead(SCHEME).await?.context("nobody leads, and yet we may not")?;
    assert_eq!(leader.result().await?.as_deref(), Some(&*compared(SCHEME, 3).write()));
    assert_eq!(leader.result().await?, None, "older ones are gone");
    // It dies before it has noted it.
    leader.resign().await;
    let mut next = wait_for_lead(&broker).await?;
    let again = wait_for(SOON, "the result", async || next.result().await.ok().flatten()).await?;
    assert_eq!(again, compared(SCHEME, 3).write());
    // One that comes meanwhile is the next one.
    assert!(tell_result(&config, &compared(SCHEME, 4)).await?);
    next.noted().await?;
    let newer = wait_for(SOON, "the newer result", async || next.result().await.ok().flatten()).await?;
    assert_eq!(newer, compared(SCHEME, 4).write());
    next.noted().await?;
    assert_eq!(next.result().await?, None);
    next.resign().await;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn when_the_queue_of_results_is_gone_then_leading_goes_on() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-no-results").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    let mut leader = broker.lead(SCHEME).await?.context("nobody leads, and yet we may not")?;
    let admin = lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await?;
    let channel = admin.create_channel().await?;
    let options = lapin::options::QueueDeleteOptions::default();
    channel.queue_delete(format!("reconcile.{SCHEME}").into(), options).await?;
    assert!(!tell_result(&crate::config(&url), &compared(SCHEME, 1)).await?);
    for _ in 0..3 {
        assert_eq!(leader.result().await?, None);
    }
    leader.noted().await?;
    leader.advance(vec![work(StageName::Extract, 1)], "cursor".into()).await?;
    assert!(leader.is_held());
    leader.resign().await;
    broker.close(SOON).await;
    Ok(())
}

async fn wait_for_lead(broker: &Broker) -> Result<Leadership> {
    wait_for(SOON, "the lead", async || broker.lead(SCHEME).await.ok().flatten()).await
}
