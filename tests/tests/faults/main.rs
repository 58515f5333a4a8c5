//! One fault each, on real workers, a real RabbitMQ and the sandbox; then everything is healed, drained and counted.
//!
//! `docs/fault-matrix.md` says which test stands for which promise.
#![forbid(unsafe_code)]

mod broker;
mod data;
mod erp;
mod matrix;
mod network;
mod operator;
mod process;
mod through;
mod time;
mod tls;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{
    account::{Account, Scene, Told, disagreements, invariants},
    lab::{Node, PrivateBroker, Process, Sandbox, SandboxOptions, shared_broker, wait_for, wait_until},
    pipeline::{Pipeline, SCHEME, Schemes, Tempo, Worker, metric},
};
use kingpost_model::{Route, StageName};
use lapin::{
    Connection, ConnectionProperties,
    options::{QueueDeleteOptions, QueuePurgeOptions},
};
use serde_json::{Value, json};

/// For a step of a test on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// For everything to arrive.
const DEADLINE: Duration = Duration::from_secs(150);
const FROM: &str = "2026-08-01T00:00:00+08:00";
/// How long an unclear write is given to show, in most tests.
const SETTLE: &str = "2s";

/// An account set without the rule that numbers are unique (编码唯一).
const REPEATED: &str = "--repeated-numbers";

const EXTRACT: &str = "extract.purchase-stockin";
const TRANSFORM: &str = "transform.purchase-stockin";
const LOAD: &str = "load.purchase-stockin";

/// A pipeline between a broker and a sandbox, and what has to become of its orders.
struct Run {
    node: Node,
    sandbox: Sandbox,
    pipeline: Pipeline,
    orders: u32,
    dead: u32,
    /// Whether Kingdee refuses a number that it has (编码唯一), which hides a second post.
    unique: bool,
    /// Dead letters have been moved since they were counted.
    replayed: std::cell::Cell<bool>,
}

impl Run {
    /// On a vhost of the shared node, with so many orders of which so many can't be posted. Kingdee takes a number as often as
    /// it comes, so that its own check doesn't hide a second post.
    async fn shared(name: &str, orders: u32, dead: u32) -> Result<Run> {
        Run::shared_with(name, orders, dead, &[]).await
    }

    /// With further arguments for the sandbox.
    async fn shared_with(name: &str, orders: u32, dead: u32, more: &[&str]) -> Result<Run> {
        let node = shared_broker().await?;
        Run::at((*node).clone(), node.vhost(name).await?, orders, dead, &[&[REPEATED][..], more].concat())
            .await
    }

    /// With the rule that numbers are unique, for what is about that rule.
    async fn unique(name: &str, orders: u32, dead: u32) -> Result<Run> {
        let node = shared_broker().await?;
        Run::at((*node).clone(), node.vhost(name).await?, orders, dead, &[]).await
    }

    /// On a node of its own.
    async fn private(broker: &PrivateBroker, orders: u32, dead: u32) -> Result<Run> {
        Run::at((**broker).clone(), broker.amqp_url(), orders, dead, &[REPEATED]).await
    }

    /// Orders lie in two hours of August, which are two windows' worth at most.
    async fn at(node: Node, url: String, orders: u32, dead: u32, more: &[&str]) -> Result<Run> {
        let options = SandboxOptions {
            orders,
            unpostable: dead,
            seed: 7,
            from: Some(FROM.into()),
            spread: Some("2h".into()),
            args: more.iter().map(|arg| (*arg).to_owned()).collect(),
        };
        let sandbox = Sandbox::start(options).await?;
        let tempo = Tempo { start: FROM.into(), width: "29d".into(), settle: SETTLE.into() };
        let pipeline = Pipeline::new(url, Schemes::at(&tempo)?, &sandbox)?;
        let (unique, replayed) = (!more.contains(&REPEATED), false.into());
        Ok(Run { node, sandbox, pipeline, orders, dead, unique, replayed })
    }

    /// Changes one line of the scheme; for what differs from the shipped one but for its tempo.
    fn scheme(&self, from: &str, to: &str) -> Result<()> {
        let file = self.pipeline.schemes.path().join(format!("{SCHEME}.yaml"));
        let yaml = std::fs::read_to_string(&file)?;
        ensure!(yaml.contains(from), "the shipped scheme has no `{from}`");
        Ok(std::fs::write(&file, yaml.replacen(from, to, 1))?)
    }

