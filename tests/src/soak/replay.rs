//! Many dead letters, sent again by the operator's command, which is killed and taken up again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kingpost_broker::{
    Broker, BrokerConfig, Delivery, Destination, Inspector, LaneSpec, NoObserver, Posting, Receipt, Topology,
};
use kingpost_model::{Failure, FailureKind, FailureRecord, Route, StageName, Work};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::account::waiting;
use crate::lab::{BrokerOptions, PrivateBroker, Process, Sandbox, SandboxOptions};
use crate::pipeline::{Pipeline, SCHEME, Schemes, Tempo};

/// How many letters are buried at once.
const GROUP: usize = 500;
const PREFETCH: u16 = 1_000;
/// Without any progress for so long, the run has failed.
const STANDSTILL: Duration = Duration::from_secs(180);
/// Within how many hours the orders lie.
const SPREAD_HOURS: i64 = 6;
const PLAN: &str = "plan.json";
const REASON: &str = "soak";

/// The arguments of `kingpost dead plan` that freeze all dead letters of loading.
const PLANNING: [&str; 10] =
    ["dead", "plan", "--all", "--stage", "load", "--reason", REASON, "--out", PLAN, "--json"];
/// The arguments of `kingpost dead replay` that carry out the plan, or take it up where it was left.
const REPLAYING: [&str; 9] = ["dead", "replay", "--plan", PLAN, "--yes", "--rate", "0", "--wait", "2m"];

/// What was counted.
#[derive(Default)]
struct Tally {
    letters: usize,
    kills: usize,
    saved: usize,
    audited: u64,
    lost: Vec<String>,
    twice: Vec<String>,
    left: u32,
    took: Duration,
}

impl Tally {
    fn is_sound(&self) -> bool {
        self.lost.is_empty()
            && self.twice.is_empty()
            && self.left == 0
            && self.saved == self.letters
            && self.audited == self.letters as u64
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "soak replay: {} dead letters, {} documents saved, {} audited, {} lost, {} twice, {} letters left; \
             killed {} times, {:.0} s",
            self.letters,
            self.saved,
            self.audited,
            self.lost.len(),
            self.twice.len(),
            self.left,
            self.kills,
            self.took.as_secs_f64()
        )
    }
}

