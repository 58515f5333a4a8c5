//! What a PromQL expression asks for, as `promql-parser` reads it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::tools::{repository, validator};

/// What one expression asks for.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Asked {
    /// Its selectors, in the order of the text.
    #[serde(default)]
    pub selectors: Vec<Selector>,
    /// The labels that results are grouped and matched by.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Why it can't be parsed.
    pub error: Option<String>,
}

/// One metric with the labels that it is selected by.
#[derive(Clone, Debug, Deserialize)]
pub struct Selector {
    /// The name of the metric.
    pub metric: String,
    /// The names of the labels.
    pub labels: Vec<String>,
}

/// Parses expressions, one answer for each.
///
/// # Errors
/// The parser isn't installed or fails; an expression that can't be parsed is no error here.
pub fn asked(expressions: &[String]) -> Result<Vec<Asked>> {
    let mut child = Command::new(validator("python")?)
        .arg(repository().join("tests/python/promql.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("the parser could not start")?;
    let mut stdin = child.stdin.take().context("the parser has no standard input")?;
    stdin.write_all(&serde_json::to_vec(expressions)?)?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "tests/python/promql.py failed ({})", output.status);
    let answers: Vec<Asked> = serde_json::from_slice(&output.stdout)?;
    if answers.len() != expressions.len() {
        bail!("{} expressions, {} answers", expressions.len(), answers.len());
    }
    Ok(answers)
}
