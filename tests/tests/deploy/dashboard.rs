//! The dashboard: what its panels ask for exists, and the file is what the code says.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use e2e::monitoring::dashboard::{DASHBOARD, filled, json, panels};
use e2e::monitoring::expressions::asked;
use e2e::monitoring::known;
use e2e::monitoring::rules::RulesFile;
use e2e::tools::repository;

#[test]
fn the_file_is_what_the_code_says() -> Result<()> {
    let (path, fresh) =
        (repository().join(DASHBOARD), format!("{}\n", serde_json::to_string_pretty(&json())?));
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        std::fs::write(&path, &fresh)?;
    }
    let written = std::fs::read_to_string(&path).with_context(|| format!("{DASHBOARD} can't be read"))?;
    ensure!(written == fresh, "{DASHBOARD} is stale; run `UPDATE=1 cargo test -p e2e --test deploy`");
    Ok(())
}

#[test]
fn every_query_of_a_panel_parses_and_asks_for_what_there_is() -> Result<()> {
    let rules = RulesFile::load()?;
    let queries: Vec<(&str, String)> = panels()
        .flat_map(|panel| panel.queries.iter().map(|(query, _)| (panel.title, filled(query, "5m"))))
        .collect();
    ensure!(queries.len() > 30, "only {} queries", queries.len());
    let expressions: Vec<String> = queries.iter().map(|(_, query)| query.clone()).collect();
    for ((panel, query), asked) in queries.iter().zip(asked(&expressions)?) {
        ensure!(asked.error.is_none(), "{panel}: {query}: {}", asked.error.unwrap_or_default());
        for selector in &asked.selectors {
            let wrong = known::unknown(selector, &rules);
            ensure!(wrong.is_none(), "{panel}: {}", wrong.unwrap_or_default());
        }
        for label in &asked.labels {
            ensure!(known::is_label(label), "{panel}: no metric has the label `{label}`");
        }
    }
    Ok(())
}

#[test]
fn a_panel_leads_to_pages_that_there_are() -> Result<()> {
    let rules = RulesFile::load()?;
    let mut titles = BTreeSet::new();
    for panel in panels() {
        ensure!(titles.insert(panel.title), "two panels are called {}", panel.title);
        ensure!(
            !panel.alerts.is_empty() && !panel.about.is_empty(),
            "{} says nothing and leads nowhere",
            panel.title
        );
        for alert in panel.alerts {
            ensure!(
                rules.alerts().any(|(name, _)| name == *alert),
                "{}: there is no alert {alert}",
                panel.title
            );
        }
    }
    Ok(())
}
