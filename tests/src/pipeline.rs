//! The real workers on a private broker against the sandbox.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use kingpost_broker::{BrokerConfig, Inspector};
use tempfile::TempDir;

use crate::{
    account::{Waiting, waiting},
    lab::{Process, Sandbox, Trace, free_port, wait_until},
};

/// The shipped scheme, and the name of its queues.
pub const SCHEME: &str = "purchase-stockin";

/// What changes in the shipped scheme so that a run takes seconds.
#[derive(Clone, Debug)]
pub struct Tempo {
    /// First second that is read, RFC 3339.
    pub start: String,
    /// Width of a window, such as `1h`.
    pub width: String,
    /// How long an unclear write is given to show.
    pub settle: String,
}

impl Default for Tempo {
    fn default() -> Self {
        Tempo { start: "2026-01-01T00:00:00+08:00".into(), width: "1h".into(), settle: "5s".into() }
    }
}

/// A directory with the shipped scheme at another tempo.
pub struct Schemes {
    dir: TempDir,
}

impl Schemes {
    /// Copies the shipped schemes and sets their tempo.
    ///
    /// # Errors
    /// The shipped scheme is missing, or has no window and batch to be replaced.
    pub fn at(tempo: &Tempo) -> Result<Self> {
        let shipped = shipped_schemes();
        let dir = tempfile::Builder::new().prefix("kingpost-schemes-").tempdir()?;
        let file = format!("{SCHEME}.yaml");
        let yaml = std::fs::read_to_string(shipped.join(&file))
            .with_context(|| format!("{} can't be read", shipped.join(&file).display()))?;
        std::fs::write(dir.path().join(&file), paced(&yaml, tempo)?)?;
        let tables = dir.path().join("tables");
        std::fs::create_dir_all(&tables)?;
        for entry in std::fs::read_dir(shipped.join("tables"))? {
            let entry = entry?;
            std::fs::copy(entry.path(), tables.join(entry.file_name()))?;
        }
        Ok(Schemes { dir })
    }

    /// The directory, for `SCHEMES_DIR`.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// The schemes of this checkout.
pub fn shipped_schemes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemes")
}

/// Replaces the block of a key, given by its indented name, by one line.
fn replace_block(yaml: &str, key: &str, line: &str) -> Result<String> {
    let indent = key.len() - key.trim_start().len();
    let mut out = Vec::new();
    let (mut found, mut skipping) = (false, false);
    for text in yaml.lines() {
        let depth = text.len() - text.trim_start().len();
        if skipping && (text.trim().is_empty() || depth > indent) {
            continue;
        }
        skipping = false;
        if text.starts_with(key) && !found {
            (found, skipping) = (true, true);
            out.push(line.to_owned());
        } else {
            out.push(text.to_owned());
        }
    }
    ensure!(found, "the shipped scheme has no `{}`", key.trim());
    Ok(out.join("\n") + "\n")
}

fn paced(yaml: &str, tempo: &Tempo) -> Result<String> {
    let window = format!(
        "  window: {{ start: {}, width: {}, lag: 2s, overlap: 1m, every: 1s }}",
        tempo.start, tempo.width
    );
    let yaml = replace_block(yaml, "  window:", &window)?;
    let settle = format!("  settle: {}", tempo.settle);
    if yaml.lines().any(|line| line.starts_with("  settle:")) {
        return replace_block(&yaml, "  settle:", &settle);
    }
    Ok(yaml.replace("\n  key: FBillNo", &format!("\n{settle}\n  key: FBillNo")))
}

/// One running worker.
pub struct Worker {
    /// Its process.
    pub process: Process,
    /// Where its metrics and health are.
    pub http: String,
}

/// What the workers of a run share.
pub struct Pipeline {
    /// AMQP URL of the run's virtual host.
    pub amqp_url: String,
    /// The scheme directory.
    pub schemes: Schemes,
    settings: Vec<(String, String)>,
    client: reqwest::Client,
    /// Every worker that was ever started, by its stage.
    started: Mutex<Vec<(String, Trace)>>,
}

impl Pipeline {
    /// A pipeline between a broker and a sandbox.
    pub fn new(amqp_url: impl Into<String>, schemes: Schemes, sandbox: &Sandbox) -> Result<Self> {
        let settings = sandbox.settings().to_vec();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        Ok(Pipeline { amqp_url: amqp_url.into(), schemes, settings, client, started: Mutex::default() })
    }

