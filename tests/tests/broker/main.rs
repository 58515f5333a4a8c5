//! The broker crate against a real RabbitMQ: what is promised about publishing, settling, delaying and leading.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use e2e::lab::{shared_broker, wait_until};
use kingpost_broker::{
    Broker, BrokerConfig, Destination, Inbox, Inspector, LaneSpec, NoObserver, Observer, Posting, Receipt,
    Role, StartError, Topology,
};
use kingpost_model::{RecordKey, Route, StageName, Tier, Work, WorkId};
use lapin::{
    Connection, ConnectionProperties,
    options::{QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(30);
const SCHEME: &str = "orders";

#[derive(Default)]
struct Counts {
    unroutable: AtomicUsize,
    rebuilt: AtomicUsize,
}

impl Observer for Counts {
    fn unroutable(&self, _queue: &str) {
        self.unroutable.fetch_add(1, Ordering::Relaxed);
    }

    fn rebuilt(&self, _role: Role, _reason: &'static str) {
        self.rebuilt.fetch_add(1, Ordering::Relaxed);
    }
}

fn config(url: &str) -> BrokerConfig {
    BrokerConfig::for_url(url, "kingpost-test/1")
}

async fn start(url: &str, observer: Arc<dyn Observer>) -> Result<Broker> {
    let topology = Topology::new([(SCHEME, 1)]);
    Ok(Broker::start(config(url), topology, observer, &CancellationToken::new()).await?)
}

fn route(stage: StageName) -> Route {
    Route::new(stage, SCHEME)
}

fn work(stage: StageName, n: usize) -> Work {
    let key = RecordKey::new("STK_InStock", format!("RK{n}"));
    Work::new(WorkId::new(format!("id-{n}")), stage, SCHEME, key, format!("{{\"n\":{n}}}"))
}

fn postings(stage: StageName, numbers: std::ops::Range<usize>) -> Vec<Posting> {
    let destination = Destination::Work(route(stage));
    numbers.map(|n| Posting { destination: destination.clone(), work: work(stage, n) }).collect()
}

fn lane(stage: StageName, prefetch: u16) -> Vec<LaneSpec> {
    vec![LaneSpec { route: route(stage), prefetch }]
}

async fn ready(url: &str, queue: &str) -> u32 {
    let inspector = Inspector::open(&config(url)).await;
    let Ok(inspector) = inspector else { return 0 };
    let depth = inspector.depth(queue).await.ok().flatten().map_or(0, |depth| depth.ready);
    inspector.close().await;
    depth
}

/// Has the broker close every connection to the vhost of a URL.
async fn close_connections(node: &e2e::lab::SharedBroker, url: &str) -> Result<()> {
    let vhost = url.rsplit('/').next().context("no vhost in the URL")?;
    node.ctl(&["close_all_connections", "--vhost", vhost, "test"]).await?;
    Ok(())
}

/// Takes messages until `count` different ones have been seen, acknowledging each.
async fn take(inbox: &mut Inbox, count: usize) -> Result<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    while seen.len() < count {
        let next = tokio::time::timeout(SOON, inbox.recv()).await;
        let delivery = next.with_context(|| format!("only {} of {count} arrived", seen.len()))?;
        let delivery = delivery.context("the inbox was closed")?;
        seen.insert(delivery.work.id.to_string());
        Receipt::acknowledge(vec![delivery.receipt]);
    }
    Ok(seen)
}

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
    let delivery = tokio::time::timeout(SOON, inboxes[0].recv()).await?.context("no delivery")?;
    assert_eq!(delivery.work, sent);
    assert!(!delivery.redelivered && delivery.receipt.lease().is_held());
    Receipt::acknowledge(vec![delivery.receipt]);
    subscription.close(SOON).await;
    assert_eq!(ready(&url, "transform.orders").await, 0);
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn returned_messages_are_never_taken_for_published() -> Result<()> {
    // The client attaches a return to whichever confirm completes next; only correlation by id tells the truth.
    let url = shared_broker().await?.vhost("broker-returns").await?;
    let counts = Arc::new(Counts::default());
    let broker = start(&url, Arc::clone(&counts) as Arc<dyn Observer>).await?;
    let outbound = broker.outbound();
    let nowhere = Destination::Work(Route::new(StageName::Load, "no-such-scheme"));
    let mut stuck = Vec::new();
    for n in 0..100 {
        let destination = nowhere.clone();
        let posting = Posting { destination, work: work(StageName::Load, 100_000 + n) };
        let outbound = outbound.clone();
        stuck.push(tokio::spawn(async move { outbound.publish(vec![posting]).await }));
        let routable = outbound_group(&broker, n);
        tokio::time::timeout(SOON, routable).await.context("a routable group was never confirmed")??;
    }
    wait_until(SOON, "every unroutable message to be seen", async || {
        counts.unroutable.load(Ordering::Relaxed) >= 100
    })
    .await?;
    ensure!(stuck.iter().all(|task| !task.is_finished()), "an unroutable message was reported as published");
    assert_eq!(ready(&url, "load.orders").await, 5_000);
    // Once a queue takes them, they are published after all.
    let admin = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = admin.create_channel().await?;
    let name = "load.no-such-scheme";
    channel.queue_declare(name.into(), QueueDeclareOptions::durable(), FieldTable::default()).await?;
    let options = QueueBindOptions::default();
    channel
        .queue_bind(name.into(), "kingpost.work".into(), name.into(), options, FieldTable::default())
        .await?;
    for task in stuck {
        tokio::time::timeout(SOON, task).await.context("still not published")???;
    }
    assert_eq!(ready(&url, name).await, 100);
    broker.close(SOON).await;
    Ok(())
}

async fn outbound_group(broker: &Broker, n: usize) -> Result<(), kingpost_model::Abandoned> {
    broker.outbound().publish(postings(StageName::Load, n * 50..(n + 1) * 50)).await
}

#[tokio::test]
async fn a_lost_binding_is_mended_and_nothing_is_lost() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-binding").await?;
    let counts = Arc::new(Counts::default());
    let broker = start(&url, Arc::clone(&counts) as Arc<dyn Observer>).await?;
    let admin = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = admin.create_channel().await?;
    let (queue, exchange) = ("transform.orders", "kingpost.work");
    channel.queue_unbind(queue.into(), exchange.into(), queue.into(), FieldTable::default()).await?;
    let outbound = broker.outbound();
    tokio::time::timeout(SOON, outbound.publish(postings(StageName::Transform, 0..64)))
        .await
        .context("never published")??;
    assert_eq!(counts.unroutable.load(Ordering::Relaxed), 64);
    wait_until(SOON, "all of them in the queue", async || ready(&url, queue).await == 64).await?;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_retry_tier_brings_a_message_back_to_its_own_queue() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-tiers").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    let long = Destination::Wait(Tier::at_least(Duration::from_secs(30)), route(StageName::Load));
    let short = Destination::Wait(Tier::at_least(Duration::ZERO), route(StageName::Load));
    let group = vec![
        Posting { destination: long, work: work(StageName::Load, 1) },
        Posting { destination: short, work: work(StageName::Load, 2) },
    ];
    let began = std::time::Instant::now();
    broker.outbound().publish(group).await?;
    let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Load, 10));
    let seen = take(&mut inboxes[0], 1).await?;
    // The 30 s message was published first: in a shared queue it would hold this one back.
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["id-2"]);
    ensure!(began.elapsed() >= Duration::from_millis(4_900), "it came back after {:?}", began.elapsed());
    ensure!(began.elapsed() < Duration::from_secs(20), "it came back after {:?}", began.elapsed());
    assert_eq!(ready(&url, "wait.30s").await, 1);
    subscription.close(SOON).await;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_deleted_queue_is_declared_again_and_consumed_again() -> Result<()> {
    // A server-side cancel is only an end of stream on a healthy connection.
    let url = shared_broker().await?.vhost("broker-cancel").await?;
    let counts = Arc::new(Counts::default());
    let broker = start(&url, Arc::clone(&counts) as Arc<dyn Observer>).await?;
    let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Transform, 10));
    broker.outbound().publish(postings(StageName::Transform, 0..1)).await?;
    take(&mut inboxes[0], 1).await?;
    let admin = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = admin.create_channel().await?;
    channel.queue_delete("transform.orders".into(), QueueDeleteOptions::default()).await?;
    wait_until(SOON, "the session to be rebuilt", async || counts.rebuilt.load(Ordering::Relaxed) > 0)
        .await?;
    broker.outbound().publish(postings(StageName::Transform, 1..2)).await?;
    take(&mut inboxes[0], 1).await?;
    subscription.close(SOON).await;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn connections_closed_again_and_again_lose_nothing() -> Result<()> {
    let node = shared_broker().await?;
    let url = node.vhost("broker-closing").await?;
    let counts = Arc::new(Counts::default());
    let broker = start(&url, Arc::clone(&counts) as Arc<dyn Observer>).await?;
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
    ensure!(
        counts.rebuilt.load(Ordering::Relaxed) > 0,
        "no connection was ever closed: the test proves nothing"
    );
    subscription.close(SOON).await;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_lease_ends_with_its_connection_and_unsettled_work_comes_again() -> Result<()> {
    let node = shared_broker().await?;
    let url = node.vhost("broker-lease").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    broker.outbound().publish(postings(StageName::Load, 0..1)).await?;
    let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Load, 10));
    let first = tokio::time::timeout(SOON, inboxes[0].recv()).await?.context("no delivery")?;
    let lease = first.receipt.lease();
    close_connections(node, &url).await?;
    wait_until(SOON, "the lease to end", async || !lease.is_held()).await?;
    let again = tokio::time::timeout(SOON, inboxes[0].recv()).await?.context("no second delivery")?;
    assert!(again.redelivered && again.receipt.lease().is_held());
    // Settling the stale delivery must not settle the new one, whose tag may be the same.
    Receipt::acknowledge(vec![first.receipt]);
    drop(again.receipt);
    let third = tokio::time::timeout(SOON, inboxes[0].recv()).await?.context("no third delivery")?;
    assert_eq!(third.work.id, work(StageName::Load, 0).id);
    Receipt::acknowledge(vec![third.receipt]);
    subscription.close(SOON).await;
    assert_eq!(ready(&url, "load.orders").await, 0);
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_second_loader_stands_by_until_the_first_is_gone() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-single").await?;
    let (one, two) = (start(&url, Arc::new(NoObserver)).await?, start(&url, Arc::new(NoObserver)).await?);
    let (first, mut first_inboxes) = one.subscribe(lane(StageName::Load, 5));
    one.outbound().publish(postings(StageName::Load, 0..1)).await?;
    take(&mut first_inboxes[0], 1).await?;
    let (second, mut second_inboxes) = two.subscribe(lane(StageName::Load, 5));
    one.outbound().publish(postings(StageName::Load, 1..4)).await?;
    assert_eq!(take(&mut first_inboxes[0], 3).await?.len(), 3);
    let idle = tokio::time::timeout(Duration::from_millis(200), second_inboxes[0].recv()).await;
    assert!(idle.is_err(), "both loaders were given work of one queue");
    first.close(SOON).await;
    one.outbound().publish(postings(StageName::Load, 4..6)).await?;
    assert_eq!(take(&mut second_inboxes[0], 2).await?.len(), 2);
    second.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_queue_with_other_arguments_is_refused_with_the_difference() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-conflict").await?;
    let admin = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = admin.create_channel().await?;
    let options = QueueDeclareOptions::durable();
    channel.queue_declare("transform.orders".into(), options, FieldTable::default()).await?;
    let Err(StartError::Refused(text)) = Broker::start(
        config(&url),
        Topology::new([(SCHEME, 1)]),
        Arc::new(NoObserver),
        &CancellationToken::new(),
    )
    .await
    else {
        anyhow::bail!("a foreign queue was accepted");
    };
    for part in ["queue `transform.orders`", "inequivalent arg", "delete it"] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_an_absent_broker_is_waited_for() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-password").await?;
    let (scheme, rest) = url.split_once("://").context("no URL")?;
    let (_, host) = rest.split_once('@').context("no user in the URL")?;
    let wrong = format!("{scheme}://guest:marker-9c1f@{host}");
    let topology = || Topology::new([(SCHEME, 1)]);
    let stop = CancellationToken::new();
    let Err(StartError::Refused(text)) =
        Broker::start(config(&wrong), topology(), Arc::new(NoObserver), &stop).await
    else {
        anyhow::bail!("a wrong password was accepted");
    };
    assert!(text.contains("refuses us") && !text.contains("marker-9c1f"), "{text}");
    let nowhere = format!("amqp://guest:guest@127.0.0.1:{}/%2f", e2e::lab::free_port()?);
    let waiting = Broker::start(config(&nowhere), topology(), Arc::new(NoObserver), &stop);
    tokio::pin!(waiting);
    assert!(
        tokio::time::timeout(Duration::from_millis(500), &mut waiting).await.is_err(),
        "absence ends the start"
    );
    stop.cancel();
    assert_eq!(waiting.await.err(), Some(StartError::Stopped));
    Ok(())
}

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

