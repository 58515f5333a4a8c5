//! A Prometheus and an Alertmanager of our own, on free ports of the loopback interface.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::rules::RulesFile;
use crate::lab::{Process, free_port, wait_until};
use crate::tools::tool;

/// Where Debian's Alertmanager has its templates.
const TEMPLATES: &str = "/usr/share/prometheus/alertmanager";
const START: Duration = Duration::from_secs(30);

/// One thing to scrape.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its job.
    pub job: String,
    /// `HOST:PORT`.
    pub address: String,
    /// The path, with its query.
    pub path: String,
}

impl Target {
    /// A worker's metrics.
    pub fn worker(stage: &str, address: &str) -> Self {
        Target { job: format!("kingpost-{stage}"), address: address.to_owned(), path: "/metrics".to_owned() }
    }

    /// Both paths of RabbitMQ's exporter.
    pub fn rabbitmq(address: &str) -> [Self; 2] {
        [
            ("rabbitmq", "/metrics".to_owned()),
            ("rabbitmq-queues", format!("/metrics/detailed?{}", super::known::DETAILED)),
        ]
        .map(|(job, path)| Target { job: job.to_owned(), address: address.to_owned(), path })
    }
}

/// One series of an answer: its labels and its last value, or its values over time.
#[derive(Clone, Debug)]
pub struct Series {
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// Unix time and value.
    pub points: Vec<(f64, f64)>,
}

/// Prometheus, that evaluates the rules each second, and Alertmanager, which hears of what fires.
pub struct Watch {
    prometheus: Process,
    alertmanager: Process,
    prometheus_url: String,
    alertmanager_url: String,
    http: reqwest::Client,
    _dir: TempDir,
}

impl Watch {
    /// Starts both and waits until they are ready.
    ///
    /// # Errors
    /// A program is missing, or doesn't start.
    pub async fn start(rules: &RulesFile, targets: &[Target]) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("kingpost-watch-").tempdir()?;
        let (alert_port, metric_port) = (free_port()?, free_port()?);
        let config = configuration(targets, alert_port);
        std::fs::write(dir.path().join("prometheus.yml"), serde_json::to_string_pretty(&config)?)?;
        std::fs::write(dir.path().join("kingpost.rules.yaml"), serde_json::to_string_pretty(rules)?)?;
        let route = json!({ "route": { "receiver": "nobody", "group_wait": "100ms", "group_interval": "1s" },
            "receivers": [{ "name": "nobody" }] });
        std::fs::write(dir.path().join("alertmanager.yml"), route.to_string())?;
        let alertmanager = start(
            dir.path(),
            &relocated(dir.path())?,
            &[
                "--config.file=alertmanager.yml".to_owned(),
                "--storage.path=alerts".to_owned(),
                "--cluster.listen-address=".to_owned(),
                format!("--web.listen-address=127.0.0.1:{alert_port}"),
            ],
        )?;
        let prometheus = start(
            dir.path(),
            &tool("prometheus")?,
            &[
                "--config.file=prometheus.yml".to_owned(),
                "--storage.tsdb.path=data".to_owned(),
                format!("--web.listen-address=127.0.0.1:{metric_port}"),
                "--rules.alert.resend-delay=1s".to_owned(),
                "--rules.alert.for-outage-tolerance=0s".to_owned(),
            ],
        )?;
        let watch = Watch {
            prometheus,
            alertmanager,
            prometheus_url: format!("http://127.0.0.1:{metric_port}"),
            alertmanager_url: format!("http://127.0.0.1:{alert_port}"),
            http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?,
            _dir: dir,
        };
        let ready = wait_until(START, "Prometheus and Alertmanager to be ready", async || {
            let ready = async |url: &str| {
                let answer = watch.http.get(format!("{url}/-/ready")).send().await;
                answer.is_ok_and(|answer| answer.status().is_success())
            };
            !watch.runs() || (ready(&watch.prometheus_url).await && ready(&watch.alertmanager_url).await)
        });
        ready.await.with_context(|| watch.tails())?;
        ensure!(watch.runs(), "it ended at its start\n{}", watch.tails());
        Ok(watch)
    }

    fn runs(&self) -> bool {
        self.prometheus.is_running() && self.alertmanager.is_running()
    }

    /// The last words of both.
    pub fn tails(&self) -> String {
        format!("{}\n{}", self.prometheus.log_tail(), self.alertmanager.log_tail())
    }

    /// The values of an expression at each second between two Unix times.
    ///
    /// # Errors
    /// Prometheus refuses it.
    pub async fn range(&self, expression: &str, start_s: f64, end_s: f64) -> Result<Vec<Series>> {
        let (start, end) = (start_s.to_string(), end_s.to_string());
        self.ask("query_range", &[("query", expression), ("start", &start), ("end", &end), ("step", "1")])
            .await
    }

    /// What Alertmanager holds for firing now: the labels and notes of each.
    ///
    /// # Errors
    /// It doesn't answer.
    pub async fn alerts(&self) -> Result<Vec<Value>> {
        let url = format!("{}/api/v2/alerts?active=true", self.alertmanager_url);
        let text = self.http.get(url).send().await?.error_for_status()?.text().await?;
        Ok(serde_json::from_str(&text)?)
    }

    async fn ask(&self, what: &str, form: &[(&str, &str)]) -> Result<Vec<Series>> {
        let url = format!("{}/api/v1/{what}", self.prometheus_url);
        let parts: Vec<String> =
            form.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let kind = "application/x-www-form-urlencoded";
        let sent = self.http.post(url).header("content-type", kind).body(parts.join("&")).send().await?;
        let answer: Value = serde_json::from_str(&sent.text().await?)?;
        ensure!(answer.get("status").is_some_and(|status| status == "success"), "{form:?}: {answer}");
        let rows = answer.pointer("/data/result").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(rows.iter().map(series).collect())
    }
}

