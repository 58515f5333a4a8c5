//! The rules: what they rest on exists, each alert has its page and its tests, and what is generated is fresh.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use e2e::monitoring::pages::{FOLDER, PARTS};
use e2e::monitoring::rules::{MANIFEST, RULES, RUNBOOKS, Rule, RulesFile, manifest, text};
use e2e::monitoring::{expressions::asked, known, pages};
use e2e::tools::{output, repository, tool};
use serde::Deserialize;

use crate::commands;

/// Pages of this folder that no alert leads to.
const OTHER_PAGES: [&str; 3] = ["README.md", "failures.md", "dead-letters.md"];

#[derive(Deserialize)]
struct TestFile {
    tests: Vec<Trial>,
}

/// One row of input series with what has to hold of them.
#[derive(Deserialize)]
struct Trial {
    name: String,
    #[serde(default)]
    alert_rule_test: Vec<Look>,
}

#[derive(Deserialize)]
struct Look {
    alertname: String,
    #[serde(default)]
    exp_alerts: Vec<serde_json::Value>,
}

fn trial_files() -> Result<Vec<String>> {
    let folder = "deploy/prometheus/tests";
    let mut files = Vec::new();
    for entry in std::fs::read_dir(repository().join(folder))? {
        files.push(format!("{folder}/{}", entry?.file_name().to_string_lossy()));
    }
    files.sort();
    ensure!(!files.is_empty(), "{folder} is empty");
    Ok(files)
}

#[test]
fn prometheus_takes_the_rules_and_their_tests_pass() -> Result<()> {
    let promtool = tool("promtool")?;
    output(&promtool, &["check", "rules", RULES])?;
    let mut arguments = vec!["test".to_owned(), "rules".to_owned()];
    arguments.extend(trial_files()?);
    output(&promtool, &arguments)?;
    Ok(())
}

#[test]
fn every_alert_is_shown_to_fire_to_resolve_and_to_stay_quiet() -> Result<()> {
    let rules = RulesFile::load()?;
    let (mut resolves, mut quiet) = (BTreeSet::new(), BTreeSet::new());
    for file in trial_files()? {
        let text = std::fs::read_to_string(repository().join(&file))?;
        let trials: TestFile = serde_saphyr::from_str(&text).with_context(|| file.clone())?;
        for trial in trials.tests {
            let mut looks: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
            for look in &trial.alert_rule_test {
                looks.entry(&look.alertname).or_default().push(!look.exp_alerts.is_empty());
            }
            for (alert, fired) in looks {
                let known = rules.alerts().any(|(name, _)| name == alert);
                ensure!(known, "{file}: `{}` looks for {alert}, which is no alert", trial.name);
                let first = fired.iter().position(|fires| *fires);
                match first {
                    Some(at) if fired.get(at..).is_some_and(|later| later.contains(&false)) => {
                        resolves.insert(alert.to_owned());
                    }
                    Some(_) => {}
                    None => drop(quiet.insert(alert.to_owned())),
                }
            }
        }
    }
    for (alert, _) in rules.alerts() {
        ensure!(resolves.contains(alert), "no test shows {alert} firing and then resolved");
        ensure!(quiet.contains(alert), "no test shows {alert} staying quiet where it might fire by mistake");
    }
    Ok(())
}

#[test]
fn every_metric_of_a_rule_is_exported_with_its_labels() -> Result<()> {
    let rules = RulesFile::load()?;
    let expressions: Vec<String> = rules.rules().map(|rule| rule.expr.clone()).collect();
    for (rule, asked) in rules.rules().zip(asked(&expressions)?) {
        let name = rule.alert.as_deref().or(rule.record.as_deref()).unwrap_or_default();
        ensure!(asked.error.is_none(), "{name}: {}", asked.error.unwrap_or_default());
        ensure!(!asked.selectors.is_empty(), "{name} rests on no metric");
        for selector in &asked.selectors {
            let wrong = known::unknown(selector, &rules);
            ensure!(wrong.is_none(), "{name}: {}", wrong.unwrap_or_default());
        }
        for label in &asked.labels {
            ensure!(known::is_label(label), "{name}: no metric has the label `{label}`");
        }
    }
    Ok(())
}

