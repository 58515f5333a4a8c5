//! A memory or disk alarm stops every write on a connection that publishes.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use e2e::lab::{BrokerOptions, PrivateBroker, wait_until};
use kingpost_broker::Standing;
use kingpost_model::StageName;

use crate::{Counts, SOON, acknowledge, config, lane, postings, publish, receive_many, start_with, take};

#[tokio::test]
async fn during_an_alarm_publishing_waits_and_acknowledging_goes_on() -> Result<()> {
    let node = PrivateBroker::start(BrokerOptions::default()).await?;
    let url = node.amqp_url();
    let counts = Arc::new(Counts::default());
    let mut config = config(&url);
    config.confirm_timeout = Duration::from_secs(1);
    let broker = start_with(config, counts.observer()).await?;
    publish(&broker, StageName::Transform, 0..40).await?;
    let door = broker.outbound();
    assert_eq!(door.standing(), Standing::Open, "what publishes is open");
    let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Transform, 10));
    let mut held = receive_many(&mut inboxes[0], 10).await?;

    node.ctl(&["set_vm_memory_high_watermark", "0"]).await?;
    let outbound = broker.outbound();
    let mut publishing =
        tokio::spawn(async move { outbound.publish(postings(StageName::Transform, 40..60)).await });
    wait_until(SOON, "the connection to be blocked", async || counts.blocked.load(Ordering::Relaxed) > 0)
        .await?;
    assert_eq!(door.standing(), Standing::Blocked);
    for _ in 0..3 {
        acknowledge(std::mem::take(&mut held));
        // No more than ten may be in hand, so ten more show that the broker has seen the acknowledgements.
        held = receive_many(&mut inboxes[0], 10).await.context("acknowledgements don't get through")?;
    }
    let early = tokio::time::timeout(Duration::from_secs(3), &mut publishing).await;
    ensure!(early.is_err(), "something was published during the alarm");
    assert_eq!(counts.rebuilt(), 0, "an alarm is no reason for a new session");

    node.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]).await?;
    tokio::time::timeout(SOON, publishing).await.context("publishing didn't go on")???;
    assert_eq!(door.standing(), Standing::Open, "the alarm is over");
    acknowledge(held);
    assert_eq!(take(&mut inboxes[0], 20).await?.len(), 20);
    assert_eq!((counts.rebuilt(), counts.republished.load(Ordering::Relaxed)), (0, 0));
    subscription.close(SOON).await;
    broker.close(SOON).await;
    assert_eq!(door.standing(), Standing::Absent, "a closed broker is open");
    Ok(())
}