/// Unix time in seconds.
///
/// # Errors
/// The clock is before 1970.
pub fn now_s() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}

fn start(dir: &Path, program: &Path, arguments: &[String]) -> Result<Process> {
    Process::program(program).args(arguments.iter().cloned()).dir(dir).start()
}

/// Alertmanager as it runs anywhere. Debian's reads its templates from a directory of the system and doesn't start without
/// them, but its package isn't installed; so it gets a copy that reads them from the directory it is started in.
fn relocated(dir: &Path) -> Result<PathBuf> {
    let program = tool("alertmanager")?;
    if Path::new(TEMPLATES).exists() {
        return Ok(program);
    }
    let here = format!("/proc/self/cwd{}", "/.".repeat(10));
    ensure!(here.len() == TEMPLATES.len(), "a name in a program can't become longer or shorter");
    let copied = Command::new("sed")
        .arg(format!("s#{TEMPLATES}#{here}#g"))
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .context("sed could not start")?;
    ensure!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let copy = dir.join("alertmanager");
    std::fs::write(&copy, copied.stdout)?;
    std::fs::set_permissions(&copy, Permissions::from_mode(0o755))?;
    for template in ["default.tmpl", "email.tmpl"] {
        std::fs::write(dir.join(template), "")?;
    }
    Ok(copy)
}

fn configuration(targets: &[Target], alert_port: u16) -> Value {
    let jobs: Vec<Value> = targets
        .iter()
        .map(|target| {
            let (path, query) = target.path.split_once('?').unwrap_or((&target.path, ""));
            let mut params: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
                params.entry(name).or_default().push(value);
            }
            json!({ "job_name": target.job, "metrics_path": path, "params": params,
                "static_configs": [{ "targets": [target.address] }] })
        })
        .collect();
    json!({
        "global": { "scrape_interval": "1s", "scrape_timeout": "900ms", "evaluation_interval": "1s" },
        "rule_files": ["kingpost.rules.yaml"],
        "alerting": { "alertmanagers": [{ "static_configs": [{ "targets": [format!("127.0.0.1:{alert_port}")] }] }] },
        "scrape_configs": jobs,
    })
}

fn series(row: &Value) -> Series {
    let labels = row.get("metric").and_then(Value::as_object).into_iter().flatten();
    let point = |pair: &Value| {
        let value = pair.get(1)?.as_str()?.parse().ok()?;
        Some((pair.get(0)?.as_f64()?, value))
    };
    let over_time = row.get("values").and_then(Value::as_array).cloned().unwrap_or_default();
    Series {
        labels: labels
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect(),
        points: over_time.iter().chain(row.get("value")).filter_map(point).collect(),
    }
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}
