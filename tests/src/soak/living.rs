//! A history that is read while people go on working in it, by workers that are killed.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::account::{Counters, Pending, Scene, invariants, waiting};
use crate::lab::{BrokerOptions, PrivateBroker, Sandbox, SandboxOptions};
use crate::pipeline::{Pipeline, SCHEME, Schemes, Tempo, Worker};

/// Seconds of a window.
const WIDTH_S: i64 = 300;
/// The share of the documents that is modified each minute; a tenth of it is cancelled, and as much added.
const SHARE: f64 = 0.05;
/// From one kill to the next.
const KILL_EVERY: Duration = Duration::from_secs(6);
/// Milliseconds that WDT and Kingdee take for an answer: slow enough that edits and kills meet windows that are being read.
const LATENCIES: [&str; 4] = ["--wdt-latency", "200", "--kingdee-latency", "100"];
/// Without any progress for so long, the run has failed.
const STANDSTILL: Duration = Duration::from_secs(180);
const READY: Duration = Duration::from_secs(60);
/// Longer retry tiers would only be waited for.
const TIER_MS: u32 = 7_000;
/// The workers, in the order in which they are killed.
const POSTS: [&str; 6] = ["extractor", "loader", "extractor", "transformer", "extractor", "loader"];

/// What was counted.
struct Tally {
    documents: u32,
    windows: u32,
    calls: u64,
    lived: String,
    kills: usize,
    took: Duration,
    counters: Counters,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { documents, windows, calls, lived, kills, took, counters } = self;
        let seconds = took.as_secs_f64();
        write!(
            f,
            "soak living: {documents} documents in {windows} windows, {calls} calls of WDT; meanwhile {lived}; "
        )?;
        write!(f, "{kills} kills of workers in {seconds:.0} s; {counters}")
    }
}

/// Runs the soak and prints it; true when every order is accounted for.
///
/// # Errors
/// Something could not be started, or nothing moves any more.
pub async fn living(documents: u32, windows: u32) -> Result<bool> {
    println!(
        "· {documents} documents in {windows} windows, {:.0} % of them modified each minute; a worker is killed every {} s",
        SHARE * 100.0,
        KILL_EVERY.as_secs()
    );
    let node = PrivateBroker::start(BrokerOptions::default()).await?;
    let ttl = format!("{{\"message-ttl\":{TIER_MS}}}");
    node.ctl(&["set_policy", "--apply-to", "queues", "tempo", r"^wait\.", &ttl]).await?;
    let spread = WIDTH_S * i64::from(windows.max(1));
    let from = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() - spread - 60)?.to_string();
    let options = SandboxOptions {
        orders: documents,
        seed: 1,
        from: Some(from.clone()),
        spread: Some(format!("{spread}s")),
        // Otherwise Kingdee itself would refuse what is posted twice, and nothing would be shown.
        args: ["--repeated-numbers"].iter().chain(&LATENCIES).map(|arg| (*arg).to_owned()).collect(),
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::start(options).await?;
    let pipeline = Pipeline::new(node.amqp_url(), schemes(from)?, &sandbox)?;
    let mut run =
        Run { pipeline: &pipeline, sandbox: &sandbox, posts: Vec::new(), kills: 0, began: Instant::now() };
    for stage in POSTS {
        run.posts.push(pipeline.start(stage)?);
    }
    for worker in &run.posts {
        pipeline.ready(worker, READY).await?;
    }
    node.save_queues().await?;
    let rates = json!({"modify": SHARE, "complete": SHARE, "cancel": SHARE / 10.0, "add": SHARE / 10.0});
    sandbox.post("wdt/live", &rates).await?;
    run.live(documents).await?;
    let lived = lived(&sandbox.delete("wdt/live").await?);
    println!("· almost everything is there; WDT and the killer rest");
    run.rest().await?;
    let took = run.began.elapsed();
    let scene = Scene::of(&pipeline, &sandbox).node(&node).workers(&run.posts).faults_kill_nothing();
    let (account, violations) = invariants(&scene).await?;
    for violation in &violations {
        println!("VIOLATION: {violation}");
    }
    let (calls, kills) = (calls(&sandbox).await?, run.kills);
    let counters = account.counters();
    println!("{}", Tally { documents, windows, calls, lived, kills, took, counters });
    for worker in &run.posts {
        worker.process.term()?;
        worker.process.wait(Duration::from_secs(40)).await?;
    }
    node.stop().await?;
    Ok(violations.is_empty() && account.is_sound())
}

