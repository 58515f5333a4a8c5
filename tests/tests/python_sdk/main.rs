//! What others wrote in Python, against us.
//!
//! Kingdee's official SDK signs, saves, submits, audits and queries against the sandbox.
//!
//! And Prometheus' own parser reads a scrape.
//!
//! The sandbox is written from the same reading of the protocol as our own client; here both are held against the
//! vendor's.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::lab::{Process, Sandbox, SandboxOptions, binary};
use kingpost_model::{FailureKind, StageName};
use kingpost_telemetry::{Health, Metrics, names, serve};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

const INSTALL_DEADLINE: Duration = Duration::from_secs(240);
const RUN_DEADLINE: Duration = Duration::from_secs(60);
const NUMBER: &str = "RK-PYTHON-0001";

fn python_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

/// Runs a step of the installation; what it prints is shown when it fails.
async fn step(what: &str, command: &mut Command) -> Result<()> {
    let output = tokio::time::timeout(INSTALL_DEADLINE, command.kill_on_drop(true).output())
        .await
        .with_context(|| format!("{what} took longer than {INSTALL_DEADLINE:?}"))?
        .with_context(|| format!("{what} could not start; run scripts/setup.sh"))?;
    if !output.status.success() {
        bail!(
            "{what} failed ({}). This test needs the package index that pip is configured with.\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// A virtual environment with what the tests need, made once below the target directory and whenever the requirements change.
async fn virtual_environment() -> Result<PathBuf> {
    let requirements = python_dir().join("requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).context("no requirements.txt")?;
    let programs = binary("kingpost-sandbox")?;
    let target = programs.parent().and_then(Path::parent).context("no target directory")?;
    let (dir, note) = (target.join("python-sdk"), target.join("python-sdk/installed.txt"));
    let python = dir.join("bin/python");
    // Each test is a process of its own; the second one waits for what the first one makes.
    let lock = std::fs::File::create(target.join("python-sdk.lock"))?;
    lock.lock()?;
    if std::fs::read_to_string(&note).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    step("python3 -m venv", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir)).await?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(&requirements);
    step("pip install", &mut pip).await?;
    std::fs::write(&note, wanted).context("can't note what was installed")?;
    Ok(python)
}

#[tokio::test]
async fn the_official_python_sdk_walks_a_document_to_its_audit() -> Result<()> {
    let python = virtual_environment().await?;
    let sandbox = Sandbox::start(SandboxOptions::default()).await?;
    let run = Process::program(&python)
        .arg(python_dir().join("kingdee_sdk.py"))
        .arg(NUMBER)
        .envs(sandbox.settings().iter().cloned())
        .env("NO_PROXY", "*")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .start()?;
    let status = run.wait(RUN_DEADLINE).await?;
    ensure!(status.success(), "{status}\n{}\n{}", run.output(), sandbox.process().log_tail());

    let printed = run.output();
    let report: Value = serde_json::from_str(printed.lines().last().unwrap_or_default())
        .with_context(|| format!("the script printed no JSON: {printed}"))?;
    assert_eq!(report["saved"], json!([NUMBER]));
    assert_eq!(report["after_save"], json!([[NUMBER, "A"]]), "created (A) and not yet submitted");
    assert_eq!(report["after_audit"], json!([[NUMBER, "C"]]), "audited (C)");
    let refusal = report["refusal"].as_str().unwrap_or_default();
    assert!(refusal.contains("X-Kd-Signature"), "not refused for its signature: {refusal}");

    let ledger = sandbox.get(&format!("kingdee/ledger?number={NUMBER}")).await?;
    let commits: Vec<&str> =
        ledger.as_array().into_iter().flatten().filter_map(|commit| commit["step"].as_str()).collect();
    assert_eq!(commits, ["saved", "submitted", "audited"], "the ledger: {ledger}");
    assert_eq!(sandbox.documents().await?.as_array().map(Vec::len), Some(1));
    Ok(())
}

#[tokio::test]
async fn a_scrape_in_openmetrics_is_read_by_prometheus_own_parser() -> Result<()> {
    let python = virtual_environment().await?;
    let metrics = Metrics::new();
    metrics.build_info("0.1.0", "a \"revision\"");
    let lane = metrics.lane("purchase-stockin", StageName::Load);
    lane.retry_scheduled(FailureKind::Transient, "30s");
    lane.batch(20, Duration::from_millis(700));
    lane.document_age(Duration::from_secs(800));
    metrics.publisher().confirmed(Duration::from_millis(3));
    metrics.erp("kingdee").request("save", "ok", Duration::from_millis(400));
    let stop = CancellationToken::new();
    let (address, _) = serve("127.0.0.1:0".parse()?, metrics, Health::new(), None, stop.clone()).await?;
    let run = Process::program(&python)
        .arg(python_dir().join("openmetrics.py"))
        .arg(format!("http://{address}/metrics"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .start()?;
    let status = run.wait(RUN_DEADLINE).await?;
    stop.cancel();
    let printed = run.output();
    ensure!(status.success(), "{status}\n{printed}");
    let report: Value = serde_json::from_str(printed.lines().last().unwrap_or_default())
        .with_context(|| format!("the script printed no JSON: {printed}"))?;
    assert_eq!(report["content_type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let families = &report["families"];
    for name in [&names::RETRY_SCHEDULED, &names::DOCUMENT_AGE, &names::ERP_REQUEST, &names::BUILD_INFO] {
        let family = &families[name.name.trim_end_matches("_total")];
        assert_eq!(family["type"], name.kind.as_str(), "{}: {families}", name.name);
        ensure!(family["samples"].as_u64() > Some(0), "{}: {families}", name.name);
    }
    assert_eq!(families["kingpost_erp_request_seconds"]["unit"], "seconds");
    assert_eq!(families["process_cpu_seconds"]["unit"], "seconds");
    Ok(())
}
