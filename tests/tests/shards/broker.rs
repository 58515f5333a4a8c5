//! What the broker does, and what the broker crate makes of it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use e2e::lab::shared_broker;
use kingpost_broker::{
    Broker, BrokerConfig, Destination, Inbox, Inspector, LaneSpec, NoObserver, Posting, Receipt,
    Subscription, Topology,
};
use kingpost_model::{RecordKey, Route, StageName, Work, WorkId};
use tokio_util::sync::CancellationToken;

use crate::SOON;

const SCHEME: &str = "orders";

pub(crate) fn config(url: &str) -> BrokerConfig {
    let mut config = BrokerConfig::for_url(url, "kingpost-test/1");
    config.roll_call_pause = Duration::from_millis(100);
    config
}

async fn start(url: &str, shards: u32) -> Result<Broker> {
    let topology = Topology::new([(SCHEME, shards)]);
    Ok(Broker::start(config(url), topology, Arc::new(NoObserver), &CancellationToken::new()).await?)
}

/// Consumes every shard.
fn subscribe(broker: &Broker, shards: u32) -> (Subscription, Vec<Inbox>) {
    let routes = Route::all(StageName::Load, SCHEME, shards);
    broker.subscribe(routes.into_iter().map(|route| LaneSpec { route, prefetch: 5 }).collect())
}

async fn publish(broker: &Broker, route: &Route, numbers: std::ops::Range<usize>) -> Result<()> {
    let postings = numbers.map(|n| {
        let key = RecordKey::new("STK_InStock", format!("RK{n}"));
        let work = Work::new(WorkId::new(format!("id-{n}")), StageName::Load, SCHEME, key, "{}");
        Posting { destination: Destination::Work(route.clone()), work }
    });
    Ok(broker.outbound().publish(postings.collect()).await?)
}

async fn number(inbox: &mut Inbox) -> Result<String> {
    let delivery = tokio::time::timeout(SOON, inbox.recv()).await.context("nothing arrives")?;
    let delivery = delivery.context("the inbox was closed")?;
    ensure!(!delivery.redelivered, "{} is redelivered", delivery.work.key.number);
    Receipt::acknowledge(vec![delivery.receipt]);
    Ok(delivery.work.key.number)
}

async fn loaders(subscription: &Subscription, count: u32) -> Result<()> {
    let mut counted = subscription.loaders(SCHEME).context("the scheme isn't counted")?;
    let seen = tokio::time::timeout(SOON, counted.wait_for(|seen| *seen == count)).await;
    seen.with_context(|| format!("{count} loaders are never counted"))??;
    Ok(())
}

#[tokio::test]
async fn consumers_that_wait_for_a_single_active_queue_are_not_in_its_count() -> Result<()> {
    // Were they, nobody would need a queue of its own for the roll call.
    let url = shared_broker().await?.vhost("shards-count").await?;
    let broker = start(&url, 2).await?;
    let held = [subscribe(&broker, 2), subscribe(&broker, 2), subscribe(&broker, 2)];
    for (subscription, _) in &held {
        loaders(subscription, 3).await?;
    }
    let inspector = Inspector::open(&config(&url)).await?;
    let shard = inspector.depth("load.orders.0").await?.context("no queue")?;
    assert_eq!(shard.consumers, 1);
    let roll = inspector.depth("loaders.orders").await?.context("no roll call")?;
    assert_eq!((roll.consumers, roll.ready), (3, 0));
    let [one, two, three] = held;
    three.0.close(SOON).await;
    loaders(&one.0, 2).await?;
    loaders(&two.0, 2).await?;
    Ok(())
}

#[tokio::test]
async fn a_queue_that_is_given_up_goes_to_the_next_and_comes_back() -> Result<()> {
    let url = shared_broker().await?.vhost("shards-leave").await?;
    let broker = start(&url, 1).await?;
    let route = Route::new(StageName::Load, SCHEME);
    let (_one, mut first) = subscribe(&broker, 1);
    publish(&broker, &route, 0..3).await?;
    assert_eq!(number(&mut first[0]).await?, "RK0");
    let active = first[0].active_since();
    let age = active.borrow().context("it delivers, and isn't active")?;
    let (_two, mut second) = subscribe(&broker, 1);
    // The others lie in its hands: what has been delivered is not lost by leaving.
    first[0].leave().await;
    assert!(active.borrow().is_none(), "what was given up counts as active");
    assert_eq!([number(&mut first[0]).await?, number(&mut first[0]).await?], ["RK1", "RK2"]);
    publish(&broker, &route, 3..5).await?;
    assert_eq!([number(&mut second[0]).await?, number(&mut second[0]).await?], ["RK3", "RK4"]);
    first[0].rejoin();
    let idle = tokio::time::timeout(Duration::from_millis(300), first[0].recv()).await;
    assert!(idle.is_err(), "who came back is not behind the other");
    second[0].leave().await;
    publish(&broker, &route, 5..6).await?;
    let delivery = tokio::time::timeout(SOON, first[0].recv()).await?.context("no delivery")?;
    assert!(delivery.receipt.lease().is_held());
    let anew = active.borrow().context("it delivers again, and isn't active")?;
    assert!(anew > age, "the age of the lease goes on as if it had never been given up");
    assert!(delivery.receipt.lease().age <= anew.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_queue_that_was_given_up_stays_so_over_a_new_session() -> Result<()> {
    let node = shared_broker().await?;
    let url = node.vhost("shards-gone").await?;
    let broker = start(&url, 2).await?;
    let (subscription, mut inboxes) = subscribe(&broker, 2);
    loaders(&subscription, 1).await?;
    inboxes[0].leave().await;
    let vhost = url.rsplit('/').next().context("no vhost in the URL")?;
    node.ctl(&["close_all_connections", "--vhost", vhost, "test"]).await?;
    for (inbox, n) in inboxes.iter().zip(0..) {
        publish(&broker, inbox.route(), n * 10..n * 10 + 1).await?;
    }
    assert_eq!(number(&mut inboxes[1]).await?, "RK10");
    let nothing = tokio::time::timeout(Duration::from_millis(300), inboxes[0].recv()).await;
    assert!(nothing.is_err(), "it consumes again by itself");
    inboxes[0].rejoin();
    assert_eq!(number(&mut inboxes[0]).await?, "RK0");
    Ok(())
}

/// Deliveries that a worker still had in hand come first to the next one: none of the queue overtakes them, and they
/// carry the mark.
#[tokio::test]
async fn the_end_of_a_session_returns_what_is_in_hand_before_the_next_begins() -> Result<()> {
    let url = shared_broker().await?.vhost("shards-end").await?;
    let broker = start(&url, 1).await?;
    let route = Route::new(StageName::Load, SCHEME);
    for round in 0..20 {
        let (one, mut first) = subscribe(&broker, 1);
        publish(&broker, &route, 0..20).await?;
        let mut held = Vec::new();
        while held.len() < 5 {
            held.push(tokio::time::timeout(SOON, first[0].recv()).await?.context("no delivery")?);
        }
        let (two, mut second) = subscribe(&broker, 1);
        held.into_iter().for_each(|delivery| delivery.receipt.leave());
        one.close(SOON).await;
        for n in 0..20 {
            let delivery = tokio::time::timeout(SOON, second[0].recv()).await?.context("no delivery")?;
            let number = delivery.work.key.number.clone();
            assert_eq!((number, delivery.redelivered), (format!("RK{n}"), n < 5), "round {round}");
            Receipt::acknowledge(vec![delivery.receipt]);
        }
        two.close(SOON).await;
    }
    Ok(())
}