/// Runs the soak and prints it; true when each letter was posted once.
///
/// # Errors
/// Something could not be started, or nothing moves any more.
pub async fn replay(letters: u32, kills: usize) -> Result<bool> {
    println!("· {letters} dead letters; the replay is killed {kills} times");
    let node = PrivateBroker::start(BrokerOptions::default()).await?;
    let now = jiff::Timestamp::now();
    let from = now - jiff::SignedDuration::from_hours(SPREAD_HOURS) - jiff::SignedDuration::from_mins(10);
    let from = jiff::Timestamp::from_second(from.as_second())?.to_string();
    let options = SandboxOptions {
        orders: letters,
        seed: 1,
        from: Some(from.clone()),
        spread: Some(format!("{SPREAD_HOURS}h")),
        // Otherwise Kingdee itself would refuse what is posted twice, and nothing would be shown.
        args: vec!["--repeated-numbers".to_owned()],
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::start(options).await?;
    let schemes = Schemes::at(&Tempo { start: from, width: "5m".into(), ..Tempo::default() })?;
    let pipeline = Pipeline::new(node.amqp_url(), schemes, &sandbox)?;
    let buried = bury(&pipeline, letters as usize).await?;
    let folder = tempfile::Builder::new().prefix("kingpost-soak-").tempdir()?;
    let plan = command(&pipeline, folder.path(), &PLANNING)?;
    let status = plan.wait(STANDSTILL).await?;
    ensure!(status.success(), "planning ended with {status}\n{}", plan.log_tail());
    println!("· {} letters buried and planned; a loader starts", buried.len());
    let loader = pipeline.start("loader")?;
    pipeline.ready(&loader, Duration::from_secs(60)).await?;
    let began = Instant::now();
    let ended = carry_out(&pipeline, &sandbox, folder.path(), buried.len(), kills).await;
    let made = ended.with_context(|| loader.process.log_tail())?;
    let mut tally = count(&pipeline, &sandbox, &buried).await?;
    (tally.kills, tally.took) = (made, began.elapsed());
    for (name, numbers) in [("lost", &tally.lost), ("twice", &tally.twice)] {
        numbers.iter().take(20).for_each(|number| println!("{name}: {number}"));
    }
    loader.process.term()?;
    loader.process.wait(Duration::from_secs(40)).await?;
    println!("{tally}");
    node.stop().await?;
    Ok(tally.is_sound())
}

fn command(pipeline: &Pipeline, folder: &Path, arguments: &[&str]) -> Result<Process> {
    Process::of("kingpost")?
        .args(arguments.iter().copied())
        .env("AMQP_URL", pipeline.amqp_url.as_str())
        .env("SCHEMES_DIR", pipeline.schemes.path())
        .dir(folder)
        .start()
}

/// Replays the plan, killing the command whenever the next part of the letters is in Kingdee; returns how often.
async fn carry_out(
    pipeline: &Pipeline,
    sandbox: &Sandbox,
    folder: &Path,
    letters: usize,
    kills: usize,
) -> Result<usize> {
    let inspector = pipeline.inspector().await?;
    let mut made = 0;
    let mut running = command(pipeline, folder, &REPLAYING)?;
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let (mut last, mut moved, mut said) = ((0, 0), Instant::now(), Instant::now());
    loop {
        ticks.tick().await;
        let left = depth_of_the_dead(&inspector).await?;
        let audited = audited(sandbox).await?;
        if (left, audited) != last {
            (last, moved) = ((left, audited), Instant::now());
        }
        if said.elapsed() > Duration::from_secs(10) {
            said = Instant::now();
            println!("  {left:>7} letters left, {audited:>7} audited, killed {made} times");
        }
        if !running.is_running() {
            let status = running.wait(Duration::ZERO).await?;
            ensure!(status.success(), "the replay ended with {status}\n{}", running.log_tail());
            return Ok(made);
        }
        // Early ones while letters are still on their way, late ones while only results are waited for.
        let part = (made + 1) as f64 / (kills + 1) as f64;
        if made < kills && audited as f64 >= letters as f64 * part * part {
            running.kill();
            made += 1;
            println!("  killed with {left} letters left and {audited} audited");
            running = command(pipeline, folder, &REPLAYING)?;
        }
        if moved.elapsed() > STANDSTILL {
            bail!("nothing has moved for {} s\n{}", STANDSTILL.as_secs(), running.log_tail());
        }
    }
}

async fn depth_of_the_dead(inspector: &Inspector) -> Result<u32> {
    let queue = Route::new(StageName::Load, SCHEME).dead_queue();
    Ok(inspector.depth(&queue).await?.map_or(0, |depth| depth.ready))
}

async fn audited(sandbox: &Sandbox) -> Result<u64> {
    let summary = sandbox.summary().await?;
    Ok(summary.pointer("/by_status/C").and_then(Value::as_u64).unwrap_or(0))
}

/// Has every order read and mapped, and turns the models into dead letters as a loader leaves them; their numbers.
async fn bury(pipeline: &Pipeline, letters: usize) -> Result<BTreeSet<String>> {
    let workers = [pipeline.start("extractor")?, pipeline.start("transformer")?];
    for worker in &workers {
        pipeline.ready(worker, Duration::from_secs(60)).await?;
    }
    let config = BrokerConfig::for_url(&*pipeline.amqp_url, "kingpost-soak");
    let topology = Topology::new([(SCHEME, 1)]);
    let broker = Broker::start(config, topology, Arc::new(NoObserver), &CancellationToken::new()).await?;
    let lane = LaneSpec { route: Route::new(StageName::Load, SCHEME), prefetch: PREFETCH };
    let (subscription, mut inboxes) = broker.subscribe(vec![lane]);
    let mut inbox = inboxes.pop().context("no inbox")?;
    let destination = Destination::Dead(Route::new(StageName::Load, SCHEME));
    let mut buried = BTreeSet::new();
    while buried.len() < letters {
        let first = tokio::time::timeout(STANDSTILL, inbox.recv()).await;
        let mut deliveries = vec![first.context("no more models come")?.context("the inbox was closed")?];
        inbox.take_ready(GROUP, &mut deliveries);
        let (mut postings, mut receipts) = (Vec::new(), Vec::new());
        for Delivery { work, receipt, .. } in deliveries {
            // A window that was read again brings copies, which would be replayed as well.
            if buried.insert(work.key.number.clone()) {
                postings.push(Posting { destination: destination.clone(), work: dead(&work) });
            }
            receipts.push(receipt);
        }
        broker.outbound().publish(postings).await.ok().context("the publisher stopped")?;
        Receipt::acknowledge(receipts);
    }
    for worker in &workers {
        worker.process.term()?;
        worker.process.wait(Duration::from_secs(40)).await?;
    }
    drop(inbox);
    subscription.close(Duration::from_secs(5)).await;
    broker.close(Duration::from_secs(5)).await;
    Ok(buried)
}

/// A letter as a loader leaves it, of one of five causes.
fn dead(work: &Work) -> Work {
    let causes = ["物料", "供应商", "仓库", "部门", "币别"];
    let index = work.key.number.bytes().map(usize::from).sum::<usize>() % causes.len();
    let what = causes.get(index).copied().unwrap_or_default();
    let failure = Failure::new(FailureKind::BaseData, format!("{what}“示例”不存在"));
    let record =
        FailureRecord::of(&failure, work, jiff::Timestamp::now().as_millisecond(), "kingpost-loader/soak");
    work.after_failure(record, false)
}

/// Reads Kingdee's ledger: every buried number has to be saved once.
async fn count(pipeline: &Pipeline, sandbox: &Sandbox, buried: &BTreeSet<String>) -> Result<Tally> {
    let ledger = sandbox.ledger().await?;
    let mut saves: BTreeMap<&str, usize> = BTreeMap::new();
    for commit in ledger.as_array().context("the sandbox gave no ledger")? {
        let part = |name: &str| commit.get(name).and_then(Value::as_str).unwrap_or_default();
        if part("step") == "saved" {
            *saves.entry(part("FBillNo")).or_default() += 1;
        }
    }
    let inspector = pipeline.inspector().await?;
    let left = waiting(&inspector, SCHEME, 1).await?;
    inspector.close().await;
    let missing = buried.iter().filter(|number| !saves.contains_key(number.as_str()));
    Ok(Tally {
        letters: buried.len(),
        saved: saves.len(),
        audited: audited(sandbox).await?,
        lost: missing.cloned().collect(),
        twice: saves
            .iter()
            .filter(|(_, count)| **count > 1)
            .map(|(number, _)| (*number).to_owned())
            .collect(),
        left: left.load + left.retry + left.dead,
        ..Tally::default()
    })
}