    /// So many documents per call of Kingdee, so many calls at a time. No two orders are kept apart for their purchase
    /// order, which would take a call each.
    fn calls_of(&self, rows: u32, concurrency: u32) -> Result<()> {
        let batch = format!("batch: {{ rows: {rows}, wait: 50ms, concurrency: {concurrency} }}");
        self.scheme("batch: { rows: 20, wait: 500ms, concurrency: 2 }", &batch)?;
        self.scheme("write_key: purchase_no", "write_key: order_no")
    }

    fn start(&self, stage: &str) -> Result<Worker> {
        self.pipeline.start(stage)
    }

    async fn ready(&self, stage: &str) -> Result<Worker> {
        let worker = self.start(stage)?;
        self.pipeline.ready(&worker, SOON).await?;
        Ok(worker)
    }

    fn start_all(&self) -> Result<Vec<Worker>> {
        ["extractor", "transformer", "loader"].into_iter().map(|stage| self.start(stage)).collect()
    }

    /// Lets the orders become models that wait to be loaded.
    async fn until_models_wait(&self) -> Result<()> {
        let reading = [self.start("extractor")?, self.start("transformer")?];
        self.until_depth(LOAD, self.orders - self.dead).await?;
        for worker in reading {
            stop(worker).await?;
        }
        self.forget_windows().await
    }

    /// Where no extractor runs any more: windows of the seconds since it read all orders may be left, with nothing in them.
    async fn forget_windows(&self) -> Result<()> {
        let admin = Connection::connect(&self.pipeline.amqp_url, ConnectionProperties::default()).await?;
        let channel = admin.create_channel().await?;
        channel.queue_purge(EXTRACT.into(), QueuePurgeOptions::default()).await?;
        Ok(admin.close(200, "done".into()).await?)
    }

    /// Without its cursor the extractor begins anew and reads everything again.
    async fn forget_cursor(&self) -> Result<()> {
        let admin = Connection::connect(&self.pipeline.amqp_url, ConnectionProperties::default()).await?;
        let channel = admin.create_channel().await?;
        channel.queue_delete(format!("cursor.{SCHEME}").into(), QueueDeleteOptions::default()).await?;
        Ok(admin.close(200, "done".into()).await?)
    }

    async fn depth(&self, queue: &str) -> Result<u32> {
        let inspector = self.pipeline.inspector().await?;
        let depth = inspector.depth(queue).await?.map_or(0, |depth| depth.ready);
        inspector.close().await;
        Ok(depth)
    }

    async fn until_depth(&self, queue: &str, count: u32) -> Result<()> {
        let inspector = self.pipeline.inspector().await?;
        let what = format!("{count} messages in {queue}");
        let reached = wait_until(SOON, &what, async || {
            inspector.depth(queue).await.ok().flatten().is_some_and(|depth| depth.ready == count)
        });
        reached.await?;
        inspector.close().await;
        Ok(())
    }

    /// Waits until a metric of a worker, summed over the labels that contain all parts, is at least that.
    async fn until_metric(&self, worker: &Worker, name: &str, parts: &[&str], least: f64) -> Result<()> {
        let what = format!("{name} {parts:?} of at least {least}");
        let reached = wait_until(SOON, &what, async || {
            let text = self.pipeline.metrics(worker).await.unwrap_or_default();
            metric(&text, name, parts) >= least
        });
        reached.await.with_context(|| worker.process.log_tail())
    }

    /// Waits until a loader keeps no delivery back to make its successor careful.
    async fn until_no_doubt(&self, loader: &Worker) -> Result<()> {
        let settled = wait_until(SOON, "every write to be out of doubt", async || {
            let text = self.pipeline.metrics(loader).await.unwrap_or_default();
            text.contains("kingpost_write_in_doubt") && metric(&text, "kingpost_write_in_doubt", &[]) < 0.5
        });
        settled.await.with_context(|| loader.process.log_tail())
    }

    async fn until_paused(&self, worker: &Worker, reason: &str) -> Result<()> {
        let reason = format!("reason=\"{reason}\"");
        self.until_metric(worker, "kingpost_scheme_paused", &[&reason], 1.0).await
    }

    /// Arms a fault and gives back its id.
    async fn arm(&self, rule: Value) -> Result<u64> {
        let armed = self.sandbox.fault(&rule).await?;
        armed.pointer("/ids/0").and_then(Value::as_u64).context("the sandbox gave no id")
    }

