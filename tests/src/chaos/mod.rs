//! `make chaos`: the real workers on a real broker, and a nemesis that strikes all of them at random times, from a seed.
//!
//! When its time is over it heals everything, lets the work drain, and takes the account of every single order.

mod blow;
mod dice;
mod house;
mod schedule;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::time::Instant;

pub use blow::{Blow, BrokerBlow, ErpBlow, Place, Post, Trouble};
pub use dice::Dice;
pub use schedule::{Event, Schedule};

use crate::account::{Account, Counters, Pending, Scene, Waiting, invariants, waiting};
use crate::pipeline::SCHEME;
use house::House;

/// How long an unclear write is given to show. Everything that lets a write take effect late stays below it, because that is
/// what the promise assumes of an ERP.
pub const SETTLE: Duration = Duration::from_secs(5);
/// How long every retry tier but the shortest lasts in a run.
const TIER: Duration = Duration::from_secs(7);
/// Two of these without a byte, and a connection to the broker is dead; the usual ten seconds would outlast most faults.
const HEARTBEAT_S: u32 = 4;
/// How long a worker that is told to stop may take.
const DRAIN: Duration = Duration::from_secs(10);
/// Orders that WDT gets; each is read about five times, because windows overlap.
const ORDERS_PER_SECOND: u32 = 8;
/// The share of the orders that is modified each minute, and of the unfinished ones that is completed; a tenth of it is
/// cancelled, and as much added.
const LIVELINESS: f64 = 0.2;
/// Of the orders that WDT gets, those that can't be posted.
const UNPOSTABLE: u32 = 21;
/// From the first order to the first fault: the time that the workers need to start.
const WARM_UP: Duration = Duration::from_secs(12);
/// How long the work that is left may take once everything is healed.
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);
/// After the healing something has to move within so long, while work is left.
const PROGRESS_DEADLINE: Duration = Duration::from_secs(30);
/// Empty queues without any progress for so long: what has not arrived by now is lost.
const STANDSTILL: Duration = Duration::from_secs(12);

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// The account in numbers.
    pub counters: Counters,
    /// Every violation of an invariant, in words.
    pub violations: Vec<String>,
    /// From the healing until nothing was left to do.
    pub drained: Duration,
    /// Where the logs are, if there was a violation.
    pub kept: Option<PathBuf>,
}

/// Runs the schedule of a seed and prints it, its account and every violation.
///
/// # Errors
/// Something could not be started or asked; a violation is no error.
pub async fn run(seed: u64, duration: Duration) -> Result<Outcome> {
    let schedule = Schedule::draw(seed, duration);
    print!("{schedule}");
    let house = House::start(&schedule).await?;
    println!("· {} orders, {} workers; the nemesis begins", house.orders, Post::ALL.len());
    let start = Instant::now();
    house.live(seed).await?;
    nemesis(&house, &schedule, start).await;
    house.heal().await?;
    println!(
        "· healed after {:.1} s; in WDT meanwhile: {}",
        start.elapsed().as_secs_f64(),
        house.rest().await?
    );
    let mut violations = Vec::new();
    let healed = Instant::now();
    let drained = tokio::select! {
        drained = drain(&house) => drained?,
        () = house.watch() => Drained::default(),
    };
    violations.extend(drained.stuck);
    let (left, drained) = (drained.left, healed.elapsed());
    match left {
        None => println!("· drained after {:.1} s", drained.as_secs_f64()),
        Some(left) => {
            let text = format!("not drained {} s after the healing: {left}", drained.as_secs());
            println!("· {text}");
            violations.push(text);
        }
    }
    let met = met(&house).await?;
    let account = match check(&house).await {
        Ok((account, found)) => {
            violations.extend(found);
            account
        }
        Err(error) => {
            violations.push(format!("the account could not be taken: {error:#}"));
            Account::default()
        }
    };
    house.stop().await?;
    violations.extend(house.surprises());
    print!("{}", account.report());
    println!("{met}");
    println!("chaos seed {seed}, {} s: {}", duration.as_secs(), account.counters());
    for violation in &violations {
        println!("VIOLATION: {violation}");
    }
    let kept = if violations.is_empty() {
        println!("every invariant holds");
        None
    } else {
        let kept = keep(&house, &schedule, &violations).await?;
        println!("logs are kept in {}", kept.display());
        Some(kept)
    };
    Ok(Outcome { counters: account.counters(), violations, drained, kept })
}

/// Lets all tracks run to their ends and says now and then how far the work is.
async fn nemesis(house: &House, schedule: &Schedule, start: Instant) {
    let [a, b, c, d] = schedule.tracks.each_ref().map(|events| Box::pin(house.track(events, start)));
    let strikes = async {
        tokio::join!(a, b, c, d);
        house::until(start + schedule.duration).await;
    };
    let reports = async {
        let mut ticks = tokio::time::interval(Duration::from_secs(10));
        loop {
            ticks.tick().await;
            if let Ok(summary) = house.sandbox.summary().await {
                println!(
                    "{:>6.1} s  {} of {} audited",
                    start.elapsed().as_secs_f64(),
                    audited(&summary),
                    house.orders
                );
            }
        }
    };
    tokio::select! {
        () = strikes => {}
        () = reports => {}
        () = house.watch() => {}
    }
}