    /// Starts a worker, `extractor`, `transformer` or `loader`; doesn't wait until it is ready.
    pub fn start(&self, stage: &str) -> Result<Worker> {
        self.start_with(stage, &[])
    }

    /// Starts a worker with further settings.
    pub fn start_with(&self, stage: &str, more: &[(&str, &str)]) -> Result<Worker> {
        let http = format!("127.0.0.1:{}", free_port()?);
        let process = Process::of(&format!("kingpost-{stage}"))?
            .envs(self.settings.iter().cloned())
            .env("AMQP_URL", self.amqp_url.as_str())
            .env("SCHEMES_DIR", self.schemes.path())
            .env("HTTP_ADDR", http.as_str())
            .envs(more.iter().map(|(name, value)| (*name, *value)))
            .start()?;
        self.started().push((stage.to_owned(), process.trace()));
        Ok(Worker { process, http })
    }

    /// What every worker of this pipeline has written, also of those that are gone.
    pub fn outputs(&self) -> Vec<String> {
        self.started().iter().map(|(_, trace)| trace.output()).collect()
    }

    /// Whether every worker of a stage that was ever started still runs, so that their counters are the whole story.
    pub fn is_whole(&self, stage: &str) -> bool {
        self.started().iter().all(|(of, trace)| of != stage || !trace.is_over())
    }

    fn started(&self) -> MutexGuard<'_, Vec<(String, Trace)>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a worker says that it is ready.
    pub async fn ready(&self, worker: &Worker, deadline: Duration) -> Result<()> {
        let url = format!("http://{}/readyz", worker.http);
        let ready = wait_until(deadline, "a worker to be ready", async || {
            let answer = self.client.get(&url).send().await;
            !worker.process.is_running() || answer.is_ok_and(|answer| answer.status().is_success())
        });
        ready.await.with_context(|| worker.process.log_tail())?;
        ensure!(worker.process.is_running(), "a worker ended at its start\n{}", worker.process.log_tail());
        Ok(())
    }

    /// The text of a worker's metrics.
    pub async fn metrics(&self, worker: &Worker) -> Result<String> {
        Ok(self.client.get(format!("http://{}/metrics", worker.http)).send().await?.text().await?)
    }

    /// Opens a connection for reading depths.
    pub async fn inspector(&self) -> Result<Inspector> {
        Ok(Inspector::open(&BrokerConfig::for_url(&*self.amqp_url, "kingpost-test")).await?)
    }

    /// Waits until `documents` are audited in Kingdee, at least `dead` are dead letters, and nothing waits anywhere.
    pub async fn wait_done(
        &self,
        sandbox: &Sandbox,
        documents: u64,
        dead: u32,
        deadline: Duration,
    ) -> Result<Waiting> {
        let inspector = self.inspector().await?;
        let end = Instant::now() + deadline;
        loop {
            let now = waiting(&inspector, SCHEME, 1).await?;
            let summary = sandbox.summary().await?;
            let audited = summary.pointer("/by_status/C").and_then(serde_json::Value::as_u64).unwrap_or(0);
            let idle = now.extract + now.transform + now.load + now.retry == 0;
            // An order that can't be posted dies once for each copy of it that a fault makes; the account counts orders.
            if idle && audited == documents && now.dead >= dead {
                inspector.close().await;
                return Ok(now);
            }
            if Instant::now() > end {
                bail!(
                    "after {deadline:?}: {audited} of {documents} documents, waiting: {now:?}, expected {dead} dead"
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The sum of all samples of a metric whose line contains every given part.
pub fn metric(text: &str, name: &str, parts: &[&str]) -> f64 {
    let samples = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && parts.iter().all(|part| line.contains(part))
    });
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_replaced_whole_and_nothing_else() {
        let yaml =
            "source:\n  key: a\n  window:\n    start: x\n\n    width: 1h\n  page_size: 5\ntarget:\n  b: 1\n";
        let out = replace_block(yaml, "  window:", "  window: { y }").unwrap();
        assert_eq!(out, "source:\n  key: a\n  window: { y }\n  page_size: 5\ntarget:\n  b: 1\n");
        assert!(replace_block(yaml, "  nothing:", "x").is_err());
    }

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let text = "a_total{x=\"1\"} 2\na_total{x=\"2\"} 3.5\na_total_more 9\n# a_total 7\n";
        assert!((metric(text, "a_total", &[]) - 5.5).abs() < 1e-9);
        assert!((metric(text, "a_total", &["x=\"2\""]) - 3.5).abs() < 1e-9);
    }
}
