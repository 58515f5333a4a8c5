//! Many small orders from the transformer's queue to the loader's, through real transformers, while the broker is killed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use kingpost_broker::{
    Broker, BrokerConfig, Destination, Inspector, NoObserver, Outbound, Posting, Topology,
};
use kingpost_model::{RecordKey, Route, StageName, Work, WorkId};
use tokio_util::sync::CancellationToken;

use super::sink::{self, Arrived};
use super::{Peak, resident, size_of};
use crate::account::waiting;
use crate::lab::{BrokerOptions, PrivateBroker, Process, free_port};
use crate::pipeline::{SCHEME, shipped_schemes};

/// From the end of one restart of the broker to its next kill.
const KILL_EVERY: Duration = Duration::from_secs(20);
/// Published and not yet arrived, at most: it bounds the broker's disk, and nothing else does.
const BETWEEN_MAX: usize = 60_000;
/// Orders per call of the publisher.
const GROUP: usize = 256;
/// Without one more order for so long, the run has failed; the slowest restart of a broker is far below.
const STANDSTILL: Duration = Duration::from_secs(180);
const TRANSFORMERS: usize = 2;
/// A transformer that holds more does not bound its memory; it keeps 512 small orders in hand and needs some 30 MB.
const MEMORY_MAX: u64 = 150_000_000;

/// What was counted.
struct Tally {
    messages: usize,
    arrived: Arc<Arrived>,
    dead: u32,
    kills: usize,
    took: Duration,
    transformers: Peak,
    node: Peak,
    files: Peak,
}

impl Tally {
    fn lost(&self) -> u64 {
        self.messages as u64 - self.arrived.orders.load(Ordering::Relaxed)
    }

    fn is_sound(&self) -> bool {
        self.lost() == 0
            && self.dead == 0
            && self.arrived.strangers.load(Ordering::Relaxed) == 0
            && self.transformers.most < MEMORY_MAX
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let rate = self.messages as f64 / self.took.as_secs_f64();
        write!(
            f,
            "soak hop: {} published, {} arrived, {} lost, {} copies, {} strangers, {} dead letters; ",
            self.messages,
            count(&self.arrived.orders),
            self.lost(),
            count(&self.arrived.copies),
            count(&self.arrived.strangers),
            self.dead
        )?;
        write!(f, "{} kills of the broker in {:.0} s, {rate:.0}/s; ", self.kills, self.took.as_secs_f64())?;
        write!(
            f,
            "at most {} for a transformer, {} for the broker, {} for its files",
            self.transformers, self.node, self.files
        )
    }
}

/// Runs the soak and prints it; true when nothing was lost.
///
/// # Errors
/// Something could not be started, or nothing moves any more.
pub async fn hop(messages: usize) -> Result<bool> {
    println!(
        "· {messages} small orders through both hops; the broker is killed every {} s",
        KILL_EVERY.as_secs()
    );
    let node = PrivateBroker::start(BrokerOptions::default()).await?;
    let url = node.amqp_url();
    let config = BrokerConfig::for_url(&*url, "kingpost-soak");
    let topology = Topology::new([(SCHEME, 1)]);
    let broker = Broker::start(config, topology, Arc::new(NoObserver), &CancellationToken::new()).await?;
    node.save_queues().await?;
    let transformers = (0..TRANSFORMERS).map(|_| transformer(&url)).collect::<Result<Vec<_>>>()?;
    let arrived = Arrived::of(messages);
    let mut run = Run {
        transformers: &transformers,
        node: &node,
        began: Instant::now(),
        tally: Tally {
            messages,
            arrived: Arc::clone(&arrived),
            dead: 0,
            kills: 0,
            took: Duration::ZERO,
            transformers: Peak::default(),
            node: Peak::default(),
            files: Peak::default(),
        },
    };
    let mut sink = tokio::spawn(sink::run(url.clone(), Arc::clone(&arrived)));
    let published = Arc::new(AtomicU64::new(0));
    let mut publishing =
        tokio::spawn(publish(broker.outbound(), messages, Arc::clone(&arrived), Arc::clone(&published)));
    let ended = run.watch(&published, &mut publishing).await;
    publishing.abort();
    let tail = || transformers.iter().map(Process::log_tail).collect::<Vec<_>>().join("\n");
    ended.with_context(tail)?;
    run.await_empty(&url).await.with_context(tail)?;
    sink.abort();
    let _ = (&mut sink).await;
    let tally = run.tally;
    println!("{tally}");
    for transformer in &transformers {
        transformer.term()?;
        let status = transformer.wait(Duration::from_secs(40)).await?;
        if !status.success() {
            bail!("a transformer ended with {status}\n{}", transformer.log_tail());
        }
    }
    broker.close(Duration::from_secs(5)).await;
    node.stop().await?;
    Ok(tally.is_sound())
}

fn transformer(url: &str) -> Result<Process> {
    Process::of("kingpost-transformer")?
        .env("SCHEMES_DIR", shipped_schemes())
        .env("HTTP_ADDR", format!("127.0.0.1:{}", free_port()?))
        .env("AMQP_URL", url)
        .start()
}

