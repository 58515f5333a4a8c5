//! One hop: from the transformer's queue to the loader's, by four programs in turn.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt as _;
use kingpost_broker::{
    Broker, BrokerConfig, Destination, Inspector, JournalReader, NoObserver, Posting, Topology,
};
use kingpost_model::{Route, StageName, Work};
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, QueuePurgeOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, ConnectionProperties};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::report::{Aim, median, result};
use super::usage::{cpu_seconds, memory_mb};
use super::{Extent, orders};
use crate::lab::{PrivateBroker, Process, free_port, wait_for, wait_until};
use crate::pipeline::{SCHEME, shipped_schemes};

const DEADLINE: Duration = Duration::from_secs(60);
/// Messages whose output is compared before anything is measured.
const COMPARED: usize = 60;
/// Messages per call of the publisher that fills the queues.
const FILL: usize = 512;

/// What moves the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mover {
    /// The bare relay, same bytes out as in.
    Relay,
    /// The same with the hand-written mapping.
    RelayByHand,
    /// `kingpost-transformer` with the shipped scheme.
    Transformer,
    /// The same, writing the journal.
    Journalled,
}

impl Mover {
    const ALL: [Mover; 4] = [Mover::Relay, Mover::RelayByHand, Mover::Transformer, Mover::Journalled];

    fn title(self) -> &'static str {
        match self {
            Mover::Relay => "(a) bare relay",
            Mover::RelayByHand => "(b) relay, mapping by hand",
            Mover::Transformer => "(c) kingpost-transformer",
            Mover::Journalled => "(d) with the journal",
        }
    }

    /// Starts it on a virtual host.
    pub(super) fn start(self, url: &str) -> Result<Process> {
        let process = match self {
            Mover::Relay => Process::of("kingpost-bench")?.arg("relay"),
            Mover::RelayByHand => Process::of("kingpost-bench")?.arg("relay-by-hand"),
            Mover::Transformer | Mover::Journalled => Process::of("kingpost-transformer")?
                .env("SCHEMES_DIR", shipped_schemes())
                .env("JOURNAL", if self == Mover::Journalled { "on" } else { "off" })
                .env("HTTP_ADDR", format!("127.0.0.1:{}", free_port()?)),
        };
        process.env("AMQP_URL", url).start()
    }
}

/// A virtual host with the pipeline's queues, and the means to fill and empty them.
pub(super) struct Yard {
    pub(super) url: String,
    broker: Broker,
    inspector: Inspector,
    admin: Channel,
    _connection: Connection,
}

impl Yard {
    pub(super) async fn prepare(url: String) -> Result<Self> {
        let config = BrokerConfig::for_url(&*url, "kingpost-bench");
        let topology = Topology::new([(SCHEME, 1)]);
        let stop = CancellationToken::new();
        let broker = Broker::start(config.clone(), topology, Arc::new(NoObserver), &stop).await?;
        let inspector = Inspector::open(&config).await?;
        let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
        let admin = connection.create_channel().await?;
        Ok(Yard { url, broker, inspector, admin, _connection: connection })
    }

    /// Puts work into the transformer's queue, confirmed.
    pub(super) async fn fill(&self, works: &[Work]) -> Result<()> {
        let destination = Destination::Work(Route::new(StageName::Transform, SCHEME));
        for chunk in works.chunks(FILL) {
            let postings =
                chunk.iter().map(|work| Posting { destination: destination.clone(), work: work.clone() });
            let published = self.broker.outbound().publish(postings.collect()).await;
            published.ok().context("the publisher stopped")?;
        }
        Ok(())
    }

    /// Waits until the loader's queue holds so many messages.
    pub(super) async fn arrived(&self, count: usize) -> Result<()> {
        let queue = Route::new(StageName::Load, SCHEME).queue();
        wait_until(DEADLINE, "the messages to arrive", async || {
            let depth = self.inspector.depth(&queue).await.ok().flatten();
            depth.is_some_and(|depth| depth.ready as usize >= count)
        })
        .await
    }

    pub(super) async fn purge(&self) -> Result<()> {
        let queue = ShortString::from(Route::new(StageName::Load, SCHEME).queue());
        self.admin.queue_purge(queue, QueuePurgeOptions::default()).await?;
        Ok(())
    }

