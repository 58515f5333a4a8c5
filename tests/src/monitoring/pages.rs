//! The pages that alerts lead to.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::rules::RulesFile;
use crate::tools::repository;

/// Where they are.
pub const FOLDER: &str = "docs/runbooks";

/// What every page has, in this order.
pub const PARTS: [&str; 5] = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Verify"];

/// The file of an alert's page.
pub fn file(alert: &str) -> PathBuf {
    repository().join(FOLDER).join(format!("{alert}.md"))
}

/// The index of the pages as a Markdown table, for the documentation between its markers.
///
/// # Panics
/// The rules or a page can't be read: a test says which.
pub fn markdown_table() -> String {
    table().unwrap_or_else(|error| panic!("{error:#}"))
}

fn table() -> Result<String> {
    let rules = RulesFile::load()?;
    let mut rows = Vec::new();
    for severity in ["page", "ticket"] {
        for (alert, rule) in
            rules.alerts().filter(|(_, rule)| rule.labels.get("severity").is_some_and(|own| own == severity))
        {
            let page = std::fs::read_to_string(file(alert))
                .with_context(|| format!("{FOLDER}/{alert}.md can't be read"))?;
            let meaning =
                first_sentence(&page).with_context(|| format!("{FOLDER}/{alert}.md has no meaning"))?;
            let held = rule.held.as_deref().unwrap_or("at once");
            rows.push(format!("| [{alert}]({alert}.md) | {severity} | {held} | {meaning} |"));
        }
    }
    Ok(format!("| alert | severity | after | it means |\n|---|---|---|---|\n{}\n", rows.join("\n")))
}

/// The first sentence of a page's first part.
fn first_sentence(page: &str) -> Option<String> {
    let (_, after) = page.split_once("**Meaning.**")?;
    let (part, _) = after.split_once("\n- **").unwrap_or((after, ""));
    let words: Vec<&str> = part.split_whitespace().collect();
    let text = words.join(" ");
    let end = text.find(". ").map_or(text.len(), |at| at + 1);
    text.get(..end).map(str::to_owned).filter(|sentence| !sentence.is_empty())
}
