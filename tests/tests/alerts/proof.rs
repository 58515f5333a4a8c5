//! From a fault to whoever is called: RabbitMQ, the workers, Prometheus with the shipped rules and Alertmanager, all real.
//!
//! The rules are those of the repository but for their times, which are all a fortieth of what they are: what fires after
//! five minutes fires after seven and a half seconds here. Two things can't be hastened. The retry tiers' delays are those of
//! the queues, so their rule is left as it is; and RabbitMQ takes a while to miss a worker, so heartbeats are short.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::lab::{BrokerOptions, PrivateBroker, Process, Sandbox, SandboxOptions, wait_until};
use e2e::monitoring::picture;
use e2e::monitoring::rules::RulesFile;
use e2e::monitoring::watch::{Target, Watch};
use e2e::pipeline::{Pipeline, SCHEME, Schemes, Tempo, Worker};
use e2e::tools::repository;
use serde_json::{Value, json};

/// By how much the rules are hastened.
const FACTOR: u32 = 40;
const SOON: Duration = Duration::from_secs(60);
/// What an alert may take beyond its own time: scrape, evaluation, a busy machine.
const SLACK: Duration = Duration::from_secs(30);
const POISONED: usize = 30;

/// Every alert that was seen, by its name and what it is about, and what was seen of it.
#[derive(Default)]
struct Log {
    began: Option<Instant>,
    seen: BTreeMap<String, Vec<(Instant, Value)>>,
    now: BTreeSet<String>,
}

impl Log {
    async fn look(&mut self, watch: &Watch) -> Result<()> {
        let began = *self.began.get_or_insert_with(Instant::now);
        let mut now = BTreeSet::new();
        for alert in watch.alerts().await? {
            let label = |name: &str| {
                alert.pointer(&format!("/labels/{name}")).and_then(Value::as_str).unwrap_or_default()
            };
            let name = label("alertname").to_owned();
            if now.insert(name.clone()) && !self.now.contains(&name) {
                println!("{:>6.1} s  {} fires ({})", began.elapsed().as_secs_f64(), name, label("severity"));
                self.seen.entry(name).or_default().push((Instant::now(), alert.clone()));
            }
        }
        for gone in self.now.difference(&now) {
            println!("{:>6.1} s  {gone} is resolved", began.elapsed().as_secs_f64());
        }
        self.now = now;
        Ok(())
    }

    /// Waits until each of these fires, in the time that its rule takes and a little more.
    async fn until_fired(&mut self, watch: &Watch, rules: &RulesFile, names: &[&str]) -> Result<()> {
        let held = names.iter().filter_map(|name| {
            let (_, rule) = rules.alerts().find(|(alert, _)| alert == name)?;
            rule.held.as_deref()?.strip_suffix("ms")?.parse().ok().map(Duration::from_millis)
        });
        let longest = held.max().unwrap_or_default() + SLACK;
        let what = format!("{names:?} to fire");
        let fired = wait_until(longest, &what, async || {
            self.look(watch).await.is_ok() && names.iter().all(|name| self.now.contains(*name))
        });
        fired.await.with_context(|| format!("only {:?} fire", self.now))
    }

    async fn until_resolved(&mut self, watch: &Watch, names: &[&str], deadline: Duration) -> Result<()> {
        let what = format!("{names:?} to be resolved");
        let resolved = wait_until(deadline, &what, async || {
            self.look(watch).await.is_ok() && !names.iter().any(|name| self.now.contains(*name))
        });
        resolved.await.with_context(|| format!("{:?} still fire", self.now))
    }
}

struct Scene {
    sandbox: Sandbox,
    pipeline: Pipeline,
    workers: [Worker; 3],
    broker: PrivateBroker,
    put: u32,
}

