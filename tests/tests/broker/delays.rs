//! Waiting queues bring everything back, each after its own time.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use e2e::lab::shared_broker;
use kingpost_broker::{Destination, NoObserver, Posting, RESUME_EXCHANGE, Receipt, UNROUTABLE};
use kingpost_model::{StageName, Tier};
use lapin::options::{BasicGetOptions, BasicPublishOptions, QueueDeleteOptions};

use crate::{SOON, lane, outsider, ready, route, start, wait_ready, work};

fn waiting(after: Duration, n: usize) -> Posting {
    let destination = Destination::Wait(Tier::at_least(after), route(StageName::Load));
    Posting { destination, work: work(StageName::Load, n) }
}

#[tokio::test]
async fn five_seconds_are_not_held_up_by_two_hours() -> Result<()> {
    // A message leaves a queue only at its head: in a shared one the first of these would hold the second back.
    let url = shared_broker().await?.vhost("broker-tiers").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    let group = vec![waiting(Duration::from_secs(7_200), 1), waiting(Duration::ZERO, 2)];
    let (began, since_epoch) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH)?);
    let published_ms = i64::try_from(since_epoch.as_millis())?;
    broker.outbound().publish(group).await?;
    let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Load, 10));
    let back = tokio::time::timeout(SOON, inboxes[0].recv()).await?.context("the inbox ended")?;
    assert_eq!(back.work.id.as_str(), "id-2");
    let queued_ms = back.queued_ms.context("it doesn't say since when it is in its queue")?;
    // Whole seconds of two clocks: its return, not its publish.
    ensure!(queued_ms >= published_ms + 3_900, "published at {published_ms}, queued at {queued_ms}");
    Receipt::acknowledge(vec![back.receipt]);
    ensure!(began.elapsed() >= Duration::from_millis(4_900), "it came back after {:?}", began.elapsed());
    ensure!(began.elapsed() < Duration::from_secs(20), "it came back after {:?}", began.elapsed());
    assert_eq!(ready(&url, "wait.2h").await, 1);
    subscription.close(SOON).await;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn what_comes_back_to_a_queue_that_is_gone_is_kept_and_holds_up_nothing() -> Result<()> {
    // Without a place for it, a queue that hands over at least once would be stuck behind it for good.
    let url = shared_broker().await?.vhost("broker-homeless").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    broker.outbound().publish(vec![waiting(Duration::ZERO, 1)]).await?;
    let (_connection, channel) = outsider(&url).await?;
    channel.queue_delete("load.orders".into(), QueueDeleteOptions::default()).await?;
    wait_ready(&url, UNROUTABLE, 1).await.context("it was not kept")?;
    wait_ready(&url, "wait.5s", 0).await.context("it holds up the waiting queue")?;
    // The way back of the runbook: by its own routing key through the exchange of what has waited.
    let back = async || {
        let got = channel.basic_get(UNROUTABLE.into(), BasicGetOptions { no_ack: true }).await?;
        let got = got.context("it is lost")?.delivery;
        let options = BasicPublishOptions::default();
        channel
            .basic_publish(RESUME_EXCHANGE.into(), got.routing_key, options, &got.data, got.properties)
            .await?;
        anyhow::Ok(())
    };
    back().await?;
    wait_ready(&url, UNROUTABLE, 1).await.context("what still has no queue is lost on its way back")?;
    broker.close(SOON).await;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    back().await?;
    wait_ready(&url, "load.orders", 1).await.context("it didn't come back")?;
    broker.close(SOON).await;
    Ok(())
}