fn audited(summary: &Value) -> u64 {
    summary.pointer("/by_status/C").and_then(Value::as_u64).unwrap_or(0)
}

/// What came of the draining.
#[derive(Default)]
struct Drained {
    /// What is left where it took too long.
    left: Option<String>,
    /// What stood still after the healing.
    stuck: Option<String>,
}

/// How far the work is. Windows come and go without any order, so they are no progress.
#[derive(Clone, Copy, PartialEq)]
struct Progress {
    commits: usize,
    audited: u64,
    waiting: Waiting,
}

impl Progress {
    async fn of(house: &House, waiting: Waiting) -> Result<Self> {
        let commits = house.sandbox.ledger().await?.as_array().map_or(0, Vec::len);
        let audited = audited(&house.sandbox.summary().await?);
        Ok(Progress { commits, audited, waiting: Waiting { extract: 0, ..waiting } })
    }
}

/// Waits until every order has ended somewhere and nothing waits, or until nothing moves any more.
async fn drain(house: &House) -> Result<Drained> {
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    let (mut inspector, mut last, mut stuck) = (None, None, None);
    let (mut moved, mut moves) = (began, 0_u32);
    loop {
        ticks.tick().await;
        if inspector.is_none() {
            inspector = house.pipeline.inspector().await.ok();
        }
        let seen = match &inspector {
            Some(inspector) => waiting(inspector, SCHEME, house.shards).await,
            None => Err(anyhow::anyhow!("the broker does not answer")),
        };
        let left = match seen {
            Ok(waiting) => {
                let now = Progress::of(house, waiting).await?;
                if last != Some(now) {
                    moves += u32::from(last.is_some());
                    (last, moved) = (Some(now), Instant::now());
                }
                Pending::of(&house.sandbox).await?.left(waiting).filter(|_| {
                    // What is missing now is for the account to name.
                    waiting.is_busy() || moved.elapsed() < STANDSTILL
                })
            }
            Err(error) => Some(error.to_string()),
        };
        if left.is_some() && moves == 0 && stuck.is_none() && began.elapsed() > PROGRESS_DEADLINE {
            let seconds = PROGRESS_DEADLINE.as_secs();
            stuck = Some(format!(
                "nothing moved for {seconds} s after the healing: {}",
                left.clone().unwrap_or_default()
            ));
        }
        if left.is_none() || began.elapsed() > DRAIN_DEADLINE {
            return Ok(Drained { left, stuck });
        }
    }
}

/// Which of the ERPs' scripted faults met a request.
async fn met(house: &House) -> Result<String> {
    let requests = house.sandbox.get("requests?summary=1").await?;
    let rows = requests.as_array().context("the sandbox gave no summary of requests")?;
    let text = |row: &Value, name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let count = |row: &Value, name: &str| row.get(name).and_then(Value::as_u64).unwrap_or(0);
    let met = rows.iter().filter(|row| count(row, "faults") > 0);
    let parts: Vec<String> = met
        .map(|row| {
            format!("{} of {} {}", count(row, "faults"), count(row, "requests"), text(row, "operation"))
        })
        .collect();
    Ok(format!("requests that met a scripted fault: {}", parts.join(", ")))
}

async fn check(house: &House) -> Result<(Account, Vec<String>)> {
    house
        .with_workers(async |workers| {
            let scene = Scene::of(&house.pipeline, &house.sandbox)
                .amqp_url(house.broker.amqp_url())
                .shards(house.shards)
                .node(&house.broker)
                .workers(workers.into_iter().map(|(_, worker)| worker))
                .nobody_else()
                .faults_kill_nothing();
            invariants(&scene).await
        })
        .await
}

/// Writes down everything that a person needs to find out what happened.
async fn keep(house: &House, schedule: &Schedule, violations: &[String]) -> Result<PathBuf> {
    let prefix = format!("kingpost-chaos-{}-", schedule.seed);
    let dir = tempfile::Builder::new().prefix(&prefix).tempdir().context("no place for the logs")?.keep();
    let write = |name: &str, text: &str| {
        std::fs::write(dir.join(name), text).with_context(|| format!("can't write {name}"))
    };
    write("schedule.txt", &schedule.to_string())?;
    write("violations.txt", &violations.join("\n"))?;
    for (name, path) in [
        ("ledger.json", "kingdee/ledger"),
        ("documents.json", "kingdee/documents"),
        ("orders.json", "wdt/orders"),
        ("requests.json", "requests"),
    ] {
        write(name, &lines(&house.sandbox.get(path).await?))?;
    }
    house
        .with_workers(async |workers| {
            for (number, (post, worker)) in workers.into_iter().enumerate() {
                let name = format!(
                    "{number:02}-{}-{}.log",
                    post.to_string().replace(' ', "-"),
                    worker.process.pid()
                );
                write(&name, &worker.process.output())?;
            }
            Ok::<(), anyhow::Error>(())
        })
        .await?;
    copy(&house.broker.dir().join("console.log"), &dir.join("broker.log"))?;
    Ok(dir)
}

/// A list with one entry per line.
fn lines(list: &Value) -> String {
    list.as_array().map_or(&[][..], Vec::as_slice).iter().map(|entry| format!("{entry}\n")).collect()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).with_context(|| format!("can't copy {}", from.display()))?;
    Ok(())
}