    /// Takes messages out of the loader's queue: body by message id, and when the first one came.
    pub(super) async fn take(&self, count: usize) -> Result<(BTreeMap<String, Vec<u8>>, Instant)> {
        let queue = ShortString::from(Route::new(StageName::Load, SCHEME).queue());
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consume = self.admin.basic_consume(queue, "".into(), options, FieldTable::default());
        let mut consumer = consume.await?;
        let (mut bodies, mut first) = (BTreeMap::new(), None);
        while bodies.len() < count {
            let next = tokio::time::timeout(DEADLINE, consumer.next()).await;
            let delivery = next.context("waited in vain for a message")?.context("the consumer ended")??;
            first.get_or_insert_with(Instant::now);
            let id = delivery.properties.message_id().as_ref().context("a message has no id")?;
            bodies.insert(id.as_str().to_owned(), delivery.data);
        }
        let tag = consumer.tag().clone();
        self.admin.basic_cancel(tag, BasicCancelOptions::default()).await?;
        Ok((bodies, first.unwrap_or_else(Instant::now)))
    }
}

struct Lane {
    mover: Mover,
    yard: Yard,
    process: Process,
    idle_mb: f64,
    rounds: Vec<Round>,
}

struct Round {
    messages_per_second: f64,
    worker_micros: f64,
    broker_micros: f64,
    resident_mb: f64,
}

/// Measures one size of order.
pub(super) async fn measure(broker: &PrivateBroker, extent: Extent, size: &str, lines: usize) -> Result<()> {
    // Fewer of the larger ones, so that every round takes one to two seconds.
    let (count, rounds) = (extent.of(150_000, 5_000) / (lines + 8), extent.of(11, 2));
    let works = orders::works(count, lines);
    let urls = broker.vhosts(&["relay", "by-hand", "transformer", "journalled"]).await?;
    let mut lanes = Vec::new();
    for (mover, url) in Mover::ALL.into_iter().zip(urls) {
        let yard = Yard::prepare(url).await?;
        let process = mover.start(&yard.url)?;
        lanes.push(Lane { mover, yard, process, idle_mb: 0.0, rounds: Vec::new() });
    }
    verify(&mut lanes, &works).await?;
    let node = broker.pid().context("the broker does not run")?;
    // The first round warms up and isn't kept.
    for round in 0..=rounds {
        for turn in 0..lanes.len() {
            let lane = (round + turn) % lanes.len();
            if let Some(lane) = lanes.get_mut(lane) {
                let measured = lane.round(&works, node).await.with_context(|| lane.process.log_tail())?;
                lane.rounds.extend((round > 0).then_some(measured));
            }
        }
    }
    let bytes = works.first().map_or(0, |work| work.body.len());
    println!(
        "\nhop, {size}: {lines} lines, {bytes} bytes in, {rounds} interleaved rounds of {count} messages"
    );
    report(&lanes)?;
    if let Some(lane) = lanes.iter().find(|lane| lane.mover == Mover::Journalled) {
        let moved = works.len() * (rounds + 1) + COMPARED.min(works.len());
        println!("  {:<28} {} of {moved} events", "in the journal", events(&lane.yard.url).await?);
    }
    Ok(())
}

/// How many events the journal holds.
async fn events(url: &str) -> Result<usize> {
    let reader = JournalReader::open(&BrokerConfig::for_url(url, "kingpost-bench")).await?;
    let reader = reader.context("there is no journal")?;
    let mut count = 0;
    reader.scan(0, &[], |_| count += 1).await?;
    reader.close().await;
    Ok(count)
}

/// No measuring of programs that do different things.
async fn verify(lanes: &mut [Lane], works: &[Work]) -> Result<()> {
    let works = works.get(..COMPARED).unwrap_or(works);
    let mut outputs = Vec::new();
    for lane in lanes.iter_mut() {
        let started = || format!("{} moved nothing\n{}", lane.mover.title(), lane.process.log_tail());
        lane.yard.fill(works).await?;
        let (bodies, _) = lane.yard.take(works.len()).await.with_context(started)?;
        lane.idle_mb = memory_mb(lane.process.pid())?.0;
        outputs.push(bodies);
    }
    for work in works {
        let mut bodies =
            outputs.iter().map(|bodies| bodies.get(work.id.as_str()).context("an order is missing"));
        let (Some(same), Some(by_hand), Some(ours)) = (bodies.next(), bodies.next(), bodies.next()) else {
            continue;
        };
        let ours = ours?;
        ensure!(bodies.next().transpose()? == Some(ours), "the journal changed {}", work.id);
        ensure!(*same? == *work.body, "the bare relay changed {}", work.id);
        let [by_hand, ours] = [by_hand?, ours].map(|body| serde_json::from_slice::<Value>(body));
        ensure!(by_hand? == ours?, "the two mappings differ for {}", work.id);
    }
    Ok(())
}

