//! The rules file, what is generated from it, and the same rules for a run that has no hours.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::tools::repository;

/// The one source of the rules.
pub const RULES: &str = "deploy/prometheus/kingpost.rules.yaml";
/// The same for the Prometheus operator.
pub const MANIFEST: &str = "k8s/components/rules/prometheusrule.yaml";
/// What every `runbook_url` begins with.
pub const RUNBOOKS: &str = "https://example.invalid/kingpost/docs/runbooks/";

/// The rules as Prometheus reads them.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RulesFile {
    /// Groups of rules.
    pub groups: Vec<Group>,
}

/// Rules that are evaluated together.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// A recording rule or an alert.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The name of the series that is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// The name of the alert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
    /// The expression.
    pub expr: String,
    /// For how long it has to hold.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// Labels that are added.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What people read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl RulesFile {
    /// The rules of the repository.
    ///
    /// # Errors
    /// The file can't be read, or is no rules file.
    pub fn load() -> Result<Self> {
        serde_saphyr::from_str(&text()?).with_context(|| format!("{RULES} is no rules file"))
    }

    /// Every rule of every group.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.groups.iter().flat_map(|group| &group.rules)
    }

    /// The same rules for a run without hours: every time that something has to hold for, and every range, is a so manieth
    /// part of what it is. Nothing else changes. The rule on retry tiers stays as it is, since their delays do.
    ///
    /// # Errors
    /// A time can't be read.
    pub fn hastened(&self, factor: u32) -> Result<Self> {
        let mut hastened = self.clone();
        let rules = hastened.groups.iter_mut().flat_map(|group| &mut group.rules);
        for rule in rules.filter(|rule| rule.alert.as_deref() != Some("KingpostWaitTierStuck")) {
            rule.held = rule.held.as_deref().map(|held| shorter(held, factor)).transpose()?;
            rule.expr = shorter_ranges(&rule.expr, factor)?;
        }
        Ok(hastened)
    }

    /// The alerts, with their names.
    pub fn alerts(&self) -> impl Iterator<Item = (&str, &Rule)> {
        self.rules().filter_map(|rule| Some((rule.alert.as_deref()?, rule)))
    }
}

/// The text of the rules file.
///
/// # Errors
/// It can't be read.
pub fn text() -> Result<String> {
    std::fs::read_to_string(repository().join(RULES)).with_context(|| format!("{RULES} can't be read"))
}

/// The `PrometheusRule` with these rules.
pub fn manifest(rules: &str) -> String {
    let mut manifest = format!(
        "# Written from {RULES} by UPDATE=1 cargo test -p e2e --test deploy. Change that.\n\
         apiVersion: monitoring.coreos.com/v1\n\
         kind: PrometheusRule\n\
         metadata:\n  \
           name: kingpost\n  \
           labels:\n    \
             app.kubernetes.io/name: kingpost\n    \
             app.kubernetes.io/part-of: kingpost\n\
         spec:\n"
    );
    let body = rules.lines().skip_while(|line| !line.starts_with("groups:"));
    for line in body {
        let indent = if line.is_empty() { "" } else { "  " };
        manifest.push_str(&format!("{indent}{line}\n"));
    }
    manifest
}

/// An expression with shorter ranges and offsets.
fn shorter_ranges(expression: &str, factor: u32) -> Result<String> {
    let mut out = String::new();
    let mut rest = expression;
    let marks = ["[", " offset "];
    while let Some((at, mark)) = marks.iter().filter_map(|mark| Some((rest.find(mark)?, *mark))).min() {
        let (before, after) = rest.split_at(at + mark.len());
        let length = after.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(after.len());
        let (time, left) = after.split_at(length);
        // A class of a regular expression also begins with a bracket.
        let time = if milliseconds(time).is_ok() { shorter(time, factor)? } else { time.to_owned() };
        out.push_str(before);
        out.push_str(&time);
        rest = left;
    }
    Ok(out + rest)
}

fn shorter(time: &str, factor: u32) -> Result<String> {
    Ok(format!("{}ms", milliseconds(time)? / u64::from(factor)))
}

fn milliseconds(time: &str) -> Result<u64> {
    let unit = time.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = time
        .strip_suffix(unit)
        .unwrap_or_default()
        .parse()
        .with_context(|| format!("`{time}` is no time"))?;
    let each = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => anyhow::bail!("`{time}` has an unknown unit"),
    };
    Ok(number * each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_shorter_and_nothing_else() {
        let text = shorter_ranges("x{queue=~\"a[.]b|[0-9]+\"}[5m] offset 1h > 900 and y[1d]", 60).unwrap();
        assert_eq!(text, "x{queue=~\"a[.]b|[0-9]+\"}[5000ms] offset 60000ms > 900 and y[1440000ms]");
        assert!(shorter("5 minutes", 2).is_err());
    }

    #[test]
    fn the_rules_can_be_hastened() {
        let (rules, hastened) =
            (RulesFile::load().unwrap(), RulesFile::load().unwrap().hastened(60).unwrap());
        let held = |rules: &RulesFile| {
            let (_, rule) = rules.alerts().find(|(alert, _)| *alert == "KingpostWorkerSilent").unwrap();
            rule.held.clone().unwrap()
        };
        assert_eq!((held(&rules).as_str(), held(&hastened).as_str()), ("1m", "1000ms"));
    }
}
