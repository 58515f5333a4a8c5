//! What is cut and read when: history, second looks, backfills, and extractors that take over from each other.
#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use e2e::{
    account::Account,
    lab::{Process, Sandbox, SandboxOptions, shared_broker, wait_until},
    pipeline::{Pipeline, SCHEME, Schemes, Tempo, Worker, metric},
};
use jiff::Timestamp;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(150);

/// Seconds before now, in RFC 3339.
fn ago(seconds: u64) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(Timestamp::from_second(i64::try_from(now - seconds)?)?.to_string())
}

struct Run {
    sandbox: Sandbox,
    pipeline: Pipeline,
    orders: u32,
}

impl Run {
    /// Orders of the last `spread_s` seconds but ten minutes, in a scheme that starts before them.
    async fn of(name: &str, orders: u32, spread_s: u64, width: &str) -> Result<Run> {
        let start = ago(spread_s)?;
        let options = SandboxOptions {
            orders,
            unpostable: 0,
            seed: 11,
            from: Some(start.clone()),
            spread: Some(format!("{}s", spread_s - 600)),
            args: vec!["--repeated-numbers".to_owned()],
        };
        let sandbox = Sandbox::start(options).await?;
        let tempo = Tempo { start, width: width.into(), settle: "2s".into() };
        // A frozen extractor is given up within seconds.
        let url = format!("{}?heartbeat=2", shared_broker().await?.vhost(name).await?);
        let pipeline = Pipeline::new(url, Schemes::at(&tempo)?, &sandbox)?;
        Ok(Run { sandbox, pipeline, orders })
    }

    fn start_all(&self) -> Result<Vec<Worker>> {
        ["extractor", "transformer", "loader"].iter().map(|stage| self.pipeline.start(stage)).collect()
    }

    async fn done(&self) -> Result<()> {
        self.pipeline.wait_done(&self.sandbox, u64::from(self.orders), 0, DEADLINE).await?;
        let account = Account::take(&self.sandbox, &self.pipeline.amqp_url, SCHEME).await?;
        ensure!(account.is_sound(), "{}\n{}", account.line("unsound"), account.report());
        Ok(())
    }

    /// Runs the operator's command, which has to succeed.
    async fn kingpost(&self, args: &[&str]) -> Result<String> {
        let process = Process::of("kingpost")?
            .args(args.iter().copied())
            .env("AMQP_URL", self.pipeline.amqp_url.as_str())
            .env("SCHEMES_DIR", self.pipeline.schemes.path())
            .start()?;
        let status = process.wait(SOON).await?;
        ensure!(status.code() == Some(0), "{args:?}: {status}\n{}", process.output());
        Ok(process.output())
    }

