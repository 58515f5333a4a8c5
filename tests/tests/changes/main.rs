//! Orders that change, or are cancelled, after they were posted, and orders that are read again unchanged: real workers, a
//! real RabbitMQ and the sandbox.
#![forbid(unsafe_code)]

mod cancelled;
mod changed;
mod drafts;
mod read_again;

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use e2e::{
    lab::{Process, Sandbox, SandboxOptions, shared_broker, wait_until},
    pipeline::{Pipeline, SCHEME, Schemes, Tempo, Worker, metric},
};
use kingpost_broker::Letter;
use kingpost_model::{Route, StageName};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
const LOAD: &str = "load.purchase-stockin";

/// Seconds by which Kingdee's clock is behind in [`Run::in_the_past`]: what is written then is older than any reading, by
/// more than clocks may be apart.
const PAST_S: i64 = 100;

/// A pipeline whose orders a test makes itself.
struct Run {
    sandbox: Sandbox,
    pipeline: Pipeline,
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// A completed order of one line.
fn order(number: &str, price: &str) -> Value {
    json!({
        "order_no": number, "status": "80", "warehouse_no": "SH01", "provider_no": "GYS0001", "purchase_no": "",
        "check_time": now_ms().to_string(), "modified": now_ms(),
        "details_list": [{
            "rec_id": "1", "spec_no": "SP-1001", "num": "2.0000", "tax_price": price, "tax": "0.13", "defect": false,
        }],
    })
}

impl Run {
    /// On a vhost of the shared node, with the shipped scheme but for some lines. Windows begin a minute ago.
    async fn new(name: &str, lines: &[(&str, &str)]) -> Result<Run> {
        let url = shared_broker().await?.vhost(name).await?;
        let args = ["--unfinished", "0"].map(str::to_owned).into();
        let sandbox = Sandbox::start(SandboxOptions { orders: 0, args, ..SandboxOptions::default() }).await?;
        let start = jiff::Timestamp::from_second(now_ms() / 1_000 - 60)?.to_string();
        let tempo = Tempo { start, width: "1h".into(), settle: "3s".into() };
        let pipeline = Pipeline::new(url, Schemes::at(&tempo)?, &sandbox)?;
        let file = pipeline.schemes.path().join(format!("{SCHEME}.yaml"));
        let mut yaml = std::fs::read_to_string(&file)?;
        // Without an overlap an order is read once, or twice where its second is the end of a window.
        let cutting = ("overlap: 1m, every: 1s", "overlap: 0s, every: 2s");
        for (from, to) in lines.iter().chain([&cutting]) {
            ensure!(yaml.contains(from), "the shipped scheme has no `{from}`");
            yaml = yaml.replacen(from, to, 1);
        }
        std::fs::write(&file, yaml)?;
        Ok(Run { sandbox, pipeline })
    }

    /// With a policy, and how far documents are taken.
    async fn with(name: &str, on_change: &str, finish: &str) -> Result<Run> {
        let (on_change, finish) = (format!("on_change: {on_change}"), format!("finish: {finish}"));
        Run::new(name, &[("on_change: report", &on_change), ("finish: audit", &finish)]).await
    }

    fn start_all(&self) -> Result<[Worker; 3]> {
        Ok([
            self.pipeline.start("extractor")?,
            self.pipeline.start("transformer")?,
            self.pipeline.start("loader")?,
        ])
    }

    /// Adds or changes orders in WDT.
    async fn put(&self, orders: &[Value]) -> Result<()> {
        self.sandbox.post("wdt/orders", &json!(orders)).await?;
        Ok(())
    }

    async fn cancel(&self, number: &str) -> Result<()> {
        self.sandbox.post(&format!("wdt/orders/{number}/cancel"), &json!({})).await?;
        Ok(())
    }

    /// Sets Kingdee's clock back, or right again. So a document was written a while ago without anybody having waited.
    async fn in_the_past(&self, is_past: bool) -> Result<()> {
        let skew = if is_past { -PAST_S } else { 0 };
        self.sandbox.post("clock", &json!({ "kingdee_skew_seconds": skew })).await?;
        Ok(())
    }

