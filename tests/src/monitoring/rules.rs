//! The rules file, what is generated from it, and the same rules for a run that has no hours.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::tools::repository;

/// The one source of the rules.
pub const RULES: &str = "deploy/prometheus/kingpost.rules.yaml";
/// The same for the Prometheus operator.
pub const MANIFEST: &str = "k8s/components/rules/prometheusrule.yaml";
/// What every `runbook_url` begins with.
pub const RUNBOOKS: &str = "https://example.invalid/kingpost/docs/runbooks/";

/// The rules as Prometheus reads them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesFile {
    /// Groups of rules.
    pub groups: Vec<Group>,
}

/// Rules that are evaluated together.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// A recording rule or an alert.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The name of the series that is recorded.
    pub record: Option<String>,
    /// The name of the alert.
    pub alert: Option<String>,
    /// The expression.
    pub expr: String,
    /// For how long it has to hold.
    #[serde(rename = "for")]
    pub held: Option<String>,
    /// Labels that are added.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What people read.
    #[serde(default)]
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
             app.kubernetes.io/component: rules\n\
         spec:\n"
    );
    let body = rules.lines().skip_while(|line| !line.starts_with("groups:"));
    for line in body {
        let indent = if line.is_empty() { "" } else { "  " };
        manifest.push_str(&format!("{indent}{line}\n"));
    }
    manifest
}
