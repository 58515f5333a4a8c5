//! A message that the broker refuses by closing the channel holds up no other.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use e2e::lab::{BrokerOptions, PrivateBroker, shared_broker, wait_until};
use kingpost_broker::{Destination, Posting, Role, Topology};
use kingpost_model::StageName;

use crate::{
    Counts, SCHEME, SOON, config, permissions::user, postings, publish, ready, route, start, vhost,
    wait_ready, work,
};

const LOAD: StageName = StageName::Load;

fn report(n: usize) -> Posting {
    Posting {
        destination: Destination::Report("replay.somebody".to_owned(), route(LOAD)),
        work: work(LOAD, n),
    }
}

/// A user who may write where this pattern says, in a vhost where everything is declared.
async fn writer(name: &str, write: &str) -> Result<(String, String)> {
    let node = shared_broker().await?;
    let admin = node.vhost(name).await?;
    Topology::new([(SCHEME, 1)]).apply(&config(&admin), false).await?;
    let url = user(node, &admin, name, ["^$", write, ".*"]).await?;
    Ok((admin, url))
}

#[tokio::test]
async fn reports_that_may_not_be_written_are_dropped_and_the_work_goes_on() -> Result<()> {
    let (admin, url) = writer("refused-reports", r"^(kingpost\.(work|dead)|wait\..+)$").await?;
    let counts = Arc::new(Counts::default());
    let broker = start(&url, counts.observer()).await?;
    // As a batch leaves them: each with what it led to, many at a time.
    let mut group = postings(LOAD, 0..100);
    (0..100).for_each(|n| group.insert(2 * n, report(n)));
    let published = tokio::time::timeout(SOON, broker.outbound().publish(group)).await;
    published.context("a report holds up the work")??;
    assert_eq!(counts.rebuilt_as(Role::Publish), ["channel"]);
    assert_eq!(ready(&admin, "load.orders").await, 100, "published more than once without need");
    // Further ones cost nobody a session.
    for n in 100..120 {
        let mut group = postings(LOAD, n..n + 1);
        group.push(report(n));
        tokio::time::timeout(SOON, broker.outbound().publish(group)).await.context("held up")??;
    }
    assert_eq!(counts.rebuilt_as(Role::Publish), ["channel"]);
    ensure!(counts.nacked.load(Ordering::Relaxed) > 0, "it isn't counted");
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn work_that_may_not_be_written_waits_for_the_right_and_the_other_work_goes_on() -> Result<()> {
    let (admin, url) = writer("refused-dead", r"^(kingpost\.work|wait\..+)$").await?;
    let counts = Arc::new(Counts::default());
    let broker = start(&url, counts.observer()).await?;
    let dead = |n| Posting { destination: Destination::Dead(route(LOAD)), work: work(LOAD, n) };
    let letters = (0..3).map(dead).collect();
    let mut waits = broker.outbound().publish_each(letters).await?;
    for n in 0..5 {
        publish(&broker, LOAD, n * 10..n * 10 + 10).await?;
    }
    ensure!(futures_util::poll!(&mut waits[0]).is_pending(), "a letter was reported as published");
    assert_eq!(counts.rebuilt_as(Role::Publish), ["channel"]);
    let name = url.split("//").nth(1).and_then(|rest| rest.split(':').next()).context("no user")?;
    let may = ["set_permissions", "--vhost", vhost(&admin)?, name, "^$", ".*", ".*"];
    shared_broker().await?.ctl(&may).await?;
    for wait in waits {
        tokio::time::timeout(SOON, wait).await.context("not published with the right to")??;
    }
    assert_eq!(ready(&admin, "load.orders.dead").await, 3);
    assert_eq!(counts.rebuilt_as(Role::Publish), ["channel"]);
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_too_large_for_the_broker_waits_and_smaller_ones_go_on() -> Result<()> {
    let options =
        BrokerOptions { config: vec!["max_message_size = 100000".into()], ..BrokerOptions::default() };
    let node = PrivateBroker::start(options).await?;
    let url = node.amqp_url();
    let counts = Arc::new(Counts::default());
    let broker = start(&url, counts.observer()).await?;
    let large = |n, bytes| {
        let mut posting = Posting { destination: Destination::Work(route(LOAD)), work: work(LOAD, n) };
        posting.work.body = vec![b'x'; bytes].into();
        posting
    };
    let mut waits = broker.outbound().publish_each(vec![large(900, 300_000), large(901, 400_000)]).await?;
    for n in 0..5 {
        publish(&broker, LOAD, n * 10..n * 10 + 10).await?;
    }
    // Smaller than what was refused, and too large as well.
    waits.extend(broker.outbound().publish_each(vec![large(902, 200_000)]).await?);
    wait_until(SOON, "the second refusal", async || counts.rebuilt_as(Role::Publish).len() == 2).await?;
    publish(&broker, LOAD, 50..60).await?;
    assert_eq!(ready(&url, "load.orders").await, 60);
    ensure!(futures_util::poll!(&mut waits[0]).is_pending(), "it was reported as published");
    assert_eq!(counts.rebuilt_as(Role::Publish), ["channel"; 2]);
    // Somebody takes the advice. From 4.0 on RabbitMQ keeps the limit in a term that is read from the setting at its start.
    let raise = "application:set_env(rabbit, max_message_size, 16777216), persistent_term:put(max_message_size, 16777216).";
    node.ctl(&["eval", raise]).await?;
    for wait in waits {
        tokio::time::timeout(SOON, wait).await.context("not published now that it may be")??;
    }
    wait_ready(&url, "load.orders", 63).await?;
    broker.close(Duration::from_secs(2)).await;
    Ok(())
}
