//! The examples for Alertmanager: it takes them, they name alerts that there are, and no secret stands in them.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use e2e::monitoring::expressions::asked;
use e2e::monitoring::rules::{Rule, RulesFile};
use e2e::tools::{output, repository, tool};

const CONFIG: &str = "deploy/alertmanager/alertmanager.yml";
const RECEIVERS: &str = "deploy/alertmanager/receivers";
/// Settings that hold a secret itself; each has a twin that names a file.
const SECRETS: [&str; 6] =
    ["api_secret:", "auth_password:", "auth_secret:", "webhook_url:", "bot_token:", "credentials:"];

fn receivers() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(repository().join(RECEIVERS))? {
        files.push(entry?.path());
    }
    ensure!(files.len() >= 4, "only {files:?}");
    Ok(files)
}

#[test]
fn alertmanager_takes_the_routes_with_the_receivers_of_every_example() -> Result<()> {
    let text = std::fs::read_to_string(repository().join(CONFIG))?;
    let (routes, _) = text.split_once("\nreceivers:\n").context("no receivers")?;
    let amtool = tool("amtool")?;
    output(&amtool, &["check-config", CONFIG])?;
    let folder = tempfile::tempdir()?;
    for file in receivers()? {
        let whole = folder.path().join("alertmanager.yml");
        std::fs::write(&whole, format!("{routes}\n{}", std::fs::read_to_string(&file)?))?;
        output(&amtool, &["check-config".as_ref(), whole.as_os_str()])
            .with_context(|| file.display().to_string())?;
    }
    Ok(())
}

#[test]
fn every_alert_goes_to_the_receiver_of_its_severity() -> Result<()> {
    let (rules, amtool) = (RulesFile::load()?, tool("amtool")?);
    for (alert, rule) in rules.alerts() {
        let severity = rule.labels.get("severity").context("no severity")?;
        let config = format!("--config.file={CONFIG}");
        let (severity, name) = (format!("severity={severity}"), format!("alertname={alert}"));
        let receiver = format!("--verify.receivers={}", severity.trim_start_matches("severity="));
        output(&amtool, &["config", "routes", "test", &config, &receiver, &severity, &name])?;
    }
    Ok(())
}

#[test]
fn what_is_inhibited_are_alerts_that_there_are() -> Result<()> {
    let rules = RulesFile::load()?;
    let config: serde_json::Value =
        serde_saphyr::from_str(&std::fs::read_to_string(repository().join(CONFIG))?)?;
    let inhibitions = config.get("inhibit_rules").and_then(serde_json::Value::as_array).context("none")?;
    for inhibition in inhibitions {
        for word in inhibition.to_string().split(|c: char| !c.is_alphanumeric()) {
            let known = !word.starts_with("Kingpost") || rules.alerts().any(|(alert, _)| alert == word);
            ensure!(known, "{CONFIG} inhibits by or for {word}, which is no alert");
        }
    }
    Ok(())
}

#[test]
fn a_page_that_rests_on_workers_alone_is_told_while_rabbitmq_cannot_be_seen() -> Result<()> {
    let rules = RulesFile::load()?;
    let pages: Vec<(&str, &Rule)> = rules
        .alerts()
        .filter(|(_, rule)| rule.labels.get("severity").is_some_and(|own| own == "page"))
        .collect();
    let expressions: Vec<String> = pages.iter().map(|(_, rule)| rule.expr.clone()).collect();
    let config: serde_json::Value =
        serde_saphyr::from_str(&std::fs::read_to_string(repository().join(CONFIG))?)?;
    let inhibitions = config.get("inhibit_rules").and_then(serde_json::Value::as_array).context("none")?;
    let by_broker = inhibitions.iter().filter(|inhibition| {
        inhibition.pointer("/source_matchers/0").is_some_and(|own| own == "alertname = KingpostBrokerDown")
    });
    let silenced: String = by_broker
        .filter_map(|inhibition| inhibition.get("target_matchers"))
        .map(ToString::to_string)
        .collect();
    ensure!(silenced.contains("KingpostQueueUnread"), "KingpostBrokerDown inhibits only {silenced}");
    for ((alert, _), asked) in pages.iter().zip(asked(&expressions)?) {
        let of_workers = asked.selectors.iter().all(|selector| selector.metric.starts_with("kingpost_"));
        ensure!(
            !of_workers || !silenced.contains(alert),
            "{CONFIG} inhibits {alert} by KingpostBrokerDown, which also fires when the exporter alone is out of reach"
        );
    }
    Ok(())
}

#[test]
fn no_example_holds_a_secret() -> Result<()> {
    for file in receivers()? {
        let text = std::fs::read_to_string(&file)?;
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        for line in lines {
            let found =
                SECRETS.iter().find(|secret| line.trim_start().trim_start_matches("- ").starts_with(*secret));
            ensure!(found.is_none(), "{}: {line}; name a file instead", file.display());
        }
    }
    Ok(())
}
