//! The fake WDT and the fake Kingdee, as one process of their own.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use super::leash::hold_dir;
use super::{Process, wait_for};

const START_DEADLINE: Duration = Duration::from_secs(20);
const ADMIN_DEADLINE: Duration = Duration::from_secs(30);

/// What the sandbox should hold and how it should behave; the defaults are the sandbox's own.
#[derive(Clone, Debug, Default)]
pub struct SandboxOptions {
    /// Completed stock-ins to generate.
    pub orders: u32,
    /// How many of them can't be posted.
    pub unpostable: u32,
    /// Same seed, start and spread: same orders.
    pub seed: u64,
    /// Earliest modified time, RFC 3339.
    pub from: Option<String>,
    /// Within how long after `from` the orders lie, such as `6h`.
    pub spread: Option<String>,
    /// Any further arguments, such as `--kingdee-latency 20`.
    pub args: Vec<String>,
}

/// A running `kingpost-sandbox`; it ends when dropped.
pub struct Sandbox {
    process: Process,
    address: String,
    settings: Vec<(String, String)>,
    http: reqwest::Client,
    _dir: TempDir,
}

impl Sandbox {
    /// Starts the sandbox on a free port and waits until it answers.
    pub async fn start(options: SandboxOptions) -> Result<Self> {
        let dir =
            tempfile::Builder::new().prefix("kingpost-lab-").tempdir().context("no temporary directory")?;
        hold_dir(dir.path())?;
        let (port_file, env_file) = (dir.path().join("address"), dir.path().join("settings.env"));
        let process =
            Process::of("kingpost-sandbox")?.args(arguments(&options, &port_file, &env_file)).start()?;
        let http = reqwest::Client::builder().no_proxy().timeout(ADMIN_DEADLINE).build()?;
        let address = wait_for(START_DEADLINE, "the sandbox to listen", async || {
            if !process.is_running() {
                return Some(Err(anyhow::anyhow!("the sandbox ended while it started")));
            }
            let address = std::fs::read_to_string(&port_file).ok()?.trim().to_owned();
            let health = http.get(format!("http://{address}/admin/health")).send().await.ok()?;
            health.status().is_success().then_some(Ok(address))
        })
        .await
        .and_then(|started| started)
        .with_context(|| process.log_tail())?;
        let settings = std::fs::read_to_string(&env_file)
            .context("the sandbox wrote no settings")?
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Ok(Self { process, address, settings, http, _dir: dir })
    }

    /// `HOST:PORT`, for a proxy in between.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The workers' settings for this sandbox: `WDT_URL`, `KINGDEE_URL` and the example credentials.
    pub fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    /// One of the workers' settings.
    pub fn setting(&self, name: &str) -> Result<&str> {
        let found = self.settings.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str()).with_context(|| format!("the sandbox gives no setting {name}"))
    }

    /// The process, to freeze, kill or look at.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// `GET /admin/<path>`.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.admin(reqwest::Method::GET, path, None).await
    }

    /// `POST /admin/<path>` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.admin(reqwest::Method::POST, path, Some(body)).await
    }

    /// `DELETE /admin/<path>`.
    pub async fn delete(&self, path: &str) -> Result<Value> {
        self.admin(reqwest::Method::DELETE, path, None).await
    }

    /// The orders that WDT holds.
    pub async fn orders(&self) -> Result<Value> {
        self.get("wdt/orders").await
    }

    /// The documents that Kingdee holds.
    pub async fn documents(&self) -> Result<Value> {
        self.get("kingdee/documents").await
    }

    /// Every commit of Kingdee, also those whose answer never arrived.
    pub async fn ledger(&self) -> Result<Value> {
        self.get("kingdee/ledger").await
    }

    /// Kingdee's documents by status, and its duplicates.
    pub async fn summary(&self) -> Result<Value> {
        self.get("kingdee/summary").await
    }

    /// Scripts one fault or an array of them.
    pub async fn fault(&self, rules: &Value) -> Result<Value> {
        self.post("faults", rules).await
    }

    async fn admin(&self, method: reqwest::Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let url = format!("http://{}/admin/{path}", self.address);
        let mut request = self.http.request(method.clone(), &url);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let reply = request.send().await.with_context(|| self.process.log_tail())?;
        let status = reply.status();
        let text = reply.text().await?;
        if !status.is_success() {
            bail!("{method} {url}: {status}: {text}");
        }
        serde_json::from_str(&text).with_context(|| format!("{method} {url} answers no JSON: {text}"))
    }
}

fn arguments(options: &SandboxOptions, port_file: &PathBuf, env_file: &PathBuf) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["--listen".into(), "127.0.0.1:0".into()];
    args.extend(["--port-file".into(), port_file.into(), "--env-file".into(), env_file.into()]);
    let numbers = [
        ("--orders", u64::from(options.orders)),
        ("--unpostable", u64::from(options.unpostable)),
        ("--seed", options.seed),
    ];
    args.extend(numbers.iter().flat_map(|(name, value)| [OsString::from(name), value.to_string().into()]));
    for (name, value) in [("--from", &options.from), ("--spread", &options.spread)] {
        args.extend(value.iter().flat_map(|value| [OsString::from(name), value.into()]));
    }
    args.extend(options.args.iter().map(OsString::from));
    args
}