    async fn clear(&self, rule: u64) -> Result<()> {
        self.sandbox.delete(&format!("faults/{rule}")).await?;
        Ok(())
    }

    /// How often the faults that are armed have struck.
    async fn struck(&self) -> Result<u64> {
        let faults = self.sandbox.get("faults").await?;
        let struck = |fault: &Value| fault.get("struck").and_then(Value::as_u64).unwrap_or(0);
        Ok(faults.as_array().context("no list of faults")?.iter().map(struck).sum())
    }

    async fn until_struck(&self, least: u64) -> Result<()> {
        wait_until(SOON, "the fault to strike", async || {
            self.struck().await.is_ok_and(|struck| struck >= least)
        })
        .await
    }

    async fn documents(&self) -> u64 {
        let summary = self.sandbox.summary().await.unwrap_or_default();
        summary.get("documents").and_then(Value::as_u64).unwrap_or(0)
    }

    async fn until_documents(&self, least: u64) -> Result<()> {
        wait_until(SOON, "documents in Kingdee", async || self.documents().await >= least).await
    }

    /// The id of the latest request of either system.
    async fn last_request(&self) -> Result<u64> {
        let requests = self.sandbox.get("requests").await?;
        Ok(requests.as_array().context("no list of requests")?.len() as u64)
    }

    /// The requests of an operation after the one of that id, oldest first.
    async fn requests(&self, operation: &str, since: u64) -> Result<Vec<Value>> {
        let requests = self.sandbox.get(&format!("requests?operation={operation}&since={since}")).await?;
        Ok(requests.as_array().context("no list of requests")?.clone())
    }

    /// Everything drains and is as it has to be: each order in Kingdee once or a dead letter of its own making, all
    /// workers stop with code 0, nothing is left anywhere.
    async fn sound(&self, workers: Vec<Worker>) -> Result<Account> {
        self.drained().await?;
        self.ended(workers).await
    }

    async fn drained(&self) -> Result<()> {
        let good = u64::from(self.orders - self.dead);
        self.pipeline.wait_done(&self.sandbox, good, self.dead, DEADLINE).await?;
        Ok(())
    }

    /// What has to hold once everything has drained. The last worker is a loader: it takes the copies that one which was
    /// cut off has published late.
    async fn ended(&self, mut workers: Vec<Worker>) -> Result<Account> {
        let whole = StageName::ALL.map(|stage| (stage, self.is_whole(stage)));
        let (loader, mut pages) = (workers.pop(), Vec::new());
        // What was not settled would be ready again afterwards.
        for worker in workers {
            pages.push(self.pipeline.metrics(&worker).await?);
            stop(worker).await?;
        }
        self.forget_windows().await?;
        if let Some(loader) = loader {
            self.drained().await?;
            self.until_no_doubt(&loader).await?;
            self.truthful(&whole, &loader, pages).await?;
            stop(loader).await?;
        }
        // What a loader kept in hand to make its successor careful: a copy of a document that is there by now.
        let kept = self.given_back().await?;
        if kept > 0 {
            let heir = self.start("loader")?;
            let done = ["stage=\"load\"", "verdict=\"done\""];
            self.until_metric(&heir, "kingpost_verdicts_total", &done, f64::from(kept)).await?;
            // Having been warned it warns its own successor, until the settle window is over.
            self.until_settled().await?;
            stop(heir).await?;
        }
        let mut scene = Scene::of(&self.pipeline, &self.sandbox).faults_kill_nothing();
        if self.unique {
            scene = scene.numbers_may_be_refused();
        }
        let (account, violations) = invariants(&scene).await?;
        ensure!(violations.is_empty(), "{violations:#?}\n{}", account.report());
        ensure!(account.is_sound(), "{}", account.report());
        ensure!(account.dead_orders() == self.dead as usize, "{}", account.report());
        // A worker that is killed may leave a letter twice; nobody else may.
        let copies = account.dead_letters() - account.dead_orders();
        ensure!(copies == 0 || whole.iter().any(|(_, whole)| !whole), "{}", account.report());
        Ok(account)
    }