impl Lane {
    /// Fills the queue while the worker's time stands still, then lets it run until everything has arrived.
    async fn round(&mut self, works: &[Work], node: u32) -> Result<Round> {
        self.process.freeze()?;
        self.yard.fill(works).await?;
        let worker = self.process.pid();
        let (worker_before, node_before) = (cpu_seconds(worker)?, cpu_seconds(node)?);
        let start = Instant::now();
        self.process.thaw()?;
        self.yard.arrived(works.len()).await?;
        let took = start.elapsed().as_secs_f64();
        // What is done beside the work counts as well, whenever it is done.
        at_rest(worker).await?;
        let count = works.len() as f64;
        let round = Round {
            messages_per_second: count / took,
            worker_micros: (cpu_seconds(worker)? - worker_before) * 1e6 / count,
            broker_micros: (cpu_seconds(node)? - node_before) * 1e6 / count,
            resident_mb: memory_mb(worker)?.0,
        };
        self.yard.purge().await?;
        Ok(round)
    }

    fn median(&self, value: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(value).collect())
    }

    /// The kernel counts CPU time in steps of 10 ms, so all rounds are taken together.
    fn mean(&self, value: impl Fn(&Round) -> f64) -> f64 {
        self.rounds.iter().map(value).sum::<f64>() / self.rounds.len() as f64
    }

    /// Throughput beside another lane's: the median of the ratios, round by round.
    fn speed(&self, other: &Lane) -> f64 {
        let pairs = self.rounds.iter().zip(&other.rounds);
        median(pairs.map(|(ours, theirs)| ours.messages_per_second / theirs.messages_per_second).collect())
    }
}

/// Waits until a process uses no more time.
async fn at_rest(pid: u32) -> Result<()> {
    let (mut last, mut since) = (0.0_f64, Instant::now());
    wait_for(DEADLINE, "a worker to come to rest", async || {
        let now = match cpu_seconds(pid) {
            Ok(now) => now,
            Err(error) => return Some(Err(error)),
        };
        if now > last {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() > Duration::from_millis(400)).then_some(Ok(()))
    })
    .await?
}

fn report(lanes: &[Lane]) -> Result<()> {
    let title = ["", "msg/s", "µs CPU/msg own", "of the broker", "RSS busy", "RSS peak"];
    let [mover, rate, own, node, busy, peak] = title;
    println!("  {mover:<28} {rate:>8} {own:>14} {node:>14} {busy:>9} {peak:>9}");
    let (own, node) = (|round: &Round| round.worker_micros, |round: &Round| round.broker_micros);
    for lane in lanes {
        println!(
            "  {:<28} {:>8.0} {:>14.1} {:>14.1} {:>6.1} MB {:>6.1} MB",
            lane.mover.title(),
            lane.median(|round| round.messages_per_second),
            lane.mean(own),
            lane.mean(node),
            lane.median(|round| round.resident_mb),
            memory_mb(lane.process.pid())?.1,
        );
    }
    let [relay, by_hand, ours, journalled] = lanes else { return Ok(()) };
    result("throughput (c)/(b)", ours.speed(by_hand), "", Aim::AtLeast(0.9));
    result("CPU per message (c)/(b)", ours.mean(own) / by_hand.mean(own), "", Aim::AtMost(1.3));
    result("broker's CPU per message (c)/(b)", ours.mean(node) / by_hand.mean(node), "", Aim::None);
    result("throughput (c)/(a)", ours.speed(relay), "", Aim::None);
    result("CPU per message (c)/(a)", ours.mean(own) / relay.mean(own), "", Aim::None);
    result("throughput (d)/(c)", journalled.speed(ours), "", Aim::None);
    result("CPU per message (d)/(c)", journalled.mean(own) / ours.mean(own), "", Aim::None);
    result("broker's CPU per message (d)/(c)", journalled.mean(node) / ours.mean(node), "", Aim::None);
    result("busy transformer, peak RSS", memory_mb(ours.process.pid())?.1, "MB", Aim::AtMost(40.0));
    Ok(())
}

/// Waits until a process has stopped growing and returns its resident memory in MB.
pub(super) async fn settled_memory(pid: u32) -> Result<f64> {
    let (mut last, mut since) = (0.0_f64, Instant::now());
    wait_for(Duration::from_secs(30), "the memory of a worker to settle", async || {
        let now = match memory_mb(pid) {
            Ok((now, _)) => now,
            Err(error) => return Some(Err(error)),
        };
        if (now - last).abs() > 0.05 {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() > Duration::from_secs(2)).then_some(Ok(now))
    })
    .await?
}