impl Scene {
    async fn start() -> Result<Scene> {
        let broker =
            PrivateBroker::start(BrokerOptions { prometheus: true, ..BrokerOptions::default() }).await?;
        let args = ["--unfinished", "0"].map(str::to_owned).into();
        let sandbox = Sandbox::start(SandboxOptions { orders: 0, args, ..SandboxOptions::default() }).await?;
        let start = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() - 30)?.to_string();
        let schemes = Schemes::at(&Tempo { start, width: "1h".into(), settle: "3s".into() })?;
        // Without an overlap each order is read once, so that each dies once.
        let file = schemes.path().join(format!("{SCHEME}.yaml"));
        let yaml = std::fs::read_to_string(&file)?;
        ensure!(yaml.contains("overlap: 1m, every: 1s"), "the windows of the lab are others");
        std::fs::write(&file, yaml.replacen("overlap: 1m, every: 1s", "overlap: 0s, every: 2s", 1))?;
        let pipeline = Pipeline::new(format!("{}?heartbeat=2", broker.amqp_url()), schemes, &sandbox)?;
        let workers =
            [pipeline.start("extractor")?, pipeline.start("transformer")?, pipeline.start("loader")?];
        for worker in &workers {
            pipeline.ready(worker, SOON).await?;
        }
        Ok(Scene { sandbox, pipeline, workers, broker, put: 0 })
    }

    async fn watch(&self, rules: &RulesFile) -> Result<Watch> {
        let exporter = self.broker.prometheus_url().context("no exporter")?;
        let mut targets: Vec<Target> = Target::rabbitmq(exporter.trim_start_matches("http://")).into();
        for (worker, stage) in self.workers.iter().zip(["extractor", "transformer", "loader"]) {
            targets.push(Target::worker(stage, &worker.http));
        }
        Watch::start(rules, &targets).await
    }

    /// Completes orders in WDT; every second one names a supplier that Kingdee doesn't know, the others a material.
    async fn orders(&mut self, count: usize, poisoned: bool) -> Result<()> {
        let now = jiff::Timestamp::now().as_millisecond();
        let orders: Vec<Value> = (0..count)
            .map(|n| {
                self.put += 1;
                let (provider, spec) = match (poisoned, n % 2) {
                    (false, _) => ("GYS0001", "SP-1001"),
                    (true, 0) => ("GYS-NEW", "SP-1001"),
                    (true, _) => ("GYS0001", "SP-NEW"),
                };
                json!({
                    "order_no": format!("RK{:08}", self.put), "status": "80", "warehouse_no": "SH01",
                    "provider_no": provider, "purchase_no": "", "check_time": now.to_string(), "modified": now,
                    "details_list": [{ "rec_id": "1", "spec_no": spec, "num": "2.0000", "tax_price": "10", "tax": "0.13",
                        "defect": false }],
                })
            })
            .collect();
        self.sandbox.post("wdt/orders", &json!(orders)).await?;
        Ok(())
    }

    async fn audited(&self) -> Result<u64> {
        let summary = self.sandbox.summary().await?;
        Ok(summary.pointer("/by_status/C").and_then(Value::as_u64).unwrap_or(0))
    }

    async fn until_audited(&self, documents: u64) -> Result<()> {
        let what = format!("{documents} documents");
        let all =
            wait_until(SOON, &what, async || self.audited().await.is_ok_and(|audited| audited >= documents));
        all.await.with_context(|| self.pipeline.outputs().join("\n"))
    }

    /// What the person does who was told: creates what is missing, and replays.
    async fn mend(&self) -> Result<()> {
        let new = |kind: &str, number: &str| json!({ "kind": kind, "number": number, "name": number });
        let items = json!([new("supplier", "GYS-NEW"), new("material", "SP-NEW")]);
        self.sandbox.post("kingdee/base", &items).await?;
        let why = "base data created";
        self.kingpost(&["dead", "replay", "--kind", "base-data", "--reason", why, "--yes", "--steps", "100"])
            .await
    }

    /// Compares both books from yesterday to tomorrow.
    async fn reconcile(&self) -> Result<()> {
        let today = jiff::Timestamp::now().in_tz("Asia/Shanghai")?.date();
        let (from, to) = (today.yesterday()?.to_string(), today.tomorrow()?.tomorrow()?.to_string());
        let words = ["reconcile", "--scheme", SCHEME, "--from", &from, "--to", &to, "--rate", "0"];
        self.kingpost(&words).await
    }

    /// Runs the operator's command, which has to end well.
    async fn kingpost(&self, words: &[&str]) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let process = Process::of("kingpost")?
            .args(words.iter().copied())
            .dir(folder.path())
            .envs(self.sandbox.settings().iter().cloned())
            .env("AMQP_URL", self.pipeline.amqp_url.as_str())
            .env("SCHEMES_DIR", self.pipeline.schemes.path())
            .start()?;
        let status = process.wait(SOON).await?;
        ensure!(status.success(), "{words:?}: {}", process.output());
        Ok(())
    }
}