/// A run that is under way.
struct Run<'a> {
    transformers: &'a [Process],
    node: &'a PrivateBroker,
    began: Instant,
    tally: Tally,
}

impl Run<'_> {
    /// Kills the broker and measures until every order has arrived.
    async fn watch(
        &mut self,
        published: &AtomicU64,
        publishing: &mut tokio::task::JoinHandle<Result<()>>,
    ) -> Result<()> {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        let (mut last, mut moved) = (0, Instant::now());
        let (mut said, mut killed) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                ended = &mut *publishing, if !publishing.is_finished() => ended??,
            }
            self.measure()?;
            let arrived = self.tally.arrived.orders.load(Ordering::Relaxed);
            if arrived == self.tally.messages as u64 {
                return Ok(());
            }
            if arrived != last {
                (last, moved) = (arrived, Instant::now());
            }
            if moved.elapsed() > STANDSTILL {
                bail!(
                    "nothing has arrived for {} s, {arrived} of {} have",
                    STANDSTILL.as_secs(),
                    self.tally.messages
                );
            }
            if said.elapsed() > Duration::from_secs(10) {
                said = Instant::now();
                println!("{}", self.progress(published.load(Ordering::Relaxed)));
            }
            if killed.elapsed() > KILL_EVERY {
                self.node.kill();
                self.node.restart().await?;
                self.tally.kills += 1;
                killed = Instant::now();
            }
        }
    }

    fn progress(&self, published: u64) -> String {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "{:>6.0} s  published {published:>8}  arrived {:>8}  copies {:>6}  kills {:>3} │ transformer {:.0} MB  broker {:.0} MB  files {:.0} MB",
            self.began.elapsed().as_secs_f64(),
            count(&self.tally.arrived.orders),
            count(&self.tally.arrived.copies),
            self.tally.kills,
            self.tally.transformers.now as f64 / 1e6,
            self.tally.node.now as f64 / 1e6,
            self.tally.files.now as f64 / 1e6
        )
    }

    fn measure(&mut self) -> Result<()> {
        for transformer in self.transformers {
            if !transformer.is_running() {
                bail!("a transformer ended by itself");
            }
            self.tally.transformers.see(resident(transformer.pid())?);
        }
        if let Some(bytes) = self.node.pid().and_then(|pid| resident(pid).ok()) {
            self.tally.node.see(bytes);
        }
        self.tally.files.see(size_of(self.node.dir()));
        Ok(())
    }

    /// Waits until the queues are empty, so that the last copies are counted as well.
    async fn await_empty(&mut self, url: &str) -> Result<()> {
        self.tally.took = self.began.elapsed();
        let inspector = Inspector::open(&BrokerConfig::for_url(url, "kingpost-soak")).await?;
        let end = Instant::now() + STANDSTILL;
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        loop {
            ticks.tick().await;
            let now = waiting(&inspector, SCHEME, 1).await?;
            if now.transform + now.load + now.retry == 0 {
                self.tally.dead = now.dead;
                inspector.close().await;
                return Ok(());
            }
            if Instant::now() > end {
                bail!("everything has arrived, but the queues don't get empty: {now:?}");
            }
        }
    }
}

/// Publishes all orders, confirmed, and never more than the far end keeps up with.
async fn publish(
    outbound: Outbound,
    messages: usize,
    arrived: Arc<Arrived>,
    published: Arc<AtomicU64>,
) -> Result<()> {
    let destination = Destination::Work(Route::new(StageName::Transform, SCHEME));
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let mut next = 0;
    while next < messages {
        let there = usize::try_from(arrived.orders.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        if next.saturating_sub(there) > BETWEEN_MAX {
            ticks.tick().await;
            continue;
        }
        let last = (next + GROUP).min(messages);
        let postings = (next..last).map(|n| Posting { destination: destination.clone(), work: work(n) });
        outbound.publish(postings.collect()).await.ok().context("the publisher stopped")?;
        next = last;
        published.store(next as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// The smallest order that the shipped scheme maps, some 700 bytes.
fn work(number: usize) -> Work {
    let key = RecordKey::new("STK_InStock", format!("RK{number:010}"));
    let time = 1_767_600_000_000 + number as u64;
    let body = format!(
        r#"{{"order_no":"RK{number:010}","warehouse_no":"SH01","status":"80","created_time":"{time}","check_time":"{time}","modified":"{time}","purchase_no":"","provider_no":"GYS{:04}","provider_name":"示例食品有限公司","goods_count":"2.0000","details_list":[{{"rec_id":{number},"num":"2.0000","tax":"0.1300","tax_price":"13.5600","tax_amount":"27.1200","spec_no":"SP-1001","goods_no":"HP-1001","goods_name":"坚果礼盒","unit_name":"盒","position_no":"A01-01-03","defect":false,"remark":""}}]}}"#,
        number % 50,
    );
    let id = WorkId::new(format!("{SCHEME}-RK{number:010}"));
    Work::new(id, StageName::Transform, SCHEME, key, Bytes::from(body))
}