    async fn document(&self, number: &str) -> Result<Option<Value>> {
        let documents = self.sandbox.get(&format!("kingdee/documents?number={number}")).await?;
        let documents = documents.as_array().context("no list of documents")?;
        ensure!(documents.len() <= 1, "{number} is there {} times", documents.len());
        Ok(documents.first().cloned())
    }

    /// The status of a document and the price of its first line, as `C 10`.
    async fn stands(&self, number: &str) -> Result<String> {
        Ok(self.document(number).await?.map_or_else(String::new, |document| {
            let price = document.pointer("/lines/0/tax_price").and_then(Value::as_str).unwrap_or_default();
            format!("{} {price}", text(&document, "status"))
        }))
    }

    async fn until_stands(&self, number: &str, wanted: &str) -> Result<()> {
        let what = format!("{number} to stand as {wanted}");
        let stands =
            wait_until(SOON, &what, async || self.stands(number).await.is_ok_and(|as_is| as_is == wanted));
        stands.await.with_context(|| self.pipeline.outputs().join("\n"))
    }

    /// The dead letters of the loader, without copies.
    async fn dead(&self) -> Result<Vec<Letter>> {
        let inspector = self.pipeline.inspector().await?;
        let letters = inspector.browse(&Route::new(StageName::Load, SCHEME).dead_queue(), 1_000).await;
        inspector.close().await;
        let mut letters = letters?;
        let mut ids = BTreeSet::new();
        letters.retain(|letter| ids.insert(letter.work.id.clone()));
        Ok(letters)
    }

    async fn until_dead(&self, count: usize) -> Result<Vec<Letter>> {
        let what = format!("{count} dead letters");
        let there = wait_until(SOON, &what, async || self.dead().await.is_ok_and(|dead| dead.len() >= count));
        there.await.with_context(|| self.pipeline.outputs().join("\n"))?;
        self.dead().await
    }

    /// Waits until a loader has counted a document of an outcome.
    async fn until_counted(&self, loader: &Worker, outcome: &str) -> Result<()> {
        let label = format!("outcome=\"{outcome}\"");
        let what = format!("one that is {outcome}");
        let counted = wait_until(SOON, &what, async || {
            let page = self.pipeline.metrics(loader).await.unwrap_or_default();
            metric(&page, "kingpost_changes_total", &[&label]) > 0.5
        });
        counted.await.with_context(|| self.pipeline.outputs().join("\n"))
    }

    /// How often documents were written in each way, as Kingdee's ledger says: `saved saved updated`.
    async fn steps(&self, number: &str) -> Result<String> {
        let ledger = self.sandbox.get(&format!("kingdee/ledger?number={number}")).await?;
        let steps =
            ledger.as_array().context("no ledger")?.iter().map(|commit| text(commit, "step").to_owned());
        Ok(steps.collect::<Vec<_>>().join(" "))
    }
}

/// The text of the one dead letter of a number.
fn said<'a>(letters: &'a [Letter], number: &str) -> Result<&'a str> {
    let mut of_number = letters.iter().filter(|letter| letter.work.key.number == number);
    let letter = of_number.next().with_context(|| format!("no dead letter of {number}"))?;
    ensure!(of_number.all(|copy| copy.work.id == letter.work.id), "dead letters of two versions of {number}");
    Ok(&letter.failure.text)
}

/// Tells workers to stop and expects a clean end.
async fn stop(workers: impl IntoIterator<Item = Worker>) -> Result<()> {
    for worker in workers {
        worker.process.term()?;
        let status = worker.process.wait(SOON).await?;
        ensure!(status.code() == Some(0), "{}", worker.process.log_tail());
    }
    Ok(())
}

/// Runs the operator's command against a pipeline's broker.
async fn kingpost(pipeline: &Pipeline, arguments: &[&str]) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let process = Process::of("kingpost")?
        .args(arguments.iter().copied())
        .dir(folder.path())
        .env("AMQP_URL", pipeline.amqp_url.as_str())
        .env("SCHEMES_DIR", pipeline.schemes.path())
        .start()?;
    process.wait(SOON).await?;
    Ok(process.output())
}
