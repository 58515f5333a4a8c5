//! Kingdee's official Python SDK signs, saves, submits, audits and queries against the sandbox.
//!
//! The sandbox is written from the same reading of the protocol as our own client; here both are held against the
//! vendor's.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::lab::{Process, Sandbox, SandboxOptions, binary};
use serde_json::{Value, json};
use tokio::process::Command;

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

/// A virtual environment with the SDK, made once below the target directory and whenever the requirements change.
async fn virtual_environment() -> Result<PathBuf> {
    let requirements = python_dir().join("requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).context("no requirements.txt")?;
    let programs = binary("kingpost-sandbox")?;
    let target = programs.parent().and_then(Path::parent).context("no target directory")?;
    let (dir, note) = (target.join("python-sdk"), target.join("python-sdk/installed.txt"));
    let python = dir.join("bin/python");
    if std::fs::read_to_string(&note).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    step("python3 -m venv", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir)).await?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(&requirements);
    step("pip install of Kingdee's SDK", &mut pip).await?;
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