async fn wait_for_lead(broker: &Broker) -> Result<kingpost_broker::Leadership> {
    e2e::lab::wait_for(SOON, "the lead", async || broker.lead(SCHEME).await.ok().flatten()).await
}

#[tokio::test]
async fn browsing_dead_letters_takes_none_away() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-browse").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    let failure = kingpost_model::Failure::new(kingpost_model::FailureKind::BaseData, "物料[X]不存在");
    let dead = (0..300).map(|n| {
        let work = work(StageName::Load, n);
        let record = kingpost_model::FailureRecord::of(&failure, &work, 1, "w/1");
        Posting {
            destination: Destination::Dead(route(StageName::Load)),
            work: work.after_failure(record, false),
        }
    });
    broker.outbound().publish(dead.collect()).await?;
    let inspector = broker.inspector().await?;
    for _ in 0..3 {
        let letters = inspector.browse("load.orders.dead", 1_000).await?;
        assert_eq!(letters.len(), 300);
        let ids: BTreeSet<_> = letters.iter().map(|letter| letter.work.id.clone()).collect();
        assert_eq!(ids.len(), 300);
        assert!(letters.iter().all(|letter| letter.failure.text == failure.text));
    }
    wait_until(SOON, "all to be back", async || ready(&url, "load.orders.dead").await == 300).await?;
    broker.close(SOON).await;
    Ok(())
}