#[test]
fn an_alert_says_how_urgent_it_is_what_it_means_and_where_to_read_on() -> Result<()> {
    let rules = RulesFile::load()?;
    for (alert, rule) in rules.alerts() {
        ensure!(alert.starts_with("Kingpost"), "{alert} doesn't say whose it is");
        complete(alert, rule)?;
    }
    Ok(())
}

fn complete(alert: &str, rule: &Rule) -> Result<()> {
    let severity = rule.labels.get("severity").map(String::as_str);
    ensure!(
        matches!(severity, Some("page" | "ticket")),
        "{alert} has severity {severity:?}; it is page or ticket"
    );
    let note = |name: &str| rule.annotations.get(name).map(String::as_str).unwrap_or_default();
    ensure!(!note("summary").is_empty(), "{alert} has no summary");
    ensure!(
        note("description").contains("`kingpost "),
        "the description of {alert} names no command of kingpost"
    );
    commands::known(note("description")).with_context(|| format!("the description of {alert}"))?;
    ensure!(
        note("runbook_url") == format!("{RUNBOOKS}{alert}.md"),
        "{alert} leads to {}",
        note("runbook_url")
    );
    Ok(())
}

#[test]
fn every_alert_has_its_page_and_every_page_its_alert() -> Result<()> {
    let rules = RulesFile::load()?;
    for (alert, _) in rules.alerts() {
        let page = std::fs::read_to_string(pages::file(alert))
            .with_context(|| format!("{alert} has no page; write {FOLDER}/{alert}.md"))?;
        ensure!(page.starts_with(&format!("# {alert}\n")), "{FOLDER}/{alert}.md begins with another title");
        let mut rest = page.as_str();
        for part in PARTS {
            let Some((_, after)) = rest.split_once(&format!("\n- **{part}.**")) else {
                anyhow::bail!(
                    "{FOLDER}/{alert}.md has no part `- **{part}.**`, or not in the order {PARTS:?}"
                );
            };
            rest = after;
        }
        ensure!(page.contains("kingpost "), "{FOLDER}/{alert}.md names no command");
        commands::known(&page).with_context(|| format!("{FOLDER}/{alert}.md"))?;
    }
    for entry in std::fs::read_dir(repository().join(FOLDER))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let stem = Path::new(&name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let led_to = rules.alerts().any(|(alert, _)| alert == stem);
        ensure!(led_to || OTHER_PAGES.contains(&name.as_str()), "{FOLDER}/{name} is the page of no alert");
    }
    Ok(())
}

#[test]
fn the_rules_for_the_operator_are_those_of_the_file() -> Result<()> {
    let (path, fresh) = (repository().join(MANIFEST), manifest(&text()?));
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        std::fs::write(&path, &fresh)?;
    }
    let written = std::fs::read_to_string(&path).with_context(|| format!("{MANIFEST} can't be read"))?;
    ensure!(written == fresh, "{MANIFEST} is stale; run `UPDATE=1 cargo test -p e2e --test deploy`");
    let groups = |text: &str, at: &str| -> Result<serde_json::Value> {
        let whole: serde_json::Value = serde_saphyr::from_str(text)?;
        whole.pointer(at).cloned().with_context(|| format!("no {at}"))
    };
    ensure!(
        groups(&written, "/spec/groups")? == groups(&text()?, "/groups")?,
        "{MANIFEST} says something else"
    );
    Ok(())
}

#[test]
fn an_overlay_with_the_component_has_the_rules() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let component = folder.path().join("rules");
    std::fs::create_dir(&component)?;
    for file in ["kustomization.yaml", "prometheusrule.yaml"] {
        std::fs::copy(repository().join("k8s/components/rules").join(file), component.join(file))?;
    }
    let overlay = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: shop\ncomponents: [rules]\n";
    std::fs::write(folder.path().join("kustomization.yaml"), overlay)?;
    let printed = output(&tool("kustomize")?, &["build".as_ref(), folder.path().as_os_str()])?;
    for part in ["kind: PrometheusRule", "namespace: shop", "alert: KingpostWorkerSilent"] {
        ensure!(printed.contains(part), "kustomize built no `{part}`:\n{printed}");
    }
    Ok(())
}