    async fn lines(&self, args: &[&str]) -> Result<Vec<Value>> {
        let output = self.kingpost(args).await?;
        Ok(output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Waits until nothing is left to be cut beside the live windows, and nothing waits.
    async fn until_cut(&self) -> Result<()> {
        wait_until(DEADLINE, "the periods to be cut", async || {
            let periods = self.lines(&["backfill", "list", "--json"]).await.unwrap_or_default();
            !periods.is_empty() && periods.iter().all(|period| period["state"] == "cut")
        })
        .await?;
        self.done().await
    }

    async fn requests(&self, operation: &str) -> Result<usize> {
        let path = format!("requests?system=kingdee&operation={operation}");
        Ok(self.sandbox.get(&path).await?.as_array().map_or(0, Vec::len))
    }
}

#[tokio::test]
async fn a_backfill_of_what_was_read_posts_nothing_twice_and_looks_everything_up() -> Result<()> {
    let run = Run::of("schedule-backfill", 150, 6 * 3_600, "1h").await?;
    let _workers = run.start_all()?;
    run.done().await?;
    let (saves, asked) = (run.requests("BatchSave").await?, run.requests("ExecuteBillQuery").await?);
    let said = run.kingpost(&["backfill", "--from", "7h", "--to", "1m", "--reason", "an example"]).await;
    let error = said.err().context("what lies before the start was taken")?.to_string();
    ensure!(error.contains("`start`"), "{error}");
    let said = run.kingpost(&["backfill", "--from", "355m", "--to", "1m", "--reason", "an example"]).await?;
    ensure!(said.contains("6 windows, are read again"), "{said}");
    run.until_cut().await?;
    ensure!(run.requests("BatchSave").await? == saves, "what was read again was posted again");
    let looked = run.requests("ExecuteBillQuery").await? - asked;
    ensure!(looked >= 140_usize.div_ceil(20), "{looked} look-ups for what was read again");
    ensure!(looked <= 60, "{looked} look-ups: not in batches");
    let status = run.kingpost(&["status"]).await?;
    ensure!(status.contains("behind now") && status.contains("nothing"), "{status}");
    Ok(())
}

#[tokio::test]
async fn history_is_read_behind_live_documents_and_whole() -> Result<()> {
    // Twelve days, of which the last one is live.
    let run = Run::of("schedule-history", 200, 12 * 86_400, "12h").await?;
    let workers = run.start_all()?;
    run.until_cut().await?;
    wait_until(SOON, "the metric to say so", async || {
        let text = run.pipeline.metrics(&workers[0]).await.unwrap_or_default();
        text.contains("kingpost_backlog_windows") && metric(&text, "kingpost_backlog_windows", &[]) < 0.5
    })
    .await?;
    let periods = run.lines(&["backfill", "list", "--json"]).await?;
    ensure!(periods.iter().any(|period| period["kind"] == "history"), "{periods:?}");
    Ok(())
}

#[tokio::test]
async fn a_cursor_that_is_set_back_reads_again_and_doubles_nothing() -> Result<()> {
    let run = Run::of("schedule-cursor", 80, 4 * 3_600, "1h").await?;
    let _workers = run.start_all()?;
    run.done().await?;
    let saves = run.requests("BatchSave").await?;
    let plan = run.kingpost(&["cursor", "set", "--to", "3h"]).await?;
    ensure!(plan.contains("are read again, in 3 windows"), "{plan}");
    ensure!(plan.contains("nothing was changed"), "{plan}");
    let reads = run.sandbox.get("requests?system=wdt").await?.as_array().map_or(0, Vec::len);
    let done = run.kingpost(&["cursor", "set", "--to", "3h", "--yes", "--reason", "an example"]).await?;
    ensure!(done.contains("the cursor is moved"), "{done}");
    wait_until(SOON, "the windows to be read again", async || {
        let wdt = run.sandbox.get("requests?system=wdt").await;
        wdt.is_ok_and(|wdt| wdt.as_array().is_some_and(|requests| requests.len() >= reads + 3))
    })
    .await?;
    run.done().await?;
    ensure!(run.requests("BatchSave").await? == saves, "what was read again was posted again");
    let shown = run.lines(&["cursor", "show", "--json"]).await?;
    ensure!(shown[0]["lag_seconds"].as_i64().is_some_and(|lag| lag < 60), "{shown:?}");
    let trail = run.kingpost(&["audit", "list"]).await?;
    ensure!(trail.contains("cursor set") && trail.contains("carried out"), "{trail}");
    Ok(())
}

#[tokio::test]
async fn a_cursor_that_can_not_be_read_is_told_and_set_anew_and_nothing_is_lost_or_doubled() -> Result<()> {
    let run = Run::of("schedule-unreadable", 40, 4 * 3_600, "1h").await?;
    let mut workers = run.start_all()?;
    run.done().await?;
    let saves = run.requests("BatchSave").await?;
    workers.remove(0).process.kill();
    let admin = Connection::connect(&run.pipeline.amqp_url, ConnectionProperties::default()).await?;
    let channel = admin.create_channel().await?;
    let properties = BasicProperties::default().with_app_id("kingpost-extractor/9.9.9".into());
    let (queue, body) = (format!("cursor.{SCHEME}"), br#"{"of": "another release"}"#);
    channel.basic_publish("".into(), queue.into(), Default::default(), body, properties).await?.await?;
    admin.close(200, "done".into()).await?;
    // An order that nobody has read yet.
    let orders = run.sandbox.get("wdt/orders").await?;
    let number = orders.pointer("/0/order_no").and_then(Value::as_str).context("no order")?.to_owned();
    run.sandbox.post("wdt/orders", &json!({"order_no": number, "flag_name": "example"})).await?;

    let extractor = run.pipeline.start("extractor")?;
    wait_until(SOON, "the extractor to say so", async || {
        extractor.process.output().contains("no windows are cut: the cursor can't be read")
    })
    .await?;
    for arguments in [&["cursor", "show"][..], &["backfill", "--from", "3h", "--to", "1h"], &["status"]] {
        let output = match run.kingpost(arguments).await {
            Ok(output) => output,
            Err(error) => error.to_string(),
        };
        for part in ["kingpost-extractor/9.9.9", "kingpost cursor set --scheme purchase-stockin --to"] {
            ensure!(output.contains(part), "{arguments:?}: {output}");
        }
    }
    let plan = run.kingpost(&["cursor", "set", "--to", "3h"]).await?;
    ensure!(plan.contains("lost with it") && plan.contains("nothing was changed"), "{plan}");
    let looked = run.requests("ExecuteBillQuery").await?;
    let done = run.kingpost(&["cursor", "set", "--to", "3h", "--yes", "--reason", "an example"]).await?;
    ensure!(done.contains("the cursor is moved"), "{done}");
    wait_until(SOON, "the change to be looked up", async || {
        run.requests("ExecuteBillQuery").await.is_ok_and(|now| now > looked)
    })
    .await?;
    run.done().await?;
    ensure!(run.requests("BatchSave").await? == saves, "what was read again was posted again");
    let shown = run.lines(&["cursor", "show", "--json"]).await?;
    ensure!(shown[0]["unreadable"].is_null() && shown[0]["cursor"].is_string(), "{shown:?}");
    Ok(())
}

#[tokio::test]
async fn an_instruction_waits_for_an_extractor_that_leads() -> Result<()> {
    let run = Run::of("schedule-waiting", 20, 4 * 3_600, "1h").await?;
    let mut workers = run.start_all()?;
    run.done().await?;
    let extractor = workers.remove(0);
    extractor.process.kill();
    let said = run.kingpost(&["backfill", "--from", "3h", "--to", "1h", "--json"]).await?;
    ensure!(said.contains("\"outcome\":\"waiting\""), "{said}");
    let _extractor = run.pipeline.start("extractor")?;
    run.until_cut().await
}

#[tokio::test]
async fn a_frozen_leader_is_followed_by_another_and_does_no_harm_when_it_thaws() -> Result<()> {
    let run = Run::of("schedule-frozen", 40, 4 * 3_600, "1h").await?;
    let first = run.pipeline.start("extractor")?;
    let leads = |worker: &Worker| worker.process.output().contains("this extractor cuts the windows");
    wait_until(SOON, "the first extractor to lead", async || leads(&first)).await?;
    let second = run.pipeline.start("extractor")?;
    let (_transformer, _loader) = (run.pipeline.start("transformer")?, run.pipeline.start("loader")?);
    run.done().await?;
    first.process.freeze()?;
    wait_until(SOON, "the second extractor to lead", async || leads(&second)).await?;
    let new = run.sandbox.get("wdt/orders").await?;
    let model = new.as_array().and_then(|orders| orders.first()).context("no order")?;
    let number = model["order_no"].as_str().context("no number")?.to_owned();
    // A harmless change makes it come again.
    run.sandbox.post("wdt/orders", &json!({"order_no": number, "flag_name": "example"})).await?;
    first.process.thaw()?;
    wait_until(SOON, "the first one to find out", async || {
        let output = first.process.output();
        output.contains("windows are not cut any more by this extractor")
    })
    .await?;
    let shown = async || run.pipeline.metrics(&first).await.unwrap_or_default();
    wait_until(SOON, "the first one to tell of no cursor", async || {
        let text = shown().await;
        text.contains("kingpost_build_info") && !text.contains("kingpost_cursor_lag_seconds{")
    })
    .await?;
    // The second one still leads: what changes now is read as well, and looked up.
    let looked = run.requests("ExecuteBillQuery").await?;
    run.sandbox.post("wdt/orders", &json!({"order_no": number, "flag_name": "another example"})).await?;
    wait_until(SOON, "the change to be read", async || {
        run.requests("ExecuteBillQuery").await.is_ok_and(|now| now > looked)
    })
    .await?;
    run.done().await?;
    second.process.kill();
    wait_until(SOON, "the first extractor to lead again", async || {
        first.process.output().matches("this extractor cuts the windows").count() == 2
    })
    .await?;
    run.done().await
}
