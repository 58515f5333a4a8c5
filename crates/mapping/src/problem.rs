use std::fmt;

use serde::Serialize;

use crate::spec::Position;

/// A mistake in a mapping, found when it is compiled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpecProblem {
    /// Where it stands in the scheme file.
    pub at: Position,
    /// Which field it is in and what is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for SpecProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.at.line, self.at.column, self.what, self.remedy)
    }
}

/// Why a document has no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The bytes are no JSON object, or give a used key twice.
    #[error("document is malformed at {line}:{column}: {message}")]
    Malformed {
        /// What is wrong.
        message: String,
        /// Line, from 1.
        line: u32,
        /// Column, from 1, in characters.
        column: u32,
    },
    /// Some fields have no value; these are all of them.
    #[error("document has {} field problem{}{}", .0.len(), if .0.len() == 1 { "" } else { "s" }, first(.0))]
    Unmappable(Vec<FieldProblem>),
}

fn first(problems: &[FieldProblem]) -> String {
    problems.first().map(|problem| format!(": {problem}")).unwrap_or_default()
}

/// A field of the model that has no value for one document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldProblem {
    /// The field in the target document; lines count from 1: `FInStockEntry[3].FTaxPrice`.
    ///
    /// `filter` and `outputs.<name>` stand for the other rules of a mapping.
    pub field: String,
    /// The rule as its author wrote it.
    pub rule: String,
    /// The source fields the rule reads, with what they held.
    pub inputs: Vec<Input>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (rule: {}", self.field, self.message, self.rule)?;
        for input in &self.inputs {
            write!(f, "; {} = {}", input.path, input.value)?;
        }
        f.write_str(")")
    }
}

/// A source field that a rule reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Input {
    /// Its path in the source document; lines count from 1: `details_list[3].tax_price`.
    pub path: String,
    /// What it held, as JSON, cut after 60 characters; `absent` if it isn't there.
    pub value: String,
}