/// Nothing in the text of an alert may be left open.
fn readable(alert: &Value) -> Result<()> {
    for note in ["summary", "description", "runbook_url"] {
        let text = alert.pointer(&format!("/annotations/{note}")).and_then(Value::as_str).unwrap_or_default();
        let whole = !text.is_empty()
            && !["<no value>", "error expanding", "{{"].iter().any(|mark| text.contains(mark));
        ensure!(whole, "{note} reads `{text}` in {alert}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn when_kingdee_fails_documents_are_poisoned_and_a_worker_freezes_then_just_that_is_told() -> Result<()>
{
    let rules = RulesFile::load()?.hastened(FACTOR)?;
    let mut scene = Scene::start().await?;
    let (watch, mut log) = (scene.watch(&rules).await?, Log::default());
    scene.orders(10, false).await?;
    scene.until_audited(10).await?;

    println!("--- thirty documents name base data that Kingdee doesn't know");
    scene.orders(POISONED, true).await?;
    let poisoned = ["KingpostBaseDataMissing", "KingpostDeadLettersGrow", "KingpostDeadLetters"];
    log.until_fired(&watch, &rules, &poisoned).await?;
    scene.mend().await?;
    scene.until_audited(10 + POISONED as u64).await?;
    log.until_resolved(&watch, &["KingpostDeadLetters"], SLACK).await?;
    scene.reconcile().await?;

    println!("--- Kingdee is down");
    let down = json!({ "system": "kingdee", "count": null, "action": { "kind": "status", "code": 503, "when": "before" } });
    scene.sandbox.fault(&down).await?;
    scene.orders(5, false).await?;
    log.until_fired(&watch, &rules, &["KingpostErpDown"]).await?;
    scene.sandbox.delete("faults").await?;
    log.until_resolved(&watch, &["KingpostErpDown"], SOON).await?;
    scene.until_audited(15 + POISONED as u64).await?;

    println!("--- the transformer is frozen");
    scene.workers[1].process.freeze()?;
    scene.orders(5, false).await?;
    let frozen = ["KingpostWorkerDown", "KingpostStageAbsent", "KingpostQueueUnread"];
    log.until_fired(&watch, &rules, &frozen).await?;
    scene.workers[1].process.thaw()?;
    log.until_resolved(&watch, &frozen, SLACK).await?;
    scene.until_audited(20 + POISONED as u64).await?;

    let rest: Vec<&str> = poisoned.iter().chain(&frozen).copied().chain(["KingpostErpDown"]).collect();
    log.until_resolved(&watch, &rest, Duration::from_secs(100) + SLACK).await?;
    let (expected, told): (BTreeSet<&str>, BTreeSet<&str>) =
        (rest.into_iter().collect(), log.seen.keys().map(String::as_str).collect());
    assert_eq!(told, expected, "what was told");
    for (name, times) in &log.seen {
        assert_eq!(times.len(), 1, "{name} was told more than once");
        times.iter().try_for_each(|(_, alert)| readable(alert))?;
    }
    assert!(log.now.is_empty(), "{:?}", log.now);
    draw(&watch, log.began.map(|began| began.elapsed()).unwrap_or_default()).await
}

/// What the dashboard shows of this run, into the documentation where that is asked for.
async fn draw(watch: &Watch, back: Duration) -> Result<()> {
    let drawn = picture::draw(watch, back).await?;
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        std::fs::write(repository().join("docs/dashboard.svg"), drawn)?;
    }
    Ok(())
}