    /// Waits until a loader has settled everything, and the broker has counted anew since.
    async fn until_settled(&self) -> Result<()> {
        let vhost = vhost(&self.pipeline.amqp_url)?;
        let none = format!("{LOAD}\t0");
        let mut since = None;
        wait_until(SOON, "a loader to have nothing in hand", async || {
            let looked = std::time::Instant::now();
            let list = ["list_queues", "-p", &vhost, "name", "messages_unacknowledged"];
            let table = self.node.ctl(&list).await.unwrap_or_default();
            if !table.lines().any(|line| line == none) {
                since = None;
                return false;
            }
            looked - *since.get_or_insert(looked) >= Duration::from_millis(1_500)
        })
        .await
    }

    /// How many models are there once the broker has taken back what the last loader had in hand.
    async fn given_back(&self) -> Result<u32> {
        let inspector = self.pipeline.inspector().await?;
        let back = wait_for(SOON, "the last consumer to be gone", async || {
            let depth = inspector.depth(LOAD).await.ok()?;
            depth.is_none_or(|depth| depth.consumers == 0).then(|| depth.map_or(0, |depth| depth.ready))
        });
        let kept = back.await?;
        inspector.close().await;
        Ok(kept)
    }

    /// Whether the counters of a stage's workers are the whole story.
    fn is_whole(&self, stage: StageName) -> bool {
        let worker = match stage {
            StageName::Extract => "extractor",
            StageName::Transform => "transformer",
            StageName::Load => "loader",
        };
        self.pipeline.is_whole(worker) && !self.replayed.get()
    }

    /// What the workers count of themselves agrees with Kingdee's ledger and with the dead-letter queues. The others are
    /// stopped, and these are their last metrics; the loader has still to settle its last batch.
    async fn truthful(&self, whole: &[(StageName, bool)], loader: &Worker, pages: Vec<String>) -> Result<()> {
        let mut truth = Told::default();
        for (stage, _) in whole.iter().filter(|(_, whole)| *whole) {
            let queue = Route::new(*stage, SCHEME).dead_queue();
            truth.dead.push((*stage, self.depth(&queue).await?));
        }
        if whole.contains(&(StageName::Load, true)) {
            let ledger = self.sandbox.ledger().await?;
            let saved = |commit: &&Value| commit.get("step").and_then(Value::as_str) == Some("saved");
            truth.saved = Some(ledger.as_array().context("no ledger")?.iter().filter(saved).count());
        }
        let mut found = Vec::new();
        let agreed = wait_for(Duration::from_secs(10), "counters that tell the truth", async || {
            let page = self.pipeline.metrics(loader).await.ok()?;
            found = disagreements(&[pages.as_slice(), &[page]].concat(), &truth);
            found.is_empty().then_some(())
        });
        agreed.await.with_context(|| format!("{found:#?}\n{}", loader.process.log_tail()))
    }
}

/// Tells a worker to stop and expects a clean end; gives back its output.
async fn stop(worker: Worker) -> Result<String> {
    worker.process.term()?;
    let status = worker.process.wait(SOON).await?;
    ensure!(status.code() == Some(0), "ended with {status}\n{}", worker.process.log_tail());
    Ok(worker.process.output())
}

/// A rule for Kingdee.
fn kingdee(operation: &str, action: Value) -> Value {
    json!({"system": "kingdee", "operation": operation, "action": action})
}

/// The same rule as often as it is due, until it is cleared.
fn always(mut rule: Value) -> Value {
    if let Some(rule) = rule.as_object_mut() {
        rule.insert("count".to_owned(), Value::Null);
    }
    rule
}

/// The virtual host of a URL, for `rabbitmqctl -p`.
fn vhost(url: &str) -> Result<String> {
    let (_, rest) = url.split_once("://").context("no URL")?;
    let (_, path) = rest.split_once('/').context("no virtual host in the URL")?;
    Ok(path.split('?').next().unwrap_or_default().replace("%2f", "/"))
}

/// Closes every connection of a virtual host.
async fn close_connections(node: &Node, url: &str) -> Result<()> {
    node.ctl(&["close_all_connections", "--vhost", &vhost(url)?, "a test"]).await?;
    Ok(())
}

/// Runs a program of the system, such as `prlimit`, to its end and gives back its output.
async fn tool(program: &str, args: &[&str]) -> Result<String> {
    let path = std::path::Path::new("/usr/bin").join(program);
    let process = Process::program(&path).args(args.iter().copied()).start()?;
    let status = process.wait(SOON).await?;
    ensure!(status.success(), "{program} {args:?} ended with {status}: {}", process.output());
    Ok(process.output())
}
