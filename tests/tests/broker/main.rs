//! The broker crate against a real RabbitMQ: what is promised about publishing, settling, delaying and leading.
//!
//! Every test here runs on RabbitMQ 3.10 and on 4.x alike; see `docs/rabbitmq.md` for how. Where releases differ, the
//! test asserts the difference by the version that the node reports.
#![forbid(unsafe_code)]

mod alarms;
mod consuming;
mod dead_letters;
mod delays;
mod journal;
mod leading;
mod notices;
mod permissions;
mod publishing;
mod refused;
mod releases;
mod silence;
mod topology;

use std::{
    collections::BTreeSet,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use e2e::lab::{Node, wait_until};
use kingpost_broker::{
    Broker, BrokerConfig, Delivery, Destination, Inbox, Inspector, LaneSpec, Letter, Observer, Posting,
    Receipt, Role, Topology,
};
use kingpost_model::{RecordKey, Route, StageName, Work, WorkId};
use lapin::{Channel, Connection, ConnectionProperties};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(30);
/// Long enough to believe that nothing comes.
const QUIET: Duration = Duration::from_millis(300);
const SCHEME: &str = "orders";

/// Counts what the broker crate tells of.
#[derive(Default)]
struct Counts {
    unroutable: AtomicUsize,
    nacked: AtomicUsize,
    republished: AtomicUsize,
    blocked: AtomicUsize,
    consuming: AtomicUsize,
    journal_dropped: AtomicUsize,
    rebuilt: Mutex<Vec<(Role, &'static str)>>,
}

impl Counts {
    /// Why sessions of a role were built anew.
    fn rebuilt_as(&self, role: Role) -> Vec<&'static str> {
        let rebuilt = self.rebuilt.lock().unwrap_or_else(PoisonError::into_inner);
        rebuilt.iter().filter(|(of, _)| *of == role).map(|(_, reason)| *reason).collect()
    }

    /// How many sessions were built anew.
    fn rebuilt(&self) -> usize {
        self.rebuilt.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn observer(self: &Arc<Self>) -> Arc<dyn Observer> {
        Arc::clone(self) as Arc<dyn Observer>
    }
}

impl Observer for Counts {
    fn connected(&self, role: Role, up: bool) {
        self.consuming.fetch_add(usize::from(up && role == Role::Consume), Ordering::Relaxed);
    }

    fn unroutable(&self, _queue: &str) {
        self.unroutable.fetch_add(1, Ordering::Relaxed);
    }

    fn nacked(&self, _queue: &str) {
        self.nacked.fetch_add(1, Ordering::Relaxed);
    }

    fn journal_dropped(&self, events: usize) {
        self.journal_dropped.fetch_add(events, Ordering::Relaxed);
    }

    fn republished(&self, messages: usize) {
        self.republished.fetch_add(messages, Ordering::Relaxed);
    }

    fn blocked(&self, blocked: bool) {
        self.blocked.fetch_add(usize::from(blocked), Ordering::Relaxed);
    }

    fn rebuilt(&self, role: Role, reason: &'static str) {
        self.rebuilt.lock().unwrap_or_else(PoisonError::into_inner).push((role, reason));
    }
}

fn config(url: &str) -> BrokerConfig {
    BrokerConfig::for_url(url, "kingpost-test/1")
}

async fn start(url: &str, observer: Arc<dyn Observer>) -> Result<Broker> {
    start_with(config(url), observer).await
}

async fn start_with(config: BrokerConfig, observer: Arc<dyn Observer>) -> Result<Broker> {
    let topology = Topology::new([(SCHEME, 1)]);
    let starting = async { Broker::start(config, topology, observer, &CancellationToken::new()).await };
    Ok(tokio::time::timeout(SOON, starting).await.context("the start hangs")??)
}

fn route(stage: StageName) -> Route {
    Route::new(stage, SCHEME)
}

fn work(stage: StageName, n: usize) -> Work {
    let key = RecordKey::new("STK_InStock", format!("RK{n}"));
    Work::new(WorkId::new(format!("id-{n}")), stage, SCHEME, key, format!("{{\"n\":{n}}}"))
}

fn postings(stage: StageName, numbers: Range<usize>) -> Vec<Posting> {
    let destination = Destination::Work(route(stage));
    numbers.map(|n| Posting { destination: destination.clone(), work: work(stage, n) }).collect()
}

/// Publishes plain work and waits until the broker has it.
async fn publish(broker: &Broker, stage: StageName, numbers: Range<usize>) -> Result<()> {
    tokio::time::timeout(SOON, broker.outbound().publish(postings(stage, numbers)))
        .await
        .context("never confirmed")??;
    Ok(())
}

fn lane(stage: StageName, prefetch: u16) -> Vec<LaneSpec> {
    vec![LaneSpec { route: route(stage), prefetch }]
}

/// How many messages of a queue nobody has in hand.
async fn ready(url: &str, queue: &str) -> u32 {
    let inspector = Inspector::open(&config(url)).await;
    let Ok(inspector) = inspector else { return 0 };
    let depth = inspector.depth(queue).await.ok().flatten().map_or(0, |depth| depth.ready);
    inspector.close().await;
    depth
}

/// All letters of a dead-letter queue, read and put back.
async fn browse(config: &BrokerConfig, queue: &str) -> Result<Vec<Letter>> {
    let inspector = Inspector::open(config).await?;
    let letters = inspector.browse(queue, usize::MAX).await?;
    inspector.close().await;
    Ok(letters)
}

async fn wait_ready(url: &str, queue: &str, count: u32) -> Result<()> {
    let what = format!("{count} messages in {queue}");
    wait_until(SOON, &what, async || ready(url, queue).await == count).await
}

/// The vhost that a URL ends with.
fn vhost(url: &str) -> Result<&str> {
    url.rsplit('/').next().context("no vhost in the URL")
}

/// Has the broker close every connection to the vhost of a URL.
async fn close_connections(node: &Node, url: &str) -> Result<()> {
    node.ctl(&["close_all_connections", "--vhost", vhost(url)?, "test"]).await?;
    Ok(())
}

/// Sets a policy for the queues of a URL's vhost whose names match.
async fn set_policy(node: &Node, url: &str, queues: &str, definition: &str) -> Result<()> {
    let vhost = vhost(url)?;
    node.ctl(&["set_policy", "--vhost", vhost, "--apply-to", "queues", "test", queues, definition]).await?;
    Ok(())
}

async fn receive(inbox: &mut Inbox) -> Result<Delivery> {
    let next = tokio::time::timeout(SOON, inbox.recv()).await.context("nothing arrived")?;
    next.context("the inbox was closed")
}

async fn receive_many(inbox: &mut Inbox, count: usize) -> Result<Vec<Delivery>> {
    let mut deliveries = Vec::with_capacity(count);
    while deliveries.len() < count {
        let next = receive(inbox).await;
        deliveries.push(next.with_context(|| format!("only {} of {count}", deliveries.len()))?);
    }
    Ok(deliveries)
}

fn acknowledge(deliveries: Vec<Delivery>) {
    Receipt::acknowledge(deliveries.into_iter().map(|delivery| delivery.receipt).collect());
}

/// Takes messages until `count` different ones have been seen, acknowledging each.
async fn take(inbox: &mut Inbox, count: usize) -> Result<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    while seen.len() < count {
        let delivery = receive(inbox).await.with_context(|| format!("only {} of {count}", seen.len()))?;
        seen.insert(delivery.work.id.to_string());
        Receipt::acknowledge(vec![delivery.receipt]);
    }
    Ok(seen)
}

/// A connection of somebody else.
async fn outsider(url: &str) -> Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}