/// The shipped scheme at the tempo of the run.
fn schemes(start: String) -> Result<Schemes> {
    let tempo = Tempo { start, width: format!("{WIDTH_S}s"), ..Tempo::default() };
    let schemes = Schemes::at(&tempo)?;
    let file = schemes.path().join(format!("{SCHEME}.yaml"));
    let yaml = std::fs::read_to_string(&file)?;
    // What is changed now is read some three times, not sixty times.
    let yaml = yaml.replace("overlap: 1m, every: 1s", "overlap: 10s, every: 5s");
    std::fs::write(&file, yaml)?;
    Ok(schemes)
}

/// A run that is under way.
struct Run<'a> {
    pipeline: &'a Pipeline,
    sandbox: &'a Sandbox,
    posts: Vec<Worker>,
    kills: usize,
    began: Instant,
}

impl Run<'_> {
    /// Kills workers until all but a fiftieth of the documents are there, and each was killed once.
    async fn live(&mut self, documents: u32) -> Result<()> {
        let mut killed = None;
        let enough = documents as usize / 50;
        self.until(async |run, pending, _| {
            if killed.is_none_or(|killed: Instant| killed.elapsed() > KILL_EVERY) {
                killed = Some(Instant::now());
                run.kill()?;
            }
            Ok(pending.good <= enough && run.kills >= POSTS.len())
        })
        .await
    }

    /// Waits until nothing is left to do.
    async fn rest(&mut self) -> Result<()> {
        self.until(async |_, pending, waiting| Ok(pending.left(waiting).is_none())).await
    }

    async fn until(
        &mut self,
        mut is_over: impl AsyncFnMut(&mut Self, Pending, crate::account::Waiting) -> Result<bool>,
    ) -> Result<()> {
        let inspector = self.pipeline.inspector().await?;
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        let (mut last, mut moved, mut said) = (None, Instant::now(), Instant::now());
        loop {
            ticks.tick().await;
            let now = (Pending::of(self.sandbox).await?, waiting(&inspector, SCHEME, 1).await?);
            if last != Some(now) {
                (last, moved) = (Some(now), Instant::now());
            }
            let (pending, waiting) = now;
            if said.elapsed() > Duration::from_secs(10) {
                said = Instant::now();
                let (seconds, kills) = (self.began.elapsed().as_secs(), self.kills);
                let Pending { good, unread, .. } = pending;
                println!(
                    "{seconds:>6} s  {good:>6} not audited, {unread:>5} changed and not read, {kills} kills, {waiting:?}"
                );
            }
            if is_over(self, pending, waiting).await? {
                inspector.close().await;
                return Ok(());
            }
            if moved.elapsed() > STANDSTILL {
                let tails: Vec<String> = self.posts.iter().map(|worker| worker.process.log_tail()).collect();
                bail!("nothing has moved for {} s: {now:?}\n{}", STANDSTILL.as_secs(), tails.join("\n"));
            }
        }
    }

    fn kill(&mut self) -> Result<()> {
        let at = self.kills % POSTS.len();
        let (post, stage) = (self.posts.get_mut(at), POSTS.get(at));
        let (post, stage) = (post.context("no such post")?, stage.context("no such post")?);
        post.process.kill();
        *post = self.pipeline.start(stage)?;
        self.kills += 1;
        Ok(())
    }
}

/// What happened in WDT, in words.
fn lived(ended: &Value) -> String {
    let done = ended.pointer("/ended/done").and_then(Value::as_object);
    let words = done.into_iter().flatten().filter(|(_, count)| count.as_u64() > Some(0));
    words.map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

/// How often WDT was asked.
async fn calls(sandbox: &Sandbox) -> Result<u64> {
    let summary = sandbox.get("requests?summary=1").await?;
    let rows = summary.as_array().context("the sandbox gave no summary of requests")?;
    let wdt = rows.iter().filter(|row| row.get("system").and_then(Value::as_str) == Some("wdt"));
    Ok(wdt.filter_map(|row| row.get("requests").and_then(Value::as_u64)).sum())
}
